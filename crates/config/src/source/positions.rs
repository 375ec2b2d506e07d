//! From a field path back to the place in the text, for what only later passes can find.

use crate::diagnostics::{FieldPath, Location, Segment};
use crate::tree::{NodeRef, Shape, Tree};

/// The trees of the sources of one message, in the order in which they were merged.
///
/// Nothing is indexed: a look-up walks from the root. Drop it when nothing more can go wrong, for it holds the trees.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    trees: Vec<Tree>,
}

impl Positions {
    /// The positions in `trees`; later ones are merged into earlier ones.
    pub fn new(trees: Vec<Tree>) -> Self {
        Self { trees }
    }

    /// Where the field at `path` was given, or what of its path was. A field's place is that of its key, a list element's
    /// that of the element, a scalar's its own. Nothing if there is no text.
    pub fn locate(&self, path: &FieldPath) -> Option<Location> {
        let mut candidates: Vec<Place<'_>> =
            self.trees.iter().map(|tree| Place { node: payload(tree.root()), at: tree.root() }).collect();
        for segment in path.segments() {
            let next = step(&candidates, segment);
            if next.is_empty() {
                break;
            }
            candidates = next;
        }
        // The source that was merged last decides what the value is.
        let place = candidates.last()?;
        Some(if is_scalar(place.node) { place.node.location() } else { place.at.location() })
    }
}

/// A value, and the node that says best where it is.
#[derive(Clone, Copy)]
struct Place<'t> {
    node: NodeRef<'t>,
    at: NodeRef<'t>,
}

fn is_scalar(node: NodeRef<'_>) -> bool {
    matches!(node.shape(), Shape::Scalar(_)) && !node.is_null()
}

fn step<'t>(candidates: &[Place<'t>], segment: &Segment) -> Vec<Place<'t>> {
    match segment {
        Segment::Index(index) => element(candidates, *index).into_iter().collect(),
        Segment::Key(key) => candidates.iter().flat_map(|place| children(place.node, |name| name == key)).collect(),
        Segment::Field(field) => {
            let is_field = |name: &str| name == field.as_ref() || is_camel(name, field);
            candidates.iter().flat_map(|place| children(place.node, is_field)).collect()
        }
    }
}

/// The values under a key; in the text format a list may be a key that is given several times.
fn children<'t>(node: NodeRef<'t>, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Place<'t>> {
    let entries = node.entries().filter(move |(key, _)| is_wanted(key.spelling()));
    entries.map(|(key, value)| Place { node: payload(value), at: key })
}

/// The element of a list whose parts follow one another in the sources. A single value is a list of one.
fn element<'t>(candidates: &[Place<'t>], index: usize) -> Option<Place<'t>> {
    let mut left = index;
    for place in candidates {
        match place.node.shape() {
            Shape::Sequence(mut items) => {
                let count = items.len();
                match items.nth(left) {
                    Some(item) => return Some(Place { node: payload(item), at: item }),
                    None => left -= count,
                }
            }
            _ if left == 0 => return Some(*place),
            _ => left -= 1,
        }
    }
    None
}

/// The mapping that holds the fields: a `TypedStruct`'s stand under its `value`, those of an `Any` in the text format under its
/// type URL.
fn payload(node: NodeRef<'_>) -> NodeRef<'_> {
    if node.is_text() {
        let expanded = node.entries().find(|(key, _)| key.spelling().starts_with('['));
        return expanded.map_or(node, |(_, value)| value);
    }
    let mut node = node;
    let mut is_any = true;
    while let Some((_, url)) = node.get(if is_any { "@type" } else { "type_url" }) {
        if !url.spelling().ends_with("type.v3.TypedStruct") && !url.spelling().ends_with("type.v1.TypedStruct") {
            break;
        }
        let Some((_, value)) = node.get("value") else { break };
        (node, is_any) = (value, false);
    }
    node
}

fn is_camel(key: &str, field: &str) -> bool {
    let mut key = key.bytes();
    let mut upper = false;
    for byte in field.bytes() {
        if byte == b'_' {
            upper = true;
            continue;
        }
        if key.next() != Some(if upper { byte.to_ascii_uppercase() } else { byte }) {
            return false;
        }
        upper = false;
    }
    key.next().is_none()
}
