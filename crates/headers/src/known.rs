//! The well-known header names, as small ids.

macro_rules! known {
    ($($id:ident = $text:literal),* $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u8)]
        enum Ids { $($id),* , Count }

        impl Known {
            $(#[doc = $text] pub const $id: Known = Known(Ids::$id as u8);)*
        }

        pub(crate) const COUNT: usize = Ids::Count as usize;
        pub(crate) static NAMES: [&str; COUNT] = [$($text),*];
        const _: () = assert!((Ids::Count as usize) < 127, "ids must fit the presence bitmap");
    };
}

/// A header name that has an id of its own. Comparing two is comparing a byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known(u8);

impl Known {
    /// The id of a name that is already in lower case.
    #[inline]
    pub fn from_lower(name: &[u8]) -> Option<Known> {
        crate::lookup::find(name)
    }

    /// The name in lower case.
    #[inline]
    pub fn as_str(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// All well-known names, by index.
    pub fn all() -> impl Iterator<Item = Known> {
        (0..Ids::Count as u8).map(Known)
    }

    /// A number for tables by name, below the number of well-known names.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(crate) fn id(self) -> u8 {
        self.0
    }

    /// The name of a bit of a presence map.
    pub(crate) fn from_id(id: u8) -> Known {
        Known(id.min(Ids::Count as u8 - 1))
    }

    #[inline]
    pub(crate) fn bit(self) -> u128 {
        1u128 << self.0
    }
}

/// A set of well-known names, made at compile time.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownSet(u128);

impl KnownSet {
    /// The set of these names.
    pub const fn of(names: &[Known]) -> KnownSet {
        let mut bits = 0;
        let mut at = 0;
        while at < names.len() {
            bits |= 1u128 << names[at].0;
            at += 1;
        }
        KnownSet(bits)
    }

    /// The set with one more name.
    #[inline]
    pub const fn with(self, name: Known) -> KnownSet {
        KnownSet(self.0 | 1u128 << name.0)
    }

    /// Whether the name is in the set.
    #[inline]
    pub const fn contains(self, name: Known) -> bool {
        self.0 >> name.0 & 1 != 0
    }

    #[inline]
    pub(crate) const fn bits(self) -> u128 {
        self.0
    }
}

impl std::fmt::Debug for KnownSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..NAMES.len() as u8).map(Known).filter(|name| self.contains(*name))).finish()
    }
}

/// The name of an id that a map stored.
#[inline]
pub(crate) fn name_of(id: u8) -> &'static str {
    NAMES.get(id as usize).copied().unwrap_or("")
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

known! {
    METHOD = ":method",
    PATH = ":path",
    AUTHORITY = ":authority",
    SCHEME = ":scheme",
    STATUS = ":status",
    PROTOCOL = ":protocol",
    ACCEPT = "accept",
    ACCEPT_ENCODING = "accept-encoding",
    ACCEPT_LANGUAGE = "accept-language",
    ACCESS_CONTROL_REQUEST_METHOD = "access-control-request-method",
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin",
    AGE = "age",
    AUTHORIZATION = "authorization",
    CACHE_CONTROL = "cache-control",
    CONNECTION = "connection",
    CONTENT_ENCODING = "content-encoding",
    CONTENT_LENGTH = "content-length",
    CONTENT_TYPE = "content-type",
    COOKIE = "cookie",
    DATE = "date",
    ETAG = "etag",
    EXPECT = "expect",
    GRPC_MESSAGE = "grpc-message",
    GRPC_STATUS = "grpc-status",
    GRPC_TIMEOUT = "grpc-timeout",
    HOST = "host",
    IF_MODIFIED_SINCE = "if-modified-since",
    IF_NONE_MATCH = "if-none-match",
    KEEP_ALIVE = "keep-alive",
    LAST_MODIFIED = "last-modified",
    LOCATION = "location",
    ORIGIN = "origin",
    PROXY_AUTHENTICATE = "proxy-authenticate",
    PROXY_CONNECTION = "proxy-connection",
    PROXY_STATUS = "proxy-status",
    RANGE = "range",
    REFERER = "referer",
    RETRY_AFTER = "retry-after",
    SERVER = "server",
    SET_COOKIE = "set-cookie",
    TE = "te",
    TRACEPARENT = "traceparent",
    TRACESTATE = "tracestate",
    TRAILER = "trailer",
    TRANSFER_ENCODING = "transfer-encoding",
    UPGRADE = "upgrade",
    USER_AGENT = "user-agent",
    VARY = "vary",
    VIA = "via",
    X_CLIENT_TRACE_ID = "x-client-trace-id",
    X_ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count",
    X_ENVOY_DECORATOR_OPERATION = "x-envoy-decorator-operation",
    X_ENVOY_DEGRADED = "x-envoy-degraded",
    X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER = "x-envoy-downstream-service-cluster",
    X_ENVOY_DOWNSTREAM_SERVICE_NODE = "x-envoy-downstream-service-node",
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS = "x-envoy-expected-rq-timeout-ms",
    X_ENVOY_EXTERNAL_ADDRESS = "x-envoy-external-address",
    X_ENVOY_FORCE_TRACE = "x-envoy-force-trace",
    X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT = "x-envoy-hedge-on-per-try-timeout",
    X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL = "x-envoy-immediate-health-check-fail",
    X_ENVOY_INTERNAL = "x-envoy-internal",
    X_ENVOY_IP_TAGS = "x-envoy-ip-tags",
    X_ENVOY_IS_TIMEOUT_RETRY = "x-envoy-is-timeout-retry",
    X_ENVOY_MAX_RETRIES = "x-envoy-max-retries",
    X_ENVOY_ORIGINAL_HOST = "x-envoy-original-host",
    X_ENVOY_ORIGINAL_PATH = "x-envoy-original-path",
    X_ENVOY_ORIGINAL_URL = "x-envoy-original-url",
    X_ENVOY_OVERLOADED = "x-envoy-overloaded",
    X_ENVOY_RATELIMITED = "x-envoy-ratelimited",
    X_ENVOY_RETRIABLE_HEADER_NAMES = "x-envoy-retriable-header-names",
    X_ENVOY_RETRIABLE_STATUS_CODES = "x-envoy-retriable-status-codes",
    X_ENVOY_RETRY_GRPC_ON = "x-envoy-retry-grpc-on",
    X_ENVOY_RETRY_ON = "x-envoy-retry-on",
    X_ENVOY_UPSTREAM_ALT_STAT_NAME = "x-envoy-upstream-alt-stat-name",
    X_ENVOY_UPSTREAM_CANARY = "x-envoy-upstream-canary",
    X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS = "x-envoy-upstream-rq-per-try-timeout-ms",
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE = "x-envoy-upstream-rq-timeout-alt-response",
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS = "x-envoy-upstream-rq-timeout-ms",
    X_ENVOY_UPSTREAM_SERVICE_TIME = "x-envoy-upstream-service-time",
    X_ENVOY_UPSTREAM_STREAM_DURATION_MS = "x-envoy-upstream-stream-duration-ms",
    X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert",
    X_FORWARDED_FOR = "x-forwarded-for",
    X_FORWARDED_HOST = "x-forwarded-host",
    X_FORWARDED_PORT = "x-forwarded-port",
    X_FORWARDED_PROTO = "x-forwarded-proto",
    X_REQUEST_ID = "x-request-id",
    HTTP2_SETTINGS = "http2-settings",
}
