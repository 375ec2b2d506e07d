//! What all streams of a connection share.

use crate::config::HcmConfig;
use nuncio_cluster::WorkerClusters;
use nuncio_filter::{ConnectionLog, LocalAddress, Overload, Worker};
use nuncio_http::h1::{CodecError, CodecStat};
use nuncio_stats::names::{Http1CodecStats, Http2CodecStats};
use nuncio_stream_info::{ConnectionInfo, StreamInfo};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The surroundings of a stream.
pub(crate) struct Environment {
    pub config: Arc<HcmConfig>,
    pub worker: Rc<Worker>,
    pub clusters: Rc<WorkerClusters>,
    pub info: Arc<ConnectionInfo>,
    /// What the listener's access logs say of the connection.
    pub log: Option<Rc<ConnectionLog>>,
    /// How overloaded the process is, where there is an overload manager.
    pub overload: Option<Arc<Overload>>,
    buffer_limit: usize,
    /// Streams that are open on the connection, where it has many.
    streams: Cell<u32>,
}

/// Bytes that may wait for a client in all streams of a connection together, and in each stream at least.
const CONNECTION_BUFFERS: usize = 16 * 1024 * 1024;
const LEAST_BUFFER: usize = 64 * 1024;

impl Environment {
    pub(crate) fn new(
        config: Arc<HcmConfig>,
        worker: Rc<Worker>,
        (info, log): (Arc<ConnectionInfo>, Option<Rc<ConnectionLog>>),
        overload: Option<Arc<Overload>>,
        buffer_limit: u32,
    ) -> Self {
        let clusters = worker.services().get_or_insert_with(WorkerClusters::empty);
        let buffer_limit = buffer_limit as usize;
        Environment { config, worker, clusters, info, log, overload, buffer_limit, streams: Cell::new(0) }
    }

    /// Says something of the connection as a whole, where somebody wants to know.
    pub(crate) fn note(&self, note: impl FnOnce(&mut StreamInfo)) {
        if let Some(log) = &self.log {
            log.note(note);
        }
    }

    /// Bytes that may wait in a stream for a peer that does not read (`per_connection_buffer_limit_bytes`). The streams of
    /// one connection share a bound, so that a client that takes nothing can't have as much held for each of them.
    #[inline]
    pub(crate) fn buffer_limit(&self) -> usize {
        match self.streams.get() {
            0 | 1 => self.buffer_limit,
            streams => self.buffer_limit.min((CONNECTION_BUFFERS / streams as usize).max(LEAST_BUFFER)),
        }
    }

    /// Bytes that filters may hold of a message, and the router for another try.
    pub(crate) fn configured_buffer_limit(&self) -> usize {
        self.buffer_limit
    }

    /// How many streams are open on the connection.
    pub(crate) fn set_streams(&self, streams: u32) {
        self.streams.set(streams);
    }

    /// The address that stands for this host where a client is on it too.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.worker.services().get::<LocalAddress>().map(|address| address.0)
    }

    /// Counts headers taken out because of their names.
    pub(crate) fn count_dropped_underscores(&self, count: u16) {
        self.codec_stats().dropped_headers_with_underscores().add(u64::from(count));
    }

    /// Counts what a malformed request moves besides the connection manager's own counters.
    pub(crate) fn count_codec_error(&self, error: &CodecError) {
        if error.stat == CodecStat::RequestsRejectedWithUnderscoresInHeaders {
            self.codec_stats().requests_rejected_with_underscores_in_headers().inc();
        }
    }

    /// Counts a response's code.
    pub(crate) fn count_response(&self, code: u16) {
        let (stats, listener) = (&self.config.stats.manager, &self.config.stats.listener);
        stats.downstream_rq_completed().inc();
        listener.downstream_rq_completed().inc();
        let (own, of_listener) = match code / 100 {
            1 => (stats.downstream_rq_1xx(), listener.downstream_rq_1xx()),
            2 => (stats.downstream_rq_2xx(), listener.downstream_rq_2xx()),
            3 => (stats.downstream_rq_3xx(), listener.downstream_rq_3xx()),
            4 => (stats.downstream_rq_4xx(), listener.downstream_rq_4xx()),
            5 => (stats.downstream_rq_5xx(), listener.downstream_rq_5xx()),
            _ => return,
        };
        own.inc();
        of_listener.inc();
    }

    /// `http2.*`, the codec's statistics.
    pub(crate) fn http2_stats(&self) -> Rc<Http2CodecStats> {
        let scope = &self.config.stats.root;
        self.worker.services().get_or_insert_with(|| Http2CodecStats::register(&scope.child("http2")))
    }

    fn codec_stats(&self) -> Rc<Http1CodecStats> {
        let scope = &self.config.stats.root;
        self.worker.services().get_or_insert_with(|| Http1CodecStats::register(&scope.child("http1")))
    }
}
