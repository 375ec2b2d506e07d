//! Named events by which a client script and an origin script wait for one another, so that no script depends on time.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A set of named gates, all shut at first. A gate that was opened stays open until [`Gates::reset`].
#[derive(Clone, Default)]
pub struct Gates {
    inner: Arc<(Mutex<HashSet<String>>, Condvar)>,
}

impl Gates {
    /// Opens `name` and wakes everybody who waits for it.
    pub fn open(&self, name: &str) {
        let (open, changed) = &*self.inner;
        open.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        changed.notify_all();
    }

    /// Waits until `name` is open. `false` when that did not happen within `patience`.
    pub fn wait(&self, name: &str, patience: Duration) -> bool {
        let (open, changed) = &*self.inner;
        let guard = open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, patience, |open| !open.contains(name));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Shuts all gates.
    pub fn reset(&self) {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
