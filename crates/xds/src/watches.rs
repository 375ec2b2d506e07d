//! Who wants which resources of one kind.

use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A watch of a [`crate::Mux`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub(crate) u64);

/// What a watch wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Everything that the server has for this node.
    All,
    /// Resources by name.
    These(Vec<Rc<str>>),
    /// Those whose names begin with this and a `/`: virtual hosts of a route configuration. The server is asked for everything.
    /// Those that [`crate::Mux::extend`] names come too.
    Under(Rc<str>),
}

impl Names {
    /// One resource.
    pub fn one(name: &str) -> Names {
        Names::These(vec![name.into()])
    }
}

/// The watches of one kind.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_id: BTreeMap<WatchId, Names>,
    /// What watches came to want.
    extended: BTreeMap<WatchId, Vec<Rc<str>>>,
    by_name: HashMap<Rc<str>, Vec<WatchId>>,
    all: Vec<WatchId>,
    by_owner: HashMap<Rc<str>, Vec<WatchId>>,
}

impl Watches {
    /// Adds a watch. Returns the names that nobody wanted before.
    pub(crate) fn add(&mut self, id: WatchId, names: Names) -> Vec<Rc<str>> {
        let mut new = Vec::new();
        match &names {
            Names::All => self.all.push(id),
            Names::Under(owner) => self.by_owner.entry(owner.clone()).or_default().push(id),
            Names::These(names) => {
                for name in names {
                    let watches = self.by_name.entry(name.clone()).or_default();
                    if watches.is_empty() {
                        new.push(name.clone());
                    }
                    watches.push(id);
                }
            }
        }
        self.by_id.insert(id, names);
        new
    }

    /// Removes a watch. Returns what it wanted, and the names that nobody wants any more.
    pub(crate) fn remove(&mut self, id: WatchId) -> Option<(Names, Vec<Rc<str>>)> {
        let names = self.by_id.remove(&id)?;
        let mut wanted = self.extended.remove(&id).unwrap_or_default();
        match &names {
            Names::All => self.all.retain(|other| *other != id),
            Names::Under(owner) => {
                self.by_owner.entry(owner.clone()).or_default().retain(|other| *other != id);
                self.by_owner.retain(|_, watches| !watches.is_empty());
            }
            Names::These(names) => wanted.extend(names.iter().cloned()),
        }
        let mut gone = Vec::new();
        for name in wanted {
            let Some(watches) = self.by_name.get_mut(&name) else { continue };
            if let Some(at) = watches.iter().position(|other| *other == id) {
                watches.remove(at);
            }
            if watches.is_empty() {
                self.by_name.remove(&name);
                gone.push(name);
            }
        }
        Some((names, gone))
    }

    /// A watch wants another name.
    pub(crate) fn extend(&mut self, id: WatchId, name: Rc<str>) {
        if !self.by_id.contains_key(&id) {
            return;
        }
        let watches = self.by_name.entry(name.clone()).or_default();
        if !watches.contains(&id) {
            watches.push(id);
            self.extended.entry(id).or_default().push(name);
        }
    }

    /// A watch does not want a name any more that it came to want.
    pub(crate) fn forget(&mut self, id: WatchId, name: &str) {
        let Some(names) = self.extended.get_mut(&id) else { return };
        let Some(at) = names.iter().position(|wanted| **wanted == *name) else { return };
        names.remove(at);
        let Some(watches) = self.by_name.get_mut(name) else { return };
        watches.retain(|other| *other != id);
        if watches.is_empty() {
            self.by_name.remove(name);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All watches, in the order in which they were added.
    pub(crate) fn ids(&self) -> impl Iterator<Item = WatchId> {
        self.by_id.keys().copied()
    }

    /// Watches of everything.
    pub(crate) fn of_all(&self) -> &[WatchId] {
        &self.all
    }

    /// Watches of one name.
    pub(crate) fn of(&self, name: &str) -> &[WatchId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Watches of what is under a name.
    pub(crate) fn under(&self, owner: &str) -> &[WatchId] {
        self.by_owner.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Whether everything is wanted.
    pub(crate) fn has_wildcard(&self) -> bool {
        !self.all.is_empty() || !self.by_owner.is_empty()
    }

    /// All names that are wanted, each once, in the order of their watches.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut seen = hashbrown::HashSet::with_capacity(self.by_name.len());
        let mut names = Vec::with_capacity(self.by_name.len());
        for (id, wanted) in &self.by_id {
            let first = if let Names::These(wanted) = wanted { wanted.as_slice() } else { &[] };
            let wanted = first.iter().chain(self.extended.get(id).into_iter().flatten());
            names.extend(wanted.filter(|name| seen.insert((*name).clone())).map(|name| name.to_string()));
        }
        names
    }
}
