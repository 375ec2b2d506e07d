//! The `proxy-status` header of responses that this proxy made or that went wrong in it (RFC 9209).

use nuncio_headers::{HeaderMap, Known};
use nuncio_stream_info::{ResponseFlags, StreamInfo};
use std::sync::Arc;

/// `proxy_status_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyStatusConfig {
    /// The proxy's name: `literal_proxy_name`, the node's id with `use_node_id`, else the server name.
    pub name: Arc<str>,
    /// `details` is written (not `remove_details`).
    pub details: bool,
    /// Why the connection ended stands in `details` (not `remove_connection_termination_details`).
    pub termination_details: bool,
    /// The response flags stand in `details` (not `remove_response_flags`).
    pub response_flags: bool,
    /// The response gets the status that RFC 9209 §2.3 recommends (`set_recommended_response_code`).
    pub recommended_code: bool,
}

/// What a response flag is called, and the recommended status.
type ErrorOf = (ResponseFlags, &'static str, Option<u16>);

/// In the order in which flags decide.
const ERRORS: [ErrorOf; 19] = [
    (ResponseFlags::FAILED_LOCAL_HEALTH_CHECK, "destination_unavailable", Some(503)),
    (ResponseFlags::NO_HEALTHY_UPSTREAM, "destination_unavailable", Some(503)),
    (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "http_response_timeout", Some(504)),
    (ResponseFlags::LOCAL_RESET, "connection_timeout", Some(504)),
    (ResponseFlags::UPSTREAM_REMOTE_RESET, "connection_terminated", Some(502)),
    (ResponseFlags::UPSTREAM_CONNECTION_FAILURE, "connection_refused", Some(502)),
    (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "connection_terminated", Some(502)),
    (ResponseFlags::UPSTREAM_OVERFLOW, "connection_limit_reached", Some(503)),
    (ResponseFlags::NO_ROUTE_FOUND, "destination_not_found", Some(500)),
    (ResponseFlags::RATE_LIMITED, "connection_limit_reached", Some(503)),
    (ResponseFlags::RATE_LIMIT_SERVICE_ERROR, "connection_limit_reached", Some(503)),
    (ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, "destination_unavailable", Some(503)),
    (ResponseFlags::STREAM_IDLE_TIMEOUT, "http_response_timeout", Some(504)),
    (ResponseFlags::INVALID_ENVOY_REQUEST_HEADERS, "http_request_error", None),
    (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, "http_request_error", None),
    (ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED, "http_response_timeout", Some(504)),
    (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "http_protocol_error", Some(502)),
    (ResponseFlags::NO_CLUSTER_FOUND, "destination_unavailable", Some(503)),
    (ResponseFlags::DNS_RESOLUTION_FAILED, "dns_error", Some(502)),
];

/// Writes the header if something went wrong. Returns the status to send instead, if there is one.
pub(crate) fn apply(config: &ProxyStatusConfig, info: &StreamInfo, response: &mut HeaderMap) -> Option<u16> {
    let (_, error, code) = ERRORS.iter().find(|(flag, ..)| info.flags.contains(*flag))?;
    response.append_to_list(&Known::PROXY_STATUS.into(), ", ", |out| {
        out.extend_from_slice(config.name.as_bytes());
        out.extend_from_slice(b"; error=");
        out.extend_from_slice(error.as_bytes());
        if config.details && !info.details.is_empty() {
            out.extend_from_slice(b"; details=\"");
            out.extend_from_slice(info.details.as_bytes());
            if config.termination_details && !info.termination_details.is_empty() {
                out.extend_from_slice(b"; ");
                out.extend_from_slice(info.termination_details.as_bytes());
            }
            if config.response_flags {
                out.extend_from_slice(b"; ");
                out.extend_from_slice(info.flags.to_string().as_bytes());
            }
            out.push(b'"');
        }
    });
    code.filter(|_| config.recommended_code)
}
