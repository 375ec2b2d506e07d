//! `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

use super::buckets::{Buckets, DescriptorBucket, Dynamic};
use super::filter::{Limit, LocalRateLimitFactory, VirtualHostLimits};
use crate::network::TokenBucket;
use nuncio_api::pb::envoy::extensions::common::ratelimit::v3::{LocalRateLimitDescriptor, VhRateLimitsOptions};
use nuncio_api::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use nuncio_api::pb::envoy::r#type::v3::TokenBucket as BucketConfig;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::HttpFilterFactory;
use nuncio_matcher::RuntimeFractionalPercent;
use nuncio_stats::names::HttpLocalRateLimitStats;
use std::sync::Arc;
use std::time::Duration;

/// The extension.
pub struct LocalRateLimitExtension;

impl HttpExtension for LocalRateLimitExtension {
    type Config = LocalRateLimit;
    type PerRoute = LocalRateLimit;
    const NAME: &'static str = "envoy.filters.http.local_ratelimit";

    fn compile(config: LocalRateLimit, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        Ok(Arc::new(LocalRateLimitFactory { limit: Arc::new(limit(config, cx)?) }))
    }

    fn compile_route(config: LocalRateLimit, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        if config.token_bucket.is_none() {
            return Err(cx.field("token_bucket").error("is required on a route"));
        }
        Ok(Arc::new(limit(config, cx)?))
    }
}

/// The shortest `fill_interval` that Envoy takes.
const SHORTEST_FILL: Duration = Duration::from_millis(50);

fn limit(config: LocalRateLimit, cx: &mut Compile<'_>) -> Result<Limit, Invalid> {
    report_unsupported(&config, cx);
    let LocalRateLimit {
        stat_prefix,
        status,
        token_bucket,
        filter_enabled,
        filter_enforced,
        request_headers_to_add_when_not_enforced,
        response_headers_to_add,
        enable_x_ratelimit_headers,
        rate_limited_as_resource_exhausted,
        descriptors,
        stage,
        local_rate_limit_per_downstream_connection,
        local_cluster_rate_limit: _,
        vh_rate_limits,
        always_consume_default_token_bucket,
        rate_limits,
        max_dynamic_descriptors,
        enable_retry_after_header,
    } = config;
    let default = token_bucket.map(|config| bucket(&config, cx).map(Arc::new)).transpose();
    let most = max_dynamic_descriptors.map_or(MOST_DYNAMIC, |most| most.value);
    let descriptors = self::descriptors(&descriptors, most, cx);
    let policies = lower::rate_limits(&rate_limits, "rate_limits", cx);
    let fraction = |value: Option<nuncio_api::pb::envoy::config::core::v3::RuntimeFractionalPercent>| {
        value.as_ref().map(lower::runtime_fraction)
    };
    let status =
        status.and_then(|status| u16::try_from(status.code).ok()).filter(|status| *status >= 400).unwrap_or(429);
    let request = lower::request_edits(
        &request_headers_to_add_when_not_enforced,
        &[],
        "request_headers_to_add_when_not_enforced",
        cx,
    );
    let response = lower::response_edits(&response_headers_to_add, &[], "response_headers_to_add", cx);
    let prefix = nuncio_stats::sanitize(&stat_prefix);
    let scope = cx.store.scope(&format!("{prefix}.http_local_rate_limit"), &[]);
    Ok(Limit {
        id: Limit::next_id(),
        buckets: Arc::new(Buckets {
            default: default?,
            descriptors: descriptors?,
            always_default: always_consume_default_token_bucket.is_none_or(|always| always.value),
        }),
        per_connection: local_rate_limit_per_downstream_connection,
        policies: policies?,
        stage,
        virtual_host: match VhRateLimitsOptions::try_from(vh_rate_limits) {
            Ok(VhRateLimitsOptions::Include) => VirtualHostLimits::Include,
            Ok(VhRateLimitsOptions::Ignore) => VirtualHostLimits::Ignore,
            _ => VirtualHostLimits::Override,
        },
        retry_after: enable_retry_after_header,
        enabled: fraction(filter_enabled).unwrap_or_else(RuntimeFractionalPercent::default),
        enforced: fraction(filter_enforced).unwrap_or_else(RuntimeFractionalPercent::default),
        status,
        request_edits: request?,
        response_edits: Arc::new(response?),
        x_ratelimit_headers: enable_x_ratelimit_headers != 0,
        resource_exhausted: rate_limited_as_resource_exhausted,
        stats: HttpLocalRateLimitStats::register(&scope),
    })
}

/// `max_dynamic_descriptors`, where none is given.
const MOST_DYNAMIC: u32 = 20;

fn bucket(config: &BucketConfig, cx: &mut Compile<'_>) -> Result<TokenBucket, Invalid> {
    let mut cx = cx.field("token_bucket");
    let interval = config.fill_interval.as_ref().and_then(lower::duration).unwrap_or_default();
    if interval < SHORTEST_FILL {
        return Err(cx.field("fill_interval").error("local rate limit token bucket fill timer must be >= 50ms"));
    }
    Ok(TokenBucket::new(config.max_tokens, config.tokens_per_fill.map_or(1, |tokens| tokens.value), interval))
}

fn descriptors(
    configs: &[LocalRateLimitDescriptor],
    most: u32,
    cx: &mut Compile<'_>,
) -> Result<Box<[DescriptorBucket]>, Invalid> {
    let mut found: Vec<DescriptorBucket> = Vec::with_capacity(configs.len());
    for (index, config) in configs.iter().enumerate() {
        let mut cx = cx.element("descriptors", index);
        let LocalRateLimitDescriptor { entries, token_bucket, shadow_mode } = config;
        let Some(token_bucket) = token_bucket else { return Err(cx.field("token_bucket").error("is required")) };
        let entries: Box<[_]> = entries
            .iter()
            .map(|entry| {
                let value = Some(entry.value.as_str()).filter(|value| !value.is_empty());
                (Box::from(entry.key.as_str()), value.map(Box::from))
            })
            .collect();
        if let Some(first) = found.iter().position(|known| known.entries == entries) {
            let text = format!("has the same entries as descriptors[{first}]");
            return Err(cx.error_hint(text, "remove one of them"));
        }
        let is_open = entries.iter().any(|(_, value)| value.is_none());
        found.push(DescriptorBucket {
            entries,
            bucket: Arc::new(bucket(token_bucket, &mut cx)?),
            shadow: *shadow_mode,
            dynamic: is_open.then(|| Dynamic::new(most as usize)),
        });
    }
    Ok(found.into())
}

fn report_unsupported(config: &LocalRateLimit, cx: &mut Compile<'_>) {
    cx.unsupported_if(config.local_cluster_rate_limit.is_some(), "local_cluster_rate_limit");
}
