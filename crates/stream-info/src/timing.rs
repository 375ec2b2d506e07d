//! The points in time that a stream passes, as offsets from its start.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// A point in the life of a stream that durations are measured between (Envoy's `COMMON_DURATION` names in brackets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TimePoint {
    /// End of the request head received (`DS_RX_HDR_END`).
    DownstreamRxHeadersEnd,
    /// Last byte of the request received from downstream (`DS_RX_END`).
    DownstreamRxEnd,
    /// Start of the upstream connect (`US_CX_BEG`); of a reused connection it may lie before the stream.
    UpstreamConnectBegin,
    /// End of the upstream connect (`US_CX_END`).
    UpstreamConnectEnd,
    /// End of the upstream TLS handshake (`US_HS_END`).
    UpstreamHandshakeEnd,
    /// First byte sent upstream (`US_TX_BEG`).
    UpstreamTxBegin,
    /// Last byte sent upstream (`US_TX_END`).
    UpstreamTxEnd,
    /// First byte of the response head received (`US_RX_BEG`).
    UpstreamRxBegin,
    /// First byte of the response body received (`US_RX_BODY_BEG`).
    UpstreamRxBodyBegin,
    /// Last byte of the response received (`US_RX_END`).
    UpstreamRxEnd,
    /// First byte of the response sent downstream (`DS_TX_BEG`).
    DownstreamTxBegin,
    /// Last byte of the response sent downstream (`DS_TX_END`).
    DownstreamTxEnd,
    /// End of the downstream connection (`DS_CX_END`).
    DownstreamConnectionEnd,
    /// The client acknowledged the last byte of the response; only QUIC tells.
    DownstreamAckReceived,
}

const POINTS: usize = TimePoint::DownstreamAckReceived as usize + 1;
/// When a stream passed which point: nanoseconds from its start, which is `DS_RX_BEG`.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    /// Bit per point that is set.
    present: u16,
    points: [i64; POINTS],
    /// Points that filters name themselves; empty and unallocated for nearly every stream.
    custom: Vec<(Arc<str>, i64)>,
}

/// Most custom points that one stream keeps.
const MAX_CUSTOM: usize = 64;

const _: () = assert!(POINTS <= 16, "points must fit the bits");

impl Timing {
    /// Forgets all points.
    pub fn reset(&mut self) {
        self.present = 0;
        self.custom.clear();
    }

    /// Sets a point, over an earlier value.
    #[inline]
    pub fn set(&mut self, point: TimePoint, start: Instant, at: Instant) {
        self.points[point as usize] = offset(start, at);
        self.present |= 1 << point as u16;
    }

    /// Sets a point unless it is set already: for points that mean a first byte.
    #[inline]
    pub fn set_first(&mut self, point: TimePoint, start: Instant, at: Instant) {
        if self.get(point).is_none() {
            self.set(point, start, at);
        }
    }

    /// Forgets one point: a retry starts its upstream points anew.
    #[inline]
    pub fn clear(&mut self, point: TimePoint) {
        self.present &= !(1 << point as u16);
    }

    /// Nanoseconds from the start of the stream to the point; negative if it lay before.
    #[inline]
    pub fn get(&self, point: TimePoint) -> Option<i64> {
        (self.present & (1 << point as u16) != 0).then(|| self.points[point as usize])
    }

    /// The time from one point to another, if both are set and in this order.
    pub fn between(&self, from: TimePoint, to: TimePoint) -> Option<Duration> {
        let nanos = self.get(to)?.checked_sub(self.get(from)?)?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }

    /// Sets a point of a filter's own, readable as `COMMON_DURATION(…)`. At most 64 are kept per stream.
    pub fn set_custom(&mut self, name: Arc<str>, start: Instant, at: Instant) {
        let nanos = offset(start, at);
        if let Some(entry) = self.custom.iter_mut().find(|(known, _)| *known == name) {
            entry.1 = nanos;
        } else if self.custom.len() < MAX_CUSTOM {
            self.custom.push((name, nanos));
        }
    }

    /// Nanoseconds from the start of the stream to a filter's own point.
    pub fn custom(&self, name: &str) -> Option<i64> {
        self.custom.iter().find(|(known, _)| **known == *name).map(|(_, nanos)| *nanos)
    }
}

/// Nanoseconds from `start` to `at`, saturating at ± 292 years.
pub(crate) fn offset(start: Instant, at: Instant) -> i64 {
    match at.checked_duration_since(start) {
        Some(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        None => -i64::try_from(start.duration_since(at).as_nanos()).unwrap_or(i64::MAX),
    }
}
