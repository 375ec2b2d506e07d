//! `override_host`: the hosts that a request names itself.

use super::Hosts;
use super::cluster::LbContext;
use crate::config::{OverrideHost, OverrideSource};
use crate::host::Host;
use nuncio_stream_info::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// The hosts that a request named and that no try went to yet. Kept with the request, so that its retries go on where it was.
#[derive(Debug, Clone, Default)]
pub struct NamedHosts {
    /// `None` until the first choice.
    left: Option<VecDeque<Box<str>>>,
}

/// The next host that the request names and that the cluster has, whatever its health.
pub(super) fn named_host(options: &OverrideHost, hosts: &Hosts, cx: &mut LbContext<'_>) -> Option<Arc<Host>> {
    let mut named = cx.named_hosts.take();
    let mut once = NamedHosts::default();
    let left = match &mut named {
        Some(kept) => &mut **kept,
        None => &mut once,
    };
    let left = left.left.get_or_insert_with(|| read(options, cx));
    let mut found = None;
    while let Some(address) = left.pop_front() {
        found = hosts.find(&address).cloned();
        if found.is_some() {
            break;
        }
    }
    cx.named_hosts = named;
    found
}

/// The addresses of all sources, in order.
fn read(options: &OverrideHost, cx: &LbContext<'_>) -> VecDeque<Box<str>> {
    let text = |source: &OverrideSource| match source {
        OverrideSource::Header(name) => std::str::from_utf8(cx.headers?.get_name(name)?).ok(),
        OverrideSource::Metadata(path) => match cx.metadata?.get(&path.namespace, &path.path)? {
            Value::String(text) => Some(&**text),
            _ => None,
        },
    };
    let lists = options.sources.iter().filter_map(text);
    let addresses = lists.flat_map(|list| list.split(',')).map(str::trim).filter(|address| !address.is_empty());
    addresses.map(Box::from).collect()
}
