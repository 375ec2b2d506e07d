//! The old process's side: what it gives to the process that takes its place.

use super::HotRestart;
use super::protocol::{SocketsOf, ToChild, ToParent, VERSION, stats_messages};
use crate::admin::AdminGuard;
use crate::state::{Request, Server, ServerState};
use nuncio_io::handover::{Endpoint, MOST_DESCRIPTORS, Peer};
use nuncio_stats::transfer::Exporter;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Time that a process has to say who it is.
const HELLO: Duration = Duration::from_secs(5);
/// Time that a child has to take a message.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections of processes at the same time.
const MOST_SESSIONS: usize = 8;

/// The process that takes this one's place.
pub(crate) struct Child {
    peer: Peer,
    wants_stats: bool,
    /// Locked while changes are sent, so that they arrive in order.
    exporter: Mutex<Exporter>,
    live: Cell<bool>,
    /// It asks for a quick end.
    pub(crate) hurry: Notify,
    /// It asks for the end.
    pub(crate) terminate: Notify,
}

/// Waits for the process that is to take this one's place.
pub(crate) fn answer(server: &Rc<Server>, admin: &Rc<AdminGuard>) {
    let Some(endpoint) = server.hot_restart.endpoint.borrow_mut().take() else { return };
    let (server, admin) = (Rc::clone(server), Rc::clone(admin));
    tokio::task::spawn_local(async move { accept_loop(&server, &admin, endpoint).await });
}

async fn accept_loop(server: &Rc<Server>, admin: &Rc<AdminGuard>, endpoint: Endpoint) {
    // Nobody who is here may keep others out: one child at a time has the place, but anybody is answered.
    let (sessions, taken) = (Rc::new(Cell::new(0usize)), Rc::new(Cell::new(false)));
    loop {
        let refused = |user| tracing::warn!(target: "main", "hot restart: refused a process of user {user}");
        let peer = match endpoint.accept(refused).await {
            Ok(peer) => peer,
            Err(error) => {
                tracing::error!(target: "main", "hot restart: can't accept: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if sessions.get() >= MOST_SESSIONS {
            continue;
        }
        sessions.set(sessions.get() + 1);
        let (server, admin) = (Rc::clone(server), Rc::clone(admin));
        let (sessions, taken) = (Rc::clone(&sessions), Rc::clone(&taken));
        tokio::task::spawn_local(async move {
            serve(&server, &admin, peer, &taken).await;
            sessions.set(sessions.get() - 1);
        });
    }
}

/// Serves one process from its hello to its end.
async fn serve(server: &Rc<Server>, admin: &AdminGuard, peer: Peer, taken: &Cell<bool>) {
    let process = peer.process();
    let hello = match tokio::time::timeout(HELLO, receive(&peer)).await {
        Ok(Ok(Some(ToParent::Hello { version, epoch, stats }))) => {
            accepts(server, version, epoch, taken).map(|()| stats)
        }
        Ok(Ok(None)) => return,
        _ => Err("the hello is missing".to_owned()),
    };
    let wants_stats = match hello {
        Ok(stats) => stats,
        Err(why) => {
            tracing::warn!(target: "main", "hot restart: refused process {process}: {why}");
            // Whether it hears of it is its own affair.
            let _ = tokio::time::timeout(HELLO, peer.send(&ToChild::Refused(why).encode(), &[])).await;
            return;
        }
    };
    taken.set(true);
    tracing::info!(target: "main", "hot restart: process {process} takes over");
    let child = Rc::new(Child {
        peer,
        wants_stats,
        exporter: Mutex::default(),
        live: Cell::new(false),
        hurry: Notify::new(),
        terminate: Notify::new(),
    });
    let ended = child.serve(server, admin).await;
    let why = ended.map_or_else(|error| error.to_string(), |()| "it has ended".to_owned());
    if child.live.get() {
        tracing::warn!(target: "main", "hot restart: lost the process that took over: {why}");
        return;
    }
    tracing::error!(target: "main", "hot restart: process {process} did not come to serve ({why}): this one goes on");
    taken.set(false);
    admin.resume();
}

/// Whether a process may take over now.
fn accepts(server: &Server, version: u32, epoch: u32, taken: &Cell<bool>) -> Result<(), String> {
    let own = server.options.restart_epoch;
    if version != VERSION {
        return Err(format!(
            "it speaks version {version} of the hot restart protocol, this one {VERSION}: start it anew, without \
             --restart-epoch"
        ));
    }
    if Some(epoch) != own.checked_add(1) {
        return Err(format!("its epoch is {epoch}, this one's {own}"));
    }
    match server.state.get() {
        _ if taken.get() => Err("another process takes over already".to_owned()),
        ServerState::Live => Ok(()),
        ServerState::Draining => Err("this process is ending".to_owned()),
        // Envoy's words.
        _ => Err("previous envoy process is still initializing".to_owned()),
    }
}

async fn receive(peer: &Peer) -> io::Result<Option<ToParent>> {
    let Some(received) = peer.receive().await? else { return Ok(None) };
    let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "a malformed message came");
    ToParent::decode(&received.bytes).map(Some).map_err(malformed)
}

impl Child {
    /// Answers the child until it ends.
    async fn serve(self: &Rc<Self>, server: &Rc<Server>, admin: &AdminGuard) -> io::Result<()> {
        let hot_restart = &server.hot_restart;
        let welcome = ToChild::Welcome {
            first_started: hot_restart.first_started_ms(),
            generation: hot_restart.generation.get(),
        };
        self.send(&welcome, &[]).await?;
        while let Some(request) = receive(&self.peer).await? {
            match request {
                ToParent::TakeSockets => self.give_sockets(server).await?,
                ToParent::TakeAdmin => self.give_admin(admin).await?,
                ToParent::Stats => self.give_stats(server).await?,
                ToParent::Live => {
                    self.live.set(true);
                    admin.close();
                    *hot_restart.child.borrow_mut() = Some(Rc::clone(self));
                    hot_restart.hurry_parent();
                    server.request(Request::HandedOver);
                }
                ToParent::Hurry => self.hurry.notify_one(),
                ToParent::Terminate => self.terminate.notify_one(),
                ToParent::Hello { .. } => return Err(io::Error::other("it says hello twice")),
            }
        }
        Ok(())
    }

    async fn send(&self, message: &ToChild, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_bytes(&message.encode(), descriptors).await
    }

    async fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match tokio::time::timeout(PATIENCE, self.peer.send(bytes, descriptors)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::other("it takes no messages")),
        }
    }

    async fn give_sockets(&self, server: &Server) -> io::Result<()> {
        for (listener, configured, bound, sockets) in shared_sockets(server).await {
            let message = ToChild::Sockets(SocketsOf { listener, configured, bound });
            for part in sockets.chunks(MOST_DESCRIPTORS) {
                let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
                self.send(&message, &descriptors).await?;
            }
        }
        self.send(&ToChild::SocketsEnd, &[]).await
    }

    async fn give_admin(&self, admin: &AdminGuard) -> io::Result<()> {
        let Some((address, socket)) = admin.hand_over() else {
            return self.send(&ToChild::Admin { address: String::new() }, &[]).await;
        };
        tracing::warn!(target: "main", "shutting down admin due to child startup");
        let socket = socket?;
        self.send(&ToChild::Admin { address: address.to_string() }, &[socket.as_fd()]).await
    }

    async fn give_stats(&self, server: &Server) -> io::Result<()> {
        let mut exporter = self.exporter.lock().await;
        if self.wants_stats {
            for message in stats_messages(&exporter.changes(&server.store)) {
                self.send_bytes(&message, &[]).await?;
            }
        }
        let connections = server.open_connections().await as u64;
        self.send(&ToChild::StatsEnd { connections }, &[]).await
    }

    /// Tells the child that this process ends, and what statistics have gained until then.
    pub(crate) async fn end(&self, server: &Server) {
        let result = async {
            self.give_stats(server).await?;
            self.send(&ToChild::Ended, &[]).await
        };
        if let Err(error) = result.await {
            tracing::warn!(target: "main", "hot restart: the last statistics could not be handed over: {error}");
        }
    }
}

/// All listening sockets of the workers: listener, configured address, address, sockets.
async fn shared_sockets(server: &Server) -> Vec<(String, String, String, Vec<OwnedFd>)> {
    let mut shared = Vec::new();
    for worker in &server.workers {
        shared.extend(worker.share_sockets().await);
    }
    let listeners = server.listeners.borrow();
    let mut all = Vec::new();
    for served in listeners.served() {
        for (spec, bound) in served.config.addresses.iter().zip(&served.addresses) {
            let of_this = |(id, address, _): &mut (u64, _, _)| *id == served.handle.id && *address == *bound;
            let sockets: Vec<OwnedFd> = shared.extract_if(.., of_this).map(|(_, _, socket)| socket).collect();
            if !sockets.is_empty() {
                all.push((served.config.name.to_string(), spec.address.to_string(), bound.to_string(), sockets));
            }
        }
    }
    all
}

impl HotRestart {
    /// Tells the child, if there is one, that this process ends.
    pub(crate) async fn end(&self, server: &Server) {
        if let Some(child) = self.child() {
            child.end(server).await;
        }
    }
}
