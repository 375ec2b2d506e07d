//! Draining of what an update changes or removes, and the end of a process that has nothing left to do.

use std::net::SocketAddr;

use nuncio_testkit::client::Client;
use nuncio_testkit::message::End;
use nuncio_testkit::process::Signal;

use crate::support::*;

fn answers(body: &str) -> String {
    format!("[{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}}}]")
}

/// A listener with two filter chains: clients of 127.0.0.2 get the first, others the second.
fn two_chains(first: &str, second: &str, fields: &str) -> String {
    let manager = |body: &str| Http { routes: &answers(body), ..Http::default() }.connection_manager();
    let listener = format!(
        "name: front, address: {{socket_address: {{address: 127.0.0.1, port_value: $front}}}}, filter_chains: \
         [{{filter_chain_match: {{source_prefix_ranges: [{{address_prefix: 127.0.0.2, prefix_len: 32}}]}}, \
         filters: [{}]}}, {{filters: [{}]}}]{fields}",
        manager(first),
        manager(second)
    );
    bootstrap(&[listener], &[], &[])
}

fn from(running: &Running, ip: [u8; 4]) -> Client {
    Client::connect_from(SocketAddr::from((ip, 0)), running.setup.address("front")).unwrap()
}

impl Running {
    fn reload(&mut self, config: &str) {
        let before = self.proxy.output().matches("the changed configuration is in force").count();
        self.setup.write(config);
        self.proxy.signal(Signal::Hangup).unwrap();
        let done = |proxy: &nuncio_testkit::process::Proxy| {
            proxy.output().matches("the changed configuration is in force").count() > before
        };
        if !self.proxy.await_that(done) {
            self.fail("it did not take the configuration");
        }
    }
}

#[test]
fn an_update_leaves_connections_of_chains_that_stay_alone() {
    let flags = ["--drain-strategy", "immediate"];
    let mut running = Setup::new(&two_chains("one", "two", "")).flags(&flags).start();
    let (mut one, mut two) = (from(&running, [127, 0, 0, 2]), from(&running, [127, 0, 0, 1]));
    assert_eq!(answer(&get(&mut one, "/")), (200, "one".into()));
    assert_eq!(answer(&get(&mut two, "/")), (200, "two".into()));
    running.reload(&two_chains("other", "two", ""));
    let response = get(&mut one, "/");
    assert_eq!((answer(&response), header(&response, "connection")), ((200, "one".into()), Some("close")));
    for _ in 0..2 {
        let response = get(&mut two, "/");
        assert_eq!((answer(&response), header(&response, "connection")), ((200, "two".into()), None));
    }
    assert_eq!(answer(&get(&mut from(&running, [127, 0, 0, 2]), "/")), (200, "other".into()));
    let stat = |name: &str| running.stat(&format!("listener_manager.{name}"));
    assert_eq!((stat("total_filter_chains_draining"), stat("total_listeners_draining")), (1, 0));
    assert_eq!((stat("listener_modified"), stat("listener_in_place_updated")), (1, 1));
    // Something else than a chain: all drain.
    running.reload(&two_chains("other", "two", ", per_connection_buffer_limit_bytes: 4096"));
    let response = get(&mut two, "/");
    assert_eq!((response.status(), header(&response, "connection")), (200, Some("close")));
    let stat = |name: &str| running.stat(&format!("listener_manager.{name}"));
    assert_eq!((stat("listener_modified"), stat("listener_in_place_updated")), (2, 1));
    assert_eq!((stat("total_filter_chains_draining"), stat("total_listeners_draining")), (1, 1));
}

#[test]
fn what_drains_is_closed_when_the_drain_time_is_over() {
    let mut running = Setup::new(&two_chains("one", "two", "")).flags(&["--drain-time-s", "1"]).start();
    // These have sent nothing: nobody can tell them anything.
    let (mut one, mut two) = (from(&running, [127, 0, 0, 2]), from(&running, [127, 0, 0, 1]));
    running.await_stat("listener_manager.total_listeners_active", |value| value == 1);
    running.await_stat("http.front.downstream_cx_active", |value| value == 2);
    running.reload(&two_chains("one", "other", ""));
    assert_eq!(two.rest().end, End::Complete);
    running.await_stat("listener_manager.total_filter_chains_draining", |value| value == 0);
    assert_eq!(answer(&get(&mut one, "/")), (200, "one".into()));
    running.reload(&bootstrap(&[], &[], &[]));
    assert!(Client::connect(running.setup.address("front")).is_err(), "{}", running.proxy.output());
    assert_eq!(one.rest().end, End::Complete);
    running.await_stat("listener_manager.total_listeners_draining", |value| value == 0);
    assert_eq!(running.stat("listener_manager.listener_removed"), 1);
}

#[test]
fn a_second_update_does_not_shorten_the_time_of_the_first() {
    let mut running = Setup::new(&two_chains("one", "two", "")).flags(&["--drain-time-s", "600"]).start();
    let mut first = from(&running, [127, 0, 0, 1]);
    assert_eq!(answer(&get(&mut first, "/")), (200, "two".into()));
    running.reload(&two_chains("one", "three", ""));
    let mut second = from(&running, [127, 0, 0, 1]);
    assert_eq!(answer(&get(&mut second, "/")), (200, "three".into()));
    running.reload(&two_chains("one", "four", ""));
    // Both go on, with what they began with, and are counted.
    assert_eq!(answer(&get(&mut first, "/")), (200, "two".into()));
    assert_eq!(answer(&get(&mut second, "/")), (200, "three".into()));
    assert_eq!(running.stat("listener_manager.total_filter_chains_draining"), 2);
}

#[test]
fn the_process_ends_when_it_is_drained() {
    let config = Http { routes: &answers("x"), ..Http::default() }.text();
    let mut running = Setup::new(&config).flags(&["--drain-exit-on-zero"]).start();
    let mut client = running.client();
    assert_eq!(answer(&get(&mut client, "/")), (200, "x".into()));
    assert_eq!(running.proxy.admin("POST", "/drain_listeners").unwrap().status(), 200);
    running.await_stat("listener_manager.listener_stopped", |value| value == 1);
    // As long as there is a connection it goes on.
    assert_eq!(answer(&get(&mut client, "/")), (200, "x".into()));
    drop(client);
    let status = running.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", running.proxy.output());
    assert!(running.proxy.output().contains("no connection is left"), "{}", running.proxy.output());
}

#[test]
fn a_long_response_has_its_time() {
    use nuncio_testkit::gate::Gates;
    use nuncio_testkit::origin::{Origin, Reply, Script};
    let gates = Gates::default();
    let held = Reply { hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() };
    let flags = ["--drain-strategy", "immediate"];
    let mut running = Setup::new(&config.text()).flags(&flags).start();
    let mut client = running.client();
    client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(1, nuncio_testkit::PATIENCE));
    let mut changed = config;
    changed.manager = &["server_name: other"];
    running.reload(&changed.text());
    gates.open("go");
    // It was under way before the drain began, and is told all the same: its head was not sent yet.
    let response = client.response(false);
    assert_eq!((response.status(), header(&response, "connection")), (200, Some("close")));
    running.await_stat("http.front.downstream_cx_drain_close", |value| value == 1);
}
