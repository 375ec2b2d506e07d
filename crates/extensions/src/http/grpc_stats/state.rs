//! The counts of a stream's messages in its filter state.

use nuncio_stream_info::{FilterStateObject, Struct, Value};
use std::any::Any;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `envoy.extensions.filters.http.grpc_stats.v3.FilterObject`, under the name `envoy.filters.http.grpc_stats`.
#[derive(Debug, Default)]
pub struct MessageCounts {
    request: AtomicU64,
    response: AtomicU64,
}

impl MessageCounts {
    /// Puts counts in the place of those before.
    pub(super) fn set(&self, request: u64, response: u64) {
        self.request.store(request, Relaxed);
        self.response.store(response, Relaxed);
    }
}

impl MessageCounts {
    /// So many of requests, and so many of responses.
    #[cfg(test)]
    pub(in crate::http) fn of(request: u64, response: u64) -> MessageCounts {
        MessageCounts { request: request.into(), response: response.into() }
    }

    /// Messages so far, of requests and of responses.
    pub(in crate::http) fn get(&self) -> [u64; 2] {
        [self.request.load(Relaxed), self.response.load(Relaxed)]
    }
}

impl FilterStateObject for MessageCounts {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_plain(&self) -> Option<Cow<'_, str>> {
        let (request, response) = (self.request.load(Relaxed), self.response.load(Relaxed));
        Some(Cow::Owned(format!("{request},{response}")))
    }

    fn to_typed(&self) -> Option<Value> {
        let fields = [("requestMessageCount", &self.request), ("responseMessageCount", &self.response)];
        let mut counts = Struct::new();
        for (name, count) in fields {
            let count = count.load(Relaxed);
            if count > 0 {
                counts.set(name, Value::String(count.to_string().into()));
            }
        }
        Some(Value::Struct(counts))
    }
}
