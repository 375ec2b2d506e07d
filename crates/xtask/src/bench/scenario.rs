//! What is done with a proxy in one round of each scenario.

mod http2;
mod tls;

use std::time::Duration;

use tempfile::TempDir;

use super::config::{PathMatch, Setup, host_name, route_path};
use super::credentials::Credentials;
use super::figure::{self, Figure};
use super::load::message::{Request, Shape};
use super::load::{Load, Protocol, Security};
use super::machine::{self, Processors, TICKS_PER_SECOND};
use super::peer::{Peer, Running, Site};

/// Bulk connections of the TCP scenario.
const BULK_CONNECTIONS: usize = 4;
const IDLE_CONNECTIONS: usize = 1_000;
const BUSY_CONNECTIONS: usize = 2_000;
/// Connections of the burst, each with requests on it.
pub const BURST_CONNECTIONS: usize = 5_000;
/// Requests at the same time while idle connections are made, so that few upstream connections are.
const AT_ONCE: usize = 8;
const WARM_UP: Duration = Duration::from_secs(1);
/// Before memory is read.
const CALM: Duration = Duration::from_secs(2);

/// What can be chosen with `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// HTTP/1.1, closed loop: CPU per request and rate.
    Http,
    /// The same with an access log in a file.
    Log,
    /// Latency at a fixed rate.
    Latency,
    /// TCP proxy: CPU per GB.
    Tcp,
    /// RSS idle, with idle and busy connections, after a burst.
    Memory,
    /// RSS and time to ready with 1,000 and 10,000 clusters and virtual hosts.
    Scale,
    /// CPU per request against the number of routes and virtual hosts.
    Routes,
    /// HTTP/2 from clients and HTTP/1 to the origin: CPU per request.
    Http2,
    /// HTTP/2 on both sides.
    Http2Both,
    /// Unary calls of gRPC.
    Grpc,
    /// HTTP/1.1 over TLS 1.3 with connections that are kept.
    Tls,
    /// TLS 1.3 handshakes, full and resumed, with one request each.
    Handshakes,
    /// Latency of established TLS connections, alone and in a flood of handshakes.
    HandshakeFlood,
    /// TCP proxy that terminates TLS: CPU per GB.
    TlsBulk,
    /// The memory scenario with TLS connections.
    TlsMemory,
    /// RSS with idle HTTP/2 connections.
    Http2Memory,
    /// RSS with 2,500 clusters that originate TLS.
    TlsClusters,
}

/// Every scenario, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario::Http,
    Scenario::Log,
    Scenario::Latency,
    Scenario::Tcp,
    Scenario::Memory,
    Scenario::Scale,
    Scenario::Routes,
    Scenario::Http2,
    Scenario::Http2Both,
    Scenario::Grpc,
    Scenario::Tls,
    Scenario::Handshakes,
    Scenario::HandshakeFlood,
    Scenario::TlsBulk,
    Scenario::TlsMemory,
    Scenario::Http2Memory,
    Scenario::TlsClusters,
];

impl Scenario {
    /// For `--only`, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Log => "log",
            Self::Latency => "latency",
            Self::Tcp => "tcp",
            Self::Memory => "memory",
            Self::Scale => "scale",
            Self::Routes => "routes",
            Self::Http2 => "http2",
            Self::Http2Both => "http2-both",
            Self::Grpc => "grpc",
            Self::Tls => "tls",
            Self::Handshakes => "handshakes",
            Self::HandshakeFlood => "handshake-flood",
            Self::TlsBulk => "tls-bulk",
            Self::TlsMemory => "tls-memory",
            Self::Http2Memory => "http2-memory",
            Self::TlsClusters => "tls-clusters",
        }
    }

    /// How many rounds it needs at most: memory hardly differs between rounds, and they are long.
    pub fn rounds(self, wanted: usize) -> usize {
        match self {
            Self::TlsClusters => 1,
            Self::Memory | Self::TlsMemory | Self::Http2Memory => wanted.min(2),
            Self::Scale => wanted.min(3),
            _ => wanted,
        }
    }

    /// A setup that a peer must support to take part.
    pub fn setup(self) -> Setup {
        match self {
            Self::Http | Self::Latency | Self::Memory => Setup::Http { log: false },
            Self::Log => Setup::Http { log: true },
            Self::Tcp => Setup::Tcp,
            Self::Scale => Setup::Clusters(1),
            Self::Routes => Setup::Hosts(1),
            Self::Http2 | Self::Http2Memory => Setup::Http2 { both: false },
            Self::Http2Both => Setup::Http2 { both: true },
            Self::Grpc => Setup::Grpc,
            Self::Tls | Self::TlsMemory | Self::HandshakeFlood => Setup::Tls,
            Self::Handshakes => Setup::TlsAnswer,
            Self::TlsBulk => Setup::TlsTcp,
            Self::TlsClusters => Setup::TlsClusters(tls::TLS_CLUSTERS),
        }
    }
}

/// What one proxy did in one round.
pub struct Sample {
    pub variant: String,
    pub values: Vec<(&'static Figure, f64)>,
}

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of every timed measurement.
    pub duration: Duration,
    /// Keep-alive connections of the closed and of the open loop.
    pub connections: usize,
    /// Requests a second of the open loop.
    pub rate: u32,
    /// From the end of a burst until memory is read.
    pub settle: Duration,
    /// The most connections that a proxy is told to expect.
    pub most_connections: u64,
}

/// Runs scenarios on one peer after another.
pub struct Stage {
    pub settings: Settings,
    pub processors: Processors,
    pub load: Load,
    /// What proxies show to clients over TLS.
    pub credentials: Credentials,
    /// The largest part of the proxy's processor that something else used while it was measured, 0 to 1.
    pub disturbed: f64,
}

/// Resources that a measurement took.
struct Used {
    cpu_seconds: f64,
    seconds: f64,
    completed: f64,
    gigabytes: f64,
}

impl Used {
    fn cpu_per_request(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.completed.max(1.0)
    }

    fn per_request(&self) -> Vec<(&'static Figure, f64)> {
        vec![
            (&figure::CPU_PER_REQUEST, self.cpu_per_request()),
            (&figure::RATE, self.completed / self.seconds),
            (&figure::PROCESSOR_USED, 100.0 * self.cpu_seconds / self.seconds),
        ]
    }
}

type Samples = Result<Vec<Sample>, String>;

impl Stage {
    /// One round of `scenario` on `peer`. `round` decides what comes first where that could matter.
    pub fn perform(&mut self, scenario: Scenario, peer: &Peer, round: usize) -> Samples {
        let samples = match scenario {
            Scenario::Http | Scenario::Log | Scenario::Tls => self.http(peer, scenario.setup()),
            Scenario::Http2 | Scenario::Http2Both | Scenario::Grpc => self.http2(peer, scenario.setup()),
            Scenario::Handshakes => self.handshakes(peer),
            Scenario::HandshakeFlood => self.handshake_flood(peer),
            Scenario::Http2Memory => self.http2_memory(peer),
            Scenario::TlsClusters => self.tls_clusters(peer),
            Scenario::Latency => self.latency(peer),
            Scenario::Tcp | Scenario::TlsBulk => self.tcp(peer, scenario.setup()),
            Scenario::Memory | Scenario::TlsMemory => self.memory(peer, scenario.setup()),
            Scenario::Scale => self.scale(peer),
            Scenario::Routes => self.routes(peer, round),
        };
        self.load.reset();
        samples
    }

    fn http(&mut self, peer: &Peer, setup: Setup) -> Samples {
        self.with(peer, setup, |stage, running| {
            let mut samples = Vec::new();
            for shape in [Shape::One, Shape::Twelve] {
                let used = stage.closed_loop(running, &Request::plain(shape))?;
                samples.push(Sample { variant: shape.name().into(), values: used.per_request() });
            }
            Ok(samples)
        })
    }

    fn latency(&mut self, peer: &Peer) -> Samples {
        self.with(peer, Setup::Http { log: false }, |stage, running| {
            let Settings { duration, connections, rate, .. } = stage.settings;
            stage.load.aim(running.address, &Request::plain(Shape::One));
            stage.load.open(connections, Protocol::Http)?;
            stage.load.paced(rate, WARM_UP)?;
            let (latencies, used) = stage.measure(running, |load| load.paced(rate, duration))?;
            let at = |quantile| latencies.quantile(quantile) as f64 / 1e3;
            let values = vec![
                (&figure::P50, at(0.5)),
                (&figure::P99, at(0.99)),
                (&figure::P999, at(0.999)),
                (&figure::CPU_PER_REQUEST, used.cpu_per_request()),
            ];
            Ok(vec![Sample { variant: format!("{rate}/s on {connections} connections"), values }])
        })
    }

    fn tcp(&mut self, peer: &Peer, setup: Setup) -> Samples {
        self.with(peer, setup, |stage, running| {
            let duration = stage.settings.duration;
            stage.load.aim(running.address, &Request::plain(Shape::One));
            stage.load.open(BULK_CONNECTIONS, Protocol::Bulk)?;
            stage.load.run(WARM_UP)?;
            let ((), used) = stage.measure(running, |load| load.run(duration))?;
            if used.gigabytes == 0.0 {
                return Err("no bytes came through".into());
            }
            let values = vec![
                (&figure::CPU_PER_GB, used.cpu_seconds / used.gigabytes),
                (&figure::GB_PER_SECOND, used.gigabytes / used.seconds),
                (&figure::PROCESSOR_USED, 100.0 * used.cpu_seconds / used.seconds),
            ];
            Ok(vec![Sample { variant: format!("{BULK_CONNECTIONS} connections"), values }])
        })
    }

    fn memory(&mut self, peer: &Peer, setup: Setup) -> Samples {
        self.with(peer, setup, |stage, running| {
            let request = Request::plain(Shape::Twelve);
            stage.load.run(CALM)?;
            let start = running.process.rss_mb()?;
            // Code and tables that the first requests touch are no part of a connection.
            stage.busy(running, &request, AT_ONCE)?;
            stage.load.run(CALM)?;
            let before = running.process.rss_mb()?;
            stage.load.open(IDLE_CONNECTIONS, Protocol::Http)?;
            stage.load.each_once(AT_ONCE)?;
            stage.load.run(CALM)?;
            let idle = running.process.rss_mb()?;
            stage.load.close();
            let busy = stage.busy(running, &request, BUSY_CONNECTIONS)?;
            stage.load.run(CALM)?;
            let burst = stage.busy(running, &request, BURST_CONNECTIONS)?;
            stage.load.run(stage.settings.settle)?;
            let after = running.process.rss_mb()?;
            let values = vec![
                (&figure::RSS_START, start),
                (&figure::RSS_IDLE, idle),
                (&figure::PER_IDLE, (idle - before) * 1e3 / IDLE_CONNECTIONS as f64),
                (&figure::RSS_BUSY, busy),
                (&figure::RSS_BURST, burst),
                (&figure::LEFT_AFTER_BURST, after - start),
            ];
            stage.no_failures()?;
            Ok(vec![Sample { variant: "12 headers".into(), values }])
        })
    }

    fn scale(&mut self, peer: &Peer) -> Samples {
        let mut samples = Vec::new();
        for (count, variant) in
            [(1_000, "1000 clusters, virtual hosts"), (figure::MOST_CLUSTERS, figure::MOST_CLUSTERS_NAME)]
        {
            samples.push(self.with(peer, Setup::Clusters(count), |stage, running| {
                let ready_cpu = running.process.cpu_seconds()?;
                // Ready must mean that the last one serves.
                let request = Request { host: host_name(count - 1), path: "/".into(), shape: Shape::One };
                stage.load.aim(running.address, &request);
                stage.load.open(1, Protocol::Http)?;
                stage.load.each_once(1)?;
                stage.load.run(CALM)?;
                stage.no_failures()?;
                let values = vec![
                    (&figure::RSS, running.process.rss_mb()?),
                    (&figure::READY, running.ready_seconds),
                    (&figure::READY_CPU, ready_cpu),
                ];
                Ok(Sample { variant: variant.into(), values })
            })?);
        }
        Ok(samples)
    }

    fn routes(&mut self, peer: &Peer, round: usize) -> Samples {
        let mut samples = Vec::new();
        for (kind, name) in [(PathMatch::Exact, "exact"), (PathMatch::Prefix, "prefix")] {
            let pair = self.pair(round, |stage, large| {
                let count = if large { 10_000 } else { 10 };
                let request = Request { path: route_path(count - 1), ..Request::plain(Shape::One) };
                stage.with(peer, Setup::Routes(kind, count), |stage, running| stage.closed_loop(running, &request))
            })?;
            samples.push(flatness(format!("the last of 10 and of 10000 {name} routes"), pair));
        }
        let hosts = 1_000;
        let pair = self.with(peer, Setup::Hosts(hosts), |stage, running| {
            stage.pair(round, |stage, large| {
                let number = if large { hosts - 1 } else { 0 };
                let request = Request { host: host_name(number), ..Request::plain(Shape::One) };
                stage.closed_loop(running, &request)
            })
        })?;
        samples.push(flatness(format!("the first and the last of {hosts} virtual hosts"), pair));
        Ok(samples)
    }

    /// CPU per request of the small case and of the large one; every other round begins with the large one.
    fn pair(
        &mut self,
        round: usize,
        mut one: impl FnMut(&mut Self, bool) -> Result<Used, String>,
    ) -> Result<(f64, f64), String> {
        let large_first = round % 2 == 1;
        let first = one(self, large_first)?.cpu_per_request();
        let second = one(self, !large_first)?.cpu_per_request();
        Ok(if large_first { (second, first) } else { (first, second) })
    }

    /// Starts `peer`, does `what` with it, and ends it.
    fn with<T>(
        &mut self,
        peer: &Peer,
        setup: Setup,
        what: impl FnOnce(&mut Self, &mut Running) -> Result<T, String>,
    ) -> Result<T, String> {
        self.load.reset();
        let directory = TempDir::new().map_err(|error| format!("a temporary directory: {error}"))?;
        if setup.is_secure() {
            self.load.secure(Security::Full)?;
        }
        self.credentials.write(directory.path())?;
        let site = Site {
            processor: self.processors.proxy,
            connections: self.settings.most_connections,
            origins: self.load.origins()?,
            directory: directory.path(),
        };
        let mut running = peer.start(setup, &site)?;
        let result = what(self, &mut running);
        self.load.reset();
        result.map_err(|error| match running.process.check_alive() {
            Err(end) => format!("{error}; {end}"),
            Ok(()) => format!("{error}\n{}", running.process.last_words()).trim_end().to_owned(),
        })
    }

    /// The closed loop, with as many connections as the settings say, and nothing else afterwards.
    fn closed_loop(&mut self, running: &Running, request: &Request) -> Result<Used, String> {
        self.closed_loop_of(running, request, self.settings.connections, Protocol::Http)
    }

    /// The closed loop on so many connections.
    fn closed_loop_of(
        &mut self,
        running: &Running,
        request: &Request,
        connections: usize,
        protocol: Protocol,
    ) -> Result<Used, String> {
        self.load.aim(running.address, request);
        self.load.open(connections, protocol)?;
        self.load.start();
        self.load.run(WARM_UP)?;
        let duration = self.settings.duration;
        let ((), used) = self.measure(running, |load| load.run(duration))?;
        self.load.stop()?;
        self.no_failures()?;
        self.load.close();
        if used.completed == 0.0 {
            return Err("no request was answered".into());
        }
        Ok(used)
    }

    /// Requests on `connections` for a while; the most memory that the proxy held, in MB. The connections are closed then.
    fn busy(&mut self, running: &Running, request: &Request, connections: usize) -> Result<f64, String> {
        self.load.aim(running.address, request);
        self.load.open(connections, Protocol::Http)?;
        self.load.start();
        let mut most = 0.0_f64;
        for _ in 0..10 {
            self.load.run(WARM_UP / 4)?;
            most = most.max(running.process.rss_mb()?);
        }
        self.load.stop()?;
        self.load.close();
        Ok(most)
    }

    fn no_failures(&self) -> Result<(), String> {
        let tally = self.load.tally();
        match &tally.first_failure {
            Some(reason) => Err(format!("{} requests failed: {reason}", tally.failed)),
            None => Ok(()),
        }
    }

    fn measure<T>(
        &mut self,
        running: &Running,
        what: impl FnOnce(&mut Load) -> Result<T, String>,
    ) -> Result<(T, Used), String> {
        self.load.clear();
        let begin = std::time::Instant::now();
        let (busy, stolen) = machine::busy_ticks(self.processors.proxy);
        let cpu = running.process.cpu_seconds()?;
        let result = what(&mut self.load)?;
        let cpu_seconds = running.process.cpu_seconds()? - cpu;
        let seconds = begin.elapsed().as_secs_f64();
        let (busy_now, stolen_now) = machine::busy_ticks(self.processors.proxy);
        let others = (busy_now - busy + stolen_now - stolen) / TICKS_PER_SECOND - cpu_seconds;
        self.disturbed = self.disturbed.max(others / seconds);
        self.no_failures()?;
        let tally = self.load.tally();
        let used =
            Used { cpu_seconds, seconds, completed: tally.completed as f64, gigabytes: tally.bytes as f64 / 1e9 };
        Ok((result, used))
    }
}

fn flatness(variant: String, (few, many): (f64, f64)) -> Sample {
    let values = vec![(&figure::CPU_FEW, few), (&figure::CPU_MANY, many), (&figure::FLATNESS, many / few)];
    Sample { variant, values }
}
