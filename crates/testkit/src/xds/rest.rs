//! REST: requests of HTTP/1.1 with JSON bodies, one after another on a connection.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use super::message::{Event, Request, StreamKind};
use super::stream::Command;
use super::{Open, Shared, json};
use crate::message::Wire;

/// Serves a connection until it ends. Blocks; each request is a stream of its own.
pub fn serve(stream: TcpStream, connection: usize, shared: &Arc<Shared>) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut wire = Wire::new(stream);
    while let Ok(head) = wire.head() {
        let body = wire.body(head.request_framing());
        let path = head.word(1).to_owned();
        let (commands, mut commanded) = unbounded_channel();
        let id = shared.open(connection, &path, head.fields, Open { kind: StreamKind::Rest, commands });
        shared.push(Event::Request(Request { stream: id, path, message: json::request(&body.data) }));
        let written = match commanded.blocking_recv() {
            Some(Command::Send(body)) => respond(&mut out, 200, &body),
            Some(Command::Close(status, message)) => respond(&mut out, status, message.as_bytes()),
            Some(Command::Reset(_)) | None => Err(std::io::ErrorKind::ConnectionReset.into()),
        };
        shared.state().streams.remove(&id);
        if written.is_err() {
            return super::shut(&out);
        }
    }
}

fn respond(out: &mut TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    out.write_all(&[head.as_bytes(), body].concat())
}
