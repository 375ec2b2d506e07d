//! Counters by HTTP response code. Owns the table from code to cell.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use std::sync::atomic::Ordering::Relaxed;

use crate::block::{self, Line};
use crate::group::Value;
use crate::scope::{Scope, ScopeInner};
use crate::store::StoreInner;
use crate::worker::worker;

/// The lowest code with a counter of its own.
const FIRST_CODE: u16 = 100;
const CODES: usize = 500;
/// Cells of the line that every block has: five classes, then these two.
const COMPLETED: usize = 5;
const UNKNOWN: usize = 6;

/// `upstream_rq_completed`, `upstream_rq_5xx`, `upstream_rq_503`: each shown once it was used.
///
/// Memory: a pointer until the first response; then 1 KiB, and 128 bytes for each worker as long as no more
/// than eight different codes are seen.
#[derive(Clone)]
pub struct CodeCounters {
    codes: Arc<Codes>,
}

pub(crate) struct Codes {
    scope: Arc<ScopeInner>,
    /// `upstream_rq`
    name: &'static str,
    state: OnceLock<Box<State>>,
    entry: u32,
}

struct State {
    /// For each code the number of its cell plus one; 0 when the code was not seen.
    cell_of: [AtomicU16; CODES],
    seen: Mutex<Vec<u16>>,
    slots: Box<[OnceLock<Box<CodeBlock>>]>,
    /// Sums when the counters were last reset.
    reset: Mutex<Vec<(CodeStat, u64)>>,
}

/// The cells of one worker: classes, the first eight codes, and the rest.
#[derive(Default)]
struct CodeBlock {
    classes: Line,
    first: Line,
    rest: OnceLock<Box<[OnceLock<Box<Line>>]>>,
}

/// One of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeStat {
    Code(u16),
    Class(u16),
    Completed,
    Unknown,
}

impl CodeCounters {
    /// Counters `<scope>.<name>_<code>`; `name` is `upstream_rq` in Envoy.
    pub(crate) fn register(scope: &Scope, name: &'static str) -> Self {
        let scope = scope.inner.clone();
        let codes = StoreInner::register_codes(&scope.store, |entry| Codes {
            scope: scope.clone(),
            name,
            state: OnceLock::new(),
            entry,
        });
        Self { codes }
    }

    /// Counts a response with this status: `completed`, its class, and the code itself (`unknown` when it is not within
    /// 100 to 599).
    #[inline]
    pub fn charge(&self, status: u16) {
        self.codes.charge(status);
    }
}

impl fmt::Debug for CodeCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCounters")
            .field("prefix", &self.codes.scope.prefix)
            .field("name", &self.codes.name)
            .finish()
    }
}

impl CodeBlock {
    fn line(&self, cell: usize) -> Option<&Line> {
        if cell < 8 {
            return Some(&self.first);
        }
        let rest = self.rest.get_or_init(|| (0..CODES.div_ceil(8)).map(|_| OnceLock::new()).collect());
        Some(rest.get(cell / 8 - 1)?.get_or_init(Box::<Line>::default))
    }

    fn existing_line(&self, cell: usize) -> Option<&Line> {
        if cell < 8 {
            return Some(&self.first);
        }
        Some(self.rest.get()?.get(cell / 8 - 1)?.get()?)
    }
}

impl Codes {
    #[inline]
    fn charge(&self, status: u16) {
        let state = match self.state.get() {
            Some(state) => state,
            None => self.new_state(),
        };
        let worker = worker() as usize;
        let (slot, owned) = match state.slots.get(worker) {
            Some(slot) => (slot, worker != 0),
            None => match state.slots.first() {
                Some(slot) => (slot, false),
                None => return,
            },
        };
        let block = slot.get_or_init(Box::<CodeBlock>::default);
        let add = if owned { block::add_owned } else { block::add_shared };
        add(block.classes.cell(COMPLETED), 1);
        let Some(cell) = state.cell(status) else {
            add(block.classes.cell(UNKNOWN), 1);
            return;
        };
        add(block.classes.cell(usize::from(status / 100) - 1), 1);
        if let Some(line) = block.line(cell) {
            add(line.cell(cell), 1);
        }
    }

    #[cold]
    #[inline(never)]
    fn new_state(&self) -> &State {
        self.state.get_or_init(|| {
            Box::new(State {
                cell_of: [const { AtomicU16::new(0) }; CODES],
                seen: Mutex::default(),
                slots: (0..self.scope.store.slots()).map(|_| OnceLock::new()).collect(),
                reset: Mutex::default(),
            })
        })
    }

    pub(crate) fn scope(&self) -> &ScopeInner {
        &self.scope
    }

    /// The counters that were used, with their names below the scope.
    pub(crate) fn stats(&self) -> Vec<(String, CodeStat)> {
        let Some(state) = self.state.get() else {
            return Vec::new();
        };
        let seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let codes = seen.into_iter().map(CodeStat::Code);
        let rest = (1..=5).map(CodeStat::Class).chain([CodeStat::Completed, CodeStat::Unknown]);
        codes.chain(rest).filter(|&stat| self.sum(stat) != 0).map(|stat| (self.name_of(stat), stat)).collect()
    }

    fn name_of(&self, stat: CodeStat) -> String {
        let name = &self.name;
        match stat {
            CodeStat::Code(code) => format!("{name}_{code}"),
            CodeStat::Class(class) => format!("{name}_{class}xx"),
            CodeStat::Completed => format!("{name}_completed"),
            CodeStat::Unknown => format!("{name}_unknown"),
        }
    }

    /// The stat of a name that [`Codes::stats`] gives, whether it was counted or not.
    pub(crate) fn stat_of(&self, name: &str) -> Option<CodeStat> {
        let rest = name.strip_prefix(self.name)?.strip_prefix('_')?;
        match rest {
            "completed" => return Some(CodeStat::Completed),
            "unknown" => return Some(CodeStat::Unknown),
            _ => {}
        }
        if let Some(class) = rest.strip_suffix("xx") {
            return class.parse().ok().filter(|class| (1..=5).contains(class)).map(CodeStat::Class);
        }
        rest.parse().ok().filter(|code| (FIRST_CODE..FIRST_CODE + CODES as u16).contains(code)).map(CodeStat::Code)
    }

    /// Adds to one stat alone, as a thread that is no worker; `false` if there is no such cell.
    pub(crate) fn add(&self, stat: CodeStat, amount: u64) -> bool {
        let state = match self.state.get() {
            Some(state) => state,
            None => self.new_state(),
        };
        let Some(slot) = state.slots.first() else { return false };
        let block = slot.get_or_init(Box::<CodeBlock>::default);
        let cell = match stat {
            CodeStat::Class(class) => Some(block.classes.cell(usize::from(class) - 1)),
            CodeStat::Completed => Some(block.classes.cell(COMPLETED)),
            CodeStat::Unknown => Some(block.classes.cell(UNKNOWN)),
            CodeStat::Code(code) => state.cell(code).and_then(|cell| Some(block.line(cell)?.cell(cell))),
        };
        if let Some(cell) = cell {
            block::add_shared(cell, amount);
        }
        cell.is_some()
    }

    fn sum(&self, stat: CodeStat) -> u64 {
        let mut sum: u64 = 0;
        let Some(state) = self.state.get() else {
            return sum;
        };
        for block in state.slots.iter().filter_map(OnceLock::get) {
            let cell = match stat {
                CodeStat::Class(class) => Some(block.classes.cell(usize::from(class) - 1)),
                CodeStat::Completed => Some(block.classes.cell(COMPLETED)),
                CodeStat::Unknown => Some(block.classes.cell(UNKNOWN)),
                CodeStat::Code(code) => {
                    state.known_cell(code).and_then(|cell| Some(block.existing_line(cell)?.cell(cell)))
                }
            };
            if let Some(cell) = cell {
                sum = sum.wrapping_add(cell.load(Relaxed));
            }
        }
        sum
    }

    /// The value since the last reset.
    pub(crate) fn value(&self, stat: CodeStat) -> Value {
        let sum = self.sum(stat);
        let at_reset = self.state.get().map_or(0, |state| {
            let reset = state.reset.lock().unwrap_or_else(PoisonError::into_inner);
            let known = reset.iter().find(|(other, _)| *other == stat);
            known.map_or(0, |&(_, sum)| sum)
        });
        Value { value: sum.wrapping_sub(at_reset), used: sum != 0 }
    }

    pub(crate) fn reset_counters(&self) {
        let Some(state) = self.state.get() else { return };
        let stats = self.stats().into_iter();
        let sums = stats.map(|(_, stat)| (stat, self.sum(stat))).collect();
        *state.reset.lock().unwrap_or_else(PoisonError::into_inner) = sums;
    }
}

impl Drop for Codes {
    fn drop(&mut self) {
        self.scope.store.forget(self.entry);
    }
}

impl State {
    /// The number of the cell of a code, given out on first sight; `None` outside 100 to 599.
    #[inline]
    fn cell(&self, status: u16) -> Option<usize> {
        let code = status.checked_sub(FIRST_CODE)?;
        let slot = self.cell_of.get(usize::from(code))?;
        match slot.load(Ordering::Relaxed) {
            0 => Some(self.new_cell(status, slot)),
            cell => Some(usize::from(cell) - 1),
        }
    }

    fn known_cell(&self, status: u16) -> Option<usize> {
        let slot = self.cell_of.get(usize::from(status.checked_sub(FIRST_CODE)?))?;
        usize::from(slot.load(Ordering::Relaxed)).checked_sub(1)
    }

    #[cold]
    #[inline(never)]
    fn new_cell(&self, status: u16, slot: &AtomicU16) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot.load(Ordering::Relaxed);
        if known != 0 {
            return usize::from(known) - 1;
        }
        seen.push(status);
        slot.store(seen.len() as u16, Ordering::Relaxed);
        seen.len() - 1
    }
}
