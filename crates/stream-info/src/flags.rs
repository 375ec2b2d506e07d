//! Response flags: why a response was not simply the upstream's (Envoy's `StreamInfo::CoreResponseFlag`).

use std::fmt;

/// A set of response flags. Printed as the comma-joined short names, in Envoy's order; the empty set prints `-`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

/// A name that no response flag has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFlag(pub String);

impl fmt::Display for UnknownFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a response flag: use one of ", self.0)?;
        for (at, entry) in FLAGS.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, entry.0)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFlag {}

macro_rules! flags {
    ($($(#[$doc:meta])* $id:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $id: ResponseFlags = ResponseFlags(1 << $bit);)*
        }
        /// Short name, long name; the index is the bit.
        static FLAGS: &[(&str, &str)] = &[$(($short, $long)),*];
    };
}

flags! {
    /// LH: the local service failed a health check request.
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    /// UH: no healthy host in the upstream cluster.
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    /// UT: the upstream did not answer in time.
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    /// LR: reset by this proxy.
    LOCAL_RESET = 3, "LR", "LocalReset";
    /// UR: reset by the upstream.
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    /// UF: the connection to the upstream could not be made.
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    /// UC: the upstream closed the connection.
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    /// UO: a circuit breaker was open.
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    /// NR: no route, or no filter chain for a connection.
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    /// DI: the fault filter delayed the request.
    DELAY_INJECTED = 9, "DI", "DelayInjected";
    /// FI: the fault filter aborted the request.
    FAULT_INJECTED = 10, "FI", "FaultInjected";
    /// RL: refused by a rate limit.
    RATE_LIMITED = 11, "RL", "RateLimited";
    /// UAEX: refused by an external authorisation service.
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService";
    /// RLSE: the rate limit service failed.
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError";
    /// DC: the client closed the connection.
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination";
    /// URX: retries or connection attempts ran out.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded";
    /// SI: the stream was idle for too long.
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout";
    /// IH: a strictly checked x-envoy header was invalid.
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders";
    /// DPE: the client broke the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    /// UMSDR: the longest allowed duration of an upstream stream was reached.
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    /// RFCF: answered by the cache filter.
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF", "ResponseFromCacheFilter";
    /// NFCF: the configuration of a discovered filter never came.
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound";
    /// DT: the longest allowed duration of a request or connection was reached.
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout";
    /// UPE: the upstream broke the protocol.
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError";
    /// NC: the route names a cluster that does not exist.
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound";
    /// OM: terminated by the overload manager.
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated";
    /// DF: a name could not be resolved.
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed";
    /// DO: dropped by `drop_overloads` of the endpoints.
    DROP_OVERLOAD = 27, "DO", "DropOverload";
    /// DR: the client reset the stream.
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset";
    /// UDO: dropped because all of the traffic of the cluster is to be dropped.
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO", "UnconditionalDropOverload";
}

/// Beside URX: other flags were set before it.
const URX_LATER: u32 = 1 << 31;

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags(0);

    /// Adds the flags of `other`.
    #[inline]
    pub fn insert(&mut self, other: ResponseFlags) {
        let urx = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED.0;
        if other.0 & urx != 0 && self.0 & urx == 0 && self.0 != 0 {
            self.0 |= URX_LATER;
        }
        self.0 |= other.0;
    }

    /// Whether all flags of `other` are set.
    #[inline]
    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    #[inline]
    pub fn intersects(self, other: ResponseFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no flag is set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits, as Envoy's `legacyResponseFlags`.
    #[inline]
    pub fn bits(self) -> u32 {
        self.0 & !URX_LATER
    }

    /// The flag of a short name (`UH`), as the response flag filter takes it.
    pub fn from_short_name(name: &str) -> Result<ResponseFlags, UnknownFlag> {
        match FLAGS.iter().position(|(short, _)| *short == name) {
            Some(bit) => Ok(ResponseFlags(1 << bit)),
            None => Err(UnknownFlag(name.to_owned())),
        }
    }

    /// Short names of the flags that are set.
    pub fn short_names(self) -> impl Iterator<Item = &'static str> {
        self.names().map(|(short, _)| *short)
    }

    /// Long names of the flags that are set.
    pub fn long_names(self) -> impl Iterator<Item = &'static str> {
        self.names().map(|(_, long)| *long)
    }

    /// Envoy writes flags in the order in which they were set, which matters for URX: routers set it before what became of
    /// the last try, tcp_proxy after it.
    fn names(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let is_first = self.0 & URX_LATER == 0;
        let first = ResponseFlags(if is_first { self.0 & ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED.0 } else { 0 });
        let rest = ResponseFlags(self.0 & !first.0);
        [first, rest].into_iter().flat_map(|part| {
            FLAGS.iter().enumerate().filter(move |(bit, _)| part.0 & (1 << bit) != 0).map(|(_, names)| names)
        })
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = ResponseFlags;
    fn bitor(self, other: ResponseFlags) -> ResponseFlags {
        ResponseFlags(self.0 | other.0)
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (at, name) in self.short_names().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
