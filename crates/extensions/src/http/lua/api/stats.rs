//! Statistics that scripts make.

use super::Primitives;
use crate::http::lua::exchange::Parts;
use mlua::{Error, LuaString};
use nuncio_stats::{Counter, Gauge, Histogram, Unit};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::PoisonError;

/// Most statistics of the scripts of a filter: each stays in memory and in every scrape.
const MAX_STATS: usize = 1_000;

/// Most statistics whose handles a machine keeps.
const MAX_KEPT: usize = 4_000;

/// Longest name, bytes.
const MAX_NAME: usize = 256;

/// Units by the name that scripts give, and the kind that the Lua side passes on.
const UNITS: [(&str, &str, Unit); 6] = [
    ("ms", "histogram_ms", Unit::Milliseconds),
    ("milliseconds", "histogram_ms", Unit::Milliseconds),
    ("microseconds", "histogram_us", Unit::Microseconds),
    ("nanoseconds", "histogram", Unit::Unspecified),
    ("bytes", "histogram_bytes", Unit::Bytes),
    ("unspecified", "histogram", Unit::Unspecified),
];

/// The statistics that scripts used so far, by configuration, kind and name.
#[derive(Default)]
pub(in crate::http::lua) struct ScriptStats(RefCell<HashMap<StatKey, Stat>>);

/// Scope, prefix and name of a statistic.
type StatKey = (u64, Box<[u8]>, Box<[u8]>);

#[derive(Clone)]
enum Stat {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

type Arguments = (LuaString, LuaString, LuaString, Option<f64>);

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    let units = primitives.lua.create_table()?;
    for (name, kind, _) in UNITS {
        units.raw_set(name, kind)?;
    }
    primitives.table.raw_set("histogram_units", units)?;
    let shared = Rc::clone(primitives.shared);
    primitives.add("stat", move |_, parts, (kind, name, what, amount): Arguments| {
        let Some(stat) = shared.stats.find(parts, &kind.as_bytes(), &name.as_bytes()) else {
            return Ok((
                None,
                Some(format!(
                    "scripts of a filter may use {MAX_STATS} statistics with names of up to {MAX_NAME} bytes"
                )),
            ));
        };
        Ok((change(&stat, &what.as_bytes(), amount.unwrap_or(1.0) as u64), None))
    })
}

impl ScriptStats {
    fn find(&self, parts: &Parts, kind: &[u8], name: &[u8]) -> Option<Stat> {
        let config = parts.side.config.as_ref()?;
        let key = (config.id, kind.into(), name.into());
        let mut stats = self.0.try_borrow_mut().ok()?;
        if let Some(stat) = stats.get(&key) {
            return Some(stat.clone());
        }
        let mut names = config.stat_names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(name) {
            if names.len() >= MAX_STATS || name.len() > MAX_NAME {
                return None;
            }
            names.insert(name.into());
        }
        drop(names);
        if stats.len() >= MAX_KEPT {
            stats.clear();
        }
        let text = String::from_utf8_lossy(name);
        let stat = match kind {
            b"counter" => Stat::Counter(config.scope.dynamic_counter(&text)),
            b"gauge" => Stat::Gauge(config.scope.dynamic_gauge(&text)),
            _ => Stat::Histogram(config.scope.dynamic_histogram(&text, unit(kind))),
        };
        stats.insert(key, stat.clone());
        Some(stat)
    }
}

fn unit(kind: &[u8]) -> Unit {
    UNITS.iter().find(|(_, name, _)| name.as_bytes() == kind).map_or(Unit::Unspecified, |(_, _, unit)| *unit)
}

/// Does what a script asks for; the value, if that is what it asks for.
fn change(stat: &Stat, what: &[u8], amount: u64) -> Option<f64> {
    match (stat, what) {
        (Stat::Counter(counter), b"value") => return Some(counter.value() as f64),
        (Stat::Counter(counter), _) => counter.add(amount),
        (Stat::Gauge(gauge), b"value") => return Some(gauge.value() as f64),
        (Stat::Gauge(gauge), b"set") => gauge.set(amount),
        (Stat::Gauge(gauge), b"sub" | b"dec") => gauge.sub(amount),
        (Stat::Gauge(gauge), _) => gauge.add(amount),
        (Stat::Histogram(histogram), _) => histogram.record(amount),
    }
    None
}
