//! Metadata by namespace: what configuration attaches to routes, clusters, hosts and listeners, and what filters say
//! of a stream (Envoy's `core.v3.Metadata.filter_metadata`).

use crate::{Struct, Value};
use std::sync::Arc;

/// Structs by namespace, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    namespaces: Vec<(Arc<str>, Struct)>,
}

impl Metadata {
    /// No metadata; owns no memory.
    pub const fn new() -> Metadata {
        Metadata { namespaces: Vec::new() }
    }

    /// Whether there is no namespace.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Removes all namespaces.
    pub fn clear(&mut self) {
        self.namespaces.clear();
    }

    /// The struct of a namespace.
    pub fn namespace(&self, namespace: &str) -> Option<&Struct> {
        let at = self.find(namespace).ok()?;
        self.namespaces.get(at).map(|(_, fields)| fields)
    }

    /// The struct of a namespace, made if there is none.
    pub fn namespace_mut(&mut self, namespace: &str) -> &mut Struct {
        let at = match self.find(namespace) {
            Ok(at) => at,
            Err(at) => {
                self.namespaces.insert(at, (Arc::from(namespace), Struct::new()));
                at
            }
        };
        &mut self.namespaces[at].1
    }

    /// The value under a path of keys in a namespace.
    pub fn get<'a>(&'a self, namespace: &str, path: &[impl AsRef<str>]) -> Option<&'a Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.namespace(namespace)?.get(first.as_ref())?;
        for key in rest {
            let Value::Struct(fields) = value else { return None };
            value = fields.get(key.as_ref())?;
        }
        Some(value)
    }

    /// Merges fields into a namespace as protobuf merges a `Struct`: a field that exists is replaced.
    pub fn merge(&mut self, namespace: &str, fields: Struct) {
        let target = self.namespace_mut(namespace);
        for (key, value) in fields {
            target.set(key, value);
        }
    }

    /// Namespaces in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Struct)> {
        self.namespaces.iter().map(|(name, fields)| (&**name, fields))
    }

    fn find(&self, namespace: &str) -> Result<usize, usize> {
        self.namespaces.binary_search_by(|(name, _)| (**name).cmp(namespace))
    }
}
