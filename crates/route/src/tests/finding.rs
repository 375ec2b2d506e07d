//! Which route is found.

use super::*;
use crate::spec::{
    FilterStateMatchSpec, FilterStateMatcherSpec, RequireTls, RouteInput, TlsContextMatch, VirtualClusterSpec,
};
use nuncio_matcher::{
    CidrRange, CookieMatcherSpec, FractionalPercent, HeaderMatchSpec, HeaderMatcherSpec, MetadataMatcherSpec,
    QueryMatchSpec, QueryParameterMatcherSpec, RuntimeFractionalPercent, RuntimeLookup, StringMatcherSpec,
    ValueMatcherSpec,
};
use nuncio_matcher::{MatchMap, MatchNode, MatchTree, OnMatch, PrefixMap};
use nuncio_stats::Store;
use nuncio_stream_info::{LifeSpan, Mutability, PlainString, Sharing, Struct};
use std::collections::HashMap;

fn matching(path: PathSpec, change: impl FnOnce(&mut RouteMatchSpec)) -> RouteMatchSpec {
    let mut matching = RouteMatchSpec::new(path);
    change(&mut matching);
    matching
}

#[test]
fn paths_in_the_order_of_the_configuration() {
    let separated = |path: &str| PathSpec::PathSeparatedPrefix(path.to_owned());
    let insensitive = |path: PathSpec| matching(path, |m| m.case_sensitive = false);
    let table = one_host(vec![
        answer("sep", RouteMatchSpec::new(separated("/sep"))),
        answer("sepi", insensitive(separated("/SEPI"))),
        answer("exact", RouteMatchSpec::new(exact("/exact"))),
        answer("exacti", insensitive(exact("/EXACTI"))),
        answer("re", RouteMatchSpec::new(regex("/re/[^/]*"))),
        answer("never", RouteMatchSpec::new(exact("/re/a"))),
        answer("template", RouteMatchSpec::new(PathSpec::UriTemplate("/t/{x}".to_owned()))),
        answer("star", RouteMatchSpec::new(regex(".*/star"))),
        answer("root", RouteMatchSpec::new(prefix("/"))),
        answer("any", RouteMatchSpec::new(prefix(""))),
    ]);
    for (path, expected) in [
        ("/sep", "sep"),
        ("/sep/", "sep"),
        ("/sep/a", "sep"),
        ("/sep?a", "sep"),
        ("/sepa", "root"),
        ("/SEP", "root"),
        ("/sepi/x", "sepi"),
        ("/exact", "exact"),
        ("/exact?a", "exact"),
        ("/exact#a", "exact"),
        ("/exact/", "root"),
        ("/exact;a", "root"),
        ("/exact%20", "root"),
        ("/exact/.", "root"),
        ("/Exact", "root"),
        ("/exacti", "exacti"),
        ("/re/a", "re"),
        ("/re/a?b/c", "re"),
        ("/re/a/b", "root"),
        ("/re/", "re"),
        ("/re/%2f", "re"),
        ("/t/a", "template"),
        ("/t/a/b", "root"),
        ("/a/b/star", "star"),
        ("*", "any"),
        ("", "any"),
    ] {
        assert_eq!(found(&table, &request("h", path, &[])), expected, "{path}");
    }
}

/// Spellings of `/admin` that a rule on `/admin` does not see. As in Envoy it is path normalisation, before routing, that
/// makes them equal; routing itself must be predictable: nothing is decoded, nothing but query and fragment is cut.
#[test]
fn spellings_of_a_path_are_different_paths() {
    let table = one_host(vec![
        answer("admin", RouteMatchSpec::new(exact("/admin"))),
        answer("below", RouteMatchSpec::new(prefix("/admin/"))),
        answer("root", RouteMatchSpec::new(prefix("/"))),
    ]);
    for (path, expected) in [
        ("/admin", "admin"),
        ("/admin?", "admin"),
        ("/admin#", "admin"),
        ("/admin?x=/../y", "admin"),
        ("/admin/", "below"),
        ("/admin/../other", "below"),
        ("//admin", "root"),
        ("/./admin", "root"),
        ("/x/../admin", "root"),
        ("/%61dmin", "root"),
        ("/admin%2f", "root"),
        ("/admin%3f", "root"),
        ("/admin%23", "root"),
        ("/admin;", "root"),
        ("/admin%00", "root"),
        ("/ADMIN", "root"),
        ("\\admin", "-"),
        ("/\\admin", "root"),
        ("admin", "-"),
    ] {
        assert_eq!(found(&table, &request("h", path, &[])), expected, "{path}");
    }
}

#[test]
fn path_parameters_can_be_ignored() {
    let spec = RouteConfigSpec {
        ignore_path_parameters_in_path_matching: true,
        ..config(vec![host(
            "v",
            &["*"],
            vec![
                answer("deep", RouteMatchSpec::new(exact("/zz/b"))),
                answer("exact", RouteMatchSpec::new(exact("/zz"))),
                answer("prefix", RouteMatchSpec::new(prefix("/p/q/r"))),
                answer("re", RouteMatchSpec::new(regex("/pr"))),
                answer("never", RouteMatchSpec::new(prefix("/x;y"))),
                answer("template", RouteMatchSpec::new(PathSpec::UriTemplate("/t/{x}".to_owned()))),
            ],
        )])
    };
    let table = table(spec);
    for (path, expected) in [
        ("/zz;a/b", "deep"),
        ("/zz;a", "exact"),
        ("/zz;a;b=c;/b;c?x;y", "deep"),
        ("/zz?a;x", "exact"),
        ("/zz/;c", "-"),
        ("/p;1/q;2/r;3/s;4", "prefix"),
        ("/p;1/q;2/;3", "-"),
        ("/pr;x", "re"),
        ("/x;y", "-"),
        ("/t/a;b", "template"),
        ("/t/a;b/c", "-"),
        ("/t;a/b", "-"),
    ] {
        assert_eq!(found(&table, &request("h", path, &[])), expected, "{path}");
    }
    let warnings: Vec<_> = table.warnings().iter().map(|w| w.path.as_str()).collect();
    assert_eq!(warnings, ["virtual_hosts[0].routes[4].match.prefix"]);
}

#[test]
fn conditions() {
    let on = |name: &str, change: fn(&mut RouteMatchSpec)| answer(name, matching(prefix("/"), change));
    let table = one_host(vec![
        on("header", |m| {
            let kind = HeaderMatchSpec::StringMatch(StringMatcherSpec::exact("1"));
            m.headers = vec![HeaderMatcherSpec { name: "x-a".to_owned(), kind, ..Default::default() }];
        }),
        on("query", |m| {
            let kind = QueryMatchSpec::StringMatch(StringMatcherSpec::exact("1"));
            m.query_parameters = vec![QueryParameterMatcherSpec { name: "q".to_owned(), kind }];
        }),
        on("cookie", |m| {
            let string_match = StringMatcherSpec::exact("1");
            m.cookies = vec![CookieMatcherSpec { name: "c".to_owned(), string_match, invert_match: false }];
        }),
        on("grpc", |m| m.grpc = true),
        on("method", |m| {
            let kind = HeaderMatchSpec::StringMatch(StringMatcherSpec::exact("h2"));
            m.headers = vec![HeaderMatcherSpec { name: "host".to_owned(), kind, ..Default::default() }];
        }),
        on("none", |_| {}),
    ]);
    for (host, path, more, expected) in [
        ("h", "/", &["x-a: 1"][..], "header"),
        ("h", "/", &["x-a: 2", "x-a: 1"], "header"),
        ("h", "/", &["x-a: 1, 2"], "none"),
        ("h", "/?q=1", &[], "query"),
        ("h", "/?q=2&q=1", &[], "none"),
        ("h", "/?q=1", &["x-a: 1"], "header"),
        ("h", "/", &["cookie: b=2; c=1"], "cookie"),
        ("h", "/", &["content-type: application/grpc"], "grpc"),
        ("h", "/", &["content-type: application/grpc+json"], "grpc"),
        ("h", "/", &["content-type: application/grpc-web"], "none"),
        ("h", "/", &["content-type: application/grpc;a"], "none"),
        ("h", "/", &["content-type: Application/grpc"], "none"),
        ("h2", "/", &[], "method"),
        ("h", "/", &[], "none"),
    ] {
        assert_eq!(found(&table, &request(host, path, more)), expected, "{host}{path} {more:?}");
    }
}

#[test]
fn runtime_fractions_use_the_random_number_of_the_stream() {
    struct Half;
    impl RuntimeLookup for Half {
        fn text(&self, key: &str) -> Option<&str> {
            (key == "half").then_some("50")
        }
    }
    let fraction = |numerator: u32, key: &str| {
        let default_value = FractionalPercent::percent(numerator);
        Some(RuntimeFractionalPercent { default_value, runtime_key: key.into() })
    };
    let table = one_host(vec![
        answer("a", matching(prefix("/"), |m| m.runtime_fraction = fraction(10, "other"))),
        answer("b", matching(prefix("/"), |m| m.runtime_fraction = fraction(0, "half"))),
        answer("c", RouteMatchSpec::new(prefix("/"))),
    ]);
    let headers = request("h", "/", &[]);
    for (random, expected) in [(0, "a"), (9, "a"), (10, "b"), (49, "b"), (50, "c"), (109, "a")] {
        assert_eq!(found_by(&table, &RouteQuery { random, runtime: &Half, ..query(&headers) }), expected, "{random}");
    }
}

#[test]
fn certificates() {
    let context = |presented, validated| Some(TlsContextMatch { presented, validated });
    let table = one_host(vec![
        answer("valid", matching(prefix("/"), |m| m.tls_context = context(Some(true), Some(true)))),
        answer("given", matching(prefix("/"), |m| m.tls_context = context(Some(true), None))),
        answer("none", matching(prefix("/"), |m| m.tls_context = context(Some(false), Some(false)))),
    ]);
    let headers = request("h", "/", &[]);
    for (presented, validated, expected) in [(true, true, "valid"), (true, false, "given"), (false, false, "none")] {
        let peer_certificate = PeerCertificate { presented, validated };
        assert_eq!(found_by(&table, &RouteQuery { peer_certificate, ..query(&headers) }), expected);
    }
}

#[test]
fn metadata_and_filter_state() {
    let by_metadata = MetadataMatcherSpec {
        filter: "jwt".to_owned(),
        path: vec!["iss".to_owned()],
        value: ValueMatcherSpec::String(StringMatcherSpec::exact("me")),
        invert: false,
    };
    let state = |matcher| vec![FilterStateMatcherSpec { key: "k".to_owned(), matcher }];
    let ranges = vec![CidrRange::parse("10.0.0.0", 8).unwrap()];
    let address = FilterStateMatchSpec::Address { ranges, invert: false };
    let table = one_host(vec![
        answer("metadata", matching(prefix("/"), |m| m.dynamic_metadata = vec![by_metadata])),
        answer("address", matching(prefix("/"), |m| m.filter_state = state(address))),
        answer(
            "text",
            matching(prefix("/"), |m| {
                m.filter_state = state(FilterStateMatchSpec::String(StringMatcherSpec::exact("v")));
            }),
        ),
        answer("none", RouteMatchSpec::new(prefix("/"))),
    ]);
    let headers = request("h", "/", &[]);
    let check = |issuer: Option<&str>, object: Option<&str>, expected: &str| {
        let mut info = StreamInfo::new(Instant::now(), SystemTime::UNIX_EPOCH);
        if let Some(issuer) = issuer {
            info.set_dynamic_metadata("jwt", Struct::from_iter([("iss", issuer)]));
        }
        if let Some(object) = object {
            let object = Arc::new(PlainString(object.into()));
            let state = &mut info.filter_state;
            state.set("k", object, Mutability::ReadOnly, LifeSpan::Request, Sharing::None).unwrap();
        }
        assert_eq!(found_by(&table, &RouteQuery { info: Some(&info), ..query(&headers) }), expected);
    };
    check(Some("me"), None, "metadata");
    check(Some("you"), None, "none");
    check(None, Some("10.1.2.3"), "address");
    check(None, Some("11.1.2.3"), "none");
    check(None, Some("v"), "text");
    assert_eq!(found(&table, &headers), "none");
}

#[test]
fn virtual_hosts_ports_and_other_headers() {
    let hosts = || {
        let any = || vec![answer("x", RouteMatchSpec::new(prefix("/")))];
        vec![
            host("exact", &["a.com", "b.com:80"], any()),
            host("suffix", &["*.a.com"], any()),
            host("any", &["*"], any()),
        ]
    };
    let name = |table: &RouteTable, headers: &HeaderMap| match table.find(&query(headers)) {
        Outcome::Route(route) => route.virtual_host().name().to_string(),
        _ => "-".to_owned(),
    };
    let plain = table(config(hosts()));
    let portless = table(RouteConfigSpec { ignore_port_in_host_matching: true, ..config(hosts()) });
    for (host, with_port, without) in [
        ("a.com", "exact", "exact"),
        ("A.COM", "exact", "exact"),
        ("a.com:80", "any", "exact"),
        ("b.com:80", "exact", "any"),
        ("x.a.com", "suffix", "suffix"),
        ("x.a.com:1", "any", "suffix"),
        ("other", "any", "any"),
    ] {
        assert_eq!(name(&plain, &request(host, "/", &[])), with_port, "{host}");
        assert_eq!(name(&portless, &request(host, "/", &[])), without, "{host}");
    }
    let by_header = table(RouteConfigSpec { vhost_header: "X-Vh".to_owned(), ..config(hosts()) });
    assert_eq!(name(&by_header, &request("other", "/", &["x-vh: A.com", "x-vh: z"])), "exact");
    assert_eq!(name(&by_header, &request("a.com", "/", &["x-vh: q"])), "any");
    assert_eq!(name(&by_header, &request("a.com", "/", &[])), "-");
    assert_eq!(name(&plain, &headers(&[":path: /"])), "-");
    let only_any = one_host(vec![answer("x", RouteMatchSpec::new(prefix("/")))]);
    assert_eq!(name(&only_any, &headers(&[":path: /"])), "v");
}

#[test]
fn tls_can_be_required() {
    let required = |domain: &str, require_tls| {
        let routes = vec![answer(domain, RouteMatchSpec::new(prefix("/")))];
        VirtualHostSpec { require_tls, ..host(domain, &[domain], routes) }
    };
    let table = table(config(vec![
        required("none", RequireTls::None),
        required("external", RequireTls::ExternalOnly),
        required("all", RequireTls::All),
    ]));
    let check = |host: &str, more: &[&str], expected: &str| {
        let lines = [&[":path: /", host], more].concat();
        assert_eq!(found(&table, &headers(&lines)), expected, "{lines:?}");
    };
    check(":authority: none", &["x-forwarded-proto: http"], "none");
    check(":authority: external", &["x-forwarded-proto: http"], "!");
    check(":authority: external", &["x-forwarded-proto: http", "x-envoy-internal: true"], "external");
    check(":authority: external", &["x-forwarded-proto: https"], "external");
    check(":authority: all", &["x-forwarded-proto: http", "x-envoy-internal: true"], "!");
    check(":authority: all", &["x-forwarded-proto: https"], "all");
    check(":authority: all", &[], "!");
}

#[test]
fn connect_requests() {
    let table = one_host(vec![
        answer("prefix", RouteMatchSpec::new(prefix("/a"))),
        answer("connect", RouteMatchSpec::new(PathSpec::Connect)),
        answer("root", RouteMatchSpec::new(prefix("/"))),
    ]);
    for (lines, expected) in [
        (&[":method: CONNECT", ":authority: h:80"][..], "connect"),
        (&[":method: CONNECT", ":authority: h", ":path: /", ":protocol: websocket"], "connect"),
        (&[":method: CONNECT", ":authority: h", ":path: /a", ":protocol: websocket"], "prefix"),
        (&[":method: GET", ":authority: h", ":path: /"], "root"),
        (&[":method: GET", ":authority: h", ":path: /", "upgrade: connect-udp"], "connect"),
        (&[":method: GET", ":authority: h"], "-"),
    ] {
        assert_eq!(found(&table, &headers(lines)), expected, "{lines:?}");
    }
}

/// Every kind of path under many others: the outcome is that of trying one after the other.
#[test]
fn the_index_agrees_with_trying_in_order() {
    let parts = ["", "/", "/a", "/a/", "/a/b", "/ab", "/A", "/b/c"];
    let mut paths = Vec::new();
    for part in parts {
        paths.push((prefix(part), true));
        paths.push((exact(part), true));
        paths.push((prefix(part), false));
        paths.push((regex(&format!("{part}.")), true));
        if part.len() > 1 && !part.ends_with('/') {
            paths.push((PathSpec::PathSeparatedPrefix(part.to_owned()), true));
        }
    }
    // A fixed shuffle, a few times over.
    for step in [7, 11, 13] {
        let count = paths.len();
        let order: Vec<usize> = (0..count).map(|at| at * step % count).collect();
        let spec = |at: &usize| {
            let (path, case_sensitive) = paths[*at].clone();
            RouteMatchSpec { case_sensitive, ..RouteMatchSpec::new(path) }
        };
        let all = one_host(order.iter().map(|at| answer(&at.to_string(), spec(at))).collect());
        let each: Vec<RouteTable> = order.iter().map(|at| one_host(vec![answer(&at.to_string(), spec(at))])).collect();
        for path in ["", "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/A", "/A/B", "/b/c", "/b/cd", "/x", "*"] {
            let headers = request("h", path, &[]);
            let expected = each.iter().map(|one| found(one, &headers)).find(|name| name != "-");
            assert_eq!(found(&all, &headers), expected.unwrap_or_else(|| "-".to_owned()), "{path} step {step}");
        }
    }
}

#[test]
fn a_matcher_leads_to_lists_of_routes() {
    let bytes = |text: &str| Box::<[u8]>::from(text.as_bytes());
    let list = |names: &[(&str, &str)]| {
        let routes = names.iter().map(|(name, path)| answer(name, RouteMatchSpec::new(prefix(path))));
        OnMatch::Action(routes.collect::<Vec<_>>())
    };
    let by_query = MatchTree {
        node: Some(MatchNode::Map(
            RouteInput::QueryParameter("q".to_owned()),
            MatchMap::Prefix(PrefixMap::new([(bytes("x y"), list(&[("query", "/")]))])),
        )),
        on_no_match: None,
    };
    let tree = MatchTree {
        node: Some(MatchNode::Map(
            RouteInput::Header(HeaderName::new("x-k").unwrap()),
            MatchMap::Exact(HashMap::from([
                (bytes("one"), list(&[("a", "/a"), ("b", "/a/b"), ("c", "/c")])),
                (bytes("1,2"), list(&[("both", "/")])),
            ])),
        )),
        on_no_match: Some(OnMatch::Matcher(Box::new(by_query))),
    };
    let spec = VirtualHostSpec { matcher: Some(tree), ..host("v", &["*"], vec![]) };
    let compiled = table(config(vec![spec.clone()]));
    assert_eq!(compiled.routes().count(), 5);
    for (path, more, expected) in [
        ("/a/b", &["x-k: one"][..], "a"),
        ("/c", &["x-k: one"], "c"),
        ("/d", &["x-k: one"], "-"),
        ("/d", &["x-k: 1", "x-k: 2"], "both"),
        ("/d?q=x%20yz", &["x-k: other"], "query"),
        ("/d?q=x", &[], "-"),
    ] {
        assert_eq!(found(&compiled, &request("h", path, more)), expected, "{path} {more:?}");
    }
    let both = VirtualHostSpec { routes: vec![answer("x", RouteMatchSpec::new(prefix("/")))], ..spec };
    assert_eq!(errors(config(vec![both]))[0].message, "cannot set both matcher and routes on virtual host");
}

#[test]
fn virtual_clusters() {
    let cluster = |name: &str, value: &str| VirtualClusterSpec {
        name: name.to_owned(),
        headers: vec![HeaderMatcherSpec {
            name: ":path".to_owned(),
            kind: HeaderMatchSpec::StringMatch(StringMatcherSpec::prefix(value)),
            ..Default::default()
        }],
    };
    let mut spec = host("v", &["*"], vec![answer("x", RouteMatchSpec::new(prefix("/")))]);
    spec.virtual_clusters = vec![cluster("ab", "/a/b"), cluster("a", "/a")];
    let table = table(config(vec![spec]));
    let store = Store::new(1);
    table.register_stats(&store);
    for (path, expected) in [("/a/b", Some("ab")), ("/a/c", Some("a")), ("/x", None)] {
        let headers = request("h", path, &[]);
        let found = route(&table, &headers).virtual_host().virtual_cluster(&headers).unwrap();
        assert_eq!(found.name().map(|name| &**name), expected, "{path}");
        found.stats().unwrap().upstream_rq_total().inc();
    }
    for name in ["ab", "a", "other"] {
        let counted = store.value(&format!("vhost.v.vcluster.{name}.upstream_rq_total"));
        assert_eq!(counted, Some(1), "{name}");
    }
    let bare = one_host(vec![answer("x", RouteMatchSpec::new(prefix("/")))]);
    let headers = request("h", "/", &[]);
    assert!(route(&bare, &headers).virtual_host().virtual_cluster(&headers).is_none());
}
