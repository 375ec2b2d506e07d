//! `envoy.filters.network.direct_response`: a fixed answer to every connection, then the end.

use bytes::Bytes;
use nuncio_api::pb::envoy::extensions::filters::network::direct_response::v3::Config;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_config::lower;
use nuncio_filter::{Connection, TerminalFilterFactory};
use nuncio_io::buffer::WriteBuffer;
use nuncio_stream_info::details;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

/// The extension.
pub struct DirectResponseExtension;

impl NetworkExtension for DirectResponseExtension {
    type Config = Config;
    const NAME: &'static str = "envoy.filters.network.direct_response";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        let response = match &config.response {
            Some(source) => lower::data_source(source, &mut cx.field("response"))?,
            None => Vec::new(),
        };
        Ok(NetworkFactory::Terminal(Arc::new(DirectResponse { response: response.into() })))
    }
}

struct DirectResponse {
    response: Bytes,
}

impl TerminalFilterFactory for DirectResponse {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(respond(self.response.clone(), connection))
    }
}

async fn respond(response: Bytes, mut connection: Connection) {
    if let Some(log) = &connection.log {
        log.note(|info| info.details = details::DIRECT_RESPONSE.into());
    }
    let mut output = WriteBuffer::new();
    output.push(response);
    poll_fn(|cx| {
        connection.registration.set_waker(cx.waker());
        if connection.registration.must_close() {
            return Poll::Ready(());
        }
        let mut sent = 0;
        if ready!(output.poll_flush(cx, &mut connection.transport, &mut sent)).is_ok() {
            // The peer may be gone already; then there is nobody to tell.
            let _ = ready!(connection.transport.poll_shutdown(cx));
        }
        Poll::Ready(())
    })
    .await;
}
