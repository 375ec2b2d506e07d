//! Sending a request to a cluster: the compiled `RouteAction`.

use crate::RouteQuery;
use crate::mutate::HeaderMutations;
use crate::per_filter::PerFilter;
use crate::policy::{HashPolicy, InternalRedirectPolicy, MirrorPolicy, Upgrade};
use crate::retry::RetryPolicy;
use crate::rewrite::{HostRewrite, PathRewrite};
use crate::spec::{MaxStreamDuration, Opaque, Priority};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::RuntimeLookup;
use nuncio_stream_info::Struct;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The timeout of a route that sets none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// A compiled `RouteAction`.
pub struct Forward {
    pub(crate) cluster: ClusterSpecifier,
    /// Status when the cluster does not exist: 503, 404 or 500.
    pub cluster_not_found_response_code: u16,
    /// For the whole response, retries included. `None`: no limit.
    pub timeout: Option<Duration>,
    /// Of the stream. `None`: the connection manager's; zero: no limit.
    pub idle_timeout: Option<Duration>,
    /// How long a finished response may take to be read. `None`: the idle timeout.
    pub flush_timeout: Option<Duration>,
    /// The route's limits on the stream and on `grpc-timeout`, if it has any.
    pub max_stream_duration: Option<Box<MaxStreamDuration>>,
    /// Deprecated form of the limits on `grpc-timeout`: (`max_grpc_timeout`, `grpc_timeout_offset`).
    pub grpc_timeout: Option<Box<GrpcTimeout>>,
    /// Which circuit breakers and pools are used.
    pub priority: Priority,
    /// The namespace `envoy.lb` of `metadata_match`: endpoints must have these fields.
    pub metadata_match: Option<Arc<Struct>>,
    /// The route's policy, or the virtual host's.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Appends the host before a rewrite to `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// The route's mirrors, or the virtual host's, or the configuration's.
    pub mirrors: Arc<[MirrorPolicy]>,
    /// What makes the hash for hashing load balancers.
    pub hash_policy: Box<[HashPolicy]>,
    /// Upgrades allowed or forbidden here.
    pub upgrades: Box<[Upgrade]>,
    /// Redirects of the upstream that the proxy follows itself.
    pub internal_redirect_policy: Option<Box<InternalRedirectPolicy>>,
    /// What other filters compiled from fields of the route.
    pub legacy: Option<Box<LegacyFilters>>,
    pub(crate) path_rewrite: Option<Box<PathRewrite>>,
    pub(crate) host_rewrite: Option<Box<HostRewrite>>,
}

/// `max_grpc_timeout` and `grpc_timeout_offset`, both deprecated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcTimeout {
    /// Largest `grpc-timeout` that counts; zero means any; `None`: it does not count.
    pub max: Option<Duration>,
    /// Taken off `grpc-timeout`.
    pub offset: Option<Duration>,
}

/// Fields of routes and virtual hosts that filters compiled: `cors`, `rate_limits`, `include_vh_rate_limits`.
#[derive(Clone, Default)]
pub struct LegacyFilters {
    /// `cors`.
    pub cors: Option<Opaque>,
    /// `rate_limits`.
    pub rate_limits: Option<Opaque>,
    /// `include_vh_rate_limits`.
    pub include_vh_rate_limits: bool,
}

/// Where the cluster's name comes from.
pub(crate) enum ClusterSpecifier {
    Cluster(Arc<str>),
    Header(HeaderName),
    Weighted(Box<WeightedClusters>),
}

/// A compiled `WeightedCluster`.
pub(crate) struct WeightedClusters {
    pub(crate) entries: Box<[WeightedCluster]>,
    /// Sum of the weights; not 0.
    pub(crate) total: u64,
    pub(crate) random: RandomValue,
    /// Whether entries have runtime keys.
    pub(crate) runtime: bool,
}

/// What decides among the entries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RandomValue {
    Stream,
    Header(HeaderName),
    HashPolicy,
}

/// A compiled `ClusterWeight`.
pub(crate) struct WeightedCluster {
    pub(crate) name: EntryName,
    pub(crate) weight: u32,
    /// `<runtime_key_prefix>.<name>`.
    pub(crate) runtime_key: Option<Box<str>>,
    pub(crate) metadata_match: Option<Arc<Struct>>,
    pub(crate) request: HeaderMutations,
    pub(crate) response: HeaderMutations,
    pub(crate) per_filter: PerFilter,
    pub(crate) host_rewrite_literal: Box<[u8]>,
}

pub(crate) enum EntryName {
    Cluster(Arc<str>),
    Header(HeaderName),
}

/// The cluster that was chosen for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterChoice {
    /// Its name. Empty if the header that should name it is absent: there is no such cluster then.
    pub name: Arc<str>,
    /// Which of the weighted clusters it is; to be passed to the methods of [`crate::Route`] that ask for it.
    pub entry: Option<u32>,
}

impl Forward {
    /// Chooses the cluster. `hash` is what the route's `hash_policy` made; needed if [`Forward::needs_hash`]. `None` when
    /// all weights are 0 by runtime: Envoy answers as if there were no route.
    pub fn choose_cluster(&self, query: &RouteQuery<'_>, hash: Option<u64>) -> Option<ClusterChoice> {
        match &self.cluster {
            ClusterSpecifier::Cluster(name) => Some(ClusterChoice { name: name.clone(), entry: None }),
            ClusterSpecifier::Header(header) => {
                Some(ClusterChoice { name: named_by(header, query.headers), entry: None })
            }
            ClusterSpecifier::Weighted(weighted) => weighted.choose(query, hash),
        }
    }

    /// Whether the choice among weighted clusters asks for the hash (`use_hash_policy`).
    pub fn needs_hash(&self) -> bool {
        matches!(&self.cluster, ClusterSpecifier::Weighted(weighted) if weighted.random == RandomValue::HashPolicy)
    }

    /// Whether a weighted cluster says something to filters: then it must be chosen before they run.
    #[inline]
    pub fn clusters_configure_filters(&self) -> bool {
        match &self.cluster {
            ClusterSpecifier::Weighted(weighted) => weighted.entries.iter().any(|entry| !entry.per_filter.is_empty()),
            _ => false,
        }
    }

    /// Names of all clusters that the route can choose and that are known beforehand: for validation and warming.
    pub fn cluster_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, many) = match &self.cluster {
            ClusterSpecifier::Cluster(name) => (Some(name), &[][..]),
            ClusterSpecifier::Header(_) => (None, &[][..]),
            ClusterSpecifier::Weighted(weighted) => (None, &weighted.entries[..]),
        };
        one.into_iter().chain(many.iter().filter_map(|entry| match &entry.name {
            EntryName::Cluster(name) => Some(name),
            EntryName::Header(_) => None,
        }))
    }

    /// The fields that endpoints must have, those of the weighted cluster included.
    pub fn metadata_match(&self, entry: Option<u32>) -> Option<&Arc<Struct>> {
        self.entry(entry).and_then(|entry| entry.metadata_match.as_ref()).or(self.metadata_match.as_ref())
    }

    /// Whether the host becomes the hostname of the chosen endpoint (`auto_host_rewrite`); [`crate::set_host`] does it.
    #[inline]
    pub fn auto_host_rewrite(&self) -> bool {
        matches!(self.host_rewrite.as_deref(), Some(HostRewrite::Auto))
    }

    /// Whether an upgrade is allowed (`Some(true)`) or forbidden here; `None`: as the connection manager says.
    pub fn upgrade(&self, kind: &[u8]) -> Option<&Upgrade> {
        self.upgrades.iter().find(|upgrade| upgrade.kind.as_bytes().eq_ignore_ascii_case(kind))
    }

    pub(crate) fn entry(&self, entry: Option<u32>) -> Option<&WeightedCluster> {
        let ClusterSpecifier::Weighted(weighted) = &self.cluster else { return None };
        weighted.entries.get(entry? as usize)
    }
}

impl WeightedClusters {
    fn choose(&self, query: &RouteQuery<'_>, hash: Option<u64>) -> Option<ClusterChoice> {
        let random = match &self.random {
            RandomValue::Stream => query.random,
            RandomValue::Header(name) => number_in(name, query.headers).unwrap_or(query.random),
            RandomValue::HashPolicy => hash.unwrap_or(query.random),
        };
        let entry = if self.runtime {
            let weights: SmallVec<[u64; 8]> = self.entries.iter().map(|entry| entry.weight(query.runtime)).collect();
            let total = weights.iter().sum();
            pick(random, total, weights.into_iter())?
        } else {
            pick(random, self.total, self.entries.iter().map(|entry| u64::from(entry.weight)))?
        };
        let name = match &self.entries.get(entry)?.name {
            EntryName::Cluster(name) => name.clone(),
            EntryName::Header(header) => named_by(header, query.headers),
        };
        Some(ClusterChoice { name, entry: u32::try_from(entry).ok() })
    }
}

impl WeightedCluster {
    fn weight(&self, runtime: &dyn RuntimeLookup) -> u64 {
        let configured = u64::from(self.weight);
        let weight = self.runtime_key.as_ref().map_or(configured, |key| runtime.integer(key, configured));
        weight.min(u64::from(u32::MAX))
    }
}

/// The entry in whose interval the remainder of `random` by `total` falls.
fn pick(random: u64, total: u64, weights: impl Iterator<Item = u64>) -> Option<usize> {
    let mut left = random.checked_rem(total)?;
    for (at, weight) in weights.enumerate() {
        if left < weight {
            return Some(at);
        }
        left -= weight;
    }
    None
}

/// The cluster that a header names: its first value only, since it is not trusted.
fn named_by(header: &HeaderName, headers: &HeaderMap) -> Arc<str> {
    headers.get_name(header).map(String::from_utf8_lossy).unwrap_or_default().into()
}

/// The decimal number in a header that occurs once.
fn number_in(name: &HeaderName, headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.all(name);
    let only = values.next().filter(|_| values.next().is_none())?;
    std::str::from_utf8(only.trim_ascii()).ok()?.parse().ok()
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("clusters", &self.cluster_names().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("retry_policy", &self.retry_policy)
            .finish_non_exhaustive()
    }
}
