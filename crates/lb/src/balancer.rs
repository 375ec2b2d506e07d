//! One worker's state of a balancing algorithm.

use crate::client_side::ReportedWeights;
use crate::edf::Edf;
use crate::hash::{Bound, HashTable};
use crate::host_set::{HostSet, Kind};
use crate::schedule::{Schedule, Source};
use crate::zone::{ZoneFinding, ZoneRouted, ZoneRouting};
use crate::{Availability, CommonOptions, Endpoint, Policy, Priorities, PriorityLoad, PrioritySet, SelectionMethod};
use std::sync::Arc;
use std::time::Instant;

#[cfg(test)]
mod tests;

/// What one choice depends on, and what it found out on the way.
pub struct Choice<'a, H> {
    /// The present moment.
    pub now: Instant,
    /// The worker's random numbers.
    pub rng: &'a mut fastrand::Rng,
    /// What ring hash and Maglev place the request by; at random if there is none.
    pub hash: Option<u64>,
    /// Shares that replace the cluster's (a retry priority plugin).
    pub priority_load: Option<&'a PriorityLoad>,
    /// True for a host that should not be used, as when an earlier attempt failed there.
    pub should_skip: Option<&'a mut dyn FnMut(&H) -> bool>,
    /// How often another host may be looked for when one is skipped (`host_selection_retry_max_attempts`). When none is
    /// acceptable the last one is used.
    pub retries: u32,
    /// Requests in flight to the whole cluster; needed with `hash_balance_factor`.
    pub active: u64,
    /// Set if the host's priority was in panic.
    pub panic: bool,
    /// Set to what zone-aware routing did.
    pub zone: Option<ZoneRouted>,
}

impl<'a, H> Choice<'a, H> {
    /// A choice without wishes.
    pub fn new(now: Instant, rng: &'a mut fastrand::Rng) -> Self {
        Choice {
            now,
            rng,
            hash: None,
            priority_load: None,
            should_skip: None,
            retries: 0,
            active: 0,
            panic: false,
            zone: None,
        }
    }
}

/// The balancer of one cluster on one worker.
#[derive(Debug)]
pub struct Balancer<H> {
    policy: Arc<Policy>,
    options: CommonOptions,
    set: Arc<PrioritySet<H>>,
    priorities: Priorities,
    /// The only priority that takes load.
    only: Option<(usize, Availability)>,
    states: Vec<PriorityState>,
    quick: Option<Quick<H>>,
    /// Weights of load reports; only for the policy that asks for them.
    reported: ReportedWeights,
    /// The proxies of the local cluster, for zone-aware routing.
    local: Option<Arc<PrioritySet<H>>>,
    /// The routing of priority 0, if it is by zone.
    zone: Option<Box<ZoneRouting>>,
    /// How the last update of the routing came out, until it is asked for.
    zone_finding: Option<ZoneFinding>,
}

/// The common case made ready: one priority takes all of the load, and all of its hosts are healthy.
#[derive(Debug)]
struct Quick<H> {
    set: Arc<HostSet<H>>,
    /// Where a round robin goes on; [`NOT_STARTED`] before the first choice.
    next: u32,
    order: QuickOrder,
}

/// Balancers start at different places, so that workers do not all go to the same host.
const NOT_STARTED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuickOrder {
    /// Hosts of equal weight.
    RoundRobin,
    /// One period of the weighted schedule.
    Cycle,
    /// Hosts of equal weight.
    LeastOfTwo,
}

impl<H: Endpoint> Quick<H> {
    #[inline]
    fn choose(&mut self, rng: &mut fastrand::Rng) -> Option<&H> {
        match self.order {
            QuickOrder::RoundRobin => {
                let at = turn(&mut self.next, self.set.hosts().len(), rng);
                self.set.hosts().get(at)
            }
            QuickOrder::Cycle => {
                let cycle = self.set.cycle()?;
                let at = turn(&mut self.next, cycle.len(), rng);
                self.set.hosts().get(*cycle.get(at)? as usize)
            }
            QuickOrder::LeastOfTwo => {
                let hosts = self.set.hosts();
                let (random, len) = (rng.u64(..), hosts.len() as u64);
                let pick = |random: u64| hosts.get(((random * len) >> 32) as usize);
                let (first, second) = (pick(random & 0xffff_ffff)?, pick(random >> 32)?);
                Some(if second.active_requests() < first.active_requests() { second } else { first })
            }
        }
    }
}

/// The next place of `len`, above zero.
#[inline]
fn turn(next: &mut u32, len: usize, rng: &mut fastrand::Rng) -> usize {
    let mut at = *next as usize;
    if at >= len {
        at = if *next == NOT_STARTED { rng.usize(..len.max(1)) } else { 0 };
    }
    *next = at as u32 + 1;
    at
}

/// Schedules of one priority. Those that no choice came to are empty.
#[derive(Debug, Default)]
struct PriorityState {
    all: Schedule,
    healthy: Localities,
    degraded: Localities,
}

#[derive(Debug, Default)]
struct Localities {
    /// Over the hosts of all localities.
    together: Schedule,
    /// Over the localities; `None` until the first choice.
    scheduler: Option<Edf>,
    /// Over the hosts of each.
    each: Vec<Schedule>,
}

impl<H: Endpoint> Balancer<H> {
    /// A balancer over these hosts.
    pub fn new(policy: Arc<Policy>, options: CommonOptions, set: Arc<PrioritySet<H>>) -> Self {
        let mut this = Balancer {
            policy,
            options,
            set: Arc::new(PrioritySet::default()),
            priorities: Priorities::default(),
            only: None,
            states: Vec::new(),
            quick: None,
            reported: ReportedWeights::default(),
            local: None,
            zone: None,
            zone_finding: None,
        };
        this.update(set);
        this
    }

    /// Hosts, or their health or weights, changed. A round robin goes on where it was.
    pub fn update(&mut self, set: Arc<PrioritySet<H>>) {
        self.priorities = Priorities::new(&set, &self.options);
        self.only = self.priorities.load.only();
        self.states.resize_with(set.sets().len(), PriorityState::default);
        self.states.iter_mut().for_each(PriorityState::forget);
        self.reported.forget();
        self.set = set;
        self.route_by_zone();
        self.make_quick();
    }

    /// The proxies of the local cluster are these.
    pub fn set_local(&mut self, local: Arc<PrioritySet<H>>) {
        self.local = Some(local);
        self.route_by_zone();
        self.make_quick();
    }

    /// The proxies of the local cluster that the balancer knows.
    pub fn local(&self) -> Option<&Arc<PrioritySet<H>>> {
        self.local.as_ref()
    }

    /// How zone-aware routing came out when it was worked out again; once for each time.
    pub fn take_zone_finding(&mut self) -> Option<ZoneFinding> {
        self.zone_finding.take()
    }

    fn route_by_zone(&mut self) {
        let Some(local) = &self.local else { return };
        if self.options.locality_weighted || self.policy.is_hashing() {
            return;
        }
        let routing = ZoneRouting::new(&self.set, local, &self.options);
        self.zone_finding = Some(routing.as_ref().err().copied().unwrap_or(ZoneFinding::Nothing));
        self.zone = routing.ok().map(Box::new);
    }

    fn make_quick(&mut self) {
        let next = self.quick.take().map_or(NOT_STARTED, |quick| quick.next);
        self.quick = self.quick_set().and_then(|set| Some(Quick { order: self.quick_order(&set)?, set, next }));
    }

    fn quick_order(&self, set: &HostSet<H>) -> Option<QuickOrder> {
        let weight = set.hosts().first()?.weight();
        let is_even = set.hosts().iter().all(|host| host.weight() == weight);
        match &*self.policy {
            Policy::RoundRobin(options) if options.slow_start.is_none() => match is_even {
                true => Some(QuickOrder::RoundRobin),
                false => set.cycle().map(|_| QuickOrder::Cycle),
            },
            Policy::LeastRequest(options)
                if is_even
                    && options.slow_start.is_none()
                    && options.choice_count <= 2
                    && options.selection_method == SelectionMethod::NChoices =>
            {
                Some(QuickOrder::LeastOfTwo)
            }
            _ => None,
        }
    }

    /// The hosts, if there is nothing else to decide.
    fn quick_set(&self) -> Option<Arc<HostSet<H>>> {
        let (priority, availability) = self.only?;
        let set = self.set.sets().get(priority)?;
        let is_plain = availability == Availability::Healthy
            && !self.options.locality_weighted
            && (self.zone.is_none() || priority > 0)
            && set.healthy_count() == set.hosts().len();
        is_plain.then(|| set.clone())
    }

    /// The hosts that are chosen from.
    pub fn hosts(&self) -> &Arc<PrioritySet<H>> {
        &self.set
    }

    /// Health, load and panic of each priority.
    pub fn priorities(&self) -> &Priorities {
        &self.priorities
    }

    /// A host for one request; `None` if there is none that may be used.
    #[inline]
    pub fn choose(&mut self, choice: &mut Choice<'_, H>) -> Option<&H> {
        if self.quick.is_some() && choice.priority_load.is_none() && choice.should_skip.is_none() {
            return self.quick.as_mut()?.choose(choice.rng);
        }
        self.choose_slowly(choice)
    }

    #[inline(never)]
    fn choose_slowly(&mut self, choice: &mut Choice<'_, H>) -> Option<&H> {
        if let Policy::ClientSideWeighted(options) = &*self.policy
            && self.reported.refresh(&self.set, options, choice.now)
        {
            self.states.iter_mut().for_each(PriorityState::forget);
        }
        let mut attempt = 0;
        let (priority, position) = loop {
            let (priority, position) = self.attempt(choice, attempt)?;
            if attempt >= choice.retries {
                break (priority, position);
            }
            let Some(skip) = &mut choice.should_skip else { break (priority, position) };
            if !skip(self.set.sets().get(priority)?.hosts().get(position as usize)?) {
                break (priority, position);
            }
            attempt += 1;
        };
        self.set.sets().get(priority)?.hosts().get(position as usize)
    }

    /// One look for a host: its priority, and its position there.
    #[inline]
    fn attempt(&mut self, choice: &mut Choice<'_, H>, attempt: u32) -> Option<(usize, u32)> {
        if self.policy.is_hashing() {
            return self.by_hash(choice, attempt);
        }
        let (priority, availability) = match (choice.priority_load, self.only) {
            (Some(load), _) => load.choose(choice.rng.u64(..)),
            (None, Some(only)) => only,
            (None, None) => self.priorities.load.choose(choice.rng.u64(..)),
        };
        let set = self.set.sets().get(priority)?;
        let state = self.states.get_mut(priority)?;
        let (schedule, candidates) = if self.priorities.panic.get(priority).copied().unwrap_or(false) {
            choice.panic = true;
            if self.options.fail_traffic_on_panic {
                return None;
            }
            (&mut state.all, set.candidates(Kind::All))
        } else {
            let (localities, kind) = match availability {
                Availability::Healthy => (&mut state.healthy, Kind::Healthy),
                Availability::Degraded => (&mut state.degraded, Kind::Degraded),
            };
            let mut locality = None;
            if self.options.locality_weighted {
                locality = localities.choose(set, kind, choice.rng);
            } else if let (0, Some(zone)) = (priority, &self.zone)
                && choice.rng.u32(..100) < self.options.zone.routing_enabled
            {
                let (found, routed) = zone.choose(set.localities(), choice.rng);
                choice.zone = Some(routed);
                if found.is_none() && self.options.fail_traffic_on_panic {
                    return None;
                }
                locality = found;
            }
            match locality {
                Some(locality) => (localities.of(locality), set.candidates_in(kind, locality)),
                None => (&mut localities.together, set.candidates(kind)),
            }
        };
        let weights = matches!(*self.policy, Policy::ClientSideWeighted(_)).then(|| self.reported.of(priority));
        let source = Source { set: &**set, candidates, now: choice.now, weights };
        let position = match &*self.policy {
            Policy::RoundRobin(options) => schedule.round_robin(&source, options.slow_start.as_ref(), choice.rng),
            Policy::ClientSideWeighted(options) => {
                schedule.round_robin(&source, options.slow_start.as_ref(), choice.rng)
            }
            Policy::LeastRequest(options) => schedule.least_request(&source, options, choice.rng),
            Policy::Random | Policy::RingHash(_) | Policy::Maglev(_) | Policy::ClusterProvided => {
                let len = source.candidates.len();
                (len > 0).then(|| source.candidates.at(choice.rng.u32(..len)))
            }
        };
        Some((priority, position?))
    }

    fn by_hash(&mut self, choice: &mut Choice<'_, H>, attempt: u32) -> Option<(usize, u32)> {
        let hash = choice.hash.unwrap_or_else(|| choice.rng.u64(..));
        let load = choice.priority_load.unwrap_or(&self.priorities.load);
        let (priority, _) = load.choose(hash);
        // Hashing policies do not know `fail_traffic_on_panic`.
        choice.panic |= self.priorities.panic.get(priority).copied().unwrap_or(false);
        let table = self
            .set
            .table
            .get_or_init(|| HashTable::new(&self.policy, self.set.sets(), &self.priorities.panic, &self.options));
        let found = table.find(priority, hash, attempt)?;
        let factor = self.options.hash_balance_factor;
        if factor == 0 {
            return Some((priority, found));
        }
        let set = self.set.sets().get(priority)?;
        let bound = Bound { factor, active: choice.active };
        Some((priority, table.within((priority, set), hash, found, bound)))
    }
}

impl PriorityState {
    fn forget(&mut self) {
        self.all.forget();
        self.healthy.forget();
        self.degraded.forget();
    }
}

impl Localities {
    fn forget(&mut self) {
        self.together.forget();
        self.scheduler = None;
        self.each.iter_mut().for_each(Schedule::forget);
    }

    /// The schedule over the hosts of a locality.
    fn of(&mut self, locality: usize) -> &mut Schedule {
        if self.each.len() <= locality {
            self.each.resize_with(locality + 1, Schedule::default);
        }
        &mut self.each[locality]
    }

    /// The locality of the next request, by weight; `None` if no locality has any weight.
    fn choose<H>(&mut self, set: &HostSet<H>, kind: Kind, rng: &mut fastrand::Rng) -> Option<usize> {
        let weight = |locality: u32| set.locality_weight(kind, locality as usize);
        let scheduler = self.scheduler.get_or_insert_with(|| {
            let mut scheduler = Edf::default();
            let weighing: Vec<u32> = (0..set.localities() as u32).filter(|locality| weight(*locality) > 0.0).collect();
            weighing.iter().for_each(|locality| scheduler.add(*locality, weight(*locality)));
            for _ in 0..rng.usize(..weighing.len().max(1)) {
                scheduler.pick(weight);
            }
            scheduler
        });
        scheduler.pick(weight).map(|locality| locality as usize)
    }
}
