//! `envoy.filters.listener.original_dst`: where a redirected connection was going (`SO_ORIGINAL_DST`).

use nuncio_api::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use nuncio_config::compile::{Compile, Invalid, ListenerExtension};
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
use std::sync::Arc;
use tokio::net::TcpStream;

/// The extension.
pub struct OriginalDstExtension;

impl ListenerExtension for OriginalDstExtension {
    type Config = OriginalDst;
    const NAME: &'static str = "envoy.filters.listener.original_dst";

    fn compile(_config: Self::Config, _cx: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        Ok(Arc::new(Factory))
    }
}

struct Factory;

impl ListenerFilterFactory for Factory {
    fn create(&self) -> Box<dyn ListenerFilter> {
        Box::new(Filter)
    }
}

struct Filter;

impl ListenerFilter for Filter {
    fn max_bytes(&self) -> usize {
        0
    }

    fn peek(&mut self, socket: &TcpStream, _data: &[u8], _end: bool, peeked: &mut Peeked) -> PeekStep {
        if let Some(destination) = nuncio_io::original_dst::original_dst(socket) {
            peeked.original_destination = Some(destination);
        }
        PeekStep::Next
    }
}
