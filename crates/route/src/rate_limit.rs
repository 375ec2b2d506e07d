//! `rate_limits` of routes, virtual hosts and filters: which descriptors a request has (`envoy.config.route.v3.RateLimit`).
//!
//! Only what requests are described by. Counting them is the business of the rate limit filters.

use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{HeaderMatcher, QueryParameterMatcher, query_parameter};
use std::borrow::Cow;
use std::net::IpAddr;

/// One entry of a descriptor: key and value.
pub type DescriptorEntry<'a> = (&'a str, Cow<'a, str>);

/// One `RateLimit`: what one descriptor is made of.
#[derive(Debug)]
pub struct RateLimitPolicy {
    /// `stage`: filters look at policies of their own stage. 0 to 10, default 0.
    pub stage: u32,
    /// `actions`, each of which adds an entry.
    pub actions: Box<[RateLimitAction]>,
}

/// The policies of one place of the configuration, as [`crate::LegacyFilters`] holds them.
pub type RateLimitPolicies = Box<[RateLimitPolicy]>;

/// What one entry of a descriptor is.
#[derive(Debug)]
pub enum RateLimitAction {
    /// `destination_cluster`.
    DestinationCluster,
    /// `request_headers`: the value of a header.
    RequestHeader {
        /// `header_name`.
        name: HeaderName,
        /// `descriptor_key`.
        key: Box<str>,
        /// `skip_if_absent`: without the header the descriptor lacks the entry; otherwise there is no descriptor.
        skip_if_absent: bool,
    },
    /// `query_parameters`: the value of a parameter.
    QueryParameter {
        /// `query_parameter_name`.
        name: Box<str>,
        /// `descriptor_key`.
        key: Box<str>,
        /// As for headers.
        skip_if_absent: bool,
    },
    /// `remote_address`: the client's address, without its port.
    RemoteAddress,
    /// `masked_remote_address`: the client's network.
    MaskedRemoteAddress {
        /// `v4_prefix_mask_len`, 0 to 32. Default 32.
        v4: u8,
        /// `v6_prefix_mask_len`, 0 to 128. Default 128.
        v6: u8,
    },
    /// `generic_key` and `source_cluster`: always the same.
    Constant {
        /// `descriptor_key`.
        key: Box<str>,
        /// `descriptor_value`.
        value: Box<str>,
    },
    /// `header_value_match`.
    Headers {
        /// `descriptor_key`.
        key: Box<str>,
        /// `descriptor_value`.
        value: Box<str>,
        /// `expect_match`.
        expected: bool,
        /// `headers`, all of which must match.
        matchers: Box<[HeaderMatcher]>,
    },
    /// `query_parameter_value_match`.
    Query {
        /// `descriptor_key`.
        key: Box<str>,
        /// `descriptor_value`.
        value: Box<str>,
        /// `expect_match`.
        expected: bool,
        /// `query_parameters`, all of which must match.
        matchers: Box<[QueryParameterMatcher]>,
    },
}

/// What descriptors are made from.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitInput<'a> {
    /// The request.
    pub headers: &'a HeaderMap,
    /// The client's address, if it has one.
    pub remote: Option<IpAddr>,
    /// The cluster that the request goes to.
    pub cluster: Option<&'a str>,
}

impl RateLimitPolicy {
    /// The descriptor of a request. `None` if the request lacks what an action wants.
    pub fn descriptor<'a>(&'a self, input: &RateLimitInput<'a>) -> Option<Vec<DescriptorEntry<'a>>> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            if let Some(entry) = action.entry(input)? {
                entries.push(entry);
            }
        }
        Some(entries).filter(|entries| !entries.is_empty())
    }
}

impl RateLimitAction {
    /// The outer `None` ends the descriptor, the inner one leaves the entry out.
    fn entry<'a>(&'a self, input: &RateLimitInput<'a>) -> Option<Option<DescriptorEntry<'a>>> {
        let path = || input.headers.get(Known::PATH).unwrap_or_default();
        let constant = |key: &'a str, value: &'a str, holds: bool| holds.then_some(Some((key, Cow::Borrowed(value))));
        match self {
            RateLimitAction::DestinationCluster => Some(Some(("destination_cluster", input.cluster?.into()))),
            RateLimitAction::RequestHeader { name, key, skip_if_absent } => match input.headers.joined(name) {
                Some(value) => Some(Some((key, text(value)))),
                None => skip_if_absent.then_some(None),
            },
            RateLimitAction::QueryParameter { name, key, skip_if_absent } => {
                match query_parameter(path(), name.as_bytes()) {
                    Some(value) => Some(Some((key, text(Cow::Borrowed(value))))),
                    None => skip_if_absent.then_some(None),
                }
            }
            RateLimitAction::RemoteAddress => {
                Some(Some(("remote_address", input.remote?.to_canonical().to_string().into())))
            }
            RateLimitAction::MaskedRemoteAddress { v4, v6 } => {
                Some(Some(("masked_remote_address", masked(input.remote?.to_canonical(), *v4, *v6).into())))
            }
            RateLimitAction::Constant { key, value } => constant(key, value, true),
            RateLimitAction::Headers { key, value, expected, matchers } => {
                let matches = matchers.iter().all(|matcher| matcher.matches(input.headers));
                constant(key, value, matches == *expected)
            }
            RateLimitAction::Query { key, value, expected, matchers } => {
                let matches = matchers.iter().all(|matcher| matcher.matches(path()));
                constant(key, value, matches == *expected)
            }
        }
    }
}

fn text(value: Cow<'_, [u8]>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn masked(address: IpAddr, v4: u8, v6: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            format!("{}/{v4}", std::net::Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            format!("{}/{v6}", std::net::Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors() {
        let mut headers = HeaderMap::new();
        headers.set_known(Known::PATH, b"/p?q=1&r");
        let name = HeaderName::new("x-user").unwrap();
        headers.append(&name, b"a");
        headers.append(&name, b"b");
        let input = RateLimitInput { headers: &headers, remote: Some([10, 1, 2, 3].into()), cluster: Some("c") };
        let check = |actions: Vec<RateLimitAction>, expected: Option<&str>| {
            let policy = RateLimitPolicy { stage: 0, actions: actions.into() };
            let found = policy.descriptor(&input).map(|entries| {
                entries.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found.as_deref(), expected);
        };
        let header = |name: &str, skip_if_absent| RateLimitAction::RequestHeader {
            name: HeaderName::new(name).unwrap(),
            key: "user".into(),
            skip_if_absent,
        };
        let parameter =
            |name: &str| RateLimitAction::QueryParameter { name: name.into(), key: "q".into(), skip_if_absent: false };
        check(vec![header("x-user", false), RateLimitAction::RemoteAddress], Some("user=a,b remote_address=10.1.2.3"));
        check(vec![RateLimitAction::RemoteAddress, header("x-none", false)], None);
        check(vec![RateLimitAction::DestinationCluster, header("x-none", true)], Some("destination_cluster=c"));
        check(vec![header("x-none", true)], None);
        check(vec![parameter("q")], Some("q=1"));
        check(vec![parameter("none")], None);
        for (v4, expected) in [(24, "10.1.2.0/24"), (32, "10.1.2.3/32"), (0, "0.0.0.0/0")] {
            let expected = format!("masked_remote_address={expected}");
            check(vec![RateLimitAction::MaskedRemoteAddress { v4, v6: 128 }], Some(&expected));
        }
    }
}
