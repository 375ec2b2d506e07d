//! Which admin connections are open, and how many may be.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// Connections at the same time. Beyond, the one that was idle for longest is closed; if all are busy, the new one is.
const MOST: usize = 256;

/// The open connections.
#[derive(Default)]
pub(super) struct Connections {
    open: Rc<RefCell<HashMap<u64, Entry>>>,
    last_id: Cell<u64>,
}

#[derive(Default)]
struct Entry {
    /// Since when no request is under way; none while there is one.
    idle_since: Rc<Cell<Option<Instant>>>,
    task: Option<AbortHandle>,
}

/// The place of a connection among the open ones; given back when dropped.
pub(super) struct Place {
    id: u64,
    open: Rc<RefCell<HashMap<u64, Entry>>>,
    idle_since: Rc<Cell<Option<Instant>>>,
}

impl Connections {
    /// A place for a new connection; none if there are too many busy ones.
    pub(super) fn enter(&self) -> Option<Place> {
        if self.open.borrow().len() >= MOST && !self.close_idle() {
            return None;
        }
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let entry = Entry::default();
        let idle_since = Rc::clone(&entry.idle_since);
        self.open.borrow_mut().insert(id, entry);
        Some(Place { id, open: Rc::clone(&self.open), idle_since })
    }

    /// Tells by what the connection can be ended.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        if let Some(entry) = self.open.borrow_mut().get_mut(&id) {
            entry.task = Some(task);
        }
    }

    /// Ends the connection that was idle for longest; false if none is idle.
    fn close_idle(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().filter_map(|(id, entry)| entry.idle_since.get().map(|since| (since, *id)));
        let Some((_, id)) = idle.min() else { return false };
        if let Some(task) = open.remove(&id).and_then(|entry| entry.task) {
            task.abort();
        }
        true
    }

    /// Ends all connections.
    pub(super) fn close_all(&self) {
        let tasks: Vec<AbortHandle> = self.open.borrow_mut().drain().filter_map(|(_, entry)| entry.task).collect();
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Place {
    /// What the connection is known by.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A request begins.
    pub(super) fn busy(&self) {
        self.idle_since.set(None);
    }

    /// There is no request now.
    pub(super) fn idle(&self, now: Instant) {
        self.idle_since.set(Some(now));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn idle_connections_make_room() {
        let connections = Connections::default();
        let mut places: Vec<Place> = (0..MOST).map(|_| connections.enter().unwrap()).collect();
        assert!(connections.enter().is_none(), "all are busy");
        let now = Instant::now();
        places[7].idle(now);
        places[3].idle(now + Duration::from_secs(1));
        let new = connections.enter().unwrap();
        assert!(!connections.open.borrow().contains_key(&places[7].id()), "idle for longest");
        assert!(connections.open.borrow().contains_key(&places[3].id()));
        places.clear();
        drop(new);
        assert!(connections.open.borrow().is_empty());
    }
}
