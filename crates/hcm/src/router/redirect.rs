//! Redirects of the upstream that the proxy follows itself (`internal_redirect_policy`).
//!
//! Owns: which redirect is followed, and what the request becomes. The stream is then begun again with that request
//! ([`Driver::begin_again`]), as if the client had sent it.

use crate::stream::Driver;
use nuncio_filter::RouteSlot;
use nuncio_headers::{HeaderMap, Known};
use nuncio_route::spec::RedirectPredicate;
use nuncio_route::{InternalRedirectPolicy, Route};
use std::sync::Arc;

/// What earlier redirects of a request did.
#[derive(Debug, Default)]
pub(crate) struct Redirected {
    /// How many there were.
    count: u32,
    /// Names of the routes that redirected with `previous_routes`, and of those that they led to.
    routes: Vec<(Arc<str>, Arc<str>)>,
}

/// A redirect that is not followed: the counter of the reason.
enum Refused {
    BadLocation,
    UnsafeScheme,
    TooMany,
    NoRoute,
    Predicate,
    /// Told by nothing but the cluster's counter.
    Other,
}

impl Driver<'_> {
    /// Follows a redirect, if the route's policy wants it. True if the request began again.
    pub(super) fn follow_redirect(&mut self, status: u16, response_over: bool) -> bool {
        let Some(route) = self.s.router.route.clone() else { return false };
        let Some(policy) = route.forward().and_then(|forward| forward.internal_redirect_policy.as_deref()) else {
            return false;
        };
        if !policy.response_codes.contains(&status) {
            return false;
        }
        let Some(cluster) = self.s.router.cluster.clone() else { return false };
        let request = match self.redirected_request(&route, policy, status) {
            Ok(request) => request,
            Err(refused) => {
                self.count_refused(&refused);
                cluster.info.stats.upstream_internal_redirect_failed_total().inc();
                return false;
            }
        };
        cluster.info.stats.upstream_internal_redirect_succeeded_total().inc();
        let keeps_body = status != 303 || self.s.request.get(Known::METHOD) == request.get(Known::METHOD);
        let mut body = bytes::BytesMut::new();
        if keeps_body {
            self.s.router.kept.chunks.iter().for_each(|chunk| body.extend_from_slice(chunk));
        }
        self.end_try(response_over);
        self.s.router.redirected.count += 1;
        self.s.info.response_code = Some(status);
        self.begin_again(request, body.freeze());
        true
    }

    fn count_refused(&self, refused: &Refused) {
        let stats = &self.env.config.stats.router;
        match refused {
            Refused::BadLocation => stats.passthrough_internal_redirect_bad_location().inc(),
            Refused::UnsafeScheme => stats.passthrough_internal_redirect_unsafe_scheme().inc(),
            Refused::TooMany => stats.passthrough_internal_redirect_too_many_redirects().inc(),
            Refused::NoRoute => stats.passthrough_internal_redirect_no_route().inc(),
            Refused::Predicate => stats.passthrough_internal_redirect_predicate().inc(),
            Refused::Other => {}
        }
    }

    /// The request that a redirect leads to. The stream's own request stays as it is; its route is that of the new one, if
    /// the redirect is followed.
    fn redirected_request(
        &mut self,
        route: &Route,
        policy: &InternalRedirectPolicy,
        status: u16,
    ) -> Result<HeaderMap, Refused> {
        // A request that is still being received can't be sent again.
        if self.s.router.complete.is_none() || !self.s.received || !self.s.router.can_replay() {
            return Err(Refused::Other);
        }
        let location = self.s.response.get(Known::LOCATION).ok_or(Refused::Other)?;
        let target = Target::parse(location).ok_or(Refused::BadLocation)?;
        let secure = self.is_secure();
        if !policy.allow_cross_scheme_redirect && secure != target.secure {
            return Err(Refused::UnsafeScheme);
        }
        if self.s.router.redirected.count >= policy.max_internal_redirects {
            return Err(Refused::TooMany);
        }
        let mut request = self.s.request.clone();
        let original = [
            if secure { &b"https://"[..] } else { b"http://" },
            request.get(Known::AUTHORITY).unwrap_or_default(),
            request.get(Known::PATH).unwrap_or_default(),
        ]
        .concat();
        for name in &policy.response_headers_to_copy {
            request.remove(name);
            for value in self.s.response.all(name) {
                request.append(name, value);
            }
        }
        request.set_known(Known::SCHEME, if target.secure { b"https" } else { b"http" });
        request.set_known(Known::AUTHORITY, target.authority);
        request.set_known(Known::PATH, &target.path);
        let target_secure = target.secure;
        self.accept_target(route, policy, &mut request, (secure, target_secure))?;
        let method = request.get(Known::METHOD);
        if status == 303 && !matches!(method, Some(b"GET" | b"HEAD")) {
            // RFC 9110 §15.4.4: the target is retrieved, whatever the method of the request was.
            request.set_known(Known::METHOD, b"GET");
            request.remove_known(Known::CONTENT_LENGTH);
        }
        request.set_known(Known::X_ENVOY_ORIGINAL_URL, &original);
        Ok(request)
    }

    /// Whether the request came over https, as far as is known.
    fn is_secure(&self) -> bool {
        match self.s.request.get(Known::SCHEME) {
            Some(scheme) => scheme.eq_ignore_ascii_case(b"https"),
            None => self.s.request.get(Known::X_FORWARDED_PROTO) == Some(b"https"),
        }
    }

    /// Looks the new request's route up and asks the policy's predicates about it.
    fn accept_target(
        &mut self,
        route: &Route,
        policy: &InternalRedirectPolicy,
        request: &mut HeaderMap,
        (secure, target_secure): (bool, bool),
    ) -> Result<(), Refused> {
        std::mem::swap(&mut self.s.request, request);
        let before = std::mem::take(&mut self.s.state.route);
        let cluster_before = self.s.state.cluster.take();
        let of_info = self.s.info.route.take();
        self.resolve();
        let found = std::mem::take(&mut self.s.state.route);
        std::mem::swap(&mut self.s.request, request);
        let accepted = match &found {
            RouteSlot::Found(target) => {
                let asked = policy.predicates.iter().all(|predicate| match predicate {
                    RedirectPredicate::SafeCrossScheme => secure || !target_secure,
                    RedirectPredicate::AllowListedRoutes(names) => names.iter().any(|name| **name == **target.name()),
                    RedirectPredicate::PreviousRoutes => {
                        let pair = (Arc::clone(route.name()), Arc::clone(target.name()));
                        let routes = &mut self.s.router.redirected.routes;
                        let is_new = !routes.contains(&pair);
                        if is_new {
                            routes.push(pair);
                        }
                        is_new
                    }
                });
                if asked { Ok(()) } else { Err(Refused::Predicate) }
            }
            RouteSlot::TlsRequired(_) => Ok(()),
            RouteSlot::NoRoute(_) | RouteSlot::Unresolved => Err(Refused::NoRoute),
        };
        if accepted.is_err() {
            self.s.state.route = before;
            self.s.state.cluster = cluster_before;
            self.s.info.route = of_info;
            return accepted;
        }
        // Envoy's record of the request that was redirected shows where it goes now.
        self.s.info.upstream.cluster = None;
        self.s.state.route = found;
        accepted
    }
}

/// An absolute URL.
struct Target<'a> {
    secure: bool,
    authority: &'a [u8],
    /// With the query; without the fragment, which a request target never has.
    path: Vec<u8>,
}

impl Target<'_> {
    fn parse(url: &[u8]) -> Option<Target<'_>> {
        let colon = url.windows(3).position(|part| part == b"://")?;
        let (scheme, rest) = (url.get(..colon)?, url.get(colon + 3..)?);
        let secure = match scheme.to_ascii_lowercase().as_slice() {
            b"http" => false,
            b"https" => true,
            _ => return None,
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let printable = |bytes: &[u8]| bytes.iter().all(|byte| (0x21..=0x7e).contains(byte));
        // User information in front of the host has no place in a request.
        if authority.is_empty() || authority.contains(&b'@') || !printable(authority) || !printable(rest) {
            return None;
        }
        let rest = rest.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut path = rest.to_vec();
        if path.first() != Some(&b'/') {
            path.insert(0, b'/');
        }
        Some(Target { secure, authority, path })
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn targets() {
        let parse = |url: &'static str| {
            Target::parse(url.as_bytes())
                .map(|target| (target.secure, String::from_utf8_lossy(target.authority).into_owned(), target.path))
        };
        let found =
            |secure, authority: &str, path: &str| Some((secure, authority.to_owned(), path.as_bytes().to_vec()));
        for (url, expected) in [
            ("http://a.b/c?d=e#f", found(false, "a.b", "/c?d=e")),
            ("HTTPS://a.b:80", found(true, "a.b:80", "/")),
            ("http://a.b?c", found(false, "a.b", "/?c")),
            ("http://[::1]:80/x", found(false, "[::1]:80", "/x")),
            ("/a", None),
            ("", None),
            ("ftp://a.b/", None),
            ("http://", None),
            ("http:///a", None),
            ("http://user@a.b/", None),
            ("http://a.b/c d", None),
            ("http://a.b/\u{7f}", None),
        ] {
            assert_eq!(parse(url), expected, "{url}");
        }
    }
}
