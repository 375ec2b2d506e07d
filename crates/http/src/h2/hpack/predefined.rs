//! The static table (RFC 7541 appendix A).

use super::Field;
use nuncio_headers::{Known, KnownSet};

/// How many fields the static table has; the dynamic one's indices follow.
pub(super) const COUNT: usize = FIELDS.len();

const fn field(known: Known, name: &'static str, value: &'static str) -> Field<'static> {
    Field { known: Some(known), name: name.as_bytes(), value: value.as_bytes() }
}

const fn name(known: Known, name: &'static str) -> Field<'static> {
    field(known, name, "")
}

const fn other(name: &'static str) -> Field<'static> {
    Field { known: None, name: name.as_bytes(), value: b"" }
}

static FIELDS: [Field<'static>; 61] = [
    name(Known::AUTHORITY, ":authority"),
    field(Known::METHOD, ":method", "GET"),
    field(Known::METHOD, ":method", "POST"),
    field(Known::PATH, ":path", "/"),
    field(Known::PATH, ":path", "/index.html"),
    field(Known::SCHEME, ":scheme", "http"),
    field(Known::SCHEME, ":scheme", "https"),
    field(Known::STATUS, ":status", "200"),
    field(Known::STATUS, ":status", "204"),
    field(Known::STATUS, ":status", "206"),
    field(Known::STATUS, ":status", "304"),
    field(Known::STATUS, ":status", "400"),
    field(Known::STATUS, ":status", "404"),
    field(Known::STATUS, ":status", "500"),
    other("accept-charset"),
    field(Known::ACCEPT_ENCODING, "accept-encoding", "gzip, deflate"),
    name(Known::ACCEPT_LANGUAGE, "accept-language"),
    other("accept-ranges"),
    name(Known::ACCEPT, "accept"),
    name(Known::ACCESS_CONTROL_ALLOW_ORIGIN, "access-control-allow-origin"),
    name(Known::AGE, "age"),
    other("allow"),
    name(Known::AUTHORIZATION, "authorization"),
    name(Known::CACHE_CONTROL, "cache-control"),
    other("content-disposition"),
    name(Known::CONTENT_ENCODING, "content-encoding"),
    other("content-language"),
    name(Known::CONTENT_LENGTH, "content-length"),
    other("content-location"),
    other("content-range"),
    name(Known::CONTENT_TYPE, "content-type"),
    name(Known::COOKIE, "cookie"),
    name(Known::DATE, "date"),
    name(Known::ETAG, "etag"),
    name(Known::EXPECT, "expect"),
    other("expires"),
    other("from"),
    name(Known::HOST, "host"),
    other("if-match"),
    name(Known::IF_MODIFIED_SINCE, "if-modified-since"),
    name(Known::IF_NONE_MATCH, "if-none-match"),
    other("if-range"),
    other("if-unmodified-since"),
    name(Known::LAST_MODIFIED, "last-modified"),
    other("link"),
    name(Known::LOCATION, "location"),
    other("max-forwards"),
    name(Known::PROXY_AUTHENTICATE, "proxy-authenticate"),
    other("proxy-authorization"),
    name(Known::RANGE, "range"),
    name(Known::REFERER, "referer"),
    other("refresh"),
    name(Known::RETRY_AFTER, "retry-after"),
    name(Known::SERVER, "server"),
    name(Known::SET_COOKIE, "set-cookie"),
    other("strict-transport-security"),
    name(Known::TRANSFER_ENCODING, "transfer-encoding"),
    name(Known::USER_AGENT, "user-agent"),
    name(Known::VARY, "vary"),
    name(Known::VIA, "via"),
    other("www-authenticate"),
];

/// Names that the table has with several values.
const WITH_VALUES: KnownSet = KnownSet::of(&[Known::METHOD, Known::PATH, Known::SCHEME, Known::STATUS]);

/// By [`Known::index`]: the first index of the name, or 0.
static INDEX_OF: [u8; 128] = {
    let mut first = [0; 128];
    let mut at = FIELDS.len();
    while at > 0 {
        if let Some(known) = FIELDS[at - 1].known {
            first[known.index()] = at as u8;
        }
        at -= 1;
    }
    first
};

/// The field of an index, which counts from 1.
#[inline]
pub(super) fn get(index: usize) -> Option<Field<'static>> {
    FIELDS.get(index.wrapping_sub(1)).copied()
}

/// The first index of a name.
#[inline]
pub(super) fn index_of_name(known: Option<Known>, name: &[u8]) -> Option<usize> {
    let index = match known {
        Some(known) => INDEX_OF.get(known.index()).copied().unwrap_or(0),
        None => index_of_other(name),
    };
    (index != 0).then_some(usize::from(index))
}

/// The index of a name that has no id, or 0.
fn index_of_other(name: &[u8]) -> u8 {
    match name {
        b"accept-charset" => 15,
        b"accept-ranges" => 18,
        b"allow" => 22,
        b"content-disposition" => 25,
        b"content-language" => 27,
        b"content-location" => 29,
        b"content-range" => 30,
        b"expires" => 36,
        b"from" => 37,
        b"if-match" => 39,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"link" => 45,
        b"max-forwards" => 47,
        b"proxy-authorization" => 49,
        b"refresh" => 52,
        b"strict-transport-security" => 56,
        b"www-authenticate" => 61,
        _ => 0,
    }
}

/// The index of a field with this value, whose name has its first field at `first`.
#[inline]
pub(super) fn index_of_field(first: usize, known: Option<Known>, value: &[u8]) -> Option<usize> {
    if !known.is_some_and(|known| WITH_VALUES.contains(known)) {
        return get(first).is_some_and(|field| field.value == value).then_some(first);
    }
    (first..=COUNT)
        .map_while(|index| Some((index, get(index).filter(|field| field.known == known)?)))
        .find_map(|(index, field)| (field.value == value).then_some(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_have_their_ids() {
        for index in 1..=COUNT {
            let field = get(index).unwrap();
            assert_eq!(field.known, Known::from_lower(field.name), "{index}");
            let first = index_of_name(field.known, field.name).unwrap();
            assert_eq!(get(first).unwrap().name, field.name);
            assert!(first == 1 || get(first - 1).unwrap().name != field.name);
            assert_eq!(index_of_field(first, field.known, field.value), Some(index));
            assert_eq!(index_of_field(first, field.known, b"other"), None);
        }
        assert_eq!((get(0), get(62)), (None, None));
        assert_eq!(index_of_name(Some(Known::X_REQUEST_ID), b"x-request-id"), None);
        assert_eq!(index_of_name(None, b"x-other"), None);
    }
}
