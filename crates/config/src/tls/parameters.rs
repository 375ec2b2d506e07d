//! `TlsParameters`, key logs, and other parts that need no secret.

use super::reading::Reading;
use crate::compile::Invalid;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_matcher::CidrRange;
use nuncio_tls::spec::{KeyLogSpec, ParametersSpec, TlsVersion};
use tls::tls_parameters::TlsProtocol;

pub(super) fn parameters(parameters: Option<&tls::TlsParameters>, cx: &mut Reading<'_>) -> ParametersSpec {
    let Some(parameters) = parameters else { return ParametersSpec::default() };
    let (minimum, maximum) = (parameters.tls_minimum_protocol_version(), parameters.tls_maximum_protocol_version());
    let tls::TlsParameters {
        tls_minimum_protocol_version: _,
        tls_maximum_protocol_version: _,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = parameters;
    cx.refuse_if(
        !compliance_policies.is_empty(),
        "compliance_policies",
        "other algorithms would be used than it allows",
    );
    ParametersSpec {
        minimum_version: version(minimum),
        maximum_version: version(maximum),
        cipher_suites: cipher_suites.clone(),
        ecdh_curves: ecdh_curves.clone(),
        signature_algorithms: signature_algorithms.clone(),
    }
}

fn version(version: TlsProtocol) -> Option<TlsVersion> {
    match version {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlSv10 => Some(TlsVersion::V1_0),
        TlsProtocol::TlSv11 => Some(TlsVersion::V1_1),
        TlsProtocol::TlSv12 => Some(TlsVersion::V1_2),
        TlsProtocol::TlSv13 => Some(TlsVersion::V1_3),
    }
}

pub(super) fn key_log(log: &tls::TlsKeyLog, cx: &mut Reading<'_>) -> Result<KeyLogSpec, Invalid> {
    let tls::TlsKeyLog { path, local_address_range, remote_address_range } = log;
    let local = ranges(local_address_range, "local_address_range", cx);
    let remote = ranges(remote_address_range, "remote_address_range", cx);
    Ok(KeyLogSpec { path: path.into(), local_address_range: local?, remote_address_range: remote? })
}

fn ranges(ranges: &[core::CidrRange], field: &str, cx: &mut Reading<'_>) -> Result<Vec<CidrRange>, Invalid> {
    let mut lowered = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
        match CidrRange::parse(&range.address_prefix, length) {
            Ok(range) => lowered.push(range),
            Err(error) => return Err(cx.element(field, index).error(error.message, "")),
        }
    }
    Ok(lowered)
}
