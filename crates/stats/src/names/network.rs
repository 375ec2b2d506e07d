//! Listener and network filters.

use crate::stat_group;

stat_group! {
    /// `tcp.<stat_prefix>.*`
    pub group TcpProxyStats {
        counters {
            downstream_cx_drain_close,
            downstream_cx_no_route,
            downstream_cx_overload_close,
            downstream_cx_rx_bytes_total,
            downstream_cx_total,
            downstream_cx_tx_bytes_total,
            downstream_flow_control_paused_reading_total,
            downstream_flow_control_resumed_reading_total,
            early_data_received_count_total,
            idle_timeout,
            max_downstream_connection_duration,
            route_delayed_total,
            upstream_flush_total,
        }
        gauges {
            downstream_cx_rx_bytes_buffered,
            downstream_cx_tx_bytes_buffered,
            upstream_flush_active,
        }
    }
}

stat_group! {
    /// `metadata_exchange.*` and `cluster.<name>.metadata_exchange.*`
    pub group MetadataExchangeStats {
        counters {
            alpn_protocol_found,
            alpn_protocol_not_found,
            header_not_found,
            initial_header_not_found,
            metadata_added,
        }
    }
}

stat_group! {
    /// `http_inspector.*`
    pub group HttpInspectorStats {
        counters {
            http10_found,
            http11_found,
            http2_found,
            http_not_found,
            read_error,
        }
    }
}

stat_group! {
    /// `proxy_proto.*`
    pub group ProxyProtocolStats {
        counters {
            not_found_allowed,
            not_found_disallowed,
        }
    }
}

stat_group! {
    /// `proxy_proto.versions.v<1\|2>.*`
    pub group ProxyProtocolVersionStats {
        counters {
            disallowed,
            error,
            found,
        }
    }
}

stat_group! {
    /// No prefix: the old name of PROXY protocol errors.
    pub group ProxyProtocolErrorStats {
        counters {
            downstream_cx_proxy_proto_error,
        }
    }
}

stat_group! {
    /// `local_rate_limit.<stat_prefix>.*`, `listener_local_ratelimit.<stat_prefix>.*`
    pub group LocalRateLimitStats {
        counters {
            rate_limited,
        }
    }
}

stat_group! {
    /// `connection_limit.<stat_prefix>.*`
    pub group ConnectionLimitStats {
        counters {
            limited_connections,
        }
        gauges {
            active_connections,
        }
    }
}

stat_group! {
    /// `<stat_prefix>rbac.*`, `http.<stat_prefix>.rbac.*`, below it `rules_stat_prefix`.
    pub group RbacStats {
        counters {
            allowed,
            denied,
        }
    }
}

stat_group! {
    /// The same of rules that are only tried, below `shadow_rules_stat_prefix`.
    pub group RbacShadowStats {
        counters {
            shadow_allowed,
            shadow_denied,
        }
    }
}
