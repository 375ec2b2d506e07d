//! The child's end of the pipe to its supervisor: its standard input.

use super::VARIABLE;
use crate::state::{Request, Server};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;

/// Tells the supervisor, if there is one, how the start went.
#[derive(Default)]
pub(crate) struct Link {
    /// Open as long as the process runs.
    pipe: Option<OwnedWriteHalf>,
}

/// Connects to the supervisor, if the process was started by one. When it ends, the process ends, too, and at once: a new
/// supervisor must find its place free.
pub(crate) fn attach(server: &Rc<Server>) -> Link {
    if std::env::var_os(VARIABLE).is_none() {
        return Link::default();
    }
    let pipe = match connect() {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::warn!(target: "main", "{VARIABLE} is set, but standard input is no pipe to a supervisor: {error}");
            return Link::default();
        }
    };
    let (mut reading, writing) = pipe.into_split();
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        // It says nothing: whatever is read is left out.
        let mut nothing = [0; 64];
        while matches!(reading.read(&mut nothing).await, Ok(count) if count > 0) {}
        if let Some(server) = server.upgrade() {
            tracing::error!(target: "main", "the supervisor has ended");
            server.request(Request::Quit);
        }
    });
    Link { pipe: Some(writing) }
}

fn connect() -> io::Result<tokio::net::UnixStream> {
    let pipe = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    pipe.peer_addr()?;
    pipe.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(pipe)
}

impl Link {
    /// The process serves.
    pub(crate) async fn live(&mut self, base_id: u32) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(format!("live {base_id}\n").as_bytes()).await
        {
            tracing::error!(target: "main", "the supervisor can't be told that this process serves: {error}");
        }
    }
}

/// The base id in what [`Link::live`] says.
pub(super) fn parse(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.strip_prefix("live ")?.strip_suffix('\n')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        assert_eq!(parse(b"live 7\n"), Some(7));
        for text in ["", "live", "live 7", "live x\n", "dead 7\n", "live 7\nlive 8\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
