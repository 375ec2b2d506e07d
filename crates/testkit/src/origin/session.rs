//! One connection of an origin.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::script::{Action, After, Reply, Script};
use super::{Seen, Shared, State};
use crate::PATIENCE;
use crate::message::{Body, End, Framing, Head, Wire};

/// Plays the script until the connection ends, whoever ends it.
pub(super) fn serve(stream: TcpStream, number: usize, shared: &Arc<Shared>) {
    // An error means that the peer went away, which is what many scripts are about; the records tell what had come.
    let _ = stream.set_nodelay(true);
    let actions = match &shared.state().script {
        Script::Tcp { tcp } => Some(tcp.clone()),
        Script::Http(_) | Script::Http2 { .. } => None,
    };
    let _ = match actions {
        Some(actions) => play(stream, number, &actions, shared),
        None if begins_http2(&stream) => super::h2::serve(stream, number, shared),
        None => serve_http(stream, number, shared),
    };
}

/// Whether the peer begins with the preface of HTTP/2. Nothing is read.
fn begins_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 4];
    loop {
        match stream.peek(&mut start) {
            Ok(0) | Err(_) => return false,
            Ok(count) if !b"PRI ".starts_with(&start[..count]) => return false,
            Ok(4) => return true,
            // The rest is on its way.
            Ok(_) => thread::yield_now(),
        }
    }
}

fn serve_http(stream: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    while let Ok(head) = wire.head() {
        let framing = head.request_framing();
        let to_head = head.word(0) == "HEAD";
        let (index, reply) = choose(shared, number, head);
        let mut answered = false;
        if reply.early {
            answered = true;
            shared.changed.notify_all();
            let next = answer(&mut wire.stream, &reply, to_head, shared);
            if !matches!(next, Ok(Next::Serve)) {
                shared.state().reading -= 1;
                shared.changed.notify_all();
                next?;
                return finish(&mut wire, &reply);
            }
        }
        let body = wire.body(framing);
        shared.state().record(index, body);
        shared.changed.notify_all();
        let next = if answered { Next::Serve } else { answer(&mut wire.stream, &reply, to_head, shared)? };
        if next == Next::End || reply.then != After::Keep {
            return finish(&mut wire, &reply);
        }
    }
    Ok(())
}

/// Records the head and takes the reply for it.
pub(super) fn choose(shared: &Shared, connection: usize, head: Head) -> (usize, Reply) {
    let arrived = shared.started.elapsed();
    let state = &mut *shared.state();
    let path = head.word(1).split('?').next().unwrap_or_default().to_owned();
    let replies = state.script.replies();
    let used = &state.used;
    let fits = |(index, reply): &(usize, &Reply)| {
        reply.path.as_ref().is_none_or(|wanted| *wanted == path)
            && reply.times.is_none_or(|times| used.get(index).copied().unwrap_or(0) < times)
    };
    let chosen = replies.iter().enumerate().find(fits).map(|(index, reply)| (index, reply.clone()));
    if let Some((index, _)) = chosen {
        *state.used.entry(index).or_default() += 1;
    }
    state.seen.push(Seen { connection, arrived, head, body: Body { end: End::TimedOut, ..Body::default() } });
    state.reading += 1;
    (state.seen.len() - 1, chosen.map(|(_, reply)| reply).unwrap_or_default())
}

impl State {
    pub(super) fn record(&mut self, index: usize, body: Body) {
        self.reading -= 1;
        if let Some(seen) = self.seen.get_mut(index) {
            seen.body = body;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Serve,
    End,
}

fn answer(stream: &mut TcpStream, reply: &Reply, to_head: bool, shared: &Shared) -> io::Result<Next> {
    if let Some(gate) = &reply.hold {
        shared.gates.wait(gate, PATIENCE);
    }
    let (head, mut body) = render(reply);
    if to_head {
        body.clear();
    }
    let all = head.len() + body.len();
    let allowed = reply.cut.unwrap_or(all);
    stream.write_all(&head[..head.len().min(allowed)])?;
    if let Some(gate) = &reply.hold_body {
        shared.gates.wait(gate, PATIENCE);
    }
    send(stream, &body[..body.len().min(allowed.saturating_sub(head.len()))], shared)?;
    let ends = reply.until_close || allowed < all || reply.then != After::Keep;
    Ok(if ends { Next::End } else { Next::Serve })
}

/// Writes all, and counts what the socket has taken.
fn send(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) -> io::Result<()> {
    for block in bytes.chunks(64 * 1024) {
        stream.write_all(block)?;
        shared.sent.fetch_add(block.len() as u64, Ordering::AcqRel);
    }
    Ok(())
}

fn finish(wire: &mut Wire<TcpStream>, reply: &Reply) -> io::Result<()> {
    match reply.then {
        After::Reset => SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)),
        After::Hang => {
            wire.body(Framing::UntilClose);
            Ok(())
        }
        After::Echo => echo(wire),
        After::Keep | After::Close => close(&mut wire.stream),
    }
}

/// Closes without a reset: what the peer still sends is read first, for unread data would turn the FIN into an RST.
fn close(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    io::copy(stream, &mut io::sink()).map(drop)
}

fn render(reply: &Reply) -> (Vec<u8>, Vec<u8>) {
    let mut head = String::new();
    for status in &reply.interim {
        head += &format!("HTTP/1.1 {status} Interim\r\nx-interim: {status}\r\n\r\n");
    }
    if let Some(raw) = &reply.raw {
        return ([head.as_bytes(), raw.as_bytes()].concat(), Vec::new());
    }
    let (status, reason) = (reply.status.unwrap_or(200), reply.reason.as_deref().unwrap_or("OK"));
    head += &format!("HTTP/{} {status} {reason}\r\n", reply.version.as_deref().unwrap_or("1.1"));
    for line in &reply.headers {
        head += &format!("{line}\r\n");
    }
    let body = body_of(reply);
    let has_body = !matches!(status, 100..200 | 204 | 304);
    if reply.chunks.is_some() {
        head += "transfer-encoding: chunked\r\n";
    } else if let Some(length) = reply.length.or((has_body && !reply.until_close).then_some(body.len())) {
        head += &format!("content-length: {length}\r\n");
    }
    head += "\r\n";
    (head.into_bytes(), if has_body { body } else { Vec::new() })
}

fn body_of(reply: &Reply) -> Vec<u8> {
    if let Some(chunks) = &reply.chunks {
        let mut body = String::new();
        for chunk in chunks {
            body += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        body += "0\r\n";
        for line in &reply.trailers {
            body += &format!("{line}\r\n");
        }
        return (body + "\r\n").into_bytes();
    }
    match (reply.size, &reply.body) {
        (Some(size), _) => vec![b'x'; size],
        (None, Some(body)) => body.clone().into_bytes(),
        (None, None) => b"ok".to_vec(),
    }
}

fn play(stream: TcpStream, number: usize, actions: &[Action], shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    let mut seen = Seen { connection: number, ..Seen::default() };
    let mut reset = false;
    for action in actions {
        match action {
            Action::Send(text) => send(&mut wire.stream, text.as_bytes(), shared)?,
            Action::SendSize(size) => send(&mut wire.stream, &vec![b'x'; *size], shared)?,
            Action::Read(length) => seen.body.end = wire.exactly(*length, &mut seen.body.data),
            Action::Hold(gate) => drop(shared.gates.wait(gate, PATIENCE)),
            Action::Release(gate) => shared.gates.open(gate),
            Action::Echo => echo(&mut wire)?,
            Action::Drain => seen.body.end = wire.rest(&mut seen.body.data),
            Action::Finish => wire.stream.shutdown(Shutdown::Write)?,
            Action::Reset => reset = true,
        }
    }
    shared.state().seen.push(seen);
    shared.changed.notify_all();
    if reset {
        return SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO));
    }
    close(&mut wire.stream)
}

fn echo(wire: &mut Wire<TcpStream>) -> io::Result<()> {
    let early = wire.take_buffered();
    wire.stream.write_all(&early)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match wire.stream.read(&mut buffer)? {
            0 => return wire.stream.shutdown(Shutdown::Write),
            count => wire.stream.write_all(&buffer[..count])?,
        }
    }
}
