//! Running a proxy as a child process: start it, wait until it serves, ask its admin endpoint, and end it by its handle.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
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
        let address_path = dir.join("admin-address");
        let stderr_path = dir.join("stderr");
        let stderr = File::create(&stderr_path)?;
        let child = Command::new(&self.binary)
            .arg("-c")
            .arg(config)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"])
            .args(["--file-flush-interval-msec", "10", "--drain-time-s", "1"])
            .arg("--admin-address-path")
            .arg(&address_path)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(stderr.try_clone()?)
            .stderr(stderr)
            .spawn()?;
        let mut proxy = Proxy { child, admin: None, stderr_path };
        proxy.await_ready(&address_path)?;
        Ok(proxy)
    }

    /// Runs `--mode validate` on `config`.
    pub fn validate(&self, config: &Path) -> io::Result<Verdict> {
        let output = Command::new(&self.binary)
            .arg("-c")
            .arg(config)
            .args(["--mode", "validate", "--disable-hot-restart", "--log-level", "warn"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Verdict { accepted: output.status.success(), output: String::from_utf8_lossy(&text).into_owned() })
    }
}

/// A running proxy, killed when dropped.
pub struct Proxy {
    child: Child,
    admin: Option<SocketAddr>,
    stderr_path: PathBuf,
}

impl Proxy {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
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

    fn await_ready(&mut self, address_path: &Path) -> io::Result<()> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status} at start:\n{}", self.last_words())));
            }
            if self.admin.is_none() {
                self.admin = std::fs::read_to_string(address_path).ok().and_then(|text| text.trim().parse().ok());
            }
            if self.admin.is_some() && self.admin("GET", "/ready").is_ok_and(|response| response.status() == 200) {
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
