//! A gRPC stream to a management server, and the subscriptions on it.

use super::subscription::{Failure, Subscription, Update};
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_cluster::WorkerClusters;
use nuncio_config::sources::{ApiKind, ApiSource};
use nuncio_filter::Worker;
use nuncio_filter::grpc::{GrpcError, GrpcService};
use nuncio_hcm::grpc::GrpcStream;
use nuncio_headers::Known;
use nuncio_stats::names::ControlPlaneStats;
use nuncio_stats::{Scope, Store};
use nuncio_xds::pb::{DeltaDiscoveryResponse, DiscoveryResponse};
use nuncio_xds::{
    BackOff, Delivery, Dialect, Message as XdsMessage, Mux, MuxOptions, Names, Outcome, RateLimit, Received, Request,
    ResourceType, WatchId,
};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Longest message of a management server, in bytes. Envoy has no limit; control planes send up to 32 MiB and more.
const MAX_MESSAGE: usize = 256 * 1024 * 1024;

/// How often other tasks are let run between an update and its ACK.
const TURNS: usize = 4;

/// What a mux is made of.
pub(crate) struct Parts {
    pub api: Arc<ApiSource>,
    pub node: Node,
    pub store: Arc<Store>,
    /// The kind of a stream of its own, and the scope of its subscription; none for the aggregated one.
    pub own: Option<(ResourceType, Scope)>,
}

/// The subscriptions of one stream, which is opened again whenever it ends.
pub(crate) struct GrpcMux {
    mux: RefCell<Mux>,
    subscriptions: RefCell<HashMap<WatchId, Weak<Subscription>>>,
    wake: Notify,
    is_started: Cell<bool>,
    /// Whether it ends with its last subscription.
    is_own: bool,
    service: GrpcService,
    method: &'static str,
    back_off: RefCell<BackOff>,
    stats: ControlPlaneStats,
    worker: Rc<Worker>,
    clusters: WorkerClusters,
    task: RefCell<Option<AbortHandle>>,
}

impl Drop for GrpcMux {
    fn drop(&mut self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }
}

/// Requests of some kinds wait as long as this is there.
pub(crate) struct Pause {
    mux: Rc<GrpcMux>,
    kinds: &'static [ResourceType],
}

impl Drop for Pause {
    fn drop(&mut self) {
        for kind in self.kinds {
            self.mux.mux.borrow_mut().resume(*kind);
        }
        self.mux.wake.notify_one();
    }
}

impl GrpcMux {
    /// Not started.
    pub(crate) fn new(parts: Parts, worker: Rc<Worker>, clusters: WorkerClusters) -> Rc<GrpcMux> {
        let Parts { api, node, store, own } = parts;
        let is_delta = api.kind == ApiKind::DeltaGrpc;
        let options = MuxOptions {
            dialect: if is_delta { Dialect::Delta } else { Dialect::Sotw },
            node,
            node_on_first_only: api.node_on_first_only,
            rate_limit: api.rate_limit.map(|(tokens, rate)| RateLimit::new(tokens, rate)),
        };
        Rc::new(GrpcMux {
            mux: RefCell::new(Mux::new(options)),
            subscriptions: RefCell::default(),
            wake: Notify::new(),
            is_started: Cell::new(false),
            service: api.service.clone().unwrap_or_default(),
            method: match &own {
                Some((kind, _)) => kind.stream_method(is_delta),
                None => ResourceType::aggregated_method(is_delta),
            },
            back_off: RefCell::new(BackOff::new(api.back_off.0, api.back_off.1)),
            stats: ControlPlaneStats::register(&match &own {
                Some((_, scope)) => scope.child("control_plane"),
                None => store.scope("control_plane", &[]),
            }),
            is_own: own.is_some(),
            worker,
            clusters,
            task: RefCell::default(),
        })
    }

    /// Opens the stream, and keeps it open.
    pub(crate) fn start(self: &Rc<Self>) {
        if self.is_started.replace(true) {
            return;
        }
        self.stats.connected_state().set(0);
        let mux = Rc::downgrade(self);
        let task = tokio::task::spawn_local(async move {
            // Each round holds the mux; between two of them it may go.
            while let Some(mux) = mux.upgrade() {
                mux.serve().await;
            }
        });
        *self.task.borrow_mut() = Some(task.abort_handle());
    }

    /// Adds a subscription.
    pub(crate) fn watch(&self, kind: ResourceType, names: Names, subscription: Weak<Subscription>) -> WatchId {
        let id = self.mux.borrow_mut().watch(kind, names);
        self.subscriptions.borrow_mut().insert(id, subscription);
        self.wake.notify_one();
        id
    }

    /// A subscription wants another resource.
    pub(crate) fn extend(&self, kind: ResourceType, id: WatchId, name: &str) {
        self.mux.borrow_mut().extend(kind, id, name);
        self.wake.notify_one();
    }

    /// See [`Mux::forget`].
    pub(crate) fn forget(&self, kind: ResourceType, id: WatchId, name: &str) {
        self.mux.borrow_mut().forget(kind, id, name);
    }

    /// Ends one.
    pub(crate) fn unwatch(&self, kind: ResourceType, id: WatchId) {
        self.subscriptions.borrow_mut().remove(&id);
        if self.is_own && self.subscriptions.borrow().is_empty() {
            if let Some(task) = self.task.borrow_mut().take() {
                task.abort();
            }
            return;
        }
        self.mux.borrow_mut().unwatch(kind, id);
        self.wake.notify_one();
    }

    /// See [`super::Xds::pause`].
    pub(crate) fn pause(self: &Rc<Self>, kinds: &'static [ResourceType]) -> Pause {
        for kind in kinds {
            self.mux.borrow_mut().pause(*kind);
        }
        Pause { mux: Rc::clone(self), kinds }
    }

    /// One stream, from the attempt to open it to the end of the wait that follows it.
    async fn serve(self: &Rc<Self>) {
        let error = match self.open().await {
            Ok(stream) => self.run(stream).await,
            Err(error) => error,
        };
        self.mux.borrow_mut().closed();
        let was_connected = self.stats.connected_state().value() != 0;
        self.stats.connected_state().set(0);
        let cluster = &self.service.cluster;
        let wait = self.back_off.borrow_mut().next(self.worker.random());
        if was_connected {
            tracing::info!(target: "config", "the stream to {cluster} ended: {error}");
        } else {
            tracing::warn!(target: "config", "no stream to {cluster}: {error}; next attempt in {} ms", wait.as_millis());
        }
        for subscription in self.all() {
            subscription.failed(Failure::Connection);
        }
        tokio::time::sleep(wait).await;
    }

    async fn open(&self) -> Result<GrpcStream, GrpcError> {
        let address = self.worker.services().get::<nuncio_filter::LocalAddress>().map(|own| own.0.to_string());
        let headers: Vec<(Known, &str)> =
            address.iter().map(|address| (Known::X_FORWARDED_FOR, address.as_str())).collect();
        GrpcStream::open(&self.worker, &self.clusters, &self.service, (self.method, &headers, MAX_MESSAGE)).await
    }

    async fn run(self: &Rc<Self>, mut stream: GrpcStream) -> GrpcError {
        self.mux.borrow_mut().opened();
        self.stats.connected_state().set(1);
        loop {
            self.send(&mut stream);
            let deadline = self.mux.borrow().deadline(Instant::now());
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                message = poll_fn(|cx| stream.poll_message(cx)) => match message {
                    Ok(message) => {
                        let received = match self.received(&message) {
                            Ok(received) => received,
                            Err(error) => return error,
                        };
                        if let Some((delivery, outcome)) = received {
                            // What the update makes possible is asked for before its ACK, as in Envoy: whoever waited for
                            // it is let run first.
                            for _ in 0..TURNS {
                                tokio::task::yield_now().await;
                            }
                            self.send(&mut stream);
                            self.mux.borrow_mut().done(delivery, &outcome);
                        }
                    }
                    Err(error) => return error,
                },
                () = timer => self.expire(),
            }
        }
    }

    fn send(&self, stream: &mut GrpcStream) {
        loop {
            let mut mux = self.mux.borrow_mut();
            let Some(request) = mux.next_request(Instant::now()) else {
                if mux.is_rate_limited() {
                    self.stats.rate_limit_enforced().inc();
                }
                self.stats.pending_requests().set(mux.pending_requests() as u64);
                return;
            };
            let bytes = match &request {
                Request::Sotw(request) => request.encode_to_vec(),
                Request::Delta(request) => request.encode_to_vec(),
            };
            stream.send(&bytes);
        }
    }

    /// Hands a message over. What is returned is to be acknowledged.
    fn received(&self, bytes: &[u8]) -> Result<Option<(Delivery, Outcome)>, GrpcError> {
        self.back_off.borrow_mut().reset();
        let dialect = self.mux.borrow().dialect();
        let decoded = match dialect {
            Dialect::Sotw => DiscoveryResponse::decode(bytes).map(|response| {
                self.identified(response.control_plane.as_ref().map(|plane| plane.identifier.as_str()));
                XdsMessage::Sotw(response)
            }),
            Dialect::Delta => DeltaDiscoveryResponse::decode(bytes).map(|response| {
                self.identified(response.control_plane.as_ref().map(|plane| plane.identifier.as_str()));
                XdsMessage::Delta(response)
            }),
        };
        let message = match decoded {
            Ok(message) => message,
            Err(error) => {
                // Nothing that follows could be trusted: the stream begins anew, as in Envoy.
                return Err(GrpcError::Malformed(format!("a message that can't be decoded: {error}")));
            }
        };
        let received = self.mux.borrow_mut().receive(message, Instant::now());
        match received {
            Received::Ignored(why) => tracing::debug!(target: "config", "{}: {why}", self.service.cluster),
            Received::Rejected { kind, reason, watches, delivery } => {
                tracing::warn!(target: "config", "{} refused from {}: {reason}", kind.type_url(), self.service.cluster);
                for subscription in watches.iter().filter_map(|watch| self.find(*watch)) {
                    subscription.failed(Failure::Rejected);
                }
                return Ok(Some((delivery, Err(reason))));
            }
            Received::Deliver(delivery) => {
                let outcome = self.deliver(&delivery);
                if let Err(reason) = &outcome {
                    let (url, from) = (delivery.kind.type_url(), &self.service.cluster);
                    tracing::warn!(target: "config", "{url} refused from {from}: {reason}");
                }
                return Ok(Some((delivery, outcome)));
            }
        }
        Ok(None)
    }

    fn identified(&self, identifier: Option<&str>) {
        if let Some(identifier) = identifier.filter(|identifier| !identifier.is_empty()) {
            self.stats.identifier().set(identifier);
        }
    }

    fn deliver(&self, delivery: &Delivery) -> Outcome {
        let mut refused = Vec::new();
        for share in &delivery.shares {
            let Some(subscription) = self.find(share.watch) else { continue };
            let update = Update {
                version: &delivery.version,
                is_complete: delivery.is_complete,
                resources: &share.resources,
                removed: &share.removed,
            };
            if let Err(reason) = subscription.update(&update)
                && !refused.contains(&reason)
            {
                refused.push(reason);
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
    }

    fn expire(&self) {
        let expired = self.mux.borrow_mut().expire(Instant::now());
        for delivery in expired {
            // The server is not told of it.
            if let Err(reason) = self.deliver(&delivery) {
                tracing::warn!(target: "config", "an expired {} can't be removed: {reason}", delivery.kind.message());
            }
            self.mux.borrow_mut().done(delivery, &Ok(()));
        }
    }

    fn find(&self, watch: WatchId) -> Option<Rc<Subscription>> {
        self.subscriptions.borrow().get(&watch).and_then(Weak::upgrade)
    }

    fn all(&self) -> Vec<Rc<Subscription>> {
        self.subscriptions.borrow().values().filter_map(Weak::upgrade).collect()
    }
}
