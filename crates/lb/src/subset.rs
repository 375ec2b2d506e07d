//! Subsets: hosts grouped by their labels, and requests that want hosts with some of them.

mod balancer;
mod table;
#[cfg(test)]
mod tests;

pub use balancer::{SubsetBalancer, SubsetCounts};
pub use table::Subsets;

use nuncio_stream_info::Struct;
use std::sync::Arc;

/// `LbSubsetConfig`, or the typed policy `subset`. Labels are the fields of a host's metadata `envoy.lb`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubsetOptions {
    /// `fallback_policy`: what requests get for which there is no subset.
    pub fallback: SubsetFallback,
    /// `default_subset`: labels of the hosts of [`SubsetFallback::Default`].
    pub default_subset: Struct,
    /// `subset_selectors`.
    pub selectors: Vec<SubsetSelector>,
    /// `locality_weight_aware`: localities have their weights within a subset too. Default false.
    pub locality_weight_aware: bool,
    /// `scale_locality_weight`: the weight of a locality within a subset is in proportion to how many of its hosts are in it.
    /// Default false.
    pub scale_locality_weight: bool,
    /// `panic_mode_any`: any host, where the fallback finds none. Default false.
    pub panic_mode_any: bool,
    /// `list_as_any`: a host with a list as label is in the subset of each value. Default false.
    pub list_as_any: bool,
    /// `metadata_fallback_policy: FALLBACK_LIST`: requests may say what to try one after another (`fallback_list`). Default false.
    pub fallback_list: bool,
    /// `allow_redundant_keys`: requests may have labels that no selector knows. Default false.
    pub allow_redundant_keys: bool,
}

/// `LbSubsetFallbackPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubsetFallback {
    /// No host.
    #[default]
    None,
    /// Any host.
    Any,
    /// A host with the labels of the default subset.
    Default,
}

/// `LbSubsetSelector`: hosts with all of these labels are grouped by their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsetSelector {
    /// `keys`, in the order of their names.
    pub keys: Vec<Arc<str>>,
    /// `fallback_policy`.
    pub fallback: SelectorFallback,
    /// `single_host_per_subset`: each subset has one host at most, which is found at once. Default false.
    pub single_host: bool,
}

/// `LbSubsetSelectorFallbackPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SelectorFallback {
    /// As [`SubsetOptions::fallback`] says.
    #[default]
    NotDefined,
    /// No host.
    None,
    /// Any host.
    Any,
    /// A host with the labels of the default subset.
    Default,
    /// The request is looked at again, with these labels only. They are fewer than the selector's.
    Keys(Vec<Arc<str>>),
}
