//! A management server that answers by itself: resources by type, sent to whoever subscribes them, and again on change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nuncio_api::wkt::Any;

use super::message::{Message, Request, Resource, Response, StreamKind, type_url};

/// The resources that are served, and who has which.
#[derive(Default)]
pub struct Snapshot {
    types: BTreeMap<String, Resources>,
    subscriptions: BTreeMap<(usize, String), Subscription>,
    answers: Vec<Answer>,
    nonces: u64,
    /// What [`Response::control_plane`] says.
    pub control_plane: Option<String>,
}

/// The resources of a type.
#[derive(Clone, Debug, Default)]
struct Resources {
    /// Of the whole type, for state of the world.
    version: String,
    by_name: BTreeMap<String, Resource>,
}

/// What a client said to a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The stream.
    pub stream: usize,
    /// The type.
    pub type_url: String,
    /// The version of the response.
    pub version: String,
    /// Why it was refused; `None`: accepted.
    pub error: Option<String>,
}

struct Subscription {
    kind: StreamKind,
    wildcard: bool,
    names: BTreeSet<String>,
    /// The version that was sent last, and its nonce; empty before the first.
    version: String,
    nonce: String,
    /// With delta: what the client has, by name.
    known: HashMap<String, String>,
    /// The versions that were sent, by nonce.
    sent: HashMap<String, String>,
}

impl Subscription {
    fn new(kind: StreamKind) -> Self {
        Self {
            kind,
            wildcard: false,
            names: BTreeSet::new(),
            version: String::new(),
            nonce: String::new(),
            known: HashMap::new(),
            sent: HashMap::new(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

impl Snapshot {
    /// Sets all resources of `wanted` (a type URL, or its short name), by name. Each has `version`, unless it is what it was.
    pub fn set(
        &mut self,
        wanted: &str,
        version: &str,
        resources: impl IntoIterator<Item = (String, Any)>,
    ) -> &mut Self {
        let resources = resources.into_iter().map(|(name, any)| Resource::new(&name, version, any));
        self.set_resources(wanted, version, resources)
    }

    /// The same with all that a resource may have (TTL, aliases).
    pub fn set_resources(
        &mut self,
        wanted: &str,
        version: &str,
        resources: impl IntoIterator<Item = Resource>,
    ) -> &mut Self {
        let entry = self.types.entry(type_url(wanted)).or_default();
        let before = std::mem::take(&mut entry.by_name);
        version.clone_into(&mut entry.version);
        for mut resource in resources {
            if let Some(old) = before.get(&resource.name)
                && old.any == resource.any
            {
                resource.version.clone_from(&old.version);
            }
            entry.by_name.insert(resource.name.clone(), resource);
        }
        self
    }

    /// Sets or replaces one resource.
    pub fn put(&mut self, wanted: &str, version: &str, name: &str, any: Any) -> &mut Self {
        let entry = self.types.entry(type_url(wanted)).or_default();
        version.clone_into(&mut entry.version);
        entry.by_name.insert(name.to_owned(), Resource::new(name, version, any));
        self
    }

    /// Removes one resource.
    pub fn remove(&mut self, wanted: &str, version: &str, name: &str) -> &mut Self {
        let entry = self.types.entry(type_url(wanted)).or_default();
        version.clone_into(&mut entry.version);
        entry.by_name.remove(name);
        self
    }

    /// What clients said to responses, in order.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    pub(super) fn take_subscriptions(&mut self, before: Self) {
        self.subscriptions = before.subscriptions;
        self.answers = before.answers;
        self.nonces = before.nonces;
    }

    pub(super) fn ended(&mut self, stream: usize) {
        self.subscriptions.retain(|(of, _), _| *of != stream);
    }

    /// What is to be sent for a request.
    pub(super) fn request(&mut self, request: &Request) -> Vec<(usize, Response)> {
        let kind = StreamKind::of(&request.path);
        let key = (request.stream, request.type_url().to_owned());
        let is_first = !self.subscriptions.contains_key(&key);
        let subscription = self.subscriptions.entry(key.clone()).or_insert_with(|| Subscription::new(kind));
        if let Some(version) = subscription.sent.remove(request.nonce()) {
            let error = request.error().map(|error| error.message.clone());
            self.answers.push(Answer { stream: key.0, type_url: key.1.clone(), version, error });
        }
        let changed = match &request.message {
            Message::Sotw(_) => subscription.sotw(request, is_first),
            Message::Delta(_) => subscription.delta(request, is_first),
            Message::Raw(_) => return Vec::new(),
        };
        let response = if changed.is_empty() { self.change(&key) } else { self.answer(&key, &changed) };
        response.map(|response| (request.stream, response)).into_iter().collect()
    }

    /// What is to be sent to everybody after a change.
    pub(super) fn push_changes(&mut self) -> Vec<(usize, Response)> {
        let keys: Vec<_> = self.subscriptions.keys().cloned().collect();
        keys.into_iter().filter_map(|key| Some((key.0, self.change(&key)?))).collect()
    }

    /// The response to who newly wants `names` (`*` for all).
    fn answer(&mut self, key: &(usize, String), names: &[String]) -> Option<Response> {
        let resources = self.types.get(&key.1).cloned().unwrap_or_default();
        let subscription = self.subscriptions.get_mut(key)?;
        if subscription.kind != StreamKind::Delta {
            return self.whole(key, &resources);
        }
        let all = names.iter().any(|name| name == "*");
        let wanted = |resource: &&Resource| {
            let is_known = subscription.known.get(&resource.name) == Some(&resource.version);
            names.contains(&resource.name) || (all && !is_known)
        };
        let send: Vec<Resource> = resources.by_name.values().filter(wanted).cloned().collect();
        let gone = |name: &&String| *name != "*" && !resources.by_name.contains_key(*name);
        let mut removed: Vec<String> = names.iter().filter(gone).cloned().collect();
        let known = subscription.known.keys().filter(|name| !resources.by_name.contains_key(*name));
        removed.extend(known.filter(|name| !names.contains(name)).cloned());
        self.differences(key, &resources.version, send, removed)
    }

    /// The response to who has an older state, if there is one.
    fn change(&mut self, key: &(usize, String)) -> Option<Response> {
        let resources = self.types.get(&key.1)?.clone();
        let subscription = self.subscriptions.get_mut(key)?;
        if subscription.kind != StreamKind::Delta {
            return (subscription.version != resources.version).then(|| self.whole(key, &resources)).flatten();
        }
        let is_new = |resource: &&Resource| {
            subscription.wants(&resource.name) && subscription.known.get(&resource.name) != Some(&resource.version)
        };
        let send: Vec<Resource> = resources.by_name.values().filter(is_new).cloned().collect();
        let gone = |name: &&String| !resources.by_name.contains_key(*name);
        let mut removed: Vec<String> = subscription.known.keys().filter(gone).cloned().collect();
        removed.sort_unstable();
        if send.is_empty() && removed.is_empty() {
            return None;
        }
        self.differences(key, &resources.version, send, removed)
    }

    /// All that a subscription of state of the world wants; nothing while there is none of it.
    fn whole(&mut self, key: &(usize, String), resources: &Resources) -> Option<Response> {
        let subscription = self.subscriptions.get_mut(key)?;
        let wanted = resources.by_name.values().filter(|resource| subscription.wants(&resource.name));
        let send: Vec<Resource> = wanted.cloned().collect();
        if send.is_empty() && (!subscription.wildcard || resources.version.is_empty()) {
            return None;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        subscription.version.clone_from(&resources.version);
        subscription.nonce.clone_from(&nonce);
        subscription.sent.insert(nonce.clone(), resources.version.clone());
        let control_plane = self.control_plane.clone();
        Some(Response { control_plane, ..Response::new(&key.1, &resources.version, &nonce, send) })
    }

    fn differences(
        &mut self,
        key: &(usize, String),
        version: &str,
        send: Vec<Resource>,
        removed: Vec<String>,
    ) -> Option<Response> {
        let subscription = self.subscriptions.get_mut(key)?;
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        for resource in &send {
            subscription.known.insert(resource.name.clone(), resource.version.clone());
        }
        for name in &removed {
            subscription.known.remove(name);
        }
        subscription.sent.insert(nonce.clone(), version.to_owned());
        let control_plane = self.control_plane.clone();
        Some(Response { removed, control_plane, ..Response::new(&key.1, version, &nonce, send) })
    }
}

/// Types whose clients ask for everything by naming nothing.
fn has_wildcard(url: &str) -> bool {
    ["cds", "lds", "srds"].iter().any(|short| type_url(short) == url)
}

impl Subscription {
    /// Takes a request of state of the world; the names that it newly wants.
    fn sotw(&mut self, request: &Request, is_first: bool) -> Vec<String> {
        if !self.nonce.is_empty() && request.nonce() != self.nonce {
            return Vec::new();
        }
        let names: BTreeSet<String> = request.names().iter().cloned().collect();
        let wildcard = names.contains("*")
            || (names.is_empty() && has_wildcard(request.type_url()) && (is_first || self.wildcard));
        let mut new: Vec<String> = names.difference(&self.names).cloned().collect();
        if wildcard && !self.wildcard {
            new.push("*".to_owned());
        }
        (self.names, self.wildcard) = (names, wildcard);
        new
    }

    /// Takes a request of delta; the names that it newly wants.
    fn delta(&mut self, request: &Request, is_first: bool) -> Vec<String> {
        let mut new = request.names().to_vec();
        if is_first {
            self.known.extend(request.initial_versions());
            if new.is_empty() && has_wildcard(request.type_url()) {
                new.push("*".to_owned());
            }
        }
        self.wildcard |= new.iter().any(|name| name == "*");
        self.names.extend(new.iter().filter(|name| *name != "*").cloned());
        for name in request.unsubscribed() {
            if name == "*" {
                self.wildcard = false;
            }
            self.names.remove(name);
            self.known.remove(name);
        }
        new
    }
}
