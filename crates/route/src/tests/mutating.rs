//! Header mutations of all levels.

use super::*;
use crate::spec::AppendAction::{self, *};
use crate::spec::{
    ClusterSpecifierSpec, ClusterWeightSpec, HeaderMutationsSpec, HeaderValueOptionSpec, WeightedClustersSpec,
};

/// `add` entries as (name, value, action); `remove` as names.
fn mutations(add: &[(&str, &str, AppendAction)], remove: &[&str]) -> HeaderMutationsSpec {
    let option = |(name, value, action): &(&str, &str, AppendAction)| HeaderValueOptionSpec {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
        append_action: *action,
        keep_empty_value: false,
    };
    HeaderMutationsSpec {
        add: add.iter().map(option).collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// What a route's own request mutations make of the given header lines.
fn check(add: &[(&str, &str, AppendAction)], remove: &[&str], lines: &[&str], expected: &str) {
    let mut spec = forward(prefix("/"), |_| {});
    spec.request_headers = mutations(add, remove);
    let table = one_host(vec![spec]);
    let mut headers = request("h", "/p", lines);
    let route = route(&table, &headers).clone();
    with_context(|cx| route.mutate_request(None, &mut headers, cx));
    assert_eq!(dump(&headers), format!(":path: /p|:authority: h{expected}"), "{add:?} {remove:?} {lines:?}");
}

#[test]
fn actions() {
    check(&[("x", "1", AppendIfExistsOrAdd)], &[], &["x: 0"], "|x: 0|x: 1");
    check(&[("x", "1", AppendIfExistsOrAdd)], &[], &[], "|x: 1");
    check(&[("x", "1", AddIfAbsent)], &[], &["x: 0"], "|x: 0");
    check(&[("x", "1", AddIfAbsent)], &[], &[], "|x: 1");
    check(&[("x", "1", OverwriteIfExistsOrAdd)], &[], &["x: 0", "x: 2"], "|x: 1");
    check(&[("x", "1", OverwriteIfExistsOrAdd)], &[], &[], "|x: 1");
    check(&[("x", "1", OverwriteIfExists)], &[], &["x: 0"], "|x: 1");
    check(&[("x", "1", OverwriteIfExists)], &[], &[], "");
    check(&[], &["X-Y"], &["x-y: 0", "x-y: 2", "z: 1"], "|z: 1");
    check(&[("x", "1", AppendIfExistsOrAdd)], &["x"], &["x: 0"], "|x: 1");
    check(&[("x", "1", OverwriteIfExists)], &["x"], &["x: 0"], "");
}

#[test]
fn values_see_the_headers_before_any_of_the_level_is_set() {
    check(
        &[
            ("a", "first", AppendIfExistsOrAdd),
            ("a", "second", OverwriteIfExistsOrAdd),
            ("c", "%REQ(a)%", AppendIfExistsOrAdd),
        ],
        &[],
        &["a: in"],
        "|a: second|a: first|c: in",
    );
    check(&[("b", "one", AddIfAbsent), ("b", "two", AddIfAbsent)], &[], &[], "|b: one|b: two");
    check(&[("b", "%REQ(:path)%-%REQ(gone)%", AddIfAbsent)], &["gone"], &["gone: x"], "|b: /p-");
}

#[test]
fn empty_values_are_left_out_unless_kept() {
    check(&[("x", "%REQ(none)%", AppendIfExistsOrAdd), ("y", "", AppendIfExistsOrAdd)], &[], &[], "");
    check(&[("x", "%REQ(none)%", OverwriteIfExistsOrAdd)], &[], &["x: 0"], "|x: 0");
    check(&[("x", "a%REQ(none)%b", AppendIfExistsOrAdd), ("y", "100%%", AddIfAbsent)], &[], &[], "|x: ab|y: 100%");
    let mut spec = forward(prefix("/"), |_| {});
    spec.request_headers = mutations(&[("x", "%REQ(none)%", AppendIfExistsOrAdd), ("y", "", AddIfAbsent)], &[]);
    for option in &mut spec.request_headers.add {
        option.keep_empty_value = true;
    }
    let table = one_host(vec![spec]);
    let mut headers = request("h", "/p", &[]);
    let route = route(&table, &headers).clone();
    with_context(|cx| route.mutate_request(None, &mut headers, cx));
    assert_eq!(dump(&headers), ":path: /p|:authority: h|x: |y: ");
}

#[test]
fn inline_headers_are_joined() {
    check(&[("user-agent", "b", AppendIfExistsOrAdd)], &[], &["user-agent: a"], "|user-agent: a,b");
    check(&[("user-agent", "b", AppendIfExistsOrAdd)], &[], &[], "|user-agent: b");
    check(&[("cookie", "b=2", AppendIfExistsOrAdd)], &[], &["cookie: a=1"], "|cookie: a=1|cookie: b=2");
    check(&[("vary", "b", AppendIfExistsOrAdd)], &[], &["vary: a"], "|vary: a|vary: b");
    let mut spec = forward(prefix("/"), |_| {});
    spec.response_headers =
        mutations(&[("vary", "b", AppendIfExistsOrAdd), ("user-agent", "b", AppendIfExistsOrAdd)], &[]);
    let table = one_host(vec![spec]);
    let mut response = headers(&[":status: 200", "vary: a", "user-agent: a"]);
    let route = route(&table, &request("h", "/", &[])).clone();
    with_context(|cx| route.mutate_response(None, &mut response, cx));
    assert_eq!(dump(&response), ":status: 200|vary: a,b|user-agent: a|user-agent: b");
}

#[test]
fn levels_and_their_order() {
    let level =
        |name: &str| mutations(&[("order", name, AppendIfExistsOrAdd), ("last", name, OverwriteIfExistsOrAdd)], &[]);
    for (most_specific_header_mutations_wins, expected) in [
        (false, "order: wc|order: rt|order: vh|last: rc|order: rc"),
        (true, "order: wc|order: rc|order: vh|last: rt|order: rt"),
    ] {
        let cluster = ClusterWeightSpec {
            name: "c".to_owned(),
            weight: Some(1),
            request_headers: level("wc"),
            response_headers: level("wc"),
            ..Default::default()
        };
        let weighted = WeightedClustersSpec { clusters: vec![cluster], ..Default::default() };
        let mut spec = forward(prefix("/"), |action| action.cluster = ClusterSpecifierSpec::Weighted(weighted));
        (spec.request_headers, spec.response_headers) = (level("rt"), level("rt"));
        let mut vhost = host("v", &["*"], vec![spec]);
        (vhost.request_headers, vhost.response_headers) = (level("vh"), level("vh"));
        let table = table(RouteConfigSpec {
            request_headers: level("rc"),
            response_headers: level("rc"),
            most_specific_header_mutations_wins,
            ..config(vec![vhost])
        });
        let mut sent = request("h", "/", &[]);
        let route = route(&table, &sent).clone();
        let entry = route.forward().unwrap().choose_cluster(&query(&sent), None).unwrap().entry;
        with_context(|cx| route.mutate_request(entry, &mut sent, cx));
        assert_eq!(dump(&sent), format!(":path: /|:authority: h|{expected}"));
        let mut response = HeaderMap::new();
        with_context(|cx| route.mutate_response(entry, &mut response, cx));
        assert_eq!(dump(&response), expected);
    }
}

#[test]
fn responses_see_the_request_too() {
    let mut spec = forward(prefix("/"), |_| {});
    spec.response_headers = mutations(&[("x", "%REQ(a)%/%RESP(b)%", AppendIfExistsOrAdd)], &[]);
    let table = one_host(vec![spec]);
    let sent = request("h", "/", &["a: 1"]);
    let route = route(&table, &sent).clone();
    let mut response = headers(&["b: 2"]);
    with_context(|cx| route.mutate_response(None, &mut response, &LogContext { request: Some(&sent), ..*cx }));
    assert_eq!(dump(&response), "b: 2|x: 1/2");
}

#[test]
fn a_value_can_not_split_the_message() {
    let mut spec = forward(prefix("/"), |_| {});
    spec.response_headers = mutations(&[("x", "%REQ(a)%", AppendIfExistsOrAdd)], &[]);
    let table = one_host(vec![spec]);
    let mut sent = request("h", "/", &[]);
    sent.append(&HeaderName::new("a").unwrap(), b"1\r\nevil: 1");
    let route = route(&table, &sent).clone();
    let mut response = HeaderMap::new();
    with_context(|cx| route.mutate_response(None, &mut response, &LogContext { request: Some(&sent), ..*cx }));
    assert_eq!(response.len(), 1);
    assert!(!response.iter().any(|(_, value)| value.contains(&b'\n')));
}
