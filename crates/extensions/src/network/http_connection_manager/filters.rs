//! The HTTP filters of a connection manager, and its router.

use nuncio_api::pb::envoy::extensions::filters::http::router::v3::Router;
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_config::compile::{Compile, Invalid, message_of};
use nuncio_config::lower;
use nuncio_config::sources::LiveExtension;
use nuncio_filter::{FilterSlot, LiveHttpFilter};
use nuncio_hcm::config::{RouterOptions, UpgradeConfig};
use nuncio_headers::Known;
use pb::http_filter::ConfigType;
use prost::Name;
use std::sync::Arc;

type Chain = (Arc<[FilterSlot]>, RouterOptions);

/// Compiles `http_filters`: the last one must be the router.
pub(super) fn chain(filters: &[pb::HttpFilter], cx: &mut Compile<'_>) -> Result<Chain, Invalid> {
    let Some((last, before)) = filters.split_last() else {
        let hint = "add envoy.filters.http.router as the last filter";
        return Err(cx.field("http_filters").error_hint("is empty: nothing would answer requests", hint));
    };
    let slots = slots(before, cx);
    let router = router(last, &mut cx.element("http_filters", before.len()));
    Ok((slots?, router?))
}

/// All filters are compiled, so that all findings are shown at once.
fn slots(filters: &[pb::HttpFilter], cx: &mut Compile<'_>) -> Result<Arc<[FilterSlot]>, Invalid> {
    let mut slots = Vec::with_capacity(filters.len());
    let mut invalid = None;
    for (index, filter) in filters.iter().enumerate() {
        match slot(filter, &mut cx.element("http_filters", index)) {
            Ok(slot) => slots.extend(slot),
            Err(error) => invalid = Some(error),
        }
    }
    invalid.map_or_else(|| Ok(slots.into()), Err)
}

/// A filter before the last; none if it is optional and not known.
fn slot(filter: &pb::HttpFilter, cx: &mut Compile<'_>) -> Result<Option<FilterSlot>, Invalid> {
    let pb::HttpFilter { name, is_optional, disabled, config_type } = filter;
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(discovery)) => {
            let live = Arc::new(LiveHttpFilter::new(None));
            let target = LiveExtension::Http(Arc::clone(&live));
            lower::discovered_extension(name, discovery, target, &mut cx.field("config_discovery"))?;
            return Ok(Some(FilterSlot { name: name.as_str().into(), factory: live, disabled: *disabled }));
        }
        None => return Err(cx.error(format!("filter {name} has no typed_config"))),
    };
    let message = message_of(any);
    if message == Router::full_name() {
        let hint = "move it to the end of http_filters";
        return Err(cx.error_hint("the router must be the last filter", hint));
    }
    let registry = cx.registry;
    let Some(entry) = registry.http.iter().find(|entry| entry.config == message) else {
        if *is_optional {
            cx.warn(format!("the optional filter {name} ({message}) is not built and is left out"));
            return Ok(None);
        }
        return Err(not_built(name, message, cx));
    };
    let factory = (entry.compile)(any, &mut cx.field("typed_config"))?;
    Ok(Some(FilterSlot { name: name.as_str().into(), factory, disabled: *disabled }))
}

fn not_built(name: &str, message: &str, cx: &mut Compile<'_>) -> Invalid {
    if cx.registry.disabled.contains(message) {
        let text = format!("filter {name} ({message}) is disabled (--disable-extensions)");
        return cx.field("typed_config").error(text);
    }
    let known: Vec<&str> = cx.registry.http.iter().map(|entry| entry.name).collect();
    cx.field("typed_config").error_hint(
        format!("filter {name} ({message}) is not built"),
        format!("the HTTP filters of this build are {} and envoy.filters.http.router", known.join(", ")),
    )
}

/// The last filter.
#[allow(deprecated)]
fn router(filter: &pb::HttpFilter, cx: &mut Compile<'_>) -> Result<RouterOptions, Invalid> {
    let any = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if message_of(any) == Router::full_name() => any,
        _ => {
            let hint = "add envoy.filters.http.router after it";
            return Err(cx.error_hint(format!("the last filter must be the router, not {}", filter.name), hint));
        }
    };
    if filter.disabled {
        return Err(cx.field("disabled").error("the router can't be disabled"));
    }
    let mut cx = cx.field("typed_config");
    let config: Router = cx.decode(any)?;
    let Router {
        dynamic_stats,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = config;
    cx.unsupported_if(start_child_span, "start_child_span");
    cx.unsupported_if(!upstream_log.is_empty(), "upstream_log");
    cx.unsupported_if(upstream_log_options.is_some(), "upstream_log_options");
    cx.unsupported_if(suppress_grpc_request_failure_code_stats, "suppress_grpc_request_failure_code_stats");
    cx.unsupported_if(reject_connect_request_early_data.is_some(), "reject_connect_request_early_data");
    if !upstream_http_filters.is_empty() {
        cx.refuse("upstream_http_filters", "the filters would not run");
    }
    let dynamic_stats_off = dynamic_stats.is_some_and(|value| !value.value);
    let mut strict = Vec::new();
    for name in &strict_check_headers {
        match Known::from_lower(name.to_ascii_lowercase().as_bytes()) {
            Some(known) if nuncio_hcm::is_checkable(known) => strict.push(known),
            _ => cx.field("strict_check_headers").warn(format!("{name} is not a header that can be checked")),
        }
    }
    Ok(RouterOptions {
        dynamic_stats_off,
        suppress_envoy_headers,
        respect_expected_rq_timeout,
        strict_check: strict.into(),
        upstream_logs: None,
    })
}

/// `upgrade_configs`.
pub(super) fn upgrades(
    configs: &[pb::http_connection_manager::UpgradeConfig],
    cx: &mut Compile<'_>,
) -> Result<Vec<UpgradeConfig>, Invalid> {
    let mut upgrades = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let mut cx = cx.element("upgrade_configs", index);
        let filters = match &config.filters[..] {
            [] => None,
            filters => Some(upgrade_chain(filters, &mut cx)?),
        };
        let name = config.upgrade_type.to_ascii_lowercase();
        if upgrades.iter().any(|known: &UpgradeConfig| *known.name == *name) {
            let text = format!("multiple upgrade configs with the same name: '{}'", config.upgrade_type);
            return Err(cx.field("upgrade_type").error_hint(text, "remove one of them"));
        }
        let enabled = config.enabled.is_none_or(|value| value.value);
        upgrades.push(UpgradeConfig { name: name.into(), enabled, filters });
    }
    Ok(upgrades)
}

fn upgrade_chain(filters: &[pb::HttpFilter], cx: &mut Compile<'_>) -> Result<Arc<[FilterSlot]>, Invalid> {
    let Some((last, before)) = filters.split_last() else { return Ok(Arc::from([])) };
    let mut slots = Vec::new();
    for (index, filter) in before.iter().enumerate() {
        slots.extend(slot(filter, &mut cx.element("filters", index))?);
    }
    router(last, &mut cx.element("filters", before.len()))?;
    Ok(slots.into())
}
