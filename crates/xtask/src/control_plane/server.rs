//! The management server as a child process: built from tests/control-plane, told what to serve, and heard.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::PATIENCE;
use serde_json::{Value, json};

/// How long the proxy may take to find a server that was away: its back-off grows to 30 s.
const RETURN: Duration = Duration::from_secs(60);

/// What the server has said.
#[derive(Default)]
struct Heard {
    address: Option<SocketAddr>,
    /// How many snapshots it has served or refused.
    answered: usize,
    acknowledged: HashSet<(String, String)>,
    waiting: Option<usize>,
    wrong: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, line: &str) {
        let mut heard = self.heard();
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["listening", address] => heard.address = address.parse().ok(),
            ["set"] => heard.answered += 1,
            ["ack", kind, version] => {
                heard.acknowledged.insert((kind.to_owned(), version.to_owned()));
            }
            ["waiting", count] => heard.waiting = count.parse().ok(),
            ["failed", ..] => {
                heard.answered += 1;
                heard.wrong.push(line.to_owned());
            }
            _ => heard.wrong.push(line.to_owned()),
        }
        drop(heard);
        self.changed.notify_all();
    }

    /// Waits until `done`; what the server said that is wrong is an error, too.
    fn await_that(
        &self,
        patience: Duration,
        what: &str,
        mut done: impl FnMut(&mut Heard) -> bool,
    ) -> Result<(), String> {
        let mut heard = self.heard();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(wrong) = heard.wrong.first() {
                return Err(wrong.clone());
            }
            if done(&mut heard) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || heard.ended {
                return Err(format!("the management server: no {what} in time"));
            }
            heard = self.changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running management server, killed when dropped.
pub struct Server {
    child: Child,
    input: ChildStdin,
    ear: Arc<Ear>,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the server into `target`.
pub fn build(target: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/control-plane");
    let directory = target.join("go/control-plane");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let directory = directory.canonicalize().map_err(|error| error.to_string())?;
    let binary = directory.join("control-plane");
    let status = Command::new("go").arg("build").arg("-o").arg(&binary).arg(".").current_dir(source).status();
    match status {
        Ok(status) if status.success() => Ok(binary),
        Ok(status) => Err(format!("go build ended with {status}")),
        Err(error) => Err(format!("go build: {error}; is Go installed?")),
    }
}

impl Server {
    /// Starts it at `address`, whose port may be 0.
    pub fn start(binary: &Path, address: SocketAddr, ads: bool) -> Result<Self, String> {
        let mut child = Command::new(binary)
            .arg(format!("--address={address}"))
            .arg(format!("--ads={ads}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the management server has no pipes".into());
        };
        let ear = Arc::new(Ear::default());
        let hears = Arc::clone(&ear);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                hears.hear(&line);
            }
            hears.heard().ended = true;
            hears.changed.notify_all();
        });
        let mut server = Self { child, input, ear, address };
        let mut found = None;
        server.ear.await_that(PATIENCE, "address", |heard| {
            found = heard.address;
            found.is_some()
        })?;
        server.address = found.unwrap_or(address);
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn tell(&mut self, command: &Value) -> Result<(), String> {
        writeln!(self.input, "{command}").map_err(|error| format!("the management server: {error}"))
    }

    /// Serves this snapshot from now on.
    pub fn serve(&mut self, snapshot: &Value) -> Result<(), String> {
        let before = self.ear.heard().answered;
        self.tell(snapshot)?;
        self.ear.await_that(PATIENCE, "word of the snapshot", |heard| heard.answered > before)
    }

    /// Waits until a proxy has accepted this version of a type.
    pub fn await_ack(&self, kind: &str, version: u64) -> Result<(), String> {
        let wanted = (kind.to_owned(), version.to_string());
        let what = format!("ACK of {kind} {version}");
        self.ear.await_that(RETURN, &what, |heard| heard.acknowledged.contains(&wanted))
    }

    /// Waits until all that it has sent is acknowledged.
    pub fn await_quiet(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.ear.heard().waiting = None;
            self.tell(&json!({"streams": true}))?;
            let mut count = 1;
            self.ear.await_that(PATIENCE, "count of answers", |heard| {
                count = heard.waiting.unwrap_or(1);
                heard.waiting.is_some()
            })?;
            if count == 0 {
                return Ok(());
            }
        }
        Err("answers of the management server stay without ACK".into())
    }
}
