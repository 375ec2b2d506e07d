//! Choosing cluster and host, and what the request head says about it.

use super::Router;
use crate::retry::RetryState;
use crate::stream::Driver;
use bytes::Bytes;
use nuncio_cluster::{Host, LbContext, RoutingPriority};
use nuncio_filter::LocalReply;
use nuncio_headers::Known;
use nuncio_route::{Forward, HostUpdate, PeerCertificate, Route, RouteQuery, set_host};
use nuncio_stream_info::{AccessLogType, ResponseFlags, details};
use std::sync::Arc;

impl Driver<'_> {
    /// The route forwards: prepares the request and begins the first try.
    pub(super) fn forward(&mut self, route: &Arc<Route>, forward: &Forward) -> Result<(), Box<LocalReply>> {
        let hash = self.hash(forward);
        let choice = self.env.worker.with_runtime(|runtime| {
            let query = RouteQuery {
                headers: &self.s.request,
                random: self.s.state.random,
                runtime,
                info: Some(&self.s.info),
                peer_certificate: PeerCertificate::default(),
            };
            forward.choose_cluster(&query, hash)
        });
        let cluster = choice.as_ref().and_then(|choice| self.env.clusters.get(&choice.name));
        let Some(cluster) = cluster else {
            self.env.config.stats.router.no_cluster().inc();
            let reply =
                LocalReply::new(forward.cluster_not_found_response_code, Bytes::new(), details::CLUSTER_NOT_FOUND);
            return Err(reply.with_flags(ResponseFlags::NO_CLUSTER_FOUND));
        };
        let weighted = choice.and_then(|choice| choice.entry);
        self.s.info.upstream.cluster = Some(Arc::clone(cluster.info.stream_info()));
        if self.in_maintenance(&cluster.info.config.name) {
            cluster.info.stats.upstream_rq_maintenance_mode().inc();
            let reply = LocalReply::new(503, Bytes::from_static(b"maintenance mode"), details::MAINTENANCE_MODE);
            return Err(reply
                .with_flags(ResponseFlags::UPSTREAM_OVERFLOW)
                .with_edit(|headers| headers.set_known(Known::X_ENVOY_OVERLOADED, b"true")));
        }
        self.apply_route_timeouts(forward);
        self.s.router.hash = hash;
        self.rewrite(route, weighted);
        let options = &self.env.config.router;
        let request = &mut self.s.request;
        self.s.router.timeouts = super::RouteTimeouts::new(
            forward,
            request,
            options.respect_expected_rq_timeout,
            !options.suppress_envoy_headers,
            self.s.is_grpc,
        );
        self.s.router.retry = RetryState::new(forward.retry_policy.clone(), request);
        for name in RETRY_HEADERS {
            request.remove_known(name);
        }
        self.s.router.priority = match forward.priority {
            nuncio_route::spec::Priority::Default => RoutingPriority::Default,
            nuncio_route::spec::Priority::High => RoutingPriority::High,
        };
        self.s.router.cluster = Some(cluster);
        self.s.router.route = Some(Arc::clone(route));
        self.start_attempt(false);
        Ok(())
    }

    fn in_maintenance(&self, cluster: &str) -> bool {
        let worker = &self.env.worker;
        worker.with_runtime(|runtime| {
            if runtime.is_empty() {
                return false;
            }
            let share = runtime.integer(&format!("upstream.maintenance_mode.{cluster}"), 0);
            share > 0 && self.s.state.random % 100 < share
        })
    }

    /// Timeouts of the stream that the route overrides.
    fn apply_route_timeouts(&mut self, forward: &Forward) {
        if let Some(idle) = forward.idle_timeout {
            self.s.idle_timeout = (!idle.is_zero()).then_some(idle);
            self.s.idle_from_route = true;
        }
        if let Some(longest) = forward.max_stream_duration.as_ref().and_then(|limits| limits.max_stream_duration) {
            self.s.max_duration = (!longest.is_zero()).then_some(longest);
        }
    }

    /// Hash policies belong to the hashing balancers; configurations that name one without the other are reported when
    /// they are compiled.
    fn hash(&self, forward: &Forward) -> Option<u64> {
        let _ = forward;
        None
    }

    /// Path, host and headers as the route wants them.
    fn rewrite(&mut self, route: &Arc<Route>, weighted: Option<u32>) {
        let mut request = std::mem::take(&mut self.s.request);
        let context = self.s.context(self.env, AccessLogType::NotSet, self.now);
        route.mutate_request(weighted, &mut request, &context);
        route.rewrite(&mut request, &context, !self.env.config.router.suppress_envoy_headers);
        self.s.request = request;
        self.s.router.weighted = weighted;
    }

    /// A host of the cluster; replies if there is none.
    pub(super) fn choose_host(&mut self) -> Option<Arc<Host>> {
        let cluster = self.s.router.cluster.clone()?;
        let Router { tried, retry, hash, .. } = &mut self.s.router;
        let policy = retry.policy();
        let avoid =
            policy.is_some_and(|policy| policy.host_predicates.iter().any(avoids_previous_hosts)) && !tried.is_empty();
        let max_attempts = policy.map_or(1, |policy| policy.host_selection_attempts);
        let mut skip = |host: &Host| tried.iter().any(|before| std::ptr::eq(&**before, host));
        let original = self.env.info.local.socket();
        let host = self.env.worker.with_rng(|rng| {
            let mut context = LbContext::new(self.now, rng);
            context.hash = *hash;
            context.original_dst = original;
            context.headers = Some(&self.s.request);
            if avoid {
                context.should_skip = Some(&mut skip);
                context.retries = max_attempts;
            }
            cluster.choose_host(&mut context)
        });
        if host.is_none() {
            cluster.info.stats.upstream_cx_none_healthy().inc();
            self.charge_status(503);
            let reply = LocalReply::new(503, Bytes::from_static(b"no healthy upstream"), details::NO_HEALTHY_UPSTREAM);
            self.router_reply(reply.with_flags(ResponseFlags::NO_HEALTHY_UPSTREAM));
        }
        host
    }

    /// What the head says of this try: its number, and the host's own name.
    pub(super) fn prepare_request_head(&mut self) {
        let Some((route, forward)) = self.forward_of_route() else { return };
        if route.virtual_host().include_request_attempt_count {
            let count = self.s.info.upstream.attempts;
            self.s.request.set_known(Known::X_ENVOY_ATTEMPT_COUNT, itoa::Buffer::new().format(count).as_bytes());
        }
        if let (true, Some(host)) = (forward, self.s.info.upstream.host())
            && !host.hostname.is_empty()
        {
            let name = Arc::clone(&host.hostname);
            let append_x_forwarded_host = route.forward().is_some_and(|forward| forward.append_x_forwarded_host);
            let keep_original = !self.env.config.router.suppress_envoy_headers;
            set_host(&mut self.s.request, name.as_bytes(), HostUpdate { append_x_forwarded_host, keep_original });
        }
    }

    /// The route, and whether it wants the host's own name.
    fn forward_of_route(&self) -> Option<(Arc<Route>, bool)> {
        let route = self.s.router.route.as_ref()?;
        Some((Arc::clone(route), route.forward()?.auto_host_rewrite()))
    }
}

/// Whether a host predicate is `previous_hosts`; lowering reports those that are not built.
fn avoids_previous_hosts(plugin: &nuncio_route::spec::Plugin) -> bool {
    &*plugin.type_name == "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        || &*plugin.name == "envoy.retry_host_predicates.previous_hosts"
}

/// Request headers that this router acts on; the upstream does not see them.
const RETRY_HEADERS: [Known; 5] = [
    Known::X_ENVOY_RETRY_ON,
    Known::X_ENVOY_RETRY_GRPC_ON,
    Known::X_ENVOY_MAX_RETRIES,
    Known::X_ENVOY_RETRIABLE_STATUS_CODES,
    Known::X_ENVOY_RETRIABLE_HEADER_NAMES,
];
