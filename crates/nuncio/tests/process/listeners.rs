//! Listeners: kinds of addresses, choice of filter chains, and listener filters.

use std::io::Read;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as unix;

use nuncio_testkit::client::Client;
use nuncio_testkit::message::{End, text};
use nuncio_testkit::port::ReservedPort;

use crate::support::*;

const INSPECTOR: &str = "listener_filters: [{name: i, typed_config: {'@type': \
                         type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}]";

/// A filter that says this and closes.
fn says(what: &str) -> String {
    format!(
        "filters: [{{name: d, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, \
         response: {{inline_string: '{what}'}}}}}}]"
    )
}

fn chain(name: &str, fields: &str) -> String {
    format!("{{name: {name}, filter_chain_match: {{{fields}}}, {}}}", says(name))
}

fn listener(address: &str, fields: &str) -> String {
    format!("name: front, address: {address}, {fields}")
}

const LOOPBACK: &str = "{socket_address: {address: 127.0.0.1, port_value: $front}}";

fn started(address: &str, fields: &str) -> Running {
    Setup::new(&bootstrap(&[listener(address, fields)], &[], &[])).start()
}

fn greeting(mut client: Client) -> String {
    let end = client.rest();
    assert_ne!(end.end, End::TimedOut);
    text(&end.data)
}

#[test]
fn ipv6() {
    let port = ReservedPort::v6().unwrap();
    let address = format!("{{socket_address: {{address: '::1', port_value: {}}}}}", port.number());
    let running = started(&address, &format!("filter_chains: [{{{}}}]", says("six")));
    let address: SocketAddr = format!("[::1]:{}", port.number()).parse().unwrap();
    assert_eq!(greeting(Client::connect(address).unwrap()), "six");
    assert_eq!(running.proxy.listener("front").unwrap(), address);
}

#[test]
fn both_versions_on_one_listener() {
    let port = ReservedPort::v6().unwrap();
    let address = format!("{{socket_address: {{address: '::', port_value: {}, ipv4_compat: true}}}}", port.number());
    let _running = started(&address, &format!("filter_chains: [{{{}}}]", says("both")));
    for address in ["127.0.0.1", "[::1]"] {
        let address: SocketAddr = format!("{address}:{}", port.number()).parse().unwrap();
        assert_eq!(greeting(Client::connect(address).unwrap()), "both");
    }
}

#[test]
fn a_unix_socket() {
    let running = started("{pipe: {path: $dir/socket, mode: 0600}}", &format!("filter_chains: [{{{}}}]", says("unix")));
    let path = running.setup.path("socket");
    assert_eq!(greeting(Client::connect_unix(&path).unwrap()), "unix");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_unix_socket_left_by_a_process_that_was_killed() {
    let config = bootstrap(
        &[listener("{pipe: {path: $dir/socket}}", &format!("filter_chains: [{{{}}}]", says("unix")))],
        &[],
        &[],
    );
    let first = Setup::new(&config).start();
    let Running { proxy, setup } = first;
    // Dropping kills it: nobody removes the socket.
    drop(proxy);
    assert!(setup.path("socket").exists());
    let second = setup.start();
    assert_eq!(greeting(Client::connect_unix(&second.setup.path("socket")).unwrap()), "unix");
}

#[test]
fn an_abstract_unix_socket() {
    let name = format!("@nuncio-test-{}", std::process::id());
    let running =
        started(&format!("{{pipe: {{path: '{name}'}}}}"), &format!("filter_chains: [{{{}}}]", says("hidden")));
    let address = unix::SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let mut stream = unix::UnixStream::connect_addr(&address).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hidden", "{}", running.proxy.output());
}

#[test]
fn any_free_port() {
    let address = "{socket_address: {address: 127.0.0.1, port_value: 0}}";
    let running = started(address, &format!("filter_chains: [{{{}}}]", says("free")));
    let address = running.proxy.listener("front").unwrap();
    assert_ne!(address.port(), 0);
    assert_eq!(greeting(Client::connect(address).unwrap()), "free");
}

#[test]
fn further_addresses() {
    let more = format!(
        "additional_addresses: [{{address: {{socket_address: {{address: 127.0.0.2, port_value: $front}}}}}}], \
         filter_chains: [{{{}}}]",
        says("more")
    );
    let running = started(LOOPBACK, &more);
    let port = running.setup.port("front");
    for address in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(greeting(Client::connect(format!("{address}:{port}").parse().unwrap()).unwrap()), "more");
    }
}

#[test]
fn many_workers_share_a_port() {
    let config = bootstrap(&[listener(LOOPBACK, &format!("filter_chains: [{{{}}}]", says("hi")))], &[], &[]);
    let setup = Setup::new(&config);
    let path = setup.config().to_string_lossy().into_owned();
    let args = ["-c", &path, "--concurrency", "4", "--disable-hot-restart"];
    let mut proxy = program().spawn(&args, setup.dir.path()).unwrap();
    proxy.await_ready().unwrap();
    let running = Running { proxy, setup };
    for _ in 0..64 {
        assert_eq!(greeting(running.client()), "hi");
    }
    let name = |worker: usize| {
        format!("listener.127.0.0.1_{}.worker_{worker}.downstream_cx_total", running.setup.port("front"))
    };
    let shares: Vec<u64> = (0..4).map(|worker| running.stat(&name(worker))).collect();
    assert_eq!(shares.iter().sum::<u64>(), 64);
    // The kernel deals by a hash: one worker for all 64 happens once in 4^63 runs.
    assert!(shares.iter().filter(|share| **share > 0).count() > 1, "{shares:?}");
}

#[test]
fn chains_by_source() {
    let running = started(
        LOOPBACK,
        &format!(
            "filter_chains: [{}, {}, {}], default_filter_chain: {{{}}}",
            chain("exact", "source_prefix_ranges: [{address_prefix: 127.0.0.2, prefix_len: 32}]"),
            chain("range", "source_prefix_ranges: [{address_prefix: 127.0.1.0, prefix_len: 24}]"),
            chain(
                "ports",
                "source_prefix_ranges: [{address_prefix: 127.0.2.0, prefix_len: 24}], source_ports: [40001]"
            ),
            says("default"),
        ),
    );
    let to = running.setup.address("front");
    let check = |from: &str, expected: &str| {
        assert_eq!(greeting(Client::connect_from(from.parse().unwrap(), to).unwrap()), expected, "from {from}");
    };
    check("127.0.0.1:0", "default");
    check("127.0.0.2:0", "exact");
    check("127.0.1.77:0", "range");
    check("127.0.2.1:40001", "ports");
    check("127.0.2.1:0", "default");
}

#[test]
fn chains_by_destination() {
    let running = started(
        "{socket_address: {address: 0.0.0.0, port_value: $front}}",
        &format!(
            "filter_chains: [{}, {}, {}]",
            chain("port", "destination_port: $front, prefix_ranges: [{address_prefix: 127.0.0.1, prefix_len: 32}]"),
            chain("range", "destination_port: $front, prefix_ranges: [{address_prefix: 127.0.3.0, prefix_len: 24}]"),
            chain("other", "prefix_ranges: [{address_prefix: 127.0.4.0, prefix_len: 24}]"),
        ),
    );
    let port = running.setup.port("front");
    let check = |to: &str, expected: &str| {
        assert_eq!(greeting(Client::connect(format!("{to}:{port}").parse().unwrap()).unwrap()), expected, "to {to}");
    };
    check("127.0.0.1", "port");
    check("127.0.3.9", "range");
    // Where chains name the port, those that name none are not asked. There is no default: closed, and counted.
    check("127.0.4.1", "");
    assert_eq!(running.stat(&format!("listener.0.0.0.0_{port}.no_filter_chain_match")), 1);
}

#[test]
fn chains_by_the_protocol_that_was_seen() {
    let running = started(
        LOOPBACK,
        &format!(
            "{INSPECTOR}, filter_chains: [{}, {}], default_filter_chain: {{{}}}",
            chain("one", "application_protocols: [http/1.1, http/1.0]"),
            chain("two", "application_protocols: [h2c]"),
            says("default"),
        ),
    );
    let check = |bytes: &[u8], expected: &str| {
        let mut client = running.client();
        client.send(bytes).unwrap();
        assert_eq!(greeting(client), expected, "after {:?}", text(bytes));
    };
    check(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "one");
    check(b"GET / HTTP/1.0\r\n\r\n", "one");
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "two");
    check(b"EHLO example.org\r\n", "default");
    check(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "default");
    assert_eq!(running.stat("http_inspector.http11_found"), 1);
}

#[test]
fn a_request_line_in_pieces_is_seen_as_a_whole() {
    let running = started(
        LOOPBACK,
        &format!(
            "{INSPECTOR}, filter_chains: [{}], default_filter_chain: {{{}}}",
            chain("one", "application_protocols: [http/1.1]"),
            says("default")
        ),
    );
    let mut client = running.client();
    for byte in b"GET /some/path HTTP/1.1\r\n" {
        // The last bytes may come after the answer.
        let _ = client.send(&[*byte]);
    }
    assert_eq!(greeting(client), "one");
}

#[test]
fn a_silent_client_meets_the_timeout_of_listener_filters() {
    let fields = |goes_on: &str| {
        let timeout = format!("listener_filters_timeout: 0.2s{goes_on}");
        format!("{INSPECTOR}, {timeout}, filter_chains: [{{{}}}]", says("late"))
    };
    let running = started(LOOPBACK, &fields(""));
    assert_eq!(greeting(running.client()), "");
    let port = running.setup.port("front");
    assert_eq!(running.stat(&format!("listener.127.0.0.1_{port}.downstream_pre_cx_timeout")), 1);
    let running = started(LOOPBACK, &fields(", continue_on_listener_filters_timeout: true"));
    assert_eq!(greeting(running.client()), "late");
}

/// A listener that is handed connections by nobody does not listen either.
#[test]
fn a_listener_that_binds_no_port() {
    let fields = format!("bind_to_port: false, filter_chains: [{{{}}}]", says("never"));
    let running = started(LOOPBACK, &fields);
    let refused = std::net::TcpStream::connect(running.setup.address("front")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let chains = format!("filter_chains: [{{{}}}]", says("x"));
    let one = listener(LOOPBACK, &chains);
    let setup = Setup::new(&bootstrap(&[one.clone(), one.replace("name: front", "name: other")], &[], &[]));
    let printed = setup.refused();
    let address = setup.address("front").to_string();
    for piece in [address.as_str(), "front", "other"] {
        assert!(printed.contains(piece), "it does not say {piece:?}:\n{printed}");
    }
}

/// CVE-2026-47692: values (TLV) of PROXY protocol version 2 whose lengths are not true, in pieces, and headers that stop.
#[test]
fn cve_2026_47692_values_of_the_proxy_protocol() {
    let filter = "listener_filters: [{name: p, typed_config: {'@type': \
                  type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, \
                  pass_through_tlvs: {match_type: INCLUDE_ALL}}}]";
    let origin = origin(vec![]);
    let http = Http { clusters: vec![cluster("a", &[origin.address()])], listener: &[filter], ..Http::default() };
    let running = Setup::new(&http.text()).start();
    let header = |said: usize, values: &[u8]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        bytes.extend(u16::try_from(said).unwrap().to_be_bytes());
        bytes.extend([192, 0, 2, 1, 192, 0, 2, 2, 1, 1, 0, 80]);
        bytes.extend(values);
        bytes
    };
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    // Seen the header, seen the request: both must be as the lengths say.
    for (what, values) in [
        ("truncated", &b"\x01\x00"[..]),
        ("beyond the header", b"\x01\x00\x05abc"),
        ("far beyond", b"\x01\xff\xffabc"),
        ("one byte more", b"\x01\x00\x03abcd"),
    ] {
        let mut client = running.client();
        let whole = [&header(12 + values.len(), values)[..], request].concat();
        let _ = client.send(&whole);
        let end = client.rest();
        assert!(end.data.is_empty() && end.end != End::TimedOut, "{what}: {:?}", text(&end.data));
    }
    assert_eq!(origin.seen(), []);
    // As many values as there may be, byte by byte at the places that matter.
    let values = b"\x04\x00\x00".repeat((usize::from(u16::MAX) - 12) / 3);
    let whole = [&header(12 + values.len(), &values)[..], request].concat();
    let mut client = running.client();
    for piece in [&whole[..13], &whole[13..14], &whole[14..16], &whole[16..30], &whole[30..31], &whole[31..]] {
        client.send(piece).unwrap();
    }
    let seen = client.response(false).status();
    assert!(matches!(seen, 0 | 200), "{seen}");
    // Headers that stop before their end.
    let before = running.proxy.resident_bytes().unwrap();
    let mut stopped = Vec::new();
    for _ in 0..100 {
        let mut client = running.client();
        let _ = client.send(&header(65_535, &[4; 60_000]));
        stopped.push(client);
    }
    let mut honest = running.client();
    honest.send(&header(12, &[])).unwrap();
    assert_eq!(get(&mut honest, "/").status(), 200);
    let grown = running.proxy.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 100 * (64 << 10) + (8 << 20), "memory grew by {} KiB", grown / 1024);
}
