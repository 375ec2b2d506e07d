//! Log files: many workers append lines, one thread writes them out.
//!
//! Owns: buffering, flushing, reopening after rotation, and what happens when a file can't be written: lines are dropped
//! and counted, and no request ever waits. Does not own: what a line says.
//!
//! A worker appends to a buffer of its own, so lines of one worker keep their order and lines of several are interleaved
//! in pieces of a flush; no line is ever torn apart by another.
//!
//! *Invariant*: [`LogFile::write`] calls the kernel only to wake the flush thread, once per full buffer.

mod output;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nuncio_stats::names::FilesystemStats;

use crate::address::errno_text;
use crate::sys;
use output::Output;
use writer::Writer;

/// How long a flush at the end waits for a pipe that nobody reads.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// First memory of a buffer, bytes.
const FIRST_BUFFER: usize = 4 * 1024;

/// Settings of all log files.
#[derive(Clone, Copy, Debug)]
pub struct LogFileOptions {
    /// Time between flushes (`--file-flush-interval-msec`). Default 10 s; at least 1 ms.
    pub flush_interval: Duration,
    /// A buffer of a worker with this many bytes is flushed early (`--file-flush-min-size-kb`). Default 64 KiB.
    pub min_flush: usize,
    /// Bytes that one file may hold in memory; lines beyond are dropped. Default 8 MiB, or 2 MiB for each worker if that is
    /// more. It is shared out evenly among the workers, and each gets at least twice `min_flush`.
    pub max_buffered: usize,
    /// Number of workers, as given to `nuncio_stats::Store`.
    pub workers: usize,
}

impl LogFileOptions {
    /// The defaults.
    pub fn new(workers: usize) -> Self {
        LogFileOptions {
            flush_interval: Duration::from_secs(10),
            min_flush: 64 * 1024,
            max_buffered: (8 << 20).max(workers.saturating_mul(2 << 20)),
            workers,
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogDestination {
    /// A file, a device or a named pipe. A file is made with mode 0644 if there is none.
    Path(String),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogDestination {
    /// The path of a configuration; `/dev/stdout` and the like become what they mean.
    pub fn from_path(path: &str) -> Self {
        match path {
            "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => LogDestination::Stdout,
            "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => LogDestination::Stderr,
            _ => LogDestination::Path(path.to_owned()),
        }
    }
}

impl fmt::Display for LogDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogDestination::Path(path) => path,
            LogDestination::Stdout => "/dev/stdout",
            LogDestination::Stderr => "/dev/stderr",
        })
    }
}

/// A log file that could not be opened. The configuration that names it is refused.
#[derive(Debug)]
pub struct OpenError {
    /// Which one.
    pub destination: LogDestination,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Envoy's words.
        write!(f, "unable to open file '{}': {}", self.destination, errno_text(&self.source))?;
        match self.source.raw_os_error() {
            Some(libc::ENOENT) => f.write_str(" (its directory does not exist)"),
            Some(libc::EACCES) => f.write_str(" (this user may not write there)"),
            Some(libc::EROFS) => f.write_str(" (mount a writable volume there, or log to /dev/stdout)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// All log files of a process, and the thread that writes them. Dropping it writes what is buffered and ends the thread.
pub struct LogFiles {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: LogFileOptions,
    stats: FilesystemStats,
    files: Mutex<Vec<Arc<LogFile>>>,
    /// Wakes the thread.
    wake: OwnedFd,
    woken: AtomicBool,
    stop: AtomicBool,
}

/// One log file, shared by all who write to it. Files that nobody holds any more are closed by the thread.
pub struct LogFile {
    destination: LogDestination,
    shards: Box<[Shard]>,
    shard_limit: usize,
    writer: Mutex<Writer>,
    /// A buffer is full.
    due: AtomicBool,
    reopen: AtomicBool,
    shared: std::sync::Weak<Shared>,
    min_flush: usize,
    stats: FilesystemStats,
}

/// The buffer of one worker, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Vec<u8>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogFiles {
    /// No file yet, and no thread before the first one.
    pub fn new(options: LogFileOptions, stats: FilesystemStats) -> io::Result<Self> {
        let shared = Shared {
            options,
            stats,
            files: Mutex::default(),
            wake: sys::eventfd()?,
            woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        Ok(LogFiles { shared: Arc::new(shared), thread: Mutex::default() })
    }

    /// The file of this destination: the one that is open already, or a new one. Fails if it can't be opened now; later
    /// failures cost lines only.
    pub fn open(&self, destination: &LogDestination) -> Result<Arc<LogFile>, OpenError> {
        let failed = |source| OpenError { destination: destination.clone(), source };
        let mut files = lock(&self.shared.files);
        if let Some(file) = files.iter().find(|file| file.destination == *destination) {
            return Ok(file.clone());
        }
        let output = Output::open(destination).map_err(failed)?;
        self.start().map_err(failed)?;
        let options = &self.shared.options;
        let shards = options.workers.saturating_add(1);
        let file = Arc::new(LogFile {
            destination: destination.clone(),
            shards: (0..shards).map(|_| Shard::default()).collect(),
            // Half for what the workers hold, half for what the thread could not write yet.
            shard_limit: (options.max_buffered / 2 / shards).max(options.min_flush.saturating_mul(2)),
            writer: Mutex::new(Writer::new(output, self.shared.stats.clone())),
            due: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            shared: Arc::downgrade(&self.shared),
            min_flush: options.min_flush.max(1),
            stats: self.shared.stats.clone(),
        });
        files.push(file.clone());
        Ok(file)
    }

    /// Opens every file anew, as a log rotation asks for (SIGHUP, `POST /reopen_logs`); soon, on the thread. A file that
    /// can't be opened goes on with the old one, and `reopen_failed` counts.
    pub fn reopen(&self) {
        lock(&self.shared.files).iter().for_each(|file| file.reopen.store(true, Ordering::Relaxed));
        self.shared.wake();
    }

    /// Writes everything that is buffered, on this thread. Waits at most a second for pipes that are full.
    pub fn flush(&self) {
        self.shared.flush_all(LAST_WAIT);
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let shared = self.shared.clone();
            *thread = Some(std::thread::Builder::new().name("log flush".into()).spawn(move || shared.run())?);
        }
        Ok(())
    }
}

impl Drop for LogFiles {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread has been reported by its hook.
            let _ = thread.join();
        }
    }
}

impl LogFile {
    /// Appends a line (with its end of line, if it is to have one). Never waits. A line that finds the buffer of this
    /// worker full is dropped, and `filesystem.write_failed` counts.
    pub fn write(&self, line: &[u8]) {
        let worker = nuncio_stats::worker() as usize;
        let Some(shard) = self.shards.get(worker).or_else(|| self.shards.first()) else { return };
        let mut buffer = lock(&shard.0);
        let before = buffer.len();
        let after = before + line.len();
        if after > self.shard_limit {
            drop(buffer);
            self.stats.write_failed().inc();
            return;
        }
        if buffer.capacity() == 0 {
            buffer.reserve(FIRST_BUFFER);
        }
        buffer.extend_from_slice(line);
        drop(buffer);
        self.stats.write_buffered().inc();
        self.stats.write_total_buffered().add(line.len() as u64);
        if before < self.min_flush && after >= self.min_flush {
            self.wake();
        }
    }

    /// Where the lines go.
    pub fn destination(&self) -> &LogDestination {
        &self.destination
    }

    #[cold]
    fn wake(&self) {
        self.due.store(true, Ordering::Relaxed);
        if let Some(shared) = self.shared.upgrade() {
            shared.wake();
        }
    }

    /// Writes what is buffered. Returns the output if it takes no more for now.
    fn flush(&self, timer: bool) -> Option<Arc<Output>> {
        self.due.store(false, Ordering::Relaxed);
        let mut writer = lock(&self.writer);
        if self.reopen.swap(false, Ordering::Relaxed) {
            writer.reopen(&self.destination);
        }
        if writer.write_pending().is_err() {
            return Some(writer.output());
        }
        let mut checked = false;
        // Once round: what is written meanwhile waits for the next flush, however fast it comes.
        for shard in &self.shards {
            if lock(&shard.0).is_empty() {
                continue;
            }
            if !std::mem::replace(&mut checked, true) {
                writer.reopen_if_rotated(&self.destination);
            }
            writer.take(&mut lock(&shard.0));
            if writer.write_pending().is_err() {
                return Some(writer.output());
            }
        }
        if timer {
            self.release_memory(&mut writer);
        }
        None
    }

    /// Gives back the memory of empty buffers: a file that is not written to holds none.
    fn release_memory(&self, writer: &mut Writer) {
        for shard in &self.shards {
            let mut buffer = lock(&shard.0);
            if buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
        writer.release();
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // The thread has flushed; what is left is what a full pipe did not take.
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let buffers =
            self.shards.iter_mut().map(|shard| shard.0.get_mut().unwrap_or_else(PoisonError::into_inner).len());
        let left = writer.pending() + buffers.sum::<usize>();
        if left > 0 {
            self.stats.write_failed().inc();
            self.stats.write_total_buffered().sub(left as u64);
        }
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFile").field(&self.destination).finish()
    }
}

impl Shared {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // It fails only when the counter is about to overflow, and then the thread is awake anyway.
            let _ = sys::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        }
    }

    fn files(&self) -> Vec<Arc<LogFile>> {
        lock(&self.files).clone()
    }

    fn run(&self) {
        let interval = self.options.flush_interval.max(Duration::from_millis(1));
        let mut tick = Instant::now() + interval;
        let mut blocked: Vec<Arc<Output>> = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            self.wait(&blocked, tick.saturating_duration_since(Instant::now()));
            let timer = Instant::now() >= tick;
            if timer {
                tick = Instant::now() + interval;
                self.forget_unused();
            }
            let retry = !std::mem::take(&mut blocked).is_empty();
            for file in self.files() {
                if timer {
                    self.stats.flushed_by_timer().inc();
                }
                let asked = file.due.load(Ordering::Relaxed) || file.reopen.load(Ordering::Relaxed);
                if timer || retry || asked {
                    blocked.extend(file.flush(timer));
                }
            }
        }
        self.flush_all(LAST_WAIT);
    }

    /// Waits for a wake-up, for an output that was full, or for `timeout`.
    fn wait(&self, blocked: &[Arc<Output>], timeout: Duration) {
        let entry = |fd: i32, events| libc::pollfd { fd, events, revents: 0 };
        let mut waiting = vec![entry(self.wake.as_raw_fd(), libc::POLLIN)];
        waiting.extend(blocked.iter().map(|output| entry(output.as_raw_fd(), libc::POLLOUT)));
        if sys::poll(&mut waiting, Some(timeout)).is_err() {
            // Out of kernel memory; go on slowly rather than in a busy loop.
            std::thread::sleep(timeout.min(Duration::from_secs(1)));
        }
        if waiting[0].revents != 0 {
            let _ = sys::read(self.wake.as_fd(), &mut [0; 8]);
            self.woken.store(false, Ordering::Release);
        }
    }

    fn flush_all(&self, wait: Duration) {
        let until = Instant::now() + wait;
        for file in self.files() {
            while let Some(output) = file.flush(false) {
                let left = until.saturating_duration_since(Instant::now());
                let mut waiting = [libc::pollfd { fd: output.as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
                if !matches!(sys::poll(&mut waiting, Some(left)), Ok(1..)) {
                    break;
                }
            }
        }
    }

    /// Closes files that only this list holds.
    fn forget_unused(&self) {
        let unused: Vec<Arc<LogFile>> = {
            let mut files = lock(&self.files);
            files.extract_if(.., |file| Arc::strong_count(file) == 1).collect()
        };
        for file in unused {
            file.flush(false);
        }
    }
}
