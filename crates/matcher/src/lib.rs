//! Matchers of the Envoy API (`envoy.type.matcher.v3`, `envoy.config.route.v3.HeaderMatcher`, …): plain specifications
//! compiled once, then evaluated without allocation where possible.
//!
//! Owns: strings, regular expressions, headers, query parameters, cookies, paths, addresses, ports, percentages,
//! structured values, and the generic matcher tree. Does not own: protobuf, routes, or where the inputs come from.
//!
//! *Invariant*: evaluating a matcher never fails and never panics. Input that can't be interpreted (a number that does
//! not parse, bytes that are not UTF-8) is input that does not match. All of it is bytes: nothing is decoded on the way.

mod cidr;
mod cookie;
mod error;
mod filter_chain;
mod header;
mod inline;
mod number;
mod path;
mod percent;
mod port;
mod query;
mod regex;
mod string;
mod tree;
mod value;

pub use self::cidr::{CidrMap, CidrRange, CidrSet};
pub use self::cookie::{CookieMatcher, CookieMatcherSpec, cookie_value};
pub use self::error::InvalidMatcher;
pub use self::filter_chain::{ChainQuery, DuplicateMatch, FilterChainMatch, FilterChainMatcher, SourceType};
pub use self::header::{HeaderMatchSpec, HeaderMatcher, HeaderMatcherSpec};
pub use self::inline::{Side, is_inline};
pub use self::number::{DoubleMatcher, parse_integer};
pub use self::path::{PathMatcher, path_only, without_parameters};
pub use self::percent::{Denominator, FractionalPercent, NoRuntime, RuntimeFractionalPercent, RuntimeLookup};
pub use self::port::{PortRange, PortSet};
pub use self::query::{
    QueryMatchSpec, QueryParameterMatcher, QueryParameterMatcherSpec, percent_decoded, query_parameter,
};
pub use self::regex::{MAX_PROGRAM_BYTES, Regex, RegexSpec, Substitution, SubstitutionSpec};
pub use self::string::{StringMatchSpec, StringMatcher, StringMatcherSpec};
pub use self::tree::{FieldMatcher, MatchMap, MatchNode, MatchTree, OnMatch, Predicate, PrefixMap, ValueTest};
pub use self::value::{MetadataMatcher, MetadataMatcherSpec, ValueKind, ValueMatcher, ValueMatcherSpec, ValueRef};
