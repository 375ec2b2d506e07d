//! The end of a stream: filters, statistics, access log.

use super::{ActiveStream, Driver, Sent};
use crate::environment::Environment;
use nuncio_filter::{RouteSlot, Stream};
use nuncio_http::exchange::Downstream;
use nuncio_route::{HeaderEdits, PeerCertificate, RouteQuery};
use nuncio_stream_info::{AccessLogType, LogContext, ResponseFlags, TimePoint, details};
use std::sync::Arc;
use std::time::Instant;

impl ActiveStream {
    /// The stream is over: tells filters, counts, logs. Called once for every stream that began.
    pub(crate) fn finish(&mut self, env: &Environment, mut wire: Downstream<'_>, now: Instant) {
        Driver { s: self, env, wire: wire.reborrow(), now }.cancel_upstream();
        if self.sent == Sent::All && !self.reset {
            self.info.mark(TimePoint::DownstreamTxEnd, now);
        } else {
            wire.reset(self.reset_reason);
        }
        self.finish_pass(env, &wire, now);
    }

    /// The request is over, or begins again after a redirect: what [`ActiveStream::finish`] does in either case.
    pub(super) fn finish_pass(&mut self, env: &Environment, wire: &Downstream<'_>, now: Instant) {
        self.info.end = Some(now);
        let bytes = &mut self.info.downstream_bytes;
        bytes.wire_received = wire.used_bytes().saturating_sub(self.wire_before.0);
        bytes.wire_sent = wire.wire_bytes().1 - self.wire_before.1;
        self.finish_filters(env);
        self.count(env, now);
        self.name_cluster(env);
        self.log(env, AccessLogType::DownstreamEnd, now);
    }

    /// The connection is dropped under the stream.
    pub(crate) fn abandon(&mut self, env: &Environment, wire: Downstream<'_>) {
        let now = env.worker.now();
        if self.info.details.is_empty() || self.sent != Sent::All {
            self.info.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            self.info.details = details::DOWNSTREAM_LOCAL_DISCONNECT.into();
        }
        self.reset = true;
        self.gone = true;
        self.finish(env, wire, now);
    }

    fn finish_filters(&mut self, env: &Environment) {
        let ActiveStream { entries, request, request_trailers, response, response_trailers, info, state, .. } = self;
        for (at, entry) in entries.iter_mut().enumerate() {
            state.current = at;
            let mut stream =
                Stream { request, request_trailers, response, response_trailers, info, worker: &env.worker, state };
            entry.filter.finish(&mut stream);
        }
    }

    fn count(&self, env: &Environment, now: Instant) {
        let stats = &env.config.stats.manager;
        stats.downstream_rq_time().record(self.info.duration(now).as_millis() as u64);
        if self.upgrade_counted {
            stats.downstream_cx_upgrades_active().sub(1);
        }
        if self.reset || self.gone || !self.received {
            stats.downstream_rq_rx_reset().inc();
        }
        if self.reset && !self.gone {
            stats.downstream_rq_tx_reset().inc();
        }
        if self.info.health_check {
            env.config.stats.tracing.health_check().inc();
        } else if let Some(code) = self.info.response_code.filter(|_| self.sent != Sent::Nothing) {
            env.count_response(code);
        }
        // Last, so that who sees no active request sees all counters of it.
        stats.downstream_rq_active().sub(1);
    }

    /// Names the cluster of a request that was answered before it got there, for the access log.
    fn name_cluster(&mut self, env: &Environment) {
        if self.info.upstream.cluster.is_some() || env.config.access_logs.is_empty() {
            return;
        }
        let RouteSlot::Found(route) = &self.state.route else { return };
        let Some(forward) = route.forward() else { return };
        let choice = env.worker.with_runtime(|runtime| {
            let query = RouteQuery {
                headers: &self.request,
                random: self.state.random,
                runtime,
                info: Some(&self.info),
                peer_certificate: PeerCertificate::default(),
            };
            forward.choose_cluster(&query, None)
        });
        let cluster = choice.and_then(|choice| env.clusters.get(&choice.name));
        self.info.upstream.cluster = cluster.map(|cluster| Arc::clone(cluster.info.stream_info()));
    }

    /// Writes a record to every access log.
    pub(crate) fn log(&mut self, env: &Environment, kind: AccessLogType, now: Instant) {
        if env.config.access_logs.is_empty() {
            return;
        }
        let context = self.context(env, kind, now);
        for log in env.config.access_logs.iter() {
            log.log(&context, self.state.random);
        }
    }

    /// The stream as formats see it.
    pub(crate) fn context(&self, env: &Environment, kind: AccessLogType, now: Instant) -> LogContext<'_> {
        LogContext {
            info: &self.info,
            request: Some(&self.request),
            response: Some(&self.response),
            trailers: Some(&self.response_trailers),
            local_reply_body: &[],
            kind,
            now,
            now_wall: env.worker.wall(),
            random: u128::from(env.worker.random()) << 64 | u128::from(env.worker.random()),
        }
    }

    /// Applies header changes to the request.
    pub(crate) fn mutate_request(&mut self, mutations: &HeaderEdits, env: &Environment, now: Instant) {
        if mutations.is_empty() {
            return;
        }
        let mut changed = std::mem::take(&mut self.request);
        mutations.apply(&mut changed, &self.context(env, AccessLogType::NotSet, now));
        self.request = changed;
    }
}
