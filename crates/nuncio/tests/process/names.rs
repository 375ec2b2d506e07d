//! Clusters whose hosts are found by name: the acceptance files 08 and 11 as they are, on a host with a name server of its
//! own, and names that come to exist later.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nuncio_testkit::client::Client;
use nuncio_testkit::dns::NameServer;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::netns::Host;
use nuncio_testkit::origin::{Origin, Script};
use nuncio_testkit::process::Proxy;
use tempfile::TempDir;

use crate::shared;
use crate::support::*;

const V1: &str = "127.0.1.1";
const V2: &str = "127.0.1.2";

/// A host with a name server and two origins on port 80.
struct Site {
    host: Host,
    names: NameServer,
    origins: [Origin; 2],
    dir: TempDir,
}

fn site() -> Site {
    let host = Host::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server: SocketAddr = "127.0.0.53:53".parse().unwrap();
    let names = host.run(|| NameServer::start(server)).unwrap();
    host.use_name_server(server, dir.path()).unwrap();
    let origins = [(V1, "v1"), (V2, "v2")].map(|(address, name)| {
        let address = SocketAddr::new(address.parse().unwrap(), 80);
        host.run(|| Origin::start_at(address, Script::Http(vec![body(name)]), Gates::default())).unwrap()
    });
    Site { host, names, origins, dir }
}

impl Site {
    fn knows(&self, name: &str, address: &str) {
        self.names.set(name, &[address.parse::<IpAddr>().unwrap()]);
    }

    fn start(&self, config: &Path) -> Proxy {
        let config = config.to_str().unwrap();
        let args = ["-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "info"];
        let mut proxy = program().spawn(&args, self.dir.path()).unwrap();
        if let Err(error) = proxy.await_ready() {
            panic!("{error}\n--- output:\n{}", proxy.output());
        }
        proxy
    }
}

fn versioned(client: &mut Client, fields: &str) -> (u16, String) {
    answer(&ask(client, &format!("GET / HTTP/1.1\r\nhost: app.shadow.com\r\n{fields}\r\n")))
}

#[test]
fn file_08_routes_by_the_version_header() {
    if !crate::shared::at_hand() {
        return;
    }
    let site = site();
    site.knows("app.v1.svc.cluster.local", V1);
    site.knows("app.v2.svc.cluster.local", V2);
    site.host.run(|| {
        let proxy = site.start(&shared::path("08"));
        assert!(proxy.output().contains("`envoy.filters.http.router` has no `typed_config`"), "{}", proxy.output());
        let mut client = Client::connect("127.0.0.1:8080".parse().unwrap()).unwrap();
        assert_eq!(versioned(&mut client, "version: v2\r\n"), (200, "v2".into()));
        assert_eq!(versioned(&mut client, "version: v1\r\n"), (200, "v1".into()));
        assert_eq!(versioned(&mut client, "version: v22\r\n"), (200, "v1".into()));
        assert_eq!(versioned(&mut client, ""), (200, "v1".into()));
        let other = ask(&mut client, "GET / HTTP/1.1\r\nhost: other.shadow.com\r\n\r\n");
        assert_eq!(other.status(), 404);
    });
    assert_eq!(site.origins.each_ref().map(|origin| origin.seen().len()), [3, 1]);
}

#[test]
fn file_11_splits_evenly() {
    if !crate::shared::at_hand() {
        return;
    }
    const REQUESTS: usize = 10_000;
    // Requests that are sent before their responses are read.
    const BATCH: usize = 50;
    let site = site();
    site.knows("app.v1.svc.cluster.local", V1);
    site.knows("app.v2.svc.cluster.local", V2);
    let mut shares = [0; 2];
    site.host.run(|| {
        let _proxy = site.start(&shared::path("11"));
        let mut client = Client::connect("127.0.0.1:8080".parse().unwrap()).unwrap();
        let batch = "GET / HTTP/1.1\r\nhost: app.shadow.com\r\n\r\n".repeat(BATCH);
        for _ in 0..REQUESTS / BATCH {
            client.send(batch.as_bytes()).unwrap();
            for _ in 0..BATCH {
                match answer(&client.response(false)) {
                    (200, name) if name == "v1" => shares[0] += 1,
                    (200, name) if name == "v2" => shares[1] += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    assert_eq!(shares[0] + shares[1], REQUESTS);
    assert!(shares[0].abs_diff(REQUESTS / 2) <= REQUESTS * 2 / 100, "{shares:?}");
}

/// Starts although the name is unknown, answers 503 with UH, and recovers by itself.
fn recovers(kind: &str) {
    let site = site();
    let cluster = format!(
        "name: a, type: {kind}, connect_timeout: 1s, dns_refresh_rate: 0.1s, \
         dns_failure_refresh_rate: {{base_interval: 0.1s, max_interval: 0.1s}}, \
         load_assignment: {{cluster_name: a, endpoints: [{{lb_endpoints: [{{endpoint: {{address: \
         {{socket_address: {{address: late.test, port_value: 80}}}}}}}}]}}]}}"
    );
    let log = "access_log: [{name: f, typed_config: {'@type': \
               type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: $dir/access.log, \
               log_format: {text_format_source: {inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS%\\n\"}}}}]";
    let setup = Setup::new(&Http { clusters: vec![cluster], manager: &[log], ..Http::default() }.text());
    site.host.run(|| {
        let running = setup.start();
        assert_eq!(running.answer("/"), (503, "no healthy upstream".into()), "{kind}");
        let log = running.setup.path("access.log");
        await_file(&running, &log, |text| text.starts_with("503 UH\n"));
        site.knows("late.test", V1);
        running.await_answer("/", (200, "v1"));
        // When the server fails, the last good answer is kept.
        site.names.fail(true);
        let asked = site.names.questions();
        assert!(running.proxy.await_that(|_| site.names.questions() >= asked + 2), "it does not ask again");
        assert_eq!(running.answer("/"), (200, "v1".into()), "{kind}");
    });
}

#[test]
fn a_strict_dns_name_that_does_not_resolve() {
    recovers("STRICT_DNS");
}

#[test]
fn a_logical_dns_name_that_does_not_resolve() {
    recovers("LOGICAL_DNS");
}

#[test]
fn a_strict_dns_name_changes_its_hosts() {
    let site = site();
    site.knows("moving.test", V1);
    let cluster = "name: a, type: STRICT_DNS, connect_timeout: 1s, dns_refresh_rate: 0.1s, load_assignment: \
                   {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
                   {address: moving.test, port_value: 80}}}}]}]}";
    let setup = Setup::new(&Http { clusters: vec![cluster.into()], ..Http::default() }.text());
    site.host.run(|| {
        let running = setup.start();
        assert_eq!(running.answer("/"), (200, "v1".into()));
        site.knows("moving.test", V2);
        running.await_answer("/", (200, "v2"));
        assert_eq!(running.stat("cluster.a.membership_total"), 1);
    });
}
