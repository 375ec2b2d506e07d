//! What workers tell the main thread. Rare: never once per request.

use crate::Host;
use crate::outlier::EjectionType;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

#[derive(Debug)]
pub(crate) enum Event {
    /// A consecutive-failure counter of a host reached its limit.
    Outlier(Arc<Host>, EjectionType),
    /// A response said `x-envoy-immediate-health-check-fail`.
    ImmediateHealthCheckFail(Arc<Host>),
    /// Workers met original destinations that had no host.
    OriginalDstHosts,
}

/// Where the events of one cluster go.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    /// Tells clusters of the same name apart while one replaces the other.
    pub(crate) cluster: u64,
    pub(crate) sender: UnboundedSender<(u64, Event)>,
}

impl Events {
    pub(crate) fn send(&self, event: Event) {
        // Without a receiver the process is ending.
        let _ = self.sender.send((self.cluster, event));
    }
}
