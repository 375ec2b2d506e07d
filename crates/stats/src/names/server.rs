//! Stats of the process.

use crate::stat_group;

stat_group! {
    /// `cluster_manager.*`
    pub group ClusterManagerStats {
        counters {
            cluster_added,
            cluster_modified,
            cluster_removed,
            cluster_updated,
            cluster_updated_via_merge,
            update_merge_cancelled,
            update_out_of_merge_window,
        }
        gauges {
            active_clusters,
            warming_clusters,
        }
    }
}

stat_group! {
    /// `thread_local_cluster_manager.<worker_n|main_thread>.*`
    pub group ThreadLocalClusterManagerStats {
        gauges {
            clusters_inflated,
        }
    }
}

stat_group! {
    /// `server.*`
    pub group ServerStats {
        counters {
            debug_assertion_failures,
            dropped_stat_flushes,
            dynamic_unknown_fields,
            envoy_bug_failures,
            envoy_notifications,
            static_unknown_fields,
            wip_protos,
        }
        gauges {
            compilation_settings_fips_mode = "compilation_settings.fips_mode",
            concurrency,
            days_until_first_cert_expiring,
            hot_restart_epoch,
            live,
            memory_allocated,
            memory_heap_size,
            memory_physical_size,
            parent_connections,
            seconds_until_first_ocsp_response_expiring,
            state,
            stats_recent_lookups,
            total_connections,
            uptime,
            version,
        }
        histograms {
            initialization_time_ms(ms),
        }
    }
}

stat_group! {
    /// `main_thread.*`, `workers.*`, `server.<main_thread|worker_n>.*`
    pub group WatchdogStats {
        counters {
            watchdog_mega_miss,
            watchdog_miss,
        }
    }
}

stat_group! {
    /// `filesystem.*`: access-log files.
    pub group FilesystemStats {
        counters {
            flushed_by_timer,
            reopen_failed,
            write_buffered,
            write_completed,
            write_failed,
        }
        gauges {
            write_total_buffered,
        }
    }
}

stat_group! {
    /// `runtime.*`
    pub group RuntimeStats {
        counters {
            deprecated_feature_use,
            load_error,
            load_success,
            override_dir_exists,
            override_dir_not_exists,
        }
        gauges {
            admin_overrides_active,
            deprecated_feature_seen_since_process_start,
            num_keys,
            num_layers,
        }
    }
}

stat_group! {
    /// `overload.*`
    pub group OverloadStats {
        histograms {
            refresh_interval_delay(ms),
        }
    }
}

stat_group! {
    /// `envoy.overload_actions.*`
    pub group OverloadActionStats {
        counters {
            reset_high_memory_stream_count = "reset_high_memory_stream.count",
        }
    }
}
stat_group! {
    /// `server.*`, with hot restart on.
    pub group HotRestartStats {
        gauges {
            hot_restart_generation,
        }
    }
}

stat_group! {
    /// `overload.<action>.*`
    pub group OverloadActionStateStats {
        gauges {
            active,
            scale_percent,
        }
    }
}

stat_group! {
    /// `overload.<resource monitor>.*`
    pub group ResourceMonitorStats {
        counters {
            failed_updates,
            skipped_updates,
        }
        gauges {
            pressure,
        }
    }
}

stat_group! {
    /// `overload.<resource monitor>.*` of what is counted as it is used.
    pub group ProactiveResourceStats {
        counters {
            failed_updates,
        }
        gauges {
            pressure,
        }
    }
}

stat_group! {
    /// `overload.<load-shed point>.*`
    pub group LoadShedPointStats {
        counters {
            shed_load_count,
        }
        gauges {
            scale_percent,
        }
    }
}
