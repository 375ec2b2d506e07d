//! The statistics of a subscription.

use nuncio_cluster::ClusterStats;
use nuncio_stats::Scope;
use nuncio_stats::names::{EndpointSubscriptionStats, SubscriptionStats};
use std::time::{Duration, SystemTime};

/// Where a subscription is counted.
pub(crate) enum Counts {
    /// In a scope of its own.
    Own(SubscriptionStats, Scope),
    /// Among the statistics of an EDS cluster.
    OfCluster(Box<(ClusterStats, EndpointSubscriptionStats)>),
}

impl Counts {
    /// `<scope>.update_success` and the like.
    pub(crate) fn of(scope: &Scope) -> Counts {
        Counts::Own(SubscriptionStats::register(scope), scope.clone())
    }

    /// Where they are.
    pub(super) fn scope(&self) -> &Scope {
        match self {
            Counts::Own(_, scope) => scope,
            Counts::OfCluster(stats) => stats.0.scope(),
        }
    }

    /// `cluster.<name>.update_success` and the like.
    pub(crate) fn of_cluster(stats: &ClusterStats) -> Counts {
        let own = EndpointSubscriptionStats::register(stats.scope());
        Counts::OfCluster(Box::new((stats.clone(), own)))
    }

    pub(super) fn attempt(&self) {
        match self {
            Counts::Own(stats, _) => stats.update_attempt().inc(),
            Counts::OfCluster(stats) => stats.0.update().update_attempt().inc(),
        }
    }

    pub(super) fn success(&self, version: &str, took: Duration) {
        self.attempt();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let hash = nuncio_lb::hash_bytes(version.as_bytes(), 0);
        match self {
            Counts::Own(stats, _) => {
                stats.update_success().inc();
                stats.update_time().set(now);
                stats.version().set(hash);
                stats.version_text().set(version);
                stats.update_duration().record(took);
            }
            Counts::OfCluster(stats) => {
                let (cluster, own) = &**stats;
                cluster.update().update_success().inc();
                cluster.update().version().set(hash);
                own.update_time().set(now);
                own.version_text().set(version);
                own.update_duration().record(took);
            }
        }
    }

    pub(super) fn failure(&self) {
        match self {
            Counts::Own(stats, _) => stats.update_failure().inc(),
            Counts::OfCluster(stats) => stats.0.update().update_failure().inc(),
        }
    }

    pub(super) fn timed_out(&self) {
        match self {
            Counts::Own(stats, _) => stats.init_fetch_timeout().inc(),
            Counts::OfCluster(stats) => stats.1.init_fetch_timeout().inc(),
        }
    }

    pub(super) fn rejected(&self) {
        match self {
            Counts::Own(stats, _) => stats.update_rejected().inc(),
            Counts::OfCluster(stats) => stats.1.update_rejected().inc(),
        }
    }
}
