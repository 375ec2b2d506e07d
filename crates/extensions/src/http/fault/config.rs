//! `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use super::filter::{Abort, AbortKind, Delay, Fault, FaultFactory, Keys, RateLimit, note_rate_limit_of_route};
use nuncio_api::pb::envoy::extensions::filters::common::fault::v3::{
    FaultDelay, FaultRateLimit, fault_delay::FaultDelaySecifier, fault_rate_limit::LimitType,
};
use nuncio_api::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use nuncio_api::pb::envoy::r#type::v3::FractionalPercent as Percent;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::HttpFilterFactory;
use nuncio_matcher::FractionalPercent;
use nuncio_stats::names::FaultStats;
use std::sync::Arc;

/// The extension.
pub struct FaultExtension;

impl HttpExtension for FaultExtension {
    type Config = HttpFault;
    type PerRoute = HttpFault;
    const NAME: &'static str = "envoy.filters.http.fault";

    fn compile(config: HttpFault, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let scope = cx.scope.child("fault");
        let stats = FaultStats::register(&scope);
        let fault = Arc::new(fault(config, cx)?);
        Ok(Arc::new(FaultFactory { fault, stats, scope, clusters: Arc::default(), active: Arc::default() }))
    }

    fn compile_route(config: HttpFault, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        let fault = fault(config, cx)?;
        if fault.rate_limit.is_some() {
            note_rate_limit_of_route();
        }
        Ok(Arc::new(fault))
    }
}

fn fault(config: HttpFault, cx: &mut Compile<'_>) -> Result<Fault, Invalid> {
    let HttpFault {
        delay,
        abort,
        upstream_cluster,
        headers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        delay_percent_runtime,
        abort_percent_runtime,
        delay_duration_runtime,
        abort_http_status_runtime,
        max_active_faults_runtime,
        response_rate_limit_percent_runtime,
        abort_grpc_status_runtime,
        disable_downstream_cluster_stats,
        filter_metadata,
    } = config;
    let key = |text: String, default: &str| -> Box<str> { if text.is_empty() { default.into() } else { text.into() } };
    Ok(Fault {
        delay: delay.map(|delay| self::delay(&delay, &mut cx.field("delay"))).transpose()?,
        rate_limit: response_rate_limit
            .map(|limit| rate_limit(&limit, &mut cx.field("response_rate_limit")))
            .transpose()?,
        abort: abort.map(|abort| self::abort(abort, &mut cx.field("abort"))).transpose()?,
        upstream_cluster: upstream_cluster.into(),
        headers: lower::headers(&headers, "headers", cx)?.into(),
        downstream_nodes: downstream_nodes.into_iter().map(String::into_boxed_str).collect(),
        max_active: max_active_faults.map(|max| max.value),
        count_downstream: !disable_downstream_cluster_stats,
        metadata: filter_metadata.as_ref().map(lower::structure),
        keys: Keys {
            delay_percent: key(delay_percent_runtime, "fault.http.delay.fixed_delay_percent"),
            abort_percent: key(abort_percent_runtime, "fault.http.abort.abort_percent"),
            delay_duration: key(delay_duration_runtime, "fault.http.delay.fixed_duration_ms"),
            abort_http_status: key(abort_http_status_runtime, "fault.http.abort.http_status"),
            abort_grpc_status: key(abort_grpc_status_runtime, "fault.http.abort.grpc_status"),
            rate_limit_percent: key(response_rate_limit_percent_runtime, "fault.http.rate_limit.response_percent"),
            max_active: key(max_active_faults_runtime, "fault.http.max_active_faults"),
        },
    })
}

fn percentage(percent: Option<&Percent>) -> FractionalPercent {
    percent.map(lower::fractional_percent).unwrap_or_default()
}

fn delay(config: &FaultDelay, cx: &mut Compile<'_>) -> Result<Delay, Invalid> {
    let percentage = percentage(config.percentage.as_ref());
    match &config.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(duration)) => match lower::duration(duration) {
            Some(fixed) => Ok(Delay { percentage, fixed: Some(fixed) }),
            None => Err(cx.field("fixed_delay").error("is not a duration")),
        },
        Some(FaultDelaySecifier::HeaderDelay(_)) => Ok(Delay { percentage, fixed: None }),
        None => Err(cx.error_hint("says no delay", "set fixed_delay or header_delay")),
    }
}

fn rate_limit(config: &FaultRateLimit, cx: &mut Compile<'_>) -> Result<RateLimit, Invalid> {
    let percentage = percentage(config.percentage.as_ref());
    match &config.limit_type {
        Some(LimitType::FixedLimit(limit)) => Ok(RateLimit { percentage, fixed: Some(limit.limit_kbps.max(1)) }),
        Some(LimitType::HeaderLimit(_)) => Ok(RateLimit { percentage, fixed: None }),
        None => Err(cx.error_hint("says no limit", "set fixed_limit or header_limit")),
    }
}

fn abort(config: FaultAbort, cx: &mut Compile<'_>) -> Result<Abort, Invalid> {
    let percentage = percentage(config.percentage.as_ref());
    let kind = match config.error_type {
        Some(ErrorType::HttpStatus(status)) => match u16::try_from(status) {
            Ok(status @ 200..=599) => AbortKind::Http(status),
            _ => return Err(cx.field("http_status").error(format!("found {status}, expected 200 to 599"))),
        },
        Some(ErrorType::GrpcStatus(status)) => AbortKind::Grpc(status),
        Some(ErrorType::HeaderAbort(_)) => AbortKind::Header,
        None => return Err(cx.error_hint("says no status", "set http_status, grpc_status or header_abort")),
    };
    let body = if config.response_body.is_empty() { "fault filter abort".to_owned() } else { config.response_body };
    Ok(Abort { percentage, kind, body: body.into() })
}
