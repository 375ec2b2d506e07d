//! One worker's choice of a subset, and of a host within it.

use super::{SelectorFallback, SubsetFallback, SubsetOptions, Subsets};
use crate::{Balancer, Choice, CommonOptions, Endpoint, Policy, PrioritySet};
use nuncio_stream_info::{Struct, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// The label by which a request says what to try one after another.
const FALLBACK_LIST: &str = "fallback_list";

/// What statistics count of one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubsetCounts {
    /// Subsets that had the labels (`lb_subsets_selected`).
    pub selected: u32,
    /// Hosts of the fallback (`lb_subsets_fallback`).
    pub fallback: u32,
    /// Hosts of `panic_mode_any` (`lb_subsets_fallback_panic`).
    pub fallback_panic: u32,
}

/// The balancers over the subsets of one cluster on one worker.
#[derive(Debug)]
pub struct SubsetBalancer<H> {
    options: Arc<SubsetOptions>,
    policy: Arc<Policy>,
    common: CommonOptions,
    set: Arc<PrioritySet<H>>,
    local: Option<Arc<PrioritySet<H>>>,
    /// Of the subsets that requests came to.
    balancers: HashMap<Which, Balancer<H>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Any,
    Default,
    Subset(u32),
}

impl<H: Endpoint + Clone> SubsetBalancer<H> {
    /// Balancers over the subsets of these hosts.
    pub fn new(
        options: Arc<SubsetOptions>,
        policy: Arc<Policy>,
        mut common: CommonOptions,
        set: Arc<PrioritySet<H>>,
    ) -> Self {
        common.locality_weighted &= options.locality_weight_aware;
        SubsetBalancer { options, policy, common, set, local: None, balancers: HashMap::new() }
    }

    /// Hosts, or their health, weights or labels, changed.
    pub fn update(&mut self, set: Arc<PrioritySet<H>>) {
        let before = std::mem::replace(&mut self.set, set);
        let old = before.subsets(&self.options);
        let new = self.set.subsets(&self.options);
        for (which, mut balancer) in std::mem::take(&mut self.balancers) {
            let which = match which {
                Which::Subset(index) => old.get(index).and_then(|subset| new.find(&subset.labels)).map(Which::Subset),
                other => Some(other),
            };
            if let Some(which) = which
                && let Some(hosts) = hosts_of(&self.set, new, which)
            {
                balancer.update(hosts.clone());
                self.balancers.insert(which, balancer);
            }
        }
    }

    /// The proxies of the local cluster are these.
    pub fn set_local(&mut self, local: Arc<PrioritySet<H>>) {
        self.balancers.values_mut().for_each(|balancer| balancer.set_local(local.clone()));
        self.local = Some(local);
    }

    /// The proxies of the local cluster that the balancer knows.
    pub fn local(&self) -> Option<&Arc<PrioritySet<H>>> {
        self.local.as_ref()
    }

    /// A host for one request that wants these labels; `None` if there is none that may be used.
    pub fn choose(
        &mut self,
        labels: Option<&Struct>,
        choice: &mut Choice<'_, H>,
        counts: &mut SubsetCounts,
    ) -> Option<H> {
        if let (true, Some(labels)) = (self.options.fallback_list, labels)
            && let Some(Value::List(list)) = labels.get(FALLBACK_LIST)
        {
            let mut own = labels.clone();
            own.remove(FALLBACK_LIST);
            if list.is_empty() {
                return self.look(Some(&own), choice, counts);
            }
            return list.iter().find_map(|more| {
                let mut labels = own.clone();
                if let Value::Struct(more) = more {
                    more.iter().for_each(|(name, value)| {
                        labels.set(name, value.clone());
                    });
                }
                self.look(Some(&labels), choice, counts)
            });
        }
        self.look(labels, choice, counts)
    }

    fn look(&mut self, labels: Option<&Struct>, choice: &mut Choice<'_, H>, counts: &mut SubsetCounts) -> Option<H> {
        let options = self.options.clone();
        let reduced = match labels {
            Some(labels) if options.allow_redundant_keys => options.selectors.iter().find_map(|selector| {
                let found = only(labels, &selector.keys);
                (found.len() == selector.keys.len()).then_some(found)
            }),
            _ => None,
        };
        if let Some(labels) = reduced.as_ref().or(labels) {
            if let Some(index) = self.set.subsets(&options).find(labels) {
                counts.selected += 1;
                return self.choose_in(Which::Subset(index), choice);
            }
            match options.fallback_of(labels) {
                SelectorFallback::NotDefined => {}
                SelectorFallback::None => return None,
                SelectorFallback::Any => return self.choose_in(Which::Any, choice),
                SelectorFallback::Default => return self.choose_in(Which::Default, choice),
                SelectorFallback::Keys(keys) => {
                    let fewer = only(labels, keys);
                    if fewer.len() < labels.len() {
                        return self.look(Some(&fewer), choice, counts);
                    }
                }
            }
        }
        let fallback = match options.fallback {
            SubsetFallback::None => return None,
            SubsetFallback::Any => Which::Any,
            SubsetFallback::Default => Which::Default,
        };
        let mut host = self.choose_in(fallback, choice);
        counts.fallback += u32::from(host.is_some());
        if host.is_none() && options.panic_mode_any {
            host = self.choose_in(Which::Any, choice);
            counts.fallback_panic += u32::from(host.is_some());
        }
        host
    }

    fn choose_in(&mut self, which: Which, choice: &mut Choice<'_, H>) -> Option<H> {
        let subsets = self.set.subsets(&self.options);
        if let Which::Subset(index) = which
            && let Some(subset) = subsets.get(index)
            && subset.is_single
        {
            return subset.hosts.hosts().next().cloned();
        }
        let hosts = hosts_of(&self.set, subsets, which)?;
        let balancer = self.balancers.entry(which).or_insert_with(|| {
            let mut balancer = Balancer::new(self.policy.clone(), self.common.clone(), hosts.clone());
            if let Some(local) = &self.local {
                balancer.set_local(local.clone());
            }
            balancer
        });
        balancer.choose(choice).cloned()
    }
}

fn hosts_of<'a, H>(
    set: &'a Arc<PrioritySet<H>>,
    subsets: &'a Subsets<H>,
    which: Which,
) -> Option<&'a Arc<PrioritySet<H>>> {
    match which {
        Which::Any => Some(set),
        Which::Default => subsets.default_hosts(),
        Which::Subset(index) => subsets.get(index).map(|subset| &subset.hosts),
    }
}

impl SubsetOptions {
    /// What the selector with exactly these labels falls back to.
    fn fallback_of(&self, labels: &Struct) -> &SelectorFallback {
        let has_keys = |selector: &&super::SubsetSelector| {
            selector.keys.len() == labels.len()
                && labels.iter().zip(&selector.keys).all(|((name, _), key)| *name == **key)
        };
        self.selectors.iter().find(has_keys).map_or(&SelectorFallback::NotDefined, |selector| &selector.fallback)
    }
}

/// Those of the labels that have one of these keys.
fn only(labels: &Struct, keys: &[Arc<str>]) -> Struct {
    let found = keys.iter().filter_map(|key| Some((key.clone(), labels.get(key)?.clone())));
    found.collect()
}
