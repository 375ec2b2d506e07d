//! The new process's side: what it takes from its parent, and what it tells it.

use super::protocol::{SocketsOf, ToChild, ToParent, VERSION};
use super::{HotRestart, address};
use crate::state::Server;
use nuncio_io::Address;
use nuncio_io::handover::{Peer, Received};
use nuncio_io::listen::{Inherited, ListenSpec};
use nuncio_stats::transfer::Importer;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Time that the parent has for an answer. Its main thread may be busy with a large configuration.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sockets of a parent at most: it is of the same user, but may be broken.
const MOST_SOCKETS: usize = 1 << 20;

/// What a process takes over from the one before it; empty if there is none.
#[derive(Default)]
pub(crate) struct Inheritance {
    /// The socket of the admin interface.
    pub admin: Option<Inherited>,
    pub sockets: Vec<InheritedSockets>,
}

/// Sockets of one address of a listener.
pub(crate) struct InheritedSockets {
    pub listener: Arc<str>,
    /// The address as it was configured: with port 0, where the kernel was to choose.
    pub configured: Address,
    pub sockets: Inherited,
}

impl InheritedSockets {
    /// Whether a listener can go on with these: they listen on the address that it asks for. Where it asks for any port,
    /// they were the listener's before.
    pub(crate) fn serves(&self, listener: &str, spec: &ListenSpec) -> bool {
        let any_port = spec.address.ip().is_some_and(|ip| ip.port() == 0);
        let same = !any_port || (*self.listener == *listener && self.configured == spec.address);
        same && self.sockets.serves(spec)
    }
}

/// The process before this one.
pub(super) struct Parent {
    peer: Peer,
    importer: RefCell<Importer>,
    wants_stats: bool,
    /// It knows that this process serves.
    told: Cell<bool>,
    hurry: Notify,
    /// Closed when the parent has ended.
    ended: Semaphore,
}

/// Meets the process before this one and takes over what it has. Without hot restart, and for epoch 0, there is none.
pub(crate) async fn meet(server: &Rc<Server>) -> Result<Inheritance, String> {
    let options = &server.options;
    let epoch = options.restart_epoch;
    server.stats.hot_restart_epoch().set(epoch.into());
    let hot_restart = &server.hot_restart;
    if hot_restart.stats.is_none() || epoch == 0 {
        return Ok(Inheritance::default());
    }
    let address = address(options, options.base_id, epoch - 1);
    let peer = match Peer::connect(&address) {
        Ok(peer) => peer,
        Err(error) if options.skip_hot_restart_on_no_parent => {
            tracing::warn!(target: "main", "hot restart: no parent at {address} ({error}): starting without one");
            return Ok(Inheritance::default());
        }
        Err(error) => {
            return Err(format!(
                "hot restart: the process of epoch {} can't be reached at {address}: {error} (--skip-hot-restart-on-no-parent \
                 starts without it)",
                epoch - 1
            ));
        }
    };
    let parent = Parent {
        peer,
        importer: RefCell::default(),
        wants_stats: !options.skip_hot_restart_parent_stats,
        told: Cell::new(false),
        hurry: Notify::new(),
        ended: Semaphore::new(0),
    };
    match tokio::time::timeout(PATIENCE, parent.introduce(hot_restart, epoch)).await {
        Ok(Ok(())) => {}
        Ok(Err(Failure::Refused(why))) => return Err(format!("hot restart: the parent refuses: {why}")),
        Ok(Err(Failure::Lost(why))) => return Err(format!("hot restart: the parent does not answer the hello: {why}")),
        Err(_) => return Err("hot restart: the parent does not answer".to_owned()),
    }
    let process = parent.peer.process();
    tracing::info!(target: "main", "hot restart: taking over from process {process} of epoch {}", epoch - 1);
    let mut taken = Inheritance::default();
    let result = tokio::time::timeout(PATIENCE, parent.take(server, &mut taken)).await;
    let lost = match result {
        Ok(Ok(())) => None,
        Ok(Err(Failure::Refused(why) | Failure::Lost(why))) => Some(why),
        Err(_) => return Err(format!("hot restart: process {process} does not answer")),
    };
    match lost {
        // Two dead processes are worse than one.
        Some(why) => tracing::error!(
            target: "main",
            "hot restart: the parent was lost ({why}): going on with {} sockets of it", taken.sockets.len()
        ),
        None => *hot_restart.parent.borrow_mut() = Some(Rc::new(parent)),
    }
    Ok(taken)
}

/// Why something was not got from the parent.
enum Failure {
    Refused(String),
    Lost(String),
}

impl Parent {
    pub(super) fn is_told(&self) -> bool {
        self.told.get()
    }

    async fn introduce(&self, hot_restart: &HotRestart, epoch: u32) -> Result<(), Failure> {
        self.send(&ToParent::Hello { version: VERSION, epoch, stats: self.wants_stats }).await?;
        match self.receive().await? {
            (ToChild::Welcome { first_started, generation }, _) => {
                hot_restart.welcomed(first_started, generation);
                Ok(())
            }
            (ToChild::Refused(why), _) => Err(Failure::Refused(why)),
            _ => Err(Failure::Lost("it says something else".to_owned())),
        }
    }

    async fn take(&self, server: &Server, taken: &mut Inheritance) -> Result<(), Failure> {
        self.send(&ToParent::TakeSockets).await?;
        taken.sockets = self.sockets().await?;
        if self.wants_stats {
            self.send(&ToParent::Stats).await?;
            while self.stats(server, self.receive().await?.0)? {}
        }
        self.send(&ToParent::TakeAdmin).await?;
        match self.receive().await? {
            (ToChild::Admin { address }, descriptors) => taken.admin = admin(&address, descriptors),
            _ => return Err(Failure::Lost("it does not hand the admin interface over".to_owned())),
        }
        Ok(())
    }

    async fn sockets(&self) -> Result<Vec<InheritedSockets>, Failure> {
        let mut all: Vec<(SocketsOf, Vec<OwnedFd>)> = Vec::new();
        let mut count = 0;
        loop {
            match self.receive().await? {
                (ToChild::Sockets(of), descriptors) => {
                    count += descriptors.len();
                    match all.last_mut() {
                        _ if count > MOST_SOCKETS => return Err(Failure::Lost("it has too many sockets".to_owned())),
                        Some((last, sockets)) if *last == of => sockets.extend(descriptors),
                        _ => all.push((of, descriptors)),
                    }
                }
                (ToChild::SocketsEnd, _) => break,
                _ => return Err(Failure::Lost("it does not hand its sockets over".to_owned())),
            }
        }
        Ok(all.into_iter().filter_map(|(of, descriptors)| inherited(of, descriptors)).collect())
    }

    /// Takes an answer to a request for statistics; whether there is more.
    fn stats(&self, server: &Server, message: ToChild) -> Result<bool, Failure> {
        match message {
            ToChild::Stats(changes) => {
                self.importer.borrow_mut().add(changes);
                Ok(true)
            }
            ToChild::StatsEnd { connections } => {
                self.importer.borrow_mut().apply(&server.store);
                server.stats.parent_connections().set(connections);
                Ok(false)
            }
            _ => Err(Failure::Lost("it says something else".to_owned())),
        }
    }

    async fn send(&self, message: &ToParent) -> Result<(), Failure> {
        self.peer.send(&message.encode(), &[]).await.map_err(|error| Failure::Lost(error.to_string()))
    }

    async fn receive(&self) -> Result<(ToChild, Vec<OwnedFd>), Failure> {
        let received = self.peer.receive().await.map_err(|error| Failure::Lost(error.to_string()))?;
        let Some(Received { bytes, descriptors }) = received else {
            return Err(Failure::Lost("it has ended".to_owned()));
        };
        let message = ToChild::decode(&bytes).map_err(|_| Failure::Lost("a malformed message came".to_owned()))?;
        Ok((message, descriptors))
    }

    /// Keeps statistics up to date until the parent ends, and makes it end.
    async fn follow(&self, server: &Rc<Server>, interval: Duration) {
        let mut timer = tokio::time::interval(interval.max(Duration::from_millis(1)));
        let shutdown = tokio::time::sleep(Duration::from_secs(server.options.parent_shutdown_time_s));
        let mut shutdown = std::pin::pin!(shutdown);
        let (mut terminated, mut listens) = (false, true);
        loop {
            let sent = tokio::select! {
                _ = timer.tick(), if self.wants_stats && listens => self.send(&ToParent::Stats).await,
                () = &mut shutdown, if !terminated => {
                    terminated = true;
                    tracing::info!(target: "main", "hot restart: the parent's time is over");
                    self.send(&ToParent::Terminate).await
                }
                () = self.hurry.notified(), if listens => self.send(&ToParent::Hurry).await,
                message = self.receive() => {
                    let taken = match message {
                        Ok((ToChild::Ended, _)) => return,
                        Ok((message, _)) => self.stats(server, message),
                        Err(failure) => Err(failure),
                    };
                    if let Err(Failure::Lost(why) | Failure::Refused(why)) = taken {
                        tracing::warn!(target: "main", "hot restart: the parent was lost before it ended: {why}");
                        return;
                    }
                    Ok(())
                }
            };
            // It has ended, but what it has said until then waits to be read.
            listens &= sent.is_ok();
        }
    }
}

fn admin(address: &str, descriptors: Vec<OwnedFd>) -> Option<Inherited> {
    let address = parse(address).filter(|_| !descriptors.is_empty())?;
    usable(&address.to_string(), Inherited::new(address, descriptors))
}

fn inherited(of: SocketsOf, descriptors: Vec<OwnedFd>) -> Option<InheritedSockets> {
    let (configured, bound) = (parse(&of.configured)?, parse(&of.bound)?);
    let sockets = usable(&of.bound, Inherited::new(bound, descriptors))?;
    Some(InheritedSockets { listener: of.listener.into(), configured, sockets })
}

fn usable(address: &str, inherited: std::io::Result<Inherited>) -> Option<Inherited> {
    inherited
        .map_err(|error| tracing::error!(target: "main", "hot restart: the parent's socket of {address}: {error}"))
        .ok()
}

/// An address from its text form; none if it is empty.
fn parse(text: &str) -> Option<Address> {
    match text.parse() {
        Ok(ip) => Some(Address::Ip(ip)),
        Err(_) if text.is_empty() => None,
        Err(_) => Some(Address::pipe(text)),
    }
}

impl HotRestart {
    /// This process serves: the one before it may go.
    pub(crate) async fn live(&self, server: &Rc<Server>) {
        let Some(parent) = self.parent.borrow().clone() else { return };
        parent.importer.borrow_mut().apply(&server.store);
        parent.told.set(true);
        if parent.send(&ToParent::Live).await.is_err() {
            tracing::warn!(target: "main", "hot restart: the parent has ended before this process served");
        }
        let server = Rc::clone(server);
        tokio::task::spawn_local(async move {
            let interval = server.snapshot.borrow().stats_flush_interval;
            parent.follow(&server, interval).await;
            parent.importer.borrow_mut().end(&server.store);
            server.stats.parent_connections().set(0);
            *server.hot_restart.parent.borrow_mut() = None;
            parent.ended.close();
            tracing::info!(target: "main", "hot restart: the parent has ended");
        });
    }

    /// Waits until there is no process before this one.
    pub(crate) async fn parent_ended(&self) {
        let parent = self.parent.borrow().clone();
        if let Some(parent) = parent {
            // An error is what is waited for: that it was closed.
            let _ = parent.ended.acquire().await;
        }
    }

    /// The process before this one is not to wait any longer than it takes to end politely: another one serves in this
    /// one's stead, or this one ends.
    pub(crate) fn hurry_parent(&self) {
        if let Some(parent) = self.parent.borrow().as_ref() {
            parent.hurry.notify_one();
        }
    }
}
