//! `location` of redirects and direct responses.

use super::*;
use crate::spec::{RedirectCode, RedirectPathSpec, RedirectSpec, SchemeRedirectSpec};
use crate::{Action, tls_redirect_location};
use nuncio_matcher::SubstitutionSpec;

fn location(matched: PathSpec, redirect: RedirectSpec, host: &str, path: &str) -> (u16, String) {
    let mut matching = RouteMatchSpec::new(matched);
    matching.case_sensitive = false;
    let table = one_host(vec![RouteSpec::new(matching, ActionSpec::Redirect(redirect))]);
    let mut headers = request(host, path, &["x-a: q"]);
    let route = route(&table, &headers).clone();
    let (status, location) = with_context(|cx| route.redirect(&mut headers, cx, true)).unwrap();
    (status, String::from_utf8(location).unwrap())
}

fn check(redirect: RedirectSpec, host: &str, path: &str, expected: &str) {
    assert_eq!(location(prefix("/p"), redirect, host, path).1, expected);
}

fn path(text: &str) -> RedirectSpec {
    RedirectSpec { path: Some(RedirectPathSpec::Path(text.to_owned())), ..Default::default() }
}

#[test]
fn schemes_hosts_and_ports() {
    let https = || RedirectSpec { scheme: Some(SchemeRedirectSpec::Https), ..Default::default() };
    check(https(), "h", "/p?y", "https://h/p?y");
    check(https(), "h:80", "/p?y", "https://h/p?y");
    check(https(), "h:8080", "/p?y", "https://h:8080/p?y");
    check(https(), "h:443", "/p?y", "https://h:443/p?y");
    check(https(), "[::1]:80", "/p?y", "https://[::1]/p?y");
    check(https(), "[::1]", "/p?y", "https://[::1]/p?y");
    let ftp = || RedirectSpec { scheme: Some(SchemeRedirectSpec::Scheme("ftp".to_owned())), ..Default::default() };
    check(ftp(), "h:80", "/p?y", "ftp://h/p?y");
    let host = |text: &str| RedirectSpec { host_redirect: text.to_owned(), ..Default::default() };
    check(host("new"), "h:80", "/p?y", "http://new/p?y");
    check(host("new:99"), "h:80", "/p?y", "http://new:99/p?y");
    let port = |port_redirect| RedirectSpec { port_redirect, ..Default::default() };
    check(port(8080), "h:80", "/p?y", "http://h:8080/p?y");
    check(port(8080), "h", "/p?y", "http://h:8080/p?y");
    check(RedirectSpec { port_redirect: 8443, ..https() }, "h:80", "/p", "https://h:8443/p");
    check(RedirectSpec { port_redirect: 443, ..https() }, "h:80", "/p", "https://h:443/p");
    check(RedirectSpec { port_redirect: 8080, ..path("/pp") }, "h:1234", "/p?y", "http://h:8080/pp?y");
    check(RedirectSpec::default(), "h:80", "/p?y", "http://h:80/p?y");
}

#[test]
fn paths_and_queries() {
    check(path("/pp"), "h:80", "/p?y", "http://h:80/pp?y");
    check(path("/pp"), "h:80", "/p", "http://h:80/pp");
    check(path("/pp?z=1"), "h:80", "/p?y", "http://h:80/pp?z=1");
    check(RedirectSpec { strip_query: true, ..path("/pp?z=1") }, "h:80", "/p?y", "http://h:80/pp?z=1");
    check(RedirectSpec { strip_query: true, ..path("/pp") }, "h:80", "/p?y", "http://h:80/pp");
    check(RedirectSpec { strip_query: true, ..Default::default() }, "h:80", "/p?y", "http://h:80/p");
    check(path("noslash"), "h:80", "/p?y", "http://h:80/noslash?y");
    let new = || RedirectSpec { path: Some(RedirectPathSpec::Prefix("/NEW".to_owned())), ..Default::default() };
    check(new(), "h:80", "/px?y", "http://h:80/NEWx?y");
    assert_eq!(location(exact("/exact"), new(), "h:80", "/EXACT?y").1, "http://h:80/NEW?y");
    assert_eq!(location(regex("/rx/.*"), new(), "h:80", "/rx/a/b?y").1, "http://h:80/NEW?y");
    let pattern = "^/p/([a-z]+)/(.*)$".into();
    let by = SubstitutionSpec { pattern, substitution: r"/\2/\1?a".to_owned() };
    let by = || RedirectSpec { path: Some(RedirectPathSpec::Regex(by.clone())), ..Default::default() };
    check(by(), "h:80", "/p/abc/def?y", "http://h:80/def/abc?a?y");
    check(by(), "h:80", "/p/123?y", "http://h:80/p/123?y");
    let format =
        |text: &str| RedirectSpec { path: Some(RedirectPathSpec::Format(text.to_owned())), ..Default::default() };
    check(format("/v/%REQ(x-a)%"), "h:80", "/p?y", "http://h:80/v/q?y");
    check(format("/v/%REQ(none)%"), "h:80", "/p?y", "http://h:80/v/?y");
}

#[test]
fn codes() {
    for (response_code, expected) in [
        (RedirectCode::MovedPermanently, 301),
        (RedirectCode::Found, 302),
        (RedirectCode::SeeOther, 303),
        (RedirectCode::TemporaryRedirect, 307),
        (RedirectCode::PermanentRedirect, 308),
    ] {
        let redirect = RedirectSpec { response_code, ..Default::default() };
        assert_eq!(location(prefix("/"), redirect, "h", "/").0, expected);
    }
}

#[test]
fn the_request_is_rewritten_on_the_way() {
    let redirect = RedirectSpec { path: Some(RedirectPathSpec::Prefix("/NEW".to_owned())), ..Default::default() };
    let table = one_host(vec![RouteSpec::new(RouteMatchSpec::new(prefix("/p")), ActionSpec::Redirect(redirect))]);
    let mut headers = request("h", "/p?y", &[]);
    let route = route(&table, &headers).clone();
    with_context(|cx| route.redirect(&mut headers, cx, true)).unwrap();
    assert_eq!(dump(&headers), ":path: /NEW?y|:authority: h|x-envoy-original-path: /p?y");
}

#[test]
fn direct_responses_point_to_themselves() {
    for (status, expected) in [
        (200, None),
        (201, Some("http://h:80/x?y")),
        (204, None),
        (301, Some("http://h:80/x?y")),
        (304, Some("http://h:80/x?y")),
        (404, None),
    ] {
        let response = DirectResponseSpec { status, body: Arc::from(&b""[..]), body_format: None };
        let table =
            one_host(vec![RouteSpec::new(RouteMatchSpec::new(prefix("/")), ActionSpec::DirectResponse(response))]);
        let headers = request("h:80", "/x?y", &[]);
        let Action::DirectResponse(response) = route(&table, &headers).action() else { panic!() };
        let actual = response.location(&headers).map(|location| String::from_utf8(location).unwrap());
        assert_eq!(actual.as_deref(), expected, "{status}");
    }
}

#[test]
fn required_tls() {
    for host in ["tls", "tls:80"] {
        let expected = format!("https://{host}/a?b");
        assert_eq!(tls_redirect_location(&request(host, "/a?b", &[])), expected.as_bytes());
    }
}
