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
    by_name: HashMap<Rc<str>, Vec<WatchId>>,
    all: Vec<WatchId>,
}

impl Watches {
    /// Adds a watch. Returns the names that nobody wanted before.
    pub(crate) fn add(&mut self, id: WatchId, names: Names) -> Vec<Rc<str>> {
        let mut new = Vec::new();
        match &names {
            Names::All => self.all.push(id),
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
        let mut gone = Vec::new();
        match &names {
            Names::All => self.all.retain(|other| *other != id),
            Names::These(names) => {
                for name in names {
                    let Some(watches) = self.by_name.get_mut(name) else { continue };
                    if let Some(at) = watches.iter().position(|other| *other == id) {
                        watches.remove(at);
                    }
                    if watches.is_empty() {
                        self.by_name.remove(name);
                        gone.push(name.clone());
                    }
                }
            }
        }
        Some((names, gone))
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

    /// All names that are wanted, each once, in the order of their watches.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut seen = hashbrown::HashSet::with_capacity(self.by_name.len());
        let mut names = Vec::with_capacity(self.by_name.len());
        for wanted in self.by_id.values() {
            if let Names::These(wanted) = wanted {
                names.extend(wanted.iter().filter(|name| seen.insert((*name).clone())).map(|name| name.to_string()));
            }
        }
        names
    }
}
