//! HTTP to hosts: `typed_extension_protocol_options` and the deprecated fields before it.

#![allow(deprecated)] // Deprecated fields still work.

use super::or_none;
use crate::compile::{Compile, Invalid, message_of};
use crate::lower::http2::http2_options;
use crate::lower::number::{Wrapped, duration_field};
use crate::lower::route::hash_policies;
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use nuncio_api::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use nuncio_api::pb::envoy::extensions::upstreams::http::v3 as http;
use nuncio_api::pb::envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions;
use nuncio_cluster::config::{AutoSni, Http1Options, HttpProtocolOptions, UpstreamProtocol};
use nuncio_headers::HeaderName;
use nuncio_http::h1::{Spelling, Underscores};
use prost::Name;

/// The HTTP options of a cluster.
pub(super) fn http_options(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<HttpProtocolOptions, Invalid> {
    let before = cx.errors();
    let mut options = HttpProtocolOptions::default();
    let typed = typed_options(cluster, cx)?;
    #[allow(deprecated)]
    match typed {
        Some(typed) => {
            let key = http::HttpProtocolOptions::full_name();
            let key = cluster.typed_extension_protocol_options.keys().find(|name| **name == key);
            let name = key.cloned().unwrap_or_default();
            let mut cx = cx.entry("typed_extension_protocol_options", &name);
            typed_fields(&typed, &mut options, &mut cx);
        }
        None => deprecated_fields(cluster, &mut options, cx),
    }
    max_requests(cluster, &mut options, cx);
    cx.unless_errors_since(before)?;
    Ok(options)
}

/// The `HttpProtocolOptions` of the map; other entries are reported.
fn typed_options(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Option<http::HttpProtocolOptions>, Invalid> {
    let mut found = None;
    let mut entries: Vec<_> = cluster.typed_extension_protocol_options.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| name.as_str());
    for (name, any) in entries {
        let mut cx = cx.entry("typed_extension_protocol_options", name);
        let message = message_of(any);
        if message == http::HttpProtocolOptions::full_name() {
            found = Some(cx.decode(any)?);
        } else if message == TcpProtocolOptions::full_name() {
            let TcpProtocolOptions { idle_timeout } = cx.decode(any)?;
            cx.unsupported_if(idle_timeout.is_some(), "idle_timeout");
        } else {
            cx.error(format!("the protocol options {name} ({message}) are not built"));
        }
    }
    Ok(found)
}

fn deprecated_fields(cluster: &pb::Cluster, options: &mut HttpProtocolOptions, cx: &mut Compile<'_>) {
    #[allow(deprecated)]
    let pb::Cluster { common_http_protocol_options, http_protocol_options, http2_protocol_options, .. } = cluster;
    if let Some(common) = common_http_protocol_options {
        common_fields(common, options, &mut cx.field("common_http_protocol_options"));
    }
    if let Some(upstream) = &cluster.upstream_http_protocol_options {
        options.auto_sni = auto_sni(upstream, &mut cx.field("upstream_http_protocol_options"));
    }
    if let Some(http1) = http_protocol_options {
        options.http1 = http1_fields(http1, &mut cx.field("http_protocol_options"));
    }
    if let Some(http2) = http2_protocol_options {
        options.protocol = UpstreamProtocol::Http2;
        options.http2 = http2_options(http2, &mut cx.field("http2_protocol_options"));
    }
    if cluster.protocol_selection() == pb::cluster::ClusterProtocolSelection::UseDownstreamProtocol {
        options.protocol = UpstreamProtocol::Downstream;
    }
}

fn typed_fields(typed: &http::HttpProtocolOptions, options: &mut HttpProtocolOptions, cx: &mut Compile<'_>) {
    use http::http_protocol_options::UpstreamProtocolOptions as Kind;
    use http::http_protocol_options::explicit_http_config::ProtocolConfig;
    let http::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = typed;
    if let Some(upstream) = upstream_http_protocol_options {
        options.auto_sni = auto_sni(upstream, &mut cx.field("upstream_http_protocol_options"));
    }
    cx.unsupported_if(outlier_detection.is_some(), "outlier_detection");
    cx.unsupported_if(!request_mirror_policies.is_empty(), "request_mirror_policies");
    options.hash_policy = hash_policies(hash_policy, cx).ok().flatten();
    cx.unsupported_if(retry_policy.is_some(), "retry_policy");
    if header_validation_config.is_some() {
        cx.refuse("header_validation_config", "headers would not be validated as it says");
    }
    if !http_filters.iter().all(is_codec) {
        cx.refuse("http_filters", "requests to hosts would not pass them");
    }
    if let Some(common) = common_http_protocol_options {
        common_fields(common, options, &mut cx.field("common_http_protocol_options"));
    }
    match upstream_protocol_options {
        None => {
            cx.error_hint("has no protocol", "set explicit_http_config with http_protocol_options");
        }
        Some(Kind::ExplicitHttpConfig(explicit)) => {
            let mut cx = cx.field("explicit_http_config");
            match &explicit.protocol_config {
                None => {
                    cx.error_hint("has no protocol", "set http_protocol_options");
                }
                Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                    options.http1 = http1_fields(http1, &mut cx.field("http_protocol_options"));
                }
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                    options.protocol = UpstreamProtocol::Http2;
                    options.http2 = http2_options(http2, &mut cx.field("http2_protocol_options"));
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    cx.field("http3_protocol_options").error("HTTP/3 to hosts is not built yet");
                }
            }
        }
        Some(Kind::UseDownstreamProtocolConfig(downstream)) => {
            let mut cx = cx.field("use_downstream_protocol_config");
            options.protocol = UpstreamProtocol::Downstream;
            if let Some(http2) = &downstream.http2_protocol_options {
                options.http2 = http2_options(http2, &mut cx.field("http2_protocol_options"));
            }
            cx.unsupported_if(downstream.http3_protocol_options.is_some(), "http3_protocol_options");
            if let Some(http1) = &downstream.http_protocol_options {
                options.http1 = http1_fields(http1, &mut cx.field("http_protocol_options"));
            }
        }
        Some(Kind::AutoConfig(auto)) => {
            let mut cx = cx.field("auto_config");
            options.protocol = UpstreamProtocol::Auto;
            cx.unsupported_if(auto.http3_protocol_options.is_some(), "http3_protocol_options");
            cx.unsupported_if(auto.alternate_protocols_cache_options.is_some(), "alternate_protocols_cache_options");
            if let Some(http1) = &auto.http_protocol_options {
                options.http1 = http1_fields(http1, &mut cx.field("http_protocol_options"));
            }
            if let Some(http2) = &auto.http2_protocol_options {
                options.http2 = http2_options(http2, &mut cx.field("http2_protocol_options"));
            }
        }
    }
}

fn auto_sni(upstream: &core::UpstreamHttpProtocolOptions, cx: &mut Compile<'_>) -> Option<AutoSni> {
    let core::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, override_auto_sni_header } = upstream;
    let header = match override_auto_sni_header.as_str() {
        "" => None,
        name => match HeaderName::new(name) {
            Ok(name) => Some(name),
            Err(error) => {
                cx.field("override_auto_sni_header").error(error.to_string());
                None
            }
        },
    };
    (*auto_sni || *auto_san_validation).then_some(AutoSni {
        server_name: *auto_sni,
        validate: *auto_san_validation,
        header,
    })
}

/// The filter that only stands for the codec.
fn is_codec(filter: &HttpFilter) -> bool {
    match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => message_of(any) == UpstreamCodec::full_name(),
        _ => false,
    }
}

fn common_fields(common: &core::HttpProtocolOptions, options: &mut HttpProtocolOptions, cx: &mut Compile<'_>) {
    use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
    let core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action: _,
        max_requests_per_connection,
    } = common;
    cx.unsupported_if(max_connection_duration_jitter.is_some(), "max_connection_duration_jitter");
    if let Ok(Some(timeout)) = duration_field(idle_timeout, "idle_timeout", cx) {
        options.idle_timeout = or_none(Some(timeout));
    }
    let limit = duration_field(max_connection_duration, "max_connection_duration", cx);
    options.max_connection_duration = or_none(limit.ok().flatten());
    let limit = duration_field(max_stream_duration, "max_stream_duration", cx);
    options.max_stream_duration = or_none(limit.ok().flatten());
    options.max_headers_count = max_headers_count.value_or(options.max_headers_count);
    options.max_response_headers_kb = max_response_headers_kb.value_or(options.max_response_headers_kb);
    options.max_requests_per_connection = max_requests_per_connection.get().filter(|limit| *limit > 0);
    options.headers_with_underscores_action = match common.headers_with_underscores_action() {
        Action::Allow => Underscores::Allow,
        Action::RejectRequest => Underscores::Reject,
        Action::DropHeader => Underscores::Drop,
    };
}

/// The deprecated limit of the cluster itself.
fn max_requests(cluster: &pb::Cluster, options: &mut HttpProtocolOptions, cx: &mut Compile<'_>) {
    #[allow(deprecated)]
    let Some(limit) = cluster.max_requests_per_connection.get() else { return };
    if options.max_requests_per_connection.is_some() {
        let text = "Only one of max_requests_per_connection from Cluster or HttpProtocolOptions can be specified";
        cx.field("max_requests_per_connection").error(text);
    }
    options.max_requests_per_connection = Some(limit).filter(|limit| *limit > 0);
}

fn http1_fields(http1: &core::Http1ProtocolOptions, cx: &mut Compile<'_>) -> Http1Options {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let core::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser,
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = http1;
    for (set, field) in [
        (allow_absolute_url.is_some(), "allow_absolute_url"),
        (*accept_http_10, "accept_http_10"),
        (!default_host_for_http_10.is_empty(), "default_host_for_http_10"),
        (use_balsa_parser.is_some(), "use_balsa_parser"),
        (*allow_custom_methods, "allow_custom_methods"),
        (!ignore_http_11_upgrade.is_empty(), "ignore_http_11_upgrade"),
    ] {
        if set {
            cx.field(field).warn("has no effect on connections to hosts");
        }
    }
    let format = header_key_format.as_ref().and_then(|format| format.header_format.as_ref());
    let spelling = match format {
        None => Spelling::Lower,
        Some(HeaderFormat::ProperCaseWords(_)) => Spelling::ProperCase,
        Some(HeaderFormat::StatefulFormatter(extension)) => {
            let message = extension.typed_config.as_ref().map(message_of).unwrap_or_default();
            if message != PreserveCaseFormatterConfig::full_name() {
                let text = format!("the formatter {} is not built: use preserve_case", extension.name);
                cx.field("header_key_format").error(text);
            }
            Spelling::Preserve
        }
    };
    Http1Options {
        spelling,
        enable_trailers: *enable_trailers,
        allow_chunked_length: *allow_chunked_length,
        send_fully_qualified_url: *send_fully_qualified_url,
        override_stream_error_on_invalid_http_message: override_stream_error_on_invalid_http_message.value_or(false),
    }
}
