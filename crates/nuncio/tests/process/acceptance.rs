//! The acceptance files that need nothing but other ports: they start, and do what they say.

use std::time::{Duration, Instant};

use nuncio_testkit::authority::Authority;
use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::End;
use nuncio_testkit::origin::{Origin, Reply, Script};

use crate::shared::remapped;
use crate::support::*;

/// Sets the ports of a file: of the listener, and of the origin that the clusters name.
fn started(number: &str, listener: u16, upstream: (&str, u16), origin: &Origin) -> Running {
    started_with(number, listener, upstream, origin, &[])
}

fn started_with(number: &str, listener: u16, upstream: (&str, u16), origin: &Origin, more: &[(&str, &str)]) -> Running {
    let (address, port) = upstream;
    let listens = format!("port_value: {listener} }}");
    let to = format!("port_value: {}", origin.address().port());
    let inline = (format!("address: {address}, port_value: {port}"), format!("address: {address}, {to}"));
    let block = (
        format!("address: {address}\n                port_value: {port}"),
        format!("address: {address}\n                {to}"),
    );
    let upstream = if crate::shared::read(number).contains(&inline.0) { inline } else { block };
    let mut pieces =
        vec![("port_value: 9901", "port_value: 0"), (&listens, "port_value: $front }"), (&upstream.0, &upstream.1)];
    pieces.extend(more);
    Setup::new(&remapped(number, &pieces)).start()
}

const LOOPBACK: &str = "127.0.0.1";

fn warns_of_name_alone(running: &Running) {
    running.await_output("`envoy.filters.http.router` has no `typed_config`");
}

#[test]
fn file_03_proxies_and_logs_admin_requests() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("target")]);
    let log = [("/tmp/admin_access.log", "$dir/admin.log")];
    let running = started_with("03", 9092, (LOOPBACK, 80), &origin, &log);
    assert_eq!(running.answer("/any"), (200, "target".into()));
    assert_eq!(origin.seen()[0].head.get("x-forwarded-proto"), Some("http"));
    await_file(&running, &running.setup.path("admin.log"), |text| text.contains("\"GET /ready HTTP/1.1\" 200"));
}

#[test]
fn file_09_closes_the_third_connection_within_a_second() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("served")]);
    // The bucket is filled again each second: on a machine too slow for three connections in that time, start anew.
    for _ in 0..5 {
        let running = started("09", 8080, (LOOPBACK, 80), &origin);
        let begun = Instant::now();
        let mut clients: Vec<Client> = (0..3).map(|_| running.client()).collect();
        let answers: Vec<_> = clients.iter_mut().map(|client| answer(&get(client, "/"))).collect();
        if begun.elapsed() >= Duration::from_secs(1) {
            continue;
        }
        warns_of_name_alone(&running);
        assert_eq!(answers[..2], [(200, "served".into()), (200, "served".into())]);
        assert_eq!(answers[2].0, 0, "the third connection was served");
        assert_ne!(clients[2].rest().end, End::TimedOut, "the third connection stays open");
        assert_eq!(running.stat("local_rate_limit.local_rate_limiter.rate_limited"), 1);
        // A later one finds the bucket filled again.
        let later = running.proxy.await_that(|_| running.answer("/").0 == 200);
        assert!(later, "no connection is served any more");
        return;
    }
    panic!("this machine needs more than a second for three connections");
}

#[test]
fn file_10_limits_one_route() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![]);
    for _ in 0..5 {
        let running = started("10", 8080, (LOOPBACK, 80), &origin);
        let mut client = running.client();
        let begun = Instant::now();
        let limited: Vec<_> = (0..6).map(|_| get(&mut client, "/aa")).collect();
        if begun.elapsed() >= Duration::from_secs(1) {
            continue;
        }
        warns_of_name_alone(&running);
        let statuses: Vec<u16> = limited.iter().map(|response| response.status()).collect();
        assert_eq!(statuses, [200, 200, 429, 429, 429, 429]);
        assert_eq!(answer(&limited[2]).1, "local_rate_limited");
        for response in &limited {
            let expected = (response.status() == 429).then_some("true");
            assert_eq!(header(response, "x-local-rate-limit"), expected);
            assert_eq!(header(response, "myage"), Some("19"));
        }
        for _ in 0..20 {
            let response = get(&mut client, "/bb");
            assert_eq!((response.status(), header(&response, "myage")), (200, Some("19")));
        }
        assert_eq!(get(&mut client, "/cc").status(), 404);
        assert!(running.stat("aa_local_rate_limiter.http_local_rate_limit.enforced") >= 4);
        return;
    }
    panic!("this machine needs more than a second for six requests");
}

#[test]
fn file_15_terminates_tls() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("over TLS")]);
    let pieces = [
        ("port_value: 9901", "port_value: 0"),
        ("address: 0.0.0.0, port_value: 10443", "address: 127.0.0.1, port_value: $front"),
        ("port_value: 8080", &format!("port_value: {}", origin.address().port())),
        ("/etc/envoy/tls/", "$dir/"),
    ];
    let setup = Setup::new(&remapped("15", &pieces));
    Authority::new("acceptance").write(setup.dir.path(), "server", &["DNS:server.test"]);
    let running = setup.start();
    let (well, answer) = crate::tls::curl(&running, &[]);
    assert!(well && answer.contains(" 200") && answer.ends_with("over TLS"), "{answer}");
    assert_eq!(origin.seen()[0].head.get("x-forwarded-proto"), Some("https"));
}

#[test]
fn file_12_states_its_limits_and_watches_the_host() {
    if !crate::shared::at_hand() {
        return;
    }
    let failing = Reply { status: Some(500), times: Some(5), ..Reply::default() };
    let origin = origin(vec![failing, body("fine")]);
    let running = started("12", 10000, (LOOPBACK, 8080), &origin);
    let clusters = running.proxy.admin_text("/clusters").unwrap();
    for line in ["max_connections::1000", "max_pending_requests::1000", "max_requests::1000", "max_retries::3"] {
        let line = format!("backend-service::default_priority::{line}\n");
        assert!(clusters.contains(&line), "{line:?} is missing:\n{clusters}");
    }
    for _ in 0..5 {
        assert_eq!(running.get("/").status(), 500);
    }
    // The fifth would eject the host, but that would be more than 50 % of all.
    let stat = |name: &str| running.stat(&format!("cluster.backend-service.outlier_detection.{name}"));
    running.await_stat("cluster.backend-service.outlier_detection.ejections_detected_consecutive_5xx", |n| n == 1);
    assert_eq!((stat("ejections_overflow"), stat("ejections_active")), (1, 0));
    assert_eq!(running.answer("/"), (200, "fine".into()));
}

#[test]
fn file_12_ejects_the_host_where_all_may_be() {
    if !crate::shared::at_hand() {
        return;
    }
    let failing = Reply { status: Some(500), times: Some(5), ..Reply::default() };
    let origin = origin(vec![failing, body("fine")]);
    let all = [("max_ejection_percent: 50", "max_ejection_percent: 100")];
    let running = started_with("12", 10000, (LOOPBACK, 8080), &origin, &all);
    for _ in 0..5 {
        assert_eq!(running.get("/").status(), 500);
    }
    running.await_stat("cluster.backend-service.outlier_detection.ejections_active", |n| n == 1);
    running.await_stat("cluster.backend-service.membership_healthy", |n| n == 0);
    // With no host in use the cluster panics, and the host is asked all the same.
    assert_eq!(running.answer("/"), (200, "fine".into()));
    assert!(running.stat("cluster.backend-service.lb_healthy_panic") >= 1);
}

#[test]
fn file_12_breaks_the_circuit_at_a_lower_limit() {
    if !crate::shared::at_hand() {
        return;
    }
    let gates = Gates::default();
    let held = Reply { hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let limits = [("max_requests: 1000", "max_requests: 2")];
    let running = started_with("12", 10000, (LOOPBACK, 8080), &origin, &limits);
    let mut clients: Vec<Client> = (0..2).map(|_| running.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    }
    assert!(origin.await_seen(2, nuncio_testkit::PATIENCE));
    let over = running.get("/");
    assert_eq!(over.status(), 503);
    assert_eq!(header(&over, "x-envoy-overloaded"), Some("true"));
    assert_eq!(running.stat("cluster.backend-service.circuit_breakers.default.rq_open"), 1);
    gates.open("go");
    for client in &mut clients {
        assert_eq!(client.response(false).status(), 200);
    }
    assert_eq!(running.get("/").status(), 200);
    assert_eq!(running.stat("cluster.backend-service.upstream_rq_active_overflow"), 1);
}

/// `filter_enforced` is absent, so that nothing is limited, and headers are added to limited responses only.
#[test]
fn file_13_counts_and_enforces_nothing() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("fine")]);
    let fewer = [("max_tokens: 10000", "max_tokens: 2"), ("tokens_per_fill: 10000", "tokens_per_fill: 1")];
    let running = started_with("13", 10000, (LOOPBACK, 8080), &origin, &fewer);
    for _ in 0..4 {
        let response = running.get("/");
        assert_eq!(answer(&response), (200, "fine".into()));
        assert_eq!(header(&response, "x-rate-limit-limit"), None);
    }
    assert_eq!(running.stat("http_local_rate_limiter.http_local_rate_limit.enabled"), 4);
    assert_eq!(running.stat("http_local_rate_limiter.http_local_rate_limit.rate_limited"), 2);
    assert_eq!(running.stat("http_local_rate_limiter.http_local_rate_limit.enforced"), 0);
}

/// What the file is meant to do, once it says that the limit is enforced.
#[test]
fn file_13_with_enforcement_adds_its_headers() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("fine")]);
    let enforced = "filter_enforced: { default_value: { numerator: 100, denominator: HUNDRED } }";
    let enforced = format!("{enforced}\n              response_headers_to_add:");
    // Buckets fill evenly: 10,000 in a minute are one in 6 ms.
    let changes = [
        ("max_tokens: 10000", "max_tokens: 2"),
        ("tokens_per_fill: 10000", "tokens_per_fill: 1"),
        ("response_headers_to_add:", &enforced),
    ];
    let running = started_with("13", 10000, (LOOPBACK, 8080), &origin, &changes);
    let statuses: Vec<u16> = (0..2).map(|_| running.get("/").status()).collect();
    let limited = running.get("/");
    assert_eq!((statuses, limited.status()), (vec![200, 200], 429));
    assert_eq!(header(&limited, "x-rate-limit-limit"), Some("10000"));
    assert_eq!(header(&limited, "x-rate-limit-remaining"), Some("9999"));
}

#[test]
fn file_14_retries_three_times_with_back_off() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![Reply { status: Some(503), body: Some("down".into()), ..Reply::default() }]);
    let running = started("14", 10000, (LOOPBACK, 8080), &origin);
    let mut client = running.client();
    // The back-off is up to 1, 3 and 7 seconds.
    client.set_patience(Duration::from_secs(30)).unwrap();
    assert_eq!(answer(&get(&mut client, "/reliable-api/x")), (503, "down".into()));
    let arrived: Vec<Duration> = origin.seen().iter().map(|seen| seen.arrived).collect();
    assert_eq!(arrived.len(), 4);
    // Each is chosen at random from nothing to its limit; all three below 50 ms happen once in a million runs.
    let waited = arrived[3] - arrived[0];
    assert!(waited >= Duration::from_millis(50), "no back-off between {arrived:?}");
    assert_eq!(running.stat("cluster.backend.upstream_rq_retry"), 3);
    assert_eq!(running.stat("cluster.backend.upstream_rq_retry_limit_exceeded"), 1);
    assert_eq!(running.stat("cluster.backend.upstream_rq_retry_backoff_exponential"), 3);
    // Other paths have no route.
    assert_eq!(running.get("/other").status(), 404);
}

#[test]
fn file_14_stops_when_a_retry_succeeds() {
    if !crate::shared::at_hand() {
        return;
    }
    let failing = Reply { status: Some(503), times: Some(1), ..Reply::default() };
    let origin = origin(vec![failing, body("at last")]);
    let running = started("14", 10000, (LOOPBACK, 8080), &origin);
    assert_eq!(running.answer("/reliable-api"), (200, "at last".into()));
    assert_eq!(origin.seen().len(), 2);
    assert_eq!(running.stat("cluster.backend.upstream_rq_retry_success"), 1);
}

#[test]
fn file_17_writes_its_log_line() {
    if !crate::shared::at_hand() {
        return;
    }
    let origin = origin(vec![body("four")]);
    let log = [("/var/log/envoy/access.log", "$dir/access.log")];
    let running = started_with("17", 10000, (LOOPBACK, 8080), &origin, &log);
    let mut client = running.client();
    let response = ask(&mut client, "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 7\r\n\r\n1234567");
    assert_eq!(response.status(), 200);
    let log = await_file(&running, &running.setup.path("access.log"), |text| text.ends_with('\n'));
    // [2026-11-20 15:00:00.123Z] 200 - 7 4
    let (time, rest) = log.split_at(27);
    assert_eq!(rest, "200 - 7 4\n", "in {log:?}");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "[0000-00-00 00:00:00.000Z] ", "in {log:?}");
}
