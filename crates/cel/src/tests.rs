use crate::{Options, Program, Scope, Value};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_stream_info::{ConnectionInfo, LogContext, StreamInfo, Struct};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const ALL: Options = Options { string_conversion: true, string_concat: true, string_functions: true };

fn request() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append_known(Known::METHOD, b"GET");
    headers.append_known(Known::PATH, b"/a/b?q=1#f");
    headers.append_known(Known::AUTHORITY, b"host.test");
    for (name, value) in [("x-user", "bob"), ("x-many", "1"), ("x-many", "2")] {
        headers.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    }
    headers
}

fn info() -> StreamInfo {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap().into();
    let now = Instant::now();
    let connection = ConnectionInfo::new(7, now, address("127.0.0.1:80"), address("10.0.0.1:1234"));
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678);
    let mut info = StreamInfo::of_connection(Arc::new(connection), wall);
    info.response_code = Some(404);
    let inner = Struct::from_iter([("list", nuncio_stream_info::Value::List(vec![1.0.into(), "x".into()]))]);
    let fields = Struct::from_iter([("k", nuncio_stream_info::Value::from("v")), ("s", inner.into())]);
    info.set_dynamic_metadata("ns", fields);
    info
}

/// The value as text, or what is wrong.
fn value(text: &str) -> String {
    let (headers, info) = (request(), info());
    let context =
        LogContext { request: Some(&headers), ..LogContext::new(&info, Instant::now(), SystemTime::UNIX_EPOCH) };
    let program = match Program::parse(text, ALL) {
        Ok(program) => program,
        Err(error) => return format!("invalid: {error}"),
    };
    let value = program.evaluate(Scope { context: &context });
    match value {
        Ok(value) => {
            let mut out = Vec::new();
            value.write(&mut out);
            String::from_utf8(out).unwrap()
        }
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn values() {
    for (text, expected) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("7 / 2", "3"),
        ("-7 % 4", "-3"),
        ("1.5 + 2.0", "3.5"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0x1F", "31"),
        ("5u", "5"),
        ("'a' + \"b\"", "ab"),
        (r"r'\d' + '\x41\u00e9'", r"\dAé"),
        ("true ? 1 : 2", "1"),
        ("false ? 1 : true ? 2 : 3", "2"),
        ("1 < 2 && 2u <= 3 && 1.0 == 1", "true"),
        ("1 == '1'", "false"),
        ("!true || 1 in [1, 2]", "true"),
        ("'b' in {'a': 1, 'b': 2}", "true"),
        ("{'a': 1, 'b': 2}['b']", "2"),
        ("[1, 2, 3][1]", "2"),
        ("[1, [2]] == [1, [2]]", "true"),
        ("size('aé') + size([1, 2])", "4"),
        ("'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ell')", "true"),
        ("'/a/b'.matches('/[a-z]+')", "true"),
        ("'/a/b'.matches('^/[a-z]+$')", "false"),
        ("int('12') + int(3.9)", "15"),
        ("string(12) + 'x'", "12x"),
        ("double('1.5')", "1.5"),
        ("'A,b'.lowerAscii().split(',')[1]", "b"),
        ("'aXbX'.replace('X', '--')", "a--b--"),
        ("duration('1h30m') > duration('80m')", "true"),
        ("duration('90m')", "1h30m"),
        ("duration('1.5s') + duration('250ms')", "1.75s"),
        ("timestamp('2026-01-02T03:04:05.678Z')", "2026-01-02T03:04:05.678+00:00"),
        ("timestamp('2026-01-02T03:04:05+01:00').getHours()", "2"),
        ("timestamp('2024-02-29T00:00:00Z').getDayOfYear()", "59"),
        ("timestamp('2026-11-21T00:00:00Z').getDayOfWeek()", "6"),
        ("type(1) == int", "true"),
        ("b'ab' == bytes('ab')", "true"),
        ("null == null // done", "true"),
        ("[1, 2,]", "CelList value"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn attributes() {
    for (text, expected) in [
        ("request.method", "GET"),
        ("request.path", "/a/b?q=1#f"),
        ("request.url_path", "/a/b"),
        ("request.query", "q=1"),
        ("request.host == 'host.test'", "true"),
        ("request.headers['x-user'] + request.headers['x-many']", "bob1,2"),
        ("'x-none' in request.headers || has(request.referer)", "false"),
        ("has(request.headers.x) || 'x-user' in request.headers", "true"),
        ("request.time.getFullYear()", "2026"),
        ("response.code", "404"),
        ("response.grpc_status", "12"),
        ("source.address", "10.0.0.1:1234"),
        ("source.port + destination.port", "1314"),
        ("connection.mtls", "false"),
        ("connection.id", "7"),
        ("connection.requested_server_name", ""),
        ("metadata.filter_metadata['ns']['k']", "v"),
        ("metadata.filter_metadata.ns.s.list[0] == 1", "true"),
        ("'nope' in metadata.filter_metadata", "false"),
        ("upstream.request_attempt_count", "0"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn what_has_no_value() {
    for (text, expected) in [
        ("request.headers['x-none']", "error: the key is not there"),
        ("request.referer == 'x'", "error: referer is not there"),
        ("nothing", "error: there is no nothing"),
        ("1 / 0", "error: a number is out of range"),
        ("9223372036854775807 + 1", "error: a number is out of range"),
        ("[1][5]", "error: the key is not there"),
        ("1 + 'a'", "error: _+_ is not for values of these types"),
        ("!1", "error: !_ is not for values of these types"),
        // One side decides.
        ("nothing || true", "true"),
        ("false && nothing", "false"),
        ("nothing && false", "false"),
        ("nothing || false", "error: there is no nothing"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_expression() {
    for (text, expected) in [
        ("", "ends too early"),
        ("1 +", "ends too early"),
        ("1 2", "found `2`"),
        ("(1", "ends too early"),
        ("'a", "no end"),
        ("#", "no part of the language"),
        ("9223372036854775808", "found"),
        ("[1].exists(x, x > 0)", "comprehension"),
        ("foo(1)", "no function foo"),
        ("'a'.matches(request.path)", "must be a literal"),
        ("'a'.matches('(')", "not a regular expression"),
        ("has(1)", "takes a field"),
        (r"'\q'", "unknown escape"),
    ] {
        let found = value(text);
        assert!(found.starts_with("invalid: ") && found.contains(expected), "{text}: {found}");
    }
    for deep in ["(".repeat(10_000), "!".repeat(10_000), "-".repeat(10_000), "[".repeat(10_000)] {
        assert!(value(&deep).starts_with("invalid: more than"), "{}", &deep[..5]);
    }
    for long in [format!("1{}", "+1".repeat(5_000)), format!("a{}", ".b".repeat(5_000))] {
        assert!(value(&long).starts_with("invalid: more than"), "{}", &long[..5]);
    }
}

#[test]
fn what_grows_must_be_allowed() {
    for text in ["string(1)", "'a'.lowerAscii()", "'a'.replace('b', 'c')"] {
        assert!(Program::parse(text, Options::default()).is_err(), "{text}");
    }
    let (headers, info) = (request(), info());
    let context =
        LogContext { request: Some(&headers), ..LogContext::new(&info, Instant::now(), SystemTime::UNIX_EPOCH) };
    let program = Program::parse("'a' + 'b' == 'ab'", Options::default()).unwrap();
    assert!(!program.holds(&context));
    assert!(Program::parse("'a' + 'b' == 'ab'", ALL).unwrap().holds(&context));
    assert!(matches!(Program::parse("1", ALL).unwrap().evaluate(Scope { context: &context }), Ok(Value::Int(1))));
}
