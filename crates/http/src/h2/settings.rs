//! The peer's settings, and what they change (RFC 9113 §6.5).

use super::error::{ErrorCode, Violation};
use super::frame::{self, FrameHead, MAX_FRAME, MAX_WINDOW, flag, setting};
use super::state::Core;

impl Core {
    pub fn on_settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream != 0 {
            return Err(Violation::protocol("SETTINGS of a stream"));
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Violation::size("an acknowledgement of SETTINGS is not empty"));
            }
            self.decoder.acknowledged();
            return Ok(());
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Violation::size("SETTINGS is not a multiple of six bytes"));
        }
        if !self.peer.known {
            self.peer.known = true;
            self.peer.max_streams = u32::MAX;
        }
        // The last window of a frame counts: each change is work for all streams.
        let mut window = None;
        for (identifier, value) in frame::settings(payload) {
            match identifier {
                setting::INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => {
                    return Err(Violation::new(
                        ErrorCode::FLOW_CONTROL_ERROR,
                        "SETTINGS_INITIAL_WINDOW_SIZE is too large",
                    ));
                }
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                _ => self.setting(identifier, value)?,
            }
        }
        if let Some(window) = window {
            self.resize_windows(window)?;
        }
        frame::write_settings_ack(self.output.frame());
        self.output.count_answer();
        self.wake_opening();
        Ok(())
    }

    fn setting(&mut self, identifier: u16, value: u32) -> Result<(), Violation> {
        match identifier {
            setting::HEADER_TABLE_SIZE => self.encoder.set_limit(value),
            setting::ENABLE_PUSH if value > 1 || (!self.server && value == 1) => {
                return Err(Violation::protocol("SETTINGS_ENABLE_PUSH has a wrong value"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value,
            setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                return Err(Violation::protocol("SETTINGS_MAX_FRAME_SIZE has a wrong value"));
            }
            // More than what this side takes itself would only hold other streams up.
            setting::MAX_FRAME_SIZE => self.peer.max_frame = (value as usize).min(MAX_FRAME),
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(Violation::protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL has a wrong value"));
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer.connect_protocol = value == 1,
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.9.2: a new initial window changes those of all streams, which may make them negative.
    fn resize_windows(&mut self, value: u32) -> Result<(), Violation> {
        let more = i64::from(value) - i64::from(self.peer.initial_window);
        self.peer.initial_window = value;
        if more == 0 || self.ids.is_empty() {
            return Ok(());
        }
        self.credit.useless_frame()?;
        for key in self.ids.values() {
            let Some(stream) = self.streams.get_mut(*key) else { continue };
            stream.send_window += more;
            if stream.send_window > MAX_WINDOW {
                return Err(Violation::new(ErrorCode::FLOW_CONTROL_ERROR, "a window is too large"));
            }
            if stream.send_window > 0 {
                stream.wake_send();
            }
        }
        Ok(())
    }
}
