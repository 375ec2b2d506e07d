//! From an accepted socket to the filter chain that serves it.

use super::admission::Admission;
use super::filtered;
use super::handshake::{self, Failed, Ready};
use super::inspect::{Inspected, inspect};
use super::{ActiveListener, ChainConnections, Directory};
use nuncio_config::snapshot::FilterChain;
use nuncio_filter::{Connection, ConnectionLog, NetworkFilter, Observers, OpenStep, Overload, Peeked, Worker};
use nuncio_io::accept::Accepted;
use nuncio_io::transport::Transport;
use nuncio_matcher::ChainQuery;
use nuncio_stream_info::{
    Address, ConnectionInfo, ConnectionState, FilterState, FilterStateObject, LifeSpan, Mutability, ResponseFlags,
    Sharing, StreamInfo, details,
};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Counts a connection for as long as it lives.
struct ConnectionCount {
    listener: Rc<ActiveListener>,
    worker: u32,
    opened: Instant,
    _admission: Box<Admission>,
}

impl ConnectionCount {
    fn new(listener: &Rc<ActiveListener>, worker: &Worker, admission: Box<Admission>) -> ConnectionCount {
        let stats = &listener.handle.stats;
        stats.downstream_cx_total().inc();
        stats.downstream_cx_active().add(1);
        if let Some(own) = listener.handle.worker_stats.get(worker.id() as usize - 1) {
            own.downstream_cx_total().inc();
            own.downstream_cx_active().add(1);
        }
        ConnectionCount {
            listener: Rc::clone(listener),
            worker: worker.id(),
            opened: worker.tick(),
            _admission: admission,
        }
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        let stats = &self.listener.handle.stats;
        stats.downstream_cx_destroy().inc();
        stats.downstream_cx_active().sub(1);
        if let Some(own) = self.listener.handle.worker_stats.get(self.worker as usize - 1) {
            own.downstream_cx_active().sub(1);
        }
        let now = tokio::time::Instant::now().into_std();
        stats.downstream_cx_length_ms().record(now.saturating_duration_since(self.opened).as_millis() as u64);
    }
}

/// A connection that was accepted and let in.
pub(super) struct Arrival {
    pub accepted: Accepted,
    pub admission: Box<Admission>,
    /// How overloaded the process is, where the listener takes part in that.
    pub overload: Option<Arc<Overload>>,
}

/// Serves a connection from accept to its end. The future is what a connection keeps for its whole life: what is needed
/// only to open it is boxed, and given back before it is served.
pub(super) fn serve_connection(
    arrival: Arrival,
    worker: Rc<Worker>,
    listener: Rc<ActiveListener>,
    directory: Rc<Directory>,
) -> impl Future<Output = ()> {
    let opening = Box::pin(open(arrival, worker, listener, directory));
    async move {
        let opened = opening.await;
        if let Some(Opened { serving, _count }) = opened {
            serving.await;
        }
    }
}

/// A connection whose terminal filter has taken it.
struct Opened {
    serving: Pin<Box<dyn Future<Output = ()>>>,
    _count: ConnectionCount,
}

/// Everything up to the terminal filter.
async fn open(
    arrival: Arrival,
    worker: Rc<Worker>,
    listener: Rc<ActiveListener>,
    directory: Rc<Directory>,
) -> Option<Opened> {
    let Arrival { accepted, admission, overload } = arrival;
    let prepared = prepare(accepted, &worker, listener, &directory).await?;
    let Prepared { listener, chain, transport, mut info } = prepared;
    let Some((chain, connections)) = chain else {
        no_chain(&listener, &worker, Arc::new(info));
        return None;
    };
    let count = ConnectionCount::new(&listener, &worker, admission);
    let Ready { transport, protocol } =
        match handshake::establish(&chain, transport, &mut info, (&worker, overload.as_deref())).await {
            Ok(ready) => ready,
            Err(failed) => {
                no_session(&listener, &worker, Arc::new(info), failed);
                return None;
            }
        };
    let info = Arc::new(info);
    let log = ConnectionLog::of(&listener.config.access_logs, &worker, &info);
    let terminal = chain.terminal.as_ref()?;
    let transport = match &log {
        Some(log) if !terminal.counts_bytes() => log.counted(transport),
        _ => transport,
    };
    let mut connection = Connection {
        transport,
        info,
        negotiated_protocol: protocol,
        worker,
        drain: Rc::clone(&connections.drain),
        registration: connections.registry.register(),
        buffer_limit: listener.config.buffer_limit,
        log,
        observers: Observers::default(),
        overload,
    };
    let filters = open_filters(&chain, &mut connection).await?;
    let serving = if filters.is_empty() {
        terminal.serve(connection)
    } else {
        let terminal = Arc::clone(terminal);
        Box::pin(async move { filtered::serve(filters, terminal.as_ref(), connection).await })
    };
    Some(Opened { serving, _count: count })
}

struct Prepared {
    listener: Rc<ActiveListener>,
    chain: Option<Chosen>,
    transport: Transport,
    info: ConnectionInfo,
}

/// The chain that a connection gets, with those that have it already.
type Chosen = (Arc<FilterChain>, Rc<ChainConnections>);

/// Runs listener filters, hands the connection over if it was meant for another listener, and chooses the chain.
async fn prepare(
    socket: Accepted,
    worker: &Rc<Worker>,
    mut listener: Rc<ActiveListener>,
    directory: &Directory,
) -> Option<Prepared> {
    let opened = worker.tick();
    let (direct_local, remote) = (address(&socket.local), address(&socket.peer));
    let mut peeked = Peeked::default();
    if let Some(tcp) = socket.stream.tcp() {
        let port = direct_local.port().unwrap_or(0);
        match inspect(&listener, tcp, port).await {
            Inspected::Continue(found) => peeked = *found,
            Inspected::Close => {
                not_inspected(&listener, worker, ConnectionInfo::new(worker.unique_id(), opened, direct_local, remote));
                return None;
            }
        }
        if listener.config.use_original_dst
            && let Some(destination) =
                peeked.original_destination.or_else(|| nuncio_io::original_dst::original_dst(tcp))
        {
            let target = directory.find(destination).filter(|other| other.handle.id != listener.handle.id);
            peeked.original_destination = Some(destination);
            if let Some(other) = target {
                listener = other;
                let restored = peeked.original_destination;
                match inspect(&listener, tcp, destination.port()).await {
                    Inspected::Continue(found) => peeked = *found,
                    Inspected::Close => {
                        let local = Address::Ip(destination);
                        not_inspected(
                            &listener,
                            worker,
                            ConnectionInfo::new(worker.unique_id(), opened, local, remote),
                        );
                        return None;
                    }
                }
                peeked.original_destination = peeked.original_destination.or(restored);
            }
        }
    }
    let local = peeked.original_destination.map_or_else(|| direct_local.clone(), Address::Ip);
    let client = peeked.client.map_or_else(|| remote.clone(), Address::Ip);
    let chain = choose_chain(&listener, &local, &client, remote.socket(), &peeked);
    let config = &listener.config;
    let mut info = ConnectionInfo::new(worker.unique_id(), opened, local, client);
    info.direct_local = direct_local;
    info.sni = peeked.server_name;
    info.alpn = peeked.application_protocols;
    (info.ja3, info.ja4, info.proxied) = (peeked.ja3, peeked.ja4, peeked.proxied);
    info.filter_state = shared_state(peeked.filter_state);
    info.dynamic_metadata = (!peeked.metadata.is_empty()).then(|| Arc::new(peeked.metadata));
    info.listener_name = Arc::clone(&config.name);
    info.listener_metadata = config.metadata.clone();
    if let Some((chain, _)) = &chain {
        info.filter_chain_name = (!chain.name.is_empty()).then(|| Arc::clone(&chain.name));
        info.filter_chain_metadata = chain.metadata.clone();
        if !chain.filters.is_empty() {
            info.filter_state.share();
        }
    }
    Some(Prepared { listener, chain, transport: socket.stream, info })
}

/// The filter state of a connection, with what listener filters put there.
fn shared_state(objects: Vec<(Arc<str>, Arc<dyn FilterStateObject>)>) -> ConnectionState {
    let mut state = FilterState::default();
    for (name, object) in objects {
        // Of two objects with one name the first stays.
        let _ = state.set(name, object, Mutability::ReadOnly, LifeSpan::Connection, Sharing::None);
    }
    state.connection().clone()
}

fn choose_chain(
    listener: &ActiveListener,
    local: &Address,
    client: &Address,
    direct_source: Option<SocketAddr>,
    peeked: &Peeked,
) -> Option<Chosen> {
    let query = ChainQuery {
        destination: local.socket(),
        source: client.socket(),
        direct_source,
        server_name: peeked.server_name.as_deref(),
        transport_protocol: peeked.transport_protocol.unwrap_or("raw_buffer"),
        application_protocols: &peeked.application_protocols,
    };
    let index = listener.config.matcher.find(&query)?;
    listener.config.chains.get(index).cloned().zip(listener.chains.get(index).cloned())
}

fn address(address: &nuncio_io::Address) -> Address {
    match address {
        nuncio_io::Address::Ip(address) => Address::Ip(*address),
        nuncio_io::Address::Pipe(path) => Address::Pipe(Arc::clone(path)),
    }
}

/// It ended while listener filters looked at it: logged, closed.
fn not_inspected(listener: &ActiveListener, worker: &Rc<Worker>, mut info: ConnectionInfo) {
    info.listener_name = Arc::clone(&listener.config.name);
    info.listener_metadata = listener.config.metadata.clone();
    log_end(listener, worker, Arc::new(info), |_| {});
}

/// No filter chain wants the connection: counted, logged, closed.
fn no_chain(listener: &ActiveListener, worker: &Rc<Worker>, info: Arc<ConnectionInfo>) {
    listener.handle.stats.no_filter_chain_match().inc();
    log_end(listener, worker, info, |stream| {
        stream.flags.insert(ResponseFlags::NO_ROUTE_FOUND);
        stream.details = details::FILTER_CHAIN_NOT_FOUND.into();
    });
}

/// The handshake failed: logged, closed.
fn no_session(listener: &ActiveListener, worker: &Rc<Worker>, info: Arc<ConnectionInfo>, failed: Failed) {
    if failed.timeout {
        listener.handle.stats.downstream_cx_transport_socket_connect_timeout().inc();
    }
    log_end(listener, worker, info, |stream| {
        stream.downstream_transport_failure_reason = Some(failed.reason).filter(|reason| !reason.is_empty());
        if failed.timeout {
            stream.termination_details = details::TRANSPORT_SOCKET_TIMEOUT.into();
        }
    });
}

/// Writes the listener's own log of a connection that no filter came to serve.
fn log_end(
    listener: &ActiveListener,
    worker: &Rc<Worker>,
    info: Arc<ConnectionInfo>,
    note: impl FnOnce(&mut StreamInfo),
) {
    if let Some(log) = ConnectionLog::of(&listener.config.access_logs, worker, &info) {
        log.note(note);
    }
}

/// Asks the filters before the last whether the connection may go on; with those that want to see its bytes, if it may.
async fn open_filters(chain: &FilterChain, connection: &mut Connection) -> Option<Vec<Box<dyn NetworkFilter>>> {
    let mut watching = Vec::new();
    for factory in &chain.filters {
        let mut filter: Box<dyn NetworkFilter> = factory.create(&connection.worker);
        let mut step = filter.on_open(connection);
        loop {
            match step {
                OpenStep::Next => break,
                OpenStep::Close(why) => {
                    if let Some(log) = &connection.log {
                        log.note(|info| info.downstream_local_close_reason = Some(why.into()));
                    }
                    return None;
                }
                OpenStep::Await(mut work) => {
                    let done = std::future::poll_fn(|cx| work.poll(cx)).await;
                    step = filter.resume(connection, done);
                }
            }
        }
        filter.carry(connection);
        if factory.looks_at_bytes() {
            watching.push(filter);
        }
    }
    Some(watching)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function makes.
    fn future_size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Every open connection keeps this future, beside the connection manager's own state (`hcm::sizes`), the task's
    /// header and the reactor's entry of the socket: an idle connection comes to some 1.5 KB of the 4 KB that it may cost.
    #[test]
    fn the_future_of_a_connection_is_small() {
        let size = future_size(serve_connection);
        assert!(size <= 128, "{size} bytes");
    }
}
