//! Header mutations of one level.
//!
//! Envoy's order within a level: remove; format every new value from the headers as they are then; overwrite; append. So
//! no value sees what another of the same level sets.

use crate::spec::AppendAction;
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::Side;
use nuncio_stream_info::{Format, LogContext};
use smallvec::SmallVec;

/// Compiled `…_headers_to_add` and `…_headers_to_remove`.
#[derive(Debug, Default)]
pub(crate) struct HeaderMutations {
    pub(crate) remove: Box<[HeaderName]>,
    pub(crate) add: Box<[HeaderAddition]>,
}

/// A compiled `HeaderValueOption`.
#[derive(Debug)]
pub(crate) struct HeaderAddition {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
    pub(crate) action: AppendAction,
    pub(crate) keep_empty_value: bool,
    /// Appending joins the values: see [`nuncio_matcher::is_inline`].
    pub(crate) joins: bool,
}

/// A value: text that never changes, or a format.
#[derive(Debug)]
pub(crate) enum HeaderValue {
    Literal(Box<[u8]>),
    Format(Box<Format>),
}

impl HeaderMutations {
    /// Changes `headers`, which stand for those of `side` in `cx`.
    pub(crate) fn apply(&self, side: Side, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        if self.add.is_empty() {
            return;
        }
        let mut text = Vec::new();
        let mut planned: SmallVec<[(&HeaderAddition, usize, usize); 8]> = SmallVec::new();
        {
            let cx = match side {
                Side::Request => LogContext { request: Some(headers), ..*cx },
                Side::Response => LogContext { response: Some(headers), ..*cx },
            };
            for addition in &self.add {
                let start = text.len();
                let empty = match &addition.value {
                    HeaderValue::Literal(literal) => literal.is_empty(),
                    HeaderValue::Format(format) => {
                        format.write(&cx, &mut text);
                        text.len() == start
                    }
                };
                let wanted = match addition.action {
                    AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
                    AppendAction::AddIfAbsent => headers.get_name(&addition.name).is_none(),
                    AppendAction::OverwriteIfExists => headers.get_name(&addition.name).is_some(),
                };
                if wanted && (!empty || addition.keep_empty_value) {
                    planned.push((addition, start, text.len()));
                }
            }
        }
        for overwrite in [true, false] {
            for (addition, start, end) in &planned {
                let overwrites =
                    matches!(addition.action, AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists);
                if overwrites != overwrite {
                    continue;
                }
                let value: &[u8] = match &addition.value {
                    HeaderValue::Literal(literal) => literal,
                    HeaderValue::Format(_) => text.get(*start..*end).unwrap_or_default(),
                };
                if overwrite {
                    replace(headers, addition, value);
                } else {
                    append(headers, addition, value);
                }
            }
        }
    }
}

/// Replaces all values: in place of an inline header, else at the end, where Envoy puts it.
fn replace(headers: &mut HeaderMap, addition: &HeaderAddition, value: &[u8]) {
    if !addition.joins {
        headers.remove(&addition.name);
    }
    headers.set(&addition.name, value);
}

/// Adds a value; to the last one, if values of this name are joined.
fn append(headers: &mut HeaderMap, addition: &HeaderAddition, value: &[u8]) {
    if !addition.joins {
        return headers.append(&addition.name, value);
    }
    let Some(before) = headers.joined(&addition.name) else { return headers.append(&addition.name, value) };
    let mut joined = before.into_owned();
    if !joined.is_empty() {
        joined.push(b',');
    }
    joined.extend_from_slice(value);
    headers.set(&addition.name, &joined);
}
