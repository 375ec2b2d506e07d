//! LRS: tells a server the load of clusters, at the interval that it asks for (`cluster_manager.load_stats_config`).

use crate::admin::{locality_of, socket_address_of};
use crate::state::Server;
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_api::pb::envoy::config::endpoint::v3 as pb;
use nuncio_api::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use nuncio_cluster::{Host, HostCounter, LocalityView};
use nuncio_config::sources::ApiSource;
use nuncio_filter::grpc::{GrpcError, GrpcService};
use nuncio_hcm::grpc::GrpcStream;
use nuncio_headers::Known;
use nuncio_stats::names::LoadReporterStats;
use nuncio_xds::BackOff;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::{pending, poll_fn};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

const METHOD: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";
/// What the server may rely on (`Node.client_features`).
const FEATURE: &str = "envoy.lrs.supports_send_all_clusters";
/// Longest message of the server, in bytes: it may name every cluster.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// The waits between two streams.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Shortest interval between reports, whatever the server asks for.
const SHORTEST: Duration = Duration::from_millis(10);
/// Reports that wait to be sent, in bytes. A server that does not read gets none until it has.
const MAX_BUFFERED: usize = 16 * 1024 * 1024;

/// Reports for as long as the process lives, if there is a server to report to.
pub(crate) fn start(server: &Rc<Server>) {
    let Some(api) = &server.xds.config.load_stats else { return };
    let reporter = Reporter::new(server, api);
    tokio::task::spawn_local(reporter.serve());
}

struct Reporter {
    server: Weak<Server>,
    service: GrpcService,
    node: Node,
    stats: LoadReporterStats,
    back_off: BackOff,
    /// What was told of hosts, by their place in memory, which they keep as long as they are held here.
    told: HashMap<usize, Told>,
    clusters: BTreeMap<Arc<str>, Period>,
}

/// Counts that were reported.
struct Told {
    _host: Arc<Host>,
    counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    success: u64,
    error: u64,
    issued: u64,
}

impl Counts {
    fn of(host: &Host) -> Counts {
        Counts {
            success: host.counter(HostCounter::RqSuccess),
            error: host.counter(HostCounter::RqError),
            issued: host.counter(HostCounter::RqTotal),
        }
    }
}

/// Since when a cluster's load is counted, and the dropped requests until then.
struct Period {
    since: Instant,
    dropped: u64,
}

/// What the server asked for.
struct Wanted {
    names: HashSet<String>,
    all: bool,
    interval: Duration,
    by_endpoint: bool,
}

impl Wanted {
    fn of(response: LoadStatsResponse) -> Wanted {
        let interval = response.load_reporting_interval.unwrap_or_default();
        let (seconds, nanos) = (u64::try_from(interval.seconds), u32::try_from(interval.nanos));
        Wanted {
            names: response.clusters.into_iter().collect(),
            all: response.send_all_clusters,
            interval: Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0).min(999_999_999)).max(SHORTEST),
            by_endpoint: response.report_endpoint_granularity,
        }
    }
}

impl Reporter {
    fn new(server: &Rc<Server>, api: &ApiSource) -> Reporter {
        let mut node = server.xds.node.clone();
        node.client_features.push(FEATURE.to_owned());
        let stats = LoadReporterStats::register(&server.store.scope("load_reporter", &[]));
        Reporter {
            server: Rc::downgrade(server),
            service: api.service.clone().unwrap_or_default(),
            node,
            stats,
            back_off: BackOff::new(BACK_OFF.0, BACK_OFF.1),
            told: HashMap::new(),
            clusters: BTreeMap::new(),
        }
    }

    async fn serve(mut self) {
        loop {
            let error = match self.open().await {
                None => return,
                Some(Ok(stream)) => match self.run(stream).await {
                    None => return,
                    Some(error) => error,
                },
                Some(Err(error)) => error,
            };
            self.stats.errors().inc();
            let Some(server) = self.server.upgrade() else { return };
            let wait = self.back_off.next(server.xds.worker.random());
            drop(server);
            let cluster = &self.service.cluster;
            tracing::warn!(target: "upstream", "no load reports to {cluster}: {error}; next attempt in {} ms", wait.as_millis());
            tokio::time::sleep(wait).await;
            self.stats.retries().inc();
        }
    }

    /// None if the process ends.
    async fn open(&self) -> Option<Result<GrpcStream, GrpcError>> {
        let server = self.server.upgrade()?;
        self.stats.responses().inc();
        let worker = &server.xds.worker;
        let address = worker.services().get::<nuncio_filter::LocalAddress>().map(|own| own.0.to_string());
        let headers: Vec<(Known, &str)> =
            address.iter().map(|address| (Known::X_FORWARDED_FOR, address.as_str())).collect();
        Some(GrpcStream::open(worker, &server.xds.clusters, &self.service, (METHOD, &headers, MAX_MESSAGE)).await)
    }

    /// One stream, to its end; none if the process ends.
    async fn run(&mut self, mut stream: GrpcStream) -> Option<GrpcError> {
        self.clusters.clear();
        self.told.clear();
        stream.send(&LoadStatsRequest { node: Some(self.node.clone()), cluster_stats: Vec::new() }.encode_to_vec());
        let mut wanted: Option<Wanted> = None;
        let mut next: Option<Instant> = None;
        loop {
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            let message = tokio::select! {
                biased;
                message = poll_fn(|cx| stream.poll_message(cx)) => Some(message),
                () = timer => None,
            };
            let server = self.server.upgrade()?;
            match message {
                Some(Ok(message)) => {
                    self.stats.requests().inc();
                    self.back_off.reset();
                    match LoadStatsResponse::decode(&message[..]) {
                        Ok(response) => wanted = Some(Wanted::of(response)),
                        Err(error) => return Some(GrpcError::Malformed(error.to_string())),
                    }
                    self.begin(&server, wanted.as_ref());
                }
                Some(Err(error)) => return Some(error),
                None => {
                    let by_endpoint = wanted.as_ref().is_some_and(|wanted| wanted.by_endpoint);
                    if stream.buffered() < MAX_BUFFERED {
                        self.stats.responses().inc();
                        stream.send(&self.report(&server, by_endpoint).encode_to_vec());
                    }
                    self.begin(&server, wanted.as_ref());
                }
            }
            next = wanted.as_ref().map(|wanted| Instant::now() + wanted.interval);
        }
    }

    /// Begins to count for clusters that are new among the wanted ones, and forgets the others.
    fn begin(&mut self, server: &Server, wanted: Option<&Wanted>) {
        let Some(wanted) = wanted else { return };
        let mut before = std::mem::take(&mut self.clusters);
        let names = server.clusters.names();
        let names = names.into_iter().filter(|name| wanted.all || wanted.names.contains(&**name));
        for name in names {
            let period = before.remove(&name).unwrap_or_else(|| {
                for view in server.clusters.localities(&name) {
                    for host in view.hosts {
                        self.since_told(&host);
                    }
                }
                Period { since: Instant::now(), dropped: dropped(server, &name) }
            });
            self.clusters.insert(name, period);
        }
    }

    fn report(&mut self, server: &Server, by_endpoint: bool) -> LoadStatsRequest {
        let mut clusters = std::mem::take(&mut self.clusters);
        // Hosts that are gone are forgotten.
        let mut before = std::mem::take(&mut self.told);
        let now = Instant::now();
        let mut cluster_stats = Vec::with_capacity(clusters.len());
        for (name, period) in &mut clusters {
            let localities = server.clusters.localities(name);
            for host in localities.iter().flat_map(|view| &view.hosts) {
                let place = Arc::as_ptr(host) as usize;
                if let Some(told) = before.remove(&place) {
                    self.told.insert(place, told);
                }
            }
            let upstream_locality_stats =
                localities.iter().filter_map(|view| self.locality(view, by_endpoint)).collect();
            let total = dropped(server, name);
            let took = now.duration_since(period.since);
            let service = server.clusters.endpoints_name(name).filter(|service| service != name);
            cluster_stats.push(pb::ClusterStats {
                cluster_name: name.to_string(),
                cluster_service_name: service.map(|service| service.to_string()).unwrap_or_default(),
                upstream_locality_stats,
                total_dropped_requests: total.saturating_sub(period.dropped),
                load_report_interval: Some(nuncio_api::wkt::Duration {
                    seconds: i64::try_from(took.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(took.subsec_nanos()).unwrap_or(0),
                }),
                ..Default::default()
            });
            *period = Period { since: now, dropped: total };
        }
        self.clusters = clusters;
        LoadStatsRequest { node: Some(self.node.clone()), cluster_stats }
    }

    /// What happened in a locality; none if nothing did.
    fn locality(&mut self, view: &LocalityView, by_endpoint: bool) -> Option<pb::UpstreamLocalityStats> {
        let mut stats = pb::UpstreamLocalityStats {
            locality: view.hosts.first().map(|host| locality_of(&host.info().locality)),
            priority: view.priority,
            ..Default::default()
        };
        for host in &view.hosts {
            let Counts { success, error, issued } = self.since_told(host);
            let active = u64::from(host.rq_active());
            if success + error + active + issued == 0 {
                continue;
            }
            stats.total_successful_requests += success;
            stats.total_error_requests += error;
            stats.total_issued_requests += issued;
            stats.total_requests_in_progress += active;
            if by_endpoint {
                stats.upstream_endpoint_stats.push(pb::UpstreamEndpointStats {
                    address: Some(socket_address_of(&host.destination().info.address)),
                    total_successful_requests: success,
                    total_requests_in_progress: active,
                    total_error_requests: error,
                    total_issued_requests: issued,
                    ..Default::default()
                });
            }
        }
        let any = stats.total_successful_requests
            + stats.total_error_requests
            + stats.total_issued_requests
            + stats.total_requests_in_progress;
        (any > 0).then_some(stats)
    }

    /// What a host counted since this was asked last.
    fn since_told(&mut self, host: &Arc<Host>) -> Counts {
        let counts = Counts::of(host);
        let told = Told { _host: Arc::clone(host), counts };
        let before = self.told.insert(Arc::as_ptr(host) as usize, told).map(|told| told.counts).unwrap_or_default();
        Counts {
            success: counts.success.saturating_sub(before.success),
            error: counts.error.saturating_sub(before.error),
            issued: counts.issued.saturating_sub(before.issued),
        }
    }
}

/// Requests of a cluster that were turned away.
fn dropped(server: &Server, cluster: &str) -> u64 {
    let Some(stats) = server.clusters.stats_of(cluster) else { return 0 };
    stats.upstream_rq_pending_overflow().value() + stats.upstream_rq_maintenance_mode().value()
}
