//! Connections of the load and of its origin that carry HTTP/2.

use std::io::ErrorKind;
use std::time::Instant;

use super::{After, Connection, Ready, Role, World};

impl World {
    /// Writes what connections with HTTP/2 have ready.
    pub(super) fn write_all(&mut self) {
        for index in std::mem::take(&mut self.unwritten) {
            let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { continue };
            if let Err(reason) = connection.write_http2() {
                self.end(index, After::Failed(reason));
            }
        }
    }

    /// Reads and answers over HTTP/2, on either side.
    pub(super) fn exchange_http2(&mut self, index: usize, connection: &mut Connection, ready: Ready) -> After {
        let Some(http2) = &mut connection.http2 else { return After::Keep };
        let had_output = !http2.out.is_empty();
        let mut end = None;
        let message = &self.http2_reply;
        while end.is_none() {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => end = Some("the peer closed".to_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => end = Some(format!("read: {error}")),
                Ok(count) => {
                    let done = |due: Instant| {
                        self.waiting -= 1;
                        self.tally.completed += 1;
                        if let Some(latencies) = &mut self.latencies {
                            latencies.record(due.elapsed().as_nanos() as u64);
                        }
                        self.idle.push_back(index);
                    };
                    end = http2.receive(&self.scratch[..count], message, done).err();
                    if count < self.scratch.len() && connection.stream.plain().is_some() {
                        break;
                    }
                }
            }
        }
        match end {
            Some(reason) => return After::Failed(reason),
            None if ready.closed => return After::Ended,
            None => {}
        }
        // A client writes after its next requests, an origin at once.
        if matches!(connection.role, Role::Origin) {
            return connection.write_http2().map_or_else(After::Failed, |()| After::Keep);
        }
        if !had_output && !http2.out.is_empty() {
            self.unwritten.push(index);
        }
        After::Keep
    }
}

impl Connection {
    fn write_http2(&mut self) -> Result<(), String> {
        let Some(http2) = &mut self.http2 else { return Ok(()) };
        if http2.out.is_empty() {
            return Ok(());
        }
        let written = self.stream.write(&http2.out);
        if !matches!(written, Ok(count) if count == http2.out.len()) {
            return Err(format!("write: {written:?}"));
        }
        http2.out.clear();
        Ok(())
    }
}
