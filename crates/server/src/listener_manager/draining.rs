//! What `listener_manager` counts of listeners and filter chains that were removed or replaced, and drain.

use nuncio_config::snapshot::ListenerConfig;
use nuncio_stats::names::ListenerManagerStats;
use std::collections::HashSet;
use std::time::Duration;

/// A listener drains from now on.
pub(super) fn listener(stats: &ListenerManagerStats, time: Duration) {
    stats.total_listeners_draining().add(1);
    let stats = stats.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(time).await;
        stats.total_listeners_draining().sub(1);
    });
}

/// Filter chains of a listener that stays drain from now on.
pub(super) fn chains(stats: &ListenerManagerStats, time: Duration, count: u64) {
    if count == 0 {
        return;
    }
    stats.total_filter_chains_draining().add(count);
    let stats = stats.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(time).await;
        stats.total_filter_chains_draining().sub(count);
    });
}

/// Whether a listener differs in its filter chains alone. Then connections of chains that stay go on.
pub(super) fn only_chains(before: &ListenerConfig, after: &ListenerConfig) -> bool {
    before.hash_without_chains == after.hash_without_chains
}

/// Number of filter chains that are not there any more.
pub(super) fn gone(before: &ListenerConfig, after: &ListenerConfig) -> u64 {
    let stays: HashSet<u64> = after.chains.iter().map(|chain| chain.hash).collect();
    before.chains.iter().filter(|chain| !stays.contains(&chain.hash)).count() as u64
}
