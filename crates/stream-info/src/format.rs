//! The format language of access logs, header values and local reply bodies: compiled once, written per request.
//!
//! Owns: the grammar (`%COMMAND(parameters):length%`), all operators, the JSON templates, and errors with columns.
//! Does not own: where the output goes, or where configuration comes from.
//!
//! The grammar and every operator's syntax were compared with Envoy 1.40; see `format/tests.rs`.

mod coalesce;
mod data;
mod error;
mod hint;
mod json;
mod json_input;
mod messages;
mod op;
mod operators;
mod parse;
mod texts;
mod tls;

pub use error::FormatError;
pub(crate) use messages::grpc_status;
pub use operators::{Operator, operators, wants_route_times};
pub use texts::uuid;

use crate::time::TimeZone;
use crate::{LogContext, Struct};
use op::Op;
use std::sync::Arc;

/// The format of HTTP and TCP access logs that have none of their own.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
     %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
     %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
     \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// The TCP proxy's default format: the same, as in Envoy.
pub const DEFAULT_TCP_FORMAT: &str = DEFAULT_FORMAT;

/// What a format is compiled with.
#[derive(Clone)]
pub struct FormatOptions<'a> {
    /// `omit_empty_values`: unset text is left out instead of `-`, unset JSON fields instead of `null`. Header values
    /// are always compiled so.
    pub omit_empty_values: bool,
    /// The format is a header value: the old JSON form of `%UPSTREAM_METADATA(["a","b"])%` is refused.
    pub header_value: bool,
    /// `formatters` lists `envoy.formatter.req_without_query`.
    pub req_without_query: bool,
    /// For `%HOSTNAME%`.
    pub hostname: Option<Arc<str>>,
    /// For `%ENVIRONMENT(X)%`, looked up when compiling.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// For `%START_TIME_LOCAL%` and `%EMIT_TIME_LOCAL%`.
    pub time_zone: Arc<TimeZone>,
    /// For `%CEL(x)%` and `%TYPED_CEL(x)%`: compiles an expression, or says what is wrong with it.
    pub expression: &'a CompileExpression,
}

/// Compiles an expression of a format.
pub type CompileExpression = dyn Fn(&str) -> Result<Arc<dyn Expression>, String>;

/// An expression in a format. Its language is not this crate's business.
pub trait Expression: Send + Sync + std::fmt::Debug {
    /// Appends its value as text. False, with nothing appended, if it has none.
    fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool;
    /// Appends its value as JSON. False, with nothing appended, if it has none.
    fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool;
}

impl Default for FormatOptions<'_> {
    fn default() -> Self {
        FormatOptions {
            omit_empty_values: false,
            header_value: false,
            req_without_query: false,
            hostname: None,
            environment: &|_| None,
            time_zone: Arc::default(),
            expression: &|_| Err("expressions are not evaluated here".to_owned()),
        }
    }
}

impl FormatOptions<'_> {
    /// Options for header values: unset is empty.
    pub fn for_header_value() -> Self {
        FormatOptions { omit_empty_values: true, header_value: true, ..FormatOptions::default() }
    }
}

/// A compiled format.
#[derive(Debug)]
pub struct Format(Compiled);

#[derive(Debug)]
enum Compiled {
    Text(Template),
    Json(json::JsonTemplate),
}

/// Text with values in it.
#[derive(Debug)]
struct Template {
    pieces: Vec<Piece>,
    /// What stands after the last value.
    tail: Box<str>,
    /// Whether an unset value is left out instead of written as `-`.
    omit_unset: bool,
}

/// A value and the constant before it.
#[derive(Debug)]
struct Piece {
    before: ShortText,
    op: Op,
}

/// Up to 15 bytes of text: copying a fixed number of bytes needs no call. Longer constants are values.
#[derive(Debug, Clone, Copy, Default)]
struct ShortText {
    bytes: [u8; 15],
    len: u8,
}

impl ShortText {
    fn new(text: &str) -> Option<ShortText> {
        let mut bytes = [0; 15];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(ShortText { bytes, len: text.len() as u8 })
    }

    #[inline(always)]
    fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

impl Template {
    fn new(format: &str, options: &FormatOptions<'_>) -> Result<Template, FormatError> {
        let mut pieces = Vec::new();
        let tail = parse::parse(format, options, |before, op| {
            let short = ShortText::new(before);
            if short.is_none() {
                pieces.push(Piece { before: ShortText::default(), op: Op::Constant(Some(before.into())) });
            }
            pieces.push(Piece { before: short.unwrap_or_default(), op });
        })?;
        Ok(Template { pieces, tail, omit_unset: options.omit_empty_values })
    }

    #[inline]
    fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            piece.before.write(out);
            self.write_value(&piece.op, cx, out);
        }
        out.extend_from_slice(self.tail.as_bytes());
    }

    #[inline(always)]
    fn write_value(&self, op: &Op, cx: &LogContext<'_>, out: &mut Vec<u8>) {
        if !op.write(cx, out) && !self.omit_unset {
            out.push(b'-');
        }
    }

    /// The text, if there is no value in it.
    fn constant(&self) -> Option<&str> {
        self.pieces.is_empty().then_some(&*self.tail)
    }

    /// The value, if there is no text around it.
    fn single_value(&self) -> Option<&Op> {
        match self.pieces.as_slice() {
            [Piece { before, op }] if before.len == 0 && self.tail.is_empty() => Some(op),
            _ => None,
        }
    }
}

impl Format {
    /// Compiles a text format (`text_format`, `text_format_source`, a header value). Ends with a newline only if the
    /// text does.
    pub fn text(format: &str, options: &FormatOptions<'_>) -> Result<Format, FormatError> {
        Ok(Format(Compiled::Text(Template::new(format, options)?)))
    }

    /// Compiles a `json_format`. Fields are written in the order of their names, whatever `sort_properties` says, as
    /// Envoy does; the output is one line and ends with a newline.
    pub fn json(template: &Struct, options: &FormatOptions<'_>) -> Result<Format, FormatError> {
        Ok(Format(Compiled::Json(json::JsonTemplate::new(template, options)?)))
    }

    /// Appends the format's output for a stream.
    pub fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) {
        match &self.0 {
            Compiled::Text(template) => template.write(cx, out),
            Compiled::Json(template) => template.write(cx, out),
        }
    }

    /// The output, if it is the same for every stream.
    pub fn constant(&self) -> Option<&str> {
        match &self.0 {
            Compiled::Text(template) => template.constant(),
            Compiled::Json(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
