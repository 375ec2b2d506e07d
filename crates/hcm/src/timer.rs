//! The one timer of a connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A timer that follows a deadline which moves with every request, at the cost of a comparison: it is armed again only
/// when the deadline comes earlier than it is armed for, or when it fires.
pub(crate) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl LazyTimer {
    pub(crate) const fn new() -> LazyTimer {
        LazyTimer { sleep: None, armed: None }
    }

    /// Makes sure that the task is woken at `deadline` at the latest (perhaps earlier). True if it has passed already.
    #[inline]
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>, now: Instant, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            return true;
        }
        if self.armed.is_some_and(|armed| armed <= deadline && armed > now) {
            return false;
        }
        self.rearm(cx, deadline)
    }

    #[cold]
    fn rearm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let at = tokio::time::Instant::from_std(deadline);
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(at);
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(at))),
        };
        self.armed = Some(deadline);
        match sleep.as_mut().poll(cx) {
            Poll::Pending => false,
            Poll::Ready(()) => {
                self.armed = None;
                true
            }
        }
    }
}

/// The earlier of two deadlines.
#[inline]
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}

/// `start + after`; none if there is no such time.
#[inline]
pub(crate) fn deadline(start: Instant, after: Option<Duration>) -> Option<Instant> {
    after.and_then(|after| start.checked_add(after))
}

use std::future::Future as _;
