//! Lowering: from typed messages to the [`Snapshot`] of plain values.
//!
//! Owns what each field of the Envoy API means, which defaults and which combinations hold, and the reports on fields that
//! are set and not acted on. Messages are taken apart exhaustively, so that a new field can't be forgotten. Does not own: text,
//! positions, the rules of the API that hold for single fields (`validate`), or what extensions make of their configuration.
//!
//! *Invariant*: nothing here stops at the first error. A part that can't be lowered is left out, and everything else is looked
//! at all the same.
//!
//! The functions that are public here are for extensions, whose messages are made of the same parts.

mod access_log;
mod address;
mod bootstrap;
mod cel;
mod cluster;
mod config_source;
mod data_source;
mod discovered_extension;
mod extension;
mod format;
mod grpc_service;
mod http2;
mod listener;
mod match_tree;
mod matcher;
mod number;
mod overload;
mod rate_limit;
mod resource;
mod route;
mod runtime;
mod scoped_routes;
mod stats;
mod transport_socket;
mod value;

#[cfg(test)]
mod tests;

pub use access_log::{access_logs, log_filter};
pub use address::socket_options;
pub use cel::{cel_expression, cel_older, cel_options, cel_text};
pub use config_source::{api_source, config_source};
pub(crate) use data_source::read as read_file;
pub use data_source::{data_source, data_source_text};
pub use discovered_extension::discovered_extension;
pub use format::{
    default_log_format, format_string, formatter_extensions, header_mutations, plain_format, request_edits,
    response_edits, with_header_options,
};
pub use grpc_service::grpc_service;
pub use http2::http2_options;
pub use match_tree::{LowerAction, MatchInputs, header_input, header_match_tree, match_tree};
pub use matcher::{
    cidr, cidrs, cookie_spec, header, header_spec, headers, list, metadata_matcher, metadata_spec, query, query_spec,
    regex, regex_spec, string, string_spec, strings, substitution, substitution_spec, value, value_spec,
};
pub use number::{
    Wrapped, duration, duration_field, fractional_percent, percent, port, runtime_fraction, runtime_uint32,
    status_ranges,
};
pub use rate_limit::rate_limits;
pub use resource::{Lowered, ResourceContext};
pub use route::{filter_state_spec, route_config};
pub use scoped_routes::{ScopeConfig, ScopedRoutes, conflict as scope_conflict, scoped_routes};
pub use stats::{stats_matcher, stats_options};
pub use value::{metadata, structure, value as plain_value};

use crate::compile::{Compile, Environment, Facts, NodeFacts, References, Registry};
use crate::diagnostics::{Diagnostic, Diagnostics, FieldPath, Severity, did_you_mean, quoted};
use crate::snapshot::{ConfigDump, DynamicConfig, Node, Snapshot};
use crate::source::{Loaded, Positions};
use crate::tls::{DiscoveredSecrets, Secrets};
use nuncio_api::pb::envoy::config::bootstrap::v3 as pb;
use nuncio_filter::Runtime;
use nuncio_io::log_file::LogFiles;
use nuncio_stats::Store;
use nuncio_stream_info::Locality;
use nuncio_stream_info::time::TimeZone;
use prost::Message;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// What lowering needs beside the configuration.
pub struct LowerOptions<'a> {
    /// The extensions.
    pub registry: &'a Registry,
    /// The statistics of the process, made with [`stats_options`].
    pub store: Arc<Store>,
    /// Access-log files.
    pub files: Arc<LogFiles>,
    /// Secrets that discovery brought, for as long as the process lives.
    pub discovered: Arc<DiscoveredSecrets>,
    /// What the command line says of the node; it goes before `node`.
    pub node: NodeOverrides,
    /// For `%HOSTNAME%`.
    pub hostname: Option<Arc<str>>,
    /// For `%ENVIRONMENT(X)%` and `environment_variable`.
    pub environment: Environment,
    /// For `%START_TIME_LOCAL%` and the like.
    pub time_zone: Arc<TimeZone>,
}

/// `--service-node`, `--service-cluster` and `--service-zone`; empty if not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOverrides {
    /// `--service-node`: in place of `node.id`.
    pub id: String,
    /// `--service-cluster`: in place of `node.cluster`.
    pub cluster: String,
    /// `--service-zone`: in place of `node.locality.zone`.
    pub zone: String,
}

/// Decodes the bootstrap, once for [`stats_options`] and [`lower_bootstrap`].
pub fn decode(loaded: &Loaded, diagnostics: &mut Diagnostics) -> Option<pb::Bootstrap> {
    match pb::Bootstrap::decode(&loaded.wire[..]) {
        Ok(bootstrap) => Some(bootstrap),
        Err(error) => {
            diagnostics.push(Diagnostic::error("", format!("can't be decoded: {error}")));
            None
        }
    }
}

/// Lowers a bootstrap that was loaded. Runs even if loading found errors, as far as what was read goes, so that all is shown at
/// once; the snapshot is made only if neither loading nor lowering found any.
pub fn lower(loaded: &Loaded, options: &LowerOptions<'_>, diagnostics: &mut Diagnostics) -> Option<Snapshot> {
    let bootstrap = decode(loaded, diagnostics)?;
    lower_bootstrap(bootstrap, loaded, options, diagnostics)
}

/// The same for a bootstrap that [`decode`] gave.
pub fn lower_bootstrap(
    mut bootstrap: pb::Bootstrap,
    loaded: &Loaded,
    options: &LowerOptions<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Snapshot> {
    let mut session = Session {
        positions: &loaded.positions,
        registry: options.registry,
        store: &options.store,
        files: &options.files,
        findings: Diagnostics::new(),
        references: References::default(),
        unsupported: BTreeSet::new(),
    };
    let node = bootstrap::node(&bootstrap, &options.node, &mut session.compile(&Arc::default(), &Facts::default()));
    let has_ads = bootstrap.dynamic_resources.as_ref().is_some_and(|dynamic| dynamic.ads_config.is_some());
    let runtime = runtime::layered(
        bootstrap.layered_runtime.as_ref(),
        &mut session.compile(&Arc::default(), &Facts { has_ads, ..Facts::default() }).field("layered_runtime"),
    );
    let runtime_values = Arc::new(runtime.values);
    let secrets = std::mem::take(&mut bootstrap.static_resources.get_or_insert_default().secrets);
    let facts = Facts {
        secrets: Arc::new(Secrets::new(secrets, Arc::clone(&options.discovered))),
        has_ads,
        ..facts(&node, options)
    };
    let lowered = bootstrap::resources(bootstrap, loaded, &mut session.compile(&runtime_values, &facts));
    let discovers_clusters = lowered.dynamic.cds.is_some();
    if discovers_clusters {
        // What is not there may come.
        session.references.clusters.retain(|(_, path)| path.to_string().starts_with("dynamic_resources"));
        session.references.clusters_unchecked.clear();
    }
    check_clusters(&lowered.cluster_names, &mut session, &runtime_values, &facts);
    let Session { findings, references, unsupported, .. } = session;
    let failed = references.errors > 0 || loaded.diagnostics.has_errors();
    report(findings, &loaded.diagnostics, diagnostics);
    let bootstrap::Lowered {
        admin,
        listeners,
        clusters,
        cluster_names: _,
        stats_flush_interval,
        outlier_event_log,
        local_cluster,
        log_format,
        dynamic,
        overload,
        watchdogs,
        manager,
    } = lowered;
    let resources = ResourceContext {
        store: Arc::clone(&options.store),
        files: Arc::clone(&options.files),
        allow_unknown: true,
        facts,
        manager,
    };
    (!failed).then(|| Snapshot {
        node,
        admin,
        listeners,
        clusters,
        routes: references.routes,
        tls: references.tls,
        uses: references.dynamic,
        dynamic: DynamicConfig { rtds: runtime.discovered, ..dynamic },
        resources,
        runtime: runtime_values,
        admin_runtime_layer: runtime.admin_layer,
        stats_flush_interval,
        outlier_event_log,
        local_cluster,
        overload,
        watchdogs,
        log_format,
        dump: ConfigDump { bootstrap: loaded.wire.as_slice().into(), unsupported: unsupported.into_iter().collect() },
    })
}

fn facts(node: &Node, options: &LowerOptions<'_>) -> Facts {
    Facts {
        node_id: node.id.as_str().into(),
        node_cluster: node.cluster.as_str().into(),
        node: Arc::new(node_facts(node)),
        hostname: options.hostname.clone(),
        environment: options.environment.clone(),
        time_zone: options.time_zone.clone(),
        ..Facts::default()
    }
}

fn node_facts(node: &Node) -> NodeFacts {
    let metadata = node.metadata.as_deref().and_then(|wire| nuncio_api::wkt::Struct::decode(wire).ok());
    NodeFacts {
        metadata: metadata.as_ref().map(value::structure).unwrap_or_default(),
        locality: Locality {
            region: node.region.as_str().into(),
            zone: node.zone.as_str().into(),
            sub_zone: node.sub_zone.as_str().into(),
        },
    }
}

/// What is collected while one configuration is lowered.
struct Session<'a> {
    positions: &'a Positions,
    registry: &'a Registry,
    store: &'a Arc<Store>,
    files: &'a Arc<LogFiles>,
    findings: Diagnostics,
    references: References,
    unsupported: BTreeSet<String>,
}

impl Session<'_> {
    fn compile<'s>(&'s mut self, runtime: &'s Arc<Runtime>, facts: &'s Facts) -> Compile<'s> {
        Compile {
            diagnostics: &mut self.findings,
            positions: Some(self.positions),
            path: FieldPath::root(),
            registry: self.registry,
            references: &mut self.references,
            unsupported: &mut self.unsupported,
            store: self.store,
            scope: self.store.scope("", &[]),
            files: self.files,
            runtime,
            facts,
        }
    }
}

/// Every cluster that is referred to must be defined.
fn check_clusters(defined: &BTreeSet<String>, session: &mut Session<'_>, runtime: &Arc<Runtime>, facts: &Facts) {
    let required = std::mem::take(&mut session.references.clusters);
    let unchecked = std::mem::take(&mut session.references.clusters_unchecked);
    let mut cx = session.compile(runtime, facts);
    let all = required.iter().map(|it| (it, true)).chain(unchecked.iter().map(|it| (it, false)));
    for ((name, path), is_required) in all.filter(|((name, _), _)| !defined.contains(name)) {
        let text = format!("a cluster of this name is not defined: {}", quoted(name));
        let guess = did_you_mean(name, defined.iter().map(String::as_str));
        let hint = guess.map_or_else(
            || "define it under static_resources.clusters".to_owned(),
            |guess| format!("did you mean {guess}?"),
        );
        cx.path = path.clone();
        if is_required {
            cx.error_hint(text, hint);
        } else {
            cx.warn_hint(text, hint);
        }
    }
    session.references.clusters = required;
    session.references.clusters_unchecked = unchecked;
}

/// Adds the findings of lowering to `diagnostics`, but for errors that only follow from what loading could not read: those of a
/// message one of whose own fields, or of a field of whose messages, has an error already.
fn report(findings: Diagnostics, before: &Diagnostics, diagnostics: &mut Diagnostics) {
    let errors = before.iter().filter(|finding| finding.severity == Severity::Error);
    let mut damaged: HashSet<FieldPath> = HashSet::new();
    for error in errors {
        let mut path = FieldPath::parse(&error.path);
        damaged.insert(path.clone());
        for _ in 0..2 {
            path.pop();
            damaged.insert(path.clone());
        }
    }
    for finding in &findings {
        let follows = finding.severity == Severity::Error && damaged.contains(&FieldPath::parse(&finding.path));
        if !follows {
            diagnostics.push(finding.clone());
        }
    }
}
