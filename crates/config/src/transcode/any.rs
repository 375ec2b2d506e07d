//! `Any`: a message of the type that `@type` names. A `TypedStruct` inside is replaced by the message that it stands for.

use super::{Transcoder, Written, found, null_hint, wire};
use crate::diagnostics::{did_you_mean, quoted};
use crate::tree::{NodeRef, Shape};
use nuncio_api::schema::{MessageRef, Schema, WellKnown};

const PREFIX: &str = "type.googleapis.com/";
pub(super) const TYPE_URL: u32 = 1;
pub(super) const VALUE: u32 = 2;

/// Writes the type URL of an `Any` that holds a `message`.
pub(super) fn put_type_url(out: &mut Vec<u8>, message: MessageRef) {
    wire::put_bytes(out, TYPE_URL, format!("{PREFIX}{}", message.full_name()).as_bytes());
}

impl Transcoder<'_> {
    /// Writes the fields of an `Any`.
    pub(super) fn any(&mut self, node: NodeRef<'_>, out: &mut Vec<u8>) -> Written {
        let Shape::Mapping(entries) = node.shape() else {
            let text = format!("found {}, expected a mapping with an `@type`", found(node));
            return Err(self.report_with(node, text, null_hint(node)));
        };
        if entries.is_empty() {
            return Ok(());
        }
        let Some((_, type_node)) = node.get("@type") else {
            let hint = format!("add `\"@type\": {PREFIX}…`, the type of the fields that follow");
            return Err(self.report_with(node, "the `@type` is missing".to_owned(), Some(hint)));
        };
        let message = self.type_of_url(type_node)?;
        match message.well_known() {
            Some(WellKnown::TypedStruct) => self.typed_struct(node, out),
            None | Some(WellKnown::Empty) => {
                put_type_url(out, message);
                wire::put_tag(out, VALUE, wire::LENGTH);
                wire::put_nested(out, |out| self.message_except(node, message, Some("@type"), out))
            }
            Some(_) => self.well_known_in_any(node, message, out),
        }
    }

    fn type_of_url(&mut self, node: NodeRef<'_>) -> Result<MessageRef, super::Reported> {
        let url = self.string(node)?;
        self.type_named(node, &url)
    }

    /// The message type that a URL names. The host before the slash may be any, as in Envoy.
    pub(super) fn type_named(&mut self, node: NodeRef<'_>, url: &str) -> Result<MessageRef, super::Reported> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let known = Schema::message(name);
        match known {
            Some(message) if url.len() > name.len() + 1 => Ok(message),
            Some(_) => {
                let hint = format!("write {PREFIX}{name}");
                Err(self.report_with(node, format!("{} is not a type URL", quoted(url)), Some(hint)))
            }
            None => {
                let hint = close_message(name).map(|close| format!("did you mean {PREFIX}{close}?"));
                Err(self.report_with(node, format!("unknown type {}", quoted(url)), hint))
            }
        }
    }

    /// `{"@type": …TypedStruct, type_url: T, value: {…}}` becomes an `Any` that holds a T.
    fn typed_struct(&mut self, node: NodeRef<'_>, out: &mut Vec<u8>) -> Written {
        let find = |name: &str, json: &str| node.get(name).or_else(|| node.get(json));
        for (key, _) in node.entries() {
            if !matches!(key.spelling(), "@type" | "type_url" | "typeUrl" | "value") {
                let text = format!("unknown field {} of TypedStruct", quoted(key.spelling()));
                self.report_unknown(key, text, Some("TypedStruct has the fields type_url, value".to_owned()));
            }
        }
        let Some((_, url)) = find("type_url", "typeUrl").filter(|(_, url)| !url.is_null()) else {
            let hint = Some(format!("add `type_url: {PREFIX}…`"));
            return Err(self.report_with(node, "the `type_url` of the TypedStruct is missing".to_owned(), hint));
        };
        let message = self.type_of_url(url)?;
        let value = node.get("value").map(|(_, value)| value).filter(|value| !value.is_null());
        match (message.well_known(), value) {
            (Some(WellKnown::TypedStruct), Some(value)) => self.typed_struct(value, out),
            (_, value) => {
                put_type_url(out, message);
                let Some(value) = value else { return Ok(()) };
                wire::put_tag(out, VALUE, wire::LENGTH);
                wire::put_nested(out, |out| self.message_value(value, message, out))
            }
        }
    }

    /// A well-known type has its JSON form under `value`.
    fn well_known_in_any(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        for (key, _) in node.entries() {
            if !matches!(key.spelling(), "@type" | "value") {
                let text =
                    format!("unknown field {} beside the `@type` {}", quoted(key.spelling()), message.short_name());
                self.report_unknown(key, text, Some("the value of this type stands under `value`".to_owned()));
            }
        }
        put_type_url(out, message);
        let Some((_, value)) = node.get("value") else { return Ok(()) };
        self.path.push_field("value");
        wire::put_tag(out, VALUE, wire::LENGTH);
        let written = wire::put_nested(out, |out| match message.well_known() {
            Some(WellKnown::Value) => self.value(value, out),
            _ if value.is_null() => Ok(()),
            _ => self.message_value(value, message, out),
        });
        self.path.pop();
        written
    }
}

/// The full name of the message that `name` may have meant: of the same last part, or spelt alike.
fn close_message(name: &str) -> Option<&'static str> {
    let short = name.rsplit('.').next().unwrap_or_default();
    let usable = || Schema::messages().filter(|message| !message.is_map_entry());
    let same_short = || usable().filter(|message| message.short_name() == short).map(MessageRef::full_name);
    let shared =
        |candidate: &&'static str| candidate.split('.').filter(|part| name.split('.').any(|own| own == *part)).count();
    if let Some(close) = same_short().max_by_key(shared) {
        return Some(close);
    }
    let names = || usable().map(MessageRef::full_name);
    let by_name = did_you_mean(name, names());
    by_name.or_else(|| {
        let close = did_you_mean(short, usable().map(MessageRef::short_name))?;
        usable().find(|message| message.short_name() == close).map(MessageRef::full_name)
    })
}
