//! Draining: telling connections to end, and knowing which are left.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How far a listener's connections of one worker are asked to go. Read at each response: one load.
#[derive(Debug, Default)]
pub struct Drain {
    /// Since when, and how long it takes until all are told.
    began: Cell<Option<(Instant, Duration)>>,
    failing: Cell<bool>,
}

impl Drain {
    /// A listener that serves.
    pub fn new() -> Rc<Drain> {
        Rc::new(Drain::default())
    }

    /// Whether connections should end.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.began.get().is_some()
    }

    /// Whether a connection should end with its present request: all from the start, or a share of them that grows with
    /// the time (`--drain-strategy`). `random` decides for this request.
    #[inline]
    pub fn wants_end(&self, now: Instant, random: u64) -> bool {
        let Some((since, over)) = self.began.get() else { return false };
        let passed = now.saturating_duration_since(since);
        passed >= over || (random % 10_000) as f64 / 10_000.0 < passed.as_secs_f64() / over.as_secs_f64()
    }

    /// Whether all connections should end, idle ones too.
    #[inline]
    pub fn wants_all(&self, now: Instant) -> bool {
        self.began.get().is_some_and(|(since, over)| now.saturating_duration_since(since) >= over)
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

    /// From now on connections end, spread evenly over a time; zero tells all at once. The shorter one of two calls counts.
    /// Wake the connections of the registry afterwards.
    pub fn start(&self, now: Instant, over: Duration) {
        if self.began.get().is_none_or(|(since, present)| now + over < since + present) {
            self.began.set(Some((now, over)));
        }
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
    /// Who waits until there is none.
    waiting: Vec<Waker>,
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

    /// Waits until no connection is open.
    pub async fn emptied(&self) {
        std::future::poll_fn(|cx| {
            let mut slots = self.slots.borrow_mut();
            if slots.open == 0 {
                return Poll::Ready(());
            }
            if !slots.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                slots.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
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
            let waiting = std::mem::take(&mut *slots).waiting;
            drop(slots);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let began = Instant::now();
        let check = |over: u64, after: u64, random: u64, expected: (bool, bool)| {
            let drain = Drain::new();
            drain.start(began, Duration::from_secs(over));
            let now = began + Duration::from_secs(after);
            assert_eq!((drain.wants_end(now, random), drain.wants_all(now)), expected, "{over} {after} {random}");
        };
        check(0, 0, 9_999, (true, true));
        check(100, 0, 0, (false, false));
        check(100, 50, 4_999, (true, false));
        check(100, 50, 5_000, (false, false));
        check(100, 100, 9_999, (true, true));
        let drain = Drain::new();
        assert!(!drain.is_draining() && !drain.wants_all(began));
        drain.start(began, Duration::from_secs(100));
        drain.start(began, Duration::ZERO);
        assert!(drain.wants_all(began), "the shorter one counts");
        drain.start(began, Duration::from_secs(100));
        assert!(drain.wants_all(began), "the shorter one counts");
    }
    #[test]
    fn whoever_waits_for_the_last_connection_is_woken() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::new(Count(std::sync::atomic::AtomicUsize::new(0)));
        let woken = || count.0.load(std::sync::atomic::Ordering::Relaxed);
        let waker = std::sync::Arc::clone(&count).into();
        let mut cx = std::task::Context::from_waker(&waker);
        let registry = ConnectionRegistry::new();
        let connections = [registry.register(), registry.register()];
        let mut emptied = std::pin::pin!(registry.emptied());
        assert!(emptied.as_mut().poll(&mut cx).is_pending() && emptied.as_mut().poll(&mut cx).is_pending());
        let [first, last] = connections;
        drop(first);
        assert_eq!(woken(), 0);
        drop(last);
        assert_eq!(woken(), 1);
        assert!(emptied.poll(&mut cx).is_ready());
    }
}
