//! `HealthCheck`.

use crate::compile::{Compile, Invalid, message_of};
use crate::lower::number::{Wrapped, duration_field, port, status_ranges};
use crate::lower::{format, matcher, value};
use nuncio_api::pb::envoy::config::core::v3 as pb;
use nuncio_api::pb::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use nuncio_api::pb::envoy::r#type::matcher::v3::StringMatcher;
use nuncio_api::pb::envoy::r#type::v3::CodecClientType;
use nuncio_cluster::config::{
    GrpcHealthCheck, HealthCheck, HealthChecker, HttpHealthCheck, Payload, RequestHeader, ServiceNameMatcher,
    TcpHealthCheck,
};
use nuncio_headers::HeaderName;
use prost::Name;
use std::sync::Arc;
use std::time::Duration;

/// `health_checks`: one at most, as in Envoy.
pub(super) fn health_check(
    checks: &[pb::HealthCheck],
    cx: &mut Compile<'_>,
) -> Result<Option<Box<HealthCheck>>, Invalid> {
    match checks {
        [] => Ok(None),
        [check] => lower(check, &mut cx.element("health_checks", 0)).map(|check| Some(Box::new(check))),
        _ => Err(cx.element("health_checks", 1).error("Multiple health checks not supported")),
    }
}

fn lower(check: &pb::HealthCheck, cx: &mut Compile<'_>) -> Result<HealthCheck, Invalid> {
    #[allow(deprecated)]
    let pb::HealthCheck {
        timeout,
        interval,
        initial_jitter,
        interval_jitter,
        interval_jitter_percent,
        unhealthy_threshold,
        healthy_threshold,
        alt_port,
        reuse_connection,
        no_traffic_interval,
        no_traffic_healthy_interval,
        unhealthy_interval,
        unhealthy_edge_interval,
        healthy_edge_interval,
        event_log_path,
        event_logger,
        event_service,
        always_log_health_check_failures,
        always_log_health_check_success,
        tls_options,
        transport_socket_match_criteria,
        health_checker,
    } = check;
    cx.unsupported_if(event_service.is_some(), "event_service");
    let before = cx.errors();
    let checker = checker(health_checker.as_ref(), cx);
    let event_logs = event_logs(event_log_path, event_logger, cx);
    let alt_port = alt_port.get().map(|value| port(value, "alt_port", cx)).transpose();
    let mut interval_of = |value, field| duration_field(value, field, cx).ok().flatten();
    let timeout = interval_of(timeout, "timeout").unwrap_or_default();
    let interval = interval_of(interval, "interval").unwrap_or(Duration::from_secs(1));
    let initial_jitter = interval_of(initial_jitter, "initial_jitter").unwrap_or_default();
    let interval_jitter = interval_of(interval_jitter, "interval_jitter").unwrap_or_default();
    let no_traffic = interval_of(no_traffic_interval, "no_traffic_interval");
    let no_traffic_healthy_interval = interval_of(no_traffic_healthy_interval, "no_traffic_healthy_interval");
    let unhealthy_interval = interval_of(unhealthy_interval, "unhealthy_interval");
    let unhealthy_edge_interval = interval_of(unhealthy_edge_interval, "unhealthy_edge_interval");
    let healthy_edge_interval = interval_of(healthy_edge_interval, "healthy_edge_interval");
    cx.unless_errors_since(before)?;
    let thresholds = (unhealthy_threshold.value_or(1), healthy_threshold.value_or(1));
    let defaults = HealthCheck::new(timeout, interval, thresholds, checker?);
    Ok(HealthCheck {
        initial_jitter,
        interval_jitter,
        interval_jitter_percent: *interval_jitter_percent,
        alt_port: alt_port?,
        reuse_connection: reuse_connection.value_or(true),
        no_traffic_interval: no_traffic.unwrap_or(defaults.no_traffic_interval),
        no_traffic_healthy_interval,
        unhealthy_interval,
        unhealthy_edge_interval,
        healthy_edge_interval,
        event_logs: event_logs?,
        always_log_health_check_failures: *always_log_health_check_failures,
        always_log_health_check_success: *always_log_health_check_success,
        transport_criteria: transport_socket_match_criteria.as_ref().map(value::structure),
        alpn_protocols: tls_options
            .iter()
            .flat_map(|options| &options.alpn_protocols)
            .map(|protocol| protocol.clone().into_bytes())
            .collect(),
        ..defaults
    })
}

fn event_logs(
    path: &str,
    loggers: &[pb::TypedExtensionConfig],
    cx: &mut Compile<'_>,
) -> Result<Vec<Arc<str>>, Invalid> {
    let mut paths = matcher::list(loggers, "event_logger", cx, |logger, cx| {
        let any = logger.typed_config.as_ref().filter(|any| message_of(any) == HealthCheckEventFileSink::full_name());
        let Some(any) = any else {
            let text = format!("the event logger {} is not built", logger.name);
            return Err(cx.error_hint(text, "envoy.health_check.event_sink.file is"));
        };
        let HealthCheckEventFileSink { event_log_path } = cx.decode(any)?;
        Ok(Arc::from(event_log_path))
    })?;
    if !path.is_empty() {
        paths.insert(0, path.into());
    }
    Ok(paths)
}

fn checker(checker: Option<&pb::health_check::HealthChecker>, cx: &mut Compile<'_>) -> Result<HealthChecker, Invalid> {
    use pb::health_check::HealthChecker as Kind;
    match checker {
        None => Err(cx.error_hint("has no checker", "set http_health_check or tcp_health_check")),
        Some(Kind::HttpHealthCheck(check)) => {
            Ok(HealthChecker::Http(Box::new(http(check, &mut cx.field("http_health_check"))?)))
        }
        Some(Kind::TcpHealthCheck(check)) => Ok(HealthChecker::Tcp(tcp(check, &mut cx.field("tcp_health_check"))?)),
        Some(Kind::GrpcHealthCheck(check)) => {
            let pb::health_check::GrpcHealthCheck { service_name, authority, initial_metadata } = check;
            let mut cx = cx.field("grpc_health_check");
            Ok(HealthChecker::Grpc(Box::new(GrpcHealthCheck {
                service_name: service_name.as_str().into(),
                authority: (!authority.is_empty()).then(|| authority.as_str().into()),
                initial_metadata: matcher::list(initial_metadata, "initial_metadata", &mut cx, request_header)?,
            })))
        }
        Some(Kind::CustomHealthCheck(custom)) => {
            let text = format!("the health checker {} is not built", custom.name);
            Err(cx.field("custom_health_check").error_hint(text, "use http_health_check or tcp_health_check"))
        }
    }
}

fn http(check: &pb::health_check::HttpHealthCheck, cx: &mut Compile<'_>) -> Result<HttpHealthCheck, Invalid> {
    let pb::health_check::HttpHealthCheck {
        host,
        path,
        send,
        receive,
        response_buffer_size,
        request_headers_to_add,
        request_headers_to_remove,
        expected_statuses,
        retriable_statuses,
        codec_client_type: _,
        service_name_matcher,
        method: _,
    } = check;
    let before = cx.errors();
    cx.unsupported_if(send.is_some(), "send");
    let http2 = match check.codec_client_type() {
        CodecClientType::Http1 => false,
        CodecClientType::Http2 => true,
        CodecClientType::Http3 => {
            cx.field("codec_client_type").error("HTTP/3 is not built yet: use HTTP1 or HTTP2");
            false
        }
    };
    let defaults = HttpHealthCheck::new(path.as_str());
    let add = matcher::list(request_headers_to_add, "request_headers_to_add", cx, request_header);
    let remove = matcher::list(request_headers_to_remove, "request_headers_to_remove", cx, |name: &String, cx| {
        header_name(name, cx)
    });
    let expected = status_ranges(expected_statuses, "expected_statuses", cx);
    let retriable = status_ranges(retriable_statuses, "retriable_statuses", cx);
    let receive = matcher::list(receive, "receive", cx, payload);
    let service = service_name_matcher.as_ref();
    let service = service.map(|matcher| service_name(matcher, &mut cx.field("service_name_matcher"))).transpose();
    cx.unless_errors_since(before)?;
    let method = check.method();
    Ok(HttpHealthCheck {
        host: (!host.is_empty()).then(|| host.as_str().into()),
        method: match method {
            pb::RequestMethod::MethodUnspecified => defaults.method,
            method => method.as_str_name().into(),
        },
        request_headers_to_add: add?,
        request_headers_to_remove: remove?,
        expected_statuses: Some(expected?).filter(|ranges| !ranges.is_empty()).unwrap_or(defaults.expected_statuses),
        retriable_statuses: retriable?,
        service_name_matcher: service?,
        http2,
        receive: receive?,
        response_buffer_size: response_buffer_size.value_or(defaults.response_buffer_size),
        path: defaults.path,
    })
}

fn service_name(matcher: &StringMatcher, cx: &mut Compile<'_>) -> Result<ServiceNameMatcher, Invalid> {
    let compiled = matcher::string(matcher, cx)?;
    Ok(ServiceNameMatcher {
        source: format!("{matcher:?}").into(),
        matches: Arc::new(move |name| compiled.matches(name.as_bytes())),
    })
}

fn header_name(name: &str, cx: &mut Compile<'_>) -> Result<HeaderName, Invalid> {
    HeaderName::new(name).map_err(|error| cx.error(error.to_string()))
}

/// A header of the check. There is no stream that its value could tell of, so it must be constant.
fn request_header(option: &pb::HeaderValueOption, cx: &mut Compile<'_>) -> Result<RequestHeader, Invalid> {
    use nuncio_route::spec::AppendAction;
    let spec = format::header_mutations(std::slice::from_ref(option), &[]).add.into_iter().next().unwrap_or_default();
    let append = match spec.append_action {
        AppendAction::AppendIfExistsOrAdd => true,
        AppendAction::OverwriteIfExistsOrAdd => false,
        AppendAction::AddIfAbsent | AppendAction::OverwriteIfExists => {
            let hint = "use APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD";
            return Err(cx.field("append_action").error_hint("is not built for health checks", hint));
        }
    };
    let mut cx = cx.field("header");
    let name = header_name(&spec.name, &mut cx.field("key"))?;
    let mut cx = cx.field("value");
    let value = format::plain_format(&spec.value, &mut cx)?;
    match value.constant() {
        Some(text) => Ok(RequestHeader { name, value: text.as_bytes().into(), append }),
        None => {
            Err(cx.error_hint("has a command, which is not built for health checks", "write %% for a percent sign"))
        }
    }
}

fn tcp(check: &pb::health_check::TcpHealthCheck, cx: &mut Compile<'_>) -> Result<TcpHealthCheck, Invalid> {
    let pb::health_check::TcpHealthCheck { send, receive, proxy_protocol_config } = check;
    let before = cx.errors();
    if proxy_protocol_config.is_some() {
        cx.field("proxy_protocol_config").error("is not built yet: hosts that want the PROXY protocol would fail");
    }
    let send = send.as_ref().map(|send| payload(send, &mut cx.field("send"))).transpose();
    let receive = matcher::list(receive, "receive", cx, payload);
    cx.unless_errors_since(before)?;
    Ok(TcpHealthCheck { send: send?, receive: receive? })
}

fn payload(payload: &pb::health_check::Payload, cx: &mut Compile<'_>) -> Result<Payload, Invalid> {
    use pb::health_check::payload::Payload as Kind;
    match &payload.payload {
        None => Err(cx.error_hint("is empty", "set text, in hexadecimal, or binary")),
        Some(Kind::Binary(bytes)) => Ok(bytes.as_slice().into()),
        Some(Kind::Text(text)) => match hexadecimal(text) {
            Some(bytes) => Ok(bytes.into()),
            None => {
                let text = format!("invalid hex string '{text}'");
                Err(cx.field("text").error_hint(text, "write two digits for each byte, such as 50494e47 for PING"))
            }
        },
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] << 4) | pair[1]).collect())
}
