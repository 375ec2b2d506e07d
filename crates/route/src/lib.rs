//! Compiled route tables: virtual host, match, rewrite, weighted choice, redirect.
//!
//! Owns: what a `RouteConfiguration` says about a request ([`RouteTable::find`]), and what a route does to headers
//! ([`Route`]). Does not own: protobuf (lowering fills [`spec`]), clusters, retries themselves, replies, clocks, randomness.
//!
//! The life of a request here: [`RouteTable::find`], [`Forward::choose_cluster`], filters with [`Route::per_filter`],
//! [`Route::mutate_request`], [`Route::rewrite`]; then on the response [`Route::mutate_response`].
//!
//! *Invariant*: everything is immutable once built, and nothing here fails or panics on a request.

mod build;
mod condition;
mod edits;
mod forward;
mod host;
mod index;
mod live;
mod mutate;
mod on_demand;
mod per_filter;
mod policy;
mod rate_limit;
mod redirect;
mod retry;
mod rewrite;
mod route;
mod scopes;
pub mod spec;
mod stats;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod trie;

pub use build::BuildError;
pub use condition::{FilterStateMatcher, is_grpc, metadata_matches, value_matches};
pub use edits::HeaderEdits;
pub use forward::{ClusterChoice, DEFAULT_TIMEOUT, Forward, GrpcTimeout, LegacyFilters};
pub use live::LiveRoutes;
pub use on_demand::{Answer, OnDemand, Question, VirtualHostDiscovery};
pub use per_filter::{PerFilter, PerFilterLevels};
pub use policy::{HashCookie, HashInput, HashPolicy, InternalRedirectPolicy, MirrorCluster, MirrorPolicy, Upgrade};
pub use rate_limit::{DescriptorEntry, RateLimitAction, RateLimitInput, RateLimitPolicies, RateLimitPolicy};
pub use redirect::{Redirect, tls_redirect_location};
pub use retry::{BackOff, RateLimitedBackOff, RetryOn, RetryPolicy};
pub use rewrite::{HostUpdate, set_host};
pub use route::{Action, DirectResponse, Route, RouteConfig, VirtualCluster, VirtualHost};
pub use scopes::{FragmentBuilder, FragmentExtract, LiveScopes, RouteScope, ScopeKey};
pub use spec::RouteConfigSpec;
pub use stats::RequestStats;
pub use table::{Outcome, PeerCertificate, RouteQuery, RouteTable};
pub use template::UriTemplate;
