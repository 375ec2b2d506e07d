//! The gauges of when certificates expire: one of each name, also where several contexts have certificates of that name.
//! It tells the time of the first to expire. Cells of one name would be added up.

use nuncio_stats::Scope;
use nuncio_stats::names::CertificateStats;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A store of statistics, and a name in it.
type Key = (usize, String);

static GAUGES: Mutex<BTreeMap<Key, Weak<Gauge>>> = Mutex::new(BTreeMap::new());

struct Gauge {
    key: Key,
    stats: CertificateStats,
    /// When each of the certificates expires, seconds since 1970.
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    next: u64,
    of: BTreeMap<u64, u64>,
}

impl Gauge {
    /// The gauge in which `scope` stands for a certificate.
    fn of(scope: &Scope) -> Arc<Gauge> {
        let key = (scope.store_id(), scope.prefix().to_owned());
        let mut gauges = lock(&GAUGES);
        if let Some(gauge) = gauges.get(&key).and_then(Weak::upgrade) {
            return gauge;
        }
        let stats = CertificateStats::register(scope);
        let gauge = Arc::new(Gauge { key: key.clone(), stats, times: Mutex::default() });
        gauges.insert(key, Arc::downgrade(&gauge));
        gauge
    }

    fn change(&self, change: impl FnOnce(&mut Times)) {
        let mut times = lock(&self.times);
        change(&mut times);
        self.stats.expiration_unix_time_seconds().set(times.of.values().min().copied().unwrap_or(0));
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        let mut gauges = lock(&GAUGES);
        if gauges.get(&self.key).is_some_and(|gauge| gauge.strong_count() == 0) {
            gauges.remove(&self.key);
        }
    }
}

/// A certificate's part in the gauge of its name, for as long as this is kept.
pub(super) struct Expiry {
    gauge: Arc<Gauge>,
    number: u64,
}

impl Expiry {
    /// A certificate that `scope` stands for expires at that time, in seconds since 1970.
    pub(super) fn note(scope: &Scope, at: u64) -> Expiry {
        let gauge = Gauge::of(scope);
        let mut number = 0;
        gauge.change(|times| {
            number = times.next;
            times.next += 1;
            times.of.insert(number, at);
        });
        Expiry { gauge, number }
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.gauge.change(|times| {
            times.of.remove(&self.number);
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_stats::Store;

    #[test]
    fn a_name_tells_the_first_of_its_certificates() {
        let store = Store::new(1);
        let scope = store.scope("listener.a.ssl.certificate.one", &[]);
        let shown = || Gauge::of(&scope).stats.expiration_unix_time_seconds().value();
        let late = Expiry::note(&scope, 200);
        let early = Expiry::note(&scope, 100);
        assert_eq!(shown(), 100);
        drop(early);
        assert_eq!(shown(), 200);
        let renewed = Expiry::note(&scope, 300);
        drop(late);
        assert_eq!(shown(), 300);
        drop(renewed);
        assert!(!lock(&GAUGES).contains_key(&(scope.store_id(), scope.prefix().to_owned())));
    }

    #[test]
    fn stores_do_not_share_gauges() {
        let (one, two) = (Store::new(1), Store::new(1));
        let _first = Expiry::note(&one.scope("a", &[]), 1);
        let _second = Expiry::note(&two.scope("a", &[]), 2);
        assert_eq!(Gauge::of(&two.scope("a", &[])).stats.expiration_unix_time_seconds().value(), 2);
    }
}
