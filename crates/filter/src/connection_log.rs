//! The access logs of a listener: a record for each connection, written at its end (`Listener.access_log`).

use crate::{AccessLogs, Worker};
use nuncio_io::transport::{SecureSocket, Transport};
use nuncio_stream_info::{AccessLogType, CloseType, ConnectionInfo, LogContext, StreamInfo};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// What is known of a connection as a whole. The record is written when the last who holds it lets go.
pub struct ConnectionLog {
    logs: AccessLogs,
    worker: Rc<Worker>,
    info: RefCell<StreamInfo>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl ConnectionLog {
    /// The record of a connection; none where nobody wants it.
    pub fn of(logs: &AccessLogs, worker: &Rc<Worker>, info: &Arc<ConnectionInfo>) -> Option<Rc<ConnectionLog>> {
        if logs.is_empty() {
            return None;
        }
        let stream = StreamInfo::of_connection(Arc::clone(info), worker.wall());
        Some(Rc::new(ConnectionLog {
            logs: Arc::clone(logs),
            worker: Rc::clone(worker),
            info: RefCell::new(stream),
            received: Cell::new(0),
            sent: Cell::new(0),
        }))
    }

    /// Says something of the connection.
    pub fn note(&self, note: impl FnOnce(&mut StreamInfo)) {
        if let Ok(mut info) = self.info.try_borrow_mut() {
            note(&mut info);
        }
    }

    /// The same bytes, counted on their way.
    pub fn counted(self: &Rc<Self>, transport: Transport) -> Transport {
        Transport::Tls(Box::new(Counted { carrier: transport, log: Rc::clone(self) }))
    }
}

impl Drop for ConnectionLog {
    fn drop(&mut self) {
        let info = self.info.get_mut();
        info.end.get_or_insert(self.worker.tick());
        info.bytes_received += self.received.get();
        info.bytes_sent += self.sent.get();
        let context =
            LogContext { kind: AccessLogType::NotSet, ..LogContext::new(info, self.worker.now(), self.worker.wall()) };
        let random = self.worker.random();
        for log in self.logs.iter() {
            log.log(&context, random);
        }
    }
}

/// A connection whose bytes are counted, above TLS where it is spoken.
struct Counted {
    carrier: Transport,
    log: Rc<ConnectionLog>,
}

impl SecureSocket for Counted {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.carrier.poll_read_buf(cx, into);
        let count = (into.filled().len() - before) as u64;
        self.log.received.set(self.log.received.get() + count);
        if let Poll::Ready(Err(error)) = &read
            && error.kind() == io::ErrorKind::ConnectionReset
        {
            self.log.note(|info| info.downstream_close_type = CloseType::RemoteReset);
        }
        read
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = self.carrier.poll_write_vectored(cx, from);
        if let Poll::Ready(Ok(count)) = &written {
            self.log.sent.set(self.log.sent.get() + *count as u64);
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.poll_shutdown(cx)
    }

    fn is_quiet(&mut self) -> bool {
        self.carrier.is_quiet()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.poll_readable(cx)
    }

    fn carrier(&self) -> &Transport {
        &self.carrier
    }
}
