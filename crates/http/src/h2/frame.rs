//! Frames on the wire: their heads, and the small ones whole (RFC 9113 §4 and §6).

use super::Http2Options;
use super::error::ErrorCode;

/// Length of a frame's head (RFC 9113 §4.1).
pub(super) const HEAD: usize = 9;
/// Place of the flags in it.
pub(super) const FLAGS_AT: usize = 4;
/// Longest payload that this side takes: the least that RFC 9113 §4.2 allows, so that no frame holds others up for long.
pub(super) const MAX_FRAME: usize = 16 * 1024;
/// Length of the client's connection preface (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest window (RFC 9113 §6.9.1).
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;
/// Window of a connection, and of streams, until settings say otherwise (RFC 9113 §6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// Streams that are opened before the peer's settings are known.
const STREAMS_BEFORE_SETTINGS: u32 = 100;

pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

pub(super) mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    /// None if there are too few bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<FrameHead> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEAD>()?;
        Some(FrameHead {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    /// Whether the flag is set.
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The head as it goes out.
    #[inline]
    pub fn bytes(&self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// What the peer's settings say.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerSettings {
    pub max_streams: u32,
    pub initial_window: u32,
    pub max_frame: usize,
    pub connect_protocol: bool,
    /// The first SETTINGS frame has come.
    pub known: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        PeerSettings {
            max_streams: STREAMS_BEFORE_SETTINGS,
            initial_window: DEFAULT_WINDOW,
            max_frame: MAX_FRAME,
            connect_protocol: false,
            known: false,
        }
    }
}

/// The settings of a payload, in order.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[i0, i1, v0, v1, v2, v3]| (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3])))
}

/// The first frames of a side: its settings, and the connection's window.
pub(super) fn write_first(options: &Http2Options, server: bool, out: &mut Vec<u8>) {
    let mut list: Vec<(u16, u32)> = Vec::with_capacity(8);
    if options.hpack_table_size != 4096 {
        list.push((setting::HEADER_TABLE_SIZE, options.hpack_table_size));
    }
    if server {
        list.push((setting::MAX_CONCURRENT_STREAMS, options.max_concurrent_streams));
        if options.allow_connect {
            list.push((setting::ENABLE_CONNECT_PROTOCOL, 1));
        }
    } else {
        list.push((setting::ENABLE_PUSH, 0));
    }
    list.push((setting::INITIAL_WINDOW_SIZE, options.stream_window));
    list.push((setting::MAX_HEADER_LIST_SIZE, options.max_header_list_bytes));
    list.extend(&options.custom_settings);
    let head = FrameHead { length: list.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 };
    out.extend_from_slice(&head.bytes());
    for (identifier, value) in list {
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    if options.connection_window > DEFAULT_WINDOW {
        write_word(kind::WINDOW_UPDATE, 0, options.connection_window - DEFAULT_WINDOW, out);
    }
}

/// RST_STREAM and WINDOW_UPDATE: one number.
pub(super) fn write_word(kind: u8, stream: u32, word: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&FrameHead { length: 4, kind, flags: 0, stream }.bytes());
    out.extend_from_slice(&word.to_be_bytes());
}

pub(super) fn write_ping(payload: [u8; 8], ack: bool, out: &mut Vec<u8>) {
    let flags = if ack { flag::ACK } else { 0 };
    out.extend_from_slice(&FrameHead { length: 8, kind: kind::PING, flags, stream: 0 }.bytes());
    out.extend_from_slice(&payload);
}

pub(super) fn write_settings_ack(out: &mut Vec<u8>) {
    out.extend_from_slice(&FrameHead { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.bytes());
}

pub(super) fn write_goaway(last: u32, code: ErrorCode, debug: &[u8], out: &mut Vec<u8>) {
    let head = FrameHead { length: 8 + debug.len(), kind: kind::GOAWAY, flags: 0, stream: 0 };
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug);
}
