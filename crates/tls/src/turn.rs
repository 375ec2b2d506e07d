//! Who may do the expensive part of a handshake now.
//!
//! Answering a ClientHello costs more than serving many requests. In a flood of handshakes a worker would answer all that came in
//! before it serves an established connection again; so only a few are answered each time the worker goes round its tasks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hellos that a worker answers each time round: about 0.3 ms with ECDSA.
const AT_ONCE: usize = 2;

thread_local! {
    static TURNS: Arc<Semaphore> = Arc::new(Semaphore::new(AT_ONCE));
}

/// One handshake's place in the order.
pub(crate) enum Turn {
    /// It did not ask.
    Idle,
    /// It waits.
    Waiting(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>>>>),
    /// It is its turn, until it is polled the next time: then the worker has been round.
    Taken(Option<OwnedSemaphorePermit>),
}

impl Turn {
    /// Waits for the turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Turn::Taken(_) => return Poll::Ready(()),
                Turn::Waiting(waiting) => *self = Turn::Taken(ready!(waiting.as_mut().poll(cx))),
                Turn::Idle => {
                    let turns = TURNS.with(Arc::clone);
                    *self = match Arc::clone(&turns).try_acquire_owned() {
                        Ok(permit) => Turn::Taken(Some(permit)),
                        Err(_) => Turn::Waiting(Box::pin(async move { turns.acquire_owned().await.ok() })),
                    };
                }
            }
        }
    }

    /// The handshake was polled again: another may have the turn.
    pub(crate) fn pass(&mut self) {
        if let Turn::Taken(permit) = self {
            *permit = None;
        }
    }

    /// After the expensive part: comes back when the worker has been round, and has seen what came in meanwhile. Waking the
    /// task at once would only put it behind the others that wait, a dozen handshakes before the next look at the sockets.
    pub(crate) fn come_back(&self, cx: &mut Context<'_>) {
        if matches!(self, Turn::Taken(Some(_))) {
            // Pending, and woken after the next look.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
    }
}
