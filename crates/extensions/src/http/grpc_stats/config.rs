//! `envoy.extensions.filters.http.grpc_stats.v3.FilterConfig`.

use super::filter::{GrpcStatsFactory, Options, PerMethod};
use nuncio_api::pb::envoy::config::core::v3::GrpcMethodList;
use nuncio_api::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use nuncio_api::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier as Which;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use std::collections::HashSet;
use std::sync::Arc;

/// The extension.
pub struct GrpcStatsExtension;

impl HttpExtension for GrpcStatsExtension {
    type Config = FilterConfig;
    type PerRoute = FilterConfig;
    const NAME: &'static str = "envoy.filters.http.grpc_stats";

    fn compile(config: FilterConfig, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let FilterConfig {
            emit_filter_state,
            enable_upstream_stats,
            replace_dots_in_grpc_service_name,
            per_method_stat_specifier,
        } = config;
        let per_method = match per_method_stat_specifier {
            None => PerMethod::None,
            Some(Which::StatsForAllMethods(all)) if !all.value => PerMethod::None,
            Some(Which::StatsForAllMethods(_)) if replace_dots_in_grpc_service_name => PerMethod::AllWithoutDots,
            Some(Which::StatsForAllMethods(_)) => PerMethod::All,
            Some(Which::IndividualMethodStatsAllowlist(list)) => PerMethod::Listed(methods(list, cx)?),
        };
        if replace_dots_in_grpc_service_name && !matches!(per_method, PerMethod::AllWithoutDots) {
            let mut cx = cx.field("replace_dots_in_grpc_service_name");
            cx.warn_hint("does nothing without stats_for_all_methods", "set stats_for_all_methods, or leave it out");
        }
        let options = Options { emit_filter_state, upstream_time: enable_upstream_stats, per_method };
        Ok(Arc::new(GrpcStatsFactory { options: Arc::new(options) }))
    }

    fn compile_route(_config: FilterConfig, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}

/// The methods of the list, as `<service>/<method>`.
fn methods(list: GrpcMethodList, cx: &mut Compile<'_>) -> Result<HashSet<Box<str>>, Invalid> {
    let mut cx = cx.field("individual_method_stats_allowlist");
    let mut found = HashSet::new();
    for (index, service) in list.services.iter().enumerate() {
        let mut cx = cx.element("services", index);
        if service.name.is_empty() {
            return Err(cx.field("name").error("is required"));
        }
        if service.method_names.is_empty() {
            return Err(cx.field("method_names").error("names no method"));
        }
        found.extend(service.method_names.iter().map(|method| format!("{}/{method}", service.name).into()));
    }
    Ok(found)
}
