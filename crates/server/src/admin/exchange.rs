//! What is known of one admin request while it is served, and what is made of it at its end: counters and access log.

use super::{Admin, now};
use nuncio_headers::{HeaderMap, Known};
use nuncio_stream_info::{
    AccessLogType, Address, ConnectionInfo, LogContext, Protocol, ResponseFlags, StreamInfo, TimePoint,
};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

/// A request being served. Dropped before its end, it counts as one whose client went away.
pub(super) struct Exchange {
    admin: Rc<Admin>,
    info: StreamInfo,
    /// Headers of the response.
    pub response: HeaderMap,
    ended: bool,
}

impl Exchange {
    /// A request begins. Adds to its headers what a connection manager with `use_remote_address` adds.
    pub(super) fn begin(admin: &Rc<Admin>, connection: &Arc<ConnectionInfo>, request: &mut HeaderMap) -> Exchange {
        admin.stats.request_begins();
        let mut info = StreamInfo::new(now(), SystemTime::now());
        info.connection = Some(Arc::clone(connection));
        info.protocol = Some(Protocol::Http11);
        forwarded_for(admin, connection, request);
        Exchange { admin: Rc::clone(admin), info, response: HeaderMap::new(), ended: false }
    }

    /// Bytes of the request's body.
    pub(super) fn received(&mut self, count: usize) {
        self.info.bytes_received = count as u64;
        self.info.mark(TimePoint::DownstreamRxEnd, now());
    }

    /// Bytes of the response's body, more of them with each call.
    pub(super) fn sent(&mut self, count: usize) {
        self.info.bytes_sent += count as u64;
    }

    /// The response begins.
    pub(super) fn status(&mut self, status: u16, details: &'static str) {
        self.info.response_code = Some(status);
        if self.info.details.is_empty() {
            self.info.details = details.into();
        }
        self.info.mark_first(TimePoint::DownstreamTxBegin, now());
    }

    /// What came is no request.
    pub(super) fn broken(&mut self, details: &'static str) {
        self.info.protocol = None;
        self.info.details = details.into();
        self.info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
    }

    /// Response code details so far.
    pub(super) fn details(&self) -> &str {
        &self.info.details
    }

    /// The exchange is over: counts it and writes it to the access logs. `wire` are the bytes received and sent.
    pub(super) fn end(mut self, request: &HeaderMap, wire: (u64, u64), sent: bool) {
        let now = now();
        self.info.downstream_bytes.wire_received = wire.0;
        self.info.downstream_bytes.wire_sent = wire.1;
        if sent {
            self.info.mark(TimePoint::DownstreamTxEnd, now);
        } else {
            self.info.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            self.info.details = nuncio_stream_info::details::DOWNSTREAM_REMOTE_DISCONNECT.into();
        }
        self.info.end = Some(now);
        self.ended = true;
        self.admin.stats.request_ends(self.info.response_code, self.info.duration(now));
        let snapshot = Rc::clone(&self.admin.server.snapshot.borrow());
        let Some(config) = &snapshot.admin else { return };
        let context = LogContext {
            request: Some(request),
            response: Some(&self.response),
            kind: AccessLogType::DownstreamEnd,
            random: fastrand::u128(..),
            ..LogContext::new(&self.info, now, SystemTime::now())
        };
        let random = fastrand::u64(..);
        for log in config.access_logs.iter() {
            log.log(&context, random);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.admin.stats.request_ends(None, self.info.duration(now()));
        }
    }
}

/// Appends the client's address to `x-forwarded-for`; a client on this host is shown by the address that others see.
fn forwarded_for(admin: &Admin, connection: &ConnectionInfo, request: &mut HeaderMap) {
    let client = match &connection.remote {
        Address::Ip(client) if client.ip().is_loopback() => admin.local_address.unwrap_or(client.ip()),
        Address::Ip(client) => client.ip(),
        _ => return,
    };
    let mut value = request.get(Known::X_FORWARDED_FOR).map(<[u8]>::to_vec).unwrap_or_default();
    if !value.is_empty() {
        value.push(b',');
    }
    value.extend_from_slice(client.to_string().as_bytes());
    request.set_known(Known::X_FORWARDED_FOR, &value);
    request.set_known(Known::X_FORWARDED_PROTO, b"http");
}
