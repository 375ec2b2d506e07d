//! `envoy.extensions.filters.http.health_check.v3.HealthCheck`.

use super::filter::{Cache, HealthCheck, HealthCheckFactory, MinHealthy};
use nuncio_api::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck as Config;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::HttpFilterFactory;
use nuncio_stats::names::HealthCheckFilterStats;
use std::sync::Arc;
use std::time::Duration;

/// The extension.
pub struct HealthCheckExtension;

impl HttpExtension for HealthCheckExtension {
    type Config = Config;
    type PerRoute = Config;
    const NAME: &'static str = "envoy.filters.http.health_check";

    fn compile(config: Config, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let Config { pass_through_mode, cache_time, cluster_min_healthy_percentages, headers } = config;
        let Some(pass_through) = pass_through_mode.map(|mode| mode.value) else {
            return Err(cx.field("pass_through_mode").error("is required"));
        };
        let cache_time = cache_time.as_ref().and_then(lower::duration).filter(|time| *time >= Duration::from_millis(1));
        if !pass_through && cache_time.is_some() {
            return Err(cx
                .field("cache_time")
                .error("cache_time_ms must not be set when path_through_mode is disabled"));
        }
        let mut min_healthy: Vec<MinHealthy> = Vec::new();
        if !pass_through {
            for (cluster, percent) in cluster_min_healthy_percentages {
                min_healthy.push(MinHealthy { cluster: cluster.into(), percent: percent.value });
            }
            min_healthy.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        }
        Ok(Arc::new(HealthCheckFactory(Arc::new(HealthCheck {
            pass_through,
            cache: cache_time.map(Cache::new),
            min_healthy: min_healthy.into(),
            headers: lower::headers(&headers, "headers", cx)?.into(),
            node_cluster: Arc::clone(&cx.facts.node_cluster),
            stats: HealthCheckFilterStats::register(&cx.scope.child("health_check")),
        }))))
    }

    fn compile_route(_config: Config, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}
