//! One subscription: where it goes, its statistics, and how long its first answer is waited for.

use super::counts::Counts;
use super::mux::{self, GrpcMux};
use super::{file, rest};
use crate::state::Server;
use nuncio_config::sources::{ApiKind, From, Source};
use nuncio_xds::{Names, Outcome, Resource, ResourceType, WatchId};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// What a response holds for a subscription.
pub(crate) struct Update<'a> {
    /// The version of the response.
    pub version: &'a str,
    /// Whether what is not in it is gone.
    pub is_complete: bool,
    /// Resources that are new or changed, or sent again.
    pub resources: &'a [Rc<Resource>],
    /// Names of resources that don't exist.
    pub removed: &'a [String],
}

/// Why there is no update.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The stream broke; it will be opened again.
    Connection,
    /// A file, or an answer, could not be read.
    Unreadable,
    /// Nothing came within `initial_fetch_timeout`.
    TimedOut,
    /// What came was refused.
    Rejected,
}

/// Whoever subscribes.
pub(crate) trait Watcher {
    /// Takes an update. What is refused must not change anything; the text names it.
    fn update(&self, update: &Update<'_>) -> Outcome;

    /// Nothing came in time, or what came was refused: what waits for the first answer must not wait any longer.
    fn failed(&self, failure: &Failure);
}

/// A subscription; it ends when this is dropped.
pub(crate) struct Subscription {
    kind: ResourceType,
    counts: Counts,
    watcher: Rc<dyn Watcher>,
    timer: RefCell<Option<AbortHandle>>,
    place: RefCell<Place>,
    is_rejecting: Cell<bool>,
}

enum Place {
    Nowhere,
    Stream(Rc<GrpcMux>, WatchId),
    Task(AbortHandle),
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.got_answer();
        match std::mem::replace(self.place.get_mut(), Place::Nowhere) {
            Place::Nowhere => {}
            Place::Stream(mux, watch) => mux.unwatch(self.kind, watch),
            Place::Task(task) => task.abort(),
        }
    }
}

/// Subscribes.
pub(crate) fn subscribe(
    server: &Rc<Server>,
    (source, counts): (&Source, Counts),
    kind: ResourceType,
    names: Names,
    watcher: Rc<dyn Watcher>,
) -> Rc<Subscription> {
    // Files and polling count each reading by itself.
    if is_stream(source) {
        counts.attempt();
    }
    let subscription = Rc::new(Subscription {
        kind,
        counts,
        watcher,
        timer: RefCell::default(),
        place: RefCell::new(Place::Nowhere),
        is_rejecting: Cell::new(false),
    });
    if let Some(limit) = source.initial_fetch_timeout {
        let waiting = Rc::downgrade(&subscription);
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep(limit).await;
            if let Some(subscription) = waiting.upgrade() {
                subscription.timer.borrow_mut().take();
                subscription.failed(Failure::TimedOut);
            }
        });
        *subscription.timer.borrow_mut() = Some(timer.abort_handle());
    }
    let place = place(server, source, kind, names, &subscription);
    *subscription.place.borrow_mut() = place;
    subscription
}

fn is_stream(source: &Source) -> bool {
    match &source.from {
        From::Ads => true,
        From::Api(api) => api.kind != ApiKind::Rest,
        From::File(_) => false,
    }
}

fn place(
    server: &Rc<Server>,
    source: &Source,
    kind: ResourceType,
    names: Names,
    subscription: &Rc<Subscription>,
) -> Place {
    let xds = &server.xds;
    let weak: Weak<Subscription> = Rc::downgrade(subscription);
    match &source.from {
        From::Ads => match &xds.ads {
            Some(ads) => Place::Stream(Rc::clone(ads), ads.watch(kind, names, weak)),
            // Lowering refuses it.
            None => Place::Nowhere,
        },
        From::Api(api) if api.kind == ApiKind::Rest => {
            Place::Task(rest::poll(server, Arc::clone(api), (kind, names), weak))
        }
        From::Api(api) => {
            let store = Arc::clone(&server.store);
            let own = Some((kind, subscription.counts.scope().clone()));
            let parts = mux::Parts { api: Arc::clone(api), node: xds.node.clone(), store, own };
            let mux = GrpcMux::new(parts, Rc::clone(&xds.worker), xds.clusters.clone());
            let watch = mux.watch(kind, names, weak);
            mux.start();
            Place::Stream(mux, watch)
        }
        From::File(file) => Place::Task(file::follow(file.clone(), (kind, names), weak)),
    }
}

impl Subscription {
    /// Hands an update over.
    pub(crate) fn update(&self, update: &Update<'_>) -> Outcome {
        let began = Instant::now();
        let outcome = self.watcher.update(update);
        match &outcome {
            Ok(()) => {
                self.got_answer();
                self.counts.success(update.version, began.elapsed());
            }
            Err(_) => self.failed(Failure::Rejected),
        }
        outcome
    }

    /// Wants another resource, by name.
    pub(crate) fn extend(&self, name: &str) {
        if let Place::Stream(mux, watch) = &*self.place.borrow() {
            mux.extend(self.kind, *watch, name);
        }
    }

    /// There is nothing of this name.
    pub(crate) fn forget(&self, name: &str) {
        if let Place::Stream(mux, watch) = &*self.place.borrow() {
            mux.forget(self.kind, *watch, name);
        }
    }

    /// Nothing came, or nothing that can be used.
    pub(crate) fn failed(&self, failure: Failure) {
        self.counts.attempt();
        match &failure {
            Failure::Connection => {
                self.counts.failure();
                return;
            }
            Failure::Unreadable => {
                self.got_answer();
                self.counts.failure();
            }
            Failure::TimedOut => self.counts.timed_out(),
            Failure::Rejected => {
                self.got_answer();
                self.counts.rejected();
            }
        }
        if self.is_rejecting.replace(true) {
            return;
        }
        self.watcher.failed(&failure);
        self.is_rejecting.set(false);
    }

    fn got_answer(&self) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
    }
}
