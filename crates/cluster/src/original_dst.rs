//! Cleans up the hosts of `ORIGINAL_DST` clusters. Workers make them.

use crate::manager::{AbortOnDrop, Cluster};
use std::rc::Rc;

/// Removes hosts that were not used for a whole `cleanup_interval` and have no connections.
pub(crate) fn clean_up(cluster: &Rc<Cluster>) -> AbortOnDrop {
    let weak = Rc::downgrade(cluster);
    let interval = cluster.info.config.cleanup_interval.max(std::time::Duration::from_millis(1));
    let task = tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(cluster) = weak.upgrade() else { return };
            let Some(shared) = cluster.shared() else { return };
            let Some(mut hosts) = cluster.info.original_dst_hosts() else { return };
            let before = hosts.len();
            hosts.retain(|_, host| host.take_used());
            let changed = hosts.len() != before;
            drop(hosts);
            if changed {
                cluster.take_up_original_dst(&shared);
            }
        }
    });
    AbortOnDrop(task.abort_handle())
}
