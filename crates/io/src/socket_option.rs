//! Options that a configuration sets on a socket: `core.v3.SocketOption` and `core.v3.TcpKeepalive`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::sys;

/// When an option is set (`core.v3.SocketOption.SocketState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// After the socket was made, before it is bound. Also for upstream sockets.
    Prebind,
    /// After it was bound. Upstream: before connecting, bound or not.
    Bound,
    /// After it listens. Means nothing for upstream sockets.
    Listening,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SocketOptionValue {
    /// `int_value`; the kernel gets its low 32 bits.
    Int(i64),
    /// `buf_value`.
    Bytes(Vec<u8>),
}

/// One option (`core.v3.SocketOption`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketOption {
    /// What the writer of the configuration says it is for; shown in errors. May be empty.
    pub description: String,
    /// `SOL_SOCKET`, `IPPROTO_TCP`, ... as a number.
    pub level: i32,
    /// `SO_RCVBUF`, `TCP_NODELAY`, ... as a number.
    pub name: i32,
    /// What to set it to.
    pub value: SocketOptionValue,
    /// When to set it.
    pub state: SocketState,
}

impl SocketOption {
    fn set(&self, socket: &impl AsFd) -> io::Result<()> {
        match &self.value {
            SocketOptionValue::Int(value) => {
                let low = *value as i32;
                sys::set_socket_option(socket.as_fd(), self.level, self.name, &low.to_ne_bytes())
            }
            SocketOptionValue::Bytes(value) => sys::set_socket_option(socket.as_fd(), self.level, self.name, value),
        }
    }

    /// What an error calls it.
    fn title(&self) -> String {
        let number = format!("level {} name {}", self.level, self.name);
        if self.description.is_empty() { number } else { format!("{} ({number})", self.description) }
    }
}

/// Sets those of `options` whose turn is at `state`. The error comes with the words that name the option.
pub(crate) fn apply(
    options: &[SocketOption],
    state: SocketState,
    socket: &impl AsFd,
) -> Result<(), (String, io::Error)> {
    for option in options.iter().filter(|option| option.state == state) {
        option.set(socket).map_err(|e| (format!("socket option {}", option.title()), e))?;
    }
    Ok(())
}

/// TCP keepalive (`core.v3.TcpKeepalive`). What is `None` keeps the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Probes without an answer before the connection counts as dead (`keepalive_probes`; Linux: 9).
    pub probes: Option<u32>,
    /// Idle time before the first probe, whole seconds (`keepalive_time`; Linux: 7200 s).
    pub time: Option<Duration>,
    /// Time between probes, whole seconds (`keepalive_interval`; Linux: 75 s).
    pub interval: Option<Duration>,
}

impl Keepalive {
    /// Switches it on for a socket.
    pub fn set(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_keepalive(true)?;
        let mut parameters = TcpKeepalive::new();
        if let Some(time) = self.time {
            parameters = parameters.with_time(time);
        }
        if let Some(interval) = self.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            parameters = parameters.with_retries(probes);
        }
        socket.set_tcp_keepalive(&parameters)
    }
}
