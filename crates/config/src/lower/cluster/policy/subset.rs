//! `lb_subset_config`, and the typed policy `subset`.

use crate::compile::{Compile, Invalid};
use crate::lower::{matcher, value};
use nuncio_api::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use nuncio_api::pb::envoy::extensions::load_balancing_policies::subset::v3 as pb;
use nuncio_lb::{SelectorFallback, SubsetFallback, SubsetOptions, SubsetSelector};
use std::sync::Arc;

/// The deprecated message has the fields and the numbers of the typed one.
pub(super) fn legacy(config: &LbSubsetConfig) -> pb::Subset {
    let LbSubsetConfig {
        fallback_policy,
        default_subset,
        subset_selectors,
        locality_weight_aware,
        scale_locality_weight,
        panic_mode_any,
        list_as_any,
        metadata_fallback_policy,
    } = config.clone();
    let selectors = subset_selectors.into_iter().map(|selector| pb::subset::LbSubsetSelector {
        keys: selector.keys,
        single_host_per_subset: selector.single_host_per_subset,
        fallback_policy: selector.fallback_policy,
        fallback_keys_subset: selector.fallback_keys_subset,
    });
    pb::Subset {
        fallback_policy,
        default_subset,
        subset_selectors: selectors.collect(),
        allow_redundant_keys: false,
        locality_weight_aware,
        scale_locality_weight,
        panic_mode_any,
        list_as_any,
        metadata_fallback_policy,
        subset_lb_policy: None,
    }
}

/// The options; the policy within is the caller's.
pub(super) fn options(config: &pb::Subset, cx: &mut Compile<'_>) -> Result<SubsetOptions, Invalid> {
    use pb::subset::{LbSubsetFallbackPolicy, LbSubsetMetadataFallbackPolicy};
    let selectors = matcher::list(&config.subset_selectors, "subset_selectors", cx, selector)?;
    Ok(SubsetOptions {
        fallback: match config.fallback_policy() {
            LbSubsetFallbackPolicy::NoFallback => SubsetFallback::None,
            LbSubsetFallbackPolicy::AnyEndpoint => SubsetFallback::Any,
            LbSubsetFallbackPolicy::DefaultSubset => SubsetFallback::Default,
        },
        default_subset: config.default_subset.as_ref().map(value::structure).unwrap_or_default(),
        selectors,
        locality_weight_aware: config.locality_weight_aware,
        scale_locality_weight: config.scale_locality_weight,
        panic_mode_any: config.panic_mode_any,
        list_as_any: config.list_as_any,
        fallback_list: config.metadata_fallback_policy() == LbSubsetMetadataFallbackPolicy::FallbackList,
        allow_redundant_keys: config.allow_redundant_keys,
    })
}

fn selector(selector: &pb::subset::LbSubsetSelector, cx: &mut Compile<'_>) -> Result<SubsetSelector, Invalid> {
    use pb::subset::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Fallback;
    let pb::subset::LbSubsetSelector { keys, single_host_per_subset, fallback_policy: _, fallback_keys_subset } =
        selector;
    let keys = sorted(keys);
    let fewer = sorted(fallback_keys_subset);
    let fallback = match selector.fallback_policy() {
        Fallback::NotDefined => SelectorFallback::NotDefined,
        Fallback::NoFallback => SelectorFallback::None,
        Fallback::AnyEndpoint => SelectorFallback::Any,
        Fallback::DefaultSubset => SelectorFallback::Default,
        Fallback::KeysSubset => {
            let mut cx = cx.field("fallback_keys_subset");
            if fewer.is_empty() {
                return Err(cx.error("fallback_keys_subset cannot be empty"));
            }
            if !fewer.iter().all(|key| keys.contains(key)) {
                return Err(cx.error("fallback_keys_subset must be a subset of selector keys"));
            }
            if fewer == keys {
                return Err(cx.error("fallback_keys_subset cannot be equal to keys"));
            }
            SelectorFallback::Keys(fewer)
        }
    };
    Ok(SubsetSelector { keys, fallback, single_host: *single_host_per_subset })
}

fn sorted(keys: &[String]) -> Vec<Arc<str>> {
    let mut keys: Vec<Arc<str>> = keys.iter().map(|key| key.as_str().into()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
