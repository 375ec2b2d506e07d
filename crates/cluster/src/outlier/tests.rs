use super::LocalOrigin;
use crate::Host;
use crate::config::{
    ClusterConfig, Discovery, Endpoint, HealthCheck, HealthChecker, LoadAssignment, LocalityEndpoints,
    OutlierDetection, TcpHealthCheck,
};
use crate::scripted::{Act, Server, Setup, local, until};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cluster(outlier: OutlierDetection, hosts: usize) -> ClusterConfig {
    let endpoint = |index| Endpoint::new(SocketAddr::from(([10, 0, 0, 1], 1 + index as u16)));
    let place = LocalityEndpoints { endpoints: (0..hosts).map(endpoint).collect(), ..LocalityEndpoints::default() };
    ClusterConfig {
        outlier_detection: Some(Box::new(outlier)),
        load_assignment: LoadAssignment { localities: vec![place], ..LoadAssignment::default() },
        ..ClusterConfig::new("c", Discovery::Static)
    }
}

/// Everything may be ejected.
fn all(outlier: OutlierDetection) -> OutlierDetection {
    OutlierDetection { max_ejection_percent: 100, ..outlier }
}

async fn start(config: ClusterConfig) -> (Setup, Vec<Arc<Host>>) {
    let setup = Setup::new();
    setup.manager.set_clusters(vec![Arc::new(config)]);
    setup.manager.initialized().await;
    setup.manager.synced().await;
    let hosts = setup.worker.get("c").unwrap().hosts().hosts().cloned().collect();
    (setup, hosts)
}

fn ejected(host: &Host) -> bool {
    host.health_flags().to_string() == "/failed_outlier_check"
}

fn stat(setup: &Setup, name: &str) -> u64 {
    setup.stat(&format!("cluster.c.outlier_detection.{name}"))
}

fn respond(host: &Arc<Host>, status: u16, times: u32) {
    (0..times).for_each(|_| host.record_status(status));
}

/// Lets the main thread's tasks run.
async fn settle(setup: &Setup) {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    setup.manager.synced().await;
}

#[tokio::test(start_paused = true)]
async fn consecutive_errors_eject() {
    local(async {
        let check = async |outlier: OutlierDetection, statuses: &[(u16, u32)], expected: bool| {
            let (setup, hosts) = start(cluster(all(outlier), 2)).await;
            statuses.iter().for_each(|(status, times)| respond(&hosts[0], *status, *times));
            settle(&setup).await;
            assert_eq!(ejected(&hosts[0]), expected, "{statuses:?}");
            assert!(!ejected(&hosts[1]));
            assert_eq!(stat(&setup, "ejections_active"), u64::from(expected));
            let healthy = setup.stat("cluster.c.membership_healthy");
            assert_eq!(healthy, if expected { 1 } else { 2 });
        };
        let default = OutlierDetection::default;
        check(default(), &[(500, 5)], true).await;
        check(default(), &[(500, 4)], false).await;
        check(default(), &[(500, 4), (200, 1), (500, 4)], false).await;
        check(default(), &[(500, 4), (404, 1), (500, 1)], false).await;
        check(default(), &[(503, 5)], true).await;
        let gateway = || OutlierDetection {
            consecutive_gateway_failure: 3,
            enforcing_consecutive_gateway_failure: 100,
            ..default()
        };
        check(gateway(), &[(503, 1), (502, 1), (504, 1)], true).await;
        check(gateway(), &[(503, 2), (500, 1), (503, 1)], false).await;
        let off = OutlierDetection { enforcing_consecutive_5xx: 0, ..default() };
        check(off, &[(500, 5)], false).await;
    })
    .await;
}

#[derive(Default)]
struct Failed(std::cell::RefCell<Vec<String>>);

impl crate::HostObserver for Failed {
    fn hosts_removed(&self, _: &[Arc<Host>]) {}
    fn hosts_failed(&self, hosts: &[Arc<Host>]) {
        self.0.borrow_mut().extend(hosts.iter().map(|host| host.address().to_string()));
    }
    fn host_set_changed(&self) {}
    fn cluster_retired(&self) {}
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_ejected_hosts() {
    local(async {
        let (setup, hosts) = start(cluster(all(OutlierDetection::default()), 2)).await;
        let failed = std::rc::Rc::new(Failed::default());
        setup.worker.get("c").unwrap().observe(failed.clone());
        respond(&hosts[1], 500, 5);
        settle(&setup).await;
        assert_eq!(*failed.0.borrow(), ["10.0.0.1:2"]);
        assert_eq!(setup.choose("c").as_deref(), Some("10.0.0.1:1"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_share_of_ejected_hosts_is_limited() {
    local(async {
        let check = async |percent, always_one, hosts: usize, expected: usize| {
            let outlier = OutlierDetection {
                max_ejection_percent: percent,
                always_eject_one_host: always_one,
                ..OutlierDetection::default()
            };
            let (setup, hosts) = start(cluster(outlier, hosts)).await;
            for host in &hosts {
                respond(host, 500, 5);
            }
            settle(&setup).await;
            let found = hosts.iter().filter(|host| ejected(host)).count();
            assert_eq!(found, expected, "{percent} % of {}", hosts.len());
            assert_eq!(stat(&setup, "ejections_overflow"), (hosts.len() - expected) as u64);
        };
        check(10, false, 2, 0).await;
        check(10, true, 2, 1).await;
        check(10, false, 10, 1).await;
        check(50, false, 4, 2).await;
        check(100, false, 4, 4).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ejections_last_longer_each_time() {
    local(async {
        let outlier = OutlierDetection {
            interval: seconds(1),
            base_ejection_time: seconds(10),
            max_ejection_time: seconds(25),
            ..OutlierDetection::default()
        };
        let (setup, hosts) = start(cluster(all(outlier), 1)).await;
        for expected in [10, 20, 25] {
            respond(&hosts[0], 500, 5);
            settle(&setup).await;
            assert!(ejected(&hosts[0]));
            let since = tokio::time::Instant::now();
            until("it is back", || !ejected(&hosts[0])).await;
            let time = since.elapsed();
            assert!(time >= seconds(expected) && time <= seconds(expected + 2), "{time:?}, not {expected}");
        }
        // Good times let the factor fall again.
        tokio::time::sleep(seconds(60)).await;
        respond(&hosts[0], 500, 5);
        settle(&setup).await;
        let since = tokio::time::Instant::now();
        until("it is back", || !ejected(&hosts[0])).await;
        assert!(since.elapsed() < seconds(12));
        assert_eq!(stat(&setup, "ejections_enforced_total"), 4);
        assert_eq!(stat(&setup, "ejections_active"), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn local_origin_failures() {
    local(async {
        let check = async |split: bool, outcomes: &[LocalOrigin], expected: bool| {
            let outlier = OutlierDetection {
                split_external_local_origin_errors: split,
                consecutive_5xx: 3,
                consecutive_local_origin_failure: 2,
                ..OutlierDetection::default()
            };
            let (setup, hosts) = start(cluster(all(outlier), 1)).await;
            outcomes.iter().for_each(|outcome| hosts[0].record_local_origin(*outcome));
            settle(&setup).await;
            assert_eq!(ejected(&hosts[0]), expected, "split {split}: {outcomes:?}");
        };
        use LocalOrigin::{ConnectFailed, Connected, ConnectedFinal, Timeout};
        check(true, &[ConnectFailed, ConnectFailed], true).await;
        check(true, &[ConnectFailed, Timeout(504)], true).await;
        check(true, &[ConnectFailed, Connected, ConnectFailed], false).await;
        check(false, &[ConnectFailed, ConnectFailed], false).await;
        check(false, &[ConnectFailed, Timeout(504), ConnectFailed], true).await;
        check(false, &[ConnectFailed, Connected, ConnectFailed, ConnectFailed], true).await;
        check(false, &[ConnectFailed, ConnectFailed, ConnectedFinal, ConnectFailed], false).await;
        check(false, &[Timeout(204), Timeout(204), Timeout(204)], false).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn success_rate_finds_the_one_that_is_worse() {
    local(async {
        let outlier = OutlierDetection {
            interval: seconds(1),
            consecutive_5xx: 1000,
            consecutive_gateway_failure: 1000,
            ..OutlierDetection::default()
        };
        let (setup, hosts) = start(cluster(all(outlier), 5)).await;
        for host in &hosts[1..] {
            respond(host, 200, 100);
        }
        respond(&hosts[0], 200, 50);
        respond(&hosts[0], 500, 50);
        until("it is ejected", || ejected(&hosts[0])).await;
        assert!(hosts[1..].iter().all(|host| !ejected(host)));
        assert_eq!(stat(&setup, "ejections_enforced_success_rate"), 1);
        let mut text = Vec::new();
        setup.manager.write_clusters_text(&mut text, |_| true);
        let text = String::from_utf8(text).unwrap();
        // Mean 90; standard deviation 20; 90 - 1.9 * 20.
        for line in [
            "c::outlier::success_rate_average::90",
            "c::outlier::success_rate_ejection_threshold::52",
            "c::10.0.0.1:1::success_rate::50",
            "c::10.0.0.1:2::success_rate::100",
            "c::outlier::local_origin_success_rate_average::-1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in {text}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn success_rate_needs_hosts_and_requests() {
    local(async {
        let check = async |hosts: usize, requests: u32| {
            let outlier = OutlierDetection {
                interval: seconds(1),
                consecutive_5xx: 1000,
                enforcing_failure_percentage: 0,
                ..OutlierDetection::default()
            };
            let (setup, hosts) = start(cluster(all(outlier), hosts)).await;
            for host in &hosts[1..] {
                respond(host, 200, requests);
            }
            respond(&hosts[0], 500, requests);
            tokio::time::sleep(seconds(3)).await;
            assert!(!ejected(&hosts[0]));
            assert_eq!(stat(&setup, "ejections_detected_success_rate"), 0);
        };
        check(4, 200).await;
        check(5, 99).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failure_percentage() {
    local(async {
        let check = async |failures: u32, expected: bool| {
            let outlier = OutlierDetection {
                interval: seconds(1),
                consecutive_5xx: 1000,
                enforcing_success_rate: 0,
                enforcing_failure_percentage: 100,
                ..OutlierDetection::default()
            };
            let (setup, hosts) = start(cluster(all(outlier), 5)).await;
            for host in &hosts[1..] {
                respond(host, 200, 50);
            }
            respond(&hosts[0], 500, failures);
            respond(&hosts[0], 200, 100 - failures);
            tokio::time::sleep(seconds(2)).await;
            assert_eq!(ejected(&hosts[0]), expected, "{failures} %");
            assert_eq!(stat(&setup, "ejections_enforced_failure_percentage"), u64::from(expected));
        };
        check(84, false).await;
        check(85, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_passed_health_check_lets_a_host_in() {
    local(async {
        let check = async |uneject: bool| {
            let origin = Server::start(Act::Silence).await;
            let outlier = OutlierDetection {
                base_ejection_time: seconds(300),
                successful_active_health_check_uneject_host: uneject,
                ..OutlierDetection::default()
            };
            let mut config = cluster(all(outlier), 1);
            config.load_assignment.localities[0].endpoints = vec![Endpoint::new(origin.address)];
            let checker = HealthChecker::Tcp(TcpHealthCheck::default());
            let check = HealthCheck {
                no_traffic_interval: seconds(5),
                ..HealthCheck::new(seconds(1), seconds(5), (1, 1), checker)
            };
            config.health_check = Some(Box::new(check));
            let (setup, hosts) = start(config).await;
            respond(&hosts[0], 500, 5);
            settle(&setup).await;
            assert!(ejected(&hosts[0]));
            tokio::time::sleep(seconds(10)).await;
            assert_eq!(ejected(&hosts[0]), !uneject);
        };
        check(true).await;
        check(false).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_are_logged_as_envoy_logs_them() {
    local(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outlier.log");
        let outlier = OutlierDetection {
            interval: seconds(1),
            base_ejection_time: seconds(2),
            event_log: Some(path.to_str().unwrap().into()),
            ..OutlierDetection::default()
        };
        let (setup, hosts) = start(cluster(all(outlier), 1)).await;
        respond(&hosts[0], 503, 5);
        settle(&setup).await;
        until("it is back", || !ejected(&hosts[0])).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let cut = |line: &str| {
            let (before, rest) = line.split_once(r#""timestamp":""#).unwrap();
            let (_, after) = rest.split_once("\",").unwrap();
            format!("{before}{after}")
        };
        let lines: Vec<_> = text.lines().map(cut).collect();
        assert_eq!(
            lines,
            [
                r#"{"type":"CONSECUTIVE_GATEWAY_FAILURE","cluster_name":"c","upstream_url":"10.0.0.1:1","action":"EJECT","num_ejections":0,"enforced":false,"eject_consecutive_event":{}}"#,
                r#"{"type":"CONSECUTIVE_5XX","cluster_name":"c","upstream_url":"10.0.0.1:1","action":"EJECT","num_ejections":1,"enforced":true,"eject_consecutive_event":{}}"#,
                r#"{"type":"CONSECUTIVE_5XX","secs_since_last_action":"2","cluster_name":"c","upstream_url":"10.0.0.1:1","action":"UNEJECT","num_ejections":1,"enforced":false}"#,
            ]
        );
    })
    .await;
}
