//! The admin interface: Envoy's endpoints on the main thread.
//!
//! Owns: listening on `admin.address`, the connections there, and what each endpoint answers. Does not own: what the
//! endpoints report; that is asked of the parts that know it.
//!
//! *Invariant*: nothing here runs on a worker or waits for one, so traffic and admin requests don't delay each other.
//! What may be large is written in pieces, each after the client took the one before.
//! *Invariant*: only POST changes anything.

mod certs;
mod client_status;
mod clusters;
mod config_dump;
mod connection;
mod connections;
mod counters;
mod date;
mod endpoint;
mod exchange;
mod json;
mod listeners;
mod logging;
mod memory;
mod mutations;
mod pages;
mod profiling;
mod request;
mod response;
mod routes;
mod runtime;
mod scrape;
mod server_info;
mod unready;

pub(crate) use config_dump::{address as socket_address_of, locality as locality_of};

use crate::state::Server;
use connections::Connections;
use counters::AdminStats;
use nuncio_io::accept::{Acceptor, Outcome};
use nuncio_io::listen::Inherited;
use nuncio_io::{Address, listen};
use nuncio_stream_info::Address as PeerAddress;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// What `/help` answers.
pub fn help() -> String {
    let mut text = String::new();
    routes::list(&mut text);
    text
}

/// What the connections of the admin interface share.
pub(crate) struct Admin {
    server: Rc<Server>,
    stats: AdminStats,
    connections: Connections,
    /// Stands for this host in `x-forwarded-for` of clients on it.
    local_address: Option<IpAddr>,
    /// Whether `/stats/recentlookups/enable` was asked for.
    recent_lookups: Cell<bool>,
}

/// Ends the admin interface when it is dropped.
#[derive(Default)]
pub(crate) struct AdminGuard {
    admin: Option<Rc<Admin>>,
    acceptor: RefCell<Option<Rc<RefCell<Acceptor>>>>,
    accepting: RefCell<Option<AbortHandle>>,
}

impl Drop for AdminGuard {
    fn drop(&mut self) {
        self.close();
    }
}

impl AdminGuard {
    /// Accepts nothing more; connections that are open go on. The address and a descriptor of the socket, for another
    /// process; none if there is no admin interface.
    pub(crate) fn hand_over(&self) -> Option<(Address, io::Result<OwnedFd>)> {
        self.stop();
        let acceptor = self.acceptor.borrow();
        let acceptor = acceptor.as_ref()?.borrow();
        Some((acceptor.address().clone(), acceptor.share()))
    }

    /// Accepts again.
    pub(crate) fn resume(&self) {
        if let (Some(admin), Some(acceptor)) = (&self.admin, self.acceptor.borrow().as_ref()) {
            self.stop();
            let task = tokio::task::spawn_local(accept_loop(Rc::clone(acceptor), Rc::clone(admin)));
            *self.accepting.borrow_mut() = Some(task.abort_handle());
        }
    }

    /// Ends it: closes all connections, and gives its socket up.
    pub(crate) fn close(&self) {
        self.stop();
        *self.acceptor.borrow_mut() = None;
        if let Some(admin) = &self.admin {
            admin.connections.close_all();
        }
    }

    fn stop(&self) {
        if let Some(task) = self.accepting.borrow_mut().take() {
            task.abort();
        }
    }
}

/// Starts the admin interface, if one is configured, and tells its address. It goes on with the socket of another process,
/// if that listens where it should.
pub(crate) fn start(server: &Rc<Server>, inherited: Option<Inherited>) -> Result<AdminGuard, String> {
    let snapshot = Rc::clone(&server.snapshot.borrow());
    let Some(config) = &snapshot.admin else {
        tracing::info!(target: "main", "no admin interface is configured");
        return Ok(AdminGuard::default());
    };
    let mut spec = config.address.clone();
    // Two processes must not share it, as each would answer for the other.
    spec.reuse_port = false;
    let bound = match inherited.filter(|inherited| inherited.serves(&spec)) {
        Some(inherited) => inherited.bind(&spec, 1),
        None => listen::bind(&spec, 1),
    };
    let bound = bound.map_err(|error| format!("admin: {error}"))?;
    let listeners = bound.listen().map_err(|error| format!("admin: {error}"))?;
    let listener = listeners.into_iter().next().ok_or("admin: there is no socket")?;
    let address = listener.address().clone();
    let acceptor = Acceptor::new(listener, None).map_err(|error| format!("admin: {error}"))?;
    tracing::info!(target: "admin", "admin address: {address}");
    if let Some(path) = &server.options.admin_address_path
        && let Err(error) = std::fs::write(path, address.to_string())
    {
        tracing::error!(target: "admin", "the admin address can't be written to {path}: {error}");
    }
    let admin = Rc::new(Admin {
        server: Rc::clone(server),
        stats: AdminStats::register(&server.store),
        connections: Connections::default(),
        local_address: crate::run::local_address(&server.options),
        recent_lookups: Cell::new(false),
    });
    let guard = AdminGuard {
        admin: Some(admin),
        acceptor: RefCell::new(Some(Rc::new(RefCell::new(acceptor)))),
        accepting: RefCell::new(None),
    };
    guard.resume();
    Ok(guard)
}

async fn accept_loop(acceptor: Rc<RefCell<Acceptor>>, admin: Rc<Admin>) {
    loop {
        match std::future::poll_fn(|cx| acceptor.borrow_mut().poll_accept(cx)).await {
            Ok(Outcome::Connection(accepted)) => {
                let Some(place) = admin.connections.enter() else {
                    admin.stats.listener.downstream_cx_overflow().inc();
                    continue;
                };
                let id = place.id();
                let serving = connection::serve(Rc::clone(&admin), accepted, place);
                admin.connections.started(id, tokio::task::spawn_local(serving).abort_handle());
            }
            Ok(Outcome::Exhausted(error)) => {
                admin.stats.listener.downstream_cx_overload_reject().inc();
                tracing::warn!(target: "admin", "admin: can't accept: {error}");
            }
            Err(error) => {
                tracing::error!(target: "admin", "admin: stops: {error}");
                return;
            }
        }
    }
}

/// Now, on the clock that tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The same address in the terms of access logs.
fn peer_address(address: &Address) -> PeerAddress {
    match address {
        Address::Ip(ip) => PeerAddress::Ip(*ip),
        Address::Pipe(path) => PeerAddress::Pipe(path.clone()),
    }
}
