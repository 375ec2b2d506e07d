//! Tables for every rule of the codec, and properties that hold for all input.

mod body;
mod pieces;
mod request;
mod response;
mod write;

use super::*;
use crate::Framing;
use nuncio_headers::HeaderMap;

/// The entries of a map as `name=value|…`.
fn dump(headers: &HeaderMap) -> String {
    headers
        .iter()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
        .collect::<Vec<_>>()
        .join("|")
}

fn framing_text(framing: Framing) -> String {
    match framing {
        Framing::None => "none".into(),
        Framing::Length(length) => length.to_string(),
        Framing::Chunked => "chunked".into(),
        Framing::UntilClose => "close".into(),
    }
}

fn refused(error: CodecError) -> String {
    format!("{} {}", error.status, error.details)
}

/// What a request comes to: its map, framing and flags; or status and details.
fn request_with(input: &[u8], options: &RequestOptions) -> String {
    let mut headers = HeaderMap::new();
    match parse_request(input, &mut HeadScanner::new(), options, &mut headers) {
        Ok(Parsed::Partial) => "partial".into(),
        Ok(Parsed::Complete(head, used)) => {
            assert_eq!(head.head_bytes as usize, used);
            let mut flags = format!("{}; {}", dump(&headers), framing_text(head.framing));
            for (set, text) in [
                (head.version == crate::Version::Http10, " 1.0"),
                (!head.keep_alive, " final"),
                (head.expect_continue, " expect"),
                (head.upgrade, " upgrade"),
                (head.connect, " connect"),
                (head.dropped_underscore_headers > 0, " dropped"),
                (used != input.len(), " more"),
            ] {
                if set {
                    flags.push_str(text);
                }
            }
            flags
        }
        Err(error) => refused(error),
    }
}

fn response_with(input: &[u8], options: &ResponseOptions) -> String {
    let mut headers = HeaderMap::new();
    match parse_response(input, &mut HeadScanner::new(), options, &mut headers) {
        Ok(Parsed::Partial) => "partial".into(),
        Ok(Parsed::Complete(head, used)) => {
            assert_eq!(head.head_bytes as usize, used);
            let mut flags = format!("{}; {}", dump(&headers), framing_text(head.framing));
            for (set, text) in [
                (head.version == crate::Version::Http10, " 1.0"),
                (!head.keep_alive, " final"),
                (head.upgrade, " tunnel"),
                (head.dropped_underscore_headers > 0, " dropped"),
                (used != input.len(), " more"),
            ] {
                if set {
                    flags.push_str(text);
                }
            }
            flags
        }
        Err(error) => {
            assert_eq!(error.status, 502);
            error.details.into()
        }
    }
}
