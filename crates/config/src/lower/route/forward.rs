//! `RouteAction`.

use super::retry;
use super::{Common, gaps, legacy, mutations, per_filter};
use crate::compile::{Compile, Invalid, message_of};
use crate::lower::number::{Wrapped, duration_field, runtime_fraction};
use crate::lower::{matcher, value};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::internal_redirect;
use nuncio_api::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;
use nuncio_cluster::config::HashPolicies;
use nuncio_route::HashPolicy;
use nuncio_route::spec::{
    ClusterSpecifierSpec, ClusterWeightSpec, ConnectConfigSpec, CookieAttribute, HashPolicyKindSpec, HashPolicySpec,
    HostRewriteSpec, InternalRedirectPolicySpec, MaxStreamDuration, MirrorPolicySpec, PathRewriteSpec, Priority,
    RandomValueSpec, RedirectPredicate, RouteActionSpec, UpgradeConfigSpec, WeightedClustersSpec,
};
use pb::route_action as nested;
use prost::Name;
use std::sync::Arc;

/// Forwarding to a cluster.
pub(super) fn lower(
    action: &pb::RouteAction,
    common: &Common,
    cx: &mut Compile<'_>,
) -> Result<RouteActionSpec, Invalid> {
    name_all_fields(action);
    gaps::action(action, cx);
    let cluster = cluster(action.cluster_specifier.as_ref(), common, cx);
    let path_rewrite = path_rewrite(action, cx);
    let hash_policy = matcher::list(&action.hash_policy, "hash_policy", cx, hash_policy);
    let hash_policy = hash_policy.map(|policies| policies.into_iter().flatten().collect());
    let before = cx.errors();
    let mut duration = |value, field| duration_field(value, field, cx).ok().flatten();
    #[allow(deprecated)]
    let (max_grpc_timeout, grpc_timeout_offset) = (
        duration(&action.max_grpc_timeout, "max_grpc_timeout"),
        duration(&action.grpc_timeout_offset, "grpc_timeout_offset"),
    );
    let timeout = duration(&action.timeout, "timeout");
    let idle_timeout = duration(&action.idle_timeout, "idle_timeout");
    let flush_timeout = duration(&action.flush_timeout, "flush_timeout");
    let max_stream_duration = action.max_stream_duration.as_ref().map(|limits| {
        let mut cx = cx.field("max_stream_duration");
        let mut duration = |value, field| duration_field(value, field, &mut cx).ok().flatten();
        MaxStreamDuration {
            max_stream_duration: duration(&limits.max_stream_duration, "max_stream_duration"),
            grpc_timeout_header_max: duration(&limits.grpc_timeout_header_max, "grpc_timeout_header_max"),
            grpc_timeout_header_offset: duration(&limits.grpc_timeout_header_offset, "grpc_timeout_header_offset"),
        }
    });
    let retry_policy = action.retry_policy.as_ref();
    let mut spec = RouteActionSpec::new(cluster?);
    spec.cluster_not_found_response_code = match action.cluster_not_found_response_code() {
        nested::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
        nested::ClusterNotFoundResponseCode::NotFound => 404,
        nested::ClusterNotFoundResponseCode::InternalServerError => 500,
    };
    spec.metadata_match = value::metadata(&action.metadata_match, "metadata_match", cx);
    spec.path_rewrite = path_rewrite?;
    spec.host_rewrite = host_rewrite(action.host_rewrite_specifier.as_ref());
    spec.append_x_forwarded_host = action.append_x_forwarded_host;
    spec.timeout = timeout;
    spec.idle_timeout = idle_timeout;
    spec.flush_timeout = flush_timeout;
    spec.retry_policy = retry_policy.map(|policy| retry::policy(policy, &mut cx.field("retry_policy")));
    spec.mirror_policies = mirrors(&action.request_mirror_policies, common, cx);
    spec.priority = match action.priority() {
        core::RoutingPriority::Default => Priority::Default,
        core::RoutingPriority::High => Priority::High,
    };
    #[allow(deprecated)]
    let include_vh_rate_limits = action.include_vh_rate_limits.value_or(false);
    spec.include_vh_rate_limits = include_vh_rate_limits;
    spec.rate_limits = super::rate_limits(&action.rate_limits, cx);
    #[allow(deprecated)]
    let cors = action.cors.as_ref();
    spec.cors = legacy::cors(cors, cx);
    spec.hash_policy = hash_policy?;
    spec.max_grpc_timeout = max_grpc_timeout;
    spec.grpc_timeout_offset = grpc_timeout_offset;
    spec.upgrade_configs = upgrades(&action.upgrade_configs, cx);
    spec.internal_redirect_policy = internal_redirect(action, cx);
    spec.max_stream_duration = max_stream_duration;
    cx.unless_errors_since(before)?;
    Ok(spec)
}

/// A new field of the API does not compile until it is lowered, or reported in `gaps`.
fn name_all_fields(action: &pb::RouteAction) {
    #[allow(deprecated)]
    let pb::RouteAction {
        // Lowered: see `lower`.
        cluster_not_found_response_code: _,
        metadata_match: _,
        prefix_rewrite: _,
        regex_rewrite: _,
        path_rewrite_policy: _,
        path_rewrite: _,
        append_x_forwarded_host: _,
        timeout: _,
        idle_timeout: _,
        flush_timeout: _,
        retry_policy: _,
        request_mirror_policies: _,
        priority: _,
        include_vh_rate_limits: _,
        rate_limits: _,
        hash_policy: _,
        max_grpc_timeout: _,
        grpc_timeout_offset: _,
        upgrade_configs: _,
        internal_redirect_policy: _,
        internal_redirect_action: _,
        max_internal_redirects: _,
        max_stream_duration: _,
        cluster_specifier: _,
        host_rewrite_specifier: _,
        cors: _,
        // Reported: see `gaps`.
        early_data_policy: _,
        retry_policy_typed_config: _,
        hedge_policy: _,
    } = action;
}

fn cluster(
    specifier: Option<&nested::ClusterSpecifier>,
    common: &Common,
    cx: &mut Compile<'_>,
) -> Result<ClusterSpecifierSpec, Invalid> {
    use nested::ClusterSpecifier as Kind;
    match specifier {
        None => Err(cx.error_hint("names no cluster", "set cluster, cluster_header or weighted_clusters")),
        Some(Kind::Cluster(name)) => {
            common.cluster(name, "cluster", cx);
            Ok(ClusterSpecifierSpec::Cluster(name.clone()))
        }
        Some(Kind::ClusterHeader(name)) => Ok(ClusterSpecifierSpec::ClusterHeader(name.clone())),
        Some(Kind::WeightedClusters(weighted)) => {
            let weighted = self::weighted(weighted, common, &mut cx.field("weighted_clusters"));
            Ok(ClusterSpecifierSpec::Weighted(weighted))
        }
        Some(Kind::ClusterSpecifierPlugin(name)) => {
            let text = format!("the cluster specifier plugin {name} is not built");
            Err(cx.field("cluster_specifier_plugin").error(text))
        }
        Some(Kind::InlineClusterSpecifierPlugin(_)) => {
            Err(cx.field("inline_cluster_specifier_plugin").error("is not built"))
        }
    }
}

fn weighted(weighted: &pb::WeightedCluster, common: &Common, cx: &mut Compile<'_>) -> WeightedClustersSpec {
    use pb::weighted_cluster::RandomValueSpecifier;
    #[allow(deprecated)]
    let pb::WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier } = weighted;
    let mut lowered = Vec::with_capacity(clusters.len());
    for (index, cluster) in clusters.iter().enumerate() {
        lowered.push(cluster_weight(cluster, common, &mut cx.element("clusters", index)));
    }
    if matches!(random_value_specifier, Some(RandomValueSpecifier::UseHashPolicy(on)) if on.value)
        && clusters.iter().any(|cluster| !cluster.typed_per_filter_config.is_empty())
    {
        // The hash is made when the filters have run.
        cx.refuse("use_hash_policy", "what the clusters say to filters in typed_per_filter_config would not be heard");
    }
    WeightedClustersSpec {
        clusters: lowered,
        total_weight: total_weight.get(),
        runtime_key_prefix: runtime_key_prefix.clone(),
        random_value: match random_value_specifier {
            None => RandomValueSpec::Stream,
            Some(RandomValueSpecifier::HeaderName(name)) => RandomValueSpec::Header(name.clone()),
            Some(RandomValueSpecifier::UseHashPolicy(on)) if on.value => RandomValueSpec::HashPolicy,
            Some(RandomValueSpecifier::UseHashPolicy(_)) => RandomValueSpec::Stream,
        },
    }
}

fn cluster_weight(
    cluster: &pb::weighted_cluster::ClusterWeight,
    common: &Common,
    cx: &mut Compile<'_>,
) -> ClusterWeightSpec {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let pb::weighted_cluster::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = cluster;
    common.cluster(name, "name", cx);
    ClusterWeightSpec {
        name: name.clone(),
        cluster_header: cluster_header.clone(),
        weight: weight.get(),
        metadata_match: value::metadata(metadata_match, "metadata_match", cx),
        request_headers: mutations(request_headers_to_add, request_headers_to_remove),
        response_headers: mutations(response_headers_to_add, response_headers_to_remove),
        per_filter: per_filter::lower(typed_per_filter_config, cx),
        host_rewrite_literal: match host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => host.clone(),
            None => String::new(),
        },
    }
}

/// One of the four ways to rewrite a path.
fn path_rewrite(action: &pb::RouteAction, cx: &mut Compile<'_>) -> Result<Option<PathRewriteSpec>, Invalid> {
    let pb::RouteAction { prefix_rewrite, regex_rewrite, path_rewrite_policy, path_rewrite, .. } = action;
    let set = [
        (!prefix_rewrite.is_empty(), "prefix_rewrite"),
        (regex_rewrite.is_some(), "regex_rewrite"),
        (path_rewrite_policy.is_some(), "path_rewrite_policy"),
        (!path_rewrite.is_empty(), "path_rewrite"),
    ];
    let names: Vec<&str> = set.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if names.len() > 1 {
        return Err(cx.error(format!("only one of {} can be set", names.join(", "))));
    }
    if !prefix_rewrite.is_empty() {
        return Ok(Some(PathRewriteSpec::Prefix(prefix_rewrite.clone())));
    }
    if let Some(regex) = regex_rewrite {
        return Ok(Some(PathRewriteSpec::Regex(matcher::substitution_spec(regex))));
    }
    if let Some(policy) = path_rewrite_policy {
        return template(policy, &mut cx.field("path_rewrite_policy")).map(Some);
    }
    Ok((!path_rewrite.is_empty()).then(|| PathRewriteSpec::Format(path_rewrite.clone())))
}

fn template(policy: &core::TypedExtensionConfig, cx: &mut Compile<'_>) -> Result<PathRewriteSpec, Invalid> {
    let any = policy.typed_config.as_ref().filter(|any| message_of(any) == UriTemplateRewriteConfig::full_name());
    let Some(any) = any else {
        let text = format!("the path rewriter {} is not built", policy.name);
        return Err(cx.error_hint(text, "envoy.path.rewrite.uri_template.uri_template_rewriter is"));
    };
    let UriTemplateRewriteConfig { path_template_rewrite } = cx.field("typed_config").decode(any)?;
    Ok(PathRewriteSpec::UriTemplate(path_template_rewrite))
}

fn host_rewrite(rewrite: Option<&nested::HostRewriteSpecifier>) -> Option<HostRewriteSpec> {
    use nested::HostRewriteSpecifier as Kind;
    Some(match rewrite? {
        Kind::HostRewriteLiteral(host) if host.is_empty() => return None,
        Kind::HostRewriteLiteral(host) => HostRewriteSpec::Literal(host.clone()),
        Kind::AutoHostRewrite(on) if on.value => HostRewriteSpec::Auto,
        Kind::AutoHostRewrite(_) => return None,
        Kind::HostRewriteHeader(name) if name.is_empty() => return None,
        Kind::HostRewriteHeader(name) => HostRewriteSpec::Header(name.clone()),
        Kind::HostRewritePathRegex(regex) => HostRewriteSpec::PathRegex(matcher::substitution_spec(regex)),
        Kind::HostRewrite(format) if format.is_empty() => return None,
        Kind::HostRewrite(format) => HostRewriteSpec::Format(format.clone()),
    })
}

/// `request_mirror_policies`.
pub(super) fn mirrors(
    policies: &[nested::RequestMirrorPolicy],
    common: &Common,
    cx: &mut Compile<'_>,
) -> Vec<MirrorPolicySpec> {
    let mut lowered = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate() {
        let mut cx = cx.element("request_mirror_policies", index);
        let nested::RequestMirrorPolicy {
            cluster,
            cluster_header,
            runtime_fraction: fraction,
            trace_sampled,
            disable_shadow_host_suffix_append,
            request_headers_mutations,
            host_rewrite_literal,
        } = policy;
        cx.unsupported_if(!request_headers_mutations.is_empty(), "request_headers_mutations");
        common.cluster(cluster, "cluster", &mut cx);
        lowered.push(MirrorPolicySpec {
            cluster: cluster.clone(),
            cluster_header: cluster_header.clone(),
            runtime_fraction: fraction.as_ref().map(runtime_fraction),
            trace_sampled: trace_sampled.get(),
            disable_shadow_host_suffix_append: *disable_shadow_host_suffix_append,
            host_rewrite_literal: host_rewrite_literal.clone(),
        });
    }
    lowered
}

/// The hash policies of a cluster, in place of those of routes; none for none.
pub(in crate::lower) fn hash_policies(
    policies: &[nested::HashPolicy],
    cx: &mut Compile<'_>,
) -> Result<Option<Arc<HashPolicies>>, Invalid> {
    if policies.is_empty() {
        return Ok(None);
    }
    let specs = matcher::list(policies, "hash_policy", cx, hash_policy)?;
    let identity = policies.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect();
    match HashPolicy::compile(specs.into_iter().flatten().collect()) {
        Ok(policies) => Ok(Some(Arc::new(HashPolicies { policies, identity }))),
        Err(errors) => {
            errors.iter().for_each(|error| {
                cx.below(&error.path).error(error.message.clone());
            });
            Err(Invalid)
        }
    }
}

/// A hash policy; none for one that hashes nothing.
fn hash_policy(policy: &nested::HashPolicy, cx: &mut Compile<'_>) -> Result<Option<HashPolicySpec>, Invalid> {
    use nested::hash_policy::PolicySpecifier as Kind;
    let nested::HashPolicy { terminal, policy_specifier } = policy;
    let kind = match policy_specifier {
        None => return Err(cx.error_hint("hashes nothing", "set header, cookie, connection_properties or another")),
        Some(Kind::Header(header)) => HashPolicyKindSpec::Header {
            name: header.header_name.clone(),
            rewrite: header.regex_rewrite.as_ref().map(matcher::substitution_spec),
        },
        Some(Kind::Cookie(cookie)) => HashPolicyKindSpec::Cookie {
            name: cookie.name.clone(),
            ttl: duration_field(&cookie.ttl, "ttl", &mut cx.field("cookie"))?,
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|attribute| CookieAttribute { name: attribute.name.clone(), value: attribute.value.clone() })
                .collect(),
        },
        Some(Kind::ConnectionProperties(properties)) if properties.source_ip => HashPolicyKindSpec::SourceIp,
        Some(Kind::ConnectionProperties(_)) => {
            cx.field("connection_properties").warn("hashes nothing without source_ip: true");
            return Ok(None);
        }
        Some(Kind::QueryParameter(parameter)) => HashPolicyKindSpec::QueryParameter(parameter.name.clone()),
        Some(Kind::FilterState(state)) => HashPolicyKindSpec::FilterState(state.key.clone()),
    };
    Ok(Some(HashPolicySpec { kind, terminal: *terminal }))
}

fn upgrades(configs: &[nested::UpgradeConfig], cx: &mut Compile<'_>) -> Vec<UpgradeConfigSpec> {
    let mut lowered = Vec::with_capacity(configs.len());
    for (index, config) in configs.iter().enumerate() {
        let nested::UpgradeConfig { upgrade_type, enabled, connect_config } = config;
        let connect_config = connect_config.as_ref().map(|connect| {
            let nested::upgrade_config::ConnectConfig { proxy_protocol_config, allow_post } = connect;
            let mut cx = cx.element("upgrade_configs", index);
            cx.field("connect_config").unsupported_if(proxy_protocol_config.is_some(), "proxy_protocol_config");
            ConnectConfigSpec { proxy_protocol: None, allow_post: *allow_post }
        });
        lowered.push(UpgradeConfigSpec {
            upgrade_type: upgrade_type.clone(),
            enabled: enabled.value_or(true),
            connect_config,
        });
    }
    lowered
}

/// `internal_redirect_policy`, or the deprecated fields before it.
fn internal_redirect(action: &pb::RouteAction, cx: &mut Compile<'_>) -> Option<InternalRedirectPolicySpec> {
    let Some(policy) = &action.internal_redirect_policy else {
        #[allow(deprecated)]
        let (handled, max) = (action.internal_redirect_action(), &action.max_internal_redirects);
        return (handled == nested::InternalRedirectAction::HandleInternalRedirect)
            .then(|| InternalRedirectPolicySpec { max_internal_redirects: max.get(), ..Default::default() });
    };
    let pb::InternalRedirectPolicy {
        max_internal_redirects,
        redirect_response_codes,
        predicates,
        allow_cross_scheme_redirect,
        response_headers_to_copy,
    } = policy;
    let mut cx = cx.field("internal_redirect_policy");
    let mut known = Vec::with_capacity(predicates.len());
    for (index, extension) in predicates.iter().enumerate() {
        known.extend(redirect_predicate(extension, &mut cx.element("predicates", index)));
    }
    Some(InternalRedirectPolicySpec {
        max_internal_redirects: max_internal_redirects.get(),
        redirect_response_codes: redirect_response_codes.clone(),
        predicates: known,
        allow_cross_scheme_redirect: *allow_cross_scheme_redirect,
        response_headers_to_copy: response_headers_to_copy.clone(),
    })
}

/// A predicate of internal redirects; none for one that is not built, which is an error: it would not be asked.
fn redirect_predicate(extension: &core::TypedExtensionConfig, cx: &mut Compile<'_>) -> Option<RedirectPredicate> {
    use internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
    use internal_redirect::previous_routes::v3::PreviousRoutesConfig;
    use internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;
    let Some(any) = &extension.typed_config else {
        cx.error(format!("the predicate {} has no typed_config", extension.name));
        return None;
    };
    let message = message_of(any);
    if message == PreviousRoutesConfig::full_name() {
        return Some(RedirectPredicate::PreviousRoutes);
    }
    if message == SafeCrossSchemeConfig::full_name() {
        return Some(RedirectPredicate::SafeCrossScheme);
    }
    if message == AllowListedRoutesConfig::full_name() {
        let config = cx.field("typed_config").decode::<AllowListedRoutesConfig>(any).ok()?;
        return Some(RedirectPredicate::AllowListedRoutes(config.allowed_route_names));
    }
    cx.error(format!("the predicate {} is not built", extension.name));
    None
}
