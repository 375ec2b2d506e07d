//! The scenarios of TLS.

use super::{CALM, Sample, Samples, Stage};
use crate::bench::config::Setup;
use crate::bench::figure;
use crate::bench::load::message::{Request, Shape};
use crate::bench::load::{Protocol, Security};
use crate::bench::peer::Peer;

/// Clusters of the scenario of trust roots.
pub const TLS_CLUSTERS: usize = 2_500;
/// Connections that are in a handshake at the same time.
const HANDSHAKES_AT_ONCE: usize = 16;
/// Part of the handshakes that must have resumed a session, where they are to: the first of a run has none.
const RESUMED_AT_LEAST: f64 = 0.99;

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
