//! The contract between the compiler and extensions.
//!
//! An extension is a type that implements one of the traits here, named in one list (the [`Registry`]). It is found by
//! the type URL of its configuration, never by name. Compiling can't do I/O: it gets messages, a statistics scope and
//! the means to report findings, and returns a factory.

use crate::snapshot::TrafficDirection;
use crate::{Diagnostic, Diagnostics, FieldPath, Positions, Severity};
use nuncio_api::wkt::Any;
use nuncio_cluster::config::UpstreamFilterFactory;
use nuncio_filter::{
    AccessLog, HttpFilterFactory, ListenerFilterFactory, NetworkFilterFactory, Runtime, TerminalFilterFactory,
};
use nuncio_io::log_file::LogFiles;
use nuncio_matcher::InvalidMatcher;
use nuncio_route::RouteTable;
use nuncio_stats::{Scope, Store};
use nuncio_stream_info::time::TimeZone;
use nuncio_stream_info::{Locality, Struct};
use prost::{Message, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The configuration is not usable; what is wrong stands in the diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

/// What the references of a configuration point to, collected while compiling and checked at its end.
#[derive(Default)]
pub struct References {
    /// Clusters that must be defined, each with the field that names it.
    pub clusters: Vec<(String, FieldPath)>,
    /// Clusters that may be lacking, at the cost of what goes to them.
    pub clusters_unchecked: Vec<(String, FieldPath)>,
    /// Static route configurations that were compiled, for `/config_dump`.
    pub routes: Vec<Arc<RouteTable>>,
    /// TLS contexts, which follow their secrets.
    pub tls: Vec<Arc<crate::tls::TlsUse>>,
    /// Resources that come from elsewhere.
    pub dynamic: Vec<crate::sources::DynamicUse>,
    /// How many errors were reported, those included that were reported before.
    pub errors: usize,
}

/// Where compiling stands, and what it may use. Hands out a statistics scope, takes findings, records references.
pub struct Compile<'a> {
    /// Findings.
    pub diagnostics: &'a mut Diagnostics,
    /// Places of fields, if the configuration came from text.
    pub positions: Option<&'a Positions>,
    /// The path of the message that is compiled.
    pub path: FieldPath,
    /// The extensions.
    pub registry: &'a Registry,
    /// References to other resources.
    pub references: &'a mut References,
    /// The extensions' and fields' paths that are accepted and not acted on.
    pub unsupported: &'a mut BTreeSet<String>,
    /// The statistics of the process.
    pub store: &'a Arc<Store>,
    /// The scope of what is compiled: the listener's, or the connection manager's for its filters.
    pub scope: Scope,
    /// Access-log files; opened when compiled, so that a path that can't be opened is an error at its line.
    pub files: &'a Arc<LogFiles>,
    /// Runtime values at start.
    pub runtime: &'a Arc<Runtime>,
    /// Facts that several extensions want.
    pub facts: &'a Facts,
}

/// The environment variables of the process, as they were at its start.
#[derive(Debug, Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// Those of this process. What is not UTF-8 is left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Environment(Arc::new(variables.into_iter().collect()))
    }
}

/// Facts about the process and the place in the configuration.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// For `%HOSTNAME%`.
    pub hostname: Option<Arc<str>>,
    /// For `%ENVIRONMENT(X)%` and `environment_variable`.
    pub environment: Environment,
    /// For `%START_TIME_LOCAL%` and the like.
    pub time_zone: Arc<TimeZone>,
    /// `node.id`.
    pub node_id: Arc<str>,
    /// `node.cluster`.
    pub node_cluster: Arc<str>,
    /// What else the node says of itself.
    pub node: Arc<NodeFacts>,
    /// `traffic_direction` of the listener.
    pub traffic_direction: TrafficDirection,
    /// The listener's statistics prefix: `listener.<address>`.
    pub listener_stat_prefix: String,
    /// `per_connection_buffer_limit_bytes` of the listener.
    pub listener_buffer_limit: u32,
    /// Whether there is an aggregated stream (`dynamic_resources.ads_config`).
    pub has_ads: bool,
    /// `static_resources.secrets`.
    pub secrets: Arc<crate::tls::Secrets>,
}

/// What the node says of itself beside its names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// `node.metadata`.
    pub metadata: Struct,
    /// `node.locality`.
    pub locality: Locality,
}

impl<'a> Compile<'a> {
    /// The same, one field further down; findings made through it name that field.
    pub fn field(&mut self, name: &'static str) -> Compile<'_> {
        let mut path = self.path.clone();
        path.push_field(name);
        self.with_path(path)
    }

    /// The same, at an element of a repeated field.
    pub fn element(&mut self, name: &'static str, index: usize) -> Compile<'_> {
        let mut path = self.path.clone();
        path.push_field(name);
        path.push_index(index);
        self.with_path(path)
    }

    /// The same, at an entry of a map field.
    pub fn entry(&mut self, name: &'static str, key: &str) -> Compile<'_> {
        let mut path = self.path.clone();
        path.push_field(name);
        path.push_key(key);
        self.with_path(path)
    }

    /// The same, at an entry of the struct or map that is the present field.
    pub fn entry_below(&mut self, key: &str) -> Compile<'_> {
        let mut path = self.path.clone();
        path.push_key(key);
        self.with_path(path)
    }

    /// The same with another statistics scope.
    pub fn scoped(&mut self, scope: Scope) -> Compile<'_> {
        let path = self.path.clone();
        let mut inner = self.with_path(path);
        inner.scope = scope;
        inner
    }

    /// The same with other facts.
    pub fn with_facts<'b>(&'b mut self, facts: &'b Facts) -> Compile<'b> {
        let path = self.path.clone();
        let mut inner = self.with_path(path);
        inner.facts = facts;
        inner
    }

    /// The same, at a field given in the text form of a path below the present one.
    pub fn below(&mut self, path: &str) -> Compile<'_> {
        let whole = match (self.path.is_empty(), path.is_empty()) {
            (_, true) => self.path.clone(),
            (true, false) => FieldPath::parse(path),
            (false, false) => FieldPath::parse(&format!("{}.{path}", self.path)),
        };
        self.with_path(whole)
    }

    fn with_path(&mut self, path: FieldPath) -> Compile<'_> {
        Compile {
            diagnostics: self.diagnostics,
            positions: self.positions,
            path,
            registry: self.registry,
            references: self.references,
            unsupported: self.unsupported,
            store: self.store,
            scope: self.scope.clone(),
            files: self.files,
            runtime: self.runtime,
            facts: self.facts,
        }
    }

    /// Reports an error at the present path.
    pub fn error(&mut self, message: impl Into<String>) -> Invalid {
        self.report(Severity::Error, message.into(), None)
    }

    /// Reports an error with a hint at the present path.
    pub fn error_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) -> Invalid {
        self.report(Severity::Error, message.into(), Some(hint.into()))
    }

    /// Reports a warning with a hint at the present path.
    pub fn warn_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Warning, message.into(), Some(hint.into()));
    }

    /// Reports a warning at the present path.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.report(Severity::Warning, message.into(), None);
    }

    /// A field that is set and not acted on: a warning, and a line in `/config_dump` and the support matrix.
    pub fn unsupported(&mut self, field: &'static str) {
        self.field(field).unsupported_here();
    }

    /// The same for the field that is the present path.
    pub(crate) fn unsupported_here(&mut self) {
        let path = self.path.to_string();
        self.unsupported.insert(path);
        self.warn("is not supported yet: it is accepted and has no effect");
    }

    /// The same, if it is set.
    pub fn unsupported_if(&mut self, set: bool, field: &'static str) {
        if set {
            self.unsupported(field);
        }
    }

    /// A field whose being ignored would weaken security: an error.
    pub fn refuse(&mut self, field: &'static str, why: &str) -> Invalid {
        self.field(field).error(format!("is not supported yet, and ignoring it would not be safe: {why}"))
    }

    /// Records that a cluster is referred to at the present path.
    pub fn cluster(&mut self, name: &str) {
        self.references.clusters.push((name.to_owned(), self.path.clone()));
    }

    /// The same for a cluster whose lack is a warning: Envoy takes the configuration.
    pub fn cluster_unchecked(&mut self, name: &str) {
        self.references.clusters_unchecked.push((name.to_owned(), self.path.clone()));
    }

    fn report(&mut self, severity: Severity, message: String, hint: Option<String>) -> Invalid {
        let location = self.positions.and_then(|positions| positions.locate(&self.path));
        let mut finding = Diagnostic::new(severity, self.path.to_string(), message).at(location);
        finding.hint = hint;
        self.references.errors += usize::from(severity == Severity::Error);
        self.diagnostics.push(finding);
        Invalid
    }

    /// The value, or its error reported at the field that it names.
    pub fn check<T>(&mut self, result: Result<T, InvalidMatcher>) -> Result<T, Invalid> {
        result.map_err(|InvalidMatcher { path, message }| self.below(&path).error(message))
    }

    /// How many errors were reported so far, for [`Compile::unless_errors_since`].
    pub fn errors(&self) -> usize {
        self.references.errors
    }

    /// Fails if an error was reported since `errors` was asked for.
    pub fn unless_errors_since(&self, errors: usize) -> Result<(), Invalid> {
        if self.references.errors > errors { Err(Invalid) } else { Ok(()) }
    }

    /// Decodes the message inside an `Any`.
    pub fn decode<M: Message + Default>(&mut self, any: &Any) -> Result<M, Invalid> {
        M::decode(&any.value[..]).map_err(|error| self.error(format!("can't be decoded: {error}")))
    }
}

/// What `typed_per_filter_config` compiles to.
pub type RouteConfig = Arc<dyn std::any::Any + Send + Sync>;

/// An HTTP filter extension.
pub trait HttpExtension: Send + Sync + 'static {
    /// Its configuration message.
    type Config: Message + Name + Default;
    /// The message of `typed_per_filter_config`; the same as `Config` for filters that have no other.
    type PerRoute: Message + Name + Default;
    /// Its well-known name, e.g. `envoy.filters.http.cors`.
    const NAME: &'static str;

    /// Compiles a configuration.
    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid>;

    /// Compiles the configuration of a route. The filter finds it with `Stream::per_route`.
    fn compile_route(config: Self::PerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid>;
}

/// A network filter extension.
pub trait NetworkExtension: Send + Sync + 'static {
    /// Its configuration message.
    type Config: Message + Name + Default;
    /// Its well-known name.
    const NAME: &'static str;

    /// Compiles a configuration.
    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid>;
}

/// A filter of connections to hosts.
pub trait UpstreamExtension: Send + Sync + 'static {
    /// Its configuration message.
    type Config: Message + Name + Default;
    /// Its well-known name.
    const NAME: &'static str;

    /// Compiles a configuration. The scope of `cx` is the cluster's.
    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn UpstreamFilterFactory>, Invalid>;
}

/// A network filter, by its place in the chain.
pub enum NetworkFactory {
    /// Stands before others.
    Filter(Arc<dyn NetworkFilterFactory>),
    /// Stands last.
    Terminal(Arc<dyn TerminalFilterFactory>),
}

/// A listener filter extension.
pub trait ListenerExtension: Send + Sync + 'static {
    /// Its configuration message.
    type Config: Message + Name + Default;
    /// Its well-known name.
    const NAME: &'static str;

    /// Compiles a configuration. `filter_disabled` of the listener filter is evaluated by the caller.
    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid>;
}

/// An access logger extension. The log's filter is wrapped around it by the caller.
pub trait AccessLogExtension: Send + Sync + 'static {
    /// Its configuration message.
    type Config: Message + Name + Default;
    /// Its well-known name.
    const NAME: &'static str;

    /// Compiles a configuration.
    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn AccessLog>, Invalid>;
}

pub(crate) type Compiler<T> = fn(&Any, &mut Compile<'_>) -> Result<T, Invalid>;

/// An HTTP filter in the registry.
pub struct HttpEntry {
    /// Well-known name.
    pub name: &'static str,
    /// Message of the configuration.
    pub config: String,
    /// Message of the route configuration.
    pub per_route: String,
    /// Compiles.
    pub compile: Compiler<Arc<dyn HttpFilterFactory>>,
    /// Compiles the route configuration.
    pub compile_route: Compiler<RouteConfig>,
}

/// Another extension in the registry.
pub struct Entry<T> {
    /// Well-known name.
    pub name: &'static str,
    /// Message of the configuration.
    pub config: String,
    /// Compiles.
    pub compile: Compiler<T>,
}

/// All extensions of the program. Admin listings, documentation and the support matrix come from it.
#[derive(Default)]
pub struct Registry {
    /// HTTP filters.
    pub http: Vec<HttpEntry>,
    /// Network filters.
    pub network: Vec<Entry<NetworkFactory>>,
    /// Filters of connections to hosts.
    pub upstream: Vec<Entry<Arc<dyn UpstreamFilterFactory>>>,
    /// Listener filters.
    pub listener: Vec<Entry<Arc<dyn ListenerFilterFactory>>>,
    /// Access loggers.
    pub access_log: Vec<Entry<Arc<dyn AccessLog>>>,
    /// Configuration messages of the extensions that [`Registry::disable`] took out.
    pub disabled: BTreeSet<String>,
}

/// Why an extension can't be disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDisabled {
    /// It is not written `category/name`.
    Malformed,
    /// Extensions of this category can't be switched off.
    Category,
    /// There is no such extension in the category.
    Unknown,
}

impl Registry {
    /// Takes an extension out, by category and well-known name: `envoy.filters.http/envoy.filters.http.lua`. What
    /// configures it is then an error.
    pub fn disable(&mut self, extension: &str) -> Result<(), NotDisabled> {
        let (category, name) = extension.split_once('/').ok_or(NotDisabled::Malformed)?;
        let before = self.disabled.len();
        match category {
            "envoy.filters.http" => {
                for entry in self.http.extract_if(.., |entry| entry.name == name) {
                    self.disabled.extend([entry.config, entry.per_route]);
                }
            }
            "envoy.filters.network" => take(&mut self.network, name, &mut self.disabled),
            "envoy.filters.upstream_network" => take(&mut self.upstream, name, &mut self.disabled),
            "envoy.filters.listener" => take(&mut self.listener, name, &mut self.disabled),
            "envoy.access_loggers" => take(&mut self.access_log, name, &mut self.disabled),
            _ => return Err(NotDisabled::Category),
        }
        if self.disabled.len() == before { Err(NotDisabled::Unknown) } else { Ok(()) }
    }

    /// Adds an HTTP filter.
    pub fn http<E: HttpExtension>(mut self) -> Self {
        self.http.push(HttpEntry {
            name: E::NAME,
            config: E::Config::full_name(),
            per_route: E::PerRoute::full_name(),
            compile: |any, cx| {
                let config = cx.decode(any)?;
                E::compile(config, cx)
            },
            compile_route: |any, cx| {
                let config = cx.decode(any)?;
                E::compile_route(config, cx)
            },
        });
        self
    }

    /// Adds a network filter.
    pub fn network<E: NetworkExtension>(mut self) -> Self {
        self.network.push(Entry {
            name: E::NAME,
            config: E::Config::full_name(),
            compile: |any, cx| {
                let config = cx.decode(any)?;
                E::compile(config, cx)
            },
        });
        self
    }

    /// Adds a filter of connections to hosts.
    pub fn upstream<E: UpstreamExtension>(mut self) -> Self {
        self.upstream.push(Entry {
            name: E::NAME,
            config: E::Config::full_name(),
            compile: |any, cx| {
                let config = cx.decode(any)?;
                E::compile(config, cx)
            },
        });
        self
    }

    /// Adds a listener filter.
    pub fn listener<E: ListenerExtension>(mut self) -> Self {
        self.listener.push(Entry {
            name: E::NAME,
            config: E::Config::full_name(),
            compile: |any, cx| {
                let config = cx.decode(any)?;
                E::compile(config, cx)
            },
        });
        self
    }

    /// Adds an access logger.
    pub fn access_log<E: AccessLogExtension>(mut self) -> Self {
        self.access_log.push(Entry {
            name: E::NAME,
            config: E::Config::full_name(),
            compile: |any, cx| {
                let config = cx.decode(any)?;
                E::compile(config, cx)
            },
        });
        self
    }
}

fn take<T>(entries: &mut Vec<Entry<T>>, name: &str, disabled: &mut BTreeSet<String>) {
    disabled.extend(entries.extract_if(.., |entry| entry.name == name).map(|entry| entry.config));
}

/// The message name in a type URL.
pub fn message_of(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}
