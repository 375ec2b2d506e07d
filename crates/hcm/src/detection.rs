//! Original IP detection: extensions that say what the client's address is where the peer is not believed
//! (`original_ip_detection_extensions`).

use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::CidrSet;
use nuncio_stream_info::{Address, ConnectionInfo};
use std::net::{IpAddr, SocketAddr};

/// One extension.
#[derive(Debug, Clone)]
pub enum IpDetection {
    /// `envoy.extensions.http.original_ip_detection.xff.v3.XffConfig`.
    Xff {
        /// Trusted proxies in front (`xff_num_trusted_hops`). Default 0.
        hops: u32,
        /// Proxies that are believed (`xff_trusted_cidrs`); without, all are.
        trusted: Option<CidrSet>,
        /// The peer is not appended to `x-forwarded-for` (`skip_xff_append`). Default yes.
        skip_append: bool,
    },
    /// `envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig`.
    CustomHeader {
        /// The header with the address.
        name: HeaderName,
        /// Whether the address decides if a request is internal (`allow_extension_to_set_address_as_trusted`). Default no.
        trusted: bool,
        /// The status of the answer to requests without such an address (`reject_with_status`). Default none.
        reject: Option<u16>,
    },
}

/// What an extension found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detected {
    /// The client.
    pub address: Option<Address>,
    /// Whether it decides if the request is internal.
    pub trusted: bool,
    /// Whether the peer is appended to `x-forwarded-for`.
    pub append: bool,
}

impl IpDetection {
    /// Looks for the client's address. The error is the status to answer with.
    fn detect(&self, connection: &ConnectionInfo, headers: &HeaderMap) -> Result<Detected, u16> {
        match self {
            IpDetection::Xff { hops, trusted: None, skip_append } => {
                let ip = nth_from_right(headers, *hops);
                let single =
                    *hops == 0 && headers.get(Known::X_FORWARDED_FOR).is_some_and(|value| !value.contains(&b','));
                Ok(Detected { address: ip.map(without_port), trusted: single, append: !skip_append })
            }
            IpDetection::Xff { trusted: Some(trusted), skip_append, .. } => {
                if !connection.remote.ip().is_some_and(|ip| trusted.contains(ip)) {
                    return Ok(Detected::default());
                }
                let (ip, single) = last_untrusted(headers, trusted);
                Ok(Detected { address: ip.map(without_port), trusted: single, append: !skip_append })
            }
            IpDetection::CustomHeader { name, trusted, reject } => {
                let value = headers.get_name(name).and_then(|value| std::str::from_utf8(value).ok());
                match (value.and_then(|value| value.trim().parse::<IpAddr>().ok()), reject) {
                    (Some(ip), _) => Ok(Detected { address: Some(without_port(ip)), trusted: *trusted, append: false }),
                    (None, Some(status)) => Err(*status),
                    (None, None) => Ok(Detected::default()),
                }
            }
        }
    }
}

/// Asks the extensions in order; the first that finds an address decides. The error is the status to answer with.
pub(crate) fn detect(
    extensions: &[IpDetection],
    connection: &ConnectionInfo,
    headers: &HeaderMap,
) -> Result<Detected, u16> {
    for extension in extensions {
        let detected = extension.detect(connection, headers)?;
        if detected.address.is_some() {
            return Ok(detected);
        }
    }
    Ok(Detected::default())
}

/// The address that stands `skip` places before the last in `x-forwarded-for`.
pub(crate) fn nth_from_right(headers: &HeaderMap, skip: u32) -> Option<IpAddr> {
    let name = HeaderName::from(Known::X_FORWARDED_FOR);
    let value = headers.joined(&name)?;
    let entry = value.rsplit(|b| *b == b',').nth(skip as usize)?;
    parse_ip(entry)
}

/// The last address of `x-forwarded-for` that no trusted range has, else the first; and whether it is the only one.
/// What is not an address ends the search without one.
fn last_untrusted(headers: &HeaderMap, trusted: &CidrSet) -> (Option<IpAddr>, bool) {
    let name = HeaderName::from(Known::X_FORWARDED_FOR);
    let Some(value) = headers.joined(&name) else { return (None, false) };
    let mut found = None;
    for entry in value.rsplit(|b| *b == b',') {
        let Some(ip) = parse_ip(entry) else { return (None, false) };
        found = Some(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    (found, !value.contains(&b','))
}

fn parse_ip(entry: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok()
}

pub(crate) fn without_port(ip: IpAddr) -> Address {
    Address::Ip(SocketAddr::new(ip, 0))
}
