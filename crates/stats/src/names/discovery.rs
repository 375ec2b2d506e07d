//! Discovery services.

use crate::stat_group;

stat_group! {
    /// `cluster_manager.cds.*`, `listener_manager.lds.*`, `http.<stat_prefix>.rds.<route configuration>.*`, `sds.<secret>.*`
    pub group SubscriptionStats {
        counters {
            init_fetch_timeout,
            update_attempt,
            update_failure,
            update_rejected,
            update_success,
        }
        gauges {
            update_time,
            version,
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
    /// `cluster.<name>.*` of EDS clusters: what a subscription has beyond the counters that every cluster has.
    pub group EndpointSubscriptionStats {
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
    /// `cluster_manager.cds.*` and `http.<stat_prefix>.rds.<route configuration>.*`: applied configurations.
    pub group ConfigReloadStats {
        counters {
            config_reload,
        }
        gauges {
            config_reload_time_ms,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.rds.<route configuration>.*`
    pub group RouteSubscriptionStats {
        counters {
            update_empty,
        }
    }
}

stat_group! {
    /// `http.<stat_prefix>.scoped_rds.<scoped routes>.*`
    pub group ScopedRouteStats {
        counters {
            update_empty,
        }
        gauges {
            active_scopes,
            all_scopes,
            on_demand_scopes,
        }
    }
}

stat_group! {
    /// `sds.<secret>.*`
    pub group SecretSubscriptionStats {
        counters {
            key_rotation_failed,
        }
    }
}

stat_group! {
    /// `extension_config_discovery.<type>.<name>.*`
    pub group ExtensionConfigStats {
        counters {
            config_conflict,
            config_fail,
            config_reload,
        }
    }
}

stat_group! {
    /// `load_reporter.*`: as Envoy counts, `requests` are messages of the server, `responses` messages to it.
    pub group LoadReporterStats {
        counters {
            errors,
            requests,
            responses,
            retries,
        }
    }
}

stat_group! {
    /// `control_plane.*`
    pub group ControlPlaneStats {
        counters {
            rate_limit_enforced,
        }
        gauges {
            connected_state,
            pending_requests,
        }
        text {
            identifier,
        }
    }
}
