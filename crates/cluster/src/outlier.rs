//! Outlier detection: what workers count of each host, and the detector that ejects on the main thread.

mod detector;
mod log;
mod monitor;
#[cfg(test)]
mod tests;

pub(crate) use detector::Detector;
pub(crate) use monitor::Watch;
pub use monitor::{EjectionType, LocalOrigin, Monitor};
