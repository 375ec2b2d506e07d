use super::*;
use crate::config::{Discovery, Endpoint, LoadAssignment, LocalityEndpoints};
use crate::scripted::{Setup, local, until};
use crate::worker::{HostObserver, WorkerClusters};
use crate::{Host, LbContext};
use nuncio_testkit::allocation::net_bytes;
use std::net::SocketAddr;
use std::time::Duration;

fn endpoints(ports: &[u16]) -> LoadAssignment {
    let endpoint = |port: &u16| Endpoint::new(SocketAddr::from(([127, 0, 0, 1], *port)));
    let place = LocalityEndpoints { endpoints: ports.iter().map(endpoint).collect(), ..LocalityEndpoints::default() };
    LoadAssignment { localities: vec![place], ..LoadAssignment::default() }
}

fn static_cluster(name: &str, ports: &[u16]) -> ClusterConfig {
    ClusterConfig { load_assignment: endpoints(ports), ..ClusterConfig::new(name, Discovery::Static) }
}

fn chosen(setup: &Setup, cluster: &str, times: usize) -> Vec<String> {
    let mut chosen: Vec<_> = (0..times).filter_map(|_| setup.choose(cluster)).collect();
    chosen.sort();
    chosen
}

#[tokio::test(start_paused = true)]
async fn static_clusters_come_change_and_go() {
    local(async {
        let setup = Setup::new();
        setup.manager.set_clusters(vec![Arc::new(static_cluster("a", &[1, 2]))]);
        setup.manager.initialized().await;
        assert_eq!(chosen(&setup, "a", 4), ["127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2"]);
        assert_eq!(setup.choose("b"), None);
        let before = setup.worker.get("a").unwrap();

        setup.manager.set_clusters(vec![Arc::new(static_cluster("a", &[1, 2])), Arc::new(static_cluster("b", &[3]))]);
        setup.manager.synced().await;
        assert!(Rc::ptr_eq(&setup.worker.get("a").unwrap(), &before), "nothing changed");
        assert_eq!(setup.choose("b").as_deref(), Some("127.0.0.1:3"));

        setup.manager.set_clusters(vec![Arc::new(static_cluster("a", &[9]))]);
        setup.manager.synced().await;
        assert_eq!(setup.choose("a").as_deref(), Some("127.0.0.1:9"));
        assert!(!setup.worker.contains("b") && !setup.manager.contains("b"));
        let stats = ["cluster_added", "cluster_modified", "cluster_removed", "active_clusters", "warming_clusters"];
        assert_eq!(stats.map(|name| setup.stat(&format!("cluster_manager.{name}"))), [2, 1, 1, 1, 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_replaced_cluster_goes_on_with_its_stats() {
    local(async {
        let setup = Setup::new();
        setup.manager.set_clusters(vec![Arc::new(static_cluster("a:1", &[1]))]);
        setup.manager.synced().await;
        setup.worker.get("a:1").unwrap().info.stats.upstream_rq_total().inc();
        setup.manager.set_clusters(vec![Arc::new(static_cluster("a:1", &[2, 3]))]);
        setup.manager.synced().await;
        setup.worker.get("a:1").unwrap().info.stats.upstream_rq_total().inc();
        assert_eq!(setup.stat("cluster.a_1.upstream_rq_total"), 2);
        assert_eq!(setup.stat("cluster.a_1.membership_total"), 2);
    })
    .await;
}

#[derive(Default)]
struct Log(RefCell<Vec<String>>);

impl HostObserver for Log {
    fn hosts_removed(&self, hosts: &[Arc<Host>]) {
        self.0.borrow_mut().extend(hosts.iter().map(|host| format!("removed {}", host.address())));
    }
    fn hosts_failed(&self, hosts: &[Arc<Host>]) {
        self.0.borrow_mut().extend(hosts.iter().map(|host| format!("failed {}", host.address())));
    }
    fn host_set_changed(&self) {
        self.0.borrow_mut().push("changed".to_owned());
    }
    fn cluster_retired(&self) {
        self.0.borrow_mut().push("retired".to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_replaced_and_removed_clusters() {
    local(async {
        let setup = Setup::new();
        let log = Rc::new(Log::default());
        setup.manager.set_clusters(vec![Arc::new(static_cluster("a", &[1]))]);
        setup.manager.synced().await;
        setup.worker.get("a").unwrap().observe(log.clone());
        setup.manager.set_clusters(vec![Arc::new(static_cluster("a", &[2]))]);
        setup.manager.synced().await;
        setup.worker.get("a").unwrap().observe(log.clone());
        setup.manager.set_clusters(Vec::new());
        setup.manager.synced().await;
        assert_eq!(*log.0.borrow(), ["retired", "retired"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn original_destinations_become_hosts_and_are_cleaned_up() {
    local(async {
        let setup = Setup::new();
        let discovery = Discovery::OriginalDst(Box::default());
        let config = ClusterConfig { cleanup_interval: Duration::from_secs(5), ..ClusterConfig::new("dst", discovery) };
        setup.manager.set_clusters(vec![Arc::new(config)]);
        setup.manager.synced().await;
        let other = WorkerClusters::start(setup.manager.worker());
        let choose = |worker: &WorkerClusters, to: Option<&str>| {
            let mut rng = fastrand::Rng::with_seed(1);
            let mut cx = LbContext::new(now(), &mut rng);
            cx.original_dst = to.map(|to| to.parse().unwrap());
            worker.get("dst").unwrap().choose_host(&mut cx)
        };
        let log = Rc::new(Log::default());
        setup.worker.get("dst").unwrap().observe(log.clone());
        assert!(choose(&setup.worker, None).is_none());
        let host = choose(&setup.worker, Some("10.0.0.1:80")).unwrap();
        assert!(Arc::ptr_eq(&host, &choose(&other, Some("10.0.0.1:80")).unwrap()), "all workers share the host");
        choose(&setup.worker, Some("10.0.0.2:80")).unwrap();
        until("hosts are counted", || setup.stat("cluster.dst.membership_total") == 2).await;

        // One host has a connection; the other one is unused for a whole interval.
        host.connection_opened();
        until("the unused host is gone", || setup.stat("cluster.dst.membership_total") == 1).await;
        setup.manager.synced().await;
        assert_eq!(*log.0.borrow(), ["removed 10.0.0.2:80"]);
        assert!(Arc::ptr_eq(&host, &choose(&setup.worker, Some("10.0.0.1:80")).unwrap()));
        host.connection_closed();
        until("nothing is left", || setup.stat("cluster.dst.membership_total") == 0).await;
        setup.manager.synced().await;
        assert!(!Arc::ptr_eq(&host, &choose(&setup.worker, Some("10.0.0.1:80")).unwrap()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn original_destination_by_header_and_port() {
    use crate::config::OriginalDst;
    local(async {
        let setup = Setup::new();
        let options = OriginalDst { use_http_header: true, upstream_port_override: Some(99), ..OriginalDst::default() };
        let config = ClusterConfig::new("dst", Discovery::OriginalDst(Box::new(options)));
        setup.manager.set_clusters(vec![Arc::new(config)]);
        setup.manager.synced().await;
        let check = |header: Option<&str>, expected: &str| {
            let mut headers = nuncio_headers::HeaderMap::default();
            let name = nuncio_headers::HeaderName::new("x-envoy-original-dst-host").unwrap();
            if let Some(value) = header {
                headers.set(&name, value.as_bytes());
            }
            let mut rng = fastrand::Rng::with_seed(1);
            let mut cx = LbContext::new(now(), &mut rng);
            cx.original_dst = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
            cx.headers = Some(&headers);
            let host = setup.worker.get("dst").unwrap().choose_host(&mut cx).unwrap();
            assert_eq!(host.address().to_string(), expected, "{header:?}");
        };
        check(None, "10.0.0.1:99");
        check(Some("10.0.0.7:1"), "10.0.0.7:99");
        check(Some("[::7]:1"), "[::7]:99");
        check(Some("example.com:80"), "10.0.0.1:99");
        assert_eq!(setup.stat("cluster.dst.original_dst_host_invalid"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn clusters_are_printed_as_envoy_prints_them() {
    local(async {
        let setup = Setup::new();
        let mut config = static_cluster("c1", &[9911]);
        if let Some(place) = config.load_assignment.localities.first_mut() {
            place.priority = 1;
            place.locality.region = "r".into();
        }
        setup.manager.set_clusters(vec![Arc::new(config), Arc::new(static_cluster("other", &[1]))]);
        setup.manager.initialized().await;
        let mut text = Vec::new();
        setup.manager.write_clusters_text(&mut text, |name| name == "c1");
        assert_eq!(String::from_utf8(text).unwrap(), include_str!("tests/clusters.txt"));
        let mut json = Vec::new();
        setup.manager.write_clusters_json(&mut json, |name| name == "c1");
        assert_eq!(String::from_utf8(json).unwrap(), include_str!("tests/clusters.json"));
        let mut json = Vec::new();
        setup.manager.write_clusters_json(&mut json, |_| false);
        assert_eq!(json, b"{}\n");
    })
    .await;
}

#[global_allocator]
static ALLOCATOR: nuncio_testkit::allocation::CountingAllocator = nuncio_testkit::allocation::CountingAllocator;

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_clusters_are_cheap() {
    local(async {
        let setup = Setup::new();
        let configs: Vec<_> = (0..10_000)
            .map(|index| Arc::new(static_cluster(&format!("outbound|80||service-{index}.namespace.svc"), &[80])))
            .collect();
        let before = net_bytes();
        setup.manager.set_clusters(configs);
        setup.manager.synced().await;
        let bytes = (net_bytes() - before) / 10_000;
        println!("{bytes} bytes a cluster");
        assert!(bytes < 3072, "{bytes} bytes a cluster");
        assert_eq!(setup.choose("outbound|80||service-77.namespace.svc").as_deref(), Some("127.0.0.1:80"));
    })
    .await;
}
