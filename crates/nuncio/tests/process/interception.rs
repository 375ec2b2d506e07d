//! The acceptance files that intercept connections, as they are: a proxy host between a client and a server, with real
//! REDIRECT rules.

use std::net::SocketAddr;
use std::path::Path;

use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::{End, text};
use nuncio_testkit::netns::Host;
use nuncio_testkit::origin::{Action, Origin, Script};
use nuncio_testkit::process::Proxy;
use tempfile::TempDir;

use crate::shared;
use crate::support::*;

const CLIENT: &str = "10.1.0.2";
const PROXY: &str = "10.1.0.1";
const PROXY_TO_SERVER: &str = "10.2.0.1";
const SERVER: &str = "10.2.0.2";
/// The address of the service in file 07.
const SERVICE: &str = "10.107.42.16";

/// Client, proxy and server, each a host; the proxy's is the router between the others.
struct Network {
    client: Host,
    proxy: Host,
    server: Host,
    dir: TempDir,
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

impl Network {
    fn new() -> Self {
        let [client, proxy, server] = [(); 3].map(|()| Host::new().unwrap());
        Host::link((&client, &format!("{CLIENT}/24")), (&proxy, &format!("{PROXY}/24"))).unwrap();
        Host::link((&proxy, &format!("{PROXY_TO_SERVER}/24")), (&server, &format!("{SERVER}/24"))).unwrap();
        client.default_route(PROXY.parse().unwrap()).unwrap();
        server.default_route(PROXY_TO_SERVER.parse().unwrap()).unwrap();
        proxy.forward().unwrap();
        server.add_address(&format!("{SERVICE}/32")).unwrap();
        proxy.command("ip", &["route", "add", SERVICE, "via", SERVER]).unwrap();
        Self { client, proxy, server, dir: tempfile::tempdir().unwrap() }
    }

    /// Starts the binary on the proxy's host.
    fn start(&self, config: &Path) -> Proxy {
        let config = config.to_str().unwrap();
        let args = ["-c", config, "--concurrency", "2", "--disable-hot-restart", "--log-level", "info"];
        self.proxy.run(|| {
            let mut proxy = program().spawn(&args, self.dir.path()).unwrap();
            if let Err(error) = proxy.await_ready() {
                panic!("{error}\n--- output:\n{}", proxy.output());
            }
            proxy
        })
    }

    fn stats(&self, proxy: &Proxy) -> nuncio_testkit::stats::Values {
        self.proxy.run(|| settle(proxy));
        nuncio_testkit::stats::parse(&self.proxy.run(|| proxy.admin_text("/stats")).unwrap())
    }

    /// Connects from the client's host.
    fn connect(&self, to: SocketAddr) -> Client {
        self.client.run(|| Client::connect(to)).unwrap()
    }

    fn serve(host: &Host, address: SocketAddr, script: Script) -> Origin {
        host.run(|| Origin::start_at(address, script, Gates::default())).unwrap()
    }
}

#[test]
fn file_02_forwards_in_and_out_to_the_original_destination() {
    if !crate::shared::at_hand() {
        return;
    }
    let network = Network::new();
    // Connections to the proxy's host are inbound, those through it outbound.
    network.proxy.redirect(&format!("ip daddr {PROXY}"), 15006).unwrap();
    network
        .proxy
        .rules("add rule ip nat prerouting ip daddr 10.2.0.0/24 meta l4proto tcp redirect to :15001\n")
        .unwrap();
    let app = Network::serve(&network.proxy, at(PROXY, 8000), Script::Http(vec![body("app")]));
    let server = Network::serve(&network.server, at(SERVER, 9000), Script::Http(vec![body("server")]));
    let proxy = network.start(&shared::path("02"));
    let mut inbound = network.connect(at(PROXY, 8000));
    assert_eq!(answer(&get(&mut inbound, "/in")), (200, "app".into()));
    let mut outbound = network.connect(at(SERVER, 9000));
    assert_eq!(answer(&get(&mut outbound, "/out")), (200, "server".into()));
    // Inbound bytes are not looked at; outbound ones are HTTP.
    assert_eq!(app.seen()[0].head.get("x-request-id"), None);
    assert!(server.seen()[0].head.get("x-request-id").is_some());
    let stats = network.stats(&proxy);
    assert_eq!(
        (stats["tcp.inbound_proxy.downstream_cx_total"], stats["http.outbound_proxy.downstream_cx_total"]),
        (1, 1)
    );
}

#[test]
fn file_04_proxies_inbound() {
    if !crate::shared::at_hand() {
        return;
    }
    let network = Network::new();
    network.proxy.redirect("tcp dport 80", 15006).unwrap();
    let app = Network::serve(&network.proxy, at("127.0.0.1", 80), Script::Http(vec![body("app")]));
    let proxy = network.start(&shared::path("04"));
    assert!(proxy.output().contains("`envoy.filters.http.router` has no `typed_config`"), "{}", proxy.output());
    let mut client = network.connect(at(PROXY, 80));
    assert_eq!(answer(&get(&mut client, "/")), (200, "app".into()));
    let head = &app.seen()[0].head;
    assert_eq!(head.get("host"), Some("test"));
    assert!(head.get("x-request-id").is_some());
    assert_eq!(network.stats(&proxy)["http.ingress_http.downstream_rq_2xx"], 1);
}

#[test]
fn file_05_blocks_everything() {
    if !crate::shared::at_hand() {
        return;
    }
    let network = Network::new();
    network.proxy.redirect("", 15001).unwrap();
    let server = Network::serve(&network.server, at(SERVER, 80), Script::Http(vec![]));
    let proxy = network.start(&shared::path("05"));
    for address in [at(SERVER, 80), at(SERVICE, 443), at("10.2.0.77", 1234)] {
        let mut client = network.connect(address);
        // It may be closed before the bytes are sent.
        let _ = client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        let end = client.rest();
        assert_eq!(text(&end.data), "");
        assert_ne!(end.end, End::TimedOut, "the connection to {address} stays open");
    }
    assert_eq!(server.connections(), 0);
    let stats = network.stats(&proxy);
    assert_eq!(stats["tcp.BlockAllCluster.downstream_cx_total"], 3);
    assert_eq!(stats["cluster.BlockAllCluster.upstream_cx_none_healthy"], 3);
}

#[test]
fn file_06_reaches_the_original_destination() {
    if !crate::shared::at_hand() {
        return;
    }
    let network = Network::new();
    network.proxy.redirect("", 15001).unwrap();
    let web = Network::serve(&network.server, at(SERVER, 80), Script::Http(vec![body("web")]));
    // A server that speaks first, on another address and port.
    let greets = Script::Tcp { tcp: vec![Action::Send("hello".into()), Action::Echo] };
    let other = Network::serve(&network.server, at(SERVICE, 2525), greets);
    let proxy = network.start(&shared::path("06"));
    let mut client = network.connect(at(SERVER, 80));
    assert_eq!(answer(&get(&mut client, "/")), (200, "web".into()));
    assert_eq!(web.seen()[0].head.get("x-request-id"), None, "the bytes are not looked at");
    let mut client = network.connect(at(SERVICE, 2525));
    assert_eq!(text(&client.bytes(5).data), "hello");
    client.send(b"and back").unwrap();
    client.finish_sending().unwrap();
    let rest = client.rest();
    assert_eq!((text(&rest.data), rest.end), ("and back".into(), End::Complete));
    assert_eq!((web.connections(), other.connections()), (1, 1));
    let stats = network.stats(&proxy);
    assert_eq!(stats["tcp.AllowAll.downstream_cx_total"], 2);
    assert_eq!(stats["cluster.AllowAll.upstream_cx_total"], 2);
}

/// What file 07 does, with or without its script.
fn hands_over(config: &Path, age: Option<&str>) {
    let network = Network::new();
    network.proxy.redirect("", 15001).unwrap();
    let service = Network::serve(&network.server, at(SERVICE, 80), Script::Http(vec![body("service")]));
    let web = Network::serve(&network.server, at(SERVER, 80), Script::Http(vec![body("web")]));
    let proxy = network.start(config);
    let mut client = network.connect(at(SERVICE, 80));
    let response = get(&mut client, "/");
    assert_eq!(answer(&response), (200, "service".into()));
    assert_eq!(header(&response, "myage"), age);
    assert!(service.seen()[0].head.get("x-request-id").is_some());
    // Everything else goes where it was meant to, as it is.
    let mut client = network.connect(at(SERVER, 80));
    let response = get(&mut client, "/");
    assert_eq!((answer(&response), header(&response, "myage")), ((200, "web".into()), None));
    assert_eq!(web.seen()[0].head.get("x-request-id"), None);
    let stats = network.stats(&proxy);
    assert_eq!(stats["http.outbound|10.107.42.16_80.downstream_rq_2xx"], 1);
    assert_eq!(stats["tcp.AllowAll.downstream_cx_total"], 1);
}

#[test]
fn file_07_adds_a_header_to_the_responses_of_one_service() {
    if !crate::shared::at_hand() {
        return;
    }
    hands_over(&shared::path("07"), Some("18"));
}

#[test]
fn a_listener_that_binds_no_port_serves_what_is_handed_over() {
    if !crate::shared::at_hand() {
        return;
    }
    let config = shared::read("07");
    let from = config.find("          - name: myheader.lua").unwrap();
    let to = config.find("          - name: envoy.filters.http.router").unwrap();
    let setup = Setup::new(&(config[..from].to_owned() + &config[to..]));
    hands_over(&setup.config(), None);
}

#[test]
fn filter_chains_are_chosen_by_the_original_destination() {
    let network = Network::new();
    network.proxy.redirect("", 15001).unwrap();
    let says = |name: &str| {
        format!(
            "filters: [{{name: d, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, \
             response: {{inline_string: '{name}'}}}}}}]"
        )
    };
    let chain =
        |name: &str, fields: &str| format!("{{name: {name}, filter_chain_match: {{{fields}}}, {}}}", says(name));
    let listener = format!(
        "name: virtual, address: {}, listener_filters: [{{name: o, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}}}], \
         filter_chains: [{}, {}, {}], default_filter_chain: {{{}}}",
        address(at("0.0.0.0", 15001)),
        chain("port", "destination_port: 1001"),
        chain("prefix", "prefix_ranges: [{address_prefix: 10.2.0.0, prefix_len: 24}]"),
        chain("host", "prefix_ranges: [{address_prefix: 10.2.0.9, prefix_len: 32}]"),
        says("default"),
    );
    let setup = Setup::new(&bootstrap(&[listener], &[], &[]));
    let _proxy = network.start(&setup.config());
    let check = |to: SocketAddr, expected: &str| {
        assert_eq!(text(&network.connect(to).rest().data), expected, "to {to}");
    };
    // The port is asked before the prefix; the longest prefix wins.
    check(at(SERVER, 1001), "port");
    check(at(SERVICE, 1001), "port");
    check(at(SERVER, 1002), "prefix");
    check(at("10.2.0.9", 1002), "host");
    check(at(SERVICE, 1002), "default");
}
