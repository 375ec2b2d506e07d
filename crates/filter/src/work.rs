//! What a filter waits for.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Something that takes time: the driver polls it and hands the result to the filter's `resume`. Dropped, and with it
/// whatever it started, when the stream ends first.
pub struct Work(Pin<Box<dyn Future<Output = Completed>>>);

impl Work {
    /// Waits for `future`; its output comes to `resume`.
    pub fn new<T: 'static>(future: impl Future<Output = T> + 'static) -> Work {
        Work(Box::pin(async move { Completed(Box::new(future.await)) }))
    }

    /// Waits for `duration`; the result carries nothing.
    pub fn sleep(duration: Duration) -> Work {
        Work::new(tokio::time::sleep(duration))
    }

    /// Polls it. Must not be called again after it was ready.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Completed> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

/// The output of a [`Work`].
pub struct Completed(Box<dyn Any>);

impl Completed {
    /// The output, if it is a `T`; a filter that starts several kinds of work tells them apart by type.
    pub fn take<T: 'static>(self) -> Result<T, Completed> {
        self.0.downcast::<T>().map(|output| *output).map_err(Completed)
    }
}

impl std::fmt::Debug for Completed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completed")
    }
}
