//! An in-memory byte stream for tests that drive a connection without a socket.

use tokio::io::DuplexStream;

/// Two connected ends. Each direction holds at most `capacity` bytes, so a slow reader exerts back-pressure as a socket
/// would.
pub fn pair(capacity: usize) -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(capacity)
}
