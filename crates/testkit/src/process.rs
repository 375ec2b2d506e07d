//! Running a proxy as a child process: start it, wait until it serves, ask its admin endpoint, and end it by its handle.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::client::{Client, Response};
use crate::stats::{self, Values};

const POLL: Duration = Duration::from_millis(5);

/// A proxy to run: Envoy, or Nuncio, which takes the same flags.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub binary: PathBuf,
    /// Flags in addition to those that [`Program::start`] and [`Program::validate`] set.
    pub flags: Vec<String>,
}

/// What `--mode validate` answered.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether the configuration was accepted.
    pub accepted: bool,
    /// Standard output and error together.
    pub output: String,
}

impl Program {
    /// Starts the proxy with `config` and waits until `/ready` answers 200. Its output goes to `stderr` in `dir`.
    pub fn start(&self, config: &Path, dir: &Path) -> io::Result<Proxy> {
        let config = config.to_string_lossy();
        let mut args = vec!["-c", &config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
        args.extend(["--file-flush-interval-msec", "10", "--drain-time-s", "1"]);
        args.extend(self.flags.iter().map(String::as_str));
        let mut proxy = Self { binary: self.binary.clone(), flags: Vec::new() }.spawn(&args, dir)?;
        proxy.await_ready()?;
        Ok(proxy)
    }

    /// Starts the proxy with [`Program::flags`], `args` and `--admin-address-path`, and waits for nothing. Its output goes
    /// to `stderr` in `dir`.
    pub fn spawn(&self, args: &[&str], dir: &Path) -> io::Result<Proxy> {
        let address_path = dir.join("admin-address");
        // What a process before this one left.
        let _ = std::fs::remove_file(&address_path);
        let stderr_path = dir.join("stderr");
        let stderr = File::create(&stderr_path)?;
        let child = Command::new(&self.binary)
            .args(&self.flags)
            .args(args)
            .arg("--admin-address-path")
            .arg(&address_path)
            .stdin(Stdio::null())
            .stdout(stderr.try_clone()?)
            .stderr(stderr)
            .spawn()?;
        Ok(Proxy { child, admin: None, address_path, stderr_path })
    }

    /// Runs the proxy with [`Program::flags`] and `args` until it ends, which it is expected to do by itself.
    pub fn output(&self, args: &[&str]) -> io::Result<Output> {
        Command::new(&self.binary).args(&self.flags).args(args).stdin(Stdio::null()).output()
    }

    /// Runs `--mode validate` on `config`.
    pub fn validate(&self, config: &Path) -> io::Result<Verdict> {
        let config = config.to_string_lossy();
        let output =
            self.output(&["-c", &config, "--mode", "validate", "--disable-hot-restart", "--log-level", "warn"])?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Verdict { accepted: output.status.success(), output: String::from_utf8_lossy(&text).into_owned() })
    }
}

/// A signal to send to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGKILL.
    Kill,
}

/// A running proxy, killed when dropped.
pub struct Proxy {
    child: Child,
    admin: Option<SocketAddr>,
    address_path: PathBuf,
    stderr_path: PathBuf,
}

impl Proxy {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Hangup => libc::SIGHUP,
            Signal::User1 => libc::SIGUSR1,
            Signal::Kill => libc::SIGKILL,
        };
        let id = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: kill takes no pointers. The child was not waited for unless it ended, and then its handle keeps the id
        // from being given to somebody else until it is dropped.
        #[allow(unsafe_code)]
        let result = unsafe { libc::kill(id, number) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Lets the process open no further file descriptor. Those that are open stay.
    pub fn exhaust_files(&self) -> io::Result<()> {
        // A descriptor that is being closed at this moment would leave room for one: all must be in use for a while.
        let (mut limit, mut same) = (0, 0);
        while same < 10 {
            let free = self.lowest_free_file()?;
            same = if free == limit { same + 1 } else { 0 };
            limit = free;
            self.limit_files(limit)?;
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn lowest_free_file(&self) -> io::Result<u64> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.id()))?.flatten();
        let open: HashSet<u64> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        Ok((0..).find(|number| !open.contains(number)).unwrap_or(0))
    }

    /// Lets the process open only descriptors below `limit` from now on. Those that are open stay.
    pub fn limit_files(&self, limit: u64) -> io::Result<()> {
        let id = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits are asked for only, and are written to a live value.
        #[allow(unsafe_code)]
        let read = unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limits) };
        limits.rlim_cur = limit.min(limits.rlim_max);
        // SAFETY: the new limits point to a live value, and no old ones are asked for.
        #[allow(unsafe_code)]
        let set = unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, &raw const limits, std::ptr::null_mut()) };
        if read == 0 && set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The memory that is resident, in bytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        kib.map(|kib: u64| kib * 1024).ok_or_else(|| io::Error::other("the process has no VmRSS"))
    }

    /// Whether the admin endpoint has said where it listens.
    pub fn find_admin(&mut self) -> bool {
        if self.admin.is_none() {
            self.admin = std::fs::read_to_string(&self.address_path).ok().and_then(|text| text.trim().parse().ok());
        }
        self.admin.is_some()
    }

    /// Where the admin endpoint listens, once [`Proxy::find_admin`] has found it.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address of a listener by its name, as `/listeners` tells it.
    pub fn listener(&self, name: &str) -> io::Result<SocketAddr> {
        let listed = self.admin_text("/listeners")?;
        let address = |line: &str| line.strip_prefix(name)?.strip_prefix("::")?.trim().parse().ok();
        listed.lines().find_map(address).ok_or_else(|| io::Error::other(format!("no listener {name}:\n{listed}")))
    }

    /// Asks `done` again and again until it says yes. `false` when it did not in time.
    pub fn await_that(&self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + 2 * PATIENCE;
        while Instant::now() < deadline {
            if done(self) {
                return true;
            }
            thread::sleep(POLL);
        }
        false
    }

    /// What the proxy has written to its standard output and error.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.stderr_path).unwrap_or_default()
    }

    /// The end of [`Proxy::output`], for error messages.
    pub fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(4)..].join("\n")
    }

    /// Sends one request to the admin endpoint, over a connection of its own.
    pub fn admin(&self, method: &str, target: &str) -> io::Result<Response> {
        let address = self.admin.ok_or_else(|| io::Error::other("the proxy has no admin address"))?;
        let mut client = Client::connect(address)?;
        let length = if method == "GET" { "" } else { "content-length: 0\r\n" };
        client.send(format!("{method} {target} HTTP/1.1\r\nhost: admin\r\n{length}\r\n").as_bytes())?;
        Ok(client.response(method == "HEAD"))
    }

    /// A GET of the admin endpoint, its body as text.
    pub fn admin_text(&self, target: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.admin("GET", target)?.body.data).into_owned())
    }

    /// All counters.
    pub fn counters(&self) -> io::Result<Values> {
        Ok(stats::parse(&self.admin_text("/stats?type=Counters")?))
    }

    /// Waits until the process ends by itself; `None` when it did not in time.
    pub fn await_exit(&mut self) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Waits until `/ready` answers 200. It is an error when the process ends, or is not ready in time.
    pub fn await_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status} at start:\n{}", self.last_words())));
            }
            if self.find_admin() && self.admin("GET", "/ready").is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(io::Error::other(format!("it did not become ready:\n{}", self.last_words())))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing left to do about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
