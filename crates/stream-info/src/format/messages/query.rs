//! `PATH`, `QUERY_PARAM` and `QUERY_PARAMS`.

use super::super::data::cut;
use super::super::error::Refusal;
use super::before;
use crate::LogContext;
use nuncio_headers::Known;

/// Which path, and whether with its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) struct PathValue {
    with_query: bool,
    source: PathSource,
    max_length: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathSource {
    OriginalOrPath,
    Path,
    Original,
}

impl PathSource {
    fn of<'a>(self, cx: &LogContext<'a>) -> Option<&'a [u8]> {
        let headers = cx.request?;
        let original = || headers.get(Known::X_ENVOY_ORIGINAL_PATH);
        let path = || headers.get(Known::PATH);
        match self {
            PathSource::OriginalOrPath => original().or_else(path),
            PathSource::Path => path(),
            PathSource::Original => original(),
        }
    }
}

impl PathValue {
    /// Reads `WQ|NQ` and, after a colon, `ORIG_OR_PATH|PATH|ORIG`.
    pub(in crate::format) fn new(parameters: &str, max_length: Option<usize>) -> Result<PathValue, Refusal> {
        let mut words = parameters.split(':');
        let with_query = match words.next().unwrap_or("") {
            "" | "WQ" => true,
            "NQ" => false,
            other => return Err(Refusal::new(format!("{other:?} is none of WQ and NQ"))),
        };
        let source = match words.next().unwrap_or("") {
            "" | "ORIG_OR_PATH" => PathSource::OriginalOrPath,
            "PATH" => PathSource::Path,
            "ORIG" => PathSource::Original,
            other => return Err(Refusal::new(format!("{other:?} is none of ORIG_OR_PATH, PATH and ORIG"))),
        };
        Ok(PathValue { with_query, source, max_length })
    }

    pub(in crate::format) fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let Some(path) = self.source.of(cx) else { return false };
        let start = out.len();
        out.extend_from_slice(if self.with_query { path } else { before(path, b'?') });
        cut(out, start, self.max_length);
        true
    }
}

/// The query of the original path, or of the path.
fn query<'a>(cx: &LogContext<'a>) -> Option<&'a [u8]> {
    let path = PathSource::OriginalOrPath.of(cx)?;
    let question = path.iter().position(|byte| *byte == b'?')?;
    path.get(question + 1..)
}

/// A parameter of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) struct QueryParameter {
    pub(in crate::format) name: Box<str>,
    pub(in crate::format) max_length: Option<usize>,
}

impl QueryParameter {
    /// The first value, decoded; names are compared decoded, too.
    pub(in crate::format) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for pair in query(cx).unwrap_or(b"").split(|byte| *byte == b'&') {
            let name = before(pair, b'=');
            decode(name, out);
            let is_it = &out[start..] == self.name.as_bytes();
            out.truncate(start);
            if is_it && !pair.is_empty() {
                decode(pair.get(name.len() + 1..).unwrap_or(b""), out);
                cut(out, start, self.max_length);
                return true;
            }
        }
        false
    }
}

/// Appends text with its percent escapes decoded; what is no escape stays.
fn decode(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        match escape_at(text, at) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// The byte that `%XX` stands for.
fn escape_at(text: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = text.get(at..at + 3)? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// Appends the whole query. Decoding resolves escapes of visible ASCII only, and drops the percent sign of what is no
/// escape, as Envoy does.
pub(in crate::format) fn write_query(
    cx: &LogContext<'_>,
    decoded: bool,
    max_length: Option<usize>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(query) = query(cx) else { return false };
    let start = out.len();
    if decoded {
        decode_visible(query, out);
    } else {
        out.extend_from_slice(query);
    }
    cut(out, start, max_length);
    true
}

fn decode_visible(query: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(byte) = query.get(at).copied() {
        at += 1;
        if byte != b'%' || query.len() - at < 2 {
            out.push(byte);
            continue;
        }
        match escape_at(query, at - 1) {
            Some(visible @ 0x21..=0x7e) => {
                out.push(visible);
                at += 2;
            }
            Some(_) => out.push(b'%'),
            None => {}
        }
    }
}
