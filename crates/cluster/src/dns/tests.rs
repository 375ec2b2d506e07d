use crate::config::{
    ClusterConfig, Discovery, DnsLookupFamily, DnsOptions, Endpoint, EndpointAddress, HealthCheck, HealthChecker,
    LoadAssignment, LocalityEndpoints, TcpHealthCheck,
};
use crate::scripted::{Act, NameServer, Reply, Server, Setup, local, until, v4};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

fn assignment(names: &[&str], port: u16) -> LoadAssignment {
    let endpoint = |name: &&str| Endpoint::new(EndpointAddress::Name { host: (*name).into(), port });
    let place = LocalityEndpoints { endpoints: names.iter().map(endpoint).collect(), ..LocalityEndpoints::default() };
    LoadAssignment { localities: vec![place], ..LoadAssignment::default() }
}

fn strict(options: DnsOptions, names: &[&str]) -> ClusterConfig {
    let discovery = Discovery::StrictDns(Box::new(options));
    ClusterConfig { load_assignment: assignment(names, 80), ..ClusterConfig::new("c", discovery) }
}

fn v6(last: &[u16]) -> Reply {
    let address = |last: &u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, *last));
    Reply::Addresses(last.iter().map(address).collect(), 30)
}

async fn start(config: ClusterConfig) -> (NameServer, Setup) {
    let server = NameServer::start().await;
    let setup = Setup::with_servers(vec![server.address]);
    setup.manager.set_clusters(vec![Arc::new(config)]);
    (server, setup)
}

fn sorted(setup: &Setup) -> Vec<String> {
    let mut hosts = setup.hosts("c");
    hosts.sort();
    hosts
}

#[tokio::test(start_paused = true)]
async fn hosts_follow_the_answers_of_all_names() {
    local(async {
        let (server, setup) = start(strict(DnsOptions::default(), &["a.test", "b.test"])).await;
        server.set("a.test", v4(&[[10, 0, 0, 1], [10, 0, 0, 2]]), Reply::NoData);
        server.set("b.test", v4(&[[10, 0, 0, 2], [10, 0, 0, 3]]), Reply::NoData);
        setup.manager.initialized().await;
        assert_eq!(sorted(&setup), ["10.0.0.1:80 healthy", "10.0.0.2:80 healthy", "10.0.0.3:80 healthy"]);
        let worker = setup.worker.get("c").unwrap();
        let kept = worker.hosts().hosts().find(|host| host.address().to_string() == "10.0.0.1:80").cloned().unwrap();
        assert_eq!(&**kept.hostname(), "a.test");

        server.set("a.test", v4(&[[10, 0, 0, 9], [10, 0, 0, 1]]), Reply::NoData);
        until("the new host is there", || setup.hosts("c").iter().any(|host| host.starts_with("10.0.0.9"))).await;
        let found = worker.hosts().hosts().any(|host| Arc::ptr_eq(host, &kept));
        assert!(found, "a host whose address is still there stays the same");
        assert_eq!(setup.stat("cluster.c.membership_total"), 4);
        assert_eq!(setup.stat("cluster.c.update_failure"), 0);
        until("equal answers change nothing", || setup.stat("cluster.c.update_no_rebuild") >= 2).await;
        assert_eq!(setup.stat("cluster.c.membership_change"), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_kept_while_servers_fail() {
    local(async {
        for failure in [Reply::ServFail, Reply::Silence] {
            let (server, setup) = start(strict(DnsOptions::default(), &["a.test"])).await;
            server.set("a.test", v4(&[[10, 0, 0, 1]]), Reply::NoData);
            setup.manager.initialized().await;
            server.set("a.test", failure.clone(), failure);
            until("a query fails", || setup.stat("cluster.c.update_failure") >= 3).await;
            assert_eq!(sorted(&setup), ["10.0.0.1:80 healthy"]);
            server.set("a.test", v4(&[[10, 0, 0, 2]]), Reply::NoData);
            until("the new answer is taken", || sorted(&setup) == ["10.0.0.2:80 healthy"]).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_resolve_does_not_hold_up_the_start() {
    local(async {
        for (failure, counted) in [(Reply::Silence, "update_failure"), (Reply::NxDomain, "update_success")] {
            let (server, setup) = start(strict(DnsOptions::default(), &["late.test"])).await;
            server.set("late.test", failure.clone(), failure);
            setup.manager.initialized().await;
            setup.manager.synced().await;
            assert!(setup.worker.contains("c"));
            assert_eq!(setup.choose("c"), None);
            assert!(setup.stat(&format!("cluster.c.{counted}")) >= 1);
            server.set("late.test", v4(&[[10, 0, 0, 1]]), Reply::NoData);
            until("the name resolves", || setup.choose("c").is_some()).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_has_no_hosts() {
    local(async {
        let (server, setup) = start(strict(DnsOptions::default(), &["a.test"])).await;
        server.set("a.test", v4(&[[10, 0, 0, 1]]), Reply::NoData);
        setup.manager.initialized().await;
        server.set("a.test", Reply::NxDomain, Reply::NxDomain);
        until("the host is gone", || setup.stat("cluster.c.membership_total") == 0).await;
        setup.manager.synced().await;
        assert_eq!(setup.choose("c"), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn families() {
    use DnsLookupFamily::{All, Auto, V4Only, V4Preferred, V6Only};
    local(async {
        let check = async |family, a: Reply, aaaa: Reply, expected: &[&str]| {
            let options = DnsOptions { lookup_family: family, ..DnsOptions::default() };
            let (server, setup) = start(strict(options, &["a.test"])).await;
            server.set("a.test", a.clone(), aaaa.clone());
            setup.manager.initialized().await;
            let hosts = sorted(&setup);
            let hosts: Vec<_> = hosts.iter().filter_map(|host| host.split(' ').next()).collect();
            assert_eq!(hosts, expected, "{family:?} of {a:?} and {aaaa:?}");
        };
        let a = || v4(&[[10, 0, 0, 1]]);
        let (four, six) = ("10.0.0.1:80", "[fd00::1]:80");
        check(V4Only, a(), v6(&[1]), &[four]).await;
        check(V6Only, a(), v6(&[1]), &[six]).await;
        check(Auto, a(), v6(&[1]), &[six]).await;
        check(Auto, a(), Reply::NoData, &[four]).await;
        check(Auto, a(), Reply::Silence, &[four]).await;
        check(V4Preferred, a(), v6(&[1]), &[four]).await;
        check(V4Preferred, Reply::NoData, v6(&[1]), &[six]).await;
        check(V4Preferred, Reply::ServFail, v6(&[1]), &[six]).await;
        check(All, a(), v6(&[1]), &[four, six]).await;
        check(All, a(), Reply::Silence, &[four]).await;
        check(All, Reply::ServFail, v6(&[1]), &[six]).await;
        check(All, Reply::Silence, Reply::NoData, &[]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_family_that_fails_does_not_empty_the_set() {
    local(async {
        let options = DnsOptions { lookup_family: DnsLookupFamily::All, ..DnsOptions::default() };
        let (server, setup) = start(strict(options, &["a.test"])).await;
        server.set("a.test", v4(&[[10, 0, 0, 1]]), Reply::NoData);
        setup.manager.initialized().await;
        server.set("a.test", Reply::Silence, Reply::NoData);
        until("queries fail", || setup.stat("cluster.c.update_failure") >= 2).await;
        assert_eq!(sorted(&setup), ["10.0.0.1:80 healthy"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refresh_by_rate_ttl_and_failure() {
    local(async {
        let seconds = Duration::from_secs;
        let check = async |options: DnsOptions, reply: Reply, expected: std::ops::Range<u32>| {
            let options = DnsOptions { lookup_family: DnsLookupFamily::V4Only, ..options };
            let (server, setup) = start(strict(options, &["a.test"])).await;
            server.set("a.test", reply, Reply::NoData);
            setup.manager.initialized().await;
            let before = server.queries.get();
            tokio::time::sleep(seconds(300)).await;
            let queries = server.queries.get() - before;
            assert!(expected.contains(&queries), "{queries} queries in 300 s, not {expected:?}");
        };
        let a = || v4(&[[10, 0, 0, 1]]);
        check(DnsOptions { refresh_rate: seconds(10), ..DnsOptions::default() }, a(), 29..31).await;
        check(DnsOptions { respect_ttl: true, ..DnsOptions::default() }, a(), 9..11).await;
        let jitter = DnsOptions { refresh_rate: seconds(10), jitter: seconds(10), ..DnsOptions::default() };
        check(jitter, a(), 16..24).await;
        let failure = crate::config::BackOff { base_interval: seconds(50), max_interval: seconds(100) };
        let failing = DnsOptions { failure_refresh_rate: Some(failure), ..DnsOptions::default() };
        check(failing, Reply::ServFail, 3..30).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_logical_host_moves() {
    local(async {
        let discovery = Discovery::LogicalDns(Box::default());
        let config =
            ClusterConfig { load_assignment: assignment(&["a.test"], 443), ..ClusterConfig::new("c", discovery) };
        let (server, setup) = start(config).await;
        server.set("a.test", v4(&[[10, 0, 0, 1], [10, 0, 0, 2]]), Reply::NoData);
        setup.manager.initialized().await;
        setup.manager.synced().await;
        assert_eq!(sorted(&setup), ["10.0.0.1:443 healthy"]);
        let host = setup.worker.get("c").unwrap().hosts().hosts().next().cloned().unwrap();
        assert_eq!(host.destination().addresses.len(), 2);
        server.set("a.test", v4(&[[10, 0, 0, 7]]), Reply::NoData);
        until("it moved", || sorted(&setup) == ["10.0.0.7:443 healthy"]).await;
        let same = setup.worker.get("c").unwrap().hosts().hosts().next().cloned().unwrap();
        assert!(Arc::ptr_eq(&host, &same));
        // An empty answer leaves it where it is.
        server.set("a.test", Reply::NoData, Reply::NoData);
        let before = setup.stat("cluster.c.update_success");
        until("it was asked again", || setup.stat("cluster.c.update_success") > before + 1).await;
        assert_eq!(setup.choose("c").as_deref(), Some("10.0.0.7:443"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn names_that_need_no_server() {
    local(async {
        let check = async |name: &str, family, expected: &[&str]| {
            let options = DnsOptions { lookup_family: family, ..DnsOptions::default() };
            let (server, setup) = start(strict(options, &[name])).await;
            setup.manager.initialized().await;
            assert_eq!(sorted(&setup), expected, "{name}");
            assert_eq!(server.queries.get(), 0, "{name}");
        };
        check("localhost", DnsLookupFamily::V4Only, &["127.0.0.1:80 healthy"]).await;
        check("localhost", DnsLookupFamily::V4Preferred, &["127.0.0.1:80 healthy"]).await;
        check("192.0.2.1", DnsLookupFamily::Auto, &["192.0.2.1:80 healthy"]).await;
        check("fd00::1", DnsLookupFamily::Auto, &["[fd00::1]:80 healthy"]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_read_again() {
    local(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let files = crate::SystemFiles { resolv_conf: path("resolv.conf"), hosts: path("hosts") };
        std::fs::write(&files.hosts, "10.0.0.1 a.test\n").unwrap();
        let setup = Setup::with_files(Vec::new(), files.clone());
        let set = |names: &[&str]| setup.manager.set_clusters(vec![Arc::new(strict(DnsOptions::default(), names))]);
        set(&["a.test"]);
        setup.manager.initialized().await;
        assert_eq!(sorted(&setup), ["10.0.0.1:80 healthy"], "needs no resolv.conf");
        std::fs::write(&files.hosts, "10.0.0.25 b.test a.test # moved\n").unwrap();
        until("the new line is read", || sorted(&setup) == ["10.0.0.25:80 healthy"]).await;
        std::fs::remove_file(&files.hosts).unwrap();
        until("queries fail", || setup.stat("cluster.c.update_failure") >= 1).await;
        assert_eq!(sorted(&setup), ["10.0.0.25:80 healthy"], "the last good answer is kept");
        std::fs::write(&files.resolv_conf, "nameserver garbage\n\u{0}options ndots:99999999999\n").unwrap();
        let before = setup.stat("cluster.c.update_failure");
        until("it is tried again", || setup.stat("cluster.c.update_failure") > before).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hostile_names_and_answers_do_no_harm() {
    local(async {
        let long = format!("{}.test", "a".repeat(300));
        for name in [long.as_str(), "a..b", "", "\u{0}", "xn--\u{fffd}"] {
            let (_server, setup) = start(strict(DnsOptions::default(), &[name])).await;
            setup.manager.initialized().await;
            setup.manager.synced().await;
            assert_eq!(setup.choose("c"), None, "{name:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_passes_checks_stays_when_its_name_is_gone() {
    local(async {
        let origin = Server::start(Act::Silence).await;
        let mut config = strict(DnsOptions::default(), &["a.test"]);
        config.load_assignment = assignment(&["a.test"], origin.address.port());
        let check = HealthChecker::Tcp(TcpHealthCheck::default());
        let second = Duration::from_secs(1);
        let check = HealthCheck { no_traffic_interval: second, ..HealthCheck::new(second, second, (1, 1), check) };
        config.health_check = Some(Box::new(check));
        let (server, setup) = start(config.clone()).await;
        let local = || v4(&[[127, 0, 0, 1]]);
        server.set("a.test", local(), Reply::NoData);
        setup.manager.initialized().await;
        server.set("a.test", v4(&[[127, 0, 0, 2]]), Reply::NoData);
        until("the old host is marked", || {
            sorted(&setup).iter().any(|host| host.ends_with("/pending_dynamic_removal"))
        })
        .await;
        assert!(setup.choose("c").is_some());
        server.set("a.test", local(), Reply::NoData);
        until("it is back", || sorted(&setup).iter().all(|host| !host.ends_with("removal"))).await;

        config.ignore_health_on_host_removal = true;
        setup.manager.set_clusters(vec![Arc::new(config)]);
        setup.manager.initialized().await;
        server.set("a.test", v4(&[[127, 0, 0, 2]]), Reply::NoData);
        until("only the new host is left", || sorted(&setup).len() == 1 && sorted(&setup)[0].contains("127.0.0.2"))
            .await;
    })
    .await;
}
