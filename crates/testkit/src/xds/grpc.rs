//! The frames of gRPC messages: a flag, four bytes of length, the message.

use bytes::{BufMut, Bytes, BytesMut};

const HEAD: usize = 5;

/// Takes messages out of a stream of bytes.
#[derive(Default)]
pub struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Adds what arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. Compressed ones are returned as they are.
    pub fn next(&mut self) -> Option<Bytes> {
        let length: [u8; 4] = self.buffer.get(1..HEAD)?.try_into().ok()?;
        let end = HEAD + usize::try_from(u32::from_be_bytes(length)).ok()?;
        if self.buffer.len() < end {
            return None;
        }
        Some(self.buffer.split_to(end).split_off(HEAD).freeze())
    }
}

/// A message with its head.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
