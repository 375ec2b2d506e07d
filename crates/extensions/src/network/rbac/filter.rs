//! Asking, counting, closing.
//!
//! Envoy asks when the first bytes come. Here it is done as soon as the handshake is over: nothing that the rules look at can
//! change until then, a server that speaks first tells nothing to who may not listen, and the bytes need not pass this filter.
//! With `CONTINUOUS` it is done again whenever bytes come.

use crate::rbac::{Engine, Subject, Verdict, denied_by};
use bytes::BytesMut;
use nuncio_filter::{
    Completed, Connection, ConnectionLog, NetworkFilter, NetworkFilterFactory, NetworkStep, OpenStep, Work, Worker,
};
use nuncio_stats::names::{RbacShadowStats, RbacStats};
use nuncio_stream_info::{ConnectionInfo, StreamInfo, Struct, Value};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The namespace of the filter's dynamic metadata.
const NAMESPACE: &str = "envoy.filters.network.rbac";
/// `%DOWNSTREAM_LOCAL_CLOSE_REASON%` of who may not.
const CLOSE_REASON: &str = "rbac_deny_close";

pub(super) struct Access {
    pub enforced: Option<Engine>,
    pub shadow: Option<Engine>,
    /// Keys of what the shadow engine leaves in the metadata.
    pub policy_key: Arc<str>,
    pub result_key: Arc<str>,
    pub stats: RbacStats,
    pub shadow_stats: RbacShadowStats,
    /// Ask whenever bytes come.
    pub continuous: bool,
    /// How long who may not is kept waiting before the connection is closed.
    pub delay_deny: Option<Duration>,
}

pub(super) struct Factory(pub Arc<Access>);

impl NetworkFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        Box::new(Filter { access: Arc::clone(&self.0), opened: None })
    }

    fn looks_at_bytes(&self) -> bool {
        self.0.continuous
    }
}

struct Filter {
    access: Arc<Access>,
    /// What it is asked about again.
    opened: Option<Opened>,
}

#[derive(Clone)]
struct Opened {
    info: Arc<ConnectionInfo>,
    worker: Rc<Worker>,
    log: Option<Rc<ConnectionLog>>,
}

/// A denied connection waited long enough.
struct Delayed;

impl Access {
    /// Whether the connection may go on.
    fn allows(&self, opened: &Opened) -> bool {
        let info = StreamInfo::of_connection(Arc::clone(&opened.info), opened.worker.wall());
        let subject = Subject { headers: None, info: &info, worker: &opened.worker };
        if let Some(engine) = &self.shadow {
            self.try_out(engine.ask(subject), opened);
        }
        let Some(engine) = &self.enforced else { return true };
        let verdict = engine.ask(subject);
        let log = opened.log.as_deref();
        if let (Some(hint), Some(log)) = (verdict.log, log) {
            log.note(|info| info.set_dynamic_metadata("envoy.common", Struct::from_iter([("access_log_hint", hint)])));
        }
        if verdict.allowed {
            self.stats.allowed().inc();
            return true;
        }
        self.stats.denied().inc();
        if let Some(log) = log {
            log.note(|info| info.termination_details = denied_by(verdict).into());
        }
        false
    }

    fn try_out(&self, verdict: Verdict<'_>, opened: &Opened) {
        let Verdict { allowed, policy, .. } = verdict;
        let stats = &self.shadow_stats;
        if allowed {
            stats.shadow_allowed().inc()
        } else {
            stats.shadow_denied().inc()
        }
        let Some(log) = &opened.log else { return };
        log.note(|info| {
            let fields = info.dynamic_metadata_mut().namespace_mut(NAMESPACE);
            if let Some(policy) = policy {
                fields.set(Arc::clone(&self.policy_key), Value::String(Arc::clone(&policy.name)));
            }
            fields.set(Arc::clone(&self.result_key), if allowed { "allowed" } else { "denied" });
        });
    }
}

impl NetworkFilter for Filter {
    fn on_open(&mut self, connection: &Connection) -> OpenStep {
        let Connection { info, worker, log, .. } = connection;
        let opened = Opened { info: Arc::clone(info), worker: Rc::clone(worker), log: log.clone() };
        if self.access.allows(&opened) {
            if self.access.continuous {
                self.opened = Some(opened);
            }
            return OpenStep::Next;
        }
        match self.access.delay_deny {
            None => OpenStep::Close(CLOSE_REASON),
            Some(delay) => OpenStep::Await(Work::new(async move {
                tokio::time::sleep(delay).await;
                Delayed
            })),
        }
    }

    fn resume(&mut self, _connection: &Connection, _done: Completed) -> OpenStep {
        OpenStep::Close(CLOSE_REASON)
    }

    fn on_read(&mut self, _data: &mut BytesMut, _end: bool) -> NetworkStep {
        match &self.opened {
            Some(opened) if !self.access.allows(opened) => NetworkStep::Close,
            _ => NetworkStep::Next,
        }
    }
}
