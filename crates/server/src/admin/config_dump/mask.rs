//! Field masks: which parts of a message are shown (`google.protobuf.FieldMask`).

use super::resources::Kind;
use nuncio_api::schema::{MessageRef, WellKnown};
use nuncio_config::transcode::wire::{self, WireValue, put_bytes, put_tag, put_varint};
use std::fmt;

/// Paths that are read; more are ignored.
const MAX_PATHS: usize = 100;

/// The paths of the fields to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mask {
    paths: Vec<String>,
}

/// A path does not fit the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaskError;

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paths.join(","))
    }
}

impl Mask {
    /// Reads paths with commas between.
    pub(super) fn parse(text: &str) -> Mask {
        let paths = text.split(',').filter(|path| !path.is_empty()).take(MAX_PATHS);
        Mask { paths: paths.map(str::to_owned).collect() }
    }

    /// Whether every path leads to a field of the message. Only the last part of a path may be a list.
    pub(super) fn check(&self, message: MessageRef) -> Result<(), MaskError> {
        self.paths.iter().try_for_each(|path| check_path(path, message))
    }

    /// As [`Mask::check`] for an item of a list of resources, where paths go on inside the resource.
    pub(super) fn check_resource(&self, item: MessageRef, kind: Kind) -> Result<(), MaskError> {
        let inner = kind.message().ok_or(MaskError)?;
        self.paths.iter().try_for_each(|path| match path.split_once('.') {
            Some((field, rest)) if is_any(item, field) => check_path(rest, inner),
            _ => check_path(path, item),
        })
    }

    /// Whether the field as a whole is kept.
    pub(super) fn has(&self, field: &str) -> bool {
        self.paths.iter().any(|path| path == field)
    }

    /// The message without the fields that no path leads to.
    pub(super) fn trim(&self, bytes: &[u8], message: MessageRef) -> Vec<u8> {
        let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        trim(bytes, message, &paths)
    }
}

fn is_any(message: MessageRef, field: &str) -> bool {
    let inner = message.field_by_name(field).and_then(|field| field.message());
    inner.is_some_and(|inner| inner.well_known() == Some(WellKnown::Any))
}

fn check_path(path: &str, message: MessageRef) -> Result<(), MaskError> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = message.field_by_name(name).ok_or(MaskError)?;
    match (rest, field.message()) {
        (None, _) => Ok(()),
        (Some(rest), Some(inner)) if !field.is_list() && !field.is_map() => check_path(rest, inner),
        (Some(_), _) => Err(MaskError),
    }
}

fn trim(bytes: &[u8], message: MessageRef, paths: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, value) in wire::fields(bytes).flatten() {
        let Some(field) = message.field(number) else { continue };
        if paths.contains(&field.name()) {
            put_field(&mut out, number, value);
            continue;
        }
        let below = paths.iter().filter_map(|path| path.strip_prefix(field.name())?.strip_prefix('.'));
        let below: Vec<&str> = below.collect();
        if let (false, Some(inner)) = (below.is_empty(), field.message()) {
            let trimmed = match inner.well_known() {
                Some(WellKnown::Any) => trim_any(value.bytes(), &below),
                _ => trim(value.bytes(), inner, &below),
            };
            put_bytes(&mut out, number, &trimmed);
        }
    }
    out
}

/// Trims what is in an `Any`; of a type that is not known everything is left out.
fn trim_any(bytes: &[u8], paths: &[&str]) -> Vec<u8> {
    let (mut url, mut payload): (&[u8], &[u8]) = (b"", b"");
    for (number, value) in wire::fields(bytes).flatten() {
        match number {
            1 => url = value.bytes(),
            2 => payload = value.bytes(),
            _ => {}
        }
    }
    let message = nuncio_api::schema::Schema::message_of_url(&String::from_utf8_lossy(url));
    let mut out = Vec::new();
    put_bytes(&mut out, 1, url);
    if let Some(message) = message {
        put_bytes(&mut out, 2, &trim(payload, message, paths));
    }
    out
}

/// Appends the fields whose number `keep` wants.
pub(super) fn copy_fields(out: &mut Vec<u8>, bytes: &[u8], keep: impl Fn(u32) -> bool) {
    for (number, value) in wire::fields(bytes).flatten() {
        if keep(number) {
            put_field(out, number, value);
        }
    }
}

fn put_field(out: &mut Vec<u8>, number: u32, value: WireValue<'_>) {
    match value {
        WireValue::Varint(value) => {
            put_tag(out, number, wire::VARINT);
            put_varint(out, value);
        }
        WireValue::Fixed64(value) => {
            put_tag(out, number, wire::FIXED64);
            out.extend_from_slice(&value.to_le_bytes());
        }
        WireValue::Fixed32(value) => {
            put_tag(out, number, wire::FIXED32);
            out.extend_from_slice(&value.to_le_bytes());
        }
        WireValue::Bytes(bytes) => put_bytes(out, number, bytes),
    }
}
