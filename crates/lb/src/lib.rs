//! Host sets, priorities, localities, panic, and every balancing algorithm.
//!
//! Owns: which host of a cluster gets the next request. Does not own: the hosts themselves, how their health is found
//! out, or any I/O. Time and randomness are passed in.
//!
//! - [`HostSet`] and [`PrioritySet`]: the hosts of a cluster at one moment, shared by all workers.
//! - [`PriorityLoad`]: how much of the load each priority takes.
//! - [`Balancer`]: one worker's state of a balancing algorithm.
//!
//! *Invariant*: choosing a host allocates nothing and takes no lock, except on the first choice after an update.

mod balancer;
mod client_side;
mod edf;
mod endpoint;
mod hash;
mod host_set;
mod policy;
mod priority;
mod schedule;
mod slow_start;
mod subset;
mod zone;

pub use balancer::{Balancer, Choice};
pub use endpoint::{Endpoint, Health};
pub use hash::{hash_bytes, murmur_hash2};
pub use host_set::{HostSet, HostSetOptions, LocalityHosts, PrioritySet};
pub use policy::{
    ClientSideWeights, CommonOptions, HashFunction, LeastRequest, Maglev, Policy, RingHash, RoundRobin,
    SelectionMethod, SlowStart,
};
pub use priority::{Availability, Priorities, PriorityLoad};
pub use subset::{
    SelectorFallback, SubsetBalancer, SubsetCounts, SubsetFallback, SubsetOptions, SubsetSelector, Subsets,
};
pub use zone::{ZoneAware, ZoneFinding, ZoneRouted};
