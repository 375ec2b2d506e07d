//! The writing end of one log file: what was taken from the workers and is not written yet.

use std::io;
use std::sync::Arc;

use nuncio_stats::names::FilesystemStats;

use super::LogDestination;
use super::output::Output;

/// Largest buffer that is used again, bytes; what a burst needed beyond is given back.
const KEPT: usize = 256 * 1024;

/// The output takes nothing for now.
pub(super) struct Blocked;

pub(super) struct Writer {
    output: Arc<Output>,
    /// Taken from a worker; written up to `written`.
    pending: Vec<u8>,
    written: usize,
    /// The last line in the output is incomplete, and its rest was dropped.
    torn: bool,
    /// The output was gone at the last write (a pipe without a reader): open it anew.
    gone: bool,
    stats: FilesystemStats,
}

impl Writer {
    pub(super) fn new(output: Output, stats: FilesystemStats) -> Self {
        Writer { output: Arc::new(output), pending: Vec::new(), written: 0, torn: false, gone: false, stats }
    }

    pub(super) fn output(&self) -> Arc<Output> {
        self.output.clone()
    }

    /// Exchanges the full buffer of a worker for the empty one kept here. Call it when nothing is pending.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>) {
        std::mem::swap(&mut self.pending, buffer);
        self.written = 0;
    }

    /// Writes what is pending, or drops and counts it if the output is out of order.
    pub(super) fn write_pending(&mut self) -> Result<(), Blocked> {
        while self.written < self.pending.len() {
            let result = self.write_some();
            match result {
                Ok(count) => {
                    self.written += count;
                    self.stats.write_total_buffered().sub(count as u64);
                    self.stats.write_completed().inc();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(Blocked),
                Err(e) => self.drop_pending(&e),
            }
        }
        self.pending.clear();
        self.written = 0;
        if self.pending.capacity() > KEPT {
            self.pending = Vec::new();
        }
        Ok(())
    }

    fn write_some(&mut self) -> io::Result<usize> {
        if self.torn {
            self.output.write(b"\n")?;
            self.torn = false;
        }
        match self.output.write(&self.pending[self.written..])? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }
    }

    fn drop_pending(&mut self, error: &io::Error) {
        self.stats.write_failed().inc();
        self.stats.write_total_buffered().sub((self.pending.len() - self.written) as u64);
        self.torn |= self.written > 0 && self.pending.get(self.written - 1) != Some(&b'\n');
        self.gone = error.kind() == io::ErrorKind::BrokenPipe;
        self.written = self.pending.len();
    }

    /// Opens the destination anew. On failure the old output stays.
    pub(super) fn reopen(&mut self, destination: &LogDestination) {
        self.gone = false;
        if !matches!(destination, LogDestination::Path(_)) {
            return;
        }
        match Output::open(destination) {
            Ok(output) => {
                self.output = Arc::new(output);
                self.torn = false;
            }
            Err(_) => self.stats.reopen_failed().inc(),
        }
    }

    /// Opens the destination anew if another file has its name now.
    pub(super) fn reopen_if_rotated(&mut self, destination: &LogDestination) {
        if let LogDestination::Path(path) = destination
            && (self.gone || self.output.was_rotated(path))
        {
            self.reopen(destination);
        }
    }

    /// Bytes taken and not written.
    pub(super) fn pending(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Gives memory back.
    pub(super) fn release(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}
