//! What protobuf's text format writes differently: map entries, and `Any` with its type URL in brackets.

use super::{Transcoder, Written, any, wire};
use crate::tree::{NodeRef, Shape};
use nuncio_api::schema::{FieldRef, MessageRef};

impl Transcoder<'_> {
    /// Writes the entries of a map, each a mapping of `key` and `value`.
    pub(super) fn text_map(
        &mut self,
        node: NodeRef<'_>,
        field: FieldRef,
        entry: MessageRef,
        out: &mut Vec<u8>,
    ) -> Written {
        let mut one = |transcoder: &mut Self, node: NodeRef<'_>| {
            let start = out.len();
            wire::put_tag(out, field.number(), wire::LENGTH);
            let written = wire::put_nested(out, |out| transcoder.message(node, entry, out));
            if written.is_err() {
                out.truncate(start);
            }
        };
        match node.shape() {
            Shape::Sequence(items) => items.for_each(|item| one(self, item)),
            _ => one(self, node),
        }
        Ok(())
    }

    /// Writes the fields of an `Any`: `[type.googleapis.com/…] { … }`, or the serialised message under its own two fields.
    pub(super) fn text_any(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        let expanded = node.entries().find(|(key, _)| key.spelling().starts_with('['));
        let Some((key, value)) = expanded else { return self.message(node, message, out) };
        let url = key.spelling().trim_matches(['[', ']']);
        let payload = self.type_named(key, url)?;
        any::put_type_url(out, payload);
        wire::put_tag(out, any::VALUE, wire::LENGTH);
        wire::put_nested(out, |out| self.message_value(value, payload, out))
    }
}
