//! What istiod and Envoy Gateway really send, replayed to the binary that is started as their launchers start it, with their
//! bootstraps. Only the paths of sockets and certificates, and the port of Envoy Gateway's server, are the test's. Each
//! proxy is on a host of its own, where all ports of the files are free.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nuncio_testkit::authority::Authority;
use nuncio_testkit::netns::Host;
use nuncio_testkit::process::Proxy;
use nuncio_testkit::xds::{Place, Snapshot, XdsServer, any_of};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

mod traffic;

/// The acceptance files, or nothing where they are not.
fn directory() -> Option<PathBuf> {
    let directory = crate::shared::path_of("xds");
    if directory.is_dir() {
        return Some(directory);
    }
    eprintln!("SKIPPED: there are no acceptance files at {}: set NUNCIO_SHARED", directory.display());
    None
}

const KINDS: [(&str, &str, &str); 4] = [
    ("cds", "Cluster", "name"),
    ("eds", "ClusterLoadAssignment", "cluster_name"),
    ("lds", "Listener", "name"),
    ("rds", "RouteConfiguration", "name"),
];

/// What a control plane sends, by type, each resource as a file has it.
fn captured(plane: &Path) -> BTreeMap<&'static str, Vec<(String, Value)>> {
    let resources = KINDS.map(|(kind, directory, name)| {
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let mut json: Value =
                serde_json::from_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
            json.as_object_mut().unwrap().remove("@type");
            (json[name].as_str().unwrap().to_owned(), json)
        };
        (kind, std::fs::read_dir(plane.join(directory)).unwrap().map(read).collect())
    });
    resources.into()
}

fn snapshot(resources: &BTreeMap<&'static str, Vec<(String, Value)>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (kind, all) in resources {
        let all = all.iter().map(|(name, json)| (name.clone(), any_of(kind, json).unwrap()));
        snapshot.set(kind, "1", all.collect::<Vec<_>>());
    }
    snapshot
}

fn certificate(name: &str, (chain, key): &(String, String)) -> Value {
    json!({"name": name, "tls_certificate": {
        "certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}})
}

fn roots(name: &str, authority: &Authority) -> Value {
    json!({"name": name, "validation_context": {"trusted_ca": {"inline_string": authority.pem()}}})
}

/// The agent's secrets, which every sidecar has: its certificate, and what it trusts.
fn agent_secrets(authority: &Authority, account: &str) -> Snapshot {
    let identity = format!("URI:spiffe://cluster.local/ns/app/sa/{account}");
    let own = certificate("default", &authority.issue(account, &[&identity]));
    let secrets = [("default", own), ("ROOTCA", roots("ROOTCA", authority))];
    let mut snapshot = Snapshot::default();
    crate::xds::put(&mut snapshot, "sds", "1", &secrets);
    snapshot
}

/// A proxy under the agent, with all that it is connected to.
struct Agent {
    host: Host,
    proxy: Proxy,
    control: XdsServer,
    secrets: XdsServer,
    _dir: TempDir,
}

/// The command line of Istio's agent, but the file.
const AGENT: &str = "--drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 \
                     --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning \
                     --skip-deprecated-logs --concurrency 2";

fn spawn_ready(host: &Host, args: &[&str], dir: &Path) -> Proxy {
    host.run(|| {
        let mut proxy = program().spawn(args, dir).unwrap();
        if let Err(error) = proxy.await_ready() {
            let waits = proxy.admin_text("/init_dump").unwrap_or_default();
            panic!("{error}\n--- /init_dump: {waits}\n--- output:\n{}", proxy.output());
        }
        proxy
    })
}

impl Agent {
    fn start(host: Host, directory: &Path, plane: &str, kind: &str, authority: &Authority) -> Self {
        Self::start_as("client", host, directory, (plane, kind), authority)
    }

    /// Starts a proxy whose workload has this name.
    fn start_as(name: &str, host: Host, directory: &Path, sent: (&str, &str), authority: &Authority) -> Self {
        let (plane, kind) = sent;
        let dir = tempfile::tempdir().unwrap();
        let [control, secrets] = ["xds", "sds"].map(|name| dir.path().join(name));
        let text = std::fs::read_to_string(directory.join("istio-agent-bootstrap.json")).unwrap();
        let text = text
            .replace("/run/pods/client/TAP-socket", secrets.to_str().unwrap())
            .replace("/run/pods/client/etc/istio/proxy/TAP", control.to_str().unwrap())
            .replace("DELTA_GRPC", kind)
            .replace("\"WORKLOAD_NAME\":\"client\"", &format!("\"WORKLOAD_NAME\":\"{name}\""));
        let config = dir.path().join("envoy-rev.json");
        std::fs::write(&config, text).unwrap();
        let control = XdsServer::start_at(Place::Unix(control), None).unwrap();
        control.set_snapshot(snapshot(&captured(&directory.join(plane))));
        let secrets = XdsServer::start_at(Place::Unix(secrets), None).unwrap();
        secrets.set_snapshot(agent_secrets(authority, name));
        let mut args = vec!["-c", config.to_str().unwrap()];
        args.extend(AGENT.split_whitespace());
        let proxy = spawn_ready(&host, &args, dir.path());
        Self { host, proxy, control, secrets, _dir: dir }
    }

    fn admin(&self, target: &str) -> String {
        self.host.run(|| self.proxy.admin_text(target)).unwrap()
    }
}

fn refused(server: &XdsServer) -> Vec<String> {
    server.answers().into_iter().filter_map(|answer| answer.error).collect()
}

/// The lines that the agent reads to know that its proxy is ready.
fn is_ready_for_the_agent(agent: &Agent) {
    assert_eq!(agent.admin("/ready"), "LIVE\n");
    let updates = r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$";
    let updates = agent.admin(&format!("/stats?usedonly&filter={updates}"));
    assert_eq!(updates, "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 1\n");
    let server = agent.admin(r"/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)");
    assert_eq!(server, "listener_manager.workers_started: 1\nserver.state: 0\n");
}

fn accepts_all_of_istiod(plane: &str, listeners: usize) {
    let Some(directory) = directory() else { return };
    for kind in ["GRPC", "DELTA_GRPC"] {
        let authority = Authority::new("mesh");
        let agent = Agent::start(Host::new().unwrap(), &directory, plane, kind, &authority);
        for kind in ["cds", "eds", "lds", "rds"] {
            agent.control.await_ack(kind, "1").unwrap();
        }
        assert_eq!(refused(&agent.control), [""; 0], "{kind}");
        assert_eq!(refused(&agent.secrets), [""; 0], "{kind}");
        is_ready_for_the_agent(&agent);
        // Two of the bootstrap.
        let count = agent.admin("/listeners").lines().count();
        assert_eq!(count, listeners + 2, "{kind}: {}", agent.admin("/listeners"));
        let names: Vec<String> = agent.admin("/certs").lines().map(str::to_owned).collect();
        assert!(plane == "istio-gateway" || names.iter().any(|line| line.contains("sa/client")), "{kind}: {names:?}");
    }
}

#[test]
fn a_sidecar_accepts_all_that_istiod_sends() {
    accepts_all_of_istiod("istio-sidecar", 5);
}

#[test]
fn a_gateway_accepts_all_that_istiod_sends() {
    accepts_all_of_istiod("istio-gateway", 1);
}

/// Envoy Gateway's server, over mutual TLS, and what its launcher finds.
#[test]
fn a_proxy_of_envoy_gateway_accepts_all() {
    let Some(directory) = directory() else { return };
    for kind in ["GRPC", "DELTA_GRPC"] {
        let (authority, host, dir) = (Authority::new("gateway"), Host::new().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| dir.path().join(name);
        let secret = |file: &str, secret: Value| {
            let mut secret = secret;
            secret["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
            std::fs::write(path(file), json!({"resources": [secret]}).to_string()).unwrap();
        };
        secret("xds-certificate.json", certificate("xds_certificate", &authority.issue("proxy", &["DNS:proxy"])));
        secret("xds-trusted-ca.json", roots("xds_trusted_ca", &authority));
        let (chain, key) = authority.issue("server", &["DNS:envoy-gateway"]);
        let control = host.run(|| XdsServer::start_tls(chain, key)).unwrap();
        let mut snapshot = snapshot(&captured(&directory.join("envoy-gateway")));
        let own = certificate("default/cert", &authority.issue("www", &["DNS:www.example.com"]));
        crate::xds::put(&mut snapshot, "sds", "1", &[("default/cert", own)]);
        control.set_snapshot(snapshot);
        let text = std::fs::read_to_string(directory.join("envoy-gateway-bootstrap.yaml")).unwrap();
        let text = text
            .replace("/certs/", &format!("{}/", dir.path().display()))
            .replace(
                "address: 0.0.0.0\n                port_value: 18000",
                &format!("address: 127.0.0.1\n                port_value: {}", control.port()),
            )
            .replace("DELTA_GRPC", kind);
        let before = "--service-cluster default/eg --service-node default-eg-e41e7b31 --config-yaml";
        let mut args: Vec<&str> = before.split_whitespace().collect();
        args.push(&text);
        let after = "--log-level warn --cpuset-threads --drain-strategy immediate --component-log-level misc:error \
                     --drain-time-s 60";
        args.extend(after.split_whitespace());
        // `Program::spawn` puts `--admin-address-path` behind, so that nothing stands after `--` here.
        let proxy = spawn_ready(&host, &args, dir.path());
        for kind in ["cds", "eds", "lds", "rds", "sds"] {
            control.await_ack(kind, "1").unwrap();
        }
        assert_eq!(refused(&control), [""; 0], "{kind}");
        let admin = |target: &str| host.run(|| proxy.admin_text(target)).unwrap();
        assert_eq!(admin("/ready"), "LIVE\n");
        assert_eq!(admin("/listeners").lines().count(), 3, "{}", admin("/listeners"));
        assert!(admin("/config_dump?include_eds").contains("httproute/default/r/rule/2"), "{kind}");
    }
}
