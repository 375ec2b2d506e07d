//! HTTP filters.

use crate::stat_group;

stat_group! {
    /// `<stat_prefix>.http_local_rate_limit.*`
    pub group HttpLocalRateLimitStats {
        counters {
            enabled,
            enforced,
            ok,
            rate_limited,
            shadow_mode,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.fault.*`
    pub group FaultStats {
        counters {
            aborts_injected,
            delays_injected,
            faults_overflow,
            response_rl_injected,
        }
        gauges {
            active_faults,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.lua.*`
    pub group LuaStats {
        counters {
            errors,
            executions,
        }
    }
}

stat_group! {
    /// `lua.*`: the process.
    pub group LuaProcessStats {
        gauges {
            lua_vm_count,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.cors.*`
    pub group CorsStats {
        counters {
            origin_invalid,
            origin_valid,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.csrf.*`
    pub group CsrfStats {
        counters {
            missing_source_origin,
            request_invalid,
            request_valid,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.health_check.*`
    pub group HealthCheckFilterStats {
        counters {
            cached_response,
            degraded,
            failed,
            failed_cluster_empty,
            failed_cluster_not_found,
            failed_cluster_unhealthy,
            ok,
            request_total,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.compressor.<name>.<library>.*`
    pub group CompressorStats {
        counters {
            compressed,
            content_length_too_small,
            header_compressor_overshadowed,
            header_compressor_used,
            header_identity,
            header_not_valid,
            header_wildcard,
            no_accept_header,
            not_compressed,
            not_compressed_etag,
            total_compressed_bytes,
            total_uncompressed_bytes,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.compressor.<name>.<library>.request.*`
    pub group CompressorRequestStats {
        counters {
            compressed,
            content_length_too_small,
            not_compressed,
            total_compressed_bytes,
            total_uncompressed_bytes,
        }
    }
}

stat_group! {
    /// `<stat_prefix>.http_bandwidth_limit.*`
    pub group BandwidthLimitStats {
        counters {
            request_allowed_total_size,
            request_enabled,
            request_enforced,
            request_incoming_total_size,
            response_allowed_total_size,
            response_enabled,
            response_enforced,
            response_incoming_total_size,
        }
        gauges {
            request_allowed_size,
            request_incoming_size,
            request_pending,
            response_allowed_size,
            response_incoming_size,
            response_pending,
        }
        histograms {
            request_transfer_duration(ms),
            response_transfer_duration(ms),
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.ext_authz.[<stat_prefix>.]*`
    pub group ExtAuthzStats {
        counters {
            denied,
            disabled,
            error,
            failure_mode_allowed,
            filter_state_name_collision,
            ignored_dynamic_metadata,
            invalid,
            ok,
            omitted_response_headers,
            request_header_limits_reached,
            response_header_limits_reached,
            shadow_denied,
            shadow_error,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.ext_proc.*`
    pub group ExtProcStats {
        counters {
            clear_route_cache_disabled,
            clear_route_cache_ignored,
            clear_route_cache_upstream_ignored,
            failure_mode_allowed,
            http_not_ok_resp_received,
            immediate_responses_sent,
            message_timeouts,
            override_message_timeout_ignored,
            override_message_timeout_received,
            rejected_header_mutations,
            server_half_closed,
            spurious_msgs_received,
            stream_msgs_received,
            stream_msgs_sent,
            streams_closed,
            streams_failed,
            streams_started,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.jwt_authn.*`
    pub group JwtAuthnStats {
        counters {
            allowed,
            cors_preflight_bypassed,
            denied,
            jwks_fetch_failed,
            jwks_fetch_success,
            jwt_cache_hit,
            jwt_cache_miss,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.adaptive_concurrency.gradient_controller.*`
    pub group GradientControllerStats {
        counters {
            rq_blocked,
        }
        gauges {
            burst_queue_size,
            concurrency_limit,
            gradient,
            min_rtt_calculation_active,
            min_rtt_msecs,
            sample_rtt_msecs,
        }
    }
}

stat_group! {
    /// `access_logs.grpc_access_log.*`
    pub group GrpcAccessLogStats {
        counters {
            grpc_entries_flush_failed,
            grpc_entries_flushed,
            logs_dropped,
            logs_written,
        }
    }
}

stat_group! {
    /// `vhost.<name>.vcluster.<name>.*`, `vhost.<name>.route.<stat_prefix>.*`; beside it code counters and
    /// [`ClusterRequestTimeStats`](super::ClusterRequestTimeStats).
    pub group VirtualClusterStats {
        counters {
            upstream_rq_retry,
            upstream_rq_retry_limit_exceeded,
            upstream_rq_retry_overflow,
            upstream_rq_retry_success,
            upstream_rq_timeout,
            upstream_rq_total,
        }
    }
}
