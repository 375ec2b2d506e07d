//! `FilterChain`: its match, its transport socket, its filters.

use super::overlap;
use crate::compile::{Compile, Invalid, NetworkFactory};
use crate::lower::number::{Wrapped, duration_field, port};
use crate::lower::{discovered_extension, extension, matcher, transport_socket, value};
use crate::snapshot::FilterChain;
use crate::sources::LiveExtension;
use nuncio_api::pb::envoy::config::listener::v3 as pb;
use nuncio_filter::{LiveNetworkFilter, LiveTerminalFilter, NetworkFilterFactory, TerminalFilterFactory};
use nuncio_matcher::{FilterChainMatch, FilterChainMatcher, SourceType};
use nuncio_stats::names::ListenerExtensionConfigStats;
use prost::Message;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;

/// The chains of a listener, and which connection gets which.
pub(super) struct Chains {
    pub(super) chains: Vec<Arc<FilterChain>>,
    pub(super) matcher: FilterChainMatcher,
}

/// `filter_chains` and `default_filter_chain`.
pub(super) fn chains(listener: &pb::Listener, cx: &mut Compile<'_>) -> Result<Chains, Invalid> {
    let pb::Listener { filter_chains, default_filter_chain, .. } = listener;
    let before = cx.errors();
    if filter_chains.is_empty() && default_filter_chain.is_none() && is_plain(listener) {
        cx.error_hint("no filter chains specified", "add filter_chains, or a default_filter_chain");
    }
    let mut chains = Vec::with_capacity(filter_chains.len() + 1);
    let mut matches = Vec::with_capacity(filter_chains.len());
    for (index, chain) in filter_chains.iter().enumerate() {
        let mut cx = cx.element("filter_chains", index);
        let identity = identity(listener, chain, false);
        chains.extend(filter_chain(chain, &identity, &mut cx).ok().map(Arc::new));
        let wanted = chain.filter_chain_match.as_ref();
        let lowered = wanted.map(|wanted| chain_match(wanted, &mut cx.field("filter_chain_match"))).transpose();
        matches.extend(lowered.ok().map(Option::unwrap_or_default));
    }
    let mut default = None;
    if let Some(chain) = default_filter_chain {
        let mut cx = cx.field("default_filter_chain");
        default = Some(filter_chains.len());
        let identity = identity(listener, chain, true);
        chains.extend(filter_chain(chain, &identity, &mut cx).ok().map(Arc::new));
    }
    if matches.len() == filter_chains.len() {
        overlap::check(filter_chains, &matches, cx);
    }
    cx.unless_errors_since(before)?;
    let matcher = FilterChainMatcher::new(matches, default).map_err(|duplicate| {
        let text = format!("has the same match as filter_chains[{}]", duplicate.first);
        cx.element("filter_chains", duplicate.second).error(text)
    })?;
    Ok(Chains { chains, matcher })
}

/// Whether the listener is one that needs filter chains; the others are refused elsewhere.
fn is_plain(listener: &pb::Listener) -> bool {
    listener.udp_listener_config.is_none() && listener.api_listener.is_none() && listener.fcds_config.is_none()
}

/// What tells a chain from all others of the process, wherever it stands: sessions are not resumed across it. Names alone would
/// not do, since nothing keeps them unique.
fn identity(listener: &pb::Listener, chain: &pb::FilterChain, is_default: bool) -> Vec<u8> {
    let wanted = chain.filter_chain_match.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    let mut identity = vec![u8::from(is_default)];
    for part in [listener.name.as_bytes(), chain.name.as_bytes(), &wanted] {
        identity.extend((part.len() as u64).to_be_bytes());
        identity.extend(part);
    }
    identity
}

fn filter_chain(chain: &pb::FilterChain, identity: &[u8], cx: &mut Compile<'_>) -> Result<FilterChain, Invalid> {
    #[allow(deprecated)]
    let pb::FilterChain {
        filter_chain_match: _,
        filters,
        // Adds a listener filter: see `filters`.
        use_proxy_proto: _,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = chain;
    let socket = match transport_socket {
        Some(socket) => transport_socket::downstream(socket, identity, &mut cx.field("transport_socket")),
        None => Ok(None),
    };
    let field = "transport_socket_connect_timeout";
    let timeout = duration_field(transport_socket_connect_timeout, field, cx);
    let metadata = value::metadata(metadata, "metadata", cx);
    let network = network_filters(filters, cx);
    let tls = socket?;
    let (filters, terminal) = network?;
    let mut hash = DefaultHasher::new();
    hash.write(&chain.encode_to_vec());
    Ok(FilterChain {
        hash: hash.finish(),
        name: name.as_str().into(),
        metadata,
        filters,
        terminal,
        tls,
        transport_connect_timeout: timeout?.filter(|timeout| !timeout.is_zero()),
    })
}

type Network = (Vec<Arc<dyn NetworkFilterFactory>>, Option<Arc<dyn TerminalFilterFactory>>);

/// The filters before the last, and the last.
fn network_filters(filters: &[pb::Filter], cx: &mut Compile<'_>) -> Result<Network, Invalid> {
    let mut before_last = Vec::new();
    let mut terminal = None;
    let before = cx.errors();
    for (index, filter) in filters.iter().enumerate() {
        let mut cx = cx.element("filters", index);
        let is_last = index + 1 == filters.len();
        match (network_filter(filter, is_last, &mut cx), is_last) {
            (Err(Invalid), _) => {}
            (Ok(NetworkFactory::Terminal(factory)), true) => terminal = Some(factory),
            (Ok(NetworkFactory::Filter(factory)), false) => before_last.push(factory),
            (Ok(NetworkFactory::Terminal(_)), false) => {
                let name = &filter.name;
                let text = format!("terminal filter {name} must be the last filter in a network filter chain");
                cx.error_hint(text, "move it behind the others, or remove those behind it");
            }
            (Ok(NetworkFactory::Filter(_)), true) => {
                let name = &filter.name;
                let text = format!("non-terminal filter {name} is the last filter in a network filter chain");
                cx.error_hint(
                    text,
                    "add envoy.filters.network.tcp_proxy or envoy.filters.network.http_connection_manager",
                );
            }
        }
    }
    cx.unless_errors_since(before)?;
    Ok((before_last, terminal))
}

fn network_filter(filter: &pb::Filter, is_last: bool, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
    use pb::filter::ConfigType;
    let pb::Filter { name, config_type } = filter;
    let any = match config_type {
        Some(ConfigType::ConfigDiscovery(discovery)) => {
            let missing = Some(ListenerExtensionConfigStats::register(&cx.scope));
            let mut cx = cx.field("config_discovery");
            if is_last {
                let live = Arc::new(LiveTerminalFilter::new(missing));
                discovered_extension(name, discovery, LiveExtension::Terminal(Arc::clone(&live)), &mut cx)?;
                return Ok(NetworkFactory::Terminal(live));
            }
            let live = Arc::new(LiveNetworkFilter::new(missing));
            let target = LiveExtension::Network(Arc::clone(&live));
            discovered_extension(name, discovery, target, &mut cx)?;
            return Ok(NetworkFactory::Filter(live));
        }
        Some(ConfigType::TypedConfig(any)) => Some(any),
        None => None,
    };
    let registry = cx.registry;
    extension::compile(name, any, &registry.network, "network filter", cx)
}

fn chain_match(wanted: &pb::FilterChainMatch, cx: &mut Compile<'_>) -> Result<FilterChainMatch, Invalid> {
    let pb::FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type: _,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = wanted;
    let before = cx.errors();
    if !address_suffix.is_empty() {
        cx.refuse("address_suffix", "more connections would match than it says");
    }
    if suffix_len.is_some() {
        cx.refuse("suffix_len", "more connections would match than it says");
    }
    let destination_port = destination_port.get().map(|value| port(value, "destination_port", cx)).transpose();
    let destination_ranges = matcher::cidrs(prefix_ranges, "prefix_ranges", cx);
    let direct_source_ranges = matcher::cidrs(direct_source_prefix_ranges, "direct_source_prefix_ranges", cx);
    let source_ranges = matcher::cidrs(source_prefix_ranges, "source_prefix_ranges", cx);
    let source_ports = source_ports.iter().map(|value| port(*value, "source_ports", cx)).collect::<Result<_, _>>();
    let server_names = matcher::list(server_names, "server_names", cx, server_name);
    cx.unless_errors_since(before)?;
    Ok(FilterChainMatch {
        destination_port: destination_port?,
        destination_ranges: destination_ranges?,
        server_names: server_names?,
        transport_protocol: transport_protocol.as_str().into(),
        application_protocols: application_protocols.iter().map(|protocol| protocol.as_str().into()).collect(),
        direct_source_ranges: direct_source_ranges?,
        source_type: match wanted.source_type() {
            pb::filter_chain_match::ConnectionSourceType::Any => SourceType::Any,
            pb::filter_chain_match::ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
            pb::filter_chain_match::ConnectionSourceType::External => SourceType::External,
        },
        source_ranges: source_ranges?,
        source_ports: source_ports?,
    })
}

fn server_name(name: &String, cx: &mut Compile<'_>) -> Result<Arc<str>, Invalid> {
    let suffix = name.strip_prefix("*.").unwrap_or(name);
    if suffix.contains('*') {
        let text = format!("partial wildcards are not supported in server_names: {name}");
        return Err(cx.error_hint(text, "write *.example.com, or leave server_names out to match any"));
    }
    Ok(name.to_ascii_lowercase().into())
}
