//! Compiling `RouteMatch`.

use super::cx::Build;
use crate::condition::{Conditions, FilterStateMatcher};
use crate::index::Fit;
use crate::rewrite::Matched;
use crate::route::PathRegex;
use crate::spec::{PathSpec, RouteMatchSpec};
use crate::template;
use nuncio_matcher::{CookieMatcher, MetadataMatcher, QueryParameterMatcher, Regex, RegexSpec};

/// A compiled match.
pub(super) struct Compiled {
    pub(super) key: Key,
    pub(super) regex: Option<Box<PathRegex>>,
    pub(super) conditions: Option<Box<Conditions>>,
    pub(super) matched: Matched,
}

/// Where a route stands in the index.
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) fit: Fit,
    pub(super) case_sensitive: bool,
}

pub(super) fn compile(cx: &mut Build<'_>, spec: RouteMatchSpec) -> Option<Compiled> {
    let conditions = conditions(cx, &spec);
    let (key, regex, matched) = path(cx, &spec)?;
    let conditions = conditions?;
    let conditions = (!conditions.is_empty()).then(|| Box::new(conditions));
    Some(Compiled { key, regex, conditions, matched })
}

fn path(cx: &mut Build<'_>, spec: &RouteMatchSpec) -> Option<(Key, Option<Box<PathRegex>>, Matched)> {
    let literal = |text: &str, fit: Fit| {
        let case_sensitive = spec.case_sensitive;
        let key = Key { bytes: text.as_bytes().to_vec(), fit, case_sensitive };
        (key, None, Matched::Start { text: text.as_bytes().into(), case_sensitive })
    };
    match &spec.path {
        PathSpec::Prefix(prefix) => {
            cx.within("prefix", |cx| warn_unreachable(cx, prefix));
            Some(literal(prefix, Fit::Prefix))
        }
        PathSpec::Exact(path) => {
            cx.within("path", |cx| warn_unreachable(cx, path));
            Some(literal(path, Fit::Exact))
        }
        PathSpec::PathSeparatedPrefix(prefix) => cx.within("path_separated_prefix", |cx| {
            if prefix.len() < 2 || prefix.contains(['?', '#']) || prefix.ends_with('/') {
                return cx.error("must have no `?` or `#` and not end with `/`; `prefix: /` matches every path");
            }
            Some(literal(prefix, Fit::Separated))
        }),
        PathSpec::SafeRegex(regex) => cx.within("safe_regex", |cx| regex_path(cx, regex, false)),
        PathSpec::UriTemplate(text) => {
            cx.within("path_match_policy.typed_config.path_template", |cx| match template::parse(text) {
                Ok(parsed) => regex_path(cx, &RegexSpec { regex: parsed.regex }, true),
                Err(message) => cx.error(message),
            })
        }
        PathSpec::Connect => {
            let key = Key { bytes: Vec::new(), fit: Fit::Prefix, case_sensitive: true };
            Some((key, None, Matched::Path))
        }
    }
}

fn regex_path(
    cx: &mut Build<'_>,
    spec: &RegexSpec,
    with_parameters: bool,
) -> Option<(Key, Option<Box<PathRegex>>, Matched)> {
    let regex = cx.check(Regex::new(spec))?;
    // The index looks at what is compared of other paths.
    let literal = if with_parameters && cx.ignore_path_parameters { &[] } else { regex.literal_prefix() };
    let key = Key { bytes: literal.to_vec(), fit: Fit::Maybe, case_sensitive: true };
    Some((key, Some(Box::new(PathRegex { regex, with_parameters })), Matched::Path))
}

/// What is compared never holds `?`, `#`, or, if so configured, `;`.
fn warn_unreachable(cx: &mut Build<'_>, text: &str) {
    let cut = if cx.ignore_path_parameters { &['?', '#', ';'][..] } else { &['?', '#'][..] };
    if let Some(bad) = text.chars().find(|c| cut.contains(c)) {
        cx.warning(format!(
            "{text:?} matches no request: paths are compared up to the first `{bad}`; use query_parameters for the query"
        ));
    }
}

fn conditions(cx: &mut Build<'_>, spec: &RouteMatchSpec) -> Option<Conditions> {
    let headers = cx.header_matchers("headers", &spec.headers);
    let query = cx.list("query_parameters", &spec.query_parameters, QueryParameterMatcher::new);
    let cookies = cx.list("cookies", &spec.cookies, CookieMatcher::new);
    let metadata = cx.list("dynamic_metadata", &spec.dynamic_metadata, MetadataMatcher::new);
    let filter_state = cx.list("filter_state", &spec.filter_state, FilterStateMatcher::new);
    Some(Conditions {
        runtime: spec.runtime_fraction.clone(),
        grpc: spec.grpc,
        connect: matches!(spec.path, PathSpec::Connect),
        tls: spec.tls_context.unwrap_or_default(),
        headers: headers?,
        query: query?,
        cookies: cookies?,
        metadata: metadata?,
        filter_state: filter_state?,
    })
}
