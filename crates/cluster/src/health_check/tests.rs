use crate::config::{
    ClusterConfig, Discovery, Endpoint, EndpointHealthCheck, GrpcHealthCheck, HealthCheck, HealthChecker,
    HttpHealthCheck, LoadAssignment, LocalityEndpoints, RequestHeader, ServiceNameMatcher, TcpHealthCheck,
};
use crate::scripted::{Act, Server, Setup, local, until};
use nuncio_headers::HeaderName;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn http(check: HttpHealthCheck) -> HealthCheck {
    let checker = HealthChecker::Http(Box::new(check));
    HealthCheck { no_traffic_interval: SECOND, ..HealthCheck::new(SECOND, SECOND, (2, 3), checker) }
}

fn tcp(send: Option<&[u8]>, receive: &[&[u8]]) -> HealthCheck {
    let receive = receive.iter().map(|bytes| Arc::from(*bytes)).collect();
    let checker = HealthChecker::Tcp(TcpHealthCheck { send: send.map(Arc::from), receive });
    HealthCheck { no_traffic_interval: SECOND, ..HealthCheck::new(SECOND, SECOND, (2, 2), checker) }
}

fn cluster(check: HealthCheck, addresses: &[SocketAddr]) -> ClusterConfig {
    let endpoints = addresses.iter().map(|address| Endpoint::new(*address)).collect();
    let place = LocalityEndpoints { endpoints, ..LocalityEndpoints::default() };
    ClusterConfig {
        health_check: Some(Box::new(check)),
        load_assignment: LoadAssignment { localities: vec![place], ..LoadAssignment::default() },
        ..ClusterConfig::new("c", Discovery::Static)
    }
}

async fn start(config: ClusterConfig) -> Setup {
    let setup = Setup::new();
    setup.manager.set_clusters(vec![Arc::new(config)]);
    setup.manager.initialized().await;
    setup.manager.synced().await;
    setup
}

fn flags(setup: &Setup) -> String {
    let hosts = setup.hosts("c");
    hosts.first().and_then(|host| host.split_once(' ')).map(|(_, flags)| flags.to_owned()).unwrap_or_default()
}

fn stat(setup: &Setup, name: &str) -> u64 {
    setup.stat(&format!("cluster.c.health_check.{name}"))
}

#[tokio::test(start_paused = true)]
async fn the_first_check_decides_and_then_the_thresholds() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let setup = start(cluster(http(HttpHealthCheck::new("/healthz")), &[origin.address])).await;
        assert_eq!(flags(&setup), "healthy", "the cluster was not ready before");
        assert_eq!(origin.requests.borrow()[0], "GET /healthz HTTP/1.1\r\nhost: c\r\nuser-agent: Envoy/HC\r\n\r\n");
        assert_eq!((stat(&setup, "healthy"), stat(&setup, "success")), (1, 1));

        // A wrong status is certain.
        origin.set(Act::status(503));
        let before = origin.count();
        until("it is unhealthy", || flags(&setup) == "/failed_active_hc").await;
        assert_eq!(origin.count(), before + 1);
        assert_eq!((stat(&setup, "healthy"), setup.stat("cluster.c.membership_healthy")), (0, 0));

        // Three successes.
        origin.set(Act::status(200));
        let before = origin.count();
        until("it is healthy", || flags(&setup) == "healthy").await;
        assert_eq!(origin.count(), before + 3);
        assert_eq!(origin.connections.get(), 1, "the connection is kept");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_count_towards_the_threshold() {
    local(async {
        for (act, network, expected) in
            [(Act::Close, 2, "/failed_active_hc"), (Act::Silence, 2, "/failed_active_hc/active_hc_timeout")]
        {
            let origin = Server::start(Act::status(200)).await;
            let setup = start(cluster(http(HttpHealthCheck::new("/")), &[origin.address])).await;
            origin.set(act);
            until("it is unhealthy", || flags(&setup) != "healthy").await;
            assert_eq!(flags(&setup), expected);
            assert_eq!((stat(&setup, "network_failure"), stat(&setup, "failure")), (network, 2));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_starts_unhealthy() {
    local(async {
        let address = {
            let closed = Server::start(Act::Close).await;
            // A port that was just given back by the kernel's choice of a listener that is gone.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            assert_ne!(closed.address, listener.local_addr().unwrap());
            listener.local_addr().unwrap()
        };
        let setup = start(cluster(http(HttpHealthCheck::new("/")), &[address])).await;
        assert_eq!(flags(&setup), "/failed_active_hc");
        assert!(setup.choose("c").is_some(), "panic: the host is used all the same");
        assert_eq!(setup.stat("cluster.c.lb_healthy_panic"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn statuses_bodies_and_headers_that_pass() {
    local(async {
        let ok = |body: &str| Act::Send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        let with = |header: &str| Act::Send(format!("HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 0\r\n\r\n"));
        let plain = || HttpHealthCheck::new("/");
        let check = async |check: HttpHealthCheck, act: Act, expected: &str| {
            let origin = Server::start(act.clone()).await;
            let setup = start(cluster(http(check), &[origin.address])).await;
            assert_eq!(flags(&setup), expected, "{act:?}");
        };
        let expected = || HttpHealthCheck { expected_statuses: vec![200..300, 404..405], ..plain() };
        check(expected(), Act::status(204), "healthy").await;
        check(expected(), Act::status(404), "healthy").await;
        check(expected(), Act::status(302), "/failed_active_hc").await;
        check(plain(), Act::status(201), "/failed_active_hc").await;
        let receive = || HttpHealthCheck { receive: vec![Arc::from(&b"al"[..]), Arc::from(&b"e"[..])], ..plain() };
        check(receive(), ok("I am alive"), "healthy").await;
        check(receive(), ok("eal"), "/failed_active_hc").await;
        let short = HttpHealthCheck { response_buffer_size: 4, ..receive() };
        check(short, ok("I am alive"), "/failed_active_hc").await;
        check(plain(), with("x-envoy-degraded: true"), "/degraded_active_hc").await;
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nalive\r\n0\r\n\r\n";
        check(receive(), Act::Send(chunked.to_owned()), "healthy").await;
        check(receive(), Act::SendAndClose("HTTP/1.1 200 OK\r\n\r\nalive".to_owned()), "healthy").await;
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        check(plain(), Act::Send(interim.to_owned()), "healthy").await;
        check(plain(), Act::Send("garbage\r\n\r\n".to_owned()), "/failed_active_hc").await;
        check(plain(), Act::SendAndClose("HTTP/1.1 200 OK\r\ncontent-le".to_owned()), "/failed_active_hc").await;
        let gone = Act::Send(
            "HTTP/1.1 503 X\r\nx-envoy-immediate-health-check-fail: true\r\ncontent-length: 0\r\n\r\n".into(),
        );
        check(plain(), gone, "/failed_active_hc/excluded_via_immediate_hc_fail").await;
        let name =
            || ServiceNameMatcher { source: "prefix: loc".into(), matches: Arc::new(|name| name.starts_with("loc")) };
        let named = || HttpHealthCheck { service_name_matcher: Some(name()), ..plain() };
        check(named(), with("x-envoy-upstream-healthchecked-cluster: locations-production"), "healthy").await;
        check(named(), with("x-envoy-upstream-healthchecked-cluster: other"), "/failed_active_hc").await;
        check(named(), Act::status(200), "/failed_active_hc").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retriable_statuses_count_towards_the_threshold() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let check = HttpHealthCheck { retriable_statuses: vec![500..600; 1], ..HttpHealthCheck::new("/") };
        let setup = start(cluster(http(check), &[origin.address])).await;
        origin.set(Act::status(503));
        let before = origin.count();
        until("it is unhealthy", || flags(&setup) == "/failed_active_hc").await;
        assert_eq!(origin.count(), before + 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_as_configured() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let name = |name| HeaderName::new(name).unwrap();
        let header =
            |header, value: &str, append| RequestHeader { name: name(header), value: value.as_bytes().into(), append };
        let check = HttpHealthCheck {
            host: Some("configured".into()),
            method: "HEAD".into(),
            request_headers_to_add: vec![header("x-a", "1", true), header("user-agent", "me", false)],
            request_headers_to_remove: vec![name("x-a")],
            ..HttpHealthCheck::new("/h")
        };
        let mut config = cluster(http(check), &[origin.address]);
        start(config.clone()).await;
        assert_eq!(origin.requests.borrow()[0], "HEAD /h HTTP/1.1\r\nhost: configured\r\nuser-agent: me\r\n\r\n");

        // The endpoint's own host name and port win.
        let other = Server::start(Act::status(200)).await;
        if let Some(endpoint) = config.load_assignment.localities[0].endpoints.first_mut() {
            let own = EndpointHealthCheck {
                port: Some(other.address.port()),
                hostname: Some("own".into()),
                ..EndpointHealthCheck::default()
            };
            endpoint.health_check = Some(Box::new(own));
        }
        start(config).await;
        assert!(other.requests.borrow()[0].contains("host: own\r\n"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_may_be_left_out() {
    local(async {
        let origin = Server::start(Act::status(503)).await;
        let mut config = cluster(http(HttpHealthCheck::new("/")), &[origin.address]);
        if let Some(endpoint) = config.load_assignment.localities[0].endpoints.first_mut() {
            let own = EndpointHealthCheck { disabled: true, ..EndpointHealthCheck::default() };
            endpoint.health_check = Some(Box::new(own));
        }
        let setup = start(config).await;
        assert_eq!((flags(&setup).as_str(), origin.count()), ("healthy", 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tcp_checks() {
    local(async {
        let check = async |check: HealthCheck, act: Act, expected: &str| {
            let origin = Server::start(act.clone()).await;
            let setup = start(cluster(check, &[origin.address])).await;
            assert_eq!(flags(&setup), expected, "{act:?}");
        };
        check(tcp(None, &[]), Act::Silence, "healthy").await;
        check(tcp(Some(b"PING"), &[]), Act::Silence, "healthy").await;
        check(tcp(Some(b"PING"), &[b"PO", b"NG"]), Act::Send("xPO--NGx".to_owned()), "healthy").await;
        check(tcp(Some(b"PING"), &[b"NG", b"PO"]), Act::SendAndClose("PONG".to_owned()), "/failed_active_hc").await;
        check(tcp(Some(b"PING"), &[b"PONG"]), Act::Close, "/failed_active_hc").await;
        check(tcp(Some(b"PING"), &[b"PONG"]), Act::Silence, "/failed_active_hc/active_hc_timeout").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn intervals_depend_on_traffic() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let mut check = http(HttpHealthCheck::new("/"));
        check.no_traffic_interval = Duration::from_secs(60);
        let setup = start(cluster(check, &[origin.address])).await;
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(origin.count(), 1);
        setup.worker.get("c").unwrap().info.stats.upstream_cx_total().inc();
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!((10..=14).contains(&origin.count()), "{}", origin.count());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_are_not_kept_if_not_wanted() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let check = HealthCheck { reuse_connection: false, ..http(HttpHealthCheck::new("/")) };
        let setup = start(cluster(check, &[origin.address])).await;
        until("there were more checks", || stat(&setup, "attempt") >= 4).await;
        assert!(origin.connections.get() >= 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_the_host_closed_is_no_failure() {
    local(async {
        let close = Act::SendAndClose("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned());
        let origin = Server::start(close).await;
        let setup = start(cluster(http(HttpHealthCheck::new("/")), &[origin.address])).await;
        until("there were more checks", || stat(&setup, "attempt") >= 5).await;
        assert_eq!((flags(&setup).as_str(), stat(&setup, "failure")), ("healthy", 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_data_path_can_take_a_host_out() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let setup = start(cluster(http(HttpHealthCheck::new("/")), &[origin.address])).await;
        let worker = setup.worker.get("c").unwrap();
        let host = worker.hosts().hosts().next().cloned().unwrap();
        worker.info.immediate_health_check_fail(&host);
        until("it is out", || flags(&setup) == "/failed_active_hc/excluded_via_immediate_hc_fail").await;
        assert_eq!((stat(&setup, "passive_failure"), setup.stat("cluster.c.membership_excluded")), (1, 1));
        until("checks bring it back", || flags(&setup) == "healthy").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn new_hosts_can_be_left_out_of_the_count() {
    local(async {
        let origin = Server::start(Act::Silence).await;
        let mut config = cluster(http(HttpHealthCheck::new("/")), &[origin.address]);
        config.common_lb.ignore_new_hosts_until_first_hc = true;
        config.wait_for_warm_on_init = false;
        let setup = start(config).await;
        assert_eq!(flags(&setup), "/failed_active_hc/pending_active_hc");
        assert_eq!(setup.stat("cluster.c.membership_excluded"), 1);
        until("the first result is there", || !flags(&setup).contains("pending")).await;
        assert_eq!(setup.stat("cluster.c.membership_excluded"), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn removed_clusters_and_hosts_are_no_longer_checked() {
    local(async {
        let origin = Server::start(Act::status(200)).await;
        let setup = start(cluster(http(HttpHealthCheck::new("/")), &[origin.address])).await;
        setup.manager.set_clusters(Vec::new());
        let before = origin.count();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(origin.count(), before);
    })
    .await;
}

fn events(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let strip = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let members = value.as_object().unwrap();
        let known = ["health_checker_type", "host", "cluster_name", "timestamp", "locality"];
        assert!(known.iter().all(|name| members.contains_key(*name)), "{line}");
        let event = members.iter().find(|(name, _)| !known.contains(&name.as_str())).unwrap();
        format!("{} {}", event.0, event.1)
    };
    text.lines().map(strip).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_logged_as_envoy_logs_them() {
    local(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.log");
        let origin = Server::start(Act::status(200)).await;
        let check = HealthCheck {
            event_logs: vec![path.to_str().unwrap().into()],
            always_log_health_check_failures: true,
            always_log_health_check_success: true,
            healthy_threshold: 2,
            ..http(HttpHealthCheck::new("/"))
        };
        let setup = start(cluster(check, &[origin.address])).await;
        let port = origin.address.port();
        let line = std::fs::read_to_string(&path).unwrap();
        let (before, after) = line.split_once(r#""timestamp":""#).unwrap();
        assert_eq!(
            before,
            format!(
                r#"{{"health_checker_type":"HTTP","host":{{"socket_address":{{"protocol":"TCP","address":"127.0.0.1","port_value":{port},"resolver_name":"","ipv4_compat":false,"network_namespace_filepath":""}}}},"cluster_name":"c","add_healthy_event":{{"first_check":true}},"#
            )
        );
        assert_eq!(&after["2026-11-20T14:38:24.894".len()..], "Z\",\"locality\":{\"region\":\"\",\"zone\":\"\",\"sub_zone\":\"\"}}\n");

        origin.set(Act::status(503));
        until("it is unhealthy", || flags(&setup) == "/failed_active_hc").await;
        origin.set(Act::status(200));
        until("it is healthy", || flags(&setup) == "healthy").await;
        assert_eq!(
            events(&path),
            [
                r#"add_healthy_event {"first_check":true}"#,
                r#"eject_unhealthy_event {"failure_type":"ACTIVE","http_status_code":503}"#,
                r#"health_check_failure_event {"failure_type":"ACTIVE","first_check":false,"http_status_code":503}"#,
                r#"successful_health_check_event {}"#,
                r#"add_healthy_event {"first_check":false}"#,
            ]
        );
    })
    .await;
}

/// An HTTP/2 server that answers each request so.
fn http2_origin(reply: nuncio_testkit::origin::Reply) -> nuncio_testkit::origin::Origin {
    use nuncio_testkit::origin::{Origin, Script};
    Origin::start(Script::Http(vec![reply]), nuncio_testkit::gate::Gates::default()).unwrap()
}

fn grpc_reply(status: u8) -> nuncio_testkit::origin::Reply {
    nuncio_testkit::origin::Reply {
        headers: vec!["content-type: application/grpc".to_owned()],
        chunks: Some(vec![String::from_utf8(vec![0, 0, 0, 0, 2, 8, status]).unwrap()]),
        trailers: vec!["grpc-status: 0".to_owned()],
        ..Default::default()
    }
}

#[tokio::test]
async fn grpc_asks_for_the_service() {
    local(async {
        for (status, expected) in [(1, "healthy"), (2, "/failed_active_hc")] {
            let origin = http2_origin(grpc_reply(status));
            let grpc = GrpcHealthCheck { service_name: "echo".into(), ..GrpcHealthCheck::default() };
            let checker = HealthChecker::Grpc(Box::new(grpc));
            let check = HealthCheck::new(SECOND * 30, SECOND * 30, (1, 1), checker);
            let setup = start(cluster(check, &[origin.address()])).await;
            assert_eq!(flags(&setup), expected);
            let seen = origin.seen();
            assert_eq!(seen[0].head.start, "POST /grpc.health.v1.Health/Check HTTP/2");
            assert_eq!(&seen[0].body.data[..], b"\0\0\0\0\x06\x0a\x04echo");
        }
    })
    .await;
}

#[tokio::test]
async fn http_checks_go_over_http2_where_that_is_asked_for() {
    local(async {
        let origin = http2_origin(nuncio_testkit::origin::Reply::default());
        let check = HttpHealthCheck { http2: true, ..HttpHealthCheck::new("/healthz") };
        let checker = HealthChecker::Http(Box::new(check));
        let check = HealthCheck::new(SECOND * 30, SECOND * 30, (1, 1), checker);
        let setup = start(cluster(check, &[origin.address()])).await;
        assert_eq!(flags(&setup), "healthy");
        assert_eq!(origin.seen().len(), 1);
    })
    .await;
}
