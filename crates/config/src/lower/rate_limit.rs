//! `rate_limits` of virtual hosts, routes and filters.

use super::matcher;
use super::number::Wrapped;
use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::route::v3::{RateLimit, rate_limit};
use nuncio_headers::HeaderName;
use nuncio_route::{RateLimitAction, RateLimitPolicies, RateLimitPolicy};
use rate_limit::action::ActionSpecifier as Kind;

/// The policies of `field`, `None` if there are none.
pub fn rate_limits(
    limits: &[RateLimit],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Option<RateLimitPolicies>, Invalid> {
    let policies = matcher::list(limits, field, cx, policy)?;
    Ok(Some(policies).filter(|policies| !policies.is_empty()).map(Into::into))
}

fn policy(limit: &RateLimit, cx: &mut Compile<'_>) -> Result<RateLimitPolicy, Invalid> {
    let RateLimit { stage, disable_key, actions, limit, hits_addend, apply_on_stream_done, x_ratelimit_option } = limit;
    cx.unsupported_if(!disable_key.is_empty(), "disable_key");
    cx.unsupported_if(limit.is_some(), "limit");
    cx.unsupported_if(*x_ratelimit_option != 0, "x_ratelimit_option");
    if hits_addend.is_some() {
        cx.refuse("hits_addend", "each request would count as one");
    }
    if *apply_on_stream_done {
        cx.refuse("apply_on_stream_done", "requests would be counted at their start");
    }
    let actions = matcher::list(actions, "actions", cx, action)?;
    Ok(RateLimitPolicy { stage: stage.value_or(0), actions: actions.into() })
}

#[allow(deprecated)] // Deprecated actions are named, too.
fn action(action: &rate_limit::Action, cx: &mut Compile<'_>) -> Result<RateLimitAction, Invalid> {
    match &action.action_specifier {
        None => Err(cx.error_hint("says nothing", "set one of the actions, for example remote_address")),
        Some(Kind::SourceCluster(_)) => {
            let value = &*cx.facts.node_cluster;
            Ok(RateLimitAction::Constant { key: "source_cluster".into(), value: value.into() })
        }
        Some(Kind::DestinationCluster(_)) => Ok(RateLimitAction::DestinationCluster),
        Some(Kind::RemoteAddress(_)) => Ok(RateLimitAction::RemoteAddress),
        Some(Kind::MaskedRemoteAddress(masks)) => Ok(RateLimitAction::MaskedRemoteAddress {
            v4: u8::try_from(masks.v4_prefix_mask_len.value_or(32)).unwrap_or(32).min(32),
            v6: u8::try_from(masks.v6_prefix_mask_len.value_or(128)).unwrap_or(128).min(128),
        }),
        Some(Kind::RequestHeaders(header)) => match HeaderName::new(&header.header_name) {
            Ok(name) => Ok(RateLimitAction::RequestHeader {
                name,
                key: header.descriptor_key.as_str().into(),
                skip_if_absent: header.skip_if_absent,
            }),
            Err(error) => Err(cx.field("request_headers").field("header_name").error(error.to_string())),
        },
        Some(Kind::QueryParameters(parameter)) => Ok(RateLimitAction::QueryParameter {
            name: parameter.query_parameter_name.as_str().into(),
            key: parameter.descriptor_key.as_str().into(),
            skip_if_absent: parameter.skip_if_absent,
        }),
        Some(Kind::GenericKey(generic)) => {
            cx.field("generic_key").unsupported_if(!generic.default_value.is_empty(), "default_value");
            let value = generic.descriptor_value.as_str();
            Ok(RateLimitAction::Constant { key: key_or(&generic.descriptor_key, "generic_key"), value: value.into() })
        }
        Some(Kind::HeaderValueMatch(wanted)) => {
            let mut cx = cx.field("header_value_match");
            cx.unsupported_if(!wanted.default_value.is_empty(), "default_value");
            Ok(RateLimitAction::Headers {
                key: key_or(&wanted.descriptor_key, "header_match"),
                value: wanted.descriptor_value.as_str().into(),
                expected: wanted.expect_match.value_or(true),
                matchers: matcher::headers(&wanted.headers, "headers", &mut cx)?.into(),
            })
        }
        Some(Kind::QueryParameterValueMatch(wanted)) => {
            let mut cx = cx.field("query_parameter_value_match");
            cx.unsupported_if(!wanted.default_value.is_empty(), "default_value");
            let matchers = matcher::list(&wanted.query_parameters, "query_parameters", &mut cx, matcher::query)?;
            Ok(RateLimitAction::Query {
                key: key_or(&wanted.descriptor_key, "query_match"),
                value: wanted.descriptor_value.as_str().into(),
                expected: wanted.expect_match.value_or(true),
                matchers: matchers.into(),
            })
        }
        Some(Kind::DynamicMetadata(_)) => Err(cx.refuse("dynamic_metadata", "requests would not be limited by it")),
        Some(Kind::Metadata(_)) => Err(cx.refuse("metadata", "requests would not be limited by it")),
        Some(Kind::RemoteAddressMatch(_)) => {
            Err(cx.refuse("remote_address_match", "requests would not be limited by it"))
        }
        Some(Kind::Extension(_)) => Err(cx.refuse("extension", "requests would not be limited by it")),
    }
}

fn key_or(key: &str, default: &str) -> Box<str> {
    if key.is_empty() { default.into() } else { key.into() }
}
