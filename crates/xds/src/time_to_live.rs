//! `Resource.ttl`: resources that are gone if they are not sent again.

use crate::ResourceType;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// When which resource expires.
#[derive(Debug, Default)]
pub(crate) struct TimesToLive {
    by_name: HashMap<(ResourceType, String), Instant>,
    by_time: BTreeSet<(Instant, ResourceType, String)>,
}

impl TimesToLive {
    /// A resource was sent, or a heartbeat of it.
    pub(crate) fn set(&mut self, kind: ResourceType, name: &str, ttl: Option<Duration>, now: Instant) {
        self.forget(kind, name);
        let Some(at) = ttl.and_then(|ttl| now.checked_add(ttl)) else { return };
        self.by_name.insert((kind, name.to_owned()), at);
        self.by_time.insert((at, kind, name.to_owned()));
    }

    /// A resource is not there any more.
    pub(crate) fn forget(&mut self, kind: ResourceType, name: &str) {
        if self.by_name.is_empty() {
            return;
        }
        if let Some(at) = self.by_name.remove(&(kind, name.to_owned())) {
            self.by_time.remove(&(at, kind, name.to_owned()));
        }
    }

    /// When the next one expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, ..)| *at)
    }

    /// Those that expired, in order.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(ResourceType, String)> {
        let mut expired = Vec::new();
        while self.by_time.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, kind, name)) = self.by_time.pop_first() else { break };
            self.by_name.remove(&(kind, name.clone()));
            expired.push((kind, name));
        }
        expired
    }
}
