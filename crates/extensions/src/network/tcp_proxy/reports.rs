//! Telling observers what a connection has come to, from time to time.

use nuncio_filter::Observers;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The timer of a connection's observers; none where nobody wants to be told before the end.
pub(super) struct Reports(Option<(Duration, Pin<Box<Sleep>>)>);

impl Reports {
    pub(super) fn new(observers: &Observers) -> Reports {
        let interval = observers.interval().filter(|interval| !interval.is_zero());
        Reports(interval.map(|interval| (interval, Box::pin(tokio::time::sleep(interval)))))
    }

    /// Calls `report` if it is time to.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut report: impl FnMut()) {
        let Some((interval, timer)) = &mut self.0 else { return };
        while timer.as_mut().poll(cx).is_ready() {
            report();
            timer.as_mut().reset(Instant::now() + *interval);
        }
    }
}
