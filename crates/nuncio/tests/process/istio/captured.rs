//! The bootstrap of Istio's agent with its own flags, under a management server that says what istiod was seen to say.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use nuncio_testkit::authority::Authority;
use nuncio_testkit::xds::{Place, Snapshot, XdsServer, any, any_of};
use serde_json::{Value, json};

use crate::support::*;

/// `acceptance/xds` in the directory `../shared` beside the repository, or in that of `NUNCIO_SHARED`.
fn directory() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let directory = std::env::var_os("NUNCIO_SHARED").map_or(beside, PathBuf::from).join("acceptance/xds");
    if !directory.is_dir() {
        eprintln!("SKIPPED: there are no acceptance files at {}: set NUNCIO_SHARED", directory.display());
        return None;
    }
    Some(directory)
}

/// The bootstrap with its sockets in `dir`, and free ports.
fn bootstrap(text: &str, dir: &Path) -> String {
    let mut json: Value = serde_json::from_str(text).unwrap();
    json["admin"]["address"]["socket_address"]["port_value"] = json!(0);
    for (listener, port) in
        json["static_resources"]["listeners"].as_array_mut().unwrap().iter_mut().zip(["$stats", "$status"])
    {
        listener["address"]["socket_address"]["port_value"] = json!(port);
    }
    for cluster in json["static_resources"]["clusters"].as_array_mut().unwrap() {
        let name = cluster["name"].as_str().unwrap().to_owned();
        let address = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
        if address.get("pipe").is_some() {
            address["pipe"]["path"] = json!(dir.join(name));
        }
    }
    // Ports that the resources bind.
    format!("{json}\n# $outbound $inbound\n")
}

/// Sets the resources of a directory, with other ports.
fn put(snapshot: &mut Snapshot, kind: &str, directory: &Path, ports: &[(u16, u16)]) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let mut text = std::fs::read_to_string(path).unwrap();
        for (from, to) in ports {
            text = text.replace(&format!(": {from}"), &format!(": {to}"));
        }
        let json: Value = serde_json::from_str(&text).unwrap();
        let name = json.get("cluster_name").or(json.get("name")).unwrap().as_str().unwrap();
        snapshot.put(kind, "1", name, any(&json).unwrap());
    }
}

const KINDS: [(&str, &str); 4] =
    [("cds", "Cluster"), ("eds", "ClusterLoadAssignment"), ("lds", "Listener"), ("rds", "RouteConfiguration")];

/// What the agent itself serves.
fn secrets() -> Snapshot {
    let authority = Authority::new("mesh");
    let (certificate, key) = authority.issue("client", &["URI:spiffe://cluster.local/ns/app/sa/client"]);
    let pair = json!({"name": "default", "tls_certificate":
        {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}});
    let root = json!({"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": authority.pem()}}});
    let mut snapshot = Snapshot::default();
    let secrets = [("default", pair), ("ROOTCA", root)];
    snapshot.set("sds", "1", secrets.map(|(name, json)| (name.to_owned(), any_of("sds", &json).unwrap())).to_vec());
    snapshot
}

#[test]
fn the_agents_proxy_serves_what_istiod_says() {
    let Some(shared) = directory() else { return };
    let sockets = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(shared.join("istio-agent-bootstrap.json")).unwrap();
    let at = |name: &str| XdsServer::start_at(Place::Unix(sockets.path().join(name)), None).unwrap();
    let (istiod, agent) = (at("xds-grpc"), at("sds-grpc"));
    agent.set_snapshot(secrets());
    let setup = Setup::new(&bootstrap(&text, sockets.path())).flags(&[
        "--drain-time-s",
        "45",
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        "v4",
        "--allow-unknown-static-fields",
        "--skip-deprecated-logs",
    ]);
    let ports = [(15001, setup.port("outbound")), (15006, setup.port("inbound"))];
    let mut snapshot = Snapshot::default();
    for (kind, name) in KINDS {
        put(&mut snapshot, kind, &shared.join("istio-sidecar").join(name), &ports);
    }
    istiod.set_snapshot(snapshot);
    let running = setup.start();
    for (kind, _) in KINDS {
        istiod.await_ack(kind, "1").unwrap_or_else(|error| running.fail(&format!("{kind}: {error}")));
    }
    agent.await_ack("sds", "1").unwrap();
    // Nothing was redirected here: what comes to the port itself goes nowhere, and is counted so.
    let mut lost = TcpStream::connect(running.setup.address("outbound")).unwrap();
    assert_eq!(lost.read(&mut [0; 1]).unwrap_or(0), 0);
    let metrics = |proxy: &nuncio_testkit::process::Proxy| proxy.admin_text("/stats/prometheus").unwrap_or_default();
    let counted = |text: &str| {
        let opened = text.lines().find(|line| line.starts_with("istio_tcp_connections_opened_total{"));
        opened.is_some_and(|line| {
            line.contains("destination_service_name=\"BlackHoleCluster\"")
                && line.contains("source_workload=\"client\"")
        })
    };
    if !running.proxy.await_that(|proxy| counted(&metrics(proxy))) {
        running.fail(&metrics(&running.proxy));
    }
    assert_eq!(running.stat("cluster_manager.cds.update_rejected"), 0);
    assert_eq!(running.stat("listener_manager.lds.update_rejected"), 0);
}
