//! Filter state: typed objects that filters and access logs share by name (Envoy's `StreamInfo::FilterState`).

use crate::Value;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One field of an object, as `FILTER_STATE(key:FIELD:name)` prints it.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A number.
    Number(i64),
}

/// An object in the filter state.
pub trait FilterStateObject: Send + Sync + fmt::Debug {
    /// The object itself, for those who know its type.
    fn as_any(&self) -> &dyn Any;

    /// Text for `PLAIN` serialisation and for matching.
    fn to_plain(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The JSON value of the object's protobuf form, for `TYPED` serialisation.
    fn to_typed(&self) -> Option<Value> {
        None
    }

    /// A field by name, for `FIELD` serialisation.
    fn field(&self, _name: &str) -> Option<FieldValue<'_>> {
        None
    }
}

/// Text as an object: Envoy's `Router::StringAccessorImpl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainString(pub Arc<str>);

impl FilterStateObject for PlainString {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_plain(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.0))
    }

    fn to_typed(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// Protocols that connections to hosts offer (ALPN) in place of configured ones: Envoy's
/// `Network::ApplicationProtocols`, under [`ApplicationProtocols::KEY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationProtocols(pub Arc<[Vec<u8>]>);

impl ApplicationProtocols {
    /// The name of the object.
    pub const KEY: &'static str = "envoy.network.application_protocols";
}

impl FilterStateObject for ApplicationProtocols {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether an object may be replaced under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// Set once.
    ReadOnly,
    /// May be replaced by another mutable object.
    Mutable,
}

/// How long an object lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifeSpan {
    /// Until the filter chain ends: an internal redirect starts without it.
    FilterChain,
    /// Until the request ends.
    Request,
    /// Until the downstream connection ends.
    Connection,
}

/// Whether upstream connections see the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Not shared.
    #[default]
    None,
    /// Shared with the upstream connection and with what it calls.
    SharedWithUpstream,
    /// Shared with the upstream connection only.
    SharedWithUpstreamOnce,
}

/// Why an object could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterStateError {
    /// The name is taken with another life span.
    LifeSpanConflict,
    /// The name is taken by a read-only object.
    ReadOnly,
    /// The name is taken by a mutable object and the new one is read-only.
    MutabilityConflict,
    /// The stream or connection holds as many objects as it may (256).
    Full,
}

impl fmt::Display for FilterStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FilterStateError::LifeSpanConflict => "an object of this name exists with another life span",
            FilterStateError::ReadOnly => "an object of this name exists and is read-only",
            FilterStateError::MutabilityConflict => "an object of this name exists with another mutability",
            FilterStateError::Full => "too many objects in the filter state",
        })
    }
}

impl std::error::Error for FilterStateError {}

#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    object: Arc<dyn FilterStateObject>,
    mutability: Mutability,
    life_span: LifeSpan,
    sharing: Sharing,
}

/// Most objects per stream, and per connection.
const MAX_OBJECTS: usize = 256;

/// The objects that live as long as a downstream connection, shared by its streams. They all run on one worker, so
/// the lock is never waited for.
#[derive(Debug, Clone, Default)]
pub struct ConnectionState(Option<Arc<Mutex<Vec<Entry>>>>);

impl ConnectionState {
    /// State that streams can share from now on.
    pub fn shared() -> ConnectionState {
        ConnectionState(Some(Arc::default()))
    }

    /// Streams can share state from now on.
    pub fn share(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Puts an object there that may be replaced.
    pub fn put(&self, name: &str, object: Arc<dyn FilterStateObject>) -> Result<(), FilterStateError> {
        let mut state = FilterState::on_connection(self.clone());
        state.set(name, object, Mutability::Mutable, LifeSpan::Connection, Sharing::None)
    }

    fn lock(&self) -> Option<MutexGuard<'_, Vec<Entry>>> {
        self.0.as_ref().map(|entries| entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The filter state of a stream, with that of its connection behind it. Empty state owns no memory.
#[derive(Debug, Clone, Default)]
pub struct FilterState {
    own: Vec<Entry>,
    connection: ConnectionState,
}

impl FilterState {
    /// State of a stream on a connection whose objects it shares.
    pub fn on_connection(connection: ConnectionState) -> FilterState {
        FilterState { own: Vec::new(), connection }
    }

    /// Drops what does not outlive the stream: the next one of the same connection starts with the rest.
    pub fn end_stream(&mut self) {
        self.own.clear();
    }

    /// Drops what does not outlive the filter chain: before an internal redirect.
    pub fn end_filter_chain(&mut self) {
        self.own.retain(|entry| entry.life_span > LifeSpan::FilterChain);
    }

    /// The object of a name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn FilterStateObject>> {
        if let Some(entry) = self.own.iter().find(|entry| *entry.name == *name) {
            return Some(entry.object.clone());
        }
        let shared = self.connection.lock()?;
        shared.iter().find(|entry| *entry.name == *name).map(|entry| entry.object.clone())
    }

    /// Protocols that connections to hosts are to offer, if a filter said so.
    pub fn application_protocols(&self) -> Option<Arc<[Vec<u8>]>> {
        let object = self.get(ApplicationProtocols::KEY)?;
        object.as_any().downcast_ref().map(|ApplicationProtocols(protocols)| Arc::clone(protocols))
    }

    /// Puts an object under a name, by Envoy's rules of life span and mutability.
    pub fn set(
        &mut self,
        name: impl Into<Arc<str>>,
        object: Arc<dyn FilterStateObject>,
        mutability: Mutability,
        life_span: LifeSpan,
        sharing: Sharing,
    ) -> Result<(), FilterStateError> {
        let entry = Entry { name: name.into(), object, mutability, life_span, sharing };
        if life_span < LifeSpan::Connection {
            if self.connection.lock().is_some_and(|shared| position(&shared, &entry.name).is_some()) {
                return Err(FilterStateError::LifeSpanConflict);
            }
            return put(&mut self.own, entry);
        }
        if position(&self.own, &entry.name).is_some() {
            return Err(FilterStateError::LifeSpanConflict);
        }
        let shared = self.connection.0.get_or_insert_default();
        put(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), entry)
    }

    /// The objects that upstream connections are to see, with their names.
    pub fn shared_with_upstream(&self) -> Vec<(Arc<str>, Arc<dyn FilterStateObject>, Sharing)> {
        let pick = |entry: &Entry| {
            (entry.sharing != Sharing::None).then(|| (entry.name.clone(), entry.object.clone(), entry.sharing))
        };
        let mut found: Vec<_> = self.own.iter().filter_map(pick).collect();
        if let Some(shared) = self.connection.lock() {
            found.extend(shared.iter().filter_map(pick));
        }
        found
    }

    /// The state of the connection, to be given to the filter states of its other streams.
    pub fn connection(&self) -> &ConnectionState {
        &self.connection
    }
}

fn position(entries: &[Entry], name: &str) -> Option<usize> {
    entries.iter().position(|entry| *entry.name == *name)
}

fn put(entries: &mut Vec<Entry>, entry: Entry) -> Result<(), FilterStateError> {
    let Some(at) = position(entries, &entry.name) else {
        if entries.len() >= MAX_OBJECTS {
            return Err(FilterStateError::Full);
        }
        entries.push(entry);
        return Ok(());
    };
    let old = &mut entries[at];
    if old.life_span != entry.life_span {
        return Err(FilterStateError::LifeSpanConflict);
    }
    match (old.mutability, entry.mutability) {
        (Mutability::ReadOnly, _) => Err(FilterStateError::ReadOnly),
        (Mutability::Mutable, Mutability::ReadOnly) => Err(FilterStateError::MutabilityConflict),
        (Mutability::Mutable, Mutability::Mutable) => {
            *old = entry;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
