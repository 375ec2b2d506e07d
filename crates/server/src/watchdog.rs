//! The watchdog: a thread that sees when another does not come back to its event loop, and says what it was doing.
//!
//! Owns: noticing, logging, `*.watchdog_miss` and `*.watchdog_mega_miss`. Does not own: ending the process; nothing here does.

use crate::state::Server;
use nuncio_config::overload::{Watchdog as Limits, Watchdogs};
use nuncio_stats::Store;
use nuncio_stats::names::WatchdogStats;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One thread that is watched.
pub(crate) struct Watch {
    /// As Envoy calls it: `main_thread`, `worker_0`.
    name: String,
    limits: Limits,
    began: Instant,
    /// When the thread last came by, in ms since it began; 0 until it first did.
    touched: AtomicU64,
    /// The connection that the thread works on, or last did.
    doing: OnceLock<Arc<AtomicU64>>,
    /// Misses that are not in the statistics yet.
    missed: AtomicU64,
    mega_missed: AtomicU64,
}

impl Watch {
    fn new(name: String, limits: Limits) -> Arc<Watch> {
        Arc::new(Watch {
            name,
            limits,
            began: Instant::now(),
            touched: AtomicU64::new(0),
            doing: OnceLock::new(),
            missed: AtomicU64::new(0),
            mega_missed: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        (self.began.elapsed().as_millis() as u64).max(1)
    }

    fn interval(&self) -> Duration {
        (self.limits.miss.min(self.limits.mega_miss) / 2).max(Duration::from_millis(1))
    }

    fn touch(&self) {
        if let Some(doing) = self.doing.get() {
            doing.store(0, Relaxed);
        }
        self.touched.store(self.now(), Relaxed);
    }

    /// Looks whether the thread came by in time. `told` is what was said of it already.
    fn look(&self, now: u64, told: &mut Told) {
        let touched = self.touched.load(Relaxed);
        if touched == 0 || touched != told.touched {
            *told = Told { touched, ..Told::default() };
        }
        if touched == 0 {
            return;
        }
        let away = Duration::from_millis(now.saturating_sub(touched));
        if away > self.limits.miss && !told.missed {
            told.missed = true;
            self.missed.fetch_add(1, Relaxed);
            let doing = self.doing.get().map_or(0, |doing| doing.load(Relaxed));
            let (name, away) = (&self.name, away.as_millis());
            match doing {
                0 => tracing::warn!(target: "main", "{name} did not come back to its event loop for {away} ms"),
                id => tracing::warn!(
                    target: "main",
                    "{name} did not come back to its event loop for {away} ms: it was working on connection [C{id}]"
                ),
            }
        }
        if away > self.limits.mega_miss && !told.mega_missed {
            told.mega_missed = true;
            self.mega_missed.fetch_add(1, Relaxed);
            tracing::error!(target: "main", "{} is stuck: away for {} ms", self.name, away.as_millis());
        }
    }
}

/// What was said of a thread since it last came by.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    touched: u64,
    missed: bool,
    mega_missed: bool,
}

/// Comes by at intervals from now on, on this thread. `doing` is where the thread says which connection it works on.
pub(crate) fn attend(watch: Arc<Watch>, doing: Option<Arc<AtomicU64>>) {
    if let Some(doing) = doing {
        // Each thread attends once.
        let _ = watch.doing.set(doing);
    }
    tokio::task::spawn_local(async move {
        let mut turn = tokio::time::interval(watch.interval());
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            watch.touch();
        }
    });
}

/// All threads that are watched.
pub(crate) struct Watchdog {
    limits: Watchdogs,
    watches: Vec<Arc<Watch>>,
    stats: Vec<[WatchdogStats; 2]>,
    store: Arc<Store>,
}

impl Watchdog {
    /// Watches the main thread only.
    pub(crate) fn new(store: &Arc<Store>, limits: Watchdogs) -> Watchdog {
        let mut dog = Watchdog { limits, watches: Vec::new(), stats: Vec::new(), store: Arc::clone(store) };
        dog.add("main_thread".to_owned(), "main_thread", limits.main_thread);
        dog
    }

    /// Watches a worker too; its number from 0.
    pub(crate) fn worker(&mut self, number: usize) -> Arc<Watch> {
        self.add(format!("worker_{number}"), "workers", self.limits.workers)
    }

    fn add(&mut self, name: String, group: &str, limits: Limits) -> Arc<Watch> {
        let own = WatchdogStats::register(&self.store.scope(&format!("server.{name}"), &[]));
        let all = WatchdogStats::register(&self.store.scope(group, &[]));
        let watch = Watch::new(name, limits);
        self.watches.push(Arc::clone(&watch));
        self.stats.push([own, all]);
        watch
    }

    /// Starts watching; ends when what is returned is dropped. On the main thread.
    pub(crate) fn start(self, server: &Rc<Server>) -> std::io::Result<Watching> {
        if let Some(main) = self.watches.first() {
            attend(Arc::clone(main), None);
        }
        let over = Arc::new(AtomicBool::new(false));
        let interval = self.watches.iter().map(|watch| watch.interval()).min().unwrap_or(Duration::from_secs(1));
        let (watches, ends) = (self.watches.clone(), Arc::clone(&over));
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut told = vec![Told::default(); watches.len()];
            while !ends.load(Relaxed) {
                std::thread::park_timeout(interval);
                for (watch, told) in watches.iter().zip(&mut told) {
                    watch.look(watch.now(), told);
                }
            }
        })?;
        let server = Rc::downgrade(server);
        // Statistics of the main thread are its own to move.
        tokio::task::spawn_local(async move {
            let mut turn = tokio::time::interval(interval.max(Duration::from_millis(100)));
            while server.upgrade().is_some() {
                turn.tick().await;
                self.count();
            }
        });
        Ok(Watching { over, thread: Some(thread) })
    }

    fn count(&self) {
        for (watch, groups) in self.watches.iter().zip(&self.stats) {
            let (missed, mega_missed) = (watch.missed.swap(0, Relaxed), watch.mega_missed.swap(0, Relaxed));
            for stats in groups {
                stats.watchdog_miss().add(missed);
                stats.watchdog_mega_miss().add(mega_missed);
            }
        }
    }
}

/// The thread that watches.
pub(crate) struct Watching {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_away_is_told_of_once() {
        let watch = Watch::new("worker_0".to_owned(), Limits::default());
        let mut told = Told::default();
        let mut look = |touched: u64, now: u64| {
            watch.touched.store(touched, Relaxed);
            watch.look(now, &mut told);
            (watch.missed.load(Relaxed), watch.mega_missed.load(Relaxed))
        };
        assert_eq!(look(0, 9_999), (0, 0), "it did not start yet");
        assert_eq!(look(1_000, 1_200), (0, 0));
        assert_eq!(look(1_000, 1_201), (1, 0));
        assert_eq!(look(1_000, 1_900), (1, 0));
        assert_eq!(look(1_000, 2_001), (1, 1));
        assert_eq!(look(1_000, 9_001), (1, 1));
        assert_eq!(look(9_001, 9_100), (1, 1));
        assert_eq!(look(9_001, 9_202), (2, 1));
    }
}
