//! Extensions that a configuration names without giving their type.
//!
//! Envoy finds an extension by the type of its `typed_config` and refuses one without. Configurations written for its earlier
//! versions are full of `- name: envoy.filters.http.router`, so the name decides where nothing else does.

mod types;

#[cfg(test)]
mod tests;

use crate::diagnostics::{FieldPath, Segment};
use nuncio_api::schema::{MessageRef, Schema};

/// The names that extensions had before they carried their category, and what they are called now.
const EARLIER: &[(&str, &str)] = &[
    ("envoy.buffer", "envoy.filters.http.buffer"),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.csrf", "envoy.filters.http.csrf"),
    ("envoy.dog_statsd", "envoy.stat_sinks.dog_statsd"),
    ("envoy.echo", "envoy.filters.network.echo"),
    ("envoy.ext_authz", "envoy.filters.http.ext_authz"),
    ("envoy.ext_authz", "envoy.filters.network.ext_authz"),
    ("envoy.fault", "envoy.filters.http.fault"),
    ("envoy.file_access_log", "envoy.access_loggers.file"),
    ("envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"),
    ("envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web"),
    ("envoy.health_check", "envoy.filters.http.health_check"),
    ("envoy.http_connection_manager", "envoy.filters.network.http_connection_manager"),
    ("envoy.http_grpc_access_log", "envoy.access_loggers.http_grpc"),
    ("envoy.ip_tagging", "envoy.filters.http.ip_tagging"),
    ("envoy.listener.http_inspector", "envoy.filters.listener.http_inspector"),
    ("envoy.listener.original_dst", "envoy.filters.listener.original_dst"),
    ("envoy.listener.original_src", "envoy.filters.listener.original_src"),
    ("envoy.listener.proxy_protocol", "envoy.filters.listener.proxy_protocol"),
    ("envoy.listener.tls_inspector", "envoy.filters.listener.tls_inspector"),
    ("envoy.lua", "envoy.filters.http.lua"),
    ("envoy.metrics_service", "envoy.stat_sinks.metrics_service"),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.rate_limit", "envoy.filters.http.ratelimit"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    ("envoy.router", "envoy.filters.http.router"),
    ("envoy.statsd", "envoy.stat_sinks.statsd"),
    ("envoy.tcp_grpc_access_log", "envoy.access_loggers.tcp_grpc"),
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
    ("envoy.zipkin", "envoy.tracers.zipkin"),
    ("raw_buffer", "envoy.transport_sockets.raw_buffer"),
    ("tls", "envoy.transport_sockets.tls"),
];

/// An extension found by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The name that it has today.
    pub name: &'static str,
    /// The type of its configuration.
    pub message: MessageRef,
}

/// The extension that `name` means in a message of type `holder`, which stands at `path`.
pub fn find(holder: MessageRef, name: &str, path: &FieldPath) -> Option<Named> {
    let category = category(holder);
    let in_category = |name: &&str| category.is_none_or(|prefix| name.starts_with(prefix));
    let earlier = EARLIER.iter().filter(|(short, _)| *short == name).map(|(_, now)| *now).find(in_category);
    let name = earlier.unwrap_or(name);
    let first = types::TYPES.partition_point(|(known, _)| *known < name);
    let known = || types::TYPES[first..].iter().take_while(|(known, _)| *known == name);
    let (name, type_name) = if is_downstream(path) { known().next() } else { known().last() }?;
    let message = Schema::message(type_name).filter(|_| in_category(name))?;
    Some(Named { name, message })
}

/// The names of all extensions that fit into `holder`, if only extensions with a name and a type do.
pub fn known(holder: MessageRef) -> Option<impl Iterator<Item = &'static str>> {
    let prefix = category(holder)?;
    Some(types::TYPES.iter().map(|(name, _)| *name).filter(move |name| name.starts_with(prefix)))
}

/// The prefix that the names of what fits into `holder` have.
fn category(holder: MessageRef) -> Option<&'static str> {
    Some(match holder.full_name() {
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => "envoy.filters.http.",
        "envoy.config.listener.v3.Filter" => "envoy.filters.network.",
        "envoy.config.listener.v3.ListenerFilter" => "envoy.filters.listener.",
        "envoy.config.accesslog.v3.AccessLog" => "envoy.access_loggers.",
        "envoy.config.core.v3.TransportSocket" => "envoy.transport_sockets.",
        "envoy.config.trace.v3.Tracing.Http" => "envoy.tracers.",
        "envoy.config.metrics.v3.StatsSink" => "envoy.stat_sinks.",
        _ => return None,
    })
}

/// Whether `path` is inside a filter chain, where a transport socket faces the downstream.
fn is_downstream(path: &FieldPath) -> bool {
    let chain = |segment: &Segment| matches!(segment, Segment::Field(name) if name.contains("filter_chain"));
    path.segments().iter().any(chain)
}
