//! The incremental variant.
//!
//! Requests say what is wanted anew and what is not wanted any more. An ACK is a message of its own, which changes no
//! subscription; the first request of a stream says everything, with the versions that are known already.

use crate::mux::{Delivery, Outcome, Receipt, Received, Share, status};
use crate::pb::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::resource::positive;
use crate::sotw::singular;
use crate::time_to_live::TimesToLive;
use crate::watches::Watches;
use crate::{Names, Resource, ResourceType, WatchId};
use hashbrown::{HashMap, HashSet};
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_api::pb::google::rpc::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Delta {
    node: Node,
    node_on_first_only: bool,
    is_open: bool,
    is_first: bool,
    /// In the order of their first watches.
    kinds: Vec<(ResourceType, State)>,
    acks: VecDeque<Ack>,
}

#[derive(Debug)]
struct Ack {
    kind: ResourceType,
    nonce: String,
    error: Option<Status>,
}

/// One kind.
#[derive(Debug, Default)]
struct State {
    watches: Watches,
    /// Whether everything is wanted: an empty first request.
    is_wildcard: bool,
    /// Versions of what is known.
    versions: BTreeMap<String, String>,
    added: BTreeSet<Rc<str>>,
    removed: BTreeSet<Rc<str>>,
    /// Whether the stream has seen a request of this kind.
    is_begun: bool,
    paused: usize,
}

impl State {
    fn wants_request(&self) -> bool {
        if self.paused > 0 {
            return false;
        }
        let is_changed = !self.added.is_empty() || !self.removed.is_empty();
        is_changed || (!self.is_begun && !self.watches.is_empty())
    }
}

impl Delta {
    pub(crate) fn new(node: Node, node_on_first_only: bool) -> Delta {
        Delta { node, node_on_first_only, is_open: false, is_first: true, kinds: Vec::new(), acks: VecDeque::new() }
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

    pub(crate) fn watch(&mut self, kind: ResourceType, id: WatchId, names: Names) {
        let state = self.state(kind);
        state.is_wildcard |= !matches!(names, Names::These(_));
        for name in state.watches.add(id, names) {
            // Even if the server has not heard yet that it was not wanted: what it sent since went to nobody.
            state.removed.remove(&name);
            state.added.insert(name);
        }
    }

    pub(crate) fn unwatch(&mut self, kind: ResourceType, id: WatchId) {
        let state = self.state(kind);
        let Some((names, gone)) = state.watches.remove(id) else { return };
        if !matches!(names, Names::These(_)) {
            state.is_wildcard = state.watches.has_wildcard();
        }
        for name in gone {
            state.versions.remove(&*name);
            state.added.remove(&name);
            if state.is_begun {
                state.removed.insert(name);
            }
        }
    }

    pub(crate) fn extend(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        let state = self.state(kind);
        let name: Rc<str> = name.into();
        state.watches.extend(id, Rc::clone(&name));
        state.removed.remove(&name);
        state.added.insert(name);
    }

    pub(crate) fn forget(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        let state = self.state(kind);
        state.watches.forget(id, name);
        state.added.remove(name);
    }

    pub(crate) fn pause(&mut self, kind: ResourceType) {
        self.state(kind).paused += 1;
    }

    pub(crate) fn resume(&mut self, kind: ResourceType) {
        let state = self.state(kind);
        state.paused = state.paused.saturating_sub(1);
    }

    pub(crate) fn opened(&mut self) {
        self.is_open = true;
        self.is_first = true;
        self.acks.clear();
        for (_, state) in &mut self.kinds {
            state.is_begun = false;
            state.removed.clear();
        }
    }

    pub(crate) fn closed(&mut self) {
        self.is_open = false;
        self.acks.clear();
    }

    /// The first ACK whose kind is not paused.
    fn ready_ack(&self) -> Option<usize> {
        let paused = |kind| self.kinds.iter().any(|(known, state)| *known == kind && state.paused > 0);
        self.acks.iter().position(|ack| !paused(ack.kind))
    }

    pub(crate) fn has_request(&self) -> bool {
        self.is_open && (self.ready_ack().is_some() || self.kinds.iter().any(|(_, state)| state.wants_request()))
    }

    pub(crate) fn queued(&self) -> usize {
        self.acks.len() + self.kinds.iter().filter(|(_, state)| state.wants_request()).count()
    }

    pub(crate) fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        if !self.is_open {
            return None;
        }
        let mut request = match self.ready_ack().and_then(|at| self.acks.remove(at)) {
            Some(Ack { kind, nonce, error }) => DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                response_nonce: nonce,
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            },
            None => {
                let (kind, state) = self.kinds.iter_mut().find(|(_, state)| state.wants_request())?;
                subscription(*kind, state)
            }
        };
        if std::mem::take(&mut self.is_first) || !self.node_on_first_only {
            request.node = Some(self.node.clone());
        }
        Some(request)
    }

    pub(crate) fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        ttl: &mut TimesToLive,
        now: Instant,
    ) -> Received {
        let DeltaDiscoveryResponse { system_version_info, resources, type_url, removed_resources, nonce, .. } =
            response;
        let Some((kind, state)) = ResourceType::of_url(&type_url).and_then(|kind| Some((kind, self.find(kind)?)))
        else {
            return Received::Ignored(format!("a response of the type {type_url}, which was not asked for"));
        };
        if let Err(reason) = check(kind, &state.versions, &resources, &removed_resources) {
            return self.reject(kind, nonce, reason);
        }
        let mut versions = Vec::with_capacity(resources.len());
        let mut full = Vec::with_capacity(resources.len());
        for resource in resources {
            let left = resource.ttl.as_ref().and_then(positive);
            let Some(body) = resource.resource else {
                if state.versions.get(&resource.name).is_some_and(|known| *known == resource.version) {
                    ttl.set(kind, &resource.name, left, now);
                } else if kind == ResourceType::VirtualHost {
                    full.push(Rc::new(unresolved(resource)));
                }
                continue;
            };
            ttl.set(kind, &resource.name, left, now);
            versions.push((resource.name.clone(), resource.version.clone()));
            full.push(Rc::new(Resource {
                name: resource.name,
                aliases: resource.aliases,
                version: resource.version,
                body: body.value,
                ttl: left,
            }));
        }
        for name in &removed_resources {
            ttl.forget(kind, name);
        }
        let shares = shares(&state.watches, &full, &removed_resources);
        Received::Deliver(Delivery {
            kind,
            version: system_version_info,
            is_complete: false,
            shares,
            receipt: Receipt::Delta { nonce, versions, removed: removed_resources },
        })
    }

    fn reject(&mut self, kind: ResourceType, nonce: String, reason: String) -> Received {
        let watches = self.state(kind).watches.ids().collect();
        let receipt = Receipt::Delta { nonce, versions: Vec::new(), removed: Vec::new() };
        let delivery = Delivery { kind, version: String::new(), is_complete: false, shares: Vec::new(), receipt };
        Received::Rejected { kind, reason, watches, delivery }
    }

    pub(crate) fn done(
        &mut self,
        kind: ResourceType,
        nonce: String,
        outcome: &Outcome,
        (versions, removed): (Vec<(String, String)>, Vec<String>),
    ) {
        let error = match outcome {
            Ok(()) => {
                let state = self.state(kind);
                for name in removed {
                    state.versions.remove(&name);
                }
                for (name, version) in versions {
                    if state.is_wildcard || !state.watches.of(&name).is_empty() {
                        state.versions.insert(name, version);
                    }
                }
                None
            }
            Err(text) => Some(status(text)),
        };
        if self.is_open {
            self.acks.push_back(Ack { kind, nonce, error });
        }
    }

    /// A resource expired: who wanted it. Its version is not known any more.
    pub(crate) fn expired(&mut self, kind: ResourceType, name: &str) -> Vec<WatchId> {
        let Some(state) = self.find(kind) else { return Vec::new() };
        state.versions.remove(name);
        state.watches.of_all().iter().chain(state.watches.of(name)).copied().collect()
    }
}

/// What makes a response unacceptable as a whole.
fn check(
    kind: ResourceType,
    versions: &BTreeMap<String, String>,
    resources: &[pb::Resource],
    removed: &[String],
) -> Result<(), String> {
    let mut names: HashSet<&str> = HashSet::with_capacity(resources.len() + removed.len());
    for resource in resources {
        if !names.insert(&resource.name) {
            return Err(format!("duplicate name {} found among added/updated {}s", resource.name, singular(kind)));
        }
        let found = match &resource.resource {
            Some(any) => &any.type_url,
            // A heartbeat of what is known, or the answer that nothing is behind an alias.
            None if versions.get(&resource.name) == Some(&resource.version) || !resource.aliases.is_empty() => continue,
            None => "",
        };
        if found != kind.type_url() {
            let name = &resource.name;
            return Err(format!("{name}: the type URL {found:?} is not that of the response, {}", kind.type_url()));
        }
    }
    match removed.iter().find(|name| !names.insert(name)) {
        Some(twice) => {
            Err(format!("duplicate name {twice} found in the union of added and removed {}s", singular(kind)))
        }
        None => Ok(()),
    }
}

/// The next request of a kind that is no ACK.
fn subscription(kind: ResourceType, state: &mut State) -> DeltaDiscoveryRequest {
    let mut request =
        DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..DeltaDiscoveryRequest::default() };
    let added = std::mem::take(&mut state.added);
    let removed = std::mem::take(&mut state.removed);
    if std::mem::replace(&mut state.is_begun, true) {
        request.resource_names_subscribe = added.iter().map(ToString::to_string).collect();
        request.resource_names_unsubscribe = removed.iter().map(ToString::to_string).collect();
        return request;
    }
    // It may be another server: everything that is wanted, and what is there of it.
    let mut names = state.watches.names();
    names.sort_unstable();
    if state.is_wildcard && !names.is_empty() {
        names.insert(0, "*".to_owned());
    }
    request.resource_names_subscribe = names;
    request.initial_resource_versions =
        state.versions.iter().map(|(name, version)| (name.clone(), version.clone())).collect();
    request
}

/// The answer that nothing is behind the aliases that were asked for.
fn unresolved(resource: pb::Resource) -> Resource {
    let pb::Resource { name, aliases, version, .. } = resource;
    Resource { name, aliases, version, body: Vec::new(), ttl: None }
}

/// Which watch gets what. Watches of everything get all of it, those of names what is there of them, by name or alias or what
/// comes before the last `/`.
fn shares(watches: &Watches, resources: &[Rc<Resource>], removed: &[String]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for watch in watches.of_all() {
        shares.push(Share { watch: *watch, resources: resources.to_vec(), removed: removed.to_vec() });
    }
    let mut places: HashMap<WatchId, usize> = HashMap::new();
    let mut place = |watch: WatchId, shares: &mut Vec<Share>| {
        *places.entry(watch).or_insert_with(|| {
            shares.push(Share { watch, resources: Vec::new(), removed: Vec::new() });
            shares.len() - 1
        })
    };
    let concerned = |name: &str| {
        let under = name.rsplit_once('/').map_or(&[][..], |(owner, _)| watches.under(owner));
        watches.of(name).iter().chain(under).copied().collect::<Vec<_>>()
    };
    for resource in resources {
        let names = std::iter::once(&resource.name).chain(resource.aliases.iter().filter(|it| **it != resource.name));
        for watch in names.flat_map(|name| concerned(name)) {
            let at = place(watch, &mut shares);
            if !shares[at].resources.last().is_some_and(|known| Rc::ptr_eq(known, resource)) {
                shares[at].resources.push(Rc::clone(resource));
            }
        }
    }
    for name in removed {
        for watch in concerned(name) {
            let at = place(watch, &mut shares);
            if shares[at].removed.last() != Some(name) {
                shares[at].removed.push(name.clone());
            }
        }
    }
    shares
}
