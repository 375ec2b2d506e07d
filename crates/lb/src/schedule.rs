//! In which order the hosts of one source are picked.

use crate::edf::Edf;
use crate::host_set::{Candidates, HostSet};
use crate::{Endpoint, LeastRequest, SelectionMethod, SlowStart};
use std::time::Instant;

/// The longest cycle that is written out, in picks.
const MAX_CYCLE: u64 = 4096;

/// The order over the candidates of one source (a priority's healthy hosts, say). Entries are positions in the host set.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    order: Order,
    /// Where a round robin goes on; kept over updates.
    next: u32,
    /// When the slow start of the last host ends, and the order is to be made again.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
enum Order {
    #[default]
    Unknown,
    /// All weigh the same.
    Even,
    /// Weights are fixed: earliest deadline first, one period written out.
    Cycle(Box<[u32]>),
    /// Weights change with each pick, or the period is long.
    Edf(Edf),
}

/// What a schedule is worked out from.
pub(crate) struct Source<'a, H> {
    pub(crate) set: &'a HostSet<H>,
    pub(crate) candidates: Candidates<'a>,
    pub(crate) now: Instant,
    /// Weights by position that take the place of the hosts' own.
    pub(crate) weights: Option<&'a [u32]>,
}

impl<H: Endpoint> Source<'_, H> {
    fn host(&self, position: u32) -> Option<&H> {
        self.set.hosts().get(position as usize)
    }

    fn candidate(&self, index: u32) -> Option<&H> {
        self.host(self.candidates.at(index))
    }

    /// The weight of a host in slow start.
    fn weight(&self, position: u32, host: &H, slow_start: Option<&SlowStart>) -> f64 {
        let given = self.weights.map(|weights| weights.get(position as usize).copied().unwrap_or(1));
        let weight = f64::from(given.unwrap_or_else(|| host.weight()).max(1));
        slow_start.map_or(weight, |slow| weight * slow.factor(host, self.now))
    }

    /// When the last slow start among the candidates ends.
    fn slow_until(&self, slow_start: Option<&SlowStart>) -> Option<Instant> {
        let slow = slow_start?;
        (0..self.candidates.len()).filter_map(|index| slow.end(self.candidate(index)?, self.now)).max()
    }

    fn weights_are_equal(&self) -> bool {
        let weight = |index| match self.weights {
            Some(weights) => weights.get(self.candidates.at(index) as usize).copied(),
            None => self.candidate(index).map(Endpoint::weight),
        };
        (1..self.candidates.len()).all(|index| weight(index) == weight(0))
    }
}

impl Schedule {
    /// The host set changed: everything but the place of the round robin is forgotten.
    pub(crate) fn forget(&mut self) {
        self.order = Order::Unknown;
        self.until = None;
    }

    #[inline]
    fn is_stale(&self, now: Instant) -> bool {
        matches!(self.order, Order::Unknown) || self.until.is_some_and(|until| now >= until)
    }

    /// The next host of a round robin.
    #[inline]
    pub(crate) fn round_robin<H: Endpoint>(
        &mut self,
        source: &Source<'_, H>,
        slow_start: Option<&SlowStart>,
        rng: &mut fastrand::Rng,
    ) -> Option<u32> {
        if self.is_stale(source.now) {
            self.build(source, slow_start, rng, |position, host| source.weight(position, host, slow_start));
        }
        match &mut self.order {
            Order::Unknown | Order::Even => {
                let len = source.candidates.len();
                let index = self.turn(len)?;
                Some(source.candidates.at(index))
            }
            Order::Cycle(cycle) => {
                let len = cycle.len() as u32;
                let index = if self.next < len { self.next } else { self.next.checked_rem(len)? };
                self.next = index + 1;
                cycle.get(index as usize).copied()
            }
            Order::Edf(edf) => {
                edf.pick(|position| source.host(position).map_or(1.0, |host| source.weight(position, host, slow_start)))
            }
        }
    }

    #[inline]
    fn turn(&mut self, len: u32) -> Option<u32> {
        let index = if self.next < len { self.next } else { self.next.checked_rem(len)? };
        self.next = index + 1;
        Some(index)
    }

    /// A host with few requests in flight.
    #[inline]
    pub(crate) fn least_request<H: Endpoint>(
        &mut self,
        source: &Source<'_, H>,
        options: &LeastRequest,
        rng: &mut fastrand::Rng,
    ) -> Option<u32> {
        let slow_start = options.slow_start.as_ref();
        let weight = |position: u32, host: &H| {
            let weight = source.weight(position, host, slow_start);
            let bias = options.active_request_bias;
            if bias == 0.0 {
                weight
            } else if bias == 1.0 {
                weight / (f64::from(host.active_requests()) + 1.0)
            } else {
                weight / (f64::from(host.active_requests()) + 1.0).powf(bias)
            }
        };
        if self.is_stale(source.now) {
            self.build(source, slow_start, rng, weight);
            if let Order::Cycle(_) = self.order {
                self.order = Order::Edf(new_edf(source, rng, weight));
            }
        }
        match &mut self.order {
            Order::Edf(edf) => edf.pick(|position| source.host(position).map_or(1.0, |host| weight(position, host))),
            _ => match options.selection_method {
                SelectionMethod::NChoices => best_of(source, options.choice_count, rng),
                SelectionMethod::FullScan => best_of_all(source, rng),
            },
        }
    }

    fn build<H: Endpoint>(
        &mut self,
        source: &Source<'_, H>,
        slow_start: Option<&SlowStart>,
        rng: &mut fastrand::Rng,
        weight: impl Fn(u32, &H) -> f64 + Copy,
    ) {
        if matches!(self.order, Order::Unknown) && self.next == 0 {
            // Workers start at different places, so that they do not all go to the same host.
            self.next = rng.u32(..u32::MAX / 2);
        }
        self.until = source.slow_until(slow_start);
        self.order = if self.until.is_some() {
            Order::Edf(new_edf(source, rng, weight))
        } else if source.weights_are_equal() {
            Order::Even
        } else if source.weights.is_some() {
            // These change too soon for a cycle to be worth its making.
            Order::Edf(new_edf(source, rng, weight))
        } else {
            cycle(source.set, &source.candidates).map_or_else(|| Order::Edf(new_edf(source, rng, weight)), Order::Cycle)
        };
    }
}

/// A schedule of all candidates, some picks in, so that workers do not all go to the same host.
fn new_edf<H: Endpoint>(
    source: &Source<'_, H>,
    rng: &mut fastrand::Rng,
    weight: impl Fn(u32, &H) -> f64 + Copy,
) -> Edf {
    let mut edf = Edf::default();
    let weight = |position| source.host(position).map_or(1.0, |host| weight(position, host));
    let len = source.candidates.len();
    for index in 0..len {
        let position = source.candidates.at(index);
        edf.add(position, weight(position));
    }
    for _ in 0..rng.u32(..len.max(1)) {
        edf.pick(weight);
    }
    edf
}

/// One period of the schedule of fixed weights: every host as often as its weight, over their common divisor. `None` if
/// it is too long to be written out.
pub(crate) fn cycle<H: Endpoint>(set: &HostSet<H>, candidates: &Candidates<'_>) -> Option<Box<[u32]>> {
    let weight = |position: u32| set.hosts().get(position as usize).map_or(1, |host| u64::from(host.weight().max(1)));
    let positions = || (0..candidates.len()).map(|index| candidates.at(index));
    let divisor = positions().fold(0, |divisor, position| gcd(divisor, weight(position)));
    let total: u64 = positions().map(|position| weight(position) / divisor.max(1)).sum();
    if total > MAX_CYCLE {
        return None;
    }
    let mut edf = Edf::default();
    positions().for_each(|position| edf.add(position, weight(position) as f64));
    (0..total).map(|_| edf.pick(|position| weight(position) as f64)).collect()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[inline]
fn best_of<H: Endpoint>(source: &Source<'_, H>, choices: u32, rng: &mut fastrand::Rng) -> Option<u32> {
    let len = source.candidates.len();
    if len <= 1 {
        return (len == 1).then(|| source.candidates.at(0));
    }
    let mut best = source.candidates.at(rng.u32(..len));
    let mut least = source.host(best)?.active_requests();
    for _ in 1..choices.max(2) {
        let position = source.candidates.at(rng.u32(..len));
        let active = source.host(position)?.active_requests();
        if active < least {
            (best, least) = (position, active);
        }
    }
    Some(best)
}

fn best_of_all<H: Endpoint>(source: &Source<'_, H>, rng: &mut fastrand::Rng) -> Option<u32> {
    let mut best = None;
    let (mut least, mut ties) = (u32::MAX, 0);
    for index in 0..source.candidates.len() {
        let position = source.candidates.at(index);
        let active = source.host(position)?.active_requests();
        if best.is_none() || active < least {
            (best, least, ties) = (Some(position), active, 1);
        } else if active == least {
            ties += 1;
            if rng.u32(..ties) == 0 {
                best = Some(position);
            }
        }
    }
    best
}
