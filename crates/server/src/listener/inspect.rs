//! Running listener filters on a new connection.

use super::ActiveListener;
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// What became of it.
pub(super) enum Inspected {
    /// On to the filter chain.
    Continue(Box<Peeked>),
    /// A filter, the peer or the timer ended it.
    Close,
}

/// Lets every listener filter look at the connection, in order, within the listener's timeout.
pub(super) async fn inspect(listener: &ActiveListener, socket: &TcpStream, port: u16) -> Inspected {
    let mut peeked = Peeked::default();
    let config = &listener.config;
    if config.listener_filters.is_empty() {
        return Inspected::Continue(Box::new(peeked));
    }
    let stats = &listener.handle.stats;
    stats.downstream_pre_cx_active().add(1);
    let run = run_all(&config.listener_filters, port, socket, &mut peeked);
    let outcome = match config.listener_filters_timeout {
        Some(limit) => within(limit, run).await,
        None => Some(run.await),
    };
    stats.downstream_pre_cx_active().sub(1);
    match outcome {
        Some(Ok(Verdict::Next)) => Inspected::Continue(Box::new(peeked)),
        Some(Ok(Verdict::Close)) => Inspected::Close,
        Some(Ok(Verdict::PeerEnded)) => {
            stats.downstream_listener_filter_remote_close().inc();
            Inspected::Close
        }
        Some(Err(_)) => {
            stats.downstream_listener_filter_error().inc();
            Inspected::Close
        }
        None => {
            stats.downstream_pre_cx_timeout().inc();
            if config.continue_on_listener_filters_timeout {
                Inspected::Continue(Box::new(peeked))
            } else {
                Inspected::Close
            }
        }
    }
}

async fn within<T>(limit: Duration, run: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, run).await.ok()
}

/// What a filter made of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// On to the next.
    Next,
    /// It is to be closed.
    Close,
    /// The peer ended its stream before the filter had seen enough.
    PeerEnded,
}

/// Each filter is skipped or not by the port that the connection is for when its turn comes: that which the filters before it
/// have restored, or else `port`.
async fn run_all(
    filters: &[Arc<dyn ListenerFilterFactory>],
    port: u16,
    socket: &TcpStream,
    peeked: &mut Peeked,
) -> io::Result<Verdict> {
    for factory in filters {
        if factory.disabled_for(peeked.original_destination.map_or(port, |address| address.port())) {
            continue;
        }
        let mut filter = factory.create();
        let limit = filter.max_bytes();
        let verdict = if limit > 0 {
            run_one(filter.as_mut(), limit, socket, peeked).await?
        } else if filter.peek(socket, &[], true, peeked) == PeekStep::Close {
            Verdict::Close
        } else {
            Verdict::Next
        };
        if verdict != Verdict::Next {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Next)
}

async fn run_one(
    filter: &mut dyn ListenerFilter,
    limit: usize,
    socket: &TcpStream,
    peeked: &mut Peeked,
) -> io::Result<Verdict> {
    let mut buffer = vec![0; limit.min(filter.first_look())];
    let mut seen = 0;
    loop {
        let count = peek_more(socket, &mut buffer, seen, limit).await?;
        if count <= seen {
            return Ok(Verdict::PeerEnded);
        }
        let end = count >= limit;
        seen = count;
        match filter.peek(socket, &buffer[..count], end, peeked) {
            PeekStep::Next => return Ok(Verdict::Next),
            PeekStep::Take(taken) => {
                take(socket, &mut buffer[..taken.min(count)])?;
                return Ok(Verdict::Next);
            }
            PeekStep::Close => return Ok(Verdict::Close),
            PeekStep::More if end => return Ok(Verdict::Next),
            PeekStep::More => {}
        }
    }
}

/// Takes bytes off the connection that were peeked at, so that they are there.
fn take(socket: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_read(bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes = &mut std::mem::take(&mut bytes)[count..],
        }
    }
    Ok(())
}

/// Waits until more than `seen` bytes can be peeked, or the client ended its stream; then the count stays at `seen`.
async fn peek_more(socket: &TcpStream, buffer: &mut Vec<u8>, seen: usize, limit: usize) -> io::Result<usize> {
    loop {
        if seen == buffer.len() && buffer.len() < limit {
            let grown = (buffer.len() * 2).min(limit);
            buffer.resize(grown, 0);
        }
        let count = socket.peek(buffer).await?;
        if count != seen || count == 0 {
            return Ok(count);
        }
        // The kernel reports readiness as long as bytes wait: clear it, so that only new bytes or the end wake us.
        let cleared = socket
            .try_io(tokio::io::Interest::READABLE, || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) });
        debug_assert!(cleared.is_err());
        let ready = socket.ready(tokio::io::Interest::READABLE).await?;
        if ready.is_read_closed() && socket.peek(buffer).await? == seen {
            return Ok(seen);
        }
    }
}
