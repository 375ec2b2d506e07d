//! One resource at a time, as discovery brings them: wire bytes to plain values.
//!
//! Owns: what a dynamic resource is lowered with, and how what is wrong with it becomes the text of a NACK. A resource that can't
//! be lowered changes nothing.

use super::bootstrap::Manager;
use super::{ScopeConfig, Session, cluster, discovered_extension, listener, route, runtime, scoped_routes};
use crate::compile::{Compile, Facts, Invalid, References, Registry};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::snapshot::ListenerConfig;
use crate::source::{Format, LoadOptions, Loaded, Source, load};
use crate::sources::{DynamicUse, ExtensionUse};
use crate::tls::TlsUse;
use nuncio_api::pb::envoy::config::cluster::v3::Cluster;
use nuncio_api::pb::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use nuncio_api::pb::envoy::config::listener::v3::Listener;
use nuncio_api::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration};
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use nuncio_api::pb::envoy::service::runtime::v3::Runtime as RuntimeResource;
use nuncio_cluster::ClusterConfig;
use nuncio_cluster::config::LoadAssignment;
use nuncio_filter::Runtime;
use nuncio_io::log_file::LogFiles;
use nuncio_route::RouteTable;
use nuncio_stats::Store;
use prost::{Message, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What all resources of a process are lowered with.
#[derive(Clone)]
pub struct ResourceContext {
    /// Statistics.
    pub store: Arc<Store>,
    /// Access-log files.
    pub files: Arc<LogFiles>,
    /// Whether unknown fields are passed over (and counted), as is usual for dynamic resources.
    pub allow_unknown: bool,
    pub(crate) facts: Facts,
    pub(crate) manager: Manager,
}

impl std::fmt::Debug for ResourceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResourceContext")
    }
}

/// A resource, and what came up while it was lowered.
pub struct Lowered<T> {
    /// The value.
    pub value: T,
    /// What it depends on.
    pub uses: Vec<DynamicUse>,
    /// Its TLS contexts.
    pub tls: Vec<Arc<TlsUse>>,
    /// Clusters that must exist.
    pub clusters: Vec<String>,
    /// Route configurations that stand in it.
    pub routes: Vec<Arc<RouteTable>>,
    /// Findings that are no errors.
    pub warnings: Diagnostics,
    /// Fields that are set and not acted on.
    pub unsupported: BTreeSet<String>,
    /// How many unknown fields were passed over.
    pub unknown_fields: usize,
}

impl ResourceContext {
    /// The secrets of the configuration, and those that discovery brought.
    pub fn secrets(&self) -> &Arc<crate::tls::Secrets> {
        &self.facts.secrets
    }

    fn lower<M: Message + Name + Default, T>(
        &self,
        (registry, runtime): (&Registry, &Arc<Runtime>),
        wire: &[u8],
        lower: impl FnOnce(M, &[u8], &mut Compile<'_>) -> Result<T, Invalid>,
    ) -> Result<Lowered<T>, String> {
        let source = Source { name: Arc::default(), bytes: wire.to_vec(), format: Format::Binary };
        let options = LoadOptions { allow_unknown: self.allow_unknown, ..LoadOptions::default() };
        let loaded = load(&[source], &M::full_name(), &options);
        if loaded.diagnostics.has_errors() {
            return Err(text(&loaded.diagnostics));
        }
        let message = M::decode(&loaded.wire[..]).map_err(|error| format!("can't be decoded: {error}"))?;
        let mut session = Session {
            positions: &loaded.positions,
            registry,
            store: &self.store,
            files: &self.files,
            findings: Diagnostics::new(),
            references: References::default(),
            unsupported: BTreeSet::new(),
        };
        let value = lower(message, &loaded.wire, &mut session.compile(runtime, &self.facts));
        let Session { findings, references, unsupported, .. } = session;
        let Ok(value) = value else { return Err(text(&findings)) };
        if references.errors > 0 {
            return Err(text(&findings));
        }
        let Loaded { mut diagnostics, unknown_fields, .. } = loaded;
        diagnostics.extend(findings);
        let References { clusters, routes, tls, dynamic, .. } = references;
        Ok(Lowered {
            value,
            uses: dynamic,
            tls,
            clusters: clusters.into_iter().map(|(name, _)| name).collect(),
            routes,
            warnings: diagnostics,
            unsupported,
            unknown_fields,
        })
    }

    /// A `Cluster`.
    pub fn cluster(
        &self,
        with: (&Registry, &Arc<Runtime>),
        wire: &[u8],
    ) -> Result<Lowered<Arc<ClusterConfig>>, String> {
        self.lower(with, wire, |message: Cluster, _, cx| {
            cluster::cluster(&message, &self.manager, &cluster::Shared::default(), cx).map(Arc::new)
        })
    }

    /// A `Listener`.
    pub fn listener(
        &self,
        with: (&Registry, &Arc<Runtime>),
        wire: &[u8],
    ) -> Result<Lowered<Arc<ListenerConfig>>, String> {
        self.lower(with, wire, |message: Listener, loaded, cx| {
            listener::listener(&message, loaded, &mut listener::Seen::default(), cx).map(Arc::new)
        })
    }

    /// A `RouteConfiguration` of RDS.
    pub fn routes(&self, with: (&Registry, &Arc<Runtime>), wire: &[u8]) -> Result<Lowered<Arc<RouteTable>>, String> {
        self.lower(with, wire, |message: RouteConfiguration, _, cx| route::discovered(message, cx))
    }

    /// A `ScopedRouteConfiguration` of SRDS.
    pub fn scope(&self, with: (&Registry, &Arc<Runtime>), wire: &[u8]) -> Result<Lowered<ScopeConfig>, String> {
        self.lower(with, wire, |message: ScopedRouteConfiguration, _, cx| scoped_routes::scope(&message, false, cx))
    }

    /// A `ClusterLoadAssignment` of EDS.
    pub fn load_assignment(
        &self,
        with: (&Registry, &Arc<Runtime>),
        wire: &[u8],
    ) -> Result<Lowered<LoadAssignment>, String> {
        self.lower(with, wire, |message: ClusterLoadAssignment, _, cx| cluster::discovered_endpoints(&message, cx))
    }

    /// The configuration of a filter: a `TypedExtensionConfig` of ECDS, put in force where it is used.
    pub fn extension(
        &self,
        with: (&Registry, &Arc<Runtime>),
        wire: &[u8],
        used: &ExtensionUse,
    ) -> Result<Lowered<()>, String> {
        self.lower(with, wire, |message: TypedExtensionConfig, _, cx| {
            let mut cx = cx.scoped(used.scope.clone());
            discovered_extension::apply(used, &message, &mut cx.with_facts(&used.facts))
        })
    }

    /// A `Secret`, as the message that it is.
    pub fn secret(&self, with: (&Registry, &Arc<Runtime>), wire: &[u8]) -> Result<Lowered<Arc<Secret>>, String> {
        self.lower(with, wire, |message: Secret, _, _| Ok(Arc::new(message)))
    }

    /// The values of a runtime layer.
    pub fn runtime_layer(
        &self,
        with: (&Registry, &Arc<Runtime>),
        wire: &[u8],
    ) -> Result<Lowered<BTreeMap<String, String>>, String> {
        self.lower(with, wire, |message: RuntimeResource, _, cx| Ok(runtime::discovered_layer(&message, cx)))
    }
}

/// The errors as the text of a NACK.
fn text(diagnostics: &Diagnostics) -> String {
    let errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error);
    let one = |finding: &Diagnostic| {
        let place = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
        let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{place}{}{hint}", finding.message)
    };
    errors.map(one).collect::<Vec<_>>().join("; ")
}
