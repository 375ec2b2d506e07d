//! `listener.<address>.*`, `listener_manager.*`

use crate::stat_group;

stat_group! {
    /// `listener.<address>.*`
    pub group ListenerStats {
        counters {
            downstream_cx_destroy,
            downstream_cx_overflow,
            downstream_cx_overload_reject,
            downstream_cx_total,
            downstream_cx_transport_socket_connect_timeout,
            downstream_global_cx_overflow,
            downstream_listener_filter_error,
            downstream_listener_filter_remote_close,
            downstream_pre_cx_timeout,
            no_filter_chain_match,
        }
        gauges {
            downstream_cx_active,
            downstream_pre_cx_active,
        }
        histograms {
            connections_accepted_per_socket_event(none),
            downstream_cx_length_ms(ms),
        }
    }
}

stat_group! {
    /// `listener.<address>.*`: filter configuration discovery.
    pub group ListenerExtensionConfigStats {
        counters {
            extension_config_missing,
            network_extension_config_missing,
        }
    }
}

stat_group! {
    /// `listener.<address>.worker_<n>.*` (`main_thread` for the admin listener).
    pub group ListenerWorkerStats {
        counters {
            downstream_cx_total,
        }
        gauges {
            downstream_cx_active,
        }
    }
}

stat_group! {
    /// `listener_manager.*`
    pub group ListenerManagerStats {
        counters {
            listener_added,
            listener_create_failure,
            listener_create_success,
            listener_in_place_updated,
            listener_modified,
            listener_removed,
            listener_stopped,
        }
        gauges {
            total_filter_chains_draining,
            total_listeners_active,
            total_listeners_draining,
            total_listeners_warming,
            workers_pinned,
            workers_started,
        }
    }
}
