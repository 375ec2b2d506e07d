//! Smaller policies of a route: mirrors, hashing, upgrades, internal redirects.

use crate::build::BuildError;
use crate::spec::{ConnectConfigSpec, CookieAttribute, HashPolicySpec, RedirectPredicate};
use nuncio_headers::HeaderName;
use nuncio_matcher::{RuntimeFractionalPercent, RuntimeLookup, Substitution};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A compiled `RequestMirrorPolicy`.
#[derive(Debug, Clone)]
pub struct MirrorPolicy {
    /// Where the copy goes.
    pub cluster: MirrorCluster,
    /// How many of the requests are copied.
    pub fraction: RuntimeFractionalPercent,
    /// Whether the copy is traced; `None`: as the request.
    pub trace_sampled: Option<bool>,
    /// The host stays without `-shadow`.
    pub disable_shadow_host_suffix_append: bool,
    /// The copy's host; empty: the request's.
    pub host_rewrite_literal: Arc<str>,
}

/// Where a copy goes.
#[derive(Debug, Clone)]
pub enum MirrorCluster {
    /// To this cluster.
    Name(Arc<str>),
    /// To the cluster that this request header names; nowhere if there is none.
    Header(HeaderName),
}

impl MirrorPolicy {
    /// Whether a request with this random number is copied.
    pub fn selects(&self, runtime: &dyn RuntimeLookup, random: u64) -> bool {
        self.fraction.enabled(runtime, random)
    }
}

/// A compiled `HashPolicy`. The hash itself is the load balancer's business.
#[derive(Debug, Clone)]
pub struct HashPolicy {
    /// What is hashed.
    pub input: HashInput,
    /// Later policies count only if none so far made a hash.
    pub terminal: bool,
}

impl HashPolicy {
    /// Compiles policies that belong to no route.
    pub fn compile(specs: Vec<HashPolicySpec>) -> Result<Box<[HashPolicy]>, Vec<BuildError>> {
        crate::build::hash_policies(specs)
    }
}

/// What a hash policy hashes.
#[derive(Debug, Clone)]
pub enum HashInput {
    /// A request header, after a substitution.
    Header(HeaderName, Option<Box<Substitution>>),
    /// A cookie.
    Cookie(Box<HashCookie>),
    /// The client's address.
    SourceIp,
    /// A parameter of the query.
    QueryParameter(Box<str>),
    /// An object of the filter state.
    FilterState(Box<str>),
}

/// A cookie that is hashed, and made when it is absent.
#[derive(Debug, Clone)]
pub struct HashCookie {
    /// Name.
    pub name: Box<str>,
    /// Life time of the cookie that is made; zero: the session; `None`: none is made.
    pub ttl: Option<Duration>,
    /// `Path` of the cookie that is made; empty: none.
    pub path: Box<str>,
    /// Further attributes of the cookie that is made.
    pub attributes: Box<[CookieAttribute]>,
}

/// A compiled `UpgradeConfig`.
#[derive(Clone)]
pub struct Upgrade {
    /// Lower case: `websocket`, `connect`, ….
    pub kind: Box<str>,
    /// Whether it is allowed.
    pub enabled: bool,
    /// For CONNECT: end the tunnel here.
    pub connect: Option<ConnectConfigSpec>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("kind", &self.kind).field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// A compiled `InternalRedirectPolicy`.
#[derive(Debug, Clone)]
pub struct InternalRedirectPolicy {
    /// How often one request is redirected at most.
    pub max_internal_redirects: u32,
    /// Which responses are followed.
    pub response_codes: Box<[u16]>,
    /// All must agree.
    pub predicates: Box<[RedirectPredicate]>,
    /// From https to http or back.
    pub allow_cross_scheme_redirect: bool,
    /// Response headers that go into the new request.
    pub response_headers_to_copy: Box<[HeaderName]>,
}
