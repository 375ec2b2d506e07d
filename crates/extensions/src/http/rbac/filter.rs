//! Asking, counting, refusing.

use crate::rbac::{Engine, PolicyStats, Subject, Verdict, denied_by};
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, LocalReply, Step, Stream, Worker};
use nuncio_stats::names::{RbacShadowStats, RbacStats};
use nuncio_stream_info::{Struct, Value};
use std::rc::Rc;
use std::sync::Arc;

/// The namespace of the filter's dynamic metadata.
const NAMESPACE: &str = "envoy.filters.http.rbac";

/// What is enforced, and what is only tried. Nothing of both lets everything through.
pub(super) struct Access {
    pub enforced: Judge,
    pub shadow: Judge,
    /// `track_per_rule_stats`
    pub count_policies: bool,
}

/// Rules or a matcher, if there are any, and the keys of what they leave in the metadata.
pub(super) struct Judge {
    pub engine: Option<Engine>,
    pub keys: Keys,
}

/// Keys with the prefix of their rules.
pub(super) struct Keys {
    policy: Arc<str>,
    result: Arc<str>,
    /// There is a prefix.
    own: bool,
}

impl Keys {
    /// `what`: `enforced` or `shadow`.
    pub(super) fn new(prefix: &str, what: &str) -> Keys {
        Keys {
            policy: format!("{prefix}{what}_effective_policy_id").into(),
            result: format!("{prefix}{what}_engine_result").into(),
            own: !prefix.is_empty(),
        }
    }
}

impl Judge {
    /// Asks, and leaves in the metadata what was said: under `outer`'s keys, if these here have no prefix.
    fn ask(&self, outer: &Keys, stream: &mut Stream<'_>) -> Option<Verdict<'_>> {
        let verdict = self.engine.as_ref()?.ask(Subject {
            headers: Some(stream.request),
            info: stream.info,
            worker: stream.worker,
        });
        let keys = if self.keys.own { &self.keys } else { outer };
        let fields = stream.info.dynamic_metadata_mut().namespace_mut(NAMESPACE);
        if let Some(policy) = verdict.policy {
            fields.set(Arc::clone(&keys.policy), Value::String(Arc::clone(&policy.name)));
        }
        fields.set(Arc::clone(&keys.result), if verdict.allowed { "allowed" } else { "denied" });
        Some(verdict)
    }
}

/// What a route says instead.
pub(super) struct RoutePolicy(pub Access);

/// What all streams share.
pub(super) struct Rbac {
    pub access: Access,
    pub stats: RbacStats,
    pub shadow_stats: RbacShadowStats,
    pub policies: PolicyStats,
    pub shadow_policies: PolicyStats,
}

pub(super) struct RbacFactory(pub Arc<Rbac>);

impl HttpFilterFactory for RbacFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(RbacFilter(Arc::clone(&self.0)))
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS
    }
}

struct RbacFilter(Arc<Rbac>);

impl HttpFilter for RbacFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let mut own = None;
        stream.per_route_shared::<RoutePolicy>(|policy| own = Some(policy));
        let access = own.as_deref().map_or(&self.0.access, |own| &own.0);
        self.0.try_out(access, stream);
        self.0.enforce(access, stream)
    }
}

impl Rbac {
    fn try_out(&self, access: &Access, stream: &mut Stream<'_>) {
        let Some(verdict) = access.shadow.ask(&self.access.shadow.keys, stream) else { return };
        let Verdict { allowed, policy, .. } = verdict;
        let stats = &self.shadow_stats;
        if allowed {
            stats.shadow_allowed().inc()
        } else {
            stats.shadow_denied().inc()
        }
        if let Some(policy) = policy.filter(|_| access.count_policies) {
            policy.count(allowed, &self.shadow_policies);
        }
    }

    fn enforce(&self, access: &Access, stream: &mut Stream<'_>) -> Step {
        let Some(verdict) = access.enforced.ask(&self.access.enforced.keys, stream) else { return Step::Next };
        let Verdict { allowed, policy, log } = verdict;
        if let Some(log) = log {
            stream.info.set_dynamic_metadata("envoy.common", Struct::from_iter([("access_log_hint", log)]));
        }
        if let Some(policy) = policy.filter(|_| access.count_policies) {
            policy.count(allowed, &self.policies);
        }
        if allowed {
            self.stats.allowed().inc();
            return Step::Next;
        }
        self.stats.denied().inc();
        Step::Reply(LocalReply::new(403, "RBAC: access denied", denied_by(verdict)))
    }
}
