//! Requests that wait for a connection to be given back.

use super::{ConnectFailure, HostPool, PooledConnection};
use crate::breaker::Resource;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What a waiting request and its pool share.
pub(super) struct Slot {
    state: RefCell<State>,
}

enum State {
    Waiting(Option<Waker>),
    Given(Box<PooledConnection>),
    Retry,
    Failed(ConnectFailure),
    Gone,
}

impl Slot {
    pub(super) fn is_wanted(&self) -> bool {
        matches!(&*self.state.borrow(), State::Waiting(_))
    }

    pub(super) fn give(&self, connection: Box<PooledConnection>) {
        self.change(State::Given(connection));
    }

    pub(super) fn retry(&self) {
        self.change(State::Retry);
    }

    pub(super) fn fail(&self, failure: ConnectFailure) {
        self.change(State::Failed(failure));
    }

    fn change(&self, next: State) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), next);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// A request in the queue of a pool. Counts as pending while it exists.
pub struct Waiting {
    pool: Rc<HostPool>,
    slot: Rc<Slot>,
}

/// What the wait led to.
pub enum Waited {
    /// A connection that another request gave back.
    Ready(Box<PooledConnection>),
    /// A connection closed: ask the pool again.
    Again,
    /// Too many requests are served: a circuit breaker is open.
    Overflow,
    /// The connection that was to be shared was not made.
    Failed(ConnectFailure),
}

impl Waiting {
    pub(super) fn new(pool: &Rc<HostPool>) -> Waiting {
        let slot = Rc::new(Slot { state: RefCell::new(State::Waiting(None)) });
        pool.waiting.borrow_mut().push_back(Rc::clone(&slot));
        pool.cluster.breaker(pool.key.priority).acquire(Resource::PendingRequests);
        pool.cluster.stats.upstream_rq_pending_total().inc();
        pool.cluster.stats.upstream_rq_pending_active().add(1);
        Waiting { pool: Rc::clone(pool), slot }
    }

    /// Waits for a connection. Must not be polled after it was ready.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Waited> {
        let mut state = self.slot.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Given(connection) => {
                drop(state);
                if connection.begin_request() {
                    connection.limit_line();
                    return Poll::Ready(Waited::Ready(connection));
                }
                connection.release(now);
                Poll::Ready(Waited::Overflow)
            }
            State::Failed(failure) => Poll::Ready(Waited::Failed(failure)),
            State::Retry | State::Gone => Poll::Ready(Waited::Again),
        }
    }

    /// The pool that it waits for.
    pub fn pool(&self) -> &Rc<HostPool> {
        &self.pool
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.cluster.breaker(self.pool.key.priority).release(Resource::PendingRequests);
        self.pool.cluster.stats.upstream_rq_pending_active().sub(1);
        let state = std::mem::replace(&mut *self.slot.state.borrow_mut(), State::Gone);
        match state {
            State::Given(connection) => {
                let now = tokio::time::Instant::now().into_std();
                connection.give_on(now);
            }
            State::Retry => {
                while let Some(slot) = self.pool.pop_waiting() {
                    if slot.is_wanted() {
                        slot.retry();
                        break;
                    }
                }
            }
            State::Waiting(_) => {
                let slot = &self.slot;
                self.pool.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, slot));
            }
            State::Gone | State::Failed(_) => {}
        }
    }
}
