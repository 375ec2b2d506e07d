//! The dynamic resources in force, as they came, for `/config_dump`.

use nuncio_xds::{Resource, ResourceType};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

/// A resource as it is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HeldResource {
    /// What was accepted last.
    pub active: Option<Version>,
    /// What serves as long as that is being made ready.
    pub before: Option<Version>,
    /// What was refused last, and why.
    pub refused: Option<(Version, String)>,
}

/// One version of a resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version {
    pub resource: Rc<Resource>,
    /// When it came.
    pub at: SystemTime,
}

impl Version {
    fn new(resource: &Rc<Resource>) -> Version {
        Version { resource: Rc::clone(resource), at: SystemTime::now() }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Held {
    by_name: RefCell<BTreeMap<(ResourceType, String), HeldResource>>,
    /// Versions of the responses that changed something last.
    versions: RefCell<BTreeMap<ResourceType, String>>,
}

impl Held {
    fn change(&self, kind: ResourceType, name: &str, change: impl FnOnce(&mut HeldResource)) {
        let mut held = self.by_name.borrow_mut();
        change(held.entry((kind, name.to_owned())).or_default());
    }

    /// A resource was accepted.
    pub(crate) fn active(&self, kind: ResourceType, resource: &Rc<Resource>) {
        self.change(kind, &resource.name, |held| {
            *held = HeldResource { active: Some(Version::new(resource)), ..HeldResource::default() };
        });
    }

    /// The same for one that is being made ready. If the one before it was ready, that one serves until then.
    pub(crate) fn warming(&self, kind: ResourceType, resource: &Rc<Resource>, was_ready: bool) {
        self.change(kind, &resource.name, |held| {
            let before = if was_ready { held.active.take() } else { held.before.take() };
            *held = HeldResource { active: Some(Version::new(resource)), before, refused: None };
        });
    }

    /// A response of this version changed something.
    pub(crate) fn changed(&self, kind: ResourceType, version: &str) {
        self.versions.borrow_mut().insert(kind, version.to_owned());
    }

    /// The version of the response that changed something last.
    pub(crate) fn version(&self, kind: ResourceType) -> Option<String> {
        self.versions.borrow().get(&kind).cloned()
    }

    /// Forgets what was refused, as a new response comes.
    pub(crate) fn forget_refused(&self, kind: ResourceType) {
        self.by_name.borrow_mut().retain(|(of, _), held| {
            if *of == kind {
                held.refused = None;
            }
            held.active.is_some() || held.refused.is_some()
        });
    }

    /// A resource was refused.
    pub(crate) fn refused(&self, kind: ResourceType, resource: &Rc<Resource>, why: &str) {
        self.change(kind, &resource.name, |held| held.refused = Some((Version::new(resource), why.to_owned())));
    }

    /// A resource is gone.
    pub(crate) fn removed(&self, kind: ResourceType, name: &str) {
        self.by_name.borrow_mut().remove(&(kind, name.to_owned()));
    }

    /// The version that was accepted last.
    pub(crate) fn newest(&self, kind: ResourceType, name: &str) -> Option<Rc<Resource>> {
        let held = self.by_name.borrow();
        let held = held.get(&(kind, name.to_owned()))?;
        held.active.as_ref().map(|version| Rc::clone(&version.resource))
    }

    /// The names of a kind.
    pub(crate) fn names(&self, kind: ResourceType) -> Vec<String> {
        let held = self.by_name.borrow();
        held.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()).collect()
    }

    /// What is held of a kind.
    pub(crate) fn all(&self, kind: ResourceType) -> Vec<(String, HeldResource)> {
        let held = self.by_name.borrow();
        held.iter().filter(|((of, _), _)| *of == kind).map(|((_, name), held)| (name.clone(), held.clone())).collect()
    }
}
