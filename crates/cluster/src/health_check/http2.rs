//! Checks over HTTP/2: the connection of one host, and one exchange at a time on it.
//!
//! Nobody looks at the connection between two checks; what the host did meanwhile shows when it is used again.

use super::probe::Broken;
use bytes::Bytes;
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::connection::BodyPart;
use nuncio_http::h2::{ClientConnection, ClientStream, Http2Options, Opener, connect};
use nuncio_io::transport::Transport;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Most bytes of trailers and body that are kept of an answer that has no limit of its own.
pub(super) const MOST_KEPT: usize = 1024 * 1024;

/// A connection over which checks are made.
pub(super) struct Http2Connection {
    opener: Opener,
    connection: ClientConnection,
}

/// What a host answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The start of the body.
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

impl Http2Connection {
    pub(super) fn open(transport: Transport) -> Http2Connection {
        let (opener, connection) = connect(transport, &Http2Options::default());
        Http2Connection { opener, connection }
    }

    /// Whether the connection can be used for another check.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.connection).poll(&mut cx).is_pending() && self.opener.is_usable()
    }

    /// Sends a request and reads its response to the end. Of the body, `keep` bytes are kept.
    pub(super) async fn exchange(&mut self, head: &HeaderMap, body: Bytes, keep: usize) -> Result<Answer, Broken> {
        let mut stream = self.opener.open();
        stream.send_head(head);
        stream.send_data(body);
        stream.send_end(None);
        let mut answer = Answer { status: 0, headers: HeaderMap::new(), body: Vec::new(), trailers: HeaderMap::new() };
        poll_fn(|cx| {
            let ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            match receive(&mut stream, &mut answer, keep, cx) {
                // What the stream has handed over must go out before the task sleeps.
                Poll::Pending if !ended && Pin::new(&mut self.connection).poll(cx).is_pending() => Poll::Pending,
                Poll::Pending if answer.status == 0 => Poll::Ready(Err(Broken::Early)),
                Poll::Pending => Poll::Ready(Err(Broken::Late)),
                ready => ready,
            }
        })
        .await?;
        Ok(answer)
    }
}

/// Moves an exchange as far as it can.
fn receive(
    stream: &mut ClientStream,
    answer: &mut Answer,
    keep: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    if let Poll::Ready(Err(_)) = stream.poll_flush(cx) {
        return Poll::Ready(Err(Broken::Early));
    }
    while answer.status < 200 {
        match std::task::ready!(stream.poll_head(cx, &mut answer.headers)) {
            Ok(head) => {
                answer.status = head.status;
                if head.framing.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            Err(_) => return Poll::Ready(Err(if stream.is_answered() { Broken::Late } else { Broken::Early })),
        }
    }
    loop {
        match std::task::ready!(stream.poll_body(cx, &mut answer.trailers)) {
            Ok(BodyPart::Data { last, .. }) => {
                let piece = stream.take_body();
                let room = keep.saturating_sub(answer.body.len()).min(piece.len());
                answer.body.extend_from_slice(piece.get(..room).unwrap_or_default());
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            Ok(BodyPart::End { .. }) => return Poll::Ready(Ok(())),
            Err(_) => return Poll::Ready(Err(Broken::Late)),
        }
    }
}

/// Path of `grpc.health.v1.Health/Check`.
const CHECK: &[u8] = b"/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// The head of a gRPC check.
pub(super) fn grpc_head(authority: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append_known(Known::METHOD, b"POST");
    headers.append_known(Known::PATH, CHECK);
    headers.append_known(Known::AUTHORITY, authority);
    headers.append_known(Known::SCHEME, b"http");
    headers.append_known(Known::CONTENT_TYPE, b"application/grpc");
    headers.append_known(Known::TE, b"trailers");
    headers.append_known(Known::USER_AGENT, b"Envoy/HC");
    headers
}

/// A `HealthCheckRequest` as one gRPC message: field 1 is the service's name.
pub(super) fn grpc_request(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(0x0a);
        push_varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// What a gRPC check says: the host serves, it does not, or it answered something else.
pub(super) fn is_serving(answer: &Answer) -> bool {
    let status = answer.trailers.get(Known::GRPC_STATUS).or_else(|| answer.headers.get(Known::GRPC_STATUS));
    if answer.status != 200 || status != Some(b"0") {
        return false;
    }
    let [0, a, b, c, d, message @ ..] = &answer.body[..] else { return false };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    message.get(..length).is_some_and(|message| serving_status(message) == Some(SERVING))
}

/// Field 1 of a `HealthCheckResponse`; 0 if it is not there. None for bytes that are no message.
fn serving_status(mut message: &[u8]) -> Option<u64> {
    let mut found = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let skipped = match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    found = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(found)
}

fn push_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A base-128 number of at most ten bytes, as protobuf has them.
fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..10 {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8], grpc_status: &[u8]) -> Answer {
        let mut trailers = HeaderMap::new();
        trailers.append_known(Known::GRPC_STATUS, grpc_status);
        Answer { status, headers: HeaderMap::new(), body: body.to_vec(), trailers }
    }

    #[test]
    fn only_a_whole_answer_that_says_serving_is_one() {
        for (status, body, grpc_status, serving) in [
            (200, &[0, 0, 0, 0, 2, 8, 1][..], &b"0"[..], true),
            (200, &[0, 0, 0, 0, 4, 0x10, 7, 8, 1], b"0", true),
            (200, &[0, 0, 0, 0, 2, 8, 2], b"0", false),
            (200, &[0, 0, 0, 0, 0], b"0", false),
            (200, &[0, 0, 0, 0, 2, 8], b"0", false),
            (200, &[1, 0, 0, 0, 2, 8, 1], b"0", false),
            (200, &[], b"0", false),
            (200, &[0, 0, 0, 0, 2, 8, 1], b"12", false),
            (503, &[0, 0, 0, 0, 2, 8, 1], b"0", false),
        ] {
            assert_eq!(is_serving(&answer(status, body, grpc_status)), serving, "{status} {body:?} {grpc_status:?}");
        }
    }

    #[test]
    fn the_request_names_the_service() {
        assert_eq!(&grpc_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&grpc_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }
}
