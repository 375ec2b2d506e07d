//! Writes to real files and pipes. Nothing waits for time: a flush is asked for, or a pipe is read until it came.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nuncio_stats::Store;

use super::*;

/// Never flushed by the timer within a test.
const NEVER: Duration = Duration::from_secs(3600);

struct Setup {
    directory: tempfile::TempDir,
    store: Store,
    files: LogFiles,
}

fn setup(change: impl FnOnce(&mut LogFileOptions)) -> Setup {
    let mut options = LogFileOptions { flush_interval: NEVER, ..LogFileOptions::new(2) };
    change(&mut options);
    let store = Store::new(2);
    let stats = FilesystemStats::register(&store.scope("filesystem", &[]));
    Setup { directory: tempfile::tempdir().unwrap(), files: LogFiles::new(options, stats).unwrap(), store }
}

impl Setup {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn open(&self, name: &str) -> Arc<LogFile> {
        self.files.open(&LogDestination::Path(self.path(name))).unwrap()
    }

    fn stat(&self, name: &str) -> u64 {
        self.store.value(&format!("filesystem.{name}")).unwrap()
    }

    /// A named pipe, and its reading end, which does not block.
    fn fifo(&self, name: &str) -> fs::File {
        let path = self.path(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap()
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// Waits until the pipe has something.
fn readable(pipe: &fs::File) {
    let mut waiting = [libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    assert_eq!(sys::poll(&mut waiting, Some(Duration::from_secs(30))).unwrap(), 1);
}

#[test]
fn lines_appear_after_a_flush() {
    let setup = setup(|_| {});
    let file = setup.open("log");
    assert!(Arc::ptr_eq(&file, &setup.open("log")), "one writer per path");
    file.write(b"one\n");
    file.write(b"two\n");
    assert_eq!(text(setup.path("log")), "");
    assert_eq!((setup.stat("write_buffered"), setup.stat("write_total_buffered")), (2, 8));
    setup.files.flush();
    assert_eq!(text(setup.path("log")), "one\ntwo\n");
    assert_eq!((setup.stat("write_completed"), setup.stat("write_total_buffered")), (1, 0));
    assert_eq!(fs::metadata(setup.path("log")).unwrap().permissions().mode() & 0o600, 0o600);
}

#[test]
fn existing_content_is_kept() {
    let setup = setup(|_| {});
    fs::write(setup.path("log"), "old\n").unwrap();
    setup.open("log").write(b"new\n");
    setup.files.flush();
    assert_eq!(text(setup.path("log")), "old\nnew\n");
}

#[test]
fn drop_writes_what_is_left() {
    let setup = setup(|_| {});
    let file = setup.open("log");
    file.write(b"last\n");
    drop(setup.files);
    assert_eq!(text(setup.directory.path().join("log")), "last\n");
    file.write(b"after the end\n");
}

#[test]
fn workers_keep_their_order() {
    let setup = setup(|_| {});
    let file = setup.open("log");
    std::thread::scope(|scope| {
        for worker in 1..=2 {
            let file = &file;
            scope.spawn(move || {
                nuncio_stats::set_worker(worker);
                for line in 0..5000 {
                    file.write(format!("{worker} {line} {}\n", "x".repeat(line % 90)).as_bytes());
                }
            });
        }
    });
    setup.files.flush();
    let all = text(setup.path("log"));
    for worker in ["1", "2"] {
        let mut numbers = all.lines().filter_map(|line| line.strip_prefix(worker)?.split(' ').nth(1)?.parse().ok());
        assert!((0..5000usize).all(|expected| numbers.next() == Some(expected)));
    }
    assert_eq!(all.lines().count(), 10_000);
}

#[test]
fn full_buffer_and_timer_flush_without_being_asked() {
    for (min_flush, flush_interval, by_timer) in [(100, NEVER, false), (1 << 20, Duration::from_millis(1), true)] {
        let setup = setup(|options| (options.min_flush, options.flush_interval) = (min_flush, flush_interval));
        let mut pipe = setup.fifo("pipe");
        let file = setup.open("pipe");
        file.write(&[b'x'; 99]);
        if !by_timer {
            file.write(b"y");
        }
        readable(&pipe);
        let mut got = [0; 99];
        pipe.read_exact(&mut got).unwrap();
        assert_eq!(got, [b'x'; 99]);
        assert_eq!(setup.stat("flushed_by_timer") > 0, by_timer);
    }
}

#[test]
fn rotation_is_noticed() {
    let setup = setup(|_| {});
    let file = setup.open("log");
    file.write(b"first\n");
    setup.files.flush();
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    file.write(b"second\n");
    setup.files.flush();
    fs::remove_file(setup.path("log")).unwrap();
    fs::write(setup.path("log"), "someone else made it\n").unwrap();
    file.write(b"third\n");
    setup.files.flush();
    assert_eq!(text(setup.path("log.1")), "first\n");
    assert_eq!(text(setup.path("log")), "someone else made it\nthird\n");
    assert_eq!(setup.stat("reopen_failed"), 0);
}

#[test]
fn reopen_on_request_makes_the_file_without_a_line() {
    let setup = setup(|_| {});
    let _file = setup.open("log");
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    setup.files.reopen();
    setup.files.flush();
    assert_eq!(text(setup.path("log")), "");
}

#[test]
fn failed_reopen_goes_on_with_the_old_file() {
    let setup = setup(|_| {});
    let file = setup.open("log");
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    fs::create_dir(setup.path("log")).unwrap();
    file.write(b"kept\n");
    setup.files.flush();
    assert_eq!(text(setup.path("log.1")), "kept\n");
    assert_eq!(setup.stat("reopen_failed"), 1);
    fs::remove_dir(setup.path("log")).unwrap();
    file.write(b"back\n");
    setup.files.flush();
    assert_eq!(text(setup.path("log")), "back\n");
}

#[test]
fn full_disk_costs_lines_only() {
    let setup = setup(|_| {});
    let file = setup.files.open(&LogDestination::Path("/dev/full".into())).unwrap();
    for round in 1..=3 {
        file.write(b"lost\n");
        setup.files.flush();
        assert_eq!((setup.stat("write_failed"), setup.stat("write_total_buffered")), (round, 0));
    }
    assert_eq!(setup.stat("write_completed"), 0);
}

#[test]
fn files_that_cannot_be_opened_are_refused() {
    let setup = setup(|_| {});
    fs::create_dir(setup.path("directory")).unwrap();
    for (path, why) in [
        (setup.path("no/such/file"), "': No such file or directory (its directory does not exist)"),
        (setup.path("directory"), "': Is a directory"),
        (String::new(), "': No such file or directory (its directory does not exist)"),
    ] {
        let error = setup.files.open(&LogDestination::Path(path.clone())).unwrap_err();
        assert_eq!(error.to_string(), format!("unable to open file '{path}{why}"));
    }
}

#[test]
fn reader_that_never_reads_costs_lines_but_no_memory_and_no_time() {
    let setup = setup(|options| (options.min_flush, options.max_buffered) = (4096, 60_000));
    let mut pipe = setup.fifo("pipe");
    let file = setup.open("pipe");
    let line = [[b'z'; 99].as_slice(), b"\n"].concat();
    // Far more than a pipe and the buffers hold.
    for _ in 0..20_000 {
        file.write(&line);
    }
    let (written, dropped) = (setup.stat("write_buffered"), setup.stat("write_failed"));
    assert_eq!(written + dropped, 20_000);
    assert!(dropped > 0 && setup.stat("write_total_buffered") <= 60_000);
    // Once somebody reads, whole lines arrive, and everything that was not dropped.
    let mut got = Vec::new();
    while got.len() < written as usize * 100 {
        readable(&pipe);
        let mut piece = [0; 8192];
        let count = pipe.read(&mut piece).unwrap();
        got.extend_from_slice(&piece[..count]);
    }
    assert!(got.chunks(100).all(|chunk| chunk == line));
}

#[test]
fn pipe_without_reader_and_with_a_new_one() {
    let setup = setup(|_| {});
    let pipe = setup.fifo("pipe");
    let file = setup.open("pipe");
    drop(pipe);
    file.write(b"nobody reads\n");
    setup.files.flush();
    assert_eq!(setup.stat("write_failed"), 1);
    // The next flush opens the pipe for reading too, so that a reader may come later.
    file.write(b"somebody will\n");
    setup.files.flush();
    let mut reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(setup.path("pipe")).unwrap();
    let mut got = [0; 64];
    let count = reader.read(&mut got).unwrap();
    assert_eq!(&got[..count], b"somebody will\n");
}

#[test]
fn unused_file_is_closed_by_the_thread() {
    let setup = setup(|options| options.flush_interval = Duration::from_millis(1));
    let mut pipe = setup.fifo("pipe");
    setup.open("pipe").write(b"bye");
    // End of file: the writing end was closed.
    let mut got = Vec::new();
    while got != b"bye" {
        readable(&pipe);
        pipe.read_to_end(&mut got)
            .or_else(|e| if e.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(e) })
            .unwrap();
    }
    let mut waiting = [libc::pollfd { fd: pipe.as_raw_fd(), events: 0, revents: 0 }];
    assert_eq!(sys::poll(&mut waiting, Some(Duration::from_secs(30))).unwrap(), 1);
    assert_ne!(waiting[0].revents & libc::POLLHUP, 0);
}

#[test]
fn destinations() {
    let check = |path: &str, expected: LogDestination| assert_eq!(LogDestination::from_path(path), expected);
    check("/dev/stdout", LogDestination::Stdout);
    check("/proc/self/fd/2", LogDestination::Stderr);
    check("/dev/null", LogDestination::Path("/dev/null".into()));
    let setup = setup(|_| {});
    for destination in [LogDestination::Stdout, LogDestination::Stderr, LogDestination::Path("/dev/null".into())] {
        let file = setup.files.open(&destination).unwrap();
        assert_eq!(file.destination(), &destination);
        file.write(b"");
    }
    setup.files.flush();
}
