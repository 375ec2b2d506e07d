//! `Route.action`, but for forwarding.

use super::{Common, forward};
use crate::compile::{Compile, Invalid};
use crate::lower::{data_source, format, matcher};
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_route::spec::{
    ActionSpec, BodyFormatSpec, DirectResponseSpec, RedirectCode, RedirectPathSpec, RedirectSpec, SchemeRedirectSpec,
};
use std::sync::Arc;

/// What a route does.
pub(super) fn lower(
    action: Option<&pb::route::Action>,
    common: &Common,
    cx: &mut Compile<'_>,
) -> Result<ActionSpec, Invalid> {
    use pb::route::Action;
    match action {
        None => Err(cx.error_hint("has no action", "set route, redirect or direct_response")),
        Some(Action::Route(route)) => {
            Ok(ActionSpec::Route(Box::new(forward::lower(route, common, &mut cx.field("route"))?)))
        }
        Some(Action::Redirect(redirect)) => Ok(ActionSpec::Redirect(self::redirect(redirect))),
        Some(Action::DirectResponse(response)) => {
            let response = direct_response(response, common, &mut cx.field("direct_response"))?;
            Ok(ActionSpec::DirectResponse(response))
        }
        Some(Action::NonForwardingAction(_)) => Ok(ActionSpec::NonForwarding),
        Some(Action::FilterAction(_)) => Err(cx.field("filter_action").error("is not built")),
    }
}

fn redirect(redirect: &pb::RedirectAction) -> RedirectSpec {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code: _,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = redirect;
    RedirectSpec {
        scheme: match scheme_rewrite_specifier {
            None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(SchemeRedirectSpec::Https),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(SchemeRedirectSpec::Scheme(scheme.clone())),
        },
        host_redirect: host_redirect.clone(),
        port_redirect: *port_redirect,
        path: path_rewrite_specifier.as_ref().map(|path| match path {
            PathRewriteSpecifier::PathRedirect(path) => RedirectPathSpec::Path(path.clone()),
            PathRewriteSpecifier::PrefixRewrite(prefix) => RedirectPathSpec::Prefix(prefix.clone()),
            PathRewriteSpecifier::RegexRewrite(regex) => RedirectPathSpec::Regex(matcher::substitution_spec(regex)),
            PathRewriteSpecifier::PathRewrite(format) => RedirectPathSpec::Format(format.clone()),
        }),
        response_code: match redirect.response_code() {
            RedirectResponseCode::MovedPermanently => RedirectCode::MovedPermanently,
            RedirectResponseCode::Found => RedirectCode::Found,
            RedirectResponseCode::SeeOther => RedirectCode::SeeOther,
            RedirectResponseCode::TemporaryRedirect => RedirectCode::TemporaryRedirect,
            RedirectResponseCode::PermanentRedirect => RedirectCode::PermanentRedirect,
        },
        strip_query: *strip_query,
    }
}

fn direct_response(
    response: &pb::DirectResponseAction,
    common: &Common,
    cx: &mut Compile<'_>,
) -> Result<DirectResponseSpec, Invalid> {
    let pb::DirectResponseAction { status, body, body_format } = response;
    let body = match body {
        None => Ok(Vec::new()),
        Some(source) => {
            let mut cx = cx.field("body");
            data_source::data_source(source, &mut cx).and_then(|body| match body.len() <= common.max_body as usize {
                true => Ok(body),
                false => {
                    let text = format!("response body size is {} bytes; maximum is {}", body.len(), common.max_body);
                    let hint = "max_direct_response_body_size_bytes of the route configuration sets the limit";
                    Err(cx.error_hint(text, hint))
                }
            })
        }
    };
    let body_format = body_format.as_ref();
    let body_format = body_format.map(|string| format::format_string(string, &mut cx.field("body_format"))).transpose();
    let status = u16::try_from(*status).map_err(|_| cx.field("status").error(format!("{status} is no status code")));
    Ok(DirectResponseSpec {
        status: status?,
        body: body?.into(),
        body_format: body_format?.map(|(format, content_type)| BodyFormatSpec {
            format: Arc::new(format),
            content_type: content_type.into(),
        }),
    })
}
