//! Runtime values: the numbers and switches that `runtime_key` fields refer to.

use nuncio_matcher::RuntimeLookup;
use std::collections::BTreeMap;

/// A snapshot of the layered runtime. Later layers hide earlier ones; values are kept as the text given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    layers: Vec<(String, BTreeMap<String, String>)>,
}

impl RuntimeLookup for Runtime {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl Runtime {
    /// Layers in order of rising precedence, each with its name.
    pub fn new(layers: Vec<(String, BTreeMap<String, String>)>) -> Runtime {
        Runtime { layers }
    }

    /// The layers, as given.
    pub fn layers(&self) -> &[(String, BTreeMap<String, String>)] {
        &self.layers
    }

    /// Whether no layer has a value: lookups can be skipped.
    pub fn is_empty(&self) -> bool {
        self.layers.iter().all(|(_, values)| values.is_empty())
    }

    /// The effective text of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.layers.iter().rev().find_map(|(_, values)| values.get(key)).map(String::as_str)
    }

    /// The key as a whole number, or `default` if it is not set or is none.
    pub fn integer(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// The key as a number, or `default` if it is not set or is none.
    pub fn double(&self, key: &str, default: f64) -> f64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// The key as a switch, or `default` if it is not set or is neither `true` nor `false`.
    pub fn boolean(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some("true") => true,
            Some("false") => false,
            _ => default,
        }
    }

    /// A copy with `changes` in the layer `admin` (made last if missing); an empty value removes the key.
    pub fn with_admin(&self, changes: &[(String, String)]) -> Runtime {
        let mut next = self.clone();
        let at = match next.layers.iter().position(|(name, _)| name == "admin") {
            Some(at) => at,
            None => {
                next.layers.push(("admin".to_owned(), BTreeMap::new()));
                next.layers.len() - 1
            }
        };
        for (key, value) in changes {
            if value.is_empty() {
                next.layers[at].1.remove(key);
            } else {
                next.layers[at].1.insert(key.clone(), value.clone());
            }
        }
        next
    }
}
