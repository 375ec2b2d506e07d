//! Statistics of virtual clusters, and of routes with a `stat_prefix`.

use nuncio_stats::names::{ClusterRequestTimeStats, VirtualClusterStats};
use nuncio_stats::{CodeCounters, Scope};
use std::ops::Deref;

/// `vhost.<name>.vcluster.<name>.*` or `vhost.<name>.route.<stat_prefix>.*`.
pub struct RequestStats {
    counters: VirtualClusterStats,
    codes: CodeCounters,
    time: ClusterRequestTimeStats,
}

impl RequestStats {
    pub(crate) fn register(scope: &Scope) -> RequestStats {
        RequestStats {
            counters: VirtualClusterStats::register(scope),
            codes: scope.code_counters("upstream_rq"),
            time: ClusterRequestTimeStats::register(scope),
        }
    }

    /// Counts a response by its status.
    pub fn charge(&self, status: u16) {
        self.codes.charge(status);
    }

    /// Records how long a request took, in milliseconds.
    pub fn record_time(&self, ms: u64) {
        self.time.upstream_rq_time().record(ms);
    }
}

impl Deref for RequestStats {
    type Target = VirtualClusterStats;

    fn deref(&self) -> &VirtualClusterStats {
        &self.counters
    }
}

impl std::fmt::Debug for RequestStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestStats")
    }
}
