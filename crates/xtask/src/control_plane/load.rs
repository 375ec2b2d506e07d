//! The load: clients on kept connections and on new ones, that count what is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nuncio_testkit::client::{Client, Response};

/// Between two requests of a client, so that the load does not take the whole machine.
const PACE: Duration = Duration::from_millis(2);
/// How many losses are told in full.
const TOLD: usize = 10;

/// What has become of the requests.
#[derive(Default)]
pub struct Tally {
    /// Answered with status 200.
    pub answered: AtomicU64,
    /// Sent on a kept connection that the proxy closed meanwhile without a byte, and then sent again, as every client does.
    pub raced: AtomicU64,
    /// Not sent while there was no proxy.
    pub refused: AtomicU64,
    /// Sent on a new connection that nobody took while there was no proxy.
    pub cut: AtomicU64,
    /// Lost.
    pub lost: AtomicU64,
    told: Mutex<Vec<String>>,
    /// Whether the proxy is being stopped and started anew: nobody may listen.
    pub away: AtomicBool,
    stop: AtomicBool,
}

impl Tally {
    fn lose(&self, what: String) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(what);
        }
    }
}

/// Running clients.
pub struct Load {
    pub tally: Arc<Tally>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts two clients that keep their connections and one that does not.
    pub fn start(address: SocketAddr, paths: u64) -> Self {
        let tally = Arc::new(Tally::default());
        let threads = [true, true, false].map(|keep| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || run(address, keep, paths, &tally))
        });
        Self { tally, threads: Vec::from(threads) }
    }

    /// Waits until there are `count` more answers.
    pub fn await_more(&self, count: u64) -> Result<(), String> {
        let wanted = self.tally.answered.load(Ordering::Relaxed) + count;
        // Each wait is a request's; a load that is served needs a few of them.
        for _ in 0..10_000 {
            if self.tally.answered.load(Ordering::Relaxed) >= wanted {
                return Ok(());
            }
            thread::sleep(PACE);
        }
        Err("the load is not answered any more".into())
    }

    /// Ends the load: what was lost, in words.
    pub fn finish(self) -> (Arc<Tally>, Vec<String>) {
        self.tally.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.tally.lose("a client panicked".into());
            }
        }
        let told = std::mem::take(&mut *self.tally.told.lock().unwrap_or_else(PoisonError::into_inner));
        (self.tally, told)
    }
}

/// Sends one GET.
pub fn get(client: &mut Client, path: &str) -> Response {
    // A peer that closes while it is sent to may have answered all the same.
    let _ = client.send(format!("GET {path} HTTP/1.1\r\nhost: fleet\r\n\r\n").as_bytes());
    client.response(false)
}

fn run(address: SocketAddr, keep: bool, paths: u64, tally: &Tally) {
    let mut kept: Option<Client> = None;
    let mut number = 0;
    while !tally.stop.load(Ordering::Relaxed) {
        thread::sleep(PACE);
        number += 1;
        let away = tally.away.load(Ordering::SeqCst);
        let reused = kept.is_some();
        let mut client = match kept.take().map_or_else(|| Client::connect(address), Ok) {
            Ok(client) => client,
            Err(_) if away || tally.away.load(Ordering::SeqCst) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(error) => {
                tally.lose(format!("connecting: {error}"));
                continue;
            }
        };
        let response = get(&mut client, &format!("/r{}", number % paths));
        let silent = response.head.is_none() && response.body.data.is_empty();
        if response.status() == 200 {
            tally.answered.fetch_add(1, Ordering::Relaxed);
            let closes = response.head.as_ref().is_some_and(|head| head.get("connection") == Some("close"));
            kept = (keep && !closes).then_some(client);
        } else if silent && reused {
            tally.raced.fetch_add(1, Ordering::Relaxed);
        } else if silent && (away || tally.away.load(Ordering::SeqCst)) {
            tally.cut.fetch_add(1, Ordering::Relaxed);
        } else {
            tally.lose(format!("kept: {reused}: {response:?}"));
        }
    }
}
