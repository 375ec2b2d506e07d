//! Connections that only begin a handshake.

use std::io::ErrorKind;
use std::time::Duration;

use mio::Interest;
use mio::net::TcpStream;
use socket2::SockRef;

use super::{After, Connection, Ready, Role, World};
use crate::bench::load::stream::Stream;

impl World {
    /// Begins a handshake that nobody will end.
    pub fn begin_handshake(&mut self) {
        let stream = match TcpStream::connect(self.target) {
            Ok(stream) => stream,
            Err(error) => return self.fail(format!("connect: {error}")),
        };
        self.hellos += 1;
        self.add(stream, Role::Hello { sent: false }, Interest::READABLE | Interest::WRITABLE);
    }

    /// A connection of the flood has its turn.
    pub(super) fn greet_only(&mut self, connection: &mut Connection, ready: Ready) -> After {
        let Stream::Plain(socket) = &connection.stream else { return After::Failed("no plain socket".into()) };
        if matches!(connection.role, Role::Hello { sent: false }) {
            if !ready.writable || socket.peer_addr().is_err() {
                return if ready.closed { After::Failed("connect: refused".into()) } else { After::Keep };
            }
            // Ended by a reset, so that it leaves no port behind; nothing else depends on it.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            connection.role = Role::Hello { sent: true };
            let written = connection.stream.write(&self.hello);
            let whole = matches!(written, Ok(count) if count == self.hello.len());
            return if whole { After::Keep } else { After::Failed(format!("write: {written:?}")) };
        }
        match connection.stream.read(&mut self.scratch) {
            Ok(0) => After::Failed("closed during the handshake".into()),
            Ok(_) => {
                self.tally.hellos += 1;
                After::Done
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => After::Keep,
            Err(error) => After::Failed(format!("read: {error}")),
        }
    }
}
