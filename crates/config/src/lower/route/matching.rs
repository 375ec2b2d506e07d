//! `RouteMatch`.

use super::header_matchers;
use crate::compile::{Compile, Invalid, message_of};
use crate::lower::matcher;
use crate::lower::number::{Wrapped, runtime_fraction};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use nuncio_api::pb::envoy::r#type::matcher::v3::{FilterStateMatcher, filter_state_matcher::Matcher};
use nuncio_route::spec::{FilterStateMatchSpec, FilterStateMatcherSpec, PathSpec, RouteMatchSpec, TlsContextMatch};
use prost::Name;

/// What a route matches. Errors in single values are found when the table is built.
pub(super) fn lower(matching: &pb::RouteMatch, cx: &mut Compile<'_>) -> Result<RouteMatchSpec, Invalid> {
    let pb::RouteMatch {
        case_sensitive,
        runtime_fraction: fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = matching;
    let path = path(path_specifier.as_ref(), cx);
    let headers = header_matchers(headers, "headers", cx);
    let query_parameters =
        matcher::list(query_parameters, "query_parameters", cx, |matcher, cx| cx.check(matcher::query_spec(matcher)));
    let cookies = matcher::list(cookies, "cookies", cx, |matcher, cx| cx.check(matcher::cookie_spec(matcher)));
    let dynamic_metadata = matcher::list(dynamic_metadata, "dynamic_metadata", cx, |matcher, cx| {
        cx.check(matcher::metadata_spec(matcher))
    });
    let filter_state = matcher::list(filter_state, "filter_state", cx, self::filter_state);
    Ok(RouteMatchSpec {
        path: path?,
        case_sensitive: case_sensitive.value_or(true),
        runtime_fraction: fraction.as_ref().map(runtime_fraction),
        headers,
        query_parameters: query_parameters?,
        cookies: cookies?,
        grpc: grpc.is_some(),
        tls_context: tls_context
            .map(|context| TlsContextMatch { presented: context.presented.get(), validated: context.validated.get() }),
        dynamic_metadata: dynamic_metadata?,
        filter_state: filter_state?,
    })
}

fn path(path: Option<&pb::route_match::PathSpecifier>, cx: &mut Compile<'_>) -> Result<PathSpec, Invalid> {
    use pb::route_match::PathSpecifier as Kind;
    match path {
        None => {
            Err(cx.error_hint("has no path", "set prefix, path, path_separated_prefix, safe_regex or connect_matcher"))
        }
        Some(Kind::Prefix(prefix)) => Ok(PathSpec::Prefix(prefix.clone())),
        Some(Kind::Path(path)) => Ok(PathSpec::Exact(path.clone())),
        Some(Kind::SafeRegex(regex)) => Ok(PathSpec::SafeRegex(matcher::regex_spec(regex))),
        Some(Kind::ConnectMatcher(_)) => Ok(PathSpec::Connect),
        Some(Kind::PathSeparatedPrefix(prefix)) => Ok(PathSpec::PathSeparatedPrefix(prefix.clone())),
        Some(Kind::PathMatchPolicy(policy)) => template(policy, &mut cx.field("path_match_policy")),
    }
}

fn template(policy: &core::TypedExtensionConfig, cx: &mut Compile<'_>) -> Result<PathSpec, Invalid> {
    let any = policy.typed_config.as_ref().filter(|any| message_of(any) == UriTemplateMatchConfig::full_name());
    let Some(any) = any else {
        let text = format!("the path matcher {} is not built", policy.name);
        return Err(cx.error_hint(text, "envoy.path.match.uri_template.uri_template_matcher is"));
    };
    let UriTemplateMatchConfig { path_template } = cx.field("typed_config").decode(any)?;
    Ok(PathSpec::UriTemplate(path_template))
}

/// `FilterStateMatcher`.
pub fn filter_state(matcher: &FilterStateMatcher, cx: &mut Compile<'_>) -> Result<FilterStateMatcherSpec, Invalid> {
    let FilterStateMatcher { key, matcher } = matcher;
    let matcher = match matcher {
        None => return Err(cx.error_hint("has no matcher", "set string_match or address_match")),
        Some(Matcher::StringMatch(string)) => {
            FilterStateMatchSpec::String(cx.field("string_match").check(matcher::string_spec(string))?)
        }
        Some(Matcher::AddressMatch(address)) => {
            let mut cx = cx.field("address_match");
            let ranges = matcher::list(&address.ranges, "ranges", &mut cx, |range, cx| {
                matcher::cidr(&range.address_prefix, range.prefix_len.get().unwrap_or(0), cx)
            })?;
            FilterStateMatchSpec::Address { ranges, invert: address.invert_match }
        }
    };
    Ok(FilterStateMatcherSpec { key: key.clone(), matcher })
}
