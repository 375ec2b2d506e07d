//! `RouteConfiguration`: to the plain specification that the `route` crate compiles.

mod action;
mod forward;
mod gaps;
mod legacy;
mod matching;
mod per_filter;
mod retry;

pub(super) use forward::hash_policies;
pub use matching::filter_state as filter_state_spec;

use super::number::{Wrapped, fractional_percent};
use super::{config_source, format, matcher, value};
use crate::compile::{Compile, Invalid};
use crate::sources::{ApiKind, DynamicUse, From, VirtualHostsUse};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_matcher::FractionalPercent;
use nuncio_route::RouteTable;
use nuncio_route::spec::{
    ActionSpec, Decorator, HeaderMutationsSpec, Opaque, PathSpec, RequireTls, RouteConfigSpec, RouteMatchSpec,
    RouteSpec, RouteTracing, VirtualClusterSpec, VirtualHostSpec,
};
use std::sync::Arc;

/// `max_direct_response_body_size_bytes`, where none is given.
const MAX_BODY: u32 = 4096;

/// What the routes of a configuration have in common.
struct Common {
    /// Whether the clusters that routes name must be defined.
    validate_clusters: bool,
    /// The longest body of a direct response, in bytes.
    max_body: u32,
}

impl Common {
    /// Notes that a route names a cluster in `field`.
    fn cluster(&self, name: &str, field: &'static str, cx: &mut Compile<'_>) {
        if self.validate_clusters && !name.is_empty() {
            cx.field(field).cluster(name);
        }
    }
}

/// Compiles a route configuration that stands in the configuration of a filter. Clusters that it names must be defined, unless
/// `validate_clusters` says otherwise.
pub fn route_config(cx: &mut Compile<'_>, config: pb::RouteConfiguration) -> Result<Arc<RouteTable>, Invalid> {
    compiled(config, true, cx)
}

/// A route configuration of RDS: clusters that it names may be lacking, unless `validate_clusters` says otherwise.
pub(super) fn discovered(config: pb::RouteConfiguration, cx: &mut Compile<'_>) -> Result<Arc<RouteTable>, Invalid> {
    compiled(config, false, cx)
}

fn compiled(
    config: pb::RouteConfiguration,
    validate_clusters: bool,
    cx: &mut Compile<'_>,
) -> Result<Arc<RouteTable>, Invalid> {
    let before = cx.errors();
    let spec = spec(&config, validate_clusters, cx);
    let built = format::with_header_options(cx, |options| RouteTable::build_with(spec, options));
    let table = match built {
        Ok(table) => {
            for warning in table.warnings() {
                cx.below(&warning.path).warn(warning.message.clone());
            }
            Ok(Arc::new(table))
        }
        Err(errors) => {
            for error in errors {
                cx.below(&error.path).error(error.message);
            }
            Err(Invalid)
        }
    };
    cx.unless_errors_since(before)?;
    let table = table?;
    table.register_stats(cx.store);
    cx.references.routes.push(table.clone());
    Ok(table)
}

fn spec(config: &pb::RouteConfiguration, default_validate: bool, cx: &mut Compile<'_>) -> RouteConfigSpec {
    let pb::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = config;
    if let Some(vhds) = vhds {
        virtual_host_discovery(vhds, default_validate, &mut cx.field("vhds"));
    }
    cx.unsupported_if(!cluster_specifier_plugins.is_empty(), "cluster_specifier_plugins");
    refuse_specifiers(route_specifiers, cx);
    gaps::config(config, cx);
    let common = Common {
        validate_clusters: validate_clusters.value_or(default_validate),
        max_body: max_direct_response_body_size_bytes.value_or(MAX_BODY),
    };
    let mut hosts = Vec::with_capacity(virtual_hosts.len());
    for (index, host) in virtual_hosts.iter().enumerate() {
        hosts.push(virtual_host(host, &common, &mut cx.element("virtual_hosts", index)));
    }
    RouteConfigSpec {
        name: name.clone(),
        virtual_hosts: hosts,
        internal_only_headers: internal_only_headers.clone(),
        request_headers: mutations(request_headers_to_add, request_headers_to_remove),
        response_headers: mutations(response_headers_to_add, response_headers_to_remove),
        most_specific_header_mutations_wins: *most_specific_header_mutations_wins,
        mirror_policies: forward::mirrors(request_mirror_policies, &common, cx),
        ignore_port_in_host_matching: *ignore_port_in_host_matching,
        vhost_header: vhost_header.clone(),
        ignore_path_parameters_in_path_matching: *ignore_path_parameters_in_path_matching,
        per_filter: per_filter::lower(typed_per_filter_config, cx),
        metadata: value::metadata(metadata, "metadata", cx),
    }
}

/// `vhds`: acted on in route configurations that discovery brings; elsewhere Envoy passes over it too.
fn virtual_host_discovery(vhds: &pb::Vhds, is_static: bool, cx: &mut Compile<'_>) {
    if is_static {
        cx.warn("is only acted on in route configurations of RDS");
        return;
    }
    let Some(source) = &vhds.config_source else {
        cx.field("config_source").error("is required");
        return;
    };
    let mut cx = cx.field("config_source");
    let Ok(source) = config_source(source, &mut cx) else { return };
    match &source.from {
        From::Ads => {}
        From::Api(api) if api.kind == ApiKind::DeltaGrpc => {}
        From::Api(_) | From::File(_) => {
            cx.error("vhds: only 'DELTA_GRPC' is supported as an api_type.");
            return;
        }
    }
    cx.references.dynamic.push(DynamicUse::VirtualHosts(VirtualHostsUse { source }));
}

fn refuse_specifiers(specifiers: &[core::TypedExtensionConfig], cx: &mut Compile<'_>) {
    if let Some(first) = specifiers.first() {
        cx.field("route_specifiers").error(format!("the route specifier {} is not built", first.name));
    }
}

fn mutations(add: &[core::HeaderValueOption], remove: &[String]) -> HeaderMutationsSpec {
    format::header_mutations(add, remove)
}

fn virtual_host(host: &pb::VirtualHost, common: &Common, cx: &mut Compile<'_>) -> VirtualHostSpec {
    #[allow(deprecated)]
    let pb::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls: _,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config: _,
        hedge_policy: _,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = host;
    if matcher.is_some() {
        cx.field("matcher").error_hint("is not built yet", "list the routes under routes");
    }
    refuse_specifiers(route_specifiers, cx);
    gaps::virtual_host(host, cx);
    let mut lowered = Vec::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        lowered.push(self::route(route, common, &mut cx.element("routes", index)));
    }
    VirtualHostSpec {
        name: name.clone(),
        domains: domains.clone(),
        routes: lowered,
        require_tls: match host.require_tls() {
            pb::virtual_host::TlsRequirementType::None => RequireTls::None,
            pb::virtual_host::TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            pb::virtual_host::TlsRequirementType::All => RequireTls::All,
        },
        virtual_clusters: self::virtual_clusters(virtual_clusters, cx),
        rate_limits: self::rate_limits(rate_limits, cx),
        request_headers: mutations(request_headers_to_add, request_headers_to_remove),
        response_headers: mutations(response_headers_to_add, response_headers_to_remove),
        cors: legacy::cors(cors.as_ref(), cx),
        per_filter: per_filter::lower(typed_per_filter_config, cx),
        include_request_attempt_count: *include_request_attempt_count,
        include_attempt_count_in_response: *include_attempt_count_in_response,
        retry_policy: retry_policy.as_ref().map(|policy| retry::policy(policy, &mut cx.field("retry_policy"))),
        include_is_timeout_retry_header: *include_is_timeout_retry_header,
        request_body_buffer_limit: request_body_buffer_limit
            .get()
            .or(per_request_buffer_limit_bytes.get().map(u64::from)),
        mirror_policies: forward::mirrors(request_mirror_policies, common, cx),
        metadata: value::metadata(metadata, "metadata", cx),
        ..VirtualHostSpec::default()
    }
}

/// `rate_limits`; what is wrong with them was reported.
fn rate_limits(limits: &[pb::RateLimit], cx: &mut Compile<'_>) -> Option<Opaque> {
    let policies = super::rate_limit::rate_limits(limits, "rate_limits", cx).ok().flatten()?;
    Some(Arc::new(policies))
}

fn virtual_clusters(clusters: &[pb::VirtualCluster], cx: &mut Compile<'_>) -> Vec<VirtualClusterSpec> {
    let mut lowered = Vec::with_capacity(clusters.len());
    for (index, pb::VirtualCluster { headers, name }) in clusters.iter().enumerate() {
        let mut cx = cx.element("virtual_clusters", index);
        lowered.push(VirtualClusterSpec { name: name.clone(), headers: header_matchers(headers, "headers", &mut cx) });
    }
    lowered
}

/// Header matchers; one that can't be translated is reported, and one that any request passes stands in its place, so that
/// those behind it keep their index.
fn header_matchers(
    matchers: &[pb::HeaderMatcher],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Vec<nuncio_matcher::HeaderMatcherSpec> {
    let mut lowered = Vec::with_capacity(matchers.len());
    for (index, matcher) in matchers.iter().enumerate() {
        let spec = cx.element(field, index).check(matcher::header_spec(matcher));
        let in_place = || nuncio_matcher::HeaderMatcherSpec { name: matcher.name.clone(), ..Default::default() };
        lowered.push(spec.unwrap_or_else(|Invalid| in_place()));
    }
    lowered
}

/// A route; what can't be lowered of it is reported, and something without errors stands in its place.
fn route(route: &pb::Route, common: &Common, cx: &mut Compile<'_>) -> RouteSpec {
    #[allow(deprecated)]
    let pb::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = route;
    refuse_specifiers(route_specifiers, cx);
    gaps::route(route, cx);
    let matching = match r#match {
        Some(matching) => matching::lower(matching, &mut cx.field("match")),
        None => Err(cx.field("match").error("is required")),
    };
    let action = action::lower(action.as_ref(), common, cx);
    let matching = matching.unwrap_or_else(|Invalid| RouteMatchSpec::new(PathSpec::Prefix("/".to_owned())));
    RouteSpec {
        name: name.clone(),
        matching,
        action: action.unwrap_or(ActionSpec::NonForwarding),
        metadata: value::metadata(metadata, "metadata", cx),
        decorator: decorator.as_ref().map(|pb::Decorator { operation, propagate }| Decorator {
            operation: operation.as_str().into(),
            propagate: propagate.value_or(true),
        }),
        per_filter: per_filter::lower(typed_per_filter_config, cx),
        request_headers: mutations(request_headers_to_add, request_headers_to_remove),
        response_headers: mutations(response_headers_to_add, response_headers_to_remove),
        tracing: tracing.as_ref().map(route_tracing),
        request_body_buffer_limit: request_body_buffer_limit
            .get()
            .or(per_request_buffer_limit_bytes.get().map(u64::from)),
        stat_prefix: stat_prefix.clone(),
    }
}

fn route_tracing(tracing: &pb::Tracing) -> RouteTracing {
    let pb::Tracing {
        client_sampling,
        random_sampling,
        overall_sampling,
        // There are no spans: see `gaps`.
        custom_tags: _,
        operation: _,
        upstream_operation: _,
    } = tracing;
    let or_all = |share: &Option<_>| share.as_ref().map_or(FractionalPercent::ALL, fractional_percent);
    RouteTracing {
        client_sampling: or_all(client_sampling),
        random_sampling: or_all(random_sampling),
        overall_sampling: or_all(overall_sampling),
        tags: None,
    }
}
