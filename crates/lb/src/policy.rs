//! The balancing algorithms and their options, as plain data.

use crate::zone::ZoneAware;
use std::sync::Arc;
use std::time::Duration;

/// `Cluster.lb_policy`, or the matching typed `load_balancing_policy`.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// One host after another, by weight.
    RoundRobin(RoundRobin),
    /// The one with the fewest requests in flight of some picked at random.
    LeastRequest(LeastRequest),
    /// Any host.
    Random,
    /// Consistent hashing on a ring (Ketama).
    RingHash(RingHash),
    /// Consistent hashing by Maglev's table.
    Maglev(Maglev),
    /// One host after another, by the weights that follow from their load reports.
    ClientSideWeighted(ClientSideWeights),
    /// The cluster chooses itself (`ORIGINAL_DST`).
    ClusterProvided,
}

impl Policy {
    /// Whether hosts are found by the hash of a request.
    #[inline]
    pub fn is_hashing(&self) -> bool {
        matches!(self, Policy::RingHash(_) | Policy::Maglev(_))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::RoundRobin(RoundRobin::default())
    }
}

/// `Cluster.RoundRobinLbConfig`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundRobin {
    /// `slow_start_config`.
    pub slow_start: Option<SlowStart>,
}

/// `envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientSideWeights {
    /// `blackout_period`: how long a host must have reported before its weight counts. Default 10 s.
    pub blackout_period: Duration,
    /// `weight_expiration_period`: how long a report counts. Default 3 minutes.
    pub weight_expiration_period: Duration,
    /// `weight_update_period`: how often weights are taken up, at least 100 ms. Default 1 s.
    pub weight_update_period: Duration,
    /// `error_utilization_penalty`: how much errors (`eps/rps`) add to the utilisation, 0 or more. Default 0, as Envoy 1.40 has it
    /// (its documentation says 1).
    pub error_utilization_penalty: f64,
    /// `metric_names_for_computing_utilization`, as `named_metrics.queue`: the greatest one is the utilisation.
    pub metric_names: Vec<Arc<str>>,
    /// `slow_start_config`.
    pub slow_start: Option<SlowStart>,
}

impl Default for ClientSideWeights {
    fn default() -> Self {
        ClientSideWeights {
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_secs(180),
            weight_update_period: Duration::from_secs(1),
            error_utilization_penalty: 0.0,
            metric_names: Vec::new(),
            slow_start: None,
        }
    }
}

/// `Cluster.LeastRequestLbConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct LeastRequest {
    /// `choice_count`: hosts looked at for one request, at least 2. Default 2.
    pub choice_count: u32,
    /// `active_request_bias`: how much requests in flight count against a host when weights differ; 0 makes it a weighted
    /// round robin. Default 1.0.
    pub active_request_bias: f64,
    /// `slow_start_config`.
    pub slow_start: Option<SlowStart>,
    /// `selection_method`.
    pub selection_method: SelectionMethod,
}

impl Default for LeastRequest {
    fn default() -> Self {
        LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            slow_start: None,
            selection_method: SelectionMethod::NChoices,
        }
    }
}

/// `LeastRequest.selection_method`: how hosts of equal weight are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SelectionMethod {
    /// The best of `choice_count` picked at random.
    #[default]
    NChoices,
    /// The best of all; one of the best at random.
    FullScan,
}

/// `Cluster.SlowStartConfig`: a new host gets its full share only after a while.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`, above zero.
    pub window: Duration,
    /// `aggression`: 1.0 grows linearly, more grows faster at first. Above zero; default 1.0.
    pub aggression: f64,
    /// `min_weight_percent`: the share at the start, in percent. Default 10.
    pub min_weight_percent: f64,
}

/// `Cluster.RingHashLbConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct RingHash {
    /// `minimum_ring_size`. Default 1024, at most 8 Mi.
    pub minimum_ring_size: u64,
    /// `maximum_ring_size`. Default and limit 8 Mi.
    pub maximum_ring_size: u64,
    /// `hash_function`. Default xxHash.
    pub hash_function: HashFunction,
}

impl Default for RingHash {
    fn default() -> Self {
        RingHash { minimum_ring_size: 1024, maximum_ring_size: 8 * 1024 * 1024, hash_function: HashFunction::XxHash }
    }
}

/// `Cluster.RingHashLbConfig.HashFunction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashFunction {
    /// xxHash64.
    #[default]
    XxHash,
    /// MurmurHash2, 64 bit, as libstdc++'s `std::hash`.
    MurmurHash2,
}

/// `Cluster.MaglevLbConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    /// `table_size`, a prime, at most 5,000,011. Default 65,537.
    pub table_size: u64,
}

impl Default for Maglev {
    fn default() -> Self {
        Maglev { table_size: 65_537 }
    }
}

/// `Cluster.CommonLbConfig`, the part that choosing needs.
#[derive(Debug, Clone, PartialEq)]
pub struct CommonOptions {
    /// `healthy_panic_threshold`, in percent. Default 50; 0 turns panic off.
    pub healthy_panic_threshold: f64,
    /// `zone_aware_lb_config.fail_traffic_on_panic`: fail rather than use unhealthy hosts in panic. Default no.
    pub fail_traffic_on_panic: bool,
    /// `locality_weighted_lb_config` is set: localities take load by their weight. Default no.
    pub locality_weighted: bool,
    /// `zone_aware_lb_config`. Acts only where there is a local cluster.
    pub zone: ZoneAware,
    /// `hash_balance_factor`, in percent, at least 100: no host of a hashing policy gets more than so much of the mean number of
    /// requests in flight. 0 (the default): without bound.
    pub hash_balance_factor: u32,
}

impl Default for CommonOptions {
    fn default() -> Self {
        CommonOptions {
            healthy_panic_threshold: 50.0,
            fail_traffic_on_panic: false,
            locality_weighted: false,
            zone: ZoneAware::default(),
            hash_balance_factor: 0,
        }
    }
}
