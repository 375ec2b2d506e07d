//! The scenarios of HTTP/2, gRPC and TLS.

use super::{AT_ONCE, CALM, IDLE_CONNECTIONS, Sample, Samples, Stage};
use crate::bench::config::Setup;
use crate::bench::figure;
use crate::bench::load::message::{Request, Shape};
use crate::bench::load::{Protocol, Security};
use crate::bench::peer::Peer;

/// Clusters of the scenario of trust roots.
pub const TLS_CLUSTERS: usize = 2_500;
/// Requests at the same time on one connection, where clients use HTTP/2 for that.
const STREAMS: usize = 8;
/// Connections that are in a handshake at the same time.
const HANDSHAKES_AT_ONCE: usize = 16;
/// Part of the handshakes that must have resumed a session, where they are to: the first of a run has none.
const RESUMED_AT_LEAST: f64 = 0.99;

impl Stage {
    /// As many requests at the same time as over HTTP/1, on as many connections or on an eighth of them.
    pub(super) fn http2(&mut self, peer: &Peer, setup: Setup) -> Samples {
        let shapes: &[Shape] = if setup == Setup::Grpc { &[Shape::Unary] } else { &[Shape::One, Shape::Twelve] };
        self.with(peer, setup, |stage, running| {
            let mut samples = Vec::new();
            for &shape in shapes {
                for streams in [1, STREAMS] {
                    let connections = (stage.settings.connections / streams).max(1);
                    let protocol = Protocol::Http2 { streams };
                    let used = stage.closed_loop_of(running, &Request::plain(shape), connections, protocol)?;
                    let variant = format!("{}, {connections} connections of {streams} streams", shape.name());
                    samples.push(Sample { variant, values: used.per_request() });
                }
            }
            Ok(samples)
        })
    }

    /// A connection for each request, which the proxy answers itself.
    pub(super) fn handshakes(&mut self, peer: &Peer) -> Samples {
        self.with(peer, Setup::TlsAnswer, |stage, running| {
            let mut samples = Vec::new();
            for (security, variant) in [(Security::Full, figure::FULL), (Security::Resumed, figure::RESUMED)] {
                stage.load.secure(security)?;
                stage.load.once(true);
                let request = Request::plain(Shape::One);
                let used = stage.closed_loop_of(running, &request, HANDSHAKES_AT_ONCE, Protocol::Http)?;
                let tally = stage.load.tally();
                let resumed = tally.resumed as f64 / tally.handshakes.max(1) as f64;
                if (security == Security::Resumed) != (resumed >= RESUMED_AT_LEAST) {
                    return Err(format!("{variant}: {:.1} % of the sessions were resumed", 100.0 * resumed));
                }
                let values = vec![
                    (&figure::HANDSHAKES, used.completed / used.cpu_seconds.max(f64::MIN_POSITIVE)),
                    (&figure::RATE, used.completed / used.seconds),
                    (&figure::PROCESSOR_USED, 100.0 * used.cpu_seconds / used.seconds),
                ];
                samples.push(Sample { variant: variant.into(), values });
            }
            Ok(samples)
        })
    }

    /// What an idle connection costs that had one request.
    pub(super) fn http2_memory(&mut self, peer: &Peer) -> Samples {
        self.with(peer, Setup::Http2 { both: false }, |stage, running| {
            let protocol = Protocol::Http2 { streams: 1 };
            stage.load.run(CALM)?;
            let start = running.process.rss_mb()?;
            // Code and tables that the first requests touch are no part of a connection.
            stage.closed_loop_of(running, &Request::plain(Shape::Twelve), AT_ONCE, protocol)?;
            stage.load.run(CALM)?;
            let before = running.process.rss_mb()?;
            stage.load.open(IDLE_CONNECTIONS, protocol)?;
            stage.load.each_once(AT_ONCE)?;
            stage.load.run(CALM)?;
            let idle = running.process.rss_mb()?;
            stage.no_failures()?;
            let values = vec![
                (&figure::RSS_START, start),
                (&figure::RSS_IDLE, idle),
                (&figure::PER_IDLE, (idle - before) * 1e3 / IDLE_CONNECTIONS as f64),
            ];
            Ok(vec![Sample { variant: "12 headers".into(), values }])
        })
    }

    pub(super) fn tls_clusters(&mut self, peer: &Peer) -> Samples {
        self.with(peer, Setup::TlsClusters(TLS_CLUSTERS), |stage, running| {
            let ready_cpu = running.process.cpu_seconds()?;
            stage.load.run(CALM)?;
            let values = vec![
                (&figure::RSS, running.process.rss_mb()?),
                (&figure::READY, running.ready_seconds),
                (&figure::READY_CPU, ready_cpu),
            ];
            Ok(vec![Sample { variant: format!("{TLS_CLUSTERS} clusters, one bundle of authorities"), values }])
        })
    }
}
