//! A tree to the wire bytes of a message, as protobuf's JSON mapping and Envoy's loader read it, driven by the schema table.
//!
//! Every key that can't be used is reported with its place, and the others are still written, so that one run finds everything
//! that is wrong. What validation must not complain about a second time is handed on in [`Transcoded::failed`].

mod any;
mod binary;
mod deprecated;
pub mod grouped;
mod number;
mod scalar;
mod structs;
mod text;
mod time;
mod unwrap;
pub mod wire;

pub use binary::binary;
pub use unwrap::unwrap_typed_structs;

#[cfg(test)]
mod tests;

use crate::diagnostics::{Diagnostic, Diagnostics, FieldPath, Location, did_you_mean, quoted};
use crate::extension_names;
use crate::tree::{NodeRef, Scalar, Shape, Tree};
use nuncio_api::schema::{FieldRef, Kind, MessageRef, WellKnown};
use std::collections::HashSet;

/// How deep messages may be nested on the wire; decoders stop at 100.
const MAX_WIRE_DEPTH: usize = 96;

/// What the transcoder lets pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Unknown fields and enum values are warnings, and left out.
    pub allow_unknown: bool,
}

/// What came of a tree.
#[derive(Debug, Default)]
pub struct Transcoded {
    /// The message, without the parts that were wrong.
    pub wire: Vec<u8>,
    /// What validation had better not complain about again.
    pub gaps: Gaps,
}

/// Where `wire` lacks what the text had.
#[derive(Debug, Default)]
pub struct Gaps {
    /// The paths of fields whose values were wrong, and were left out or replaced by nothing.
    pub failed: HashSet<String>,
    /// The paths of messages that hold an unknown key, which may have been meant for what now seems to be missing.
    pub incomplete: HashSet<String>,
    /// How many unknown keys there are.
    pub unknown: usize,
}

/// Writes `tree` as a message of type `root`.
pub fn transcode(tree: &Tree, root: MessageRef, options: Options, diagnostics: &mut Diagnostics) -> Transcoded {
    let mut transcoder = Transcoder::new(options, diagnostics);
    let mut wire = Vec::with_capacity(tree.len() * 8);
    // What is wrong with the root was reported as well.
    let _ = transcoder.message(tree.root(), root, &mut wire);
    Transcoded { wire, gaps: transcoder.gaps }
}

/// A value could not be used; the finding has been reported.
struct Reported;

type Written = Result<(), Reported>;

struct Transcoder<'d> {
    diagnostics: &'d mut Diagnostics,
    options: Options,
    path: FieldPath,
    depth: usize,
    gaps: Gaps,
}

/// A key that was read in the message at hand.
struct Seen<'t> {
    field: FieldRef,
    key: NodeRef<'t>,
    is_null: bool,
}

impl<'d> Transcoder<'d> {
    fn new(options: Options, diagnostics: &'d mut Diagnostics) -> Self {
        Self { diagnostics, options, path: FieldPath::root(), depth: 0, gaps: Gaps::default() }
    }

    fn report(&mut self, at: NodeRef<'_>, message: String) -> Reported {
        self.report_with(at, message, None)
    }

    fn report_with(&mut self, at: NodeRef<'_>, message: String, hint: Option<String>) -> Reported {
        self.push(Diagnostic { hint, ..Diagnostic::error(self.path.to_string(), message) }, at.location());
        self.gaps.failed.insert(self.path.to_string());
        Reported
    }

    fn warn(&mut self, at: NodeRef<'_>, message: String, hint: Option<String>) {
        self.push(Diagnostic { hint, ..Diagnostic::warning(self.path.to_string(), message) }, at.location());
    }

    fn push(&mut self, diagnostic: Diagnostic, location: Location) {
        self.diagnostics.push(diagnostic.at(Some(location)));
    }

    /// Reports what Envoy calls unknown: an error, or a warning where that is allowed.
    fn report_unknown(&mut self, at: NodeRef<'_>, message: String, hint: Option<String>) {
        self.gaps.unknown += 1;
        if self.options.allow_unknown {
            self.warn(at, format!("{message}; it is ignored"), hint);
        } else {
            self.report_with(at, message, hint);
        }
    }

    /// Writes the fields of a message, in its JSON form or as a mapping of its fields.
    fn message_value(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        if self.depth >= MAX_WIRE_DEPTH {
            return Err(self.report(node, format!("messages are nested deeper than {MAX_WIRE_DEPTH} levels")));
        }
        self.depth += 1;
        let written = match message.well_known() {
            None | Some(WellKnown::Empty | WellKnown::TypedStruct) => self.message(node, message, out),
            Some(WellKnown::Any) if node.is_text() => self.text_any(node, message, out),
            Some(_) if node.is_text() => self.message(node, message, out),
            Some(WellKnown::Any) => self.any(node, out),
            Some(WellKnown::Wrapper(_)) => self.wrapper(node, message, out),
            Some(WellKnown::Duration) => self.duration(node, message, out),
            Some(WellKnown::Timestamp) => self.timestamp(node, message, out),
            Some(WellKnown::FieldMask) => self.field_mask(node, message, out),
            Some(WellKnown::Struct) => self.structure(node, out),
            Some(WellKnown::Value) => self.value(node, out),
            Some(WellKnown::ListValue) => self.list_value(node, out),
        };
        self.depth -= 1;
        written
    }

    /// Writes a mapping of fields.
    fn message(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        self.message_except(node, message, None, out)
    }

    /// Writes a mapping of fields; the key `except` is not one.
    fn message_except(
        &mut self,
        node: NodeRef<'_>,
        message: MessageRef,
        except: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Written {
        let Shape::Mapping(entries) = node.shape() else {
            let hint = null_hint(node);
            return Err(self.report_with(
                node,
                format!("found {}, expected {}", found(node), mapping_of(message)),
                hint,
            ));
        };
        let mut seen: Vec<Seen<'_>> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if Some(key.spelling()) == except {
                continue;
            }
            let Some(field) = message.field_by_key(key.spelling()) else {
                self.unknown_field(key, message);
                continue;
            };
            let is_null = value.is_null() && field.message().and_then(MessageRef::well_known) != Some(WellKnown::Value);
            self.path.push_field(field.name());
            let clash = self.clashes(&seen, field, key, is_null, message);
            seen.push(Seen { field, key, is_null });
            if !is_null && !clash {
                self.deprecated(message, field, key);
                let earlier = if key.is_text() { seen.iter().filter(|it| it.field == field).count() - 1 } else { 0 };
                // What could not be written was reported, and is left out.
                let _ = self.field(value, field, earlier, out);
            }
            self.path.pop();
        }
        self.name_alone(node, message, &seen, out);
        Ok(())
    }

    /// Reports a field that is given twice under both of its names, or beside another of its oneof.
    fn clashes(
        &mut self,
        seen: &[Seen<'_>],
        field: FieldRef,
        key: NodeRef<'_>,
        is_null: bool,
        message: MessageRef,
    ) -> bool {
        let is_again = key.is_text() && !field.is_list() && !field.is_map();
        let same = |it: &&Seen<'_>| it.field == field && (is_again || it.key.spelling() != key.spelling());
        if let Some(earlier) = seen.iter().find(same) {
            let (name, at) = (quoted(earlier.key.spelling()), earlier.key.location());
            let message = format!("the field is given twice, first as {name} at {at}");
            self.report_with(key, message, Some("remove one of them".to_owned()));
            return true;
        }
        let Some(oneof) = field.oneof().filter(|_| !is_null) else { return false };
        let other = |it: &&Seen<'_>| !it.is_null && it.field != field && it.field.oneof() == Some(oneof);
        let Some(earlier) = seen.iter().find(other) else { return false };
        let group = message.oneof(oneof).map(|it| it.name()).unwrap_or_default();
        let text = format!(
            "`{}` can't be set beside `{}` at {}: only one field of `{group}` may be",
            field.name(),
            earlier.field.name(),
            earlier.key.location()
        );
        self.report_with(key, text, Some("remove one of them".to_owned()));
        true
    }

    fn unknown_field(&mut self, key: NodeRef<'_>, message: MessageRef) {
        let name = key.spelling();
        self.gaps.unknown += 1;
        let text = format!("unknown field {} of {}", quoted(name), message.short_name());
        let hint = hint_for_field(name, message);
        if !self.options.allow_unknown {
            self.gaps.incomplete.insert(self.path.to_string());
        }
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        let finding = match self.options.allow_unknown {
            true => Diagnostic::warning(path, format!("{text}; it is ignored")),
            false => Diagnostic::error(path, text),
        };
        self.push(Diagnostic { hint, ..finding }, key.location());
    }

    fn deprecated(&mut self, message: MessageRef, field: FieldRef, key: NodeRef<'_>) {
        if field.is_deprecated() {
            let hint = deprecated::hint(message, field).map(str::to_owned);
            self.warn(key, format!("the field `{}` is deprecated", field.name()), hint);
        }
    }

    /// Writes a field of any shape. The path ends in the field; `earlier` elements of its list have been written.
    fn field(&mut self, node: NodeRef<'_>, field: FieldRef, mut earlier: usize, out: &mut Vec<u8>) -> Written {
        if field.is_map() {
            return self.map(node, field, out);
        }
        if !field.is_list() {
            return self.element(node, field, !field.has_presence(), out);
        }
        if field.is_packed() {
            let start = out.len();
            wire::put_tag(out, field.number(), wire::LENGTH);
            let empty = wire::put_nested(out, |out| {
                let start = out.len();
                self.list(node, field, &mut earlier, out);
                out.len() == start
            });
            if empty {
                out.truncate(start);
            }
        } else {
            self.list(node, field, &mut earlier, out);
        }
        Ok(())
    }

    /// Writes the elements of a list. A single value stands for a list of one, and lists in a list are flattened, as
    /// protobuf's parser does.
    fn list(&mut self, node: NodeRef<'_>, field: FieldRef, index: &mut usize, out: &mut Vec<u8>) {
        let takes_lists =
            matches!(field.message().and_then(MessageRef::well_known), Some(WellKnown::ListValue | WellKnown::Value));
        match node.shape() {
            Shape::Sequence(items) if !(takes_lists && *index > 0) => {
                for item in items {
                    if matches!(item.shape(), Shape::Sequence(_)) && !takes_lists {
                        self.list(item, field, index, out);
                    } else {
                        self.path.push_index(*index);
                        let _ = self.list_element(item, field, out);
                        self.path.pop();
                        *index += 1;
                    }
                }
            }
            _ => {
                self.path.push_index(*index);
                let _ = self.list_element(node, field, out);
                self.path.pop();
                *index += 1;
            }
        }
    }

    /// Writes one element of a list; a null is an element with nothing in it.
    fn list_element(&mut self, node: NodeRef<'_>, field: FieldRef, out: &mut Vec<u8>) -> Written {
        let is_value = field.message().and_then(MessageRef::well_known) == Some(WellKnown::Value);
        if node.is_null() && !is_value {
            self.warn(node, "found nothing; an empty element is added".to_owned(), null_hint(node));
            scalar::put_default(field, out);
            return Ok(());
        }
        let written =
            if field.is_packed() { self.packed(node, field, out) } else { self.element(node, field, false, out) };
        if written.is_err() {
            // Keeps the indices of the elements behind it.
            scalar::put_default(field, out);
        }
        written
    }

    /// Writes one value with its tag; nothing if it is the default and `skip_default`, or if it is wrong.
    fn element(&mut self, node: NodeRef<'_>, field: FieldRef, skip_default: bool, out: &mut Vec<u8>) -> Written {
        let start = out.len();
        let written = match field.message() {
            Some(message) if field.kind() == Kind::Message => {
                wire::put_tag(out, field.number(), wire::LENGTH);
                wire::put_nested(out, |out| self.message_value(node, message, out))
            }
            _ => self.scalar(node, field, skip_default, out),
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn map(&mut self, node: NodeRef<'_>, field: FieldRef, out: &mut Vec<u8>) -> Written {
        if let Some(entry) = field.message().filter(|_| node.is_text()) {
            return self.text_map(node, field, entry, out);
        }
        let Some((key_field, value_field)) = field.map_entry() else { return Ok(()) };
        let Shape::Mapping(entries) = node.shape() else {
            return Err(self.report_with(node, format!("found {}, expected a mapping", found(node)), null_hint(node)));
        };
        for (key, value) in entries {
            self.path.push_key(key.spelling());
            let start = out.len();
            wire::put_tag(out, field.number(), wire::LENGTH);
            let written = wire::put_nested(out, |out| {
                self.map_key(key, key_field, out)?;
                let is_value = value_field.message().and_then(MessageRef::well_known) == Some(WellKnown::Value);
                if value.is_null() && !is_value {
                    return Ok(());
                }
                self.element(value, value_field, false, out)
            });
            if written.is_err() {
                out.truncate(start);
            }
            self.path.pop();
        }
        Ok(())
    }

    /// A `name` that says which extension is meant, without the `typed_config` that Envoy demands.
    fn name_alone(&mut self, node: NodeRef<'_>, message: MessageRef, seen: &[Seen<'_>], out: &mut Vec<u8>) {
        let Some(name) = seen.iter().find(|it| it.field.name() == "name" && !it.is_null) else { return };
        let Some(config) = message.field_by_name("typed_config") else { return };
        if config.message().and_then(MessageRef::well_known) != Some(WellKnown::Any) || config.is_list() {
            return;
        }
        let is_config = |it: &Seen<'_>| {
            !it.is_null && (it.field == config || (config.oneof().is_some() && it.field.oneof() == config.oneof()))
        };
        if seen.iter().any(is_config) {
            return;
        }
        let Some((_, value)) = node.get(name.key.spelling()) else { return };
        let Some(extension) = extension_names::find(message, value.spelling(), &self.path) else {
            let is_optional = seen.iter().any(|it| it.field.name() == "is_optional" && !it.is_null);
            if !is_optional {
                self.unknown_extension(value, message);
            }
            return;
        };
        let text = format!(
            "{} has no `typed_config`; an empty {} is taken",
            quoted(value.spelling()),
            extension.message.full_name()
        );
        let hint = format!("add `typed_config: {{\"@type\": type.googleapis.com/{}}}`", extension.message.full_name());
        self.warn(value, text, Some(hint));
        wire::put_tag(out, config.number(), wire::LENGTH);
        wire::put_nested(out, |out| any::put_type_url(out, extension.message));
    }
}

impl Transcoder<'_> {
    /// A name that leads to no extension, where nothing else says which one is meant.
    fn unknown_extension(&mut self, name: NodeRef<'_>, holder: MessageRef) {
        let Some(known) = extension_names::known(holder).filter(|_| !name.spelling().is_empty()) else { return };
        let text = format!("{} has no `typed_config`, and no extension of this name is known", quoted(name.spelling()));
        let hint = match did_you_mean(name.spelling(), known) {
            Some(close) => format!("did you mean {close}?"),
            None => "add a `typed_config` with an `@type`".to_owned(),
        };
        self.report_with(name, text, Some(hint));
    }
}

/// What a node is, for a message.
pub(crate) fn found(node: NodeRef<'_>) -> String {
    match node.shape() {
        Shape::Mapping(entries) if entries.is_empty() => "an empty mapping".to_owned(),
        Shape::Mapping(_) => "a mapping".to_owned(),
        Shape::Sequence(_) => "a list".to_owned(),
        Shape::Scalar(Scalar::Null) => "nothing".to_owned(),
        Shape::Scalar(Scalar::Bool(_)) => format!("the boolean {}", quoted(node.spelling())),
        Shape::Scalar(Scalar::Int(_) | Scalar::Number(_)) => format!("the number {}", quoted(node.spelling())),
        Shape::Scalar(Scalar::Text(text)) => format!("the string {}", quoted(text)),
    }
}

fn mapping_of(message: MessageRef) -> String {
    format!("a mapping of the fields of {}", message.short_name())
}

fn null_hint(node: NodeRef<'_>) -> Option<String> {
    node.is_null().then(|| "is the indentation of what follows right?".to_owned())
}

/// What a key that is no field of `message` may have meant.
fn hint_for_field(name: &str, message: MessageRef) -> Option<String> {
    if name == "<<" {
        return Some(
            "YAML merge keys are not supported; repeat the fields, or use an alias for a whole value".to_owned(),
        );
    }
    if name == "@type" {
        return Some(format!("only an Any has an `@type`; this is a {}", message.short_name()));
    }
    if let Some(hint) = hint_for_removed(name, message) {
        return Some(hint);
    }
    if let Some(close) = did_you_mean(name, message.fields().map(FieldRef::name)) {
        return Some(format!("did you mean `{close}`{}?", elsewhere(name, message)));
    }
    let mut known: Vec<&str> = message.fields().filter(|field| !field.is_deprecated()).map(FieldRef::name).collect();
    known.sort_unstable();
    match known.len() {
        0 => Some(format!("{} has no fields", message.short_name())),
        1..=12 => Some(format!("{} has the fields {}", message.short_name(), known.join(", "))),
        _ => None,
    }
}

/// The other place where the key of a top-level list may have belonged.
fn elsewhere(name: &str, message: MessageRef) -> &'static str {
    match name {
        "clusters" if message.short_name() != "StaticResources" => ", or a cluster under `static_resources.clusters`",
        "listeners" if message.short_name() != "StaticResources" => {
            ", or a listener under `static_resources.listeners`"
        }
        _ => "",
    }
}

/// Fields of Envoy's earlier API that configurations still carry.
fn hint_for_removed(name: &str, message: MessageRef) -> Option<String> {
    let has = |field: &str| message.field_by_name(field).is_some();
    let hint = match name {
        "config" if has("typed_config") => "use `typed_config` with an `@type`",
        "hosts" if has("load_assignment") => "use `load_assignment` with `endpoints`",
        "tls_context" if has("transport_socket") => {
            "use `transport_socket` with a `typed_config` of type Up- or DownstreamTlsContext"
        }
        "use_original_dst" if message.short_name() == "FilterChain" => "`use_original_dst` is a field of the listener",
        "http_filters" | "route_config" if message.short_name() == "FilterChain" => {
            "these belong to the typed_config of an envoy.filters.network.http_connection_manager in `filters`"
        }
        "runtime" if has("layered_runtime") => "use `layered_runtime`",
        _ => return None,
    };
    Some(hint.to_owned())
}
