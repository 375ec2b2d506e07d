//! Choosing cluster and host, and what the request head says about it.

use super::Router;
use super::hash::Hashed;
use super::timeouts::{parse_grpc_timeout, set_grpc_timeout};
use crate::retry::RetryState;
use crate::stream::Driver;
use bytes::Bytes;
use nuncio_cluster::config::MetadataPath;
use nuncio_cluster::{Host, LbContext, RoutingPriority, WorkerCluster};
use nuncio_filter::LocalReply;
use nuncio_headers::{HeaderName, Known};
use nuncio_lb::PriorityLoad;
use nuncio_route::spec::{HostPredicate, RetryPriority};
use nuncio_route::{Forward, HashPolicy, HostUpdate, PeerCertificate, Route, RouteQuery, set_host};
use nuncio_stream_info::{AccessLogType, Metadata, ResponseFlags, Struct, Value, details};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl Driver<'_> {
    /// The route forwards: prepares the request and begins the first try.
    pub(super) fn forward(&mut self, route: &Arc<Route>, forward: &Forward) -> Result<(), Box<LocalReply>> {
        let hash = if forward.needs_hash() { self.hash(&forward.hash_policy, &mut Vec::new()) } else { None };
        let (name, weighted) = self.choose_cluster(forward, hash);
        let Some(cluster) = self.env.clusters.get(&name) else {
            return Err(self.no_cluster(forward.cluster_not_found_response_code));
        };
        self.s.info.upstream.cluster = Some(Arc::clone(cluster.info.stream_info()));
        if let Some(reply) = self.env.refuses_to_forward() {
            return Err(reply);
        }
        self.take_request_stats(route);
        self.check_strictly()?;
        if let Some(name) = self.s.request.get(Known::X_ENVOY_UPSTREAM_ALT_STAT_NAME) {
            self.s.router.alternate = cluster.info.stats.alternate(name);
            self.s.request.remove_known(Known::X_ENVOY_UPSTREAM_ALT_STAT_NAME);
        }
        if self.in_maintenance(&cluster.info.config.name) {
            return Err(self.maintained(&cluster));
        }
        if let Some(reply) = self.dropped(&cluster) {
            return Err(reply);
        }
        self.apply_route_timeouts(forward);
        let options = &self.env.config.router;
        let request = &mut self.s.request;
        self.s.router.timeouts = super::RouteTimeouts::new(
            forward,
            request,
            options.respect_expected_rq_timeout,
            !options.suppress_envoy_headers,
            nuncio_route::is_grpc(request),
        );
        if request.remove_known(Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) > 0 {
            self.s.router.timeout_status = Some(204);
        }
        self.s.router.timeouts.announce(Duration::ZERO, &mut self.s.request);
        self.rewrite(route, weighted);
        self.s.router.retry = RetryState::new(forward.retry_policy.clone(), &mut self.s.request);
        for name in RETRY_HEADERS {
            self.s.request.remove_known(name);
        }
        self.hash_for(&cluster, forward);
        self.s.router.priority = match forward.priority {
            nuncio_route::spec::Priority::Default => RoutingPriority::Default,
            nuncio_route::spec::Priority::High => RoutingPriority::High,
        };
        let limit = route.request_body_buffer_limit().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.s.router.kept.limit = limit.unwrap_or(self.env.configured_buffer_limit());
        self.s.router.redirects = forward.internal_redirect_policy.is_some();
        self.s.router.cluster = Some(cluster);
        self.s.router.route = Some(Arc::clone(route));
        if !forward.mirrors.is_empty() {
            self.begin_mirrors(forward);
        }
        self.start_attempt(false);
        Ok(())
    }

    /// The cluster's name, and which of the weighted clusters it is. Empty if all weights are 0 by runtime.
    pub(super) fn choose_cluster(&self, forward: &Forward, hash: Option<u64>) -> (Arc<str>, Option<u32>) {
        if let Some(chosen) = &self.s.state.cluster {
            return (Arc::clone(&chosen.name), chosen.entry);
        }
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
        choice.map_or_else(|| ("".into(), None), |choice| (choice.name, choice.entry))
    }

    /// The reply where there is no such cluster.
    pub(super) fn no_cluster(&mut self, status: u16) -> Box<LocalReply> {
        self.env.config.stats.router.no_cluster().inc();
        LocalReply::new(status, Bytes::new(), details::CLUSTER_NOT_FOUND).with_flags(ResponseFlags::NO_CLUSTER_FOUND)
    }

    fn maintained(&mut self, cluster: &WorkerCluster) -> Box<LocalReply> {
        cluster.info.stats.upstream_rq_maintenance_mode().inc();
        LocalReply::new(503, Bytes::from_static(b"maintenance mode"), details::MAINTENANCE_MODE)
            .with_flags(ResponseFlags::UPSTREAM_OVERFLOW)
            .with_edit(|headers| headers.set_known(Known::X_ENVOY_OVERLOADED, b"true"))
    }

    /// The reply to a request that endpoints want to be dropped (`drop_overloads`).
    fn dropped(&mut self, cluster: &Rc<WorkerCluster>) -> Option<Box<LocalReply>> {
        let share = cluster.info.drop_overload();
        if share == 0 || self.env.worker.with_rng(|rng| rng.u32(..1_000_000)) >= share {
            return None;
        }
        self.s.router.cluster = Some(Rc::clone(cluster));
        self.charge_status(503);
        let (text, details, flag, header) = match share {
            1_000_000 => (
                "unconditional drop overload",
                details::UNCONDITIONAL_DROP_OVERLOAD,
                ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD,
                "x-envoy-unconditional-drop-overload",
            ),
            _ => ("drop overload", details::DROP_OVERLOAD, ResponseFlags::DROP_OVERLOAD, "x-envoy-drop-overload"),
        };
        let reply = LocalReply::new(503, Bytes::from_static(text.as_bytes()), details).with_flags(flag);
        Some(match HeaderName::new(header) {
            Ok(name) if !self.env.config.router.suppress_envoy_headers => {
                reply.with_edit(move |headers| headers.append(&name, b"true"))
            }
            _ => reply,
        })
    }

    /// The statistics that the request counts in besides the cluster's: its virtual cluster's, and the route's own.
    fn take_request_stats(&mut self, route: &Route) {
        if let Some(found) = route.virtual_host().virtual_cluster(&self.s.request) {
            self.s.info.virtual_cluster_name = found.name().cloned();
            self.s.router.stats[0] = found.stats().cloned();
        }
        if let Some(own) = route.stats() {
            self.s.router.stats[1] = Some(Arc::clone(own));
        }
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
        let Some(limits) = forward.max_stream_duration.as_deref() else { return };
        if let Some(longest) = limits.max_stream_duration {
            self.s.max_duration = (!longest.is_zero()).then_some(longest);
        }
        let asked = self.s.request.get(Known::GRPC_TIMEOUT).and_then(parse_grpc_timeout);
        let Some(mut timeout) = asked else { return };
        if let Some(longest) = limits.grpc_timeout_header_max {
            if !longest.is_zero() {
                timeout = timeout.min(longest);
            }
            timeout = timeout.saturating_sub(limits.grpc_timeout_header_offset.unwrap_or_default());
            self.s.max_duration = Some(timeout);
        } else {
            timeout = self.s.max_duration.unwrap_or_default();
        }
        if self.s.max_duration.is_some() {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            set_grpc_timeout(&mut self.s.request, millis);
        }
    }

    fn hash(&self, policies: &[HashPolicy], set_cookies: &mut Vec<Vec<u8>>) -> Option<u64> {
        let hashed = Hashed { request: &self.s.request, info: &self.s.info, env: self.env };
        hashed.hash(policies, set_cookies)
    }

    /// Makes the hash by which the host is found: by the cluster's policies if it has some, else by the route's.
    fn hash_for(&mut self, cluster: &WorkerCluster, forward: &Forward) {
        let config = &cluster.info.config;
        let own = config.common_lb.hash_policy.as_ref().or(config.http.hash_policy.as_ref());
        let policies = own.map_or(&forward.hash_policy, |own| &own.policies);
        if !policies.is_empty() {
            let mut set_cookies = std::mem::take(&mut self.s.router.set_cookies);
            self.s.router.hash = self.hash(policies, &mut set_cookies);
            self.s.router.set_cookies = set_cookies;
        }
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
        let load = self.priority_load(&cluster);
        let labels = cluster.info.config.common_lb.subset.as_ref().and_then(|_| self.wanted_labels());
        let Router { tried, retry, hash, named_hosts, .. } = &mut self.s.router;
        // Predicates are for retries only.
        let policy = retry.policy().filter(|policy| !tried.is_empty() && !policy.host_predicates.is_empty());
        let mut skip = |host: &Host| {
            policy.is_some_and(|policy| policy.host_predicates.iter().any(|predicate| avoids(predicate, host, tried)))
        };
        let original = self.env.info.local.socket();
        let host = self.env.worker.with_rng(|rng| {
            let mut context = LbContext::new(self.now, rng);
            context.hash = *hash;
            context.original_dst = original;
            context.headers = Some(&self.s.request);
            context.labels = labels.as_deref();
            context.metadata = self.s.info.dynamic_metadata();
            context.named_hosts = Some(named_hosts);
            context.priority_load = load.as_ref();
            if let Some(policy) = policy {
                context.should_skip = Some(&mut skip);
                context.retries = policy.host_selection_attempts;
            }
            cluster.choose_host(&mut context)
        });
        if host.is_none() {
            cluster.info.stats.upstream_cx_none_healthy().inc();
            self.charge_status(503);
            let reply = LocalReply::new(503, Bytes::from_static(b"no healthy upstream"), details::NO_HEALTHY_UPSTREAM);
            self.router_reply(reply.with_flags(ResponseFlags::NO_HEALTHY_UPSTREAM));
        }
        if let (Some(host), Some(options)) = (&host, &cluster.info.config.common_lb.override_host)
            && let Some(key) = &options.selected_host_key
        {
            tell_host(self.s.info.dynamic_metadata_mut(), key, host);
        }
        host
    }

    /// The labels that the request's host should have: of the route, then of the connection and of the request, where what comes
    /// later replaces what came before.
    fn wanted_labels(&self) -> Option<Arc<Struct>> {
        let forward = self.s.router.route.as_ref().and_then(|route| route.forward());
        let mut labels = forward.and_then(|forward| forward.metadata_match(self.s.router.weighted)).cloned();
        let connection = self.s.info.connection.as_ref().and_then(|connection| connection.dynamic_metadata.as_deref());
        for metadata in [connection, self.s.info.dynamic_metadata()].into_iter().flatten() {
            let Some(more) = metadata.namespace("envoy.lb") else { continue };
            let merged = Arc::make_mut(labels.get_or_insert_default());
            more.iter().for_each(|(name, value)| {
                merged.set(name, value.clone());
            });
        }
        labels
    }

    /// What `retry_priority` makes of the shares of the priorities: those that were tried take no more load.
    fn priority_load(&mut self, cluster: &WorkerCluster) -> Option<PriorityLoad> {
        let Router { tried, forgotten, retry, .. } = &mut self.s.router;
        let RetryPriority::PreviousPriorities { update_frequency } = retry.policy()?.retry_priority?;
        let every = update_frequency as usize;
        let attempted = tried.get(*forgotten..).unwrap_or_default();
        let counted = attempted.len() - attempted.len() % every.max(1);
        let excluded = attempted.get(..counted).filter(|hosts| !hosts.is_empty())?;
        cluster.with_priorities(|priorities| {
            let is_left = |priority: usize| !excluded.iter().any(|host| host.priority() as usize == priority);
            PriorityLoad::among(priorities, is_left).or_else(|| {
                // None is left: all of them again.
                *forgotten = tried.len();
                PriorityLoad::among(priorities, |_| true)
            })
        })
    }

    /// What the head says of this try: its number, and the host's own name.
    pub(super) fn prepare_request_head(&mut self) {
        let Some((route, forward)) = self.forward_of_route() else { return };
        if self.s.info.upstream.attempts > 1 {
            let (timeouts, elapsed) = (self.s.router.timeouts, self.since_complete().unwrap_or_default());
            timeouts.announce(elapsed, &mut self.s.request);
            if route.virtual_host().include_is_timeout_retry_header {
                let value: &[u8] = if self.s.router.timed_out { b"true" } else { b"false" };
                self.s.request.set_known(Known::X_ENVOY_IS_TIMEOUT_RETRY, value);
            }
            self.s.router.timed_out = false;
        }
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

/// Whether a retry should not go to this host.
fn avoids(predicate: &HostPredicate, host: &Host, tried: &[Arc<Host>]) -> bool {
    let fields = || host.info().metadata.as_ref().and_then(|metadata| metadata.namespace("envoy.lb"));
    match predicate {
        HostPredicate::PreviousHosts => tried.iter().any(|before| std::ptr::eq(&**before, host)),
        HostPredicate::OmitCanaryHosts => fields().and_then(|own| own.get("canary")) == Some(&Value::Bool(true)),
        HostPredicate::OmitHostMetadata(wanted) => {
            !wanted.is_empty()
                && fields().is_some_and(|own| wanted.iter().all(|(name, value)| own.get(name) == Some(value)))
        }
    }
}

/// Says in dynamic metadata which host was chosen (`selected_host_key`).
fn tell_host(metadata: &mut Metadata, key: &MetadataPath, host: &Host) {
    let Some((first, rest)) = key.path.split_first() else { return };
    let address = Value::String(host.address().to_string().into());
    let value =
        rest.iter().rev().fold(address, |value, name| Value::Struct([(name.clone(), value)].into_iter().collect()));
    metadata.namespace_mut(&key.namespace).set(first.clone(), value);
}

/// Request headers that this router acts on; the upstream does not see them.
const RETRY_HEADERS: [Known; 5] = [
    Known::X_ENVOY_RETRY_ON,
    Known::X_ENVOY_RETRY_GRPC_ON,
    Known::X_ENVOY_MAX_RETRIES,
    Known::X_ENVOY_RETRIABLE_STATUS_CODES,
    Known::X_ENVOY_RETRIABLE_HEADER_NAMES,
];
