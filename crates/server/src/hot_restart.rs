//! Hot restart: a new process takes the place of the old one, and no connection is lost.
//!
//! Owns: which socket the processes meet at, what each epoch knows of the ones before and after it. `child` is the new
//! process's side, `parent` the old one's, `protocol` what they say. Does not own: draining ([`crate::drain`]), the sockets
//! themselves (`listener_manager`, `admin`), and starting processes ([`crate::supervise`]).
//!
//! 1. The child meets its parent at the parent's socket; both check that the other runs as the same user.
//! 2. The child takes the admin interface over, copies of all listening sockets, and the statistics. The parent serves on.
//! 3. When the child serves, it says so. Only then the parent stops accepting, and drains: slowly, as it has time.
//! 4. The parent ends when its last connection did, or when the child's `--parent-shutdown-time-s` is over.
//!
//! *Invariant*: a child that ends before it serves changes nothing for the parent.
//! *Invariant*: every socket that listens has somebody who accepts, or is closed.

mod child;
mod parent;
mod protocol;

use crate::options::Options;
use nuncio_io::Address;
use nuncio_io::handover::Endpoint;
use nuncio_stats::Store;
use nuncio_stats::names::HotRestartStats;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use child::{InheritedSockets, meet};
pub(crate) use parent::{Child, answer};

/// Free base ids looked for with `--use-dynamic-base-id`.
const MOST_TRIES: usize = 100;
/// `EADDRINUSE`, which Envoy's text names.
const IN_USE: i32 = 98;

/// What `--hot-restart-version` and `/hot_restart_version` answer.
pub(crate) fn version(options: &Options) -> String {
    if options.disable_hot_restart { "disabled".to_owned() } else { protocol::version_text() }
}

/// What this process knows of the ones before and after it.
pub(crate) struct HotRestart {
    endpoint: RefCell<Option<Endpoint>>,
    stats: Option<HotRestartStats>,
    generation: Cell<u64>,
    /// When the process of epoch 0 started.
    first_started: Cell<SystemTime>,
    /// The process before this one, until it ends.
    parent: RefCell<Option<Rc<child::Parent>>>,
    /// The process after this one, once it serves.
    child: RefCell<Option<Rc<Child>>>,
}

/// Takes the place of this process's base id and epoch, or a free base id, which is written to `options`. None: hot restart
/// is switched off.
pub(crate) fn claim(options: &mut Options) -> Result<Option<Endpoint>, String> {
    if options.disable_hot_restart {
        return Ok(None);
    }
    let epoch = options.restart_epoch;
    if options.use_dynamic_base_id && epoch > 0 {
        return Err(format!("error: cannot use --restart-epoch={epoch} with --use-dynamic-base-id"));
    }
    if !options.use_dynamic_base_id {
        return bind(options, options.base_id).map(Some).map_err(|error| refused(options, &error));
    }
    for _ in 0..MOST_TRIES {
        let id = fastrand::u32(0..u32::MAX / 10);
        match bind(options, id) {
            Ok(endpoint) => {
                options.base_id = id;
                return Ok(Some(endpoint));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(refused(options, &error)),
        }
    }
    Err("unable to find a free base id: give one with --base-id".to_owned())
}

fn bind(options: &Options, base_id: u32) -> io::Result<Endpoint> {
    // The options checked that it is octal.
    let mode = u32::from_str_radix(&options.socket_mode, 8).unwrap_or(0o600);
    Endpoint::bind(&address(options, base_id, options.restart_epoch), mode)
}

fn refused(options: &Options, error: &io::Error) -> String {
    let (base, epoch) = (options.base_id, options.restart_epoch);
    // The first words are Envoy's, people search logs for them.
    let first = format!("unable to bind domain socket with base_id={base}, id={epoch}");
    match error.raw_os_error() {
        Some(errno @ IN_USE) => format!(
            "{first}, errno={errno} (see --base-id option): a process with this base id and epoch runs on this host; \
             give each proxy a --base-id of its own, or switch hot restart off with --disable-hot-restart"
        ),
        _ => format!("{first}: {}: {error} (see --socket-path)", address(options, base, epoch)),
    }
}

/// Where the process of an epoch waits for its child.
fn address(options: &Options, base_id: u32, epoch: u32) -> Address {
    Address::pipe(&format!("{}_nuncio_{base_id}_{epoch}", options.socket_path))
}

impl HotRestart {
    pub(crate) fn new(endpoint: Option<Endpoint>, store: &Store) -> HotRestart {
        let stats = endpoint.is_some().then(|| HotRestartStats::register(&store.scope("server", &[])));
        if let Some(stats) = &stats {
            stats.hot_restart_generation().set(1);
        }
        HotRestart {
            endpoint: RefCell::new(endpoint),
            stats,
            generation: Cell::new(1),
            first_started: Cell::new(SystemTime::now()),
            parent: RefCell::new(None),
            child: RefCell::new(None),
        }
    }

    /// How long there has been a process: this one and all before it.
    pub(crate) fn uptime(&self) -> Duration {
        self.first_started.get().elapsed().unwrap_or_default()
    }

    /// Whether this process has told its parent that it serves, or has none.
    pub(crate) fn is_initializing(&self) -> bool {
        self.parent.borrow().as_ref().is_some_and(|parent| !parent.is_told())
    }

    /// The process that serves in this one's stead, if there is one.
    pub(crate) fn child(&self) -> Option<Rc<Child>> {
        self.child.borrow().clone()
    }

    fn first_started_ms(&self) -> u64 {
        let since = self.first_started.get().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn welcomed(&self, first_started: u64, generation: u64) {
        let first_started = UNIX_EPOCH.checked_add(Duration::from_millis(first_started));
        if let Some(first_started) = first_started.filter(|at| *at <= self.first_started.get()) {
            self.first_started.set(first_started);
        }
        let generation = generation.saturating_add(1);
        self.generation.set(generation);
        if let Some(stats) = &self.stats {
            stats.hot_restart_generation().set(generation);
        }
    }
}
