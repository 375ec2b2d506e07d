//! The configuration of the PROXY protocol filter.

use super::{Encoding, Factory, PassThrough, Rule, Settings};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as pb;
use nuncio_config::compile::{Compile, Invalid, ListenerExtension};
use nuncio_filter::ListenerFilterFactory;
use nuncio_stats::names::{ProxyProtocolErrorStats, ProxyProtocolStats, ProxyProtocolVersionStats};
use pb::proxy_protocol::TlvLocation;
use pb::proxy_protocol::key_value_pair::ValueStringEncoding;
use std::sync::Arc;

/// The extension.
pub struct ProxyProtocolExtension;

impl ListenerExtension for ProxyProtocolExtension {
    type Config = pb::ProxyProtocol;
    const NAME: &'static str = "envoy.filters.listener.proxy_protocol";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        let to_filter_state = config.tlv_location() == TlvLocation::FilterState;
        let versions: Vec<_> = config.disallowed_versions().collect();
        let allows = |version| !versions.contains(&version);
        let pb::ProxyProtocol {
            rules,
            allow_requests_without_proxy_protocol,
            pass_through_tlvs,
            disallowed_versions: _,
            stat_prefix,
            tlv_location: _,
        } = config;
        let before = cx.errors();
        let rules = rules.iter().enumerate().map(|(index, rule)| self::rule(rule, &mut cx.element("rules", index)));
        let rules: Vec<_> = rules.collect();
        let pass_through = pass_through(pass_through_tlvs.as_ref(), &mut cx.field("pass_through_tlvs"));
        cx.unless_errors_since(before)?;
        let prefix = match stat_prefix.as_str() {
            "" => "proxy_proto".to_owned(),
            prefix => format!("proxy_proto.{}", nuncio_stats::sanitize(prefix)),
        };
        let store = cx.store;
        let version = |number: u8| {
            ProxyProtocolVersionStats::register(&store.scope(&format!("{prefix}.versions.v{number}"), &[]))
        };
        Ok(Arc::new(Factory(Arc::new(Settings {
            rules: rules.into_iter().collect::<Result<_, _>>()?,
            pass_through: pass_through?,
            to_filter_state,
            allow_missing: allow_requests_without_proxy_protocol,
            allow_v1: allows(core::proxy_protocol_config::Version::V1),
            allow_v2: allows(core::proxy_protocol_config::Version::V2),
            stats: ProxyProtocolStats::register(&store.scope(&prefix, &[])),
            v1: version(1),
            v2: version(2),
            errors: ProxyProtocolErrorStats::register(&store.scope("", &[])),
        }))))
    }
}

fn rule(rule: &pb::proxy_protocol::Rule, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let pb::proxy_protocol::Rule { tlv_type, on_tlv_present } = rule;
    let Ok(kind) = u8::try_from(*tlv_type) else {
        return Err(cx.field("tlv_type").error("a type is one byte: 0 to 255"));
    };
    let Some(pair) = on_tlv_present else {
        return Err(cx
            .field("on_tlv_present")
            .error_hint("is required", "name the key that the value is stored under"));
    };
    let encoding = match pair.value_string_encoding() {
        ValueStringEncoding::Unspecified | ValueStringEncoding::SanitizedUtf8 => Encoding::SanitizedUtf8,
        ValueStringEncoding::Base64 => Encoding::Base64,
    };
    let namespace = match pair.metadata_namespace.as_str() {
        "" => ProxyProtocolExtension::NAME,
        namespace => namespace,
    };
    Ok(Rule { kind, namespace: namespace.into(), key: pair.key.as_str().into(), encoding })
}

fn pass_through(
    wanted: Option<&core::ProxyProtocolPassThroughTlVs>,
    cx: &mut Compile<'_>,
) -> Result<PassThrough, Invalid> {
    use core::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType;
    let Some(wanted) = wanted else { return Ok(PassThrough::These(Vec::new())) };
    if wanted.match_type() == PassTlVsMatchType::IncludeAll {
        return Ok(PassThrough::All);
    }
    let kinds = wanted.tlv_type.iter().map(|kind| u8::try_from(*kind)).collect::<Result<_, _>>();
    kinds.map(PassThrough::These).map_err(|_| cx.field("tlv_type").error("a type is one byte: 0 to 255"))
}
