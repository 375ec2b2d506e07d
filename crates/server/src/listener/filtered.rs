//! Connections whose network filters look at the bytes: these pass through the filters on their way between the client and
//! the last filter of the chain.
//!
//! The last filter gets one end of a socket pair in the place of the client's socket, so that it need not know. A chain
//! whose filters only decide about new connections never comes here, and its bytes stay in the kernel where they can.

use bytes::{Buf, BytesMut};
use nuncio_filter::{Connection, NetworkFilter, NetworkStep, TerminalFilterFactory};
use nuncio_io::transport::Transport;
use std::future::poll_fn;
use std::task::{Context, Poll};
use tokio::net::UnixStream;

/// Bytes that are read at once.
const READ: usize = 16 * 1024;

/// Reads after which other connections have a turn.
const READS: usize = 16;

/// Serves a connection until it is over. `filters` in the order of the configuration.
pub(super) async fn serve(
    filters: Vec<Box<dyn NetworkFilter>>,
    terminal: &dyn TerminalFilterFactory,
    mut connection: Connection,
) {
    let (near, far) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => {
            tracing::error!(target: "filter", "a connection is closed: its filters need a socket pair: {error}");
            return;
        }
    };
    let limit = connection.buffer_limit as usize;
    let client = std::mem::replace(&mut connection.transport, Transport::Unix(near));
    let buffers = || (0..filters.len()).map(|_| BytesMut::new()).collect();
    let (read, written) = (Direction::new(buffers(), limit), Direction::new(buffers(), limit));
    let mut pump = Pump { client, terminal: Transport::Unix(far), read, written, filters };
    let mut served = Some(terminal.serve(connection));
    poll_fn(|cx| {
        if served.as_mut().is_some_and(|served| served.as_mut().poll(cx).is_ready()) {
            served = None;
        }
        pump.poll(cx, served.is_none())
    })
    .await;
}

/// The movement of bytes in both directions.
struct Pump {
    client: Transport,
    terminal: Transport,
    read: Direction,
    written: Direction,
    filters: Vec<Box<dyn NetworkFilter>>,
}

impl Pump {
    /// Ready when the connection is over. `alone`: the last filter of the chain is.
    fn poll(&mut self, cx: &mut Context<'_>, alone: bool) -> Poll<()> {
        let Pump { client, terminal, read, written, filters } = self;
        let sent = written.poll(cx, terminal, client, |at, data, end| {
            let at = filters.len() - 1 - at;
            filters[at].on_write(data, end)
        });
        let received = read.poll(cx, client, terminal, |at, data, end| filters[at].on_read(data, end));
        match (received, sent) {
            (_, Moved::Over) => Poll::Ready(()),
            (Moved::Over, _) if !alone => Poll::Ready(()),
            (_, Moved::Ended) if alone => Poll::Ready(()),
            (Moved::Ended, Moved::Ended) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// It waits for a socket.
    Waits,
    /// All bytes and the end of the stream were passed on.
    Ended,
    /// A socket failed, or a filter closes the connection.
    Over,
}

/// Bytes of one direction.
struct Direction {
    /// What each filter has before it, in the order in which they are asked.
    held: Vec<BytesMut>,
    /// What passed all of them.
    out: BytesMut,
    /// Most bytes that filters may hold.
    limit: usize,
    /// The stream has ended.
    end: bool,
    /// How it came out, once it did.
    outcome: Option<Moved>,
}

impl Direction {
    fn new(held: Vec<BytesMut>, limit: usize) -> Direction {
        Direction { held, out: BytesMut::new(), limit, end: false, outcome: None }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        mut ask: impl FnMut(usize, &mut BytesMut, bool) -> NetworkStep,
    ) -> Moved {
        if let Some(outcome) = self.outcome {
            return outcome;
        }
        match self.run(cx, from, to, &mut ask) {
            Poll::Pending => Moved::Waits,
            Poll::Ready(moved) => {
                self.outcome = Some(moved);
                moved
            }
        }
    }

    fn run(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        ask: &mut impl FnMut(usize, &mut BytesMut, bool) -> NetworkStep,
    ) -> Poll<Moved> {
        for _ in 0..READS {
            while !self.out.is_empty() {
                match std::task::ready!(to.poll_write(cx, &self.out)) {
                    Ok(count @ 1..) => self.out.advance(count),
                    _ => return Poll::Ready(Moved::Over),
                }
            }
            if self.end {
                let shut = std::task::ready!(to.poll_shutdown(cx));
                return Poll::Ready(if shut.is_ok() { Moved::Ended } else { Moved::Over });
            }
            let first = &mut self.held[0];
            first.reserve(READ);
            match std::task::ready!(from.poll_read(cx, first)) {
                Ok(0) => self.end = true,
                Ok(_) => {}
                Err(_) => return Poll::Ready(Moved::Over),
            }
            if !self.filter(ask) {
                return Poll::Ready(Moved::Over);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks the filters in turn; false if the connection is to be closed.
    fn filter(&mut self, ask: &mut impl FnMut(usize, &mut BytesMut, bool) -> NetworkStep) -> bool {
        for at in 0..self.held.len() {
            match ask(at, &mut self.held[at], self.end) {
                NetworkStep::Next => {
                    let passed = self.held[at].split();
                    self.held.get_mut(at + 1).unwrap_or(&mut self.out).unsplit(passed);
                }
                // Nothing more comes that it could wait for.
                NetworkStep::Hold => return !self.end && self.held[at].len() <= self.limit,
                NetworkStep::Close => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_filter::{Runtime, Worker};
    use nuncio_stream_info::{Address, ConnectionInfo};
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends back what comes, until the client ends its stream.
    struct Echo;

    impl TerminalFilterFactory for Echo {
        fn serve(&self, mut connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(async move {
                let mut bytes = BytesMut::with_capacity(100);
                loop {
                    bytes.reserve(100);
                    match poll_fn(|cx| connection.transport.poll_read(cx, &mut bytes)).await {
                        Ok(1..) => {}
                        _ => return,
                    }
                    while !bytes.is_empty() {
                        let sent = poll_fn(|cx| connection.transport.poll_write(cx, &bytes)).await.unwrap();
                        bytes.advance(sent);
                    }
                }
            })
        }
    }

    /// Passes whole lines, with a mark in each direction; closes at a line of `stop`.
    struct Lines(u8);

    impl NetworkFilter for Lines {
        fn on_read(&mut self, data: &mut BytesMut, end: bool) -> NetworkStep {
            if data.starts_with(b"stop\n") {
                return NetworkStep::Close;
            }
            if !end && !data.ends_with(b"\n") {
                return NetworkStep::Hold;
            }
            if !data.is_empty() {
                data.extend_from_slice(&[b'r', self.0]);
            }
            NetworkStep::Next
        }

        fn on_write(&mut self, data: &mut BytesMut, _end: bool) -> NetworkStep {
            if !data.is_empty() {
                data.extend_from_slice(&[b'w', self.0]);
            }
            NetworkStep::Next
        }
    }

    fn exchange(pieces: &'static [&'static [u8]], limit: u32) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (mut client, server) = UnixStream::pair().unwrap();
            let worker = Worker::new(1, 1, Arc::new(Runtime::default()));
            let nobody = Address::Pipe("".into());
            let info = ConnectionInfo::new(1, worker.now(), nobody.clone(), nobody);
            let mut connection = Connection::detached(Transport::Unix(server), Arc::new(info), worker);
            connection.buffer_limit = limit;
            let filters: Vec<Box<dyn NetworkFilter>> = vec![Box::new(Lines(b'1')), Box::new(Lines(b'2'))];
            let asks = async move {
                for piece in pieces {
                    // The other side may have closed.
                    let _ = client.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                let _ = client.shutdown().await;
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                String::from_utf8(answer).unwrap()
            };
            let serves = async move { serve(filters, &Echo, connection).await };
            tokio::join!(asks, serves).0
        })
    }

    #[test]
    fn bytes_pass_the_filters_in_order_and_back() {
        assert_eq!(exchange(&[b"a", b"b\n"], 1000), "ab\nr1r2w2w1");
        assert_eq!(exchange(&[b"rest"], 1000), "restr1r2w2w1");
        assert_eq!(exchange(&[b"stop\n", b"more"], 1000), "");
        assert_eq!(exchange(&[b""], 1000), "");
    }

    #[test]
    fn what_a_filter_holds_is_bounded() {
        const LONG: &[u8] = &[b'x'; 5000];
        assert_eq!(exchange(&[LONG, b"\n"], 1000), "");
    }
}
