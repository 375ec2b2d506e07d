//! Listeners and filter chains.

use super::{Outcome, lower_yaml};
use crate::snapshot::{DrainType, TrafficDirection};
use nuncio_matcher::ChainQuery;
use std::time::Duration;

const PROXY: &str = "{name: t, typed_config: {'@type': \
                     type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c}}";
const RBAC: &str = "{name: r, typed_config: {'@type': \
                    type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: t}}";
const ADDRESS: &str = "address: {socket_address: {address: 127.0.0.1, port_value: 80}}";

fn lower_listeners(listeners: &str) -> Outcome {
    lower_yaml(&format!("static_resources: {{clusters: [{{name: c}}], listeners: [{listeners}]}}"))
}

fn lower_listener(fields: &str) -> Outcome {
    lower_listeners(&format!("{{name: l, {fields}}}"))
}

#[test]
fn errors() {
    let check = |fields: &str, expected: &str| {
        let fields = fields.replace("ADDRESS", ADDRESS).replace("PROXY", PROXY).replace("RBAC", RBAC);
        let outcome = lower_listener(&fields);
        assert!(outcome.snapshot.is_none(), "{fields}");
        let errors = outcome.errors();
        let below = format!("static_resources.listeners[0]{expected}");
        assert!(errors.contains(&below), "{fields}\n  found {errors}  expected {below}");
    };
    check("ADDRESS", ": no filter chains specified");
    check("filter_chains: [{filters: [PROXY]}]", ".address: is required");
    check(
        "ADDRESS, filter_chains: [{filters: [PROXY, PROXY]}]",
        ".filter_chains[0].filters[0]: terminal filter t must be the last filter in a network filter chain",
    );
    check(
        "ADDRESS, filter_chains: [{filters: [RBAC]}]",
        ".filter_chains[0].filters[0]: non-terminal filter r is the last filter in a network filter chain",
    );
    check(
        "ADDRESS, filter_chains: [{name: x, filters: [PROXY]}, {name: z, filters: [PROXY]}]",
        ".filter_chains[1]: filter_chains[1] (z) has the same matching rules as filter_chains[0] (x)",
    );
    check(
        "ADDRESS, filter_chains: [{filter_chain_match: {server_names: [a.b, b.c]}, filters: [PROXY]}, \
         {filter_chain_match: {server_names: [B.c]}, filters: [PROXY]}]",
        ".filter_chains[1]: filter_chains[1] has overlapping matching rules with filter_chains[0]",
    );
    check(
        "ADDRESS, filter_chains: [{filter_chain_match: {server_names: ['*']}, filters: [PROXY]}]",
        ".filter_chains[0].filter_chain_match.server_names[0]: partial wildcards are not supported",
    );
    check(
        "ADDRESS, filter_chains: [{filter_chain_match: {address_suffix: x}, filters: [PROXY]}]",
        ".filter_chains[0].filter_chain_match.address_suffix: is not supported yet",
    );
    check(
        "ADDRESS, filter_chains: [{filters: [{name: envoy.filters.network.mongo_proxy, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy, stat_prefix: t}}]}]",
        ".filter_chains[0].filters[0].typed_config: the network filter envoy.filters.network.mongo_proxy \
         (envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy) is not built",
    );
    check(
        "address: {socket_address: {protocol: UDP, address: 0.0.0.0, port_value: 53}}, udp_listener_config: {}",
        ".address.socket_address.protocol: UDP is not built yet: use TCP",
    );
    check(
        "address: {socket_address: {address: localhost, port_value: 80}}, filter_chains: [{filters: [PROXY]}]",
        ".address.socket_address.address: malformed IP address: localhost",
    );
    check(
        "ADDRESS, additional_addresses: [{ADDRESS}], filter_chains: [{filters: [PROXY]}]",
        ".additional_addresses[0]: the listener l has the address 127.0.0.1:80 twice",
    );
    check(
        "ADDRESS, filter_chain_matcher: {}, filter_chains: [{filters: [PROXY]}]",
        ".filter_chain_matcher: is not supported yet, and ignoring it would not be safe",
    );
}

#[test]
fn listeners_share_no_address() {
    let listener = |name: &str, port: u16| {
        format!(
            "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: \
             [{{filters: [{PROXY}]}}]}}"
        )
    };
    let both = lower_listeners(&format!("{}, {}", listener("a", 80), listener("b", 80)));
    assert!(both.errors().contains("two listeners bind 127.0.0.1:80: a and b"), "{}", both.findings);
    let any_port = lower_listeners(&format!("{}, {}", listener("a", 0), listener("b", 0)));
    assert_eq!(any_port.snapshot().listeners.len(), 2);
    let one_name = lower_listeners(&format!("{}, {}", listener("a", 80), listener("a", 81)));
    assert!(one_name.warnings().contains("listeners[0] has the name a, too: this one is left out"));
    assert_eq!(one_name.snapshot().listeners.len(), 1);
}

#[test]
fn fields() {
    let fields = format!(
        "address: {{socket_address: {{address: '::1', port_value: 80, ipv4_compat: true}}}}, stat_prefix: s, \
         per_connection_buffer_limit_bytes: 9, listener_filters_timeout: 0s, traffic_direction: OUTBOUND, \
         drain_type: MODIFY_ONLY, transparent: true, tcp_backlog_size: 5, use_original_dst: true, \
         tcp_keepalive: {{keepalive_time: 7}}, socket_options: [{{level: 1, name: 9, int_value: 1, ip_version: SOCKET_IP_VERSION_IPV4}}, \
         {{level: 1, name: 10, int_value: 1}}], deprecated_v1: {{bind_to_port: false}}, \
         filter_chains: [{{name: chain, filter_chain_match: {{destination_port: 443}}, filters: [{RBAC}, {PROXY}]}}], \
         default_filter_chain: {{filters: []}}"
    );
    let listener = lower_listener(&fields).snapshot().listeners.remove(0);
    assert_eq!((&*listener.name, &*listener.stat_prefix, listener.buffer_limit), ("l", "s", 9));
    assert_eq!(listener.listener_filters_timeout, None);
    assert_eq!(listener.traffic_direction, TrafficDirection::Outbound);
    assert_eq!(listener.drain_type, DrainType::ModifyOnly);
    assert_eq!(listener.listener_filters.len(), 1, "original_dst is added");
    assert!(!listener.bind_to_port && listener.use_original_dst && listener.has_default_chain);
    let spec = &listener.addresses[0];
    assert_eq!((spec.backlog, spec.transparent, spec.ipv4_compat), (Some(5), Some(true), true));
    assert_eq!(spec.keepalive.and_then(|keepalive| keepalive.time), Some(Duration::from_secs(7)));
    assert_eq!(spec.options.iter().map(|option| option.name).collect::<Vec<_>>(), [10]);
    assert_eq!(listener.chains[0].filters.len(), 1);
    assert!(listener.chains[0].terminal.is_some() && listener.chains[1].terminal.is_none());
    let query = |port| ChainQuery {
        destination: Some(([127, 0, 0, 1], port).into()),
        source: None,
        direct_source: None,
        server_name: None,
        transport_protocol: "",
        application_protocols: &[],
    };
    assert_eq!((listener.matcher.find(&query(443)), listener.matcher.find(&query(80))), (Some(0), Some(1)));
    assert!(!listener.wire.is_empty() && listener.hash != 0);
}

#[test]
fn a_listener_without_a_name_has_that_of_its_address() {
    let outcome = lower_listeners(&format!("{{{ADDRESS}, filter_chains: [{{filters: [{PROXY}]}}]}}"));
    let listener = outcome.snapshot().listeners.remove(0);
    assert_eq!((&*listener.name, listener.listener_filters_timeout), ("127.0.0.1:80", Some(Duration::from_secs(15))));
}

#[test]
fn a_tls_inspector_is_added_where_chains_need_it() {
    let outcome = lower_listener(&format!(
        "{ADDRESS}, filter_chains: [{{filter_chain_match: {{server_names: [a.b]}}, filters: [{PROXY}]}}]"
    ));
    assert!(outcome.warnings().contains("need the tls_inspector listener filter"), "{}", outcome.findings);
    assert_eq!(outcome.snapshot().listeners[0].listener_filters.len(), 1);
}

#[test]
fn filters_that_some_ports_skip() {
    let outcome = lower_listener(&format!(
        "{ADDRESS}, filter_chains: [{{filters: [{PROXY}]}}], listener_filters: [{{name: \
         envoy.filters.listener.original_dst, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}, filter_disabled: \
         {{or_match: {{rules: [{{destination_port_range: {{start: 10, end: 20}}}}, {{and_match: {{rules: \
         [{{destination_port_range: {{start: 30, end: 40}}}}, {{not_match: {{destination_port_range: {{start: 35, end: 36}}}}}}]}}}}]}}}}}}]"
    ));
    let listener = outcome.snapshot().listeners.remove(0);
    for (port, disabled) in [(9, false), (10, true), (19, true), (20, false), (30, true), (35, false), (39, true)] {
        assert_eq!(listener.listener_filters[0].disabled_for(port), disabled, "{port}");
    }
}
