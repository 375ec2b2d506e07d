//! What a connection knows of one of its streams.

use super::headers::Taken;
use crate::ResetReason;
use bytes::Bytes;
use nuncio_headers::HeaderMap;
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// A payload of at least this size is kept as it was received; smaller ones are gathered, so that none of them keeps a
/// whole buffer alive.
const GATHER_BELOW: usize = 8 * 1024;

/// A received head.
pub(super) struct Head {
    pub headers: HeaderMap,
    pub taken: Taken,
    pub status: u16,
    /// Nothing comes after it.
    pub last: bool,
}

/// What was received and not taken yet, and what may still be received.
#[derive(Default)]
pub(super) struct Receive {
    /// The piece that is taken first; most bodies have no other.
    front: Bytes,
    pieces: VecDeque<Bytes>,
    gathered: Vec<u8>,
    held: usize,
    /// Bytes that the peer may still send.
    pub window: i64,
    /// Bytes that were taken and that the peer was not told of yet.
    pub owed: u32,
    pub informational: VecDeque<Head>,
    pub head: Option<Head>,
    pub trailers: Option<HeaderMap>,
    /// The final head has come.
    pub has_head: bool,
    /// The peer's side ended.
    pub ended: bool,
    /// Bytes of the body that `content-length` still promises.
    pub length_left: Option<u64>,
}

impl Receive {
    /// Bytes that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    pub fn push(&mut self, data: Bytes) {
        if self.held == 0 {
            self.held = data.len();
            self.front = data;
            return;
        }
        self.held += data.len();
        self.close_gathered();
        self.pieces.push_back(data);
    }

    /// Adds a small piece.
    pub fn gather(&mut self, data: &[u8]) {
        if self.held == 0 {
            return self.push(Bytes::copy_from_slice(data));
        }
        self.held += data.len();
        self.gathered.extend_from_slice(data);
        if self.gathered.len() >= GATHER_BELOW {
            self.close_gathered();
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(Bytes::from(std::mem::take(&mut self.gathered)));
        }
    }

    /// The next piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        let piece = if !self.front.is_empty() {
            std::mem::take(&mut self.front)
        } else if let Some(piece) = self.pieces.pop_front() {
            piece
        } else if !self.gathered.is_empty() {
            Bytes::from(std::mem::take(&mut self.gathered))
        } else {
            return None;
        };
        self.held -= piece.len();
        Some(piece)
    }

    /// Nobody takes what waits; how much it was.
    pub fn discard(&mut self) -> usize {
        self.front = Bytes::new();
        self.pieces = VecDeque::new();
        self.gathered = Vec::new();
        std::mem::take(&mut self.held)
    }

    /// Counts bytes of the body against `content-length`. False if they contradict it (RFC 9113 §8.1.1).
    pub fn count_body(&mut self, bytes: usize, last: bool) -> bool {
        let Some(left) = &mut self.length_left else { return true };
        match left.checked_sub(bytes as u64) {
            Some(rest) => {
                *left = rest;
                !last || rest == 0
            }
            None => false,
        }
    }
}

/// A stream that exists: on the wire, or only for whoever holds its other end.
pub(super) struct Stream {
    pub id: u32,
    pub receive: Receive,
    /// Bytes that the peer lets this side send.
    pub send_window: i64,
    /// This side's end was sent.
    pub sent_end: bool,
    /// Why it ended before its time.
    pub reset: Option<ResetReason>,
    /// The response has no body, whatever its length says: the request was HEAD.
    pub bodiless: bool,
    /// The stream carries what is not a body: an upgrade, or CONNECT.
    pub tunnel: bool,
    /// It stands in a queue of its connection.
    pub queued: bool,
    /// It was its turn, and it has sent nothing since.
    pub turn: bool,
    /// Place of the flags of the frame that was sent last.
    pub last_flags: u64,
    waker: Option<Waker>,
    wants_receive: bool,
    wants_send: bool,
}

impl Stream {
    pub fn new(id: u32, receive_window: u32, send_window: u32) -> Stream {
        Stream {
            id,
            receive: Receive { window: i64::from(receive_window), ..Receive::default() },
            send_window: i64::from(send_window),
            sent_end: false,
            reset: None,
            bodiless: false,
            tunnel: false,
            queued: false,
            turn: false,
            last_flags: 0,
            waker: None,
            wants_receive: false,
            wants_send: false,
        }
    }

    /// Whether both sides ended, or one gave it up.
    pub fn is_over(&self) -> bool {
        self.reset.is_some() || (self.sent_end && self.receive.ended)
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    /// Something is to be received: wakes the task then.
    pub fn wait_receive(&mut self, cx: &Context<'_>) {
        self.wants_receive = true;
        self.set_waker(cx);
    }

    /// There is no room to send: wakes the task when there is.
    pub fn wait_send(&mut self, cx: &Context<'_>) {
        self.wants_send = true;
        self.set_waker(cx);
    }

    /// The end of the stream is waited for: wakes the task then.
    pub fn wait_end(&mut self, cx: &Context<'_>) {
        self.set_waker(cx);
    }

    pub fn wake_receive(&mut self) {
        if self.wants_receive {
            self.wants_receive = false;
            self.wake();
        }
    }

    pub fn wake_send(&mut self) {
        if self.wants_send {
            self.wants_send = false;
            self.wake();
        }
    }

    /// Wakes the task whatever it waits for.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
