//! What start, or a warming listener, waits for.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Things that are waited for.
#[derive(Default)]
pub(crate) struct Waits {
    pending: RefCell<Vec<Weak<Target>>>,
    changed: Notify,
}

struct Target {
    name: Arc<str>,
    since: Instant,
    waits: Weak<Waits>,
}

/// One of them; what it stands for is there, or is not waited for any longer, when this is dropped.
pub(crate) struct Wait(#[allow(dead_code)] Rc<Target>);

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(waits) = self.waits.upgrade() {
            waits.changed.notify_waiters();
        }
    }
}

impl Waits {
    /// Begins to wait for something.
    pub(crate) fn wait(self: &Rc<Self>, name: impl Into<Arc<str>>) -> Wait {
        let target = Rc::new(Target { name: name.into(), since: Instant::now(), waits: Rc::downgrade(self) });
        let mut pending = self.pending.borrow_mut();
        pending.retain(|target| target.strong_count() > 0);
        pending.push(Rc::downgrade(&target));
        Wait(target)
    }

    /// What is not there yet, and since when it is waited for.
    pub(crate) fn pending(&self) -> Vec<(Arc<str>, Instant)> {
        let pending = self.pending.borrow();
        pending.iter().filter_map(Weak::upgrade).map(|target| (Arc::clone(&target.name), target.since)).collect()
    }

    /// Returns when nothing is waited for.
    pub(crate) async fn done(&self) {
        loop {
            let changed = self.changed.notified();
            if self.pending.borrow().iter().all(|target| target.strong_count() == 0) {
                return;
            }
            changed.await;
        }
    }
}
