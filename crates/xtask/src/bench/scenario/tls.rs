//! The scenarios of TLS.

use super::{CALM, Sample, Samples, Settings, Stage, WARM_UP};
use crate::bench::config::Setup;
use crate::bench::figure;
use crate::bench::load::message::{Request, Shape};
use crate::bench::load::{Flood, Protocol, Security};
use crate::bench::peer::Peer;

/// Clusters of the scenario of trust roots.
pub const TLS_CLUSTERS: usize = 2_500;
/// Connections that are in a handshake at the same time.
const HANDSHAKES_AT_ONCE: usize = 16;
/// Part of the handshakes that must have resumed a session, where they are to: the first of a run has none.
const RESUMED_AT_LEAST: f64 = 0.99;

/// Floods of handshakes: at a rate that each of the proxies can take beside the requests, and without one.
const FLOODS: &[(&str, Flood)] = &[
    ("2000 handshakes/s", Flood { rate: Some(2_000), at_once: 64 }),
    ("64 handshakes at a time, as many as are answered", Flood { rate: None, at_once: 64 }),
];

impl Stage {
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

    /// Requests on established connections, at a fixed rate: first alone, then beside handshakes that are begun and never ended.
    pub(super) fn handshake_flood(&mut self, peer: &Peer) -> Samples {
        self.with(peer, Setup::Tls, |stage, running| {
            let Settings { duration, connections, rate, .. } = stage.settings;
            stage.load.aim(running.address, &Request::plain(Shape::One));
            stage.load.open(connections, Protocol::Http)?;
            stage.load.paced(rate, WARM_UP)?;
            let (alone, _) = stage.measure(running, |load| load.paced(rate, duration))?;
            let alone = alone.quantile(0.99) as f64 / 1e3;
            let mut samples = Vec::new();
            for (variant, flood) in FLOODS {
                stage.load.flood(*flood)?;
                stage.load.paced(rate, WARM_UP)?;
                let (during, used) = stage.measure(running, |load| load.paced(rate, duration))?;
                let p99 = during.quantile(0.99) as f64 / 1e3;
                let values = vec![
                    (&figure::P99_ALONE, alone),
                    (&figure::P99_FLOOD, p99),
                    (&figure::P99_RATIO, p99 / alone.max(f64::MIN_POSITIVE)),
                    (&figure::HELLOS, stage.load.tally().hellos as f64 / used.seconds),
                    (&figure::PROCESSOR_USED, 100.0 * used.cpu_seconds / used.seconds),
                ];
                samples.push(Sample { variant: (*variant).into(), values });
            }
            Ok(samples)
        })
    }

    /// What clusters cost that originate TLS with the same authorities.
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
