//! Builds a tree from the events of a parser, and holds it to the bounds.

use super::{MAX_DEPTH, MAX_NODES, NONE, Node, NodeKind, Tree};
use crate::diagnostics::{Diagnostic, Diagnostics, Location, quoted};
use crate::source::MAX_BYTES;
use std::collections::HashMap;
use std::sync::Arc;

/// A finding that ends the reading.
pub(super) type Fatal = Box<Diagnostic>;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
}

/// What is known of a finished node that an alias may stand for.
#[derive(Debug, Clone, Copy)]
struct Anchored {
    node: u32,
    /// Nodes in it, aliases expanded.
    size: u64,
    /// Bytes of text in it, aliases expanded.
    bytes: u64,
    /// Levels of nesting in it, aliases expanded.
    height: usize,
}

#[derive(Debug)]
struct Open {
    node: u32,
    last: u32,
    children: u32,
    size: u64,
    bytes: u64,
    height: usize,
    anchor: usize,
    is_mapping: bool,
    /// In a mapping: a key was read, and its value comes next.
    at_value: bool,
    /// The value that comes next is left out, as its key was.
    ignoring: bool,
}

pub(super) struct Builder<'d> {
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    diagnostics: &'d mut Diagnostics,
    expanded: u64,
    expanded_bytes: u64,
}

impl<'d> Builder<'d> {
    pub fn new(source: &Arc<str>, length: usize, diagnostics: &'d mut Diagnostics) -> Self {
        let tree = Tree {
            source: source.clone(),
            nodes: Vec::with_capacity(length / 24),
            text: String::with_capacity(length / 2),
            is_text: false,
        };
        Self { tree, open: Vec::new(), anchors: HashMap::new(), diagnostics, expanded: 0, expanded_bytes: 0 }
    }

    /// The tree is of the text format, whose keys may repeat.
    pub fn text_format(mut self) -> Self {
        self.tree.is_text = true;
        self
    }

    pub fn error(&self, place: Place, message: impl Into<String>) -> Fatal {
        let location = Location { source: self.tree.source.clone(), line: place.line, column: place.column };
        Box::new(Diagnostic::error("", message).at(Some(location)))
    }

    /// Whether the next node is a key.
    pub fn expects_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_mapping && !open.at_value)
    }

    /// A scalar. `anchor` is the number that aliases will use, 0 for none.
    pub fn scalar(&mut self, kind: NodeKind, text: &str, place: Place, anchor: usize) -> Result<(), Fatal> {
        let first = self.tree.text.len() as u32;
        self.tree.text.push_str(text);
        let node = Node { kind, line: place.line, column: place.column, first, count: text.len() as u32, next: NONE };
        let id = self.add(node)?;
        let done = Anchored { node: id, size: 1, bytes: text.len() as u64, height: 0 };
        self.finish(done, anchor)
    }

    /// A key that is left out of the tree with its value (`!ignore`). Anchors on it and in its value stay.
    pub fn ignored_key(&mut self, text: &str, place: Place, anchor: usize) -> Result<(), Fatal> {
        if let Some(open) = self.open.last_mut() {
            open.at_value = true;
            open.ignoring = true;
        }
        if anchor != 0 {
            let first = self.tree.text.len() as u32;
            self.tree.text.push_str(text);
            let kind = NodeKind::Quoted;
            let node =
                Node { kind, line: place.line, column: place.column, first, count: text.len() as u32, next: NONE };
            let node = self.add(node)?;
            self.anchors.insert(anchor, Anchored { node, size: 1, bytes: text.len() as u64, height: 0 });
        }
        Ok(())
    }

    pub fn begin(&mut self, kind: NodeKind, place: Place, anchor: usize) -> Result<(), Fatal> {
        if self.expects_key() {
            return Err(self.error(place, "found a mapping or a sequence as a key, expected a string"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let node =
            self.add(Node { kind, line: place.line, column: place.column, first: NONE, count: 0, next: NONE })?;
        let is_mapping = kind == NodeKind::Mapping;
        let (at_value, ignoring) = (false, false);
        self.open.push(Open {
            node,
            last: NONE,
            children: 0,
            size: 1,
            bytes: 0,
            height: 1,
            anchor,
            is_mapping,
            at_value,
            ignoring,
        });
        Ok(())
    }

    pub fn end(&mut self) -> Result<(), Fatal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        if let Some(node) = self.tree.nodes.get_mut(open.node as usize) {
            node.count = open.children;
        }
        if open.is_mapping && !self.tree.is_text {
            self.report_duplicates(open.node);
        }
        self.finish(Anchored { node: open.node, size: open.size, bytes: open.bytes, height: open.height }, open.anchor)
    }

    pub fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fatal> {
        let Some(&target) = self.anchors.get(&anchor) else {
            return Err(self.error(place, "the alias stands inside the node that it refers to"));
        };
        if self.expects_key() && target.height > 0 {
            return Err(self.error(place, "found a mapping or a sequence as a key, expected a string"));
        }
        if self.open.len() + target.height > MAX_DEPTH {
            return Err(self.error(place, format!("the alias nests deeper than {MAX_DEPTH} levels")));
        }
        self.expanded += target.size;
        if self.expanded > MAX_NODES {
            return Err(self.error(place, format!("the aliases expand to more than {MAX_NODES} nodes")));
        }
        self.expanded_bytes = self.expanded_bytes.saturating_add(target.bytes);
        if self.expanded_bytes > MAX_BYTES {
            return Err(self.error(place, format!("the aliases expand to more than {MAX_BYTES} bytes of text")));
        }
        let node = Node {
            kind: NodeKind::Alias,
            line: place.line,
            column: place.column,
            first: target.node,
            count: 0,
            next: NONE,
        };
        let id = self.add(node)?;
        self.finish(Anchored { node: id, ..target }, 0)
    }

    pub fn build(self) -> Tree {
        self.tree
    }

    fn add(&mut self, node: Node) -> Result<u32, Fatal> {
        let id = self.tree.nodes.len();
        if id as u64 >= MAX_NODES {
            let place = Place { line: node.line, column: node.column };
            return Err(self.error(place, format!("the text holds more than {MAX_NODES} keys and values")));
        }
        self.tree.nodes.push(node);
        Ok(id as u32)
    }

    /// Puts a finished node into its parent, unless its key was to be ignored.
    fn finish(&mut self, done: Anchored, anchor: usize) -> Result<(), Fatal> {
        if anchor != 0 {
            let target = self.tree.nodes.get(done.node as usize).filter(|node| node.kind == NodeKind::Alias);
            let node = target.map_or(done.node, |alias| alias.first);
            self.anchors.insert(anchor, Anchored { node, ..done });
        }
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        open.at_value = !open.at_value;
        if !open.at_value && std::mem::take(&mut open.ignoring) {
            return Ok(());
        }
        open.size = open.size.saturating_add(done.size);
        open.bytes = open.bytes.saturating_add(done.bytes);
        open.height = open.height.max(done.height + 1);
        open.children += 1;
        let (parent, last) = (open.node, open.last);
        open.last = done.node;
        let link = if last == NONE { parent } else { last };
        if let Some(node) = self.tree.nodes.get_mut(link as usize) {
            *(if last == NONE { &mut node.first } else { &mut node.next }) = done.node;
        }
        Ok(())
    }

    fn report_duplicates(&mut self, mapping: u32) {
        let mut seen: HashMap<&str, u32> = HashMap::new();
        let tree = &self.tree;
        let node = super::NodeRef { tree, id: mapping };
        let few = node.entries().len() <= 8;
        let mut found = Vec::new();
        for (at, (key, _)) in node.entries().enumerate() {
            let name = key.spelling();
            let earlier = match few {
                true => node.entries().take(at).find(|(other, _)| other.spelling() == name).map(|(other, _)| other.id),
                false => seen.get(name).copied(),
            };
            match earlier {
                Some(id) => found.push((key, super::NodeRef { tree, id })),
                None if few => {}
                None => {
                    seen.insert(name, key.id);
                }
            }
        }
        let mut findings = Vec::new();
        for (key, earlier) in found {
            let message = format!("duplicate key {}, first given at {}", quoted(key.spelling()), earlier.location());
            let finding = Diagnostic::error("", message).at(Some(key.location()));
            findings.push(finding.hint("remove one of them: only the last would count"));
        }
        findings.into_iter().for_each(|finding| self.diagnostics.push(finding));
    }
}
