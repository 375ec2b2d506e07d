//! Access logs.

use nuncio_stream_info::LogContext;
use std::sync::Arc;

/// One configured access log with its filter. Called once per record, at the end of a stream or connection (and at the
/// times that the connection manager's log options name).
pub trait AccessLog: Send + Sync {
    /// Writes a record, unless the log's filter does not want it. Must not block and must not fail: what can't be
    /// written is counted. `random` decides sampled filters and is the same for all logs of a record.
    fn log(&self, record: &LogContext<'_>, random: u64);
}

/// The access logs of one place of the configuration, in order.
pub type AccessLogs = Arc<[Arc<dyn AccessLog>]>;
