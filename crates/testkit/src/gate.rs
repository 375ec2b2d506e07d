//! Named events by which a client script and an origin script wait for one another, so that no script depends on time.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A set of named gates, all shut at first. A gate that was opened stays open until [`Gates::reset`].
#[derive(Clone, Default)]
pub struct Gates {
    inner: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    open: HashSet<String>,
    /// Counts the resets: who waited before one is let go by it.
    round: u64,
}

impl Gates {
    /// Opens `name` and wakes everybody who waits for it.
    pub fn open(&self, name: &str) {
        self.state().open.insert(name.to_owned());
        self.inner.1.notify_all();
    }

    /// Waits until `name` is open, or all gates are reset. `false` when neither happened within `patience`.
    pub fn wait(&self, name: &str, patience: Duration) -> bool {
        let state = self.state();
        let round = state.round;
        let shut = |state: &mut State| state.round == round && !state.open.contains(name);
        let waited = self.inner.1.wait_timeout_while(state, patience, shut);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Shuts all gates, and lets go whoever still waits.
    pub fn reset(&self) {
        let mut state = self.state();
        state.open.clear();
        state.round += 1;
        drop(state);
        self.inner.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
