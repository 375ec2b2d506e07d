//! Compiling `RouteAction`.

use super::action::PathMatch;
use super::cx::Build;
use super::{Inherited, action, mutations, per_filter, retry};
use crate::forward::{
    ClusterSpecifier, DEFAULT_TIMEOUT, EntryName, Forward, GrpcTimeout, LegacyFilters, RandomValue, WeightedCluster,
    WeightedClusters,
};
use crate::policy::{HashCookie, HashInput, HashPolicy, InternalRedirectPolicy, MirrorCluster, MirrorPolicy, Upgrade};
use crate::rewrite::{HostRewrite, PathRewrite};
use crate::spec::{
    ClusterSpecifierSpec, ClusterWeightSpec, HashPolicyKindSpec, HashPolicySpec, HostRewriteSpec,
    InternalRedirectPolicySpec, MirrorPolicySpec, PathRewriteSpec, RandomValueSpec, RouteActionSpec, UpgradeConfigSpec,
    WeightedClustersSpec,
};
use crate::template;
use nuncio_headers::HeaderName;
use nuncio_matcher::{FractionalPercent, RegexSpec, RuntimeFractionalPercent, Side, Substitution, SubstitutionSpec};
use nuncio_stream_info::{Metadata, Struct};
use std::sync::Arc;

pub(super) fn compile(
    cx: &mut Build<'_>,
    spec: RouteActionSpec,
    path: PathMatch<'_>,
    inherited: &Inherited,
) -> Option<Forward> {
    let metadata_match = lb_fields(spec.metadata_match.as_deref());
    let cluster = cluster(cx, spec.cluster, metadata_match.as_ref());
    if !matches!(spec.cluster_not_found_response_code, 404 | 500 | 503) {
        cx.within("cluster_not_found_response_code", |cx| cx.error::<()>("must be 503, 404 or 500"));
    }
    let path_rewrite = match spec.path_rewrite {
        None => Some(None),
        Some(rewrite) => path_rewrite(cx, rewrite, path),
    };
    let host_rewrite = match spec.host_rewrite {
        None => Some(None),
        Some(rewrite) => host_rewrite(cx, rewrite).map(Some),
    };
    let retry_policy = match spec.retry_policy {
        None => Some(inherited.retry.clone()),
        Some(policy) => cx.within("retry_policy", |cx| retry::policy(cx, policy)).map(|policy| Some(Arc::new(policy))),
    };
    let mirrors = mirrors(cx, spec.mirror_policies);
    let hash_policy = hash_policies(cx, spec.hash_policy);
    let upgrades = upgrades(cx, spec.upgrade_configs);
    let internal_redirect_policy = match spec.internal_redirect_policy {
        None => Some(None),
        Some(policy) => cx.within("internal_redirect_policy", |cx| internal_redirect(cx, policy)).map(Some),
    };
    let legacy = (spec.cors.is_some() || spec.rate_limits.is_some() || spec.include_vh_rate_limits).then(|| {
        let include_vh_rate_limits = spec.include_vh_rate_limits;
        Box::new(LegacyFilters { cors: spec.cors, rate_limits: spec.rate_limits, include_vh_rate_limits })
    });
    let grpc_timeout = (spec.max_grpc_timeout.is_some() || spec.grpc_timeout_offset.is_some())
        .then(|| Box::new(GrpcTimeout { max: spec.max_grpc_timeout, offset: spec.grpc_timeout_offset }));
    Some(Forward {
        cluster: cluster?,
        cluster_not_found_response_code: spec.cluster_not_found_response_code,
        timeout: Some(spec.timeout.unwrap_or(DEFAULT_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        idle_timeout: spec.idle_timeout,
        flush_timeout: spec.flush_timeout,
        max_stream_duration: spec.max_stream_duration.map(Box::new),
        grpc_timeout,
        priority: spec.priority,
        metadata_match,
        retry_policy: retry_policy?,
        append_x_forwarded_host: spec.append_x_forwarded_host,
        mirrors: if mirrors.is_empty() { inherited.mirrors.clone() } else { mirrors },
        hash_policy: hash_policy?,
        upgrades: upgrades?,
        internal_redirect_policy: internal_redirect_policy?.map(Box::new),
        legacy,
        path_rewrite: path_rewrite?.map(Box::new),
        host_rewrite: host_rewrite?.map(Box::new),
    })
}

/// The namespace that load balancers look at.
fn lb_fields(metadata: Option<&Metadata>) -> Option<Arc<Struct>> {
    metadata?.namespace("envoy.lb").cloned().map(Arc::new)
}

fn cluster(
    cx: &mut Build<'_>,
    spec: ClusterSpecifierSpec,
    metadata_match: Option<&Arc<Struct>>,
) -> Option<ClusterSpecifier> {
    match spec {
        ClusterSpecifierSpec::Cluster(name) if name.is_empty() => {
            cx.within("cluster", |cx| cx.error("must not be empty"))
        }
        ClusterSpecifierSpec::Cluster(name) => Some(ClusterSpecifier::Cluster(cx.name(&name))),
        ClusterSpecifierSpec::ClusterHeader(name) => {
            cx.within("cluster_header", |cx| cx.header_name(&name)).map(ClusterSpecifier::Header)
        }
        ClusterSpecifierSpec::Weighted(weighted) => cx
            .within("weighted_clusters", |cx| self::weighted(cx, weighted, metadata_match))
            .map(|weighted| ClusterSpecifier::Weighted(Box::new(weighted))),
    }
}

fn weighted(
    cx: &mut Build<'_>,
    spec: WeightedClustersSpec,
    metadata_match: Option<&Arc<Struct>>,
) -> Option<WeightedClusters> {
    let count = spec.clusters.len();
    let mut entries = Vec::with_capacity(count);
    for (at, cluster) in spec.clusters.into_iter().enumerate() {
        let prefix = &spec.runtime_key_prefix;
        entries.extend(cx.within_item("clusters", at, |cx| entry(cx, cluster, prefix, metadata_match)));
    }
    let random = match spec.random_value {
        RandomValueSpec::Stream => RandomValue::Stream,
        RandomValueSpec::Header(name) if name.is_empty() => RandomValue::Stream,
        RandomValueSpec::Header(name) => RandomValue::Header(cx.within("header_name", |cx| cx.header_name(&name))?),
        RandomValueSpec::HashPolicy => RandomValue::HashPolicy,
    };
    if entries.len() != count {
        return None;
    }
    let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    if total == 0 {
        return cx.error("Sum of weights in the weighted_cluster must be greater than 0.");
    }
    if total > u64::from(u32::MAX) {
        return cx.error(format!("The sum of weights of all weighted clusters exceeds {}", u32::MAX));
    }
    if let Some(declared) = spec.total_weight.filter(|declared| *declared != 0 && u64::from(*declared) != total) {
        cx.within("total_weight", |cx| {
            cx.warning(format!("is {declared}, but the weights add up to {total}, which counts; as in Envoy"));
        });
    }
    Some(WeightedClusters { entries: entries.into(), total, random, runtime: !spec.runtime_key_prefix.is_empty() })
}

fn entry(
    cx: &mut Build<'_>,
    spec: ClusterWeightSpec,
    runtime_prefix: &str,
    metadata_match: Option<&Arc<Struct>>,
) -> Option<WeightedCluster> {
    let name = match (spec.name.is_empty(), spec.cluster_header.is_empty()) {
        (true, true) => cx.error("At least one of name or cluster_header need to be specified"),
        (false, false) => cx.error("Only one of name or cluster_header can be specified"),
        (false, true) => Some(EntryName::Cluster(cx.name(&spec.name))),
        (true, false) => cx.within("cluster_header", |cx| cx.header_name(&spec.cluster_header)).map(EntryName::Header),
    };
    let request = mutations(cx, Side::Request, spec.request_headers);
    let response = mutations(cx, Side::Response, spec.response_headers);
    let per_filter = per_filter(cx, spec.per_filter);
    let own = spec.metadata_match.as_deref().and_then(|metadata| metadata.namespace("envoy.lb"));
    let merged = own.map(|own| {
        let mut fields = metadata_match.map(|outer| (**outer).clone()).unwrap_or_default();
        for (key, value) in own.clone() {
            fields.set(key, value);
        }
        Arc::new(fields)
    });
    Some(WeightedCluster {
        name: name?,
        weight: spec.weight.unwrap_or(0),
        runtime_key: (!runtime_prefix.is_empty()).then(|| format!("{runtime_prefix}.{}", spec.name).into()),
        metadata_match: merged,
        request,
        response,
        per_filter,
        host_rewrite_literal: spec.host_rewrite_literal.into_bytes().into(),
    })
}

fn path_rewrite(cx: &mut Build<'_>, spec: PathRewriteSpec, path: PathMatch<'_>) -> Option<Option<PathRewrite>> {
    match spec {
        PathRewriteSpec::Prefix(prefix) if prefix.is_empty() => Some(None),
        PathRewriteSpec::Prefix(_) if path.template.is_some() => {
            cx.within("prefix_rewrite", |cx| cx.error("Cannot use prefix_rewrite with matcher extension"))
        }
        PathRewriteSpec::Prefix(prefix) => Some(Some(PathRewrite::Prefix(path.matched, prefix.into_bytes().into()))),
        PathRewriteSpec::Regex(regex) => {
            cx.within("regex_rewrite", |cx| cx.substitution(&regex)).map(|s| Some(PathRewrite::Regex(s)))
        }
        PathRewriteSpec::UriTemplate(text) => cx
            .within("path_rewrite_policy.typed_config.path_template_rewrite", |cx| {
                template_rewrite(cx, &text, path.template)
            })
            .map(|s| Some(PathRewrite::Template(s))),
        PathRewriteSpec::Format(text) if text.is_empty() => Some(None),
        PathRewriteSpec::Format(text) => cx
            .within("path_rewrite", |cx| action::format(cx, &text, true))
            .map(|format| Some(PathRewrite::Format(format))),
    }
}

fn template_rewrite(cx: &mut Build<'_>, rewrite: &str, template: Option<&str>) -> Option<Substitution> {
    let Some(template) = template else {
        return cx.error("needs a path_match_policy with a path template, whose variables it uses");
    };
    // A template that does not parse was reported with the match.
    let parsed = template::parse(template).ok()?;
    match template::parse_rewrite(rewrite, &parsed.variables) {
        Ok(substitution) => {
            let spec = SubstitutionSpec { pattern: RegexSpec { regex: parsed.regex }, substitution };
            cx.substitution(&spec)
        }
        Err(message) => cx.error(message),
    }
}

fn host_rewrite(cx: &mut Build<'_>, spec: HostRewriteSpec) -> Option<HostRewrite> {
    match spec {
        HostRewriteSpec::Literal(host) => Some(HostRewrite::Literal(host.into_bytes().into())),
        HostRewriteSpec::Auto => Some(HostRewrite::Auto),
        HostRewriteSpec::Header(name) => {
            cx.within("host_rewrite_header", |cx| cx.header_name(&name)).map(HostRewrite::Header)
        }
        HostRewriteSpec::PathRegex(regex) => {
            cx.within("host_rewrite_path_regex", |cx| cx.substitution(&regex)).map(HostRewrite::PathRegex)
        }
        HostRewriteSpec::Format(text) => {
            cx.within("host_rewrite", |cx| action::format(cx, &text, false)).map(HostRewrite::Format)
        }
    }
}

/// `request_mirror_policies` of any level.
pub(super) fn mirrors(cx: &mut Build<'_>, specs: Vec<MirrorPolicySpec>) -> Arc<[MirrorPolicy]> {
    let mut compiled = Vec::with_capacity(specs.len());
    for (at, spec) in specs.into_iter().enumerate() {
        compiled.extend(cx.within_item("request_mirror_policies", at, |cx| mirror(cx, spec)));
    }
    compiled.into()
}

fn mirror(cx: &mut Build<'_>, spec: MirrorPolicySpec) -> Option<MirrorPolicy> {
    let cluster = match (spec.cluster.as_str(), spec.cluster_header.as_str()) {
        ("", "") => {
            cx.error("Exactly one of cluster or cluster_header in request mirror policy need to be specified")?
        }
        (name, "") => MirrorCluster::Name(cx.name(name)),
        ("", header) => MirrorCluster::Header(cx.within("cluster_header", |cx| cx.header_name(header))?),
        (name, header) => cx.error(format!(
            "Only one of cluster '{name}' or cluster_header '{header}' in request mirror policy can be specified"
        ))?,
    };
    let all = || RuntimeFractionalPercent { default_value: FractionalPercent::ALL, runtime_key: Box::default() };
    Some(MirrorPolicy {
        cluster,
        fraction: spec.runtime_fraction.unwrap_or_else(all),
        trace_sampled: spec.trace_sampled,
        disable_shadow_host_suffix_append: spec.disable_shadow_host_suffix_append,
        host_rewrite_literal: spec.host_rewrite_literal.as_str().into(),
    })
}

pub(super) fn hash_policies(cx: &mut Build<'_>, specs: Vec<HashPolicySpec>) -> Option<Box<[HashPolicy]>> {
    let count = specs.len();
    let mut compiled = Vec::with_capacity(count);
    for (at, spec) in specs.into_iter().enumerate() {
        let input = cx.within_item("hash_policy", at, |cx| hash_input(cx, spec.kind));
        compiled.extend(input.map(|input| HashPolicy { input, terminal: spec.terminal }));
    }
    (compiled.len() == count).then(|| compiled.into())
}

fn hash_input(cx: &mut Build<'_>, spec: HashPolicyKindSpec) -> Option<HashInput> {
    Some(match spec {
        HashPolicyKindSpec::Header { name, rewrite } => {
            let name = cx.within("header.header_name", |cx| cx.header_name(&name));
            let rewrite = match rewrite {
                None => None,
                Some(spec) => Some(cx.within("header.regex_rewrite", |cx| cx.substitution(&spec))?),
            };
            HashInput::Header(name?, rewrite.map(Box::new))
        }
        HashPolicyKindSpec::Cookie { name, ttl, path, attributes } => HashInput::Cookie(Box::new(HashCookie {
            name: name.into(),
            ttl,
            path: path.into(),
            attributes: attributes.into(),
        })),
        HashPolicyKindSpec::SourceIp => HashInput::SourceIp,
        HashPolicyKindSpec::QueryParameter(name) => HashInput::QueryParameter(name.into()),
        HashPolicyKindSpec::FilterState(key) => HashInput::FilterState(key.into()),
    })
}

fn upgrades(cx: &mut Build<'_>, specs: Vec<UpgradeConfigSpec>) -> Option<Box<[Upgrade]>> {
    let count = specs.len();
    let mut compiled: Vec<Upgrade> = Vec::with_capacity(count);
    for (at, spec) in specs.into_iter().enumerate() {
        cx.within_item("upgrade_configs", at, |cx| {
            let kind = spec.upgrade_type.to_ascii_lowercase();
            if compiled.iter().any(|before| *before.kind == *kind) {
                return cx.error::<()>(format!("Duplicate upgrade {}", spec.upgrade_type));
            }
            if spec.connect_config.is_some() && kind != "connect" && kind != "connect-udp" {
                return cx.error(format!("Non-CONNECT upgrade type {} has ConnectConfig", spec.upgrade_type));
            }
            compiled.push(Upgrade { kind: kind.into(), enabled: spec.enabled, connect: spec.connect_config });
            None
        });
    }
    (compiled.len() == count).then(|| compiled.into())
}

fn internal_redirect(cx: &mut Build<'_>, spec: InternalRedirectPolicySpec) -> Option<InternalRedirectPolicy> {
    let mut copied: Vec<HeaderName> = Vec::with_capacity(spec.response_headers_to_copy.len());
    for (at, name) in spec.response_headers_to_copy.iter().enumerate() {
        let name = cx.within_item("response_headers_to_copy", at, |cx| match super::is_modifiable(name) {
            true => cx.header_name(name),
            false => cx.error(":-prefixed headers or Hosts may not be specified here."),
        });
        copied.push(name?);
    }
    let codes = match spec.redirect_response_codes.is_empty() {
        true => vec![302],
        false => spec.redirect_response_codes,
    };
    let known = codes.into_iter().filter_map(|code| u16::try_from(code).ok());
    Some(InternalRedirectPolicy {
        max_internal_redirects: spec.max_internal_redirects.unwrap_or(1),
        response_codes: known.filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308)).collect(),
        predicates: spec.predicates.into(),
        allow_cross_scheme_redirect: spec.allow_cross_scheme_redirect,
        response_headers_to_copy: copied.into(),
    })
}
