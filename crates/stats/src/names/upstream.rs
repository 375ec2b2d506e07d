//! `cluster.<name>.*`: what features of a cluster add.

use crate::stat_group;

stat_group! {
    /// `cluster.<name>.circuit_breakers.<default\|high>.*`, with `track_remaining`.
    pub group CircuitBreakerRemainingStats {
        gauges {
            remaining_cx,
            remaining_cx_pools,
            remaining_pending,
            remaining_retries,
            remaining_rq,
        }
    }
}

stat_group! {
    /// `cluster.<name>.outlier_detection.*`
    pub group OutlierDetectionStats {
        counters {
            ejections_consecutive_5xx,
            ejections_detected_consecutive_5xx,
            ejections_detected_consecutive_gateway_failure,
            ejections_detected_consecutive_local_origin_failure,
            ejections_detected_degradation,
            ejections_detected_failure_percentage,
            ejections_detected_local_origin_failure_percentage,
            ejections_detected_local_origin_success_rate,
            ejections_detected_success_rate,
            ejections_enforced_consecutive_5xx,
            ejections_enforced_consecutive_gateway_failure,
            ejections_enforced_consecutive_local_origin_failure,
            ejections_enforced_failure_percentage,
            ejections_enforced_local_origin_failure_percentage,
            ejections_enforced_local_origin_success_rate,
            ejections_enforced_success_rate,
            ejections_enforced_total,
            ejections_overflow,
            ejections_success_rate,
            ejections_total,
        }
        gauges {
            ejections_active,
        }
    }
}

stat_group! {
    /// `cluster.<name>.health_check.*`
    pub group HealthCheckStats {
        counters {
            attempt,
            failure,
            network_failure,
            passive_failure,
            success,
            verify_cluster,
        }
        gauges {
            degraded,
            healthy,
        }
    }
}

stat_group! {
    /// `cluster.<name>.*`, with `track_cluster_stats.timeout_budgets`.
    pub group TimeoutBudgetStats {
        histograms {
            upstream_rq_timeout_budget_per_try_percent_used(none),
            upstream_rq_timeout_budget_percent_used(none),
        }
    }
}

stat_group! {
    /// `cluster.<name>.*`, with `track_cluster_stats.request_response_sizes`.
    pub group RequestResponseSizeStats {
        histograms {
            upstream_rq_body_size(bytes),
            upstream_rq_headers_count(none),
            upstream_rq_headers_size(bytes),
            upstream_rs_body_size(bytes),
            upstream_rs_headers_count(none),
            upstream_rs_headers_size(bytes),
        }
    }
}

stat_group! {
    /// `cluster.<name>.endpoint.<address>.*`, with `track_cluster_stats.per_endpoint_stats`; the tag
    /// `envoy.endpoint_address` has the address with its colon.
    pub group EndpointStats {
        counters {
            cx_connect_fail,
            cx_total,
            rq_error,
            rq_success,
            rq_timeout,
            rq_total,
        }
        gauges {
            cx_active,
            healthy,
            rq_active,
            rq_pending_active,
        }
    }
}

stat_group! {
    /// `cluster.<name>.ring_hash_lb.*`
    pub group RingHashStats {
        gauges {
            max_hashes_per_host,
            min_hashes_per_host,
            size,
        }
    }
}

stat_group! {
    /// `cluster.<name>.maglev_lb.*`
    pub group MaglevStats {
        gauges {
            max_entries_per_host,
            min_entries_per_host,
        }
    }
}

stat_group! {
    /// `cluster.<name>.*`: what an EDS subscription adds to [`ClusterUpdateStats`](super::ClusterUpdateStats).
    pub group EdsSubscriptionStats {
        counters {
            init_fetch_timeout,
            update_rejected,
        }
        gauges {
            update_time,
        }
        histograms {
            update_duration(ms),
        }
        text {
            version_text,
        }
    }
}

stat_group! {
    /// `dns_cache.<name>.*`
    pub group DnsCacheStats {
        counters {
            cache_load,
            dns_address_filter_out,
            dns_query_attempt,
            dns_query_failure,
            dns_query_success,
            dns_query_timeout,
            dns_rq_pending_overflow,
            host_added,
            host_address_changed,
            host_overflow,
            host_removed,
        }
        gauges {
            num_hosts,
        }
    }
}

stat_group! {
    /// `dns_cache.<name>.circuit_breakers.*`
    pub group DnsCacheCircuitBreakerStats {
        gauges {
            rq_pending_open,
            rq_pending_remaining,
        }
    }
}

stat_group! {
    /// `dns.cares.*`: the resolver, under the name that dashboards know.
    pub group DnsStats {
        counters {
            get_addr_failure,
            not_found,
            reinits,
            resolve_total,
            timeouts,
        }
        gauges {
            pending_resolutions,
        }
    }
}
