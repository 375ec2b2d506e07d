//! Dates and times of logs: strftime patterns as Envoy takes them, and time zones.
//!
//! Owns: the calendar, pattern compilation, zone rules. Does not own: clocks, or reading zone files.

mod calendar;
mod pattern;
mod zone;

pub use pattern::{TimeFormat, TimeFormatError};
pub use zone::TimeZone;

#[cfg(test)]
mod tests;
