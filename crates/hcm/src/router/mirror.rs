//! Copies of requests that go to other clusters besides (`request_mirror_policies`). Nobody waits for their answers.
//!
//! A copy is sent when the request is complete. Its body is what is kept of the request's, and so has the same limit; how
//! many are on their way at once is limited by the circuit breakers of the clusters that they go to.

use super::Attempt;
use crate::client;
use crate::stream::Driver;
use bytes::BytesMut;
use nuncio_filter::ClientRequest;
use nuncio_headers::{HeaderMap, Known};
use nuncio_route::{Forward, MirrorCluster, MirrorPolicy};
use std::rc::Rc;
use std::sync::Arc;

/// The copies to make of a request.
pub(crate) struct Mirrors {
    /// The request's headers as they were when they left the router the first time.
    headers: HeaderMap,
    /// The clusters that get one, and the policies that say so.
    targets: Vec<(Arc<str>, MirrorPolicy)>,
}

impl Driver<'_> {
    /// Decides which copies will be made.
    pub(super) fn begin_mirrors(&mut self, forward: &Forward) {
        let random = self.s.state.random;
        let mut targets = Vec::new();
        for policy in forward.mirrors.iter() {
            if !self.env.worker.with_runtime(|runtime| policy.selects(runtime, random)) {
                continue;
            }
            let name = match &policy.cluster {
                MirrorCluster::Name(name) => Arc::clone(name),
                MirrorCluster::Header(name) => match self.s.request.get_name(name) {
                    Some(value) if !value.is_empty() => String::from_utf8_lossy(value).into(),
                    _ => continue,
                },
            };
            targets.push((name, policy.clone()));
        }
        if !targets.is_empty() && !self.s.upgrade {
            self.s.router.mirrors = Some(Box::new(Mirrors { headers: self.s.request.clone(), targets }));
        }
    }

    /// The request is complete: sends the copies. None is made of a request that failed at once.
    pub(super) fn send_mirrors(&mut self) {
        let Some(mirrors) = self.s.router.mirrors.take() else { return };
        if matches!(self.s.router.attempt, Attempt::None) {
            return;
        }
        let mut body = BytesMut::new();
        self.s.router.kept.chunks.iter().for_each(|chunk| body.extend_from_slice(chunk));
        let body = body.freeze();
        let Mirrors { headers, targets } = *mirrors;
        for (cluster, policy) in targets {
            let mut headers = headers.clone();
            self.mark_copy(&mut headers, &policy);
            let timeout = self.s.router.timeouts.response;
            // Of the answer only the head is looked at.
            let request = ClientRequest { cluster, headers, body: body.clone(), timeout, max_response_bytes: 0 };
            let (worker, clusters) = (Rc::clone(&self.env.worker), Rc::clone(&self.env.clusters));
            tokio::task::spawn_local(async move { client::send_copy(&worker, &clusters, request).await });
        }
    }

    /// What tells a copy from the request: its host, and that it comes from here.
    fn mark_copy(&self, headers: &mut HeaderMap, policy: &MirrorPolicy) {
        if !policy.host_rewrite_literal.is_empty() {
            headers.set_known(Known::AUTHORITY, policy.host_rewrite_literal.as_bytes());
        } else if !policy.disable_shadow_host_suffix_append {
            let host = shadow_host(headers.get(Known::AUTHORITY).unwrap_or_default());
            headers.set_known(Known::AUTHORITY, &host);
        }
        headers.set_known(Known::X_ENVOY_INTERNAL, b"true");
        if let Some(address) = self.env.local_address() {
            let mut forwarded = headers.get(Known::X_FORWARDED_FOR).unwrap_or_default().to_vec();
            if !forwarded.is_empty() {
                forwarded.push(b',');
            }
            forwarded.extend_from_slice(address.to_string().as_bytes());
            headers.set_known(Known::X_FORWARDED_FOR, &forwarded);
        }
    }
}

/// `-shadow` behind the host, before its port.
fn shadow_host(host: &[u8]) -> Vec<u8> {
    let port = host.iter().rposition(|byte| *byte == b':').filter(|at| !host[*at..].contains(&b']'));
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    [name, b"-shadow", port].concat()
}

#[cfg(test)]
mod tests {
    use super::shadow_host;

    #[test]
    fn hosts_of_copies() {
        for (host, expected) in [
            ("a.b", "a.b-shadow"),
            ("a.b:80", "a.b-shadow:80"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[::1]", "[::1]-shadow"),
        ] {
            assert_eq!(shadow_host(host.as_bytes()), expected.as_bytes(), "{host}");
        }
    }
}
