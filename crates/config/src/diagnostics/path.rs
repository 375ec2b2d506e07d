//! The path of a field from the root message, and its text form.

use std::borrow::Cow;
use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A field by its proto name.
    Field(Cow<'static, str>),
    /// An element of a list, from 0.
    Index(usize),
    /// The value of a map under this key.
    Key(String),
}

/// A path such as `static_resources.listeners[2].filter_chains[0].filters[0].typed_config`.
///
/// An `Any` takes no step of its own: the fields of its payload follow it directly. A map key stands in brackets and quotes:
/// `filter_metadata["envoy.lb"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The root message.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads the text form. What can't be read as a path is taken as a field name.
    pub fn parse(text: &str) -> Self {
        let mut path = Self::root();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            rest = if let Some(quoted) = rest.strip_prefix("[\"") {
                let end = quoted.find("\"]").unwrap_or(quoted.len());
                path.push_key(&quoted[..end]);
                quoted.get(end + 2..).unwrap_or_default()
            } else if let Some(index) = rest.strip_prefix('[') {
                let end = index.find(']').unwrap_or(index.len());
                path.push_index(index[..end].parse().unwrap_or(usize::MAX));
                index.get(end + 1..).unwrap_or_default()
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len()).max(1);
                let end = if rest.is_char_boundary(end) { end } else { rest.len() };
                path.0.push(Segment::Field(Cow::Owned(rest[..end].to_owned())));
                &rest[end..]
            };
        }
        path
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes into a field.
    pub fn push_field(&mut self, name: &'static str) {
        self.0.push(Segment::Field(Cow::Borrowed(name)));
    }

    /// Goes into an element of a list.
    pub fn push_index(&mut self, index: usize) {
        self.0.push(Segment::Index(index));
    }

    /// Goes into a value of a map.
    pub fn push_key(&mut self, key: &str) {
        self.0.push(Segment::Key(key.to_owned()));
    }

    /// Goes back one step.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Goes back to where the path had `length` steps.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The path of a field below this one.
    pub fn field(&self, name: &'static str) -> Self {
        let mut path = self.clone();
        path.push_field(name);
        path
    }

    /// The path of a list element below this one.
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.push_index(index);
        path
    }

    /// The path of a map value below this one.
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.push_key(key);
        path
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if at == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[\"{key}\"]")?,
            }
        }
        Ok(())
    }
}
