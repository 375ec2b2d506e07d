//! Filter chains that want the same connections.

use crate::compile::Compile;
use nuncio_api::pb::envoy::config::listener::v3 as pb;
use nuncio_matcher::{CidrRange, FilterChainMatch, SourceType};
use std::collections::HashMap;
use std::sync::Arc;

/// Combinations of criteria that are looked at for one listener; beyond them overlaps go unreported, and the first chain wins.
const MAX_COMBINATIONS: usize = 1 << 20;

/// One combination of a value of each criterion; none is any.
type Combination<'a> = (
    (Option<u16>, Option<CidrRange>, Option<&'a Arc<str>>, &'a str, Option<&'a Arc<str>>),
    (Option<CidrRange>, SourceType, Option<CidrRange>, Option<u16>),
);

/// Reports each chain that shares a combination of criteria with an earlier one.
pub(super) fn check(chains: &[pb::FilterChain], matches: &[FilterChainMatch], cx: &mut Compile<'_>) {
    let mut seen: HashMap<Combination<'_>, usize> = HashMap::new();
    let mut left = MAX_COMBINATIONS;
    for (index, wanted) in matches.iter().enumerate() {
        let Some(rest) = left.checked_sub(count(wanted)) else { return };
        left = rest;
        let mut first = None;
        combinations(wanted, &mut |combination| {
            let by = *seen.entry(combination).or_insert(index);
            if by != index {
                first = first.or(Some(by));
            }
        });
        if let Some(first) = first {
            let title = |index: usize| match chains.get(index).map(|chain| chain.name.as_str()) {
                None | Some("") => format!("filter_chains[{index}]"),
                Some(name) => format!("filter_chains[{index}] ({name})"),
            };
            let same = matches.get(first) == Some(wanted);
            let what = if same { "has the same matching rules as" } else { "has overlapping matching rules with" };
            let text = format!("{} {what} {}", title(index), title(first));
            cx.element("filter_chains", index).error_hint(text, "tell them apart by their filter_chain_match");
        }
    }
}

fn count(wanted: &FilterChainMatch) -> usize {
    [
        wanted.destination_ranges.len(),
        wanted.server_names.len(),
        wanted.application_protocols.len(),
        wanted.direct_source_ranges.len(),
        wanted.source_ranges.len(),
        wanted.source_ports.len(),
    ]
    .into_iter()
    .fold(1, |all, values| all.saturating_mul(values.max(1)))
}

/// The values of a list, or any.
fn each<T: Copy>(values: &[T]) -> impl Iterator<Item = Option<T>> + Clone {
    let any = values.is_empty().then_some(None);
    values.iter().map(|value| Some(*value)).chain(any)
}

fn each_ref<T>(values: &[T]) -> impl Iterator<Item = Option<&T>> + Clone {
    let any = values.is_empty().then_some(None);
    values.iter().map(Some).chain(any)
}

fn combinations<'a>(wanted: &'a FilterChainMatch, visit: &mut impl FnMut(Combination<'a>)) {
    for range in each(&wanted.destination_ranges) {
        for name in each_ref(&wanted.server_names) {
            for protocol in each_ref(&wanted.application_protocols) {
                let first = (wanted.destination_port, range, name, &*wanted.transport_protocol, protocol);
                for direct in each(&wanted.direct_source_ranges) {
                    for source in each(&wanted.source_ranges) {
                        for port in each(&wanted.source_ports) {
                            visit((first, (direct, wanted.source_type, source, port)));
                        }
                    }
                }
            }
        }
    }
}
