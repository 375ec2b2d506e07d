//! The resources that discovery brought, as a dump lists them.

use super::resources::Kind;
use super::{timestamp, to_any};
use crate::state::Server;
use crate::xds::{HeldResource, Version};
use nuncio_config::transcode::wire::{put_bytes, put_nested, put_tag};
use nuncio_xds::ResourceType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// A resource of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub name: String,
    states: States,
}

/// What is shown of it.
#[derive(Debug, Clone, PartialEq)]
enum States {
    /// One version.
    One(Version),
    /// It did not come yet.
    Missing,
    /// All that is known of a listener.
    Listener { active: Option<Version>, warming: Option<Version>, refused: Option<(Version, String)> },
}

/// The resources of a list of dynamic ones.
pub(super) fn resources(server: &Server, kind: Kind) -> Vec<Held> {
    if kind == Kind::WarmingSecret {
        let names: BTreeSet<Arc<str>> = server.xds.secrets.awaited().into_iter().collect();
        return names.iter().map(|name| Held { name: name.to_string(), states: States::Missing }).collect();
    }
    let held = server.xds.held.all(kind.resource_type());
    if kind == Kind::DynamicListener {
        return listeners(server, held);
    }
    let chosen = held.into_iter().filter_map(|(name, held)| {
        let warming = || server.clusters.is_warming(&name);
        let version = match kind {
            Kind::ActiveCluster if warming() => held.before,
            Kind::WarmingCluster => held.active.filter(|_| warming()),
            _ => held.active,
        };
        Some(Held { name, states: States::One(version?) })
    });
    chosen.collect()
}

/// Those that serve first, in their order.
fn listeners(server: &Server, held: Vec<(String, HeldResource)>) -> Vec<Held> {
    let pending: BTreeSet<Arc<str>> = match &*server.xds.lds.borrow() {
        Some(listeners) => listeners.pending().into_iter().map(|(name, _)| name).collect(),
        None => BTreeSet::new(),
    };
    let manager = server.listeners.borrow();
    let places: BTreeMap<&str, usize> =
        manager.served().iter().enumerate().map(|(at, served)| (&*served.config.name, at)).collect();
    let mut listeners: Vec<Held> = Vec::new();
    for (name, HeldResource { active, before, refused }) in held {
        let (active, warming) = if pending.contains(name.as_str()) { (before, active) } else { (active, None) };
        listeners.push(Held { name, states: States::Listener { active, warming, refused } });
    }
    listeners.sort_by_key(|held| places.get(held.name.as_str()).copied().unwrap_or(usize::MAX));
    listeners
}

/// The item of a list.
pub(super) fn item(kind: Kind, held: &Held) -> Vec<u8> {
    let mut item = Vec::new();
    match &held.states {
        States::One(version) if kind.resource_type() == ResourceType::Secret => {
            put_bytes(&mut item, 1, held.name.as_bytes());
            put_text(&mut item, 2, &version.resource.version);
            put_bytes(&mut item, 3, &timestamp(version.at));
            put_bytes(&mut item, 4, &to_any(kind.full_name(), &version.resource.body));
        }
        States::One(version) => put_version(&mut item, kind, version),
        States::Missing => {
            let mut empty = Vec::new();
            put_bytes(&mut empty, 1, held.name.as_bytes());
            put_bytes(&mut item, 1, held.name.as_bytes());
            put_bytes(&mut item, 2, b"uninitialized");
            put_bytes(&mut item, 3, &timestamp(SystemTime::now()));
            put_bytes(&mut item, 4, &to_any(kind.full_name(), &empty));
        }
        States::Listener { active, warming, refused } => {
            put_bytes(&mut item, 1, held.name.as_bytes());
            for (number, version) in [(2, active), (3, warming)] {
                let Some(version) = version else { continue };
                put_tag(&mut item, number, 2);
                put_nested(&mut item, |out| put_version(out, kind, version));
            }
            if let Some((version, why)) = refused {
                put_tag(&mut item, 5, 2);
                put_nested(&mut item, |out| put_refused(out, kind, version, why));
            }
        }
    }
    item
}

/// What the messages of most lists have in common.
fn put_version(out: &mut Vec<u8>, kind: Kind, version: &Version) {
    put_text(out, 1, &version.resource.version);
    put_bytes(out, 2, &to_any(kind.full_name(), &version.resource.body));
    put_bytes(out, 3, &timestamp(version.at));
}

/// `UpdateFailureState`, as Envoy fills it: without a version.
fn put_refused(out: &mut Vec<u8>, kind: Kind, version: &Version, why: &str) {
    put_bytes(out, 1, &to_any(kind.full_name(), &version.resource.body));
    put_bytes(out, 2, &timestamp(version.at));
    put_bytes(out, 3, why.as_bytes());
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}
