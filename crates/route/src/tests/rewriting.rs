//! Path and host rewrites.

use super::*;
use crate::spec::{HostRewriteSpec, PathRewriteSpec};
use crate::{HostUpdate, set_host};
use nuncio_matcher::SubstitutionSpec;

fn substitution(pattern: &str, substitution: &str) -> SubstitutionSpec {
    SubstitutionSpec { pattern: pattern.into(), substitution: substitution.to_owned() }
}

fn rewritten(spec: RouteSpec, headers: &mut HeaderMap, keep_original: bool) {
    let table = one_host(vec![spec]);
    let route = route(&table, headers).clone();
    with_context(|cx| route.rewrite(headers, cx, keep_original));
}

#[test]
fn paths() {
    let check = |matched: PathSpec, rewrite: PathRewriteSpec, path: &str, expected: &str| {
        let mut spec = forward(matched, |action| action.path_rewrite = Some(rewrite));
        if let ActionSpec::Route(_) = &spec.action {
            spec.matching.case_sensitive = false;
        }
        let mut headers = request("h", path, &["x-a: v"]);
        rewritten(spec, &mut headers, true);
        let original = format!("|x-envoy-original-path: {path}");
        let original = if expected.starts_with('=') { String::new() } else { original };
        let expected = expected.trim_start_matches('=');
        assert_eq!(dump(&headers), format!(":path: {expected}|:authority: h|x-a: v{original}"), "{path}");
    };
    let to = |text: &str| PathRewriteSpec::Prefix(text.to_owned());
    check(prefix("/pr/"), to("/x%2f/"), "/pr/a/b?c=d", "/x%2f/a/b?c=d");
    check(prefix("/root"), to("/"), "/root/abc?c=d", "//abc?c=d");
    check(prefix("/root/"), to("/"), "/root/abc", "/abc");
    check(exact("/ex"), to("/exact-new"), "/EX?c=d", "/exact-new?c=d");
    check(regex("/re/.*"), to("/re-new"), "/re/abc?c=d", "/re-new?c=d");
    check(PathSpec::PathSeparatedPrefix("/sep".to_owned()), to("/S"), "/sep/abc?c=d", "/S/abc?c=d");
    check(PathSpec::PathSeparatedPrefix("/sep".to_owned()), to("/S"), "/sep?c=d", "/S?c=d");
    check(prefix("/"), to(""), "/a", "=/a");
    let by = |pattern: &str, text: &str| PathRewriteSpec::Regex(substitution(pattern, text));
    check(prefix("/rr"), by("^/rr/([0-9]+)(.*)$", r"/\1\2/z"), "/rr/12/abc?c=d", "/12/abc/z?c=d");
    check(prefix("/rr"), by("^/rr/([0-9]+)(.*)$", r"/\1\2/z"), "/rr/xx?c=d", "/rr/xx?c=d");
    check(prefix("/"), by("a", r"[\1]"), "/badsub", "/badsub");
    check(prefix("/"), by("[ab]", r"<\0\\>"), "/grp0ab?ab", r"/grp0<a\><b\>?ab");
    let template = |text: &str| PathSpec::UriTemplate(text.to_owned());
    let as_template = |text: &str| PathRewriteSpec::UriTemplate(text.to_owned());
    check(template("/rw/{a}/{b=**}"), as_template("/{b}/x/{a}"), "/rw/1/2/3?q", "/2/3/x/1?q");
    let format = |text: &str| PathRewriteSpec::Format(text.to_owned());
    check(prefix("/"), format("/f/%REQ(x-a)%"), "/fmt/abc?c=d", "/f/v?c=d");
    check(prefix("/"), format("/f/%REQ(none)%"), "/fmt/abc?c=d", "/f/?c=d");
    check(prefix("/"), format("%REQ(none)%"), "/fmt/abc?c=d", "=/fmt/abc?c=d");
}

#[test]
fn a_path_that_does_not_start_with_what_matched_stays() {
    let spec = RouteConfigSpec {
        ignore_path_parameters_in_path_matching: true,
        ..config(vec![host(
            "v",
            &["*"],
            vec![forward(prefix("/w/q"), |action| {
                action.path_rewrite = Some(PathRewriteSpec::Prefix("/N".to_owned()));
            })],
        )])
    };
    let table = table(spec);
    for (path, expected) in [("/w;1/q;2/r;3?a;b", "/w;1/q;2/r;3?a;b"), ("/w/q;x/a?q", "/N;x/a?q")] {
        let mut headers = request("h", path, &[]);
        let route = route(&table, &headers).clone();
        with_context(|cx| route.rewrite(&mut headers, cx, false));
        assert_eq!(dump(&headers), format!(":path: {expected}|:authority: h"));
    }
}

#[test]
fn hosts() {
    let check = |rewrite: HostRewriteSpec, append: bool, more: &[&str], expected: &str| {
        let spec = forward(prefix("/"), |action| {
            action.host_rewrite = Some(rewrite);
            action.append_x_forwarded_host = append;
        });
        let mut headers = request("h", "/prx/some.host/x?y", more);
        rewritten(spec, &mut headers, true);
        assert_eq!(dump(&headers), format!(":path: /prx/some.host/x?y|{expected}"), "{more:?}");
    };
    let literal = || HostRewriteSpec::Literal("lit.host".to_owned());
    check(literal(), false, &[], ":authority: lit.host|x-envoy-original-host: h");
    check(literal(), true, &[], ":authority: lit.host|x-forwarded-host: h|x-envoy-original-host: h");
    check(
        literal(),
        true,
        &["x-forwarded-host: g"],
        ":authority: lit.host|x-forwarded-host: g,h|x-envoy-original-host: h",
    );
    check(
        literal(),
        true,
        &["x-forwarded-host: g, h"],
        ":authority: lit.host|x-forwarded-host: g, h|x-envoy-original-host: h",
    );
    let header = || HostRewriteSpec::Header("x-b".to_owned());
    check(header(), false, &["x-b: b", "x-b: c"], ":authority: b|x-b: b|x-b: c|x-envoy-original-host: h");
    check(header(), true, &[], ":authority: h");
    let by = HostRewriteSpec::PathRegex(substitution("^/prx/([^/]+).*$", r"\1"));
    check(by, false, &[], ":authority: some.host|x-envoy-original-host: h");
    check(HostRewriteSpec::Auto, true, &[], ":authority: h");
    let format = || HostRewriteSpec::Format("p-%REQ(x-b)%".to_owned());
    check(format(), false, &["x-b: w"], ":authority: p-w|x-b: w|x-envoy-original-host: h");
    check(format(), false, &[], ":authority: p--|x-envoy-original-host: h");
}

#[test]
fn originals_can_be_left_out() {
    let spec = forward(prefix("/a"), |action| {
        action.path_rewrite = Some(PathRewriteSpec::Prefix("/b".to_owned()));
        action.host_rewrite = Some(HostRewriteSpec::Literal("new".to_owned()));
    });
    let mut headers = request("h", "/a", &[]);
    rewritten(spec, &mut headers, false);
    assert_eq!(dump(&headers), ":path: /b|:authority: new");
}

#[test]
fn the_host_of_the_endpoint() {
    let table = one_host(vec![forward(prefix("/"), |action| action.host_rewrite = Some(HostRewriteSpec::Auto))]);
    let mut headers = request("h", "/", &["x-forwarded-host: h"]);
    assert!(route(&table, &headers).forward().unwrap().auto_host_rewrite());
    set_host(&mut headers, b"d.host", HostUpdate { append_x_forwarded_host: true, keep_original: true });
    assert_eq!(dump(&headers), ":path: /|:authority: d.host|x-forwarded-host: h|x-envoy-original-host: h");
}
