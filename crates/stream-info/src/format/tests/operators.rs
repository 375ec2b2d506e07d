use super::{Exchange, host};
use crate::{
    CertificateNames, ConnectionInfo, FilterStateObject, FormatOptions, LifeSpan, Mutability, PlainString, Sharing,
    TlsInfo,
};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Outputs that Envoy wrote for a proxied request (`stream` holds the same facts).
#[test]
fn facts_of_a_proxied_request() {
    let exchange = Exchange::new();
    for (operator, expected) in [
        ("START_TIME", "2026-11-20T14:18:35.803Z"),
        ("START_TIME_LOCAL", "2026-11-20T14:18:35.803+0000"),
        ("EMIT_TIME", "2026-11-20T14:18:35.805Z"),
        ("PROTOCOL", "HTTP/1.1"),
        ("UPSTREAM_PROTOCOL", "HTTP/1.1"),
        ("RESPONSE_CODE", "200"),
        ("RESPONSE_CODE_DETAILS", "via_upstream"),
        ("CONNECTION_TERMINATION_DETAILS", "-"),
        ("BYTES_SENT", "5"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "1"),
        ("DOWNSTREAM_WIRE_BYTES_SENT", "168"),
        ("UPSTREAM_HEADER_BYTES_RECEIVED", "107"),
        ("DURATION", "1"),
        ("COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)", "1334"),
        ("COMMON_DURATION(DS_CX_BEG:DS_RX_BEG)", "2"),
        ("COMMON_DURATION(US_TX_BEG:US_TX_END:ns)", "100000"),
        ("COMMON_DURATION(US_TX_END:US_TX_BEG:ns)", "-"),
        ("COMMON_DURATION(mine:DS_RX_END:us)", "20"),
        ("COMMON_DURATION(DS_RX_BEG:theirs)", "-"),
        ("REQUEST_DURATION", "0"),
        ("REQUEST_TX_DURATION", "0"),
        ("RESPONSE_DURATION", "1"),
        ("RESPONSE_TX_DURATION", "0"),
        ("ROUNDTRIP_DURATION", "-"),
        ("DOWNSTREAM_HANDSHAKE_DURATION", "-"),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", "0"),
        ("RESPONSE_FLAGS", "-"),
        ("RESPONSE_FLAGS_LONG", "-"),
        ("ROUTE_NAME", "uproute"),
        ("VIRTUAL_CLUSTER_NAME", "vc"),
        ("UPSTREAM_HOST", "127.0.0.1:48533"),
        ("UPSTREAM_HOST_NAME", "up.example.com:80"),
        ("UPSTREAM_HOST_NAME_WITHOUT_PORT", "up.example.com"),
        ("UPSTREAM_HOSTS_ATTEMPTED", "127.0.0.1:48533"),
        ("UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "up.example.com"),
        ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", "4"),
        ("UPSTREAM_CLUSTER", "alt_up"),
        ("UPSTREAM_CLUSTER_RAW", "up"),
        ("UPSTREAM_LOCAL_ADDRESS", "127.0.0.1:60012"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "127.0.0.1"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16)", "127.0.0.0/16"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(0)", "0.0.0.0/0"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(+8)", "127.0.0.0/8"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(200)", "127.0.0.1/32"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(-1)", ""),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(x)", "127.0.0.1"),
        ("UPSTREAM_LOCAL_PORT", "60012"),
        ("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", ""),
        ("UPSTREAM_DETECTED_CLOSE_TYPE", "Normal"),
        ("DOWNSTREAM_DETECTED_CLOSE_TYPE", "Normal"),
        ("DOWNSTREAM_REMOTE_ADDRESS", "1.2.3.4:0"),
        ("DOWNSTREAM_REMOTE_PORT", "0"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "127.0.0.1:39202"),
        ("DOWNSTREAM_LOCAL_PORT", "37279"),
        ("DOWNSTREAM_CX_RTT", "0"),
        ("CONNECTION_ID", "3"),
        ("UPSTREAM_CONNECTION_ID", "4"),
        ("STREAM_ID", "abc"),
        ("FILTER_CHAIN_NAME", "chain1"),
        ("ACCESS_LOG_TYPE", "DownstreamEnd"),
        ("CUSTOM_FLAGS", ""),
        ("LOCAL_REPLY_BODY", ""),
        ("ROUTE_RESOLUTION_COUNT", "1"),
        ("ROUTE_RESOLUTION_TIME_US", "7"),
        ("UNIQUE_ID", "01234567-89ab-4def-8123-456789abcdef"),
        ("DOWNSTREAM_TLS_VERSION", "-"),
        ("REQUESTED_SERVER_NAME", "-"),
        ("HOSTNAME", "-"),
        ("ENVIRONMENT(X)", "-"),
        ("RESPONSE_TRAILERS_BYTES", "9"),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), expected, "{operator}");
    }
}

#[test]
fn facts_of_an_unknown_stream() {
    let exchange = Exchange::blank();
    for (operator, text, json) in [
        ("PROTOCOL", "-", "null"),
        ("RESPONSE_CODE", "0", "0"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "0", "0"),
        ("CONNECTION_ID", "0", "0"),
        ("RESPONSE_FLAGS", "-", "\"-\""),
        ("CUSTOM_FLAGS", "", "\"\""),
        ("ENVIRONMENT(X)", "-", "\"-\""),
        ("UPSTREAM_HOST", "-", "null"),
        ("UPSTREAM_LOCAL_PORT", "-", "null"),
        ("UPSTREAM_HOSTS_ATTEMPTED", "-", "null"),
        ("UPSTREAM_DETECTED_CLOSE_TYPE", "-", "null"),
        ("DOWNSTREAM_DETECTED_CLOSE_TYPE", "Normal", "\"Normal\""),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", "-", "null"),
        ("ROUTE_RESOLUTION_TIME_US", "-", "null"),
        ("DOWNSTREAM_REMOTE_ADDRESS", "-", "null"),
        ("REQUEST_HEADERS_BYTES", "0", "0"),
        ("PATH", "-", "null"),
        ("GRPC_STATUS", "-", "null"),
        ("TRACE_ID", "-", "null"),
        ("DURATION", "9000", "9000"),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), text, "{operator}");
        assert_eq!(exchange.json(&format!("%{operator}%")), json, "{operator}");
        let empty = if text == "-" && json == "null" { "" } else { text };
        let options = FormatOptions { omit_empty_values: true, ..FormatOptions::default() };
        assert_eq!(exchange.text_with(&format!("%{operator}%"), &options), empty.as_bytes(), "{operator}");
    }
}

#[test]
fn headers_are_found_and_cut() {
    let exchange = Exchange::new();
    for (operator, expected) in [
        ("REQ(x-h)", "a\"b\\c\td/<é"),
        ("REQ(X-H):2", "a\""),
        ("REQ(x-h):0", ""),
        ("REQ(nope)", "-"),
        ("REQ(nope?x-h):1", "a"),
        ("REQ(:PATH?x-h)", "/up/vc?a=1&b=%20x"),
        ("REQ(?x-h):1", "a"),
        ("REQ(x-h?):1", "a"),
        ("REQ(:foo)", "-"),
        ("REQUEST_HEADER(:METHOD)", "GET"),
        ("STREAM_INFO_REQ(:authority)", "example.com:8080"),
        ("RESP(x-foo)", "a"),
        ("RESPONSE_HEADER(:status)", "200"),
        ("TRAILER(x-trail)", "t1"),
        ("RESPONSE_TRAILER(x-trail):1", "t"),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), expected, "{operator}");
    }
    let options = FormatOptions { req_without_query: true, ..FormatOptions::default() };
    let format = "%REQ_WITHOUT_QUERY(:PATH)%|%REQ_WITHOUT_QUERY(nope?:path):3%|%REQ_WITHOUT_QUERY(nope)%";
    assert_eq!(exchange.text_with(format, &options), b"/up/vc|/up|-");
}

#[test]
fn paths_and_queries() {
    let path: &[u8] = b"/up/x?a=1%20z&b=a+b&a=2&c=&%61x=3&d&e=%zz&f=%c3%a9%22";
    let rewritten = Exchange::with_request(&[(":path", b"/other?a=no"), ("x-envoy-original-path", path)]);
    let plain = Exchange::with_request(&[(":path", path)]);
    for (operator, expected, without_original) in [
        ("PATH(NQ)", "/up/x", "/up/x"),
        ("PATH(NQ:PATH)", "/other", "/up/x"),
        ("PATH(NQ:ORIG)", "/up/x", "-"),
        ("PATH(:ORIG_OR_PATH):4", "/up/", "/up/"),
        ("QUERY_PARAM(a)", "1 z", "1 z"),
        ("QUERY_PARAM(a):2", "1 ", "1 "),
        ("QUERY_PARAM(b)", "a+b", "a+b"),
        ("QUERY_PARAM(c)", "", ""),
        ("QUERY_PARAM(d)", "", ""),
        ("QUERY_PARAM(ax)", "3", "3"),
        ("QUERY_PARAM(%61x)", "-", "-"),
        ("QUERY_PARAM(e)", "%zz", "%zz"),
        ("QUERY_PARAM(f)", "é\"", "é\""),
        ("QUERY_PARAM(g)", "-", "-"),
        (
            "QUERY_PARAMS(DECODED)",
            "a=1%20z&b=a+b&a=2&c=&ax=3&d&e=zz&f=%c3%a9\"",
            "a=1%20z&b=a+b&a=2&c=&ax=3&d&e=zz&f=%c3%a9\"",
        ),
        ("QUERY_PARAMS:5", "a=1%2", "a=1%2"),
    ] {
        assert_eq!(rewritten.text(&format!("%{operator}%")), expected, "{operator}");
        assert_eq!(plain.text(&format!("%{operator}%")), without_original, "{operator}");
    }
}

#[test]
fn queries_are_decoded_as_envoy_does() {
    for (query, decoded) in [
        ("%2d%2E%5f%7e%41%30%61%21%25%2f%3d%26%20", "-._~A0a!%/=&%20"),
        ("a=%4", "a=%4"),
        ("a=%", "a=%"),
        ("%=%%41", "=A"),
        ("a=%00%7f%80", "a=%00%7f%80"),
        ("a=%2B%2b", "a=++"),
        ("a=-%zz-", "a=-zz-"),
        ("a=%%34%31", "a=41"),
        ("", ""),
    ] {
        let exchange = Exchange::with_request(&[(":path", format!("/?{query}").as_bytes())]);
        assert_eq!(exchange.text("%QUERY_PARAMS(DECODED)%"), decoded, "{query}");
    }
    let exchange = Exchange::with_request(&[(":path", b"/")]);
    assert_eq!(exchange.text("%QUERY_PARAMS%"), "-");
}

#[test]
fn grpc_status_comes_from_trailers_headers_or_http() {
    for (content_type, status, http, [camel, snake, number]) in [
        ("application/grpc", "0", 200, ["OK", "OK", "0"]),
        ("application/grpc", "5", 200, ["NotFound", "NOT_FOUND", "5"]),
        ("application/grpc+proto", "1", 200, ["Canceled", "CANCELLED", "1"]),
        ("application/grpc", "16", 200, ["Unauthenticated", "UNAUTHENTICATED", "16"]),
        ("application/grpc", "99", 200, ["99", "99", "99"]),
        ("application/grpc", "-1", 200, ["-1", "-1", "-1"]),
        ("application/grpc", "abc", 200, ["-1", "-1", "-1"]),
        ("application/grpc", "", 200, ["Unknown", "UNKNOWN", "2"]),
        ("application/grpc", "", 503, ["Unavailable", "UNAVAILABLE", "14"]),
        ("application/grpc-web", "5", 200, ["-", "-", "-"]),
        ("text/plain", "5", 200, ["-", "-", "-"]),
    ] {
        let mut exchange = Exchange::with_request(&[(":path", b"/"), ("content-type", content_type.as_bytes())]);
        exchange.response = super::headers(&[("grpc-status", status.as_bytes())]);
        exchange.info.response_code = Some(http);
        let text = exchange.text("%GRPC_STATUS%|%GRPC_STATUS(SNAKE_STRING)%|%GRPC_STATUS_NUMBER%");
        assert_eq!(text, [camel, snake, number].join("|"), "{content_type} {status}");
        exchange.trailers = super::headers(&[("grpc-status", b"7")]);
        let expected = if camel == "-" { "-" } else { "PermissionDenied" };
        assert_eq!(exchange.text("%GRPC_STATUS(CAMEL_STRING)%"), expected);
    }
}

#[test]
fn client_certificate_header_is_taken_apart() {
    let long = r#"By=spiffe://a;Hash=abc;Subject="CN=a\"b,O=x";URI=spiffe://one;DNS=d1;DNS=d2,By=b;URI=two;DNS="#;
    for (header, key, expected) in [
        (long, "uri", "spiffe://one"),
        (long, "subject", "CN=a\"b,O=x"),
        (long, "DNS", "d1"),
        (long, "cert", "-"),
        ("hash=1;uri=\"a;b,c\"", "uri", "a;b,c"),
        ("x=1;;URI = sp ;uri=2", "uri", "sp"),
        ("URI=\"unterminated;Hash=1", "hash", "-"),
        ("URI=", "uri", ""),
        ("URI;Hash=a=b", "hash", "a=b"),
        ("URI;Hash=a=b", "uri", ""),
        ("Hash=1,URI=2", "uri", "2"),
        (r#"Subject="a\\b""#, "subject", r"a\b"),
        ("Subject=\"a\"b;URI=%20x", "subject", "\"a\"b"),
        ("Subject=a\"b;URI=c\"", "subject", "a\"b;URI=c\""),
    ] {
        let exchange = Exchange::with_request(&[("x-forwarded-client-cert", header.as_bytes())]);
        assert_eq!(exchange.text(&format!("%XFCC_VALUE({key})%")), expected, "{header} {key}");
    }
}

/// CVE-2026-47220: a format that asks for the host of a request that has none, or of no request at all.
#[test]
fn cve_2026_47220_server_names_without_a_host() {
    for exchange in [Exchange::with_request(&[]), Exchange::with_request(&[(":path", b"/")])] {
        for order in ["SNI_ONLY", "SNI_FIRST", "HOST_FIRST"] {
            for host in ["", ":HOST", ":ORIG", ":ORIG_OR_HOST"] {
                assert_eq!(exchange.text(&format!("%REQUESTED_SERVER_NAME({order}{host})%")), "-", "{order}{host}");
            }
        }
    }
}

#[test]
fn server_names() {
    let mut exchange = Exchange::with_request(&[(":authority", b"h:8080"), ("x-envoy-original-host", b"o:99")]);
    assert_eq!(exchange.text("%REQUESTED_SERVER_NAME(SNI_FIRST)%"), "o:99");
    assert_eq!(exchange.text("%REQUESTED_SERVER_NAME(HOST_FIRST:HOST)%"), "h:8080");
    let mut set_sni = |sni: &str| {
        let connection = exchange.info.connection.clone().unwrap();
        exchange.info.connection = Some(Arc::new(ConnectionInfo { sni: Some(sni.into()), ..(*connection).clone() }));
        exchange.text("%REQUESTED_SERVER_NAME%|%REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)%")
    };
    assert_eq!(set_sni("a_b.com"), "a_b.com|o:99");
    assert_eq!(set_sni("x!y"), "invalid:x_y|o:99");
}

#[test]
fn failures_are_without_spaces() {
    let mut exchange = Exchange::new();
    exchange.info.details = "a b\tc{d}".into();
    exchange.info.upstream.transport_failure_reason = Some("delayed connect error: Connection refused".into());
    assert_eq!(
        exchange.text("%RESPONSE_CODE_DETAILS%|%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%"),
        "a_b_c{d}|a b\tc{d}"
    );
    assert_eq!(exchange.text("%UPSTREAM_TRANSPORT_FAILURE_REASON%"), "delayed_connect_error:_Connection_refused");
}

#[test]
fn attempted_hosts_are_listed_once() {
    let mut exchange = Exchange::blank();
    let upstream = &mut exchange.info.upstream;
    for address in ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.1:1", "10.0.0.3:3"] {
        upstream.set_host(host(address, ""));
        // The connection to the second could not be made: HTTP does not count it.
        if address != "10.0.0.2:2" {
            upstream.mark_attempted();
        }
    }
    for id in [7, 7, 8, 7] {
        upstream.set_connection(id);
    }
    assert_eq!(exchange.text("%UPSTREAM_HOSTS_ATTEMPTED%"), "10.0.0.1:1,10.0.0.3:3");
    assert_eq!(exchange.text("%UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%"), "10.0.0.1,10.0.0.3");
    assert_eq!(exchange.text("%UPSTREAM_CONNECTION_IDS_ATTEMPTED%"), "7,8");
}

#[test]
fn tls_facts_are_printed_when_there_are_some() {
    let mut exchange = Exchange::new();
    let tls = Arc::new(TlsInfo {
        peer: CertificateNames { uri: vec!["spiffe://a".into(), "spiffe://b".into()], ..CertificateNames::default() },
        version: Some("TLSv1.3".into()),
        peer_valid_from: Some(UNIX_EPOCH + Duration::from_secs(1)),
        ..TlsInfo::default()
    });
    let connection = exchange.info.connection.clone().unwrap();
    exchange.info.connection = Some(Arc::new(ConnectionInfo { tls: Some(tls.clone()), ..(*connection).clone() }));
    exchange.info.upstream.tls = Some(tls);
    for (operator, expected) in [
        ("DOWNSTREAM_PEER_URI_SAN", "spiffe://a,spiffe://b"),
        ("UPSTREAM_PEER_URI_SAN", "spiffe://a,spiffe://b"),
        ("DOWNSTREAM_LOCAL_URI_SAN", "-"),
        ("DOWNSTREAM_TLS_VERSION", "TLSv1.3"),
        ("DOWNSTREAM_TLS_CIPHER", "-"),
        ("DOWNSTREAM_PEER_CERT_V_START", "1970-01-01T00:00:01.000Z"),
        ("UPSTREAM_PEER_CERT_V_START(%b %e %Y)", "Jan  1 1970"),
        ("DOWNSTREAM_PEER_CERT_V_END", "-"),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), expected, "{operator}");
    }
}

#[test]
fn metadata_by_owner_and_path() {
    let exchange = Exchange::new();
    for (operator, text, json) in [
        ("DYNAMIC_METADATA(dyn:s)", "str ing", "\"str ing\""),
        ("DYNAMIC_METADATA(dyn:s):3", "str", "\"str\""),
        ("DYNAMIC_METADATA(dyn:o)", r#"{"aa":"x","zz":1}"#, r#"{"aa":"x","zz":1}"#),
        ("DYNAMIC_METADATA(dyn:o):3", r#"{"a"#, r#"{"aa":"x","zz":1}"#),
        ("DYNAMIC_METADATA(dyn:o:zz)", "1", "1"),
        ("DYNAMIC_METADATA(dyn:l)", r#"[1,"a",{"q":"w"}]"#, r#"[1,"a",{"q":"w"}]"#),
        ("DYNAMIC_METADATA(dyn:big)", "12345678901234567168", "12345678901234567168"),
        ("DYNAMIC_METADATA(dyn:big):3", "123", "12345678901234567168"),
        ("DYNAMIC_METADATA(dyn:q)", "a\"b\\c\nd\u{1}\u{7f}é/", "\"a\\\"b\\\\c\\nd\\u0001\u{7f}é/\""),
        ("DYNAMIC_METADATA(dyn:nul)", "-", "null"),
        ("DYNAMIC_METADATA(dyn:s:x)", "-", "null"),
        ("DYNAMIC_METADATA(nope)", "-", "null"),
        ("METADATA(DYNAMIC:dyn:b)", "true", "true"),
        ("CLUSTER_METADATA(cm:o:l)", r#"[1,"x\"y"]"#, r#"[1,"x\"y"]"#),
        ("METADATA(CLUSTER:cm:n):2", "1.", "1.5"),
        ("UPSTREAM_METADATA(hm:k)", "v", "\"v\""),
        ("METADATA(UPSTREAM_HOST:hm:k)", "v", "\"v\""),
        ("METADATA(ROUTE:rm)", r#"{"x":"y"}"#, r#"{"x":"y"}"#),
        ("METADATA(ROUTE)", "-", "null"),
        ("METADATA(VIRTUAL_HOST:vm:v)", "1", "1"),
        ("METADATA(LISTENER:lm:q)", "r", "\"r\""),
        ("METADATA(LISTENER_FILTER_CHAIN:fm:c)", "d", "\"d\""),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), text, "{operator}");
        assert_eq!(exchange.json(&format!("%{operator}%")), json, "{operator}");
    }
}

#[derive(Debug)]
struct Point;

impl FilterStateObject for Point {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn to_typed(&self) -> Option<crate::Value> {
        Some(crate::Struct::from_iter([("x", 1.0)]).into())
    }
    fn field(&self, name: &str) -> Option<crate::FieldValue<'_>> {
        (name == "x").then_some(crate::FieldValue::Number(1))
    }
}

#[test]
fn filter_state_by_form() {
    let mut exchange = Exchange::new();
    let state = &mut exchange.info.filter_state;
    let text = Arc::new(PlainString("va\"lue".into()));
    state.set("a", text, Mutability::Mutable, LifeSpan::Request, Sharing::None).unwrap();
    state.set("p", Arc::new(Point), Mutability::Mutable, LifeSpan::Connection, Sharing::None).unwrap();
    for (operator, text, json) in [
        ("FILTER_STATE(a:PLAIN)", "va\"lue", "\"va\\\"lue\""),
        ("FILTER_STATE(a:PLAIN):2", "va", "\"va\""),
        ("FILTER_STATE(a)", "\"va\\\"lue\"", "\"va\\\"lue\""),
        ("FILTER_STATE(p)", r#"{"x":1}"#, r#"{"x":1}"#),
        ("FILTER_STATE(p:TYPED):3", r#"{"x"#, r#"{"x":1}"#),
        ("FILTER_STATE(p:FIELD:x)", "1", "\"1\""),
        ("FILTER_STATE(p:FIELD:y)", "-", "null"),
        ("FILTER_STATE(p:PLAIN)", "-", "null"),
        ("UPSTREAM_FILTER_STATE(a)", "-", "null"),
    ] {
        assert_eq!(exchange.text(&format!("%{operator}%")), text, "{operator}");
        assert_eq!(exchange.json(&format!("%{operator}%")), json, "{operator}");
    }
}

#[test]
fn coalesce_takes_the_first_set() {
    let exchange = Exchange::new();
    for (parameter, text, json) in [
        (r#"{"operators":["REQUESTED_SERVER_NAME","RESPONSE_CODE"]}"#, "200", "200"),
        (r#"{"operators":["RESPONSE_CODE"]}):2"#, "20", "200"),
        (
            r#"{"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":":authority","max_length":5}]}):3"#,
            "exa",
            "\"exa\"",
        ),
        (r#"{"operators":[{"command":"REQ","param":":authority","max_length":5}]}"#, "examp", "\"examp\""),
        (r#"{"operators":["CUSTOM_FLAGS","RESPONSE_FLAGS"]}"#, "", "\"\""),
        (r#"{"operators":["UPSTREAM_LOCAL_CLOSE_REASON"]}"#, "-", "null"),
        (r#"{"operators":[{"command":"DYNAMIC_METADATA","param":"dyn:o"}]}):2"#, "{\"", r#"{"aa":"x","zz":1}"#),
    ] {
        let close = if parameter.contains("):") { "" } else { ")" };
        let format = format!("%COALESCE({parameter}{close}%");
        assert_eq!(exchange.text(&format), text, "{format}");
        assert_eq!(exchange.json(&format), json, "{format}");
    }
}

#[test]
fn constants_come_from_the_options() {
    let options = FormatOptions {
        hostname: Some("vm".into()),
        environment: &|name| (name == "FOO").then(|| "barétte".to_owned()),
        ..FormatOptions::default()
    };
    let format = "%HOSTNAME%|%ENVIRONMENT(FOO)%|%ENVIRONMENT(FOO):2%|%ENVIRONMENT(FOO):4%|%ENVIRONMENT(BAR)%";
    assert_eq!(Exchange::blank().text_with(format, &options), "vm|barétte|ba|bar|-".as_bytes());
}
