//! What took the place of deprecated fields, for those that configurations use.

use nuncio_api::schema::{FieldRef, MessageRef};

/// Message, field, and the hint.
const REPLACEMENTS: &[(&str, &str, &str)] = &[
    ("Admin", "access_log_path", "use `access_log` with an envoy.access_loggers.file"),
    ("Bootstrap", "dns_resolution_config", "use `typed_dns_resolver_config`"),
    ("Bootstrap", "use_tcp_for_dns_lookups", "use `typed_dns_resolver_config`"),
    ("Bootstrap", "watchdog", "use `watchdogs`"),
    ("Cluster", "common_http_protocol_options", PROTOCOL_OPTIONS),
    ("Cluster", "dns_resolution_config", "use `typed_dns_resolver_config`"),
    ("Cluster", "dns_failure_refresh_rate", DNS_CLUSTER),
    ("Cluster", "dns_jitter", DNS_CLUSTER),
    ("Cluster", "dns_refresh_rate", DNS_CLUSTER),
    ("Cluster", "dns_resolvers", "use `typed_dns_resolver_config`"),
    ("Cluster", "http2_protocol_options", PROTOCOL_OPTIONS),
    ("Cluster", "http_protocol_options", PROTOCOL_OPTIONS),
    ("Cluster", "max_requests_per_connection", PROTOCOL_OPTIONS),
    ("Cluster", "protocol_selection", PROTOCOL_OPTIONS),
    ("Cluster", "respect_dns_ttl", DNS_CLUSTER),
    ("Cluster", "track_timeout_budgets", "use `track_cluster_stats: {timeout_budgets: true}`"),
    ("Cluster", "upstream_http_protocol_options", PROTOCOL_OPTIONS),
    ("Cluster", "use_tcp_for_dns_lookups", "use `typed_dns_resolver_config`"),
    ("ConfigSource", "path", "use `path_config_source`"),
    ("FileAccessLog", "format", "use `log_format`"),
    ("FileAccessLog", "json_format", "use `log_format`"),
    ("FileAccessLog", "typed_json_format", "use `log_format`"),
    ("FilterChain", "use_proxy_proto", "use an envoy.filters.listener.proxy_protocol listener filter"),
    ("HeaderMatcher", "contains_match", "use `string_match: {contains: …}`"),
    ("HeaderMatcher", "exact_match", "use `string_match: {exact: …}`"),
    ("HeaderMatcher", "prefix_match", "use `string_match: {prefix: …}`"),
    ("HeaderMatcher", "safe_regex_match", "use `string_match: {safe_regex: …}`"),
    ("HeaderMatcher", "suffix_match", "use `string_match: {suffix: …}`"),
    ("HeaderValueOption", "append", "use `append_action`"),
    ("HttpConnectionManager", "access_log_flush_interval", "use `access_log_options`"),
    ("HttpConnectionManager", "flush_access_log_on_new_request", "use `access_log_options`"),
    ("Listener", "reuse_port", "use `enable_reuse_port`"),
    ("Lua", "inline_code", "use `default_source_code: {inline_string: …}`"),
    ("RegexMatcher", "google_re2", "remove it: there is one engine only"),
    ("HealthCheck", "event_log_path", "use `event_logger`"),
    ("RouteAction", "cors", "use `typed_per_filter_config` with an envoy.extensions.filters.http.cors.v3.CorsPolicy"),
    (
        "RouteAction",
        "include_vh_rate_limits",
        "use `typed_per_filter_config` with an envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
    ),
    ("VirtualHost", "cors", "use `typed_per_filter_config` with an envoy.extensions.filters.http.cors.v3.CorsPolicy"),
    ("VirtualHost", "per_request_buffer_limit_bytes", "use `request_body_buffer_limit`"),
    ("Route", "per_request_buffer_limit_bytes", "use `request_body_buffer_limit`"),
    ("RouteAction", "internal_redirect_action", "use `internal_redirect_policy`"),
    ("RouteAction", "max_grpc_timeout", "use `max_stream_duration: {grpc_timeout_header_max: …}`"),
    ("RouteAction", "grpc_timeout_offset", "use `max_stream_duration: {grpc_timeout_header_offset: …}`"),
    ("SubstitutionFormatString", "text_format", "use `text_format_source: {inline_string: …}`"),
    ("TcpProxy", "access_log_flush_interval", "use `access_log_options`"),
    ("WeightedCluster", "total_weight", "remove it: the sum of the weights is the total"),
];

const DNS_CLUSTER: &str = "use `cluster_type` with an envoy.extensions.clusters.dns.v3.DnsCluster";
const PROTOCOL_OPTIONS: &str =
    "use `typed_extension_protocol_options` with an envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What to do about a deprecated field.
pub(super) fn hint(message: MessageRef, field: FieldRef) -> Option<&'static str> {
    let (holder, name) = (message.short_name(), field.name());
    REPLACEMENTS.iter().find(|(message, field, _)| *message == holder && *field == name).map(|(_, _, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::REPLACEMENTS;
    use nuncio_api::schema::Schema;

    #[test]
    fn every_entry_is_a_deprecated_field() {
        let is_deprecated = |holder: &str, name: &str| {
            let mut fields =
                Schema::messages().filter(|it| it.short_name() == holder).filter_map(|it| it.field_by_name(name));
            fields.any(|field| field.is_deprecated())
        };
        let others: Vec<_> = REPLACEMENTS.iter().filter(|(holder, name, _)| !is_deprecated(holder, name)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
