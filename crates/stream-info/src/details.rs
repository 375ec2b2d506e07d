//! Response code details: what `%RESPONSE_CODE_DETAILS%` prints (Envoy's `ResponseCodeDetails` and the codecs' own).

macro_rules! details {
    ($($(#[$doc:meta])* $id:ident = $text:literal;)*) => {
        $($(#[$doc])* #[doc = concat!("`", $text, "`")] pub const $id: &str = $text;)*
    };
}

details! {
    VIA_UPSTREAM = "via_upstream";
    DIRECT_RESPONSE = "direct_response";
    ROUTE_NOT_FOUND = "route_not_found";
    ROUTE_CONFIGURATION_NOT_FOUND = "route_configuration_not_found";
    CLUSTER_NOT_FOUND = "cluster_not_found";
    NO_HEALTHY_UPSTREAM = "no_healthy_upstream";
    FILTER_CHAIN_NOT_FOUND = "filter_chain_not_found";
    MAINTENANCE_MODE = "maintenance_mode";
    OVERLOAD = "overload";
    DROP_OVERLOAD = "drop_overload";
    UNCONDITIONAL_DROP_OVERLOAD = "unconditional_drop_overload";
    RESPONSE_TIMEOUT = "response_timeout";
    UPSTREAM_PER_TRY_TIMEOUT = "upstream_per_try_timeout";
    UPSTREAM_PER_TRY_IDLE_TIMEOUT = "upstream_per_try_idle_timeout";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = "upstream_max_stream_duration_reached";
    STREAM_IDLE_TIMEOUT = "stream_idle_timeout";
    MAX_DURATION_TIMEOUT = "max_duration_timeout";
    DURATION_TIMEOUT = "duration_timeout";
    REQUEST_OVERALL_TIMEOUT = "request_overall_timeout";
    REQUEST_HEADER_TIMEOUT = "request_header_timeout";
    DOWNSTREAM_REMOTE_DISCONNECT = "downstream_remote_disconnect";
    DOWNSTREAM_LOCAL_DISCONNECT = "downstream_local_disconnect";
    DOWNSTREAM_REMOTE_RESET = "downstream_remote_reset";
    LOW_VERSION = "low_version";
    MISSING_HOST_HEADER = "missing_host_header";
    MISSING_PATH_REJECTED = "missing_path_rejected";
    ABSOLUTE_PATH_REJECTED = "absolute_path_rejected";
    PATH_NORMALIZATION_FAILED = "path_normalization_failed";
    REQUEST_HEADERS_FAILED_STRICT_CHECK = "request_headers_failed_strict_check";
    REQUEST_PAYLOAD_TOO_LARGE = "request_payload_too_large";
    RESPONSE_PAYLOAD_TOO_LARGE = "response_payload_too_large";
    REQUEST_PAYLOAD_EXCEEDED_RETRY_BUFFER_LIMIT = "request_payload_exceeded_retry_buffer_limit";
    UPGRADE_FAILED = "upgrade_failed";
    INTERNAL_REDIRECT = "internal_redirect";
    INVALID_SCHEME = "invalid_scheme";
    INVALID_ENVOY_REQUEST_HEADERS = "invalid_envoy_request_headers";
    REMOTE_ADDRESS_DETECTION_FAILED = "rejecting_because_detection_failed";
    ADMIN_FILTER_RESPONSE = "admin_filter_response";
    CACHED_RESPONSE = "response_from_cache_filter";
    LATE_UPSTREAM_RESET = "upstream_reset_after_response_started";
    EARLY_UPSTREAM_RESET = "upstream_reset_before_response_started";
    REQUEST_RATE_LIMITED = "request_rate_limited";
    RATE_LIMITER_ERROR = "rate_limiter_error";
    LOCAL_RATE_LIMITED = "local_rate_limited";
    EXT_AUTHZ_DENIED = "ext_authz_denied";
    EXT_AUTHZ_INVALID = "ext_authz_invalid";
    EXT_AUTHZ_ERROR = "ext_authz_error";
    JWT_AUTHN_ACCESS_DENIED = "jwt_authn_access_denied";
    RBAC_ACCESS_DENIED = "rbac_access_denied_matched_policy";
    FAULT_FILTER_ABORT = "fault_filter_abort";
    CSRF_ORIGIN_MISMATCH = "csrf_origin_mismatch";
    DNS_RESOLUTION_FAILURE = "dns_resolution_failure";
    EXT_PROC_ERROR = "ext_proc_error";
    LUA_RESPONSE = "lua_response";
    HEALTH_CHECK_FAILED = "health_check_failed";
    HEALTH_CHECK_FAILED_CLUSTER_EMPTY = "health_check_failed_cluster_empty";
    HEALTH_CHECK_FAILED_CLUSTER_UNHEALTHY = "health_check_failed_cluster_unhealthy";
    HEALTH_CHECK_FAILED_NO_CLUSTER_FOUND = "health_check_failed_no_cluster_found";
    HEALTH_CHECK_OK_CLUSTER_HEALTHY = "health_check_ok_cluster_healthy";
    HEALTH_CHECK_OK = "health_check_ok";
    HEALTH_CHECK_CACHED = "health_check_cached";
    HTTP1_CODEC_ERROR = "http1.codec_error";
    HTTP1_INVALID_CHARACTERS = "http1.invalid_characters";
    HTTP1_INVALID_TRANSFER_ENCODING = "http1.invalid_transfer_encoding";
    HTTP1_TRANSFER_ENCODING_NOT_ALLOWED = "http1.transfer_encoding_not_allowed";
    HTTP1_CONTENT_LENGTH_AND_CHUNKED_NOT_ALLOWED = "http1.content_length_and_chunked_not_allowed";
    HTTP1_CONTENT_LENGTH_NOT_ALLOWED = "http1.content_length_not_allowed";
    HTTP1_CONNECTION_HEADER_REJECTED = "http1.connection_header_rejected";
    HTTP1_INVALID_URL = "http1.invalid_url";
    HTTP1_TOO_MANY_HEADERS = "http1.too_many_headers";
    HTTP1_HEADERS_TOO_LARGE = "http1.headers_too_large";
    HTTP1_BODY_DISALLOWED = "http1.body_disallowed";
    HTTP1_UNEXPECTED_UNDERSCORE = "http1.unexpected_underscore";
    HTTP1_HTTPS_URL_ON_PLAINTEXT_CONNECTION = "http1.https_url_on_plaintext_connection";
    HTTP2_TOO_MANY_HEADERS = "http2.too_many_headers";
    HTTP2_HEADER_LIST_TOO_LARGE = "http2.header_list_size_too_large";
    HTTP2_UNEXPECTED_UNDERSCORE = "http2.unexpected_underscore";
    HTTP2_REMOTE_RESET = "http2.remote_reset";
    HTTP2_VIOLATION_OF_MESSAGING_RULE = "http2.violation.of.messaging.rule";
    HTTP2_REMOTE_REFUSE = "http2.remote_refuse";
    HTTP2_INBOUND_EMPTY_FRAMES_FLOOD = "http2.inbound_empty_frames_flood";
    HTTP2_OUTBOUND_FRAMES_FLOOD = "http2.outbound_frames_flood";
    HTTP1_INVALID_SCHEME = "http1.invalid_scheme";
}
/// The handshake of a connection took longer than `transport_socket_connect_timeout` (termination details).
pub const TRANSPORT_SOCKET_TIMEOUT: &str = "transport socket timeout was reached";
