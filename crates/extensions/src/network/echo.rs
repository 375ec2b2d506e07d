//! `envoy.filters.network.echo`: what comes is sent back.

use nuncio_api::pb::envoy::extensions::filters::network::echo::v3::Echo;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_filter::{Connection, TerminalFilterFactory};
use nuncio_io::buffer::{HEAD_BUFFER, ReadBuffer, WriteBuffer};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

/// The extension.
pub struct EchoExtension;

impl NetworkExtension for EchoExtension {
    type Config = Echo;
    const NAME: &'static str = "envoy.filters.network.echo";

    fn compile(_config: Self::Config, _cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        Ok(NetworkFactory::Terminal(Arc::new(EchoFilter)))
    }
}

struct EchoFilter;

impl TerminalFilterFactory for EchoFilter {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(echo(connection))
    }
}

/// Reads only what was sent back, so that a peer that does not read bounds what waits.
async fn echo(mut connection: Connection) {
    let (mut input, mut output) = (ReadBuffer::new(), WriteBuffer::new());
    let mut ended = false;
    poll_fn(|cx| {
        connection.registration.set_waker(cx.waker());
        if connection.registration.must_close() {
            return Poll::Ready(());
        }
        loop {
            let mut sent = 0;
            if ready!(output.poll_flush(cx, &mut connection.transport, &mut sent)).is_err() {
                return Poll::Ready(());
            }
            if ended {
                let _ = ready!(connection.transport.poll_shutdown(cx));
                return Poll::Ready(());
            }
            match ready!(input.poll_fill(cx, &mut connection.transport, HEAD_BUFFER)) {
                Ok(0) => ended = true,
                Ok(_) => {
                    let waiting = input.len();
                    output.push_from(&mut input, 0, waiting);
                }
                Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}
