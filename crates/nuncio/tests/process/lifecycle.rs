//! Signals: draining, and ending at once.

use std::net::TcpStream;

use nuncio_testkit::PATIENCE;
use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::End;
use nuncio_testkit::origin::{Action, Origin, Reply, Script};
use nuncio_testkit::process::Signal;

use crate::support::*;

/// A proxy, a client whose request waits at the origin for the gate `go`, and an idle client.
struct Busy {
    running: Running,
    waiting: Client,
    idle: Client,
    gates: Gates,
    _origin: Origin,
}

fn busy(flags: &[&str]) -> Busy {
    let gates = Gates::default();
    let held = Reply { path: Some("/held".into()), hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text();
    let running = Setup::new(&config).flags(flags).start();
    let (mut waiting, mut idle) = (running.client(), running.client());
    assert_eq!(get(&mut idle, "/").status(), 200);
    waiting.send(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(2, PATIENCE));
    Busy { running, waiting, idle, gates, _origin: origin }
}

impl Busy {
    /// Waits until no new connection is accepted.
    fn await_refusal(&self) {
        let address = self.running.setup.address("front");
        if !self.running.proxy.await_that(|_| TcpStream::connect(address).is_err()) {
            self.running.fail("it still accepts connections");
        }
    }
}

#[test]
fn sigterm_lets_requests_finish() {
    let mut busy = busy(&["--drain-time-s", "600"]);
    busy.running.proxy.signal(Signal::Terminate).unwrap();
    // The idle connection is closed while the other one waits.
    let end = busy.idle.rest();
    assert_eq!((end.data.len(), end.end), (0, End::Complete), "{}", busy.running.proxy.output());
    busy.await_refusal();
    // The admin endpoint answers while the process drains.
    let ready = busy.running.proxy.admin("GET", "/ready").unwrap();
    assert_eq!(answer(&ready), (503, "DRAINING\n".into()));
    busy.gates.open("go");
    let response = busy.waiting.response(false);
    assert_eq!(answer(&response), (200, "ok".into()));
    assert_eq!(header(&response, "connection"), Some("close"));
    assert_eq!(busy.waiting.rest().end, End::Complete);
    let status = busy.running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", busy.running.proxy.output());
}

#[test]
fn a_client_between_requests_is_told_and_loses_nothing() {
    let mut busy = busy(&["--drain-time-s", "600"]);
    busy.running.proxy.signal(Signal::Terminate).unwrap();
    busy.await_refusal();
    // Its next request is on the way when the drain begins: it is answered.
    let response = get(&mut busy.idle, "/");
    assert_eq!((response.status(), header(&response, "connection")), (200, Some("close")));
    assert_eq!(busy.idle.rest().end, End::Complete);
    busy.gates.open("go");
    assert_eq!(busy.waiting.response(false).status(), 200);
    let status = busy.running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", busy.running.proxy.output());
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let mut busy = busy(&["--drain-time-s", "600"]);
    busy.running.proxy.signal(Signal::Terminate).unwrap();
    busy.await_refusal();
    assert!(busy.running.proxy.id() > 0);
    busy.running.proxy.signal(Signal::Terminate).unwrap();
    let status = busy.running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", busy.running.proxy.output());
    assert_eq!(busy.waiting.response(false).status(), 0);
}

#[test]
fn the_drain_time_is_the_limit() {
    let mut busy = busy(&["--drain-time-s", "1"]);
    busy.running.proxy.signal(Signal::Terminate).unwrap();
    let status = busy.running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", busy.running.proxy.output());
    assert_eq!(busy.waiting.response(false).status(), 0);
}

#[test]
fn a_tcp_connection_goes_on_while_the_process_drains() {
    let origin = Origin::start(Script::Tcp { tcp: vec![Action::Echo] }, Gates::default()).unwrap();
    let listener = String::from(
        "name: front, address: {socket_address: {address: 127.0.0.1, port_value: $front}}, filter_chains: \
         [{filters: [{name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.\
         tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: a}}]}]",
    );
    let config = bootstrap(&[listener], &[cluster("a", &[origin.address()])], &[]);
    let mut running = Setup::new(&config).start();
    let mut client = running.client();
    client.send(b"before").unwrap();
    assert_eq!(client.bytes(6).data, b"before");
    running.proxy.signal(Signal::Terminate).unwrap();
    let address = running.setup.address("front");
    assert!(running.proxy.await_that(|_| TcpStream::connect(address).is_err()));
    client.send(b"during").unwrap();
    assert_eq!(client.bytes(6).data, b"during");
    client.finish_sending().unwrap();
    assert_eq!(client.rest().end, End::Complete);
    let status = running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", running.proxy.output());
}

#[test]
fn sigterm_without_connections_ends_the_process() {
    let origin = origin(vec![]);
    let mut running = in_front_of(&origin);
    running.proxy.signal(Signal::Terminate).unwrap();
    assert_eq!(running.proxy.await_exit().unwrap().expect("it does not end").code(), Some(0));
}

#[test]
fn quitquitquit_ends_the_process() {
    let origin = origin(vec![]);
    let mut running = in_front_of(&origin);
    assert_eq!(running.proxy.admin("GET", "/quitquitquit").unwrap().status(), 405);
    assert_eq!(answer(&running.proxy.admin("POST", "/quitquitquit").unwrap()), (200, "OK\n".into()));
    assert_eq!(running.proxy.await_exit().unwrap().expect("it does not end").code(), Some(0));
}
