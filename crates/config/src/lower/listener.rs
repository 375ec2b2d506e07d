//! `Listener`: addresses, sockets, listener filters and filter chains.

mod chain;
mod filters;
mod overlap;

use super::address::{self, ListenAddress};
use super::number::{Wrapped, duration_field};
use super::{access_log, value};
use crate::compile::{Compile, Facts, Invalid};
use crate::snapshot::{DrainType, ListenerConfig, TrafficDirection};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::listener::v3 as pb;
use nuncio_io::Address;
use nuncio_io::listen::ListenSpec;
use nuncio_stats::sanitize;
use prost::Message;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

/// `per_connection_buffer_limit_bytes`, where none is given.
const BUFFER_LIMIT: u32 = 1024 * 1024;
/// `listener_filters_timeout`, where none is given.
const FILTERS_TIMEOUT: Duration = Duration::from_secs(15);

/// All listeners of `listeners`, whose bytes are `wires`.
pub(super) fn listeners(listeners: &[pb::Listener], wires: &[&[u8]], cx: &mut Compile<'_>) -> Vec<Arc<ListenerConfig>> {
    let mut seen = Seen::default();
    let mut lowered = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.iter().enumerate() {
        let mut cx = cx.element("listeners", index);
        let wire = wires.get(index).copied().unwrap_or_default();
        if seen.has_name(&listener.name, index, &mut cx) {
            continue;
        }
        lowered.extend(self::listener(listener, wire, &mut seen, &mut cx).ok().map(Arc::new));
    }
    lowered
}

/// Names and addresses of the listeners so far.
#[derive(Default)]
pub(super) struct Seen {
    /// The index of the listener that has a name.
    names: HashMap<String, usize>,
    /// The listener that has an address.
    addresses: HashMap<Address, String>,
}

impl Seen {
    /// Of several listeners with one name, Envoy takes the first, and does not say so.
    fn has_name(&mut self, name: &str, index: usize, cx: &mut Compile<'_>) -> bool {
        if name.is_empty() {
            return false;
        }
        let first = *self.names.entry(name.to_owned()).or_insert(index);
        if first != index {
            let text = format!("listeners[{first}] has the name {name}, too: this one is left out, as in Envoy");
            cx.field("name").warn(text);
        }
        first != index
    }

    /// Two listeners can't have one address, bound or not; port 0 is another one each time.
    fn check_address(&mut self, address: &Address, title: &str, cx: &mut Compile<'_>) {
        if address.ip().is_some_and(|ip| ip.port() == 0) {
            return;
        }
        let Some(first) = self.addresses.insert(address.clone(), title.to_owned()) else { return };
        let text = if first == title {
            format!("the listener {title} has the address {address} twice")
        } else {
            format!("two listeners bind {address}: {first} and {title}")
        };
        cx.error_hint(text, "give one of them another port");
    }
}

pub(super) fn listener(
    listener: &pb::Listener,
    wire: &[u8],
    seen: &mut Seen,
    cx: &mut Compile<'_>,
) -> Result<ListenerConfig, Invalid> {
    let before = cx.errors();
    report_unsupported(listener, cx);
    let addresses = addresses(listener, cx);
    let first = addresses.first().map(|spec| spec.address.to_string()).unwrap_or_default();
    let name = if listener.name.is_empty() { first.clone() } else { listener.name.clone() };
    for (index, spec) in addresses.iter().enumerate() {
        let mut cx = if index == 0 { cx.field("address") } else { cx.element("additional_addresses", index - 1) };
        seen.check_address(&spec.address, &name, &mut cx);
    }
    let stat_prefix = if listener.stat_prefix.is_empty() { &first } else { &listener.stat_prefix };
    let buffer_limit = listener.per_connection_buffer_limit_bytes.value_or(BUFFER_LIMIT);
    let traffic_direction = match listener.traffic_direction() {
        core::TrafficDirection::Unspecified => TrafficDirection::Unspecified,
        core::TrafficDirection::Inbound => TrafficDirection::Inbound,
        core::TrafficDirection::Outbound => TrafficDirection::Outbound,
    };
    let facts = Facts {
        traffic_direction,
        listener_stat_prefix: format!("listener.{}", sanitize(stat_prefix)),
        listener_buffer_limit: buffer_limit,
        ..cx.facts.clone()
    };
    let scope = cx.store.scope(&facts.listener_stat_prefix, &[]);
    let mut cx = cx.scoped(scope);
    let mut cx = cx.with_facts(&facts);
    let access_logs = access_log::access_logs(&listener.access_log, "access_log", &mut cx);
    let listener_filters = filters::listener_filters(listener, &name, &mut cx);
    let chains = chain::chains(listener, &mut cx);
    let timeout = duration_field(&listener.listener_filters_timeout, "listener_filters_timeout", &mut cx);
    cx.unless_errors_since(before)?;
    let chain::Chains { chains, matcher } = chains?;
    Ok(ListenerConfig {
        name: name.as_str().into(),
        addresses,
        bind_to_port: bind_to_port(listener),
        use_original_dst: listener.use_original_dst.value_or(false),
        listener_filters: listener_filters?,
        listener_filters_timeout: Some(timeout?.unwrap_or(FILTERS_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
        matcher,
        chains,
        has_default_chain: listener.default_filter_chain.is_some(),
        buffer_limit,
        traffic_direction,
        drain_type: match listener.drain_type() {
            pb::listener::DrainType::Default => DrainType::Default,
            pb::listener::DrainType::ModifyOnly => DrainType::ModifyOnly,
        },
        access_logs: access_logs?,
        stat_prefix: listener.stat_prefix.clone(),
        metadata: value::metadata(&listener.metadata, "metadata", &mut cx),
        max_accepts_per_event: listener.max_connections_to_accept_per_socket_event.get(),
        ignore_global_connection_limit: listener.ignore_global_conn_limit,
        bypasses_overload_manager: listener.bypass_overload_manager,
        hash: hash(wire, cx.facts),
        hash_without_chains: hash_without_chains(listener, cx.facts),
        wire: wire.into(),
    })
}

fn hash_without_chains(listener: &pb::Listener, facts: &Facts) -> u64 {
    let rest = pb::Listener {
        filter_chains: Vec::new(),
        default_filter_chain: None,
        filter_chain_matcher: None,
        ..listener.clone()
    };
    hash(&rest.encode_to_vec(), facts)
}

/// A listener with other secrets is another listener.
fn hash(wire: &[u8], facts: &Facts) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(wire);
    hasher.write_u64(facts.secrets.digest());
    hasher.finish()
}

#[allow(deprecated)] // The deprecated form still works.
fn bind_to_port(listener: &pb::Listener) -> bool {
    let deprecated = || listener.deprecated_v1.as_ref().and_then(|deprecated| deprecated.bind_to_port.get());
    listener.bind_to_port.get().or_else(deprecated).unwrap_or(true)
}

/// Reports the fields that are not acted on, with all fields named, so that none is forgotten.
fn report_unsupported(listener: &pb::Listener, cx: &mut Compile<'_>) {
    #[allow(deprecated)]
    let pb::Listener {
        // Lowered: see `listener`, `addresses`, `chain` and `filters`.
        name: _,
        address: _,
        additional_addresses: _,
        stat_prefix: _,
        filter_chains: _,
        use_original_dst: _,
        default_filter_chain: _,
        per_connection_buffer_limit_bytes: _,
        metadata: _,
        deprecated_v1: _,
        drain_type: _,
        listener_filters: _,
        listener_filters_timeout: _,
        continue_on_listener_filters_timeout: _,
        transparent: _,
        freebind: _,
        socket_options: _,
        tcp_fast_open_queue_length: _,
        traffic_direction: _,
        enable_reuse_port: _,
        access_log: _,
        tcp_backlog_size: _,
        max_connections_to_accept_per_socket_event: _,
        bind_to_port: _,
        ignore_global_conn_limit: _,
        tcp_keepalive: _,
        // Hidden, and replaced by `enable_reuse_port`, which is on without it.
        reuse_port: _,
        bypass_overload_manager: _,
        stats_matcher,
        fcds_config,
        filter_chain_matcher,
        per_connection_buffer_high_watermark_timeout,
        udp_listener_config,
        api_listener,
        connection_balance_config,
        enable_mptcp,
        listener_specifier,
    } = listener;
    cx.unsupported_if(stats_matcher.is_some(), "stats_matcher");
    cx.unsupported_if(
        per_connection_buffer_high_watermark_timeout.is_some(),
        "per_connection_buffer_high_watermark_timeout",
    );
    cx.unsupported_if(connection_balance_config.is_some(), "connection_balance_config");
    cx.unsupported_if(*enable_mptcp, "enable_mptcp");
    if fcds_config.is_some() {
        cx.field("fcds_config").error_hint("xDS is not built yet", "list the chains under filter_chains");
    }
    if filter_chain_matcher.is_some() {
        cx.refuse("filter_chain_matcher", "connections would get other filter chains than it says");
    }
    if udp_listener_config.is_some() {
        cx.field("udp_listener_config").error("UDP and QUIC listeners are not built yet");
    }
    if api_listener.is_some() {
        cx.field("api_listener").error("API listeners are for Envoy Mobile and are not built");
    }
    if listener_specifier.is_some() {
        cx.field("internal_listener").error("internal listeners are not built yet");
    }
}

/// `address` and `additional_addresses`, as far as they can be lowered.
fn addresses(listener: &pb::Listener, cx: &mut Compile<'_>) -> Vec<ListenSpec> {
    let mut specs = Vec::with_capacity(1 + listener.additional_addresses.len());
    match &listener.address {
        Some(address) => specs.extend(address::listen_address(address, &mut cx.field("address")).ok()),
        None if listener.listener_specifier.is_some() || listener.api_listener.is_some() => {}
        None => {
            cx.field("address").error("is required");
        }
    }
    let mut specs: Vec<ListenSpec> = specs.into_iter().flat_map(|address| listen_spec(listener, address, cx)).collect();
    for (index, additional) in listener.additional_addresses.iter().enumerate() {
        let mut cx = cx.element("additional_addresses", index);
        specs.extend(additional_spec(listener, additional, &mut cx).ok());
    }
    specs
}

fn additional_spec(
    listener: &pb::Listener,
    additional: &pb::AdditionalAddress,
    cx: &mut Compile<'_>,
) -> Result<ListenSpec, Invalid> {
    let pb::AdditionalAddress { address, socket_options, tcp_keepalive } = additional;
    let Some(address) = address else { return Err(cx.field("address").error("is required")) };
    let address = address::listen_address(address, &mut cx.field("address"))?;
    // Errors in the listener's own options were reported with its first address.
    let mut spec = base_spec(listener, address);
    let (options, mut at) = match socket_options {
        Some(own) => (&own.socket_options, cx.field("socket_options")),
        None => {
            let mut path = cx.path.clone();
            path.pop();
            path.pop();
            let mut outer = cx.field("socket_options");
            outer.path = path;
            (&listener.socket_options, outer)
        }
    };
    spec.options = address::socket_options(options, "socket_options", Some(&spec.address), &mut at)?;
    if let Some(keepalive) = tcp_keepalive {
        spec.keepalive = Some(address::keepalive(keepalive));
    }
    Ok(spec)
}

fn listen_spec(listener: &pb::Listener, address: ListenAddress, cx: &mut Compile<'_>) -> Option<ListenSpec> {
    let mut spec = base_spec(listener, address);
    spec.options = address::socket_options(&listener.socket_options, "socket_options", Some(&spec.address), cx).ok()?;
    Some(spec)
}

/// Everything but `options`.
fn base_spec(listener: &pb::Listener, address: ListenAddress) -> ListenSpec {
    ListenSpec {
        reuse_port: listener.enable_reuse_port.value_or(true),
        backlog: listener.tcp_backlog_size.get(),
        transparent: listener.transparent.get(),
        freebind: listener.freebind.get(),
        tcp_fast_open: listener.tcp_fast_open_queue_length.get(),
        ipv4_compat: address.ipv4_compat,
        mode: address.mode,
        keepalive: listener.tcp_keepalive.as_ref().map(address::keepalive),
        ..ListenSpec::new(address.address)
    }
}
