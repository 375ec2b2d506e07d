//! Requests and connections between two sidecars, as their applications make them: by the address of the service.

use std::net::SocketAddr;

use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::origin::{Origin, Script};

use super::*;

/// The address of the application, which has its sidecar's host for a router.
const APP: &str = "10.1.0.2";
const SERVICE: &str = "10.96.0.50";
/// What the endpoints of the service are: both on one host here.
const SERVERS: [&str; 2] = ["10.244.0.11", "10.244.0.12"];

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// The application, its sidecar, the server's sidecar, and the server.
struct Mesh {
    app: Host,
    client: Agent,
    server: Agent,
    origin: Origin,
    _tcp: Origin,
}

impl Mesh {
    fn new(directory: &Path) -> Self {
        let [app, client, server] = [(); 3].map(|()| Host::new().unwrap());
        Host::link((&app, &format!("{APP}/24")), (&client, "10.1.0.1/24")).unwrap();
        Host::link((&client, "10.244.0.10/24"), (&server, "10.244.0.11/24")).unwrap();
        app.default_route("10.1.0.1".parse().unwrap()).unwrap();
        server.default_route("10.244.0.10".parse().unwrap()).unwrap();
        server.add_address("10.244.0.12/32").unwrap();
        client.forward().unwrap();
        client.redirect("ip daddr 10.96.0.0/16", 15001).unwrap();
        server.redirect("tcp dport { 8080, 9000 }", 15006).unwrap();
        let serve =
            |port, script| server.run(|| Origin::start_at(at("0.0.0.0", port), script, Gates::default())).unwrap();
        let origin = serve(8080, Script::Http(vec![body("the server")]));
        let tcp = serve(9000, Script::Http(vec![body("by TCP")]));
        let authority = Authority::new("mesh");
        let client = Agent::start(client, directory, "istio-sidecar", "DELTA_GRPC", &authority);
        let server = Agent::start_as("server-v1", server, directory, ("istio-sidecar", "DELTA_GRPC"), &authority);
        Self { app, client, server, origin, _tcp: tcp }
    }

    fn connect(&self, to: SocketAddr) -> Client {
        self.app.run(|| Client::connect(to)).unwrap()
    }

    /// Asks the service by HTTP.
    fn ask(&self) -> (u16, String) {
        let mut client = self.connect(at(SERVICE, 80));
        answer(&ask(&mut client, "GET / HTTP/1.1\r\nhost: server.app.svc.cluster.local\r\n\r\n"))
    }

    /// Asks it by TCP, which nobody on the way takes for HTTP.
    fn ask_tcp(&self) -> (u16, String) {
        answer(&get(&mut self.connect(at(SERVICE, 9000)), "/"))
    }

    /// What the server saw of the client's certificate.
    fn identity(&self) -> Option<String> {
        let seen = self.origin.seen();
        seen.last().unwrap().head.get("x-forwarded-client-cert").map(str::to_owned)
    }

    /// The server's proxy is known to have a sidecar: mutual TLS is spoken to it.
    fn speak_tls(&self, directory: &Path) {
        let mut all = captured(&directory.join("istio-sidecar"));
        for (_, assignment) in all.get_mut("eds").unwrap() {
            for locality in assignment["endpoints"].as_array_mut().unwrap() {
                for endpoint in locality["lb_endpoints"].as_array_mut().unwrap() {
                    endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"] =
                        json!({"tlsMode": "istio"});
                }
            }
        }
        self.client.control.update(|snapshot| replace(snapshot, "eds", "2", &all));
        self.client.control.await_ack("eds", "2").unwrap();
    }

    /// The server takes nothing but mutual TLS.
    fn be_strict(&self, directory: &Path) {
        let mut all = captured(&directory.join("istio-sidecar"));
        for (name, listener) in all.get_mut("lds").unwrap() {
            if name == "virtualInbound" {
                let chains = listener["filter_chains"].as_array_mut().unwrap();
                let first = chains[0].clone();
                chains.retain(|chain| chain.get("transport_socket").is_some());
                chains.insert(0, first);
            }
        }
        self.server.control.update(|snapshot| replace(snapshot, "lds", "2", &all));
        self.server.control.await_ack("lds", "2").unwrap();
    }

    /// What a sidecar counts of requests and connections.
    fn counted(&self, agent: &Agent) -> String {
        agent.admin("/stats?filter=istio_requests_total|istio_tcp_connections_opened_total")
    }
}

fn replace(snapshot: &mut Snapshot, kind: &str, version: &str, all: &BTreeMap<&'static str, Vec<(String, Value)>>) {
    let all = all[kind].iter().map(|(name, json)| (name.clone(), any_of(kind, json).unwrap()));
    snapshot.set(kind, version, all.collect::<Vec<_>>());
}

#[test]
fn sidecars_carry_requests_and_connections_with_and_without_mutual_tls() {
    let Some(directory) = directory() else { return };
    let mesh = Mesh::new(&directory);
    let words = || format!("{}\n--- server:\n{}", mesh.client.proxy.output(), mesh.server.proxy.output());
    assert_eq!(mesh.ask(), (200, "the server".into()), "{}", words());
    assert_eq!(mesh.identity(), None);
    assert_eq!(mesh.ask_tcp(), (200, "by TCP".into()), "{}", words());
    let direct = |address| answer(&get(&mut mesh.connect(at(address, 8080)), "/"));
    for server in SERVERS {
        // PERMISSIVE: whoever has no sidecar is served.
        assert_eq!(direct(server), (200, "the server".into()), "{}", words());
    }
    mesh.speak_tls(&directory);
    // What is acknowledged reaches the workers a moment later.
    let shown = mesh.client.proxy.await_that(|_| {
        assert_eq!(mesh.ask(), (200, "the server".into()), "{}", words());
        mesh.identity().is_some()
    });
    assert!(shown, "{}", words());
    let identity = mesh.identity().unwrap_or_default();
    assert!(identity.contains("URI=spiffe://cluster.local/ns/app/sa/client"), "{identity:?}\n{}", words());
    assert_eq!(mesh.ask_tcp(), (200, "by TCP".into()), "{}", words());
    mesh.be_strict(&directory);
    assert_eq!(mesh.ask(), (200, "the server".into()), "{}", words());
    assert_eq!(mesh.ask_tcp(), (200, "by TCP".into()), "{}", words());
    let closed = mesh.server.proxy.await_that(|_| direct(SERVERS[0]).0 == 0);
    assert!(closed, "{}", words());
    let counted = mesh.counted(&mesh.server);
    for what in ["istio_requests_total", "istio_tcp_connections_opened_total"] {
        let line = |line: &&str| line.contains(what) && line.contains("mutual_tls");
        let counted = counted.lines().find(line).unwrap_or_else(|| panic!("no {what}:\n{counted}"));
        assert!(counted.contains("source_workload.client."), "{counted}");
    }
}
