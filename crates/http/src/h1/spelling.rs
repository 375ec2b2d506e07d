//! How header names are spelled on the wire.

use nuncio_headers::{HeaderMap, Known, KnownSet};

/// How header names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// `content-type`: Envoy's default.
    #[default]
    Lower,
    /// `Content-Type` (Envoy's `proper_case_words`).
    ProperCase,
    /// As received, where the map kept it; lower case for the rest (Envoy's `preserve_case`).
    Preserve,
}

impl Spelling {
    /// Appends a line, or its beginning, whose name this codec chose; given in lower case.
    #[inline]
    pub(super) fn push_own_line(self, out: &mut Vec<u8>, line: &[u8]) {
        match self {
            Spelling::Lower | Spelling::Preserve => out.extend_from_slice(line),
            Spelling::ProperCase => {
                let colon = memchr::memchr(b':', line).unwrap_or(line.len());
                let (name, rest) = line.split_at(colon);
                push_proper(out, name);
                out.extend_from_slice(rest);
            }
        }
    }

    /// `host`, spelled.
    pub(super) fn host(self, headers: &HeaderMap) -> &[u8] {
        match self {
            Spelling::Lower => b"host",
            Spelling::ProperCase => b"Host",
            Spelling::Preserve => {
                let at = headers.lines().position(|line| line.known == Some(Known::AUTHORITY));
                at.and_then(|at| headers.original_name(at)).unwrap_or(b"host")
            }
        }
    }
}

/// [`HeaderMap::write_lines`] with spelled names.
pub(super) fn write_lines_spelled(out: &mut Vec<u8>, headers: &HeaderMap, skip: KnownSet, spelling: Spelling) {
    for (index, line) in headers.lines().enumerate() {
        if line.known.is_some_and(|known| skip.contains(known)) {
            continue;
        }
        match spelling {
            Spelling::ProperCase => push_proper(out, line.name),
            Spelling::Preserve => out.extend_from_slice(headers.original_name(index).unwrap_or(line.name)),
            Spelling::Lower => out.extend_from_slice(line.name),
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(line.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The first letter, and every one behind something that is neither letter nor digit, in upper case.
fn push_proper(out: &mut Vec<u8>, name: &[u8]) {
    let mut starts = true;
    out.extend(name.iter().map(|byte| {
        let spelled = if starts { byte.to_ascii_uppercase() } else { *byte };
        starts = !byte.is_ascii_alphanumeric();
        spelled
    }));
}
