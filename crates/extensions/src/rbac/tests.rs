use super::engine::{Action, Engine, Policy, Rules};
use super::rule::{Rule, Subject};
use super::stats::PolicyName;
use crate::testing::TestStream;
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{HeaderMatchSpec, HeaderMatcher, HeaderMatcherSpec, PathMatcher, StringMatcherSpec};

fn engine(action: Action, rule: Rule) -> Engine {
    let policy = Policy {
        name: PolicyName::new("p"),
        permissions: Box::new([rule]),
        principals: Box::new([Rule::Any]),
        condition: None,
    };
    Engine::Rules(Rules { action, policies: Box::new([policy]) })
}

fn allows(engine: &Engine, headers: &[(&str, &str)]) -> bool {
    let mut request = HeaderMap::new();
    for (name, value) in headers {
        match *name {
            ":path" => request.append_known(Known::PATH, value.as_bytes()),
            name => request.append(&HeaderName::new(name).unwrap(), value.as_bytes()),
        }
    }
    let test = TestStream::new();
    engine.ask(Subject { headers: Some(&request), info: &test.info, worker: &test.worker }).allowed
}

fn header(name: &str, kind: HeaderMatchSpec) -> Rule {
    let spec = HeaderMatcherSpec { name: name.into(), kind, ..Default::default() };
    Rule::Header(HeaderMatcher::new(&spec).unwrap())
}

/// CVE-2020-25017, CVE-2026-26308: a value among others must not hide from a rule, whatever the order.
#[test]
fn no_value_hides_behind_another() {
    let exact = |text: &str| header("x-role", HeaderMatchSpec::StringMatch(StringMatcherSpec::exact(text)));
    for headers in [[("x-role", "user"), ("x-role", "admin")], [("x-role", "admin"), ("x-role", "user")]] {
        assert!(!allows(&engine(Action::Deny, exact("admin")), &headers), "{headers:?}");
        assert!(!allows(&engine(Action::Deny, header("x-role", HeaderMatchSpec::Present(true))), &headers));
        let spec = HeaderMatcherSpec {
            name: "x-role".into(),
            kind: HeaderMatchSpec::StringMatch(StringMatcherSpec::exact("admin")),
            invert_match: true,
            ..Default::default()
        };
        let inverted = Rule::Header(HeaderMatcher::new(&spec).unwrap());
        assert!(!allows(&engine(Action::Allow, inverted), &headers), "not admin: {headers:?}");
    }
}

/// CVE-2021-32779 and query strings: what follows the path never counts.
#[test]
fn query_and_fragment_hide_nothing() {
    let rule = || Rule::UrlPath(PathMatcher::new(&StringMatcherSpec::exact("/admin")).unwrap());
    for path in ["/admin", "/admin?x", "/admin#x", "/admin?", "/admin#?", "/admin?#"] {
        assert!(!allows(&engine(Action::Deny, rule()), &[(":path", path)]), "{path}");
    }
    for path in ["/adminx", "/admin/", "/", "", "/ADMIN"] {
        assert!(allows(&engine(Action::Deny, rule()), &[(":path", path)]), "{path}");
        assert!(!allows(&engine(Action::Allow, rule()), &[(":path", path)]), "{path}");
    }
    assert!(!allows(&engine(Action::Allow, rule()), &[]), "a request without a path (CONNECT) matches no path");
}

/// CVE-2026-73552: bytes beyond ASCII are matched, not an error.
#[test]
fn regular_expressions_see_all_bytes() {
    let rule = |regex: &str| Rule::UrlPath(PathMatcher::new(&StringMatcherSpec::regex(regex)).unwrap());
    assert!(!allows(&engine(Action::Deny, rule("/admin.*")), &[(":path", "/admin/\u{e9}")]));
    let mut request = HeaderMap::new();
    request.append_known(Known::PATH, b"/admin/\xff\xfe");
    let test = TestStream::new();
    let subject = Subject { headers: Some(&request), info: &test.info, worker: &test.worker };
    assert!(!engine(Action::Deny, rule("/admin.*")).ask(subject).allowed);
}

#[test]
fn what_is_not_known_matches_nothing() {
    let test = TestStream::new();
    let subject = Subject { headers: None, info: &test.info, worker: &test.worker };
    let range = nuncio_matcher::CidrRange::parse("0.0.0.0", 0).unwrap();
    for rule in [
        Rule::Authenticated(None),
        Rule::Ip(super::rule::AddressOf::Client, range),
        Rule::Port(0..65536),
        header("x", HeaderMatchSpec::Present(false)),
        Rule::Upstream { ip: None, ports: None },
    ] {
        assert!(!rule.holds(subject), "{rule:?}");
        assert!(Rule::Not(Box::new(rule)).holds(subject));
    }
}

#[test]
fn conditions_count() {
    let condition = |text: &str| Some(nuncio_cel::Program::parse(text, Default::default()).unwrap());
    let engine = |action, text| {
        let Engine::Rules(mut rules) = engine(action, Rule::Any) else { panic!("rules") };
        rules.policies[0].condition = condition(text);
        Engine::Rules(rules)
    };
    let user = [("x-user", "bob")];
    assert!(allows(&engine(Action::Allow, "request.headers['x-user'] == 'bob'"), &user));
    assert!(!allows(&engine(Action::Deny, "request.headers['x-user'] == 'bob'"), &user));
    assert!(!allows(&engine(Action::Allow, "request.headers['x-user'] == 'eve'"), &user));
    // What has no value does not match: nobody is let in by it.
    assert!(!allows(&engine(Action::Allow, "request.headers['x-other'] == 'bob'"), &user));
    assert!(!allows(&engine(Action::Allow, "1"), &user));
}
