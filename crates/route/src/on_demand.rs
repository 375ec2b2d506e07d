//! What requests need and is not there yet: how they ask for it.

use crate::{LiveRoutes, RouteTable};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Called when what was asked for is there, or is known not to be; dropped where nobody will know.
pub type Answer = Box<dyn FnOnce() + Send>;

/// A request's question.
pub struct Question {
    /// What it asks for.
    pub name: Box<str>,
    /// Who waits.
    pub answer: Answer,
}

type Ask = Box<dyn Fn(Question) + Send + Sync>;

/// The way from requests to whoever subscribes to resources on demand.
#[derive(Default)]
pub struct OnDemand {
    ask: OnceLock<Ask>,
}

impl OnDemand {
    /// Leads questions to `ask`, which may be called from any thread. Only the first call counts.
    pub fn connect(&self, ask: impl Fn(Question) + Send + Sync + 'static) {
        // Whoever was first stays.
        let _ = self.ask.set(Box::new(ask));
    }

    /// Asks. Where nobody listens the answer is dropped.
    pub fn ask(&self, question: Question) {
        if let Some(ask) = self.ask.get() {
            ask(question);
        }
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand").field("is_connected", &self.ask.get().is_some()).finish()
    }
}

/// The virtual hosts of a route configuration that come by themselves (`RouteConfiguration.vhds`).
#[derive(Debug, Default)]
pub struct VirtualHostDiscovery {
    /// Takes the name of a host, in lower case.
    pub on_demand: OnDemand,
    /// The newest table.
    pub newest: LiveRoutes,
}

impl RouteTable {
    /// Notes where virtual hosts that are not in the table may come from. Only the first call counts.
    pub fn set_discovery(&self, discovery: Arc<VirtualHostDiscovery>) {
        // Whoever was first stays.
        let _ = self.discovery.set(discovery);
    }

    /// Where virtual hosts that are not in the table may come from.
    pub fn discovery(&self) -> Option<&Arc<VirtualHostDiscovery>> {
        self.discovery.get()
    }
}
