//! `--supervise`: a process that runs the proxy as its child, and replaces it by hot restart.
//!
//! Owns: which epochs run, when the next one is started, what ends the whole. `link` is the child's end of the pipe to the
//! supervisor, `arguments` the command line of an epoch. Does not own: what the processes take over from one another
//! ([`crate::hot_restart`]).
//!
//! - SIGHUP, or a file in the place of the binary: the next epoch is started, with the binary and configuration of now.
//! - SIGTERM, SIGINT: the newest epoch drains; when it has ended, the ones before it are ended.
//! - SIGUSR1 is passed on to all.
//! - An epoch that ends before it serves changes nothing, unless it is the first.
//! - When the newest epoch ends by itself, the others are ended, and the supervisor ends with its exit code: what runs the
//!   supervisor (systemd, a container) decides whether to start it anew.
//!
//! *Invariant*: no epoch outlives the supervisor: each ends when its pipe to the supervisor is closed.
//! *Invariant*: there is one epoch that starts, at most.

mod arguments;
mod link;

use crate::options::Options;
use arguments::Arguments;
use nuncio_io::process::{Signal, send_signal};
use nuncio_io::watch::Watcher;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) use link::attach;

/// Tells a child that its standard input is the pipe to the supervisor.
const VARIABLE: &str = "NUNCIO_SUPERVISED";

/// What the supervisor reacts to.
#[derive(Debug)]
enum Event {
    /// SIGTERM or SIGINT
    Terminate,
    /// SIGUSR1
    Reopen,
    /// SIGHUP, or another binary. The text says which.
    Restart(&'static str),
    /// SIGCHLD
    ChildEnded,
    /// An epoch serves, under this base id.
    Live { epoch: u32, base_id: u32 },
}

/// How far an epoch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Live,
    /// A newer one serves.
    Draining,
}

struct Epoch {
    number: u32,
    stage: Stage,
    process: Child,
}

struct Supervisor {
    binary: PathBuf,
    arguments: Arguments,
    events: UnboundedSender<Event>,
    epochs: Vec<Epoch>,
    /// Another restart was asked for while an epoch started.
    again: bool,
    /// Everything is to end, with this code once it is known.
    ending: bool,
    code: Option<u8>,
}

/// Runs the supervisor until its last child has ended.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let arguments = Arguments::new(options, std::env::args_os().skip(1))?;
    let binary = std::env::current_exe().map_err(|error| format!("--supervise: the binary is not known: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| format!("--supervise: the event loop could not be made: {error}"))?;
    runtime.block_on(async {
        let (events, received) = unbounded_channel();
        start_signals(&events)?;
        watch_binary(&binary, events.clone());
        let supervisor =
            Supervisor { binary, arguments, events, epochs: Vec::new(), again: false, ending: false, code: None };
        Ok(supervisor.serve(received).await)
    })
}

fn start_signals(events: &UnboundedSender<Event>) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let table: [(SignalKind, fn() -> Event); 5] = [
        (SignalKind::terminate(), || Event::Terminate),
        (SignalKind::interrupt(), || Event::Terminate),
        (SignalKind::hangup(), || Event::Restart("SIGHUP")),
        (SignalKind::user_defined1(), || Event::Reopen),
        (SignalKind::child(), || Event::ChildEnded),
    ];
    for (kind, event) in table {
        let mut signals = signal(kind).map_err(|error| format!("--supervise: signals can't be received: {error}"))?;
        let events = events.clone();
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() {
                // The loop ends only with the process.
                let _ = events.send(event());
            }
        });
    }
    Ok(())
}

/// Restarts when another file stands in the binary's place.
fn watch_binary(binary: &Path, events: UnboundedSender<Event>) {
    let watcher = Watcher::new().and_then(|mut watcher| watcher.add(binary).map(|_| watcher));
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(target: "main", "supervise: {} is not watched: {error}", binary.display());
            return;
        }
    };
    let binary = binary.to_owned();
    tokio::task::spawn_local(async move {
        while watcher.changed().await.is_ok() {
            // While it is gone there is nothing to start.
            if binary.exists() {
                let _ = events.send(Event::Restart("the binary was replaced"));
            }
        }
    });
}

impl Supervisor {
    async fn serve(mut self, mut events: UnboundedReceiver<Event>) -> ExitCode {
        self.start();
        while !self.epochs.is_empty() {
            let Some(event) = events.recv().await else { break };
            match event {
                Event::Terminate => self.terminate(),
                Event::Reopen => self.signal(Signal::User1, |_| true),
                Event::Restart(why) => {
                    tracing::info!(target: "main", "supervise: {why}: restarting");
                    self.restart();
                }
                Event::ChildEnded => self.reap(),
                Event::Live { epoch, base_id } => self.live(epoch, base_id),
            }
        }
        let code = self.code.unwrap_or(0);
        tracing::info!(target: "main", "supervise: exiting with code {code}");
        ExitCode::from(code)
    }

    /// Starts the next epoch, or does so when the one that starts has come so far.
    fn restart(&mut self) {
        if self.ending {
            return;
        }
        self.again = self.epochs.iter().any(|epoch| epoch.stage == Stage::Starting);
        if !self.again {
            self.start();
        }
    }

    fn start(&mut self) {
        let number = self.newest().map_or(0, |newest| newest.number + 1);
        match self.spawn(number) {
            Ok(process) => {
                tracing::info!(target: "main", "supervise: epoch {number} is process {}", process.id());
                self.epochs.push(Epoch { number, stage: Stage::Starting, process });
            }
            Err(error) => {
                let binary = self.binary.display();
                tracing::error!(target: "main", "supervise: {binary} can't be started: {error}");
                self.code = Some(1);
            }
        }
    }

    fn spawn(&self, number: u32) -> std::io::Result<Child> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = tokio::net::UnixStream::from_std(ours)?;
        let process = Command::new(&self.binary)
            .args(self.arguments.of_epoch(number))
            .env(VARIABLE, "1")
            .stdin(OwnedFd::from(theirs))
            // A terminal's SIGINT is for the supervisor alone, which passes it on once.
            .process_group(0)
            .spawn()?;
        tokio::task::spawn_local(listen(ours, number, self.events.clone()));
        Ok(process)
    }

    /// The epoch that serves.
    fn newest(&self) -> Option<&Epoch> {
        self.epochs.iter().rev().find(|epoch| epoch.stage == Stage::Live)
    }

    fn live(&mut self, number: u32, base_id: u32) {
        let is_starting = |epoch: &&mut Epoch| epoch.number == number && epoch.stage == Stage::Starting;
        if !self.epochs.iter_mut().any(|epoch| is_starting(&epoch)) {
            return;
        }
        for epoch in &mut self.epochs {
            epoch.stage = if epoch.number == number { Stage::Live } else { Stage::Draining };
        }
        self.arguments.base_id = Some(base_id);
        tracing::info!(target: "main", "supervise: epoch {number} serves");
        // What the one before it ended with, if it did, does not matter any more.
        self.code = None;
        if std::mem::take(&mut self.again) {
            self.restart();
        }
    }

    fn terminate(&mut self) {
        // Told again, all end at once.
        let all = std::mem::replace(&mut self.ending, true);
        let none_lives = self.newest().is_none();
        tracing::info!(target: "main", "supervise: ending");
        self.signal(Signal::Terminate, |stage| all || none_lives || stage != Stage::Draining);
    }

    fn signal(&self, signal: Signal, wanted: impl Fn(Stage) -> bool) {
        for epoch in self.epochs.iter().filter(|epoch| wanted(epoch.stage)) {
            if let Err(error) = send_signal(epoch.process.id(), signal) {
                tracing::warn!(target: "main", "supervise: epoch {}: {signal:?}: {error}", epoch.number);
            }
        }
    }

    /// Takes note of children that have ended.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        self.epochs.retain_mut(|epoch| match epoch.process.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                ended.push((epoch.number, epoch.stage, status));
                false
            }
            Err(error) => {
                tracing::error!(target: "main", "supervise: epoch {} is lost: {error}", epoch.number);
                false
            }
        });
        for (number, stage, status) in ended {
            self.ended(number, stage, status);
        }
    }

    fn ended(&mut self, number: u32, stage: Stage, status: ExitStatus) {
        let starts = self.epochs.iter().any(|epoch| epoch.stage == Stage::Starting);
        match stage {
            Stage::Draining => tracing::info!(target: "main", "supervise: epoch {number} ended: {status}"),
            Stage::Starting if self.newest().is_some() => {
                if !self.ending {
                    tracing::error!(
                        target: "main",
                        "supervise: epoch {number} did not come to serve ({status}): the one before it goes on serving"
                    );
                }
                if std::mem::take(&mut self.again) {
                    self.restart();
                }
            }
            Stage::Live if starts && !self.ending => {
                tracing::error!(target: "main", "supervise: epoch {number} ended ({status}) while the next one starts");
                self.code = Some(code(status));
            }
            Stage::Starting | Stage::Live => {
                if self.ending {
                    tracing::info!(target: "main", "supervise: epoch {number} ended: {status}");
                } else {
                    tracing::error!(target: "main", "supervise: epoch {number} ended: {status}: ending with it");
                }
                self.code.get_or_insert(code(status));
                self.ending = true;
                self.signal(Signal::Terminate, |_| true);
            }
        }
    }
}

/// The exit code that stands for how a process ended, as a shell has it.
fn code(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
}

/// Passes on that an epoch serves. Keeps the pipe open: when it is closed, the epoch ends.
async fn listen(mut pipe: tokio::net::UnixStream, epoch: u32, events: UnboundedSender<Event>) {
    let mut text = Vec::new();
    let mut part = [0; 64];
    loop {
        match pipe.read(&mut part).await {
            Ok(count) if count > 0 && text.len() < part.len() => text.extend(&part[..count]),
            // It has ended, which SIGCHLD tells, or says more than there is to say.
            _ => return,
        }
        if let Some(base_id) = link::parse(&text) {
            text.clear();
            let _ = events.send(Event::Live { epoch, base_id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let check = |raw: i32, expected: u8| assert_eq!(code(ExitStatus::from_raw(raw)), expected, "{raw:#x}");
        check(0, 0);
        check(0x100, 1);
        check(0xff00, 255);
        check(9, 137);
        check(15, 143);
    }
}
