//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.

use super::{filters, options, plugins};
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_config::lower;
use nuncio_config::sources::{DynamicUse, RoutesUse};
use nuncio_hcm::config::{AccessLogOptions, CodecType, HcmConfig, HcmStats, RouteSource};
use nuncio_http::h1::{RequestOptions, Spelling};
use nuncio_http::h2::Http2Options;
use nuncio_route::LiveRoutes;
use nuncio_stats::Scope;
use nuncio_stats::names::{HttpConnectionManagerStats, ListenerHttpStats, RouterStats, TracingStats};
use pb::http_connection_manager::RouteSpecifier;
use std::sync::Arc;
use std::time::Duration;

/// The extension.
pub struct HttpConnectionManager;

impl NetworkExtension for HttpConnectionManager {
    type Config = pb::HttpConnectionManager;
    const NAME: &'static str = "envoy.filters.network.http_connection_manager";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        let compiled = compile(config, cx)?;
        Ok(NetworkFactory::Terminal(nuncio_hcm::HttpConnectionManager::new(compiled)))
    }
}

fn compile(config: pb::HttpConnectionManager, cx: &mut Compile<'_>) -> Result<HcmConfig, Invalid> {
    let prefix = nuncio_stats::sanitize(&config.stat_prefix);
    let stats = stats(&prefix, cx);
    report_unsupported(&config, cx);
    let codec = codec(&config, cx);
    let scope = stats.scope.clone();
    let chain = filters::chain(&config.http_filters, &mut cx.scoped(scope.clone()));
    let upgrades = filters::upgrades(&config.upgrade_configs, &mut cx.scoped(scope.clone()));
    let routes = routes(config.route_specifier.clone(), &scope, cx);
    let access_logs = lower::access_logs(&config.access_log, "access_log", cx);
    let local_reply = options::local_reply(config.local_reply_config.clone(), cx);
    let trust = options::trust(&config, cx);
    let request_options = options::request(&config, cx);
    let forward_client_cert_matcher = options::forward_client_cert_matcher(&config, cx);
    let client_cert_details = options::client_cert_details(config.set_current_client_cert_details.as_ref());
    let early = plugins::early_mutations(&config.early_header_mutation_extensions, cx);
    let request_id = options::request_id(&config, cx);
    let http2 = http2(&config, &request_options, cx);
    let (filters, router) = chain?;
    let header_format = config.http_protocol_options.as_ref();
    let keep_spelling = request_options.keep_spelling;
    Ok(HcmConfig {
        stats,
        trailers: options::trailers(&config, &request_options),
        request_options: Arc::new(request_options),
        codec,
        http2,
        spelling: options::spelling(header_format, keep_spelling),
        filters,
        router,
        routes: routes?,
        upgrades: upgrades?,
        server_name: if config.server_name.is_empty() { "envoy".into() } else { config.server_name.as_str().into() },
        server_header: options::server_header(&config),
        via: config.via.as_str().into(),
        trust: trust?,
        request_id: request_id?,
        path: options::path(&config),
        strip_port: options::strip_port(&config),
        strip_trailing_host_dot: config.strip_trailing_host_dot,
        forward_client_cert: options::forward_client_cert(config.forward_client_cert_details()),
        forward_client_cert_matcher: forward_client_cert_matcher?,
        client_cert_details,
        add_user_agent: options::add_user_agent(&config, cx),
        timeouts: options::timeouts(&config),
        max_requests_per_connection: options::max_requests(&config),
        proxy_100_continue: config.proxy_100_continue,
        stream_error_on_invalid_message: options::keeps_after_errors(&config),
        access_logs: access_logs?,
        access_log_options: access_log_options(&config),
        local_reply: local_reply?,
        proxy_status: plugins::proxy_status(&config, cx),
        early_header_mutations: early?,
    })
}

fn stats(prefix: &str, cx: &Compile<'_>) -> HcmStats {
    let scope = cx.store.scope(&format!("http.{prefix}"), &[]);
    let listener = cx.store.scope(&format!("{}.http.{prefix}", cx.facts.listener_stat_prefix), &[]);
    HcmStats {
        manager: HttpConnectionManagerStats::register(&scope),
        router: RouterStats::register(&scope),
        tracing: TracingStats::register(&scope.child("tracing")),
        listener: ListenerHttpStats::register(&listener),
        scope,
        root: cx.store.scope("", &[]),
    }
}

/// Which protocol connections speak. HTTP/3 comes from another codec, which is not there yet.
fn codec(config: &pb::HttpConnectionManager, cx: &mut Compile<'_>) -> CodecType {
    use pb::http_connection_manager::CodecType as Wanted;
    match Wanted::try_from(config.codec_type) {
        Ok(Wanted::Auto) => return CodecType::Auto,
        Ok(Wanted::Http1) => return CodecType::Http1,
        Ok(Wanted::Http2) => return CodecType::Http2,
        Ok(Wanted::Http3) => cx.field("codec_type").error("HTTP/3 is not built yet: use AUTO, HTTP1 or HTTP2"),
        Err(_) => {
            let text = format!("{} is not a codec type: use AUTO, HTTP1 or HTTP2", config.codec_type);
            cx.field("codec_type").error(text)
        }
    };
    CodecType::Auto
}

/// How HTTP/2 is spoken, within the limits of requests that all protocols share.
fn http2(config: &pb::HttpConnectionManager, request: &RequestOptions, cx: &mut Compile<'_>) -> Http2Options {
    let options = config.http2_protocol_options.clone().unwrap_or_default();
    let lowered = lower::http2_options(&options, &mut cx.field("http2_protocol_options"));
    let of_manager = config.stream_error_on_invalid_http_message.map(|wanted| wanted.value);
    let stream_error = match of_manager {
        Some(wanted) if options.override_stream_error_on_invalid_http_message.is_none() => wanted,
        _ => lowered.stream_error_on_invalid_message,
    };
    Http2Options {
        max_header_list_bytes: request.max_head_bytes,
        max_headers: request.max_headers,
        underscores: request.underscores,
        stream_error_on_invalid_message: stream_error,
        ..lowered
    }
}

fn routes(specifier: Option<RouteSpecifier>, scope: &Scope, cx: &mut Compile<'_>) -> Result<RouteSource, Invalid> {
    match specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => {
            lower::route_config(&mut cx.field("route_config"), routes).map(RouteSource::Fixed)
        }
        Some(RouteSpecifier::Rds(rds)) => discovered(&rds, scope, &mut cx.field("rds")),
        Some(RouteSpecifier::ScopedRoutes(scoped)) => {
            lower::scoped_routes(&scoped, scope, &mut cx.field("scoped_routes")).map(RouteSource::Scoped)
        }
        None => Err(cx.error_hint("has no routes", "set route_config, rds or scoped_routes")),
    }
}

/// `rds`: the table is put where requests look for it when discovery brings it.
fn discovered(rds: &pb::Rds, scope: &Scope, cx: &mut Compile<'_>) -> Result<RouteSource, Invalid> {
    let pb::Rds { config_source, route_config_name } = rds;
    let Some(source) = config_source else { return Err(cx.field("config_source").error("is required")) };
    let source = lower::config_source(source, &mut cx.field("config_source"))?;
    let routes = Arc::new(LiveRoutes::new());
    let used = RoutesUse::new((route_config_name.as_str().into(), source), Arc::clone(&routes), scope);
    cx.references.dynamic.push(DynamicUse::Routes(Arc::new(used)));
    Ok(RouteSource::Live(routes))
}

fn access_log_options(config: &pb::HttpConnectionManager) -> AccessLogOptions {
    let (interval, on_new_request) = match &config.access_log_options {
        Some(options) => (options.access_log_flush_interval.as_ref(), options.flush_access_log_on_new_request),
        #[allow(deprecated)]
        None => (config.access_log_flush_interval.as_ref(), config.flush_access_log_on_new_request),
    };
    let interval = interval.and_then(lower::duration).map(|interval| interval.max(Duration::from_millis(1)));
    AccessLogOptions { on_new_request, interval }
}

/// Fields that are accepted and not acted on.
fn report_unsupported(config: &pb::HttpConnectionManager, cx: &mut Compile<'_>) {
    cx.unsupported_if(config.tracing.is_some(), "tracing");
    cx.unsupported_if(config.http3_protocol_options.is_some(), "http3_protocol_options");
    cx.unsupported_if(config.http1_safe_max_connection_duration, "http1_safe_max_connection_duration");
    cx.unsupported_if(config.stream_flush_timeout.is_some(), "stream_flush_timeout");
    cx.unsupported_if(config.drain_timeout_jitter.is_some(), "drain_timeout_jitter");
    cx.unsupported_if(config.append_local_overload, "append_local_overload");
    cx.unsupported_if(config.forward_proto_config.is_some(), "forward_proto_config");
    cx.unsupported_if(config.path_normalization_options.is_some(), "path_normalization_options");
    if let Some(extension) = &config.typed_header_validation_config {
        cx.refuse("typed_header_validation_config", &format!("{} would not validate headers", extension.name));
    }
}

/// How names are written where they were kept as received.
pub(super) fn preserved(keep: bool) -> Spelling {
    if keep { Spelling::Preserve } else { Spelling::Lower }
}
