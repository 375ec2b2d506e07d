//! Frames that cost the receiver work and carry nothing: how many of them a peer may send.
//!
//! Envoy counts such frames over the life of a connection, so that a connection which has carried many streams may send
//! many more of them (envoyproxy/envoy#45077). Here each stream or data frame adds credit only up to a cap.

use super::Http2Options;
use super::frame::{FrameHead, flag, kind};
use super::meter::Flood;
use std::time::Instant;

/// Streams for which credit is kept.
const STREAM_CREDIT: u32 = 1024;
/// Data frames for which credit is kept: more than a window holds of the smallest frames in use.
const DATA_CREDIT: u32 = 4096;
/// Frames that are ignored, at first and at most.
const USELESS: u32 = 1000;
/// Streams that this side had to reset because of what the peer sent (CVE-2025-8671): at once, and every second.
const FAULTS: f64 = 512.0;
const FAULTS_PER_SECOND: f64 = 32.0;

/// Frames that a peer may still send.
pub(super) struct Credit {
    empty: u32,
    priority: u32,
    window: u32,
    useless: u32,
    faults: f64,
    /// When `faults` was counted last.
    since: Option<Instant>,
    most_empty: u32,
    per_stream_priority: u32,
    per_data_window: u32,
}

impl Credit {
    pub fn new(options: &Http2Options) -> Credit {
        Credit {
            empty: 0,
            priority: options.max_priority_frames_per_stream,
            window: 5,
            useless: USELESS,
            faults: FAULTS,
            since: None,
            most_empty: options.max_consecutive_empty_frames,
            per_stream_priority: options.max_priority_frames_per_stream,
            per_data_window: options.max_window_updates_per_data_frame,
        }
    }

    /// A stream begins.
    pub fn stream_opened(&mut self) {
        let most = self.per_stream_priority.saturating_mul(STREAM_CREDIT);
        self.priority = self.priority.saturating_add(self.per_stream_priority).min(most.max(1));
        self.add_window(2);
        self.add_useless();
    }

    /// A frame with data went out.
    pub fn data_sent(&mut self) {
        self.add_window(self.per_data_window.saturating_mul(2));
        self.add_useless();
    }

    fn add_window(&mut self, more: u32) {
        let most = self.per_data_window.saturating_mul(2 * DATA_CREDIT).max(2 * STREAM_CREDIT);
        self.window = self.window.saturating_add(more).min(most);
    }

    fn add_useless(&mut self) {
        self.useless = self.useless.saturating_add(1).min(USELESS);
    }

    /// A frame of a message came: `length` without padding.
    pub fn message_frame(&mut self, head: FrameHead, length: usize) -> Result<(), Flood> {
        if length > 0 || head.has(flag::END_STREAM) {
            self.empty = 0;
            return Ok(());
        }
        self.empty += 1;
        if self.empty > self.most_empty { Err(Flood::EmptyFrames) } else { Ok(()) }
    }

    /// A frame that carries no message came.
    pub fn other_frame(&mut self, kind: u8) -> Result<(), Flood> {
        match kind {
            kind::PRIORITY => spend(&mut self.priority, Flood::Priority),
            kind::WINDOW_UPDATE => spend(&mut self.window, Flood::WindowUpdate),
            _ => Ok(()),
        }
    }

    /// A frame came that is ignored.
    pub fn useless_frame(&mut self) -> Result<(), Flood> {
        spend(&mut self.useless, Flood::Useless)
    }

    /// A stream had to be reset because of what the peer sent. False if there were too many of them.
    pub fn fault(&mut self) -> bool {
        let now = Instant::now();
        if let Some(since) = self.since.replace(now) {
            let earned = now.saturating_duration_since(since).as_secs_f64() * FAULTS_PER_SECOND;
            self.faults = (self.faults + earned).min(FAULTS);
        }
        self.faults -= 1.0;
        self.faults >= 0.0
    }
}

/// Takes one, if there is one left.
fn spend(credit: &mut u32, flood: Flood) -> Result<(), Flood> {
    *credit = credit.checked_sub(1).ok_or(flood)?;
    Ok(())
}
