//! Every entry leads to a message, and names mean what their place makes of them.

use super::{EARLIER, find, types::TYPES};
use crate::diagnostics::FieldPath;
use nuncio_api::schema::Schema;

#[test]
fn tables_are_sorted_and_complete() {
    assert!(TYPES.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    for (name, message) in TYPES {
        assert!(Schema::message(message).is_some(), "{name}: {message}");
    }
    for (earlier, now) in EARLIER {
        assert!(TYPES.iter().any(|(name, _)| name == now), "{earlier}: {now}");
    }
}

#[test]
fn names_in_their_places() {
    let check = |holder: &str, path: &str, name: &str, expected: Option<&str>| {
        let found = find(Schema::message(holder).unwrap(), name, &FieldPath::parse(path));
        assert_eq!(found.map(|it| it.message.full_name()), expected, "{name} in {holder}");
    };
    let http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
    let network = "envoy.config.listener.v3.Filter";
    let socket = "envoy.config.core.v3.TransportSocket";
    check(http, "", "envoy.filters.http.router", Some("envoy.extensions.filters.http.router.v3.Router"));
    check(http, "", "envoy.router", Some("envoy.extensions.filters.http.router.v3.Router"));
    check(http, "", "envoy.tcp_proxy", None);
    check(http, "", "router", None);
    check(http, "", "", None);
    check(network, "", "envoy.tcp_proxy", Some("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"));
    check(http, "", "envoy.ext_authz", Some("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"));
    check(network, "", "envoy.ext_authz", Some("envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"));
    let chain = "static_resources.listeners[0].filter_chains[0].transport_socket";
    let downstream = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let upstream = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    check(socket, chain, "envoy.transport_sockets.tls", Some(downstream));
    check(socket, "static_resources.clusters[0].transport_socket", "envoy.transport_sockets.tls", Some(upstream));
}
