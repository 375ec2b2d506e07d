//! What is answered to preflight requests, and added to responses.

use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, LocalReply, RouteSlot, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{RuntimeFractionalPercent, StringMatcher};
use nuncio_stats::names::CorsStats;
use std::rc::Rc;
use std::sync::Arc;

/// `CorsPolicy` of one level; what it leaves open, the next level says.
pub(super) struct Policy {
    pub origins: Box<[StringMatcher]>,
    pub methods: Box<str>,
    pub headers: Box<str>,
    pub expose: Box<str>,
    pub max_age: Box<str>,
    pub credentials: Option<bool>,
    pub private_network: Option<bool>,
    pub forward_not_matching: Option<bool>,
    pub enabled: Option<RuntimeFractionalPercent>,
    pub shadow: Option<RuntimeFractionalPercent>,
}

/// The policies of a route, most specific first.
#[derive(Default)]
pub(super) struct Policies(Vec<Arc<Policy>>);

impl Policies {
    /// Most specific first.
    pub(super) fn new(policies: Vec<Arc<Policy>>) -> Policies {
        Policies(policies)
    }

    /// Those that the route's levels hold for the filter; else those of the deprecated fields of route and virtual host.
    fn of(stream: &mut Stream<'_>) -> Policies {
        let mut found = Vec::new();
        stream.per_route_shared::<Policy>(|policy| found.push(policy));
        found.reverse();
        if found.is_empty()
            && let RouteSlot::Found(route) = &stream.state.route
        {
            let own = route.forward().and_then(|forward| forward.legacy.as_deref());
            let levels = [own, route.virtual_host().legacy.as_deref()];
            let policies = levels.into_iter().filter_map(|level| level?.cors.clone()?.downcast::<Policy>().ok());
            found.extend(policies);
        }
        Policies::new(found)
    }

    fn says<T>(&self, what: impl Fn(&Policy) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|policy| what(policy))
    }

    /// The first text that is not empty.
    fn text(&self, what: impl Fn(&Policy) -> &str) -> Option<&str> {
        self.0.iter().map(|policy| what(policy)).find(|text| !text.is_empty())
    }

    pub(super) fn allows(&self, origin: &[u8]) -> bool {
        let lists = self.0.iter().map(|policy| &policy.origins);
        let Some(origins) = lists.into_iter().find(|origins| !origins.is_empty()) else { return false };
        origins.iter().any(|allowed| allowed.matches(b"*") || allowed.matches(origin))
    }

    fn credentials(&self) -> bool {
        self.says(|policy| policy.credentials).unwrap_or(false)
    }
}

pub(super) struct CorsFactory {
    pub stats: CorsStats,
}

impl HttpFilterFactory for CorsFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(CorsFilter { stats: self.stats.clone(), policies: Policies::default(), origin: Vec::new() })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS.and(Interest::RESPONSE_HEADERS)
    }
}

struct CorsFilter {
    stats: CorsStats,
    policies: Policies,
    /// The origin, if it is allowed and the response is to say so.
    origin: Vec<u8>,
}

impl HttpFilter for CorsFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        if !stream.request.has(Known::ORIGIN) || stream.route().is_none_or(|route| route.forward().is_none()) {
            return Step::Next;
        }
        let policies = Policies::of(stream);
        let Some(first) = policies.0.first() else { return Step::Next };
        let worker = Rc::clone(stream.worker);
        let selected = |fraction: &RuntimeFractionalPercent| {
            let random = worker.random();
            worker.with_runtime(|runtime| fraction.enabled(runtime, random))
        };
        let enabled = first.enabled.as_ref().is_none_or(selected);
        if !enabled && !first.shadow.as_ref().is_some_and(selected) {
            return Step::Next;
        }
        // A repeated header is one value, as for browsers: it is no origin that anybody allows by name.
        let origin = stream.request.joined(&HeaderName::from(Known::ORIGIN)).unwrap_or_default();
        if origin.is_empty() {
            return Step::Next;
        }
        let allowed = policies.allows(&origin);
        if allowed {
            self.stats.origin_valid().inc()
        } else {
            self.stats.origin_invalid().inc()
        }
        if !enabled {
            return Step::Next;
        }
        let step = match is_preflight(stream.request) && (allowed || !forwards_others(&policies)) {
            true => Step::Reply(preflight(&policies, stream.request, allowed.then_some(&*origin))),
            false => Step::Next,
        };
        if allowed {
            self.origin = origin.into_owned();
            self.policies = policies;
        }
        step
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        if self.origin.is_empty() {
            return Step::Next;
        }
        stream.response.set_known(Known::ACCESS_CONTROL_ALLOW_ORIGIN, &self.origin);
        if self.policies.credentials() {
            set(stream.response, "access-control-allow-credentials", b"true");
        }
        if let Some(expose) = self.policies.text(|policy| &policy.expose) {
            set(stream.response, "access-control-expose-headers", expose.as_bytes());
        }
        Step::Next
    }
}

fn forwards_others(policies: &Policies) -> bool {
    policies.says(|policy| policy.forward_not_matching).unwrap_or(true)
}

fn is_preflight(request: &HeaderMap) -> bool {
    request.get(Known::METHOD) == Some(b"OPTIONS")
        && request.get(Known::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty())
}

/// The answer to a preflight request; `origin` if it is allowed.
fn preflight(policies: &Policies, request: &HeaderMap, origin: Option<&[u8]>) -> Box<LocalReply> {
    let mut added = HeaderMap::new();
    if let Some(origin) = origin {
        added.append_known(Known::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    if policies.credentials() {
        set(&mut added, "access-control-allow-credentials", b"true");
    }
    let mut allow = |name, configured: Option<&str>, asked| match configured {
        Some("*") => set(&mut added, name, &request.joined(&asked).unwrap_or_default()),
        Some(list) => set(&mut added, name, list.as_bytes()),
        None => {}
    };
    let asked = HeaderName::from(Known::ACCESS_CONTROL_REQUEST_METHOD);
    allow("access-control-allow-methods", policies.text(|policy| &policy.methods), asked);
    if let Ok(asked) = HeaderName::new("access-control-request-headers") {
        allow("access-control-allow-headers", policies.text(|policy| &policy.headers), asked);
    }
    if let Some(max_age) = policies.text(|policy| &policy.max_age) {
        set(&mut added, "access-control-max-age", max_age.as_bytes());
    }
    if policies.says(|policy| policy.private_network).unwrap_or(false) && asks_for_private_network(request) {
        set(&mut added, "access-control-allow-private-network", b"true");
    }
    LocalReply::new(200, "", "cors_response").with_edit(move |headers| {
        for (name, value) in &added {
            if let Ok(name) = HeaderName::new(name) {
                headers.set(&name, value);
            }
        }
    })
}

fn asks_for_private_network(request: &HeaderMap) -> bool {
    HeaderName::new("access-control-request-private-network").is_ok_and(|name| request.get_name(&name) == Some(b"true"))
}

fn set(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    if let Ok(name) = HeaderName::new(name) {
        headers.set(&name, value);
    }
}
