//! `stats.PluginConfig` over TCP: Istio's metrics of connections.
//!
//! They are reported once it is known who the peer is, from time to time while the connection lasts, and at its end. The last
//! filter of the chain must be one that tells what came of the connection: the TCP proxy does.

use crate::istio::metrics::{Kind, Metric, Reporting, Seen, Series, SeriesCache, is_peer_known, reporting};
use nuncio_api::istio::stats::PluginConfig;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_filter::{Connection, ConnectionObserver, NetworkFilter, NetworkFilterFactory, Worker};
use nuncio_stream_info::{LogContext, StreamInfo};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The extension.
pub struct IstioStatsExtension;

impl NetworkExtension for IstioStatsExtension {
    type Config = PluginConfig;
    const NAME: &'static str = "envoy.filters.network.istio_stats";

    fn compile(config: PluginConfig, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        Ok(NetworkFactory::Filter(Arc::new(Factory(reporting(&config, cx)?))))
    }
}

struct Factory(Arc<Reporting>);

impl NetworkFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        Box::new(Filter(Arc::clone(&self.0)))
    }
}

struct Filter(Arc<Reporting>);

impl NetworkFilter for Filter {
    fn carry(&mut self, connection: &mut Connection) {
        connection.observers.add(Box::new(Observer {
            reporting: Arc::clone(&self.0),
            cache: connection.worker.services().get_or_insert_with(SeriesCache::default),
            worker: Rc::clone(&connection.worker),
            opened: None,
            sent: 0,
            received: 0,
        }));
    }
}

struct Observer {
    reporting: Arc<Reporting>,
    cache: Rc<SeriesCache>,
    worker: Rc<Worker>,
    /// The connection's series, and the values of its expressions, once it was reported.
    opened: Option<(Rc<Series>, Vec<Vec<u8>>)>,
    /// Bytes that were reported.
    sent: u64,
    received: u64,
}

impl ConnectionObserver for Observer {
    fn interval(&self) -> Option<Duration> {
        self.reporting.interval
    }

    fn observe(&mut self, info: &StreamInfo, end: bool) {
        let reporting = &*self.reporting;
        if self.opened.is_none() && !end && !is_peer_known(reporting.reporter, info) {
            return;
        }
        let (series, values) = self.opened.get_or_insert_with(|| {
            let seen = Seen::of(reporting.reporter, info);
            let labels = seen.labels(reporting, info, None, &Kind::Tcp);
            let context = LogContext::new(info, self.worker.now(), self.worker.wall());
            let values = reporting.overrides.as_ref().map(|overrides| overrides.evaluate(&context)).unwrap_or_default();
            let series = self.cache.find(reporting, &labels, &values);
            series.count(Metric::TcpOpened, 1, reporting);
            (series, values)
        });
        let (sent, received) = (info.downstream_bytes.wire_sent, info.downstream_bytes.wire_received);
        series.count(Metric::TcpSent, sent.saturating_sub(self.sent), reporting);
        series.count(Metric::TcpReceived, received.saturating_sub(self.received), reporting);
        (self.sent, self.received) = (sent, received);
        if end {
            series.count(Metric::TcpClosed, 1, reporting);
            series.count_custom(values, reporting);
        }
    }
}
