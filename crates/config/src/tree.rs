//! A configuration text as a tree that knows the place of every key and value. It knows nothing of fields and types.
//!
//! The tree is two vectors, nodes and their text, and costs 28 bytes a node besides its text; it lives as long as diagnostics
//! may have to be placed, and no longer. Depth and size are bounded while it is built, aliases counted with what they expand to,
//! so that whoever walks it needs no bounds of his own.

mod builder;
mod json_text;
mod proto_text;
mod yaml_scalar;
mod yaml_text;

#[cfg(test)]
mod tests;

use crate::diagnostics::{Diagnostics, Location};
use crate::source::{Format, Source};
use std::sync::Arc;

/// How deep mappings and sequences may be nested; protobuf's own limit.
pub const MAX_DEPTH: usize = 100;
/// How many nodes a tree may have, and how many after aliases are expanded.
pub const MAX_NODES: u64 = 4_000_000;

const NONE: u32 = u32::MAX;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    /// A YAML scalar whose meaning its spelling decides.
    Plain,
    /// A string.
    Quoted,
    /// A JSON number, `true`, `false` or `null`.
    Literal,
    Sequence,
    Mapping,
    /// `first` is the node that it stands for.
    Alias,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: NodeKind,
    line: u32,
    column: u32,
    /// A scalar: where its text starts. A container: its first child. An alias: its target.
    first: u32,
    /// A scalar: the length of its text. A container: how many children it has; a mapping's are keys and values in turn.
    count: u32,
    /// The next child of the same parent.
    next: u32,
}

/// A parsed text.
#[derive(Debug, Clone)]
pub struct Tree {
    source: Arc<str>,
    nodes: Vec<Node>,
    text: String,
    is_text: bool,
}

impl Tree {
    /// Reads `source`, which must be text. Findings go to `diagnostics`; without a tree there was an error.
    pub fn parse(source: &Source, diagnostics: &mut Diagnostics) -> Option<Tree> {
        let text = match source.text() {
            Ok(text) => text,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return None;
            }
        };
        let parsed = match source.format {
            Format::Json => json_text::parse(&source.name, text, diagnostics),
            Format::Text => proto_text::parse(&source.name, text, diagnostics),
            _ => yaml_text::parse(&source.name, text, diagnostics),
        };
        match parsed {
            Ok(tree) => Some(tree),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                None
            }
        }
    }

    /// The outermost node.
    pub fn root(&self) -> NodeRef<'_> {
        NodeRef { tree: self, id: 0 }
    }

    /// The name of the source.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Whether the source is protobuf's text format, in which keys may repeat and no type has a form of its own.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// What a scalar says, before a field's type gives it a meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'t> {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`; in YAML also `yes`, `no`, `on`, `off`, `y`, `n`.
    Bool(bool),
    /// A whole number in YAML.
    Int(i64),
    /// A number in JSON, as it is spelt.
    Number(&'t str),
    /// A string; in YAML also everything that is none of the others, `1.5` among it.
    Text(&'t str),
}

/// The shape of a node.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'t> {
    /// One value.
    Scalar(Scalar<'t>),
    /// A list.
    Sequence(Children<'t>),
    /// Keys and values.
    Mapping(Entries<'t>),
}

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
pub struct NodeRef<'t> {
    tree: &'t Tree,
    id: u32,
}

impl<'t> NodeRef<'t> {
    const MISSING: Node = Node { kind: NodeKind::Plain, line: 1, column: 1, first: 0, count: 0, next: NONE };

    fn node(self) -> Node {
        self.tree.nodes.get(self.id as usize).copied().unwrap_or(Self::MISSING)
    }

    /// The node, or the one that an alias stands for.
    fn target(self) -> Node {
        let node = self.node();
        match node.kind {
            NodeKind::Alias => NodeRef { tree: self.tree, id: node.first }.node(),
            _ => node,
        }
    }

    /// Where the node stands; for an alias, where the alias stands.
    pub fn location(self) -> Location {
        let node = self.node();
        Location { source: self.tree.source.clone(), line: node.line, column: node.column }
    }

    /// The text of a scalar as it is spelt, quotes and escapes resolved; nothing for a container.
    pub fn spelling(self) -> &'t str {
        let node = self.target();
        match node.kind {
            NodeKind::Plain | NodeKind::Quoted | NodeKind::Literal => {
                let start = node.first as usize;
                self.tree.text.get(start..start + node.count as usize).unwrap_or_default()
            }
            _ => "",
        }
    }

    /// What the node is.
    pub fn shape(self) -> Shape<'t> {
        let node = self.target();
        let children = Children { tree: self.tree, next: node.first, left: node.count };
        match node.kind {
            NodeKind::Sequence => Shape::Sequence(children),
            NodeKind::Mapping => Shape::Mapping(Entries(children)),
            NodeKind::Quoted => Shape::Scalar(Scalar::Text(self.spelling())),
            NodeKind::Plain => Shape::Scalar(yaml_scalar::resolve(self.spelling())),
            NodeKind::Literal | NodeKind::Alias => Shape::Scalar(json_text::literal(self.spelling())),
        }
    }

    /// Whether the node comes from protobuf's text format.
    pub fn is_text(self) -> bool {
        self.tree.is_text
    }

    /// Whether the node is null.
    pub fn is_null(self) -> bool {
        matches!(self.shape(), Shape::Scalar(Scalar::Null))
    }

    /// The keys and values of a mapping; none for anything else.
    pub fn entries(self) -> Entries<'t> {
        match self.shape() {
            Shape::Mapping(entries) => entries,
            _ => Entries(Children { tree: self.tree, next: NONE, left: 0 }),
        }
    }

    /// The key and the value under `key` in a mapping.
    pub fn get(self, key: &str) -> Option<(NodeRef<'t>, NodeRef<'t>)> {
        self.entries().find(|(name, _)| name.spelling() == key)
    }
}

/// The children of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Children<'t> {
    tree: &'t Tree,
    next: u32,
    left: u32,
}

impl Children<'_> {
    /// How many are left.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'t> Iterator for Children<'t> {
    type Item = NodeRef<'t>;

    fn next(&mut self) -> Option<NodeRef<'t>> {
        if self.left == 0 || self.next == NONE {
            return None;
        }
        let child = NodeRef { tree: self.tree, id: self.next };
        self.next = child.node().next;
        self.left -= 1;
        Some(child)
    }
}

/// The keys and values of a mapping, in the order of the text.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'t>(Children<'t>);

impl Entries<'_> {
    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'t> Iterator for Entries<'t> {
    type Item = (NodeRef<'t>, NodeRef<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }
}
