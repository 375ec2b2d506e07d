//! Whether bytes are a serialised message, before they are taken for one.

use super::{MAX_WIRE_DEPTH, wire};
use nuncio_api::schema::{Kind, MessageRef};

/// Refuses bytes that can't be decoded as `message`, and says which field they fail in. Returns how many fields are not known.
pub fn binary(bytes: &[u8], message: MessageRef) -> Result<usize, String> {
    let mut unknown = 0;
    let checked = check(bytes, message, 0, &mut unknown);
    checked.map(|()| unknown).map_err(|path| match path.as_str() {
        "" => format!("is not a serialised {}", message.full_name()),
        path => format!("is not a serialised {}: {path} can't be read", message.full_name()),
    })
}

fn check(bytes: &[u8], message: MessageRef, depth: usize, unknown: &mut usize) -> Result<(), String> {
    if depth > MAX_WIRE_DEPTH {
        return Err(String::new());
    }
    for field in wire::fields(bytes) {
        let (number, value) = field.map_err(|_| String::new())?;
        let Some(field) = message.field(number) else {
            *unknown += 1;
            continue;
        };
        let path = |inner: String| {
            if inner.is_empty() { field.name().to_owned() } else { format!("{}.{inner}", field.name()) }
        };
        let right_type = match field.kind() {
            Kind::Message | Kind::String | Kind::Bytes => matches!(value, wire::WireValue::Bytes(_)),
            _ => field.is_list() || !matches!(value, wire::WireValue::Bytes(_)),
        };
        if !right_type || (field.kind() == Kind::String && std::str::from_utf8(value.bytes()).is_err()) {
            return Err(path(String::new()));
        }
        if let Some(inner) = field.message() {
            check(value.bytes(), inner, depth + 1, unknown).map_err(path)?;
        }
    }
    Ok(())
}
