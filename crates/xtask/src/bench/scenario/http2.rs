//! The scenarios of HTTP/2 and gRPC.

use super::{AT_ONCE, CALM, IDLE_CONNECTIONS, Sample, Samples, Stage};
use crate::bench::config::Setup;
use crate::bench::figure;
use crate::bench::load::Protocol;
use crate::bench::load::message::{Request, Shape};
use crate::bench::peer::Peer;

/// Requests at the same time on one connection, where clients use HTTP/2 for that.
const STREAMS: usize = 8;

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
}
