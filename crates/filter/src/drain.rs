//! Draining: telling connections to end, and knowing which are left.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// How far a listener's connections of one worker are asked to go. Read at each response: one load.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Cell<bool>,
    failing: Cell<bool>,
}

impl Drain {
    /// A listener that serves.
    pub fn new() -> Rc<Drain> {
        Rc::new(Drain::default())
    }

    /// Whether connections should end with their present request, and idle ones now.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether health checks of the process fail on purpose: connections end with their next response, idle ones stay.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.failing.get()
    }

    /// Health checks fail on purpose, or not any more.
    pub fn set_failing(&self, failing: bool) {
        self.failing.set(failing);
    }

    /// From now on connections end. Wake the connections of the registry afterwards.
    pub fn start(&self) {
        self.draining.set(true);
    }
}

/// The open connections of one worker (or of one of its listeners).
#[derive(Default)]
pub struct ConnectionRegistry {
    slots: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    wakers: Vec<Option<Slot>>,
    free: Vec<u32>,
    open: usize,
}

struct Slot {
    waker: Option<Waker>,
    close: bool,
}

impl ConnectionRegistry {
    /// An empty registry.
    pub fn new() -> Rc<ConnectionRegistry> {
        Rc::new(ConnectionRegistry::default())
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.slots.borrow().open
    }

    /// Adds a connection; it leaves with the registration.
    pub fn register(self: &Rc<Self>) -> Registration {
        let mut slots = self.slots.borrow_mut();
        let slot = Some(Slot { waker: None, close: false });
        let at = match slots.free.pop() {
            Some(at) => {
                slots.wakers[at as usize] = slot;
                at
            }
            None => {
                slots.wakers.push(slot);
                (slots.wakers.len() - 1) as u32
            }
        };
        slots.open += 1;
        Registration { registry: Rc::clone(self), at }
    }

    /// Wakes all connections, so that they look at their [`Drain`].
    pub fn wake_all(&self) {
        self.for_all(|_| ());
    }

    /// Asks all connections to close at once, whatever they are doing.
    pub fn close_all(&self) {
        self.for_all(|slot| slot.close = true);
    }

    fn for_all(&self, change: impl Fn(&mut Slot)) {
        let mut wakers = Vec::new();
        for slot in self.slots.borrow_mut().wakers.iter_mut().flatten() {
            change(slot);
            wakers.extend(slot.waker.clone());
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A connection's place in the registry.
pub struct Registration {
    registry: Rc<ConnectionRegistry>,
    at: u32,
}

impl Registration {
    /// Remembers how to wake the connection's task; enough to call once per task.
    pub fn set_waker(&self, waker: &Waker) {
        if let Some(Some(slot)) = self.registry.slots.borrow_mut().wakers.get_mut(self.at as usize) {
            match &slot.waker {
                Some(present) if present.will_wake(waker) => {}
                _ => slot.waker = Some(waker.clone()),
            }
        }
    }

    /// Whether the connection was asked to close at once.
    pub fn must_close(&self) -> bool {
        self.registry
            .slots
            .borrow()
            .wakers
            .get(self.at as usize)
            .is_some_and(|slot| slot.as_ref().is_some_and(|s| s.close))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut slots = self.registry.slots.borrow_mut();
        if let Some(slot) = slots.wakers.get_mut(self.at as usize) {
            *slot = None;
            slots.free.push(self.at);
            slots.open -= 1;
        }
        if slots.open == 0 {
            *slots = Slots::default();
        }
    }
}
