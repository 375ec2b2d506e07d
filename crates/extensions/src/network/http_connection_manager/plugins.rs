//! Extensions of the connection manager that are not filters: early header mutation, original IP detection; and
//! `proxy_status_config`.

use super::options::set;
use nuncio_api::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_api::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation;
use nuncio_api::pb::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use nuncio_api::pb::envoy::extensions::http::original_ip_detection::xff::v3::XffConfig;
use nuncio_api::wkt::Any;
use nuncio_config::compile::{Compile, Invalid, message_of};
use nuncio_config::lower;
use nuncio_hcm::detection::IpDetection;
use nuncio_hcm::proxy_status::ProxyStatusConfig;
use nuncio_headers::HeaderName;
use nuncio_matcher::CidrSet;
use nuncio_route::HeaderEdits;
use prost::Name;
use std::sync::Arc;

/// `early_header_mutation_extensions`.
pub(super) fn early_mutations(
    extensions: &[core::TypedExtensionConfig],
    cx: &mut Compile<'_>,
) -> Result<Vec<HeaderEdits>, Invalid> {
    let mut edits = Vec::new();
    for (index, extension) in extensions.iter().enumerate() {
        let mut cx = cx.element("early_header_mutation_extensions", index);
        let mut cx = cx.field("typed_config");
        let Some(any) = &extension.typed_config else {
            return Err(cx.error("must be set, to a mapping with an `@type`"));
        };
        if message_of(any) != EarlyHeaderMutation::full_name() {
            return Err(cx.error(format!(
                "{} is not built: use {}",
                message_of(any),
                EarlyHeaderMutation::full_name()
            )));
        }
        let config: EarlyHeaderMutation = cx.decode(any)?;
        for (index, mutation) in config.mutations.iter().enumerate() {
            edits.push(early_mutation(mutation, &mut cx.element("mutations", index))?);
        }
    }
    Ok(edits)
}

fn early_mutation(mutation: &HeaderMutation, cx: &mut Compile<'_>) -> Result<HeaderEdits, Invalid> {
    match &mutation.action {
        Some(header_mutation::Action::Remove(name)) => {
            lower::request_edits(&[], std::slice::from_ref(name), "remove", cx)
        }
        Some(header_mutation::Action::Append(option)) => {
            lower::request_edits(std::slice::from_ref(option), &[], "append", cx)
        }
        Some(header_mutation::Action::RemoveOnMatch(_)) => {
            Err(cx.field("remove_on_match").error("is not built here: name the headers with `remove`"))
        }
        None => Err(cx.error("must have one of append, remove")),
    }
}

/// `original_ip_detection_extensions`.
pub(super) fn detection(config: &pb::HttpConnectionManager, cx: &mut Compile<'_>) -> Result<Vec<IpDetection>, Invalid> {
    let extensions = &config.original_ip_detection_extensions;
    if !extensions.is_empty() && (set(&config.use_remote_address) || config.xff_num_trusted_hops > 0) {
        let why = "can't be used together with use_remote_address or xff_num_trusted_hops";
        return Err(cx.field("original_ip_detection_extensions").error(why));
    }
    let mut compiled = Vec::with_capacity(extensions.len());
    for (index, extension) in extensions.iter().enumerate() {
        let mut cx = cx.element("original_ip_detection_extensions", index);
        let mut cx = cx.field("typed_config");
        let Some(any) = &extension.typed_config else {
            return Err(cx.error("must be set, to a mapping with an `@type`"));
        };
        compiled.push(ip_detection(any, &mut cx)?);
    }
    Ok(compiled)
}

fn ip_detection(any: &Any, cx: &mut Compile<'_>) -> Result<IpDetection, Invalid> {
    let kind = message_of(any);
    if kind == XffConfig::full_name() {
        let config: XffConfig = cx.decode(any)?;
        if config.xff_num_trusted_hops > 0 && config.xff_trusted_cidrs.is_some() {
            return Err(cx.error("only one of xff_num_trusted_hops, xff_trusted_cidrs can be set"));
        }
        let trusted = match &config.xff_trusted_cidrs {
            Some(ranges) => {
                Some(CidrSet::new(lower::cidrs(&ranges.cidrs, "cidrs", &mut cx.field("xff_trusted_cidrs"))?))
            }
            None => None,
        };
        let skip_append = config.skip_xff_append.is_none_or(|skip| skip.value);
        return Ok(IpDetection::Xff { hops: config.xff_num_trusted_hops, trusted, skip_append });
    }
    if kind == CustomHeaderConfig::full_name() {
        let config: CustomHeaderConfig = cx.decode(any)?;
        let name = HeaderName::new(&config.header_name);
        let name = name.map_err(|error| cx.field("header_name").error(error.to_string()))?;
        let reject = config
            .reject_with_status
            .as_ref()
            .map(|status| u16::try_from(status.code).ok().filter(|code| (400..=511).contains(code)).unwrap_or(403));
        return Ok(IpDetection::CustomHeader {
            name,
            trusted: config.allow_extension_to_set_address_as_trusted,
            reject,
        });
    }
    Err(cx.error(format!("{kind} is not built: use {} or {}", XffConfig::full_name(), CustomHeaderConfig::full_name())))
}

/// `proxy_status_config`.
pub(super) fn proxy_status(config: &pb::HttpConnectionManager, cx: &Compile<'_>) -> Option<ProxyStatusConfig> {
    use pb::http_connection_manager::proxy_status_config::ProxyName;
    let status = config.proxy_status_config.as_ref()?;
    let name = match &status.proxy_name {
        Some(ProxyName::LiteralProxyName(name)) => name.as_str().into(),
        Some(ProxyName::UseNodeId(true)) => Arc::clone(&cx.facts.node_id),
        Some(ProxyName::UseNodeId(false)) | None if config.server_name.is_empty() => "envoy".into(),
        Some(ProxyName::UseNodeId(false)) | None => config.server_name.as_str().into(),
    };
    Some(ProxyStatusConfig {
        name,
        details: !status.remove_details,
        termination_details: !status.remove_connection_termination_details,
        response_flags: !status.remove_response_flags,
        recommended_code: status.set_recommended_response_code,
    })
}
