//! The smaller parts of the connection manager's configuration.

use super::config::preserved;
use super::plugins;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_api::pb::xds::core::v3::TypedExtensionConfig;
use nuncio_api::wkt;
use nuncio_config::compile::{Compile, Invalid, message_of};
use nuncio_config::lower;
use nuncio_hcm::config::{
    ClientCertDetails, EscapedSlashes, ForwardClientCert, PathOptions, RequestIdOptions, ServerHeader, StripPort,
    Timeouts, TrustOptions,
};
use nuncio_hcm::local_reply::{LocalReplyConfig, ReplyFormat, ReplyMapper};
use nuncio_headers::HeaderName;
use nuncio_http::h1::{IgnoreUpgrade, RequestOptions, Spelling, TrailerOptions, Underscores};
use nuncio_matcher::{CidrSet, MatchTree};
use pb::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, ServerHeaderTransformation, StripPortMode,
};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn set(value: &Option<wkt::BoolValue>) -> bool {
    value.as_ref().is_some_and(|value| value.value)
}

/// A limit of which 0 means none.
fn limit(value: Option<&wkt::Duration>) -> Option<Duration> {
    value.and_then(lower::duration).filter(|limit| !limit.is_zero())
}

/// A limit with a default, of which 0 means none.
fn limit_or(value: Option<&wkt::Duration>, default: Duration) -> Option<Duration> {
    match value {
        Some(_) => limit(value),
        None => Some(default),
    }
}

/// Whether a connection outlives a malformed request: the codec's own setting counts before the manager's.
pub(super) fn keeps_after_errors(config: &pb::HttpConnectionManager) -> bool {
    let http1 = config.http_protocol_options.as_ref();
    let own = http1.and_then(|http1| http1.override_stream_error_on_invalid_http_message.as_ref());
    set(&own.copied().or(config.stream_error_on_invalid_http_message))
}

pub(super) fn request(config: &pb::HttpConnectionManager, cx: &mut Compile<'_>) -> RequestOptions {
    let common = config.common_http_protocol_options.as_ref();
    let http1 = config.http_protocol_options.clone().unwrap_or_default();
    let mut at = cx.field("http_protocol_options");
    let ignored = lower::strings(&http1.ignore_http_11_upgrade, "ignore_http_11_upgrade", &mut at).unwrap_or_default();
    at.unsupported_if(http1.send_fully_qualified_url, "send_fully_qualified_url");
    if let Some(common) = common {
        let mut at = cx.field("common_http_protocol_options");
        at.unsupported_if(common.max_connection_duration_jitter.is_some(), "max_connection_duration_jitter");
    }
    let underscores = match common.map(|common| common.headers_with_underscores_action()) {
        Some(core::http_protocol_options::HeadersWithUnderscoresAction::RejectRequest) => Underscores::Reject,
        Some(core::http_protocol_options::HeadersWithUnderscoresAction::DropHeader) => Underscores::Drop,
        _ => Underscores::Allow,
    };
    let max_kb = config.max_request_headers_kb.as_ref().map_or(60, |value| value.value);
    let max_headers = common.and_then(|common| common.max_headers_count.as_ref()).map_or(100, |value| value.value);
    RequestOptions {
        max_head_bytes: max_kb.saturating_mul(1024),
        max_headers: u16::try_from(max_headers).unwrap_or(u16::MAX),
        accept_http_10: http1.accept_http_10,
        default_host_for_http_10: (!http1.default_host_for_http_10.is_empty())
            .then(|| http1.default_host_for_http_10.as_str().into()),
        allow_absolute_url: http1.allow_absolute_url.as_ref().is_none_or(|value| value.value),
        allow_chunked_length: http1.allow_chunked_length,
        underscores,
        keep_spelling: keeps_spelling(&http1, &mut cx.field("http_protocol_options")),
        allow_custom_methods: http1.allow_custom_methods,
        ignore_upgrade: (!ignored.is_empty())
            .then(|| IgnoreUpgrade::new(move |name| ignored.iter().any(|matcher| matcher.matches(name)))),
    }
}

/// `preserve_case`, the one stateful formatter that Envoy has.
fn keeps_spelling(options: &core::Http1ProtocolOptions, cx: &mut Compile<'_>) -> bool {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let format = options.header_key_format.as_ref().and_then(|format| format.header_format.as_ref());
    let Some(HeaderFormat::StatefulFormatter(extension)) = format else { return false };
    let message = extension.typed_config.as_ref().map(message_of).unwrap_or_default();
    if message.ends_with("preserve_case.v3.PreserveCaseFormatterConfig") {
        return true;
    }
    cx.field("header_key_format").error(format!("the formatter {} is not built: use preserve_case", extension.name));
    false
}

pub(super) fn spelling(options: Option<&core::Http1ProtocolOptions>, keep: bool) -> Spelling {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let format = options.and_then(|options| options.header_key_format.as_ref()?.header_format.as_ref());
    match format {
        Some(HeaderFormat::ProperCaseWords(_)) => Spelling::ProperCase,
        _ => preserved(keep),
    }
}

pub(super) fn trailers(config: &pb::HttpConnectionManager, request: &RequestOptions) -> TrailerOptions {
    TrailerOptions {
        deliver: config.http_protocol_options.as_ref().is_some_and(|options| options.enable_trailers),
        max_bytes: request.max_head_bytes,
        max_count: request.max_headers,
        underscores: request.underscores,
    }
}

pub(super) fn timeouts(config: &pb::HttpConnectionManager) -> Timeouts {
    let defaults = Timeouts::default();
    let common = config.common_http_protocol_options.unwrap_or_default();
    Timeouts {
        idle: limit_or(common.idle_timeout.as_ref(), Duration::from_secs(3600)),
        max_connection_duration: limit(common.max_connection_duration.as_ref()),
        stream_idle: limit_or(config.stream_idle_timeout.as_ref(), Duration::from_secs(300)),
        request: limit(config.request_timeout.as_ref()),
        request_headers: limit(config.request_headers_timeout.as_ref()),
        drain: config.drain_timeout.as_ref().and_then(lower::duration).unwrap_or(defaults.drain),
        delayed_close: limit_or(config.delayed_close_timeout.as_ref(), Duration::from_secs(1)),
        max_stream_duration: limit(common.max_stream_duration.as_ref()),
    }
}

pub(super) fn max_requests(config: &pb::HttpConnectionManager) -> u32 {
    let common = config.common_http_protocol_options.as_ref();
    common.and_then(|common| common.max_requests_per_connection.as_ref()).map_or(0, |value| value.value)
}

pub(super) fn trust(config: &pb::HttpConnectionManager, cx: &mut Compile<'_>) -> Result<TrustOptions, Invalid> {
    let internal = config.internal_address_config.clone().unwrap_or_default();
    let ranges = lower::cidrs(&internal.cidr_ranges, "cidr_ranges", &mut cx.field("internal_address_config"))?;
    let scheme = config.scheme_header_transformation.clone().unwrap_or_default();
    use core::scheme_header_transformation::Transformation;
    let overwrite =
        scheme.transformation.map(|Transformation::SchemeToOverwrite(scheme)| scheme.to_ascii_lowercase().into());
    Ok(TrustOptions {
        use_remote_address: set(&config.use_remote_address),
        trusted_hops: config.xff_num_trusted_hops,
        skip_xff_append: config.skip_xff_append,
        append_port: config.append_x_forwarded_port,
        internal: CidrSet::new(ranges),
        internal_unix: internal.unix_sockets,
        ipv4_as_mapped_ipv6: config.represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        detection: plugins::detection(config, cx)?,
        overwrite_scheme: overwrite,
        match_upstream_scheme: scheme.match_upstream,
    })
}

pub(super) fn request_id(
    config: &pb::HttpConnectionManager,
    cx: &mut Compile<'_>,
) -> Result<RequestIdOptions, Invalid> {
    use nuncio_api::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
    use prost::Name;
    let mut pack_trace_reason = true;
    if let Some(any) = config.request_id_extension.as_ref().and_then(|extension| extension.typed_config.as_ref()) {
        let mut cx = cx.field("request_id_extension");
        if message_of(any) != UuidRequestIdConfig::full_name() {
            return Err(cx.error(format!("{} is not built: use envoy.request_id.uuid", message_of(any))));
        }
        let uuid: UuidRequestIdConfig = cx.decode(any)?;
        pack_trace_reason = uuid.pack_trace_reason.is_none_or(|value| value.value);
    }
    Ok(RequestIdOptions {
        generate: config.generate_request_id.as_ref().is_none_or(|value| value.value),
        preserve_external: config.preserve_external_request_id,
        in_response: config.always_set_request_id_in_response,
        pack_trace_reason,
    })
}

pub(super) fn server_header(config: &pb::HttpConnectionManager) -> ServerHeader {
    match config.server_header_transformation() {
        ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    }
}

pub(super) fn path(config: &pb::HttpConnectionManager) -> PathOptions {
    PathOptions {
        normalize: set(&config.normalize_path),
        merge_slashes: config.merge_slashes,
        escaped_slashes: match config.path_with_escaped_slashes_action() {
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
            PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
            PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
            PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Unescape,
        },
    }
}

pub(super) fn strip_port(config: &pb::HttpConnectionManager) -> StripPort {
    match config.strip_port_mode {
        Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if config.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::Keep,
    }
}

/// What a matcher of client certificates leads to.
type ClientCertMatcher = Option<Box<MatchTree<HeaderName, (ForwardClientCert, ClientCertDetails)>>>;

/// `forward_client_cert_matcher`.
pub(super) fn forward_client_cert_matcher(
    config: &pb::HttpConnectionManager,
    cx: &mut Compile<'_>,
) -> Result<ClientCertMatcher, Invalid> {
    use pb::http_connection_manager::ForwardClientCertConfig;
    use prost::Name;
    let Some(tree) = &config.forward_client_cert_matcher else { return Ok(None) };
    let action = |action: &TypedExtensionConfig, cx: &mut Compile<'_>| {
        let mut cx = cx.field("typed_config");
        let Some(any) = &action.typed_config else { return Err(cx.error("is required")) };
        if message_of(any) != ForwardClientCertConfig::full_name() {
            let text = format!("{} says nothing of client certificates", message_of(any));
            return Err(cx.error_hint(text, "use ForwardClientCertConfig of HttpConnectionManager"));
        }
        let chosen = cx.decode::<ForwardClientCertConfig>(any)?;
        let details = client_cert_details(chosen.set_current_client_cert_details.as_ref());
        Ok((forward_client_cert(chosen.forward_client_cert_details()), details))
    };
    let tree = lower::header_match_tree(tree, &action, &mut cx.field("forward_client_cert_matcher"))?;
    Ok(Some(Box::new(tree)))
}

pub(super) fn forward_client_cert(mode: ForwardClientCertDetails) -> ForwardClientCert {
    match mode {
        ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
        ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    }
}

pub(super) fn client_cert_details(
    details: Option<&pb::http_connection_manager::SetCurrentClientCertDetails>,
) -> ClientCertDetails {
    let Some(details) = details else { return ClientCertDetails::default() };
    let json = details.format() == pb::http_connection_manager::ForwardClientCertFormat::Json;
    let pb::http_connection_manager::SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format: _ } =
        details;
    ClientCertDetails { cert: *cert, chain: *chain, subject: set(subject), issuer: *issuer, uri: *uri, dns: *dns, json }
}

pub(super) fn add_user_agent(config: &pb::HttpConnectionManager, cx: &Compile<'_>) -> Option<Arc<str>> {
    set(&config.add_user_agent).then(|| Arc::clone(&cx.facts.node_cluster))
}

/// `local_reply_config`.
pub(super) fn local_reply(
    config: Option<pb::LocalReplyConfig>,
    cx: &mut Compile<'_>,
) -> Result<LocalReplyConfig, Invalid> {
    let Some(config) = config else { return Ok(LocalReplyConfig::default()) };
    let mut cx = cx.field("local_reply_config");
    let mut mappers = Vec::new();
    for (index, mapper) in config.mappers.into_iter().enumerate() {
        mappers.push(reply_mapper(mapper, &mut cx.element("mappers", index))?);
    }
    let format = config.body_format.map(|format| reply_format(&format, &mut cx.field("body_format"))).transpose()?;
    Ok(LocalReplyConfig { mappers, format })
}

fn reply_mapper(mapper: pb::ResponseMapper, cx: &mut Compile<'_>) -> Result<ReplyMapper, Invalid> {
    let Some(filter) = &mapper.filter else { return Err(cx.field("filter").error("is required")) };
    let filter = lower::log_filter(filter, &mut cx.field("filter"));
    let body = mapper.body.as_ref().map(|body| lower::data_source(body, &mut cx.field("body"))).transpose();
    let format = mapper
        .body_format_override
        .map(|format| reply_format(&format, &mut cx.field("body_format_override")))
        .transpose();
    let headers = lower::response_edits(&mapper.headers_to_add, &[], "headers_to_add", cx);
    Ok(ReplyMapper {
        filter: filter?,
        status: mapper.status_code.and_then(|code| u16::try_from(code.value).ok()),
        body: body?.map(|body| body.into()),
        format: format?,
        headers: headers?,
    })
}

fn reply_format(format: &core::SubstitutionFormatString, cx: &mut Compile<'_>) -> Result<ReplyFormat, Invalid> {
    let (format, content_type) = lower::format_string(format, cx)?;
    Ok(ReplyFormat { format: Arc::new(format), content_type: content_type.into() })
}
