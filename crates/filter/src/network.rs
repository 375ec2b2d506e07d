//! Network filters: what runs on the bytes of a connection.

use crate::{Completed, ConnectionLog, ConnectionRegistry, Drain, Overload, Registration, Work, Worker};
use bytes::BytesMut;
use nuncio_io::transport::Transport;
use nuncio_stats::Store;
use nuncio_stream_info::{ConnectionInfo, StreamInfo};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a network filter answers to a new connection.
#[derive(Debug)]
pub enum OpenStep {
    /// On to the next filter.
    Next,
    /// Close the connection; the text is its `%DOWNSTREAM_LOCAL_CLOSE_REASON%`.
    Close(&'static str),
    /// Nothing further happens until the work is done; then `resume` is asked.
    Await(Work),
}

/// What a network filter answers to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkStep {
    /// On to the next filter with whatever is left in the buffer.
    Next,
    /// The bytes stay here until more come.
    Hold,
    /// Close the connection.
    Close,
}

/// A filter that is not the last of its chain.
pub trait NetworkFilter {
    /// The connection was accepted and its filter chain chosen.
    fn on_open(&mut self, connection: &Connection) -> OpenStep {
        let _ = connection;
        OpenStep::Next
    }

    /// The connection goes on: a filter may put a transport of its own around that of the connection, through which all bytes
    /// pass from then on. What it puts there is next to the client, before what filters do in [`NetworkFilter::on_read`].
    fn carry(&mut self, connection: &mut Connection) {
        let _ = connection;
    }

    /// The work of [`OpenStep::Await`] is done.
    fn resume(&mut self, connection: &Connection, done: Completed) -> OpenStep {
        let _ = (connection, done);
        OpenStep::Next
    }

    /// Bytes from the downstream.
    fn on_read(&mut self, data: &mut BytesMut, end: bool) -> NetworkStep {
        let _ = (data, end);
        NetworkStep::Next
    }

    /// Bytes to the downstream.
    fn on_write(&mut self, data: &mut BytesMut, end: bool) -> NetworkStep {
        let _ = (data, end);
        NetworkStep::Next
    }
}

/// Follows a connection that the last filter of its chain serves as one stream (TCP proxy): is told what came of it.
pub trait ConnectionObserver {
    /// How often it is told while the connection lasts; only at its end if never.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// What the connection has come to. `end`: it is over, and this is the last time.
    fn observe(&mut self, info: &StreamInfo, end: bool);
}

/// The observers of a connection.
#[derive(Default)]
pub struct Observers(RefCell<Vec<Box<dyn ConnectionObserver>>>);

impl Observers {
    /// One more.
    pub fn add(&self, observer: Box<dyn ConnectionObserver>) {
        self.0.borrow_mut().push(observer);
    }

    /// How often the most eager of them is told while the connection lasts.
    pub fn interval(&self) -> Option<Duration> {
        self.0.borrow().iter().filter_map(|observer| observer.interval()).min()
    }

    /// Tells all of them.
    pub fn tell(&self, info: &StreamInfo, end: bool) {
        self.0.borrow_mut().iter_mut().for_each(|observer| observer.observe(info, end));
    }
}

/// Makes network filters.
pub trait NetworkFilterFactory: Send + Sync {
    /// A filter for one connection.
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn NetworkFilter>;

    /// Whether its filters look at bytes. One that only decides on `on_open` leaves the bytes to the kernel.
    fn looks_at_bytes(&self) -> bool {
        false
    }
}

/// The last filter of a chain: it owns the connection. One per filter chain, shared by all workers; what a worker needs of its own it keeps in the
/// worker's [`crate::Services`].
pub trait TerminalFilterFactory: Send + Sync {
    /// Serves `connection` until it is over. The future runs on the worker's thread; dropping it closes the connection.
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>>;

    /// Whether it says itself in [`Connection::log`] how many bytes passed. Of others they are counted on their way, where
    /// there is a log.
    fn counts_bytes(&self) -> bool {
        false
    }
}

/// An accepted connection whose filter chain was chosen.
pub struct Connection {
    /// The bytes.
    pub transport: Transport,
    /// Addresses, names and ids.
    pub info: Arc<ConnectionInfo>,
    /// The protocol that both sides agreed on in a TLS handshake (ALPN).
    pub negotiated_protocol: Option<Arc<str>>,
    /// The worker that the connection lives on.
    pub worker: Rc<Worker>,
    /// The draining state of its listener.
    pub drain: Rc<Drain>,
    /// Its place among the open connections.
    pub registration: Registration,
    /// Bytes that may be buffered for a peer that does not read (`per_connection_buffer_limit_bytes`).
    pub buffer_limit: u32,
    /// What the listener's access logs are to say of the connection as a whole; none where there are none.
    pub log: Option<Rc<ConnectionLog>>,
    /// What filters want to be told of it. Owns no memory where there are none.
    pub observers: Observers,
    /// How overloaded the process is; none without an overload manager, or where the listener bypasses it.
    pub overload: Option<Arc<Overload>>,
}

impl Connection {
    /// A connection outside any listener: for tests.
    pub fn detached(transport: Transport, info: Arc<ConnectionInfo>, worker: Rc<Worker>) -> Connection {
        Connection {
            transport,
            info,
            negotiated_protocol: None,
            worker,
            drain: Drain::new(),
            registration: ConnectionRegistry::new().register(),
            buffer_limit: 1024 * 1024,
            log: None,
            observers: Observers::default(),
            overload: None,
        }
    }
}

/// The store that a worker's stats live in; a service of every worker.
pub struct StatsStore(pub Arc<Store>);
