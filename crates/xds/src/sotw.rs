//! The state-of-the-world variant.
//!
//! A request names everything that is wanted of a kind, the version in force and the nonce of the last response; so a request
//! because of a change and an ACK are the same thing, and of several in a row the last one counts.

use crate::mux::{Delivery, Outcome, Receipt, Received, Share, status};
use crate::pb::{DiscoveryRequest, DiscoveryResponse};
use crate::resource::{Element, of_response};
use crate::time_to_live::TimesToLive;
use crate::watches::Watches;
use crate::{Names, Resource, ResourceType, WatchId};
use hashbrown::{HashMap, HashSet};
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_api::pb::google::rpc::Status;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Sotw {
    node: Node,
    node_on_first_only: bool,
    is_open: bool,
    /// Whether the next request is the first one of its stream.
    is_first: bool,
    /// In the order of their first watches.
    kinds: Vec<(ResourceType, State)>,
    queue: VecDeque<ResourceType>,
}

/// One kind.
#[derive(Debug, Default)]
struct State {
    watches: Watches,
    /// Of the last response that was accepted.
    version: String,
    /// Of the last response.
    nonce: String,
    error: Option<Status>,
    paused: usize,
    /// A request waits for the end of the pause.
    is_pending: bool,
    /// A response is being taken up: what is to be said goes with its ACK.
    is_handled: bool,
}

impl Sotw {
    pub(crate) fn new(node: Node, node_on_first_only: bool) -> Sotw {
        Sotw { node, node_on_first_only, is_open: false, is_first: true, kinds: Vec::new(), queue: VecDeque::new() }
    }

    fn state(&mut self, kind: ResourceType) -> &mut State {
        let at = self.kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.kinds.push((kind, State::default()));
            self.kinds.len() - 1
        });
        &mut self.kinds[at].1
    }

    fn find(&mut self, kind: ResourceType) -> Option<&mut State> {
        self.kinds.iter_mut().find(|(known, _)| *known == kind).map(|(_, state)| state)
    }

    fn enqueue(&mut self, kind: ResourceType) {
        if !self.is_open {
            // A new stream begins with everything.
            return;
        }
        let state = self.state(kind);
        if state.is_handled {
            return;
        }
        if state.paused > 0 {
            state.is_pending = true;
        } else if !self.queue.contains(&kind) {
            self.queue.push_back(kind);
        }
    }

    pub(crate) fn watch(&mut self, kind: ResourceType, id: WatchId, names: Names) {
        self.state(kind).watches.add(id, names);
        self.enqueue(kind);
    }

    pub(crate) fn unwatch(&mut self, kind: ResourceType, id: WatchId) {
        if let Some((Names::These(_), _)) = self.state(kind).watches.remove(id) {
            self.enqueue(kind);
        }
    }

    pub(crate) fn extend(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        self.state(kind).watches.extend(id, name.into());
        self.enqueue(kind);
    }

    pub(crate) fn forget(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        self.state(kind).watches.forget(id, name);
    }

    pub(crate) fn pause(&mut self, kind: ResourceType) {
        self.state(kind).paused += 1;
        if let Some(at) = self.queue.iter().position(|queued| *queued == kind) {
            self.queue.remove(at);
            self.state(kind).is_pending = true;
        }
    }

    pub(crate) fn resume(&mut self, kind: ResourceType) {
        let state = self.state(kind);
        state.paused = state.paused.saturating_sub(1);
        if state.paused == 0 && std::mem::take(&mut state.is_pending) {
            self.enqueue(kind);
        }
    }

    pub(crate) fn opened(&mut self) {
        self.is_open = true;
        self.is_first = true;
        self.queue.clear();
        for at in 0..self.kinds.len() {
            let (kind, state) = &mut self.kinds[at];
            let kind = *kind;
            state.nonce.clear();
            state.error = None;
            state.is_pending = false;
            state.is_handled = false;
            if !state.watches.is_empty() {
                self.enqueue(kind);
            }
        }
    }

    pub(crate) fn closed(&mut self) {
        self.is_open = false;
        self.queue.clear();
    }

    pub(crate) fn has_request(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn next_request(&mut self) -> Option<DiscoveryRequest> {
        let kind = self.queue.pop_front()?;
        let with_node = self.is_first || !self.node_on_first_only;
        self.is_first = false;
        let node = with_node.then(|| self.node.clone());
        let state = self.find(kind)?;
        Some(DiscoveryRequest {
            version_info: state.version.clone(),
            node,
            resource_names: state.watches.names(),
            type_url: kind.type_url().to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: state.error.take(),
            ..DiscoveryRequest::default()
        })
    }

    pub(crate) fn receive(&mut self, response: DiscoveryResponse, ttl: &mut TimesToLive, now: Instant) -> Received {
        let DiscoveryResponse { version_info, resources, type_url, nonce, .. } = response;
        let Some(kind) = ResourceType::of_url(&type_url) else {
            return Received::Ignored(format!("a response of the type {type_url}, which was not asked for"));
        };
        let Some(state) = self.find(kind) else {
            return Received::Ignored(format!("a response of the type {type_url}, which was not asked for"));
        };
        state.nonce = nonce;
        if state.watches.is_empty() {
            if !resources.is_empty() {
                // Nobody wants them any more: the server is told so by the version that stays.
                self.enqueue(kind);
            }
            return Received::Ignored(format!("a response of the type {type_url}, which nobody wants any more"));
        }
        state.is_handled = true;
        let version = state.version.clone();
        let mut read = Vec::with_capacity(resources.len());
        for any in resources {
            match of_response(any, kind, &version_info) {
                Ok(element) => read.push(element),
                Err(reason) => return self.reject(kind, reason),
            }
        }
        let Some(state) = self.find(kind) else { return Received::Ignored(String::new()) };
        let mut full: Vec<Rc<Resource>> = Vec::with_capacity(read.len());
        for element in read {
            match element {
                Element::Full(resource) => {
                    ttl.set(kind, &resource.name, resource.ttl, now);
                    full.push(Rc::new(resource));
                }
                // Known by its version, it lives on; otherwise it says nothing.
                Element::Heartbeat { name, version: of, ttl: left } if of == version => {
                    ttl.set(kind, &name, left, now);
                }
                Element::Heartbeat { .. } => {}
            }
        }
        let mut names: HashSet<&str> = HashSet::with_capacity(full.len());
        if let Some(twice) = full.iter().find(|resource| !names.insert(&resource.name)) {
            let reason = format!("duplicate {} {} found", singular(kind), twice.name);
            return self.reject(kind, reason);
        }
        let shares = shares(&state.watches, &full);
        Received::Deliver(Delivery {
            kind,
            version: version_info.clone(),
            is_complete: kind.is_complete(),
            shares,
            receipt: Receipt::Sotw { version: version_info },
        })
    }

    fn reject(&mut self, kind: ResourceType, reason: String) -> Received {
        let watches = self.state(kind).watches.ids().collect();
        let receipt = Receipt::Sotw { version: String::new() };
        let delivery = Delivery { kind, version: String::new(), is_complete: false, shares: Vec::new(), receipt };
        Received::Rejected { kind, reason, watches, delivery }
    }

    pub(crate) fn done(&mut self, kind: ResourceType, version: String, outcome: &Outcome) {
        let state = self.state(kind);
        state.is_handled = false;
        match outcome {
            Ok(()) => {
                state.version = version;
                state.error = None;
            }
            Err(text) => state.error = Some(status(text)),
        }
        self.enqueue(kind);
    }

    pub(crate) fn watchers(&mut self, kind: ResourceType, name: &str) -> Vec<WatchId> {
        let Some(state) = self.find(kind) else { return Vec::new() };
        let of_name = state.watches.of(name);
        state.watches.of_all().iter().chain(of_name).copied().collect()
    }
}

/// What is said of a resource of a kind.
pub(crate) fn singular(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "cluster",
        ResourceType::Endpoint => "load assignment",
        ResourceType::Listener => "listener",
        ResourceType::Route => "route configuration",
        ResourceType::ScopedRoute => "scoped route",
        ResourceType::VirtualHost => "virtual host",
        ResourceType::Secret => "secret",
        ResourceType::ExtensionConfig => "extension configuration",
        ResourceType::Runtime => "runtime layer",
    }
}

/// Which watch gets what: those of everything all of it, even if it is nothing; those of names what is there of them.
fn shares(watches: &Watches, resources: &[Rc<Resource>]) -> Vec<Share> {
    let share = |watch, resources| Share { watch, resources, removed: Vec::new() };
    let mut shares: Vec<Share> = watches.of_all().iter().map(|watch| share(*watch, resources.to_vec())).collect();
    let mut places: HashMap<WatchId, usize> = HashMap::new();
    for resource in resources {
        for watch in watches.of(&resource.name) {
            let at = *places.entry(*watch).or_insert_with(|| {
                shares.push(share(*watch, Vec::new()));
                shares.len() - 1
            });
            shares[at].resources.push(Rc::clone(resource));
        }
    }
    shares
}
