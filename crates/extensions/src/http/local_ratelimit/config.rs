//! `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

use super::filter::{Limit, LocalRateLimitFactory};
use crate::network::TokenBucket;
use nuncio_api::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
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
        ..
    } = config;
    let bucket = token_bucket.map(|bucket| {
        let mut cx = cx.field("token_bucket");
        let interval = bucket.fill_interval.as_ref().and_then(lower::duration).unwrap_or_default();
        if interval < SHORTEST_FILL {
            return Err(cx.field("fill_interval").error("local rate limit token bucket fill timer must be >= 50ms"));
        }
        Ok(TokenBucket::new(bucket.max_tokens, bucket.tokens_per_fill.map_or(1, |tokens| tokens.value), interval))
    });
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
        bucket: bucket.transpose()?,
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

fn report_unsupported(config: &LocalRateLimit, cx: &mut Compile<'_>) {
    if !config.descriptors.is_empty() {
        cx.refuse("descriptors", "requests would be limited by the default bucket only");
    }
    if !config.rate_limits.is_empty() {
        cx.refuse("rate_limits", "requests would be limited by the default bucket only");
    }
    cx.unsupported_if(config.stage != 0, "stage");
    let per_connection = config.local_rate_limit_per_downstream_connection;
    cx.unsupported_if(per_connection, "local_rate_limit_per_downstream_connection");
    cx.unsupported_if(config.local_cluster_rate_limit.is_some(), "local_cluster_rate_limit");
    cx.unsupported_if(config.vh_rate_limits != 0, "vh_rate_limits");
    let always = config.always_consume_default_token_bucket.is_some();
    cx.unsupported_if(always, "always_consume_default_token_bucket");
    cx.unsupported_if(config.max_dynamic_descriptors.is_some(), "max_dynamic_descriptors");
    cx.unsupported_if(config.enable_retry_after_header, "enable_retry_after_header");
}
