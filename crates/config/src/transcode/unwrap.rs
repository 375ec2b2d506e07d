//! `TypedStruct` in messages that arrive as wire bytes: from a control plane, or from a `.pb` file.

use super::wire::{self, WireValue};
use super::{MAX_WIRE_DEPTH, Options, any, transcode};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::json;
use crate::source::{Format, Source};
use crate::tree::Tree;
use nuncio_api::schema::{MessageRef, Schema, WellKnown};
use std::borrow::Cow;

/// `bytes`, a `message`, with every `TypedStruct` in an `Any` replaced by the message that it stands for. Without one nothing is
/// copied. What is wrong inside one is reported, without a place.
pub fn unwrap_typed_structs<'a>(
    bytes: &'a [u8],
    message: MessageRef,
    options: Options,
    diagnostics: &mut Diagnostics,
) -> Cow<'a, [u8]> {
    const MARK: &[u8] = b".TypedStruct";
    if !bytes.windows(MARK.len()).any(|window| window == MARK) {
        return Cow::Borrowed(bytes);
    }
    let mut unwrapper = Unwrapper { options, diagnostics, depth: 0 };
    let mut out = Vec::with_capacity(bytes.len());
    unwrapper.message(bytes, message, &mut out);
    Cow::Owned(out)
}

struct Unwrapper<'d> {
    options: Options,
    diagnostics: &'d mut Diagnostics,
    depth: usize,
}

impl Unwrapper<'_> {
    fn message(&mut self, bytes: &[u8], message: MessageRef, out: &mut Vec<u8>) {
        if self.depth >= MAX_WIRE_DEPTH {
            out.extend_from_slice(bytes);
            return;
        }
        self.depth += 1;
        match message.well_known() {
            Some(WellKnown::Any) => self.any(bytes, out),
            Some(_) => out.extend_from_slice(bytes),
            None => self.fields(bytes, message, out),
        }
        self.depth -= 1;
    }

    fn fields(&mut self, bytes: &[u8], message: MessageRef, out: &mut Vec<u8>) {
        for (number, value) in wire::fields(bytes).flatten() {
            let inner = message.field(number).and_then(|field| field.message());
            match (inner, value) {
                (Some(inner), WireValue::Bytes(bytes)) => {
                    wire::put_tag(out, number, wire::LENGTH);
                    wire::put_nested(out, |out| self.message(bytes, inner, out));
                }
                (None, WireValue::Bytes(bytes)) => wire::put_bytes(out, number, bytes),
                (_, WireValue::Varint(value)) => {
                    wire::put_tag(out, number, wire::VARINT);
                    wire::put_varint(out, value);
                }
                (_, WireValue::Fixed64(value)) => {
                    wire::put_tag(out, number, wire::FIXED64);
                    out.extend_from_slice(&value.to_le_bytes());
                }
                (_, WireValue::Fixed32(value)) => {
                    wire::put_tag(out, number, wire::FIXED32);
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    }

    fn any(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let (url, payload) = two(bytes);
        let name = std::str::from_utf8(url).unwrap_or_default();
        match Schema::message_of_url(name).map(|message| (message, message.well_known())) {
            Some((_, Some(WellKnown::TypedStruct))) => self.typed_struct(payload, bytes, out),
            Some((message, None)) => {
                wire::put_bytes(out, any::TYPE_URL, url);
                wire::put_tag(out, any::VALUE, wire::LENGTH);
                wire::put_nested(out, |out| self.message(payload, message, out));
            }
            _ => out.extend_from_slice(bytes),
        }
    }

    fn typed_struct(&mut self, payload: &[u8], original: &[u8], out: &mut Vec<u8>) {
        let (url, value) = two(payload);
        let url = String::from_utf8_lossy(url);
        let (Some(message), Some(structure)) =
            (Schema::message_of_url(&url), Schema::message("google.protobuf.Struct"))
        else {
            self.diagnostics.push(Diagnostic::error("", format!("unknown type `{url}` in a TypedStruct")));
            out.extend_from_slice(original);
            return;
        };
        let text = json::to_json(value, structure, json::JsonOptions { compact: true, ..Default::default() });
        let mut findings = Diagnostics::new();
        let tree = Tree::parse(&Source::new("TypedStruct", text, Format::Json), &mut findings);
        any::put_type_url(out, message);
        if let Some(tree) = tree {
            let part = transcode(&tree, message, self.options, &mut findings);
            wire::put_bytes(out, any::VALUE, &part.wire);
        }
        for finding in &findings {
            let path = format!("{}.{}", message.short_name(), finding.path);
            self.diagnostics.push(Diagnostic { location: None, path, ..finding.clone() });
        }
    }
}

/// The bytes of fields 1 and 2.
fn two(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut pair: (&[u8], &[u8]) = (b"", b"");
    for (number, value) in wire::fields(bytes).flatten() {
        match number {
            1 => pair.0 = value.bytes(),
            2 => pair.1 = value.bytes(),
            _ => {}
        }
    }
    pair
}
