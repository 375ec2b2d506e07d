//! HTTP/1.0 and HTTP/1.1 (RFC 9112): heads, bodies and trailers from bytes, and back.
//!
//! Strict on input: what two readers could understand differently is refused, because a proxy that forwards it lets a
//! request be smuggled past whoever reads it the other way. Where this codec is stricter than Envoy the rule says so.
//! *Invariant*: no function reads past the slice it is given, keeps a reference to it, or allocates per message.

mod body;
mod chunk;
mod connection;
mod error;
mod fields;
mod framing;
mod options;
mod request;
mod response;
mod scan;
mod spelling;
mod target;
mod write;

pub use body::{BodyDecoder, BodyEvent, TrailerOptions};
pub use connection::is_protected;
pub use error::{CodecError, CodecErrorKind, CodecStat};
pub(crate) use fields::parse_length;
pub use framing::{request_framing, response_framing};
pub use options::{IgnoreUpgrade, RequestOptions, ResponseOptions, Underscores};
pub(crate) use request::JOINED as JOINED_REQUEST;
pub use request::{RequestHead, parse_request};
pub(crate) use response::JOINED as JOINED_RESPONSE;
pub use response::{ResponseHead, parse_response};
pub use scan::HeadScanner;
pub use spelling::Spelling;
pub(crate) use target::is_host_value;
pub use write::{
    ResponseWrite, TargetForm, write_chunk_end, write_chunk_head, write_last_chunk, write_request_head,
    write_response_head,
};

/// What a parser made of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head is not complete: read more, and call again with all the bytes from the same start.
    Partial,
    /// The head, and how many bytes it took. What follows them is body, or the next message.
    Complete(T, usize),
}

#[cfg(test)]
mod tests;
