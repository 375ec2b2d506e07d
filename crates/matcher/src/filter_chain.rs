//! Choosing the filter chain of a connection (`FilterChainMatch`).
//!
//! Envoy compares the criteria in a fixed order, and at each one keeps only the most specific of what is left; it never
//! goes back to try a less specific value. So does this.

use crate::CidrRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Whether a connection comes from this host (`ConnectionSourceType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// From the same address, or over loopback (`SAME_IP_OR_LOOPBACK`).
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// `envoy.config.listener.v3.FilterChainMatch`. An empty list, or no port, matches anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FilterChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`: destination addresses.
    pub destination_ranges: Vec<CidrRange>,
    /// `server_names`: exact, or `*.suffix`; lower case.
    pub server_names: Vec<Arc<str>>,
    /// `transport_protocol`; empty matches anything.
    pub transport_protocol: Arc<str>,
    /// `application_protocols`.
    pub application_protocols: Vec<Arc<str>>,
    /// `direct_source_prefix_ranges`: the peer of the socket.
    pub direct_source_ranges: Vec<CidrRange>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`: the client.
    pub source_ranges: Vec<CidrRange>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// What is known of a connection when its filter chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct ChainQuery<'a> {
    /// The local address, restored if it was redirected; none for unix sockets.
    pub destination: Option<SocketAddr>,
    /// The client.
    pub source: Option<SocketAddr>,
    /// The peer of the socket.
    pub direct_source: Option<SocketAddr>,
    /// Server name of a TLS hello; lower case.
    pub server_name: Option<&'a str>,
    /// `raw_buffer`, `tls`, or empty.
    pub transport_protocol: &'a str,
    /// Application protocols, in the client's order.
    pub application_protocols: &'a [Arc<str>],
}

/// The compiled matches of a listener's filter chains.
#[derive(Debug, Clone, Default)]
pub struct FilterChainMatcher {
    matches: Vec<FilterChainMatch>,
    default: Option<usize>,
}

/// Two chains match the same connections: the second would never be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateMatch {
    /// Index of the first.
    pub first: usize,
    /// Index of the second.
    pub second: usize,
}

type Candidates = Vec<u32>;

/// How well a chain matches by one criterion: higher is more specific, `None` not at all.
type Rank = Option<u32>;

impl FilterChainMatcher {
    /// Compiles the matches of chains `0..matches.len()`; `default` is the chain for connections that none matches.
    pub fn new(matches: Vec<FilterChainMatch>, default: Option<usize>) -> Result<Self, DuplicateMatch> {
        let mut seen = std::collections::HashMap::new();
        for (index, entry) in matches.iter().enumerate() {
            if let Some(first) = seen.insert(entry, index) {
                return Err(DuplicateMatch { first, second: index });
            }
        }
        Ok(FilterChainMatcher { matches, default })
    }

    /// The index of the connection's chain.
    pub fn find(&self, query: &ChainQuery<'_>) -> Option<usize> {
        // One chain that matches anything is the common listener.
        if let [only] = &self.matches[..]
            && *only == FilterChainMatch::default()
        {
            return Some(0);
        }
        self.most_specific(query).or(self.default)
    }

    fn most_specific(&self, query: &ChainQuery<'_>) -> Option<usize> {
        let mut left: Candidates = (0..self.matches.len() as u32).collect();
        self.keep(&mut left, |chain| port_rank(chain.destination_port, query.destination));
        self.keep(&mut left, |chain| range_rank(&chain.destination_ranges, query.destination));
        self.keep(&mut left, |chain| name_rank(&chain.server_names, query.server_name));
        self.keep(&mut left, |chain| match &*chain.transport_protocol {
            "" => Some(0),
            protocol => (protocol == query.transport_protocol).then_some(1),
        });
        self.keep(&mut left, |chain| protocol_rank(&chain.application_protocols, query.application_protocols));
        self.keep(&mut left, |chain| range_rank(&chain.direct_source_ranges, query.direct_source));
        let local = is_local(query);
        self.keep(&mut left, |chain| match chain.source_type {
            SourceType::Any => Some(0),
            SourceType::SameIpOrLoopback => local.then_some(1),
            SourceType::External => (!local).then_some(1),
        });
        self.keep(&mut left, |chain| range_rank(&chain.source_ranges, query.source));
        self.keep(&mut left, |chain| match (&chain.source_ports[..], query.source) {
            ([], _) => Some(0),
            (ports, Some(source)) => ports.contains(&source.port()).then_some(1),
            _ => None,
        });
        left.first().map(|index| *index as usize)
    }

    /// Keeps the chains that match best by one criterion.
    fn keep(&self, left: &mut Candidates, rank: impl Fn(&FilterChainMatch) -> Rank) {
        let best = left.iter().filter_map(|index| rank(&self.matches[*index as usize])).max();
        left.retain(|index| best.is_some() && rank(&self.matches[*index as usize]) == best);
    }
}

fn port_rank(port: Option<u16>, destination: Option<SocketAddr>) -> Rank {
    match port {
        None => Some(0),
        Some(port) => destination.is_some_and(|destination| destination.port() == port).then_some(1),
    }
}

fn range_rank(ranges: &[CidrRange], address: Option<SocketAddr>) -> Rank {
    if ranges.is_empty() {
        return Some(0);
    }
    let ip = address?.ip();
    ranges.iter().filter(|range| range.contains(ip)).map(|range| u32::from(range.prefix_len()) + 1).max()
}

fn name_rank(names: &[Arc<str>], asked: Option<&str>) -> Rank {
    if names.is_empty() {
        return Some(0);
    }
    let asked = asked?;
    let rank = |name: &Arc<str>| match name.strip_prefix("*.") {
        None => (**name == *asked).then_some(u32::MAX),
        Some(suffix) => {
            let rest = asked.strip_suffix(suffix)?;
            (rest.len() > 1 && rest.ends_with('.')).then(|| suffix.len() as u32 + 1)
        }
    };
    names.iter().filter_map(rank).max()
}

/// The protocol that stands first in the client's list wins.
fn protocol_rank(protocols: &[Arc<str>], asked: &[Arc<str>]) -> Rank {
    if protocols.is_empty() {
        return Some(0);
    }
    let at = asked.iter().position(|protocol| protocols.contains(protocol))?;
    Some(u32::MAX - u32::try_from(at).unwrap_or(u32::MAX - 1))
}

fn is_local(query: &ChainQuery<'_>) -> bool {
    let (Some(source), Some(destination)) = (query.source, query.destination) else { return true };
    let (source, destination): (IpAddr, IpAddr) = (source.ip().to_canonical(), destination.ip().to_canonical());
    // Of 127.0.0.0/8 only the one address counts as loopback in Envoy.
    source == destination || source == Ipv4Addr::LOCALHOST || source == Ipv6Addr::LOCALHOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(edit: impl FnOnce(&mut FilterChainMatch)) -> FilterChainMatch {
        let mut entry = FilterChainMatch::default();
        edit(&mut entry);
        entry
    }

    fn query(destination: &str, source: &str) -> ChainQuery<'static> {
        ChainQuery {
            destination: destination.parse().ok(),
            source: source.parse().ok(),
            direct_source: source.parse().ok(),
            server_name: None,
            transport_protocol: "raw_buffer",
            application_protocols: &[],
        }
    }

    #[test]
    fn most_specific_wins_without_going_back() {
        let chains = vec![
            chain(|c| c.destination_port = Some(80)),
            chain(|c| c.destination_ranges = vec![CidrRange::parse("10.0.0.0", 8).unwrap()]),
            chain(|c| c.destination_ranges = vec![CidrRange::parse("10.1.0.0", 16).unwrap()]),
            chain(|c| {
                c.destination_port = Some(81);
                c.server_names = vec!["a.example".into()];
            }),
            chain(|c| c.source_type = SourceType::SameIpOrLoopback),
        ];
        let matcher = FilterChainMatcher::new(chains, Some(9)).unwrap();
        for (destination, source, expected) in [
            ("10.1.2.3:80", "1.2.3.4:5", 0),
            ("10.1.2.3:8080", "1.2.3.4:5", 2),
            ("10.2.2.3:8080", "1.2.3.4:5", 1),
            ("10.1.2.3:81", "1.2.3.4:5", 9),
            ("9.9.9.9:1", "9.9.9.9:5", 4),
            ("9.9.9.9:1", "9.9.9.8:5", 9),
        ] {
            assert_eq!(matcher.find(&query(destination, source)), Some(expected), "{destination}");
        }
    }

    #[test]
    fn names_and_protocols() {
        let chains = vec![
            chain(|c| c.server_names = vec!["a.example".into()]),
            chain(|c| c.server_names = vec!["*.example".into()]),
            chain(|c| c.server_names = vec!["*.b.example".into()]),
            chain(|c| c.application_protocols = vec!["http/1.1".into()]),
            chain(|c| c.application_protocols = vec!["h2c".into()]),
            chain(|_| ()),
        ];
        let matcher = FilterChainMatcher::new(chains, None).unwrap();
        let base = query("1.1.1.1:1", "2.2.2.2:2");
        let named = |name| matcher.find(&ChainQuery { server_name: Some(name), ..base });
        assert_eq!(named("a.example"), Some(0));
        assert_eq!(named("x.example"), Some(1));
        assert_eq!(named("x.b.example"), Some(2));
        assert_eq!(named("example"), Some(5));
        let protocols = ["h2c".into(), "http/1.1".into()];
        assert_eq!(matcher.find(&ChainQuery { application_protocols: &protocols, ..base }), Some(4));
    }

    #[test]
    fn duplicates_are_refused() {
        let twice = vec![chain(|_| ()), chain(|_| ())];
        assert_eq!(FilterChainMatcher::new(twice, None).unwrap_err(), DuplicateMatch { first: 0, second: 1 });
    }
}
