//! Compiling what a route does, but for forwarding.

use super::cx::Build;
use super::{Inherited, forward};
use crate::redirect::Redirect;
use crate::rewrite::{Matched, PathRewrite};
use crate::route::{Action, DirectResponse};
use crate::spec::{ActionSpec, DirectResponseSpec, RedirectPathSpec, RedirectSpec};
use nuncio_stream_info::{Format, FormatOptions};

/// What rewrites need to know of how the path was matched.
pub(super) struct PathMatch<'t> {
    /// The path template, if it was one.
    pub(super) template: Option<&'t str>,
    /// What a prefix rewrite replaces.
    pub(super) matched: Matched,
}

pub(super) fn compile(
    cx: &mut Build<'_>,
    spec: ActionSpec,
    path: PathMatch<'_>,
    inherited: &Inherited,
) -> Option<Action> {
    match spec {
        ActionSpec::Route(route) => {
            let forward = cx.within("route", |cx| forward::compile(cx, *route, path, inherited))?;
            Some(Action::Forward(Box::new(forward)))
        }
        ActionSpec::Redirect(redirect) => {
            let redirect = cx.within("redirect", |cx| self::redirect(cx, redirect, path.matched))?;
            Some(Action::Redirect(Box::new(redirect)))
        }
        ActionSpec::DirectResponse(response) => {
            let response = cx.within("direct_response", |cx| direct_response(cx, response))?;
            Some(Action::DirectResponse(Box::new(response)))
        }
        ActionSpec::NonForwarding => Some(Action::NonForwarding),
    }
}

fn redirect(cx: &mut Build<'_>, spec: RedirectSpec, matched: Matched) -> Option<Redirect> {
    let port = match spec.port_redirect {
        0 => Box::default(),
        port => format!(":{port}").into_bytes().into(),
    };
    let (path, rewrite) = match spec.path {
        None => (String::new(), None),
        Some(RedirectPathSpec::Path(path)) => (path, None),
        Some(RedirectPathSpec::Prefix(prefix)) if prefix.is_empty() => (prefix, None),
        Some(RedirectPathSpec::Prefix(prefix)) => {
            (String::new(), Some(PathRewrite::Prefix(matched, prefix.into_bytes().into())))
        }
        Some(RedirectPathSpec::Regex(regex)) => {
            let substitution = cx.within("regex_rewrite", |cx| cx.substitution(&regex))?;
            (String::new(), Some(PathRewrite::Regex(substitution)))
        }
        Some(RedirectPathSpec::Format(text)) => {
            let format = cx.within("path_rewrite", |cx| format(cx, &text, true))?;
            (String::new(), Some(PathRewrite::Format(format)))
        }
    };
    if spec.strip_query && path.contains('?') {
        cx.within("strip_query", |cx| {
            cx.warning("has no effect: path_redirect has a query of its own, which is always sent");
        });
    }
    Some(Redirect {
        scheme: spec.scheme,
        host: spec.host_redirect.into_bytes().into(),
        port,
        path: path.into_bytes().into(),
        rewrite: rewrite.map(Box::new),
        code: spec.response_code,
        strip_query: spec.strip_query,
    })
}

fn direct_response(cx: &mut Build<'_>, spec: DirectResponseSpec) -> Option<DirectResponse> {
    if !(200..600).contains(&spec.status) {
        return cx.within("status", |cx| cx.error(format!("{} is not within 200 and 599", spec.status)));
    }
    Some(DirectResponse { status: spec.status, body: spec.body, body_format: spec.body_format })
}

/// Compiles a format; `omit`: unset values are left out rather than written as `-`.
pub(super) fn format(cx: &mut Build<'_>, text: &str, omit: bool) -> Option<Format> {
    let options = FormatOptions { omit_empty_values: omit, header_value: false, ..cx.formats().clone() };
    match Format::text(text, &options) {
        Ok(format) => Some(format),
        Err(error) => cx.error(error.to_string()),
    }
}
