//! `listener_filters`: from the registry, each with its `filter_disabled`, and those that Envoy adds by itself.

use crate::compile::{Compile, Invalid};
use crate::lower::number::Wrapped;
use crate::lower::{discovered_extension, extension, matcher};
use crate::sources::LiveExtension;
use nuncio_api::pb::envoy::config::listener::v3 as pb;
use nuncio_api::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use nuncio_api::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use nuncio_api::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use nuncio_api::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use nuncio_api::wkt::Any;
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, LiveListenerFilter};
use nuncio_matcher::PortRange;
use nuncio_stats::names::ListenerExtensionConfigStats;
use pb::listener_filter::ConfigType;
use prost::Name;
use std::sync::Arc;

type Factory = Arc<dyn ListenerFilterFactory>;

/// The listener filters of a listener, in the order in which they run.
pub(super) fn listener_filters(
    listener: &pb::Listener,
    name: &str,
    cx: &mut Compile<'_>,
) -> Result<Vec<Factory>, Invalid> {
    let mut filters = matcher::list(&listener.listener_filters, "listener_filters", cx, listener_filter)?;
    if listener.use_original_dst.value_or(false) {
        filters.push(added::<OriginalDst>("use_original_dst", cx)?);
    }
    // The first chain speaks for all, as in Envoy.
    let first = listener.filter_chains.first().or(listener.default_filter_chain.as_ref());
    #[allow(deprecated)]
    if first.is_some_and(|chain| chain.use_proxy_proto.value_or(false)) {
        filters.push(added::<ProxyProtocol>("filter_chains", cx)?);
    }
    if needs_tls_inspector(listener) {
        let text = format!(
            "listener {name}: the filter chain match rules need the tls_inspector listener filter, which is not \
             configured; it is added"
        );
        cx.field("listener_filters").warn(text);
        if cx.registry.listener.iter().any(|entry| entry.config == TlsInspector::full_name()) {
            filters.push(added::<TlsInspector>("listener_filters", cx)?);
        } else {
            let hint = "filter chains that match on server_names or on transport_protocol tls are never chosen";
            let text = "tls_inspector is not built yet: connections are matched as plaintext (raw_buffer)";
            cx.field("listener_filters").warn_hint(text, hint);
        }
    }
    Ok(filters)
}

/// A filter that Envoy adds on account of `field`.
fn added<M: Name>(field: &'static str, cx: &mut Compile<'_>) -> Result<Factory, Invalid> {
    let any = Any { type_url: M::type_url(), value: Vec::new() };
    let registry = cx.registry;
    match registry.listener.iter().find(|entry| entry.config == M::full_name()) {
        Some(entry) => (entry.compile)(&any, &mut cx.field(field)),
        None => Err(cx.field(field).error(format!("needs the listener filter {}, which is not built", M::full_name()))),
    }
}

/// Whether filter chains are chosen by what only a TLS hello tells, and no filter looks at it.
fn needs_tls_inspector(listener: &pb::Listener) -> bool {
    let sees_http = listener.listener_filters.iter().any(|filter| is_filter::<HttpInspector>(filter, HTTP_INSPECTOR));
    let found_in_plaintext = |protocol: &String| sees_http && PLAINTEXT_PROTOCOLS.contains(&protocol.as_str());
    let needs = |chain: &pb::FilterChain| {
        chain.filter_chain_match.as_ref().is_some_and(|wanted| {
            let by_hello =
                !wanted.server_names.is_empty() || !wanted.application_protocols.iter().all(found_in_plaintext);
            wanted.transport_protocol == "tls" || (wanted.transport_protocol.is_empty() && by_hello)
        })
    };
    let sees_tls = listener.listener_filters.iter().any(|filter| is_filter::<TlsInspector>(filter, TLS_INSPECTOR));
    listener.filter_chains.iter().any(needs) && !sees_tls
}

const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";

/// What http_inspector finds.
const PLAINTEXT_PROTOCOLS: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// Whether a filter has the configuration `M`, or by its name alone stands for it.
fn is_filter<M: Name>(filter: &pb::ListenerFilter, name: &str) -> bool {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => crate::compile::message_of(any) == M::full_name(),
        _ => filter.name == name,
    }
}

fn listener_filter(filter: &pb::ListenerFilter, cx: &mut Compile<'_>) -> Result<Factory, Invalid> {
    let pb::ListenerFilter { name, filter_disabled, config_type } = filter;
    let any = match config_type {
        Some(ConfigType::ConfigDiscovery(discovery)) => {
            let live = Arc::new(LiveListenerFilter::new(Some(ListenerExtensionConfigStats::register(&cx.scope))));
            let target = LiveExtension::Listener(Arc::clone(&live));
            let noted = discovered_extension(name, discovery, target, &mut cx.field("config_discovery"));
            return conditional(noted.map(|()| live as Factory), filter_disabled.as_ref(), cx);
        }
        Some(ConfigType::TypedConfig(any)) => Some(any),
        None => None,
    };
    let registry = cx.registry;
    let factory = extension::compile(name, any, &registry.listener, "listener filter", cx);
    conditional(factory, filter_disabled.as_ref(), cx)
}

/// A filter with its `filter_disabled`.
fn conditional(
    factory: Result<Factory, Invalid>,
    filter_disabled: Option<&pb::ListenerFilterChainMatchPredicate>,
    cx: &mut Compile<'_>,
) -> Result<Factory, Invalid> {
    let Some(disabled) = filter_disabled else { return factory };
    let disabled = predicate(disabled, &mut cx.field("filter_disabled"));
    Ok(Arc::new(Conditional { factory: factory?, disabled: disabled? }))
}

/// A filter that some connections skip.
struct Conditional {
    factory: Factory,
    disabled: Predicate,
}

impl ListenerFilterFactory for Conditional {
    fn create(&self) -> Box<dyn ListenerFilter> {
        self.factory.create()
    }

    fn disabled_for(&self, destination_port: u16) -> bool {
        self.disabled.holds(destination_port) || self.factory.disabled_for(destination_port)
    }
}

/// `ListenerFilterChainMatchPredicate`.
#[derive(Debug, PartialEq)]
pub(super) enum Predicate {
    Any(Vec<Predicate>),
    All(Vec<Predicate>),
    Not(Box<Predicate>),
    Always,
    Port(PortRange),
}

impl Predicate {
    pub(super) fn holds(&self, port: u16) -> bool {
        match self {
            Predicate::Any(rules) => rules.iter().any(|rule| rule.holds(port)),
            Predicate::All(rules) => rules.iter().all(|rule| rule.holds(port)),
            Predicate::Not(rule) => !rule.holds(port),
            Predicate::Always => true,
            Predicate::Port(range) => range.contains(port),
        }
    }
}

/// Decoding bounds how deep predicates are.
pub(super) fn predicate(
    rule: &pb::ListenerFilterChainMatchPredicate,
    cx: &mut Compile<'_>,
) -> Result<Predicate, Invalid> {
    use pb::listener_filter_chain_match_predicate::Rule;
    match &rule.rule {
        None => {
            Err(cx.error_hint("has no rule", "set any_match, destination_port_range, not_match, and_match or or_match"))
        }
        Some(Rule::AnyMatch(_)) => Ok(Predicate::Always),
        Some(Rule::NotMatch(rule)) => Ok(Predicate::Not(Box::new(predicate(rule, &mut cx.field("not_match"))?))),
        Some(Rule::OrMatch(set)) => {
            Ok(Predicate::Any(matcher::list(&set.rules, "rules", &mut cx.field("or_match"), predicate)?))
        }
        Some(Rule::AndMatch(set)) => {
            Ok(Predicate::All(matcher::list(&set.rules, "rules", &mut cx.field("and_match"), predicate)?))
        }
        Some(Rule::DestinationPortRange(range)) => match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Ok(Predicate::Port(PortRange { start, end })),
            _ => Err(cx.field("destination_port_range").error("found a negative port, expected 0 to 65536")),
        },
    }
}
