//! The HTTP connection manager: the stream driver, the terminal router, retries and timeouts.
//!
//! Owns: serving HTTP on a downstream connection: reading requests, running the filter chain, choosing the upstream,
//! retrying, answering in its place, logging. Does not own: the codec (`http`), matching (`route`), pools and balancing
//! (`cluster`), nor any filter (`extensions`).

mod chain;
mod client;
mod client_cert;
mod conditioning;
pub mod config;
mod connection;
mod date;
pub mod detection;
mod environment;
pub mod grpc;
mod http2;
pub mod local_reply;
mod overload;
mod path;
pub mod proxy_status;
mod retry;
mod router;
#[cfg(test)]
mod sizes;
mod stream;
mod timer;

pub use client::client;
pub use config::HcmConfig;
pub use router::is_checkable;

use nuncio_filter::{Connection, TerminalFilterFactory};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The connection manager as the last filter of a chain.
pub struct HttpConnectionManager {
    config: Arc<HcmConfig>,
}

impl HttpConnectionManager {
    /// A connection manager with this configuration.
    pub fn new(config: HcmConfig) -> Arc<HttpConnectionManager> {
        Arc::new(HttpConnectionManager { config: Arc::new(config) })
    }
}

impl TerminalFilterFactory for HttpConnectionManager {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(connection::HttpConnection::new(Arc::clone(&self.config), connection))
    }
}
