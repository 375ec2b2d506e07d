use super::Exchange;
use crate::{FormatOptions, Struct, Value};

fn template() -> Struct {
    let nested = Struct::from_iter([
        ("z", Value::from("%BYTES_SENT%")),
        ("a", Struct::from_iter([("x", "lit")]).into()),
        ("e", Struct::new().into()),
    ]);
    let list = vec![
        Value::from("%PROTOCOL%"),
        "%REQ(nope)%".into(),
        vec![Value::from("x"), "%BYTES_SENT%".into()].into(),
        Struct::from_iter([("k", "%REQ(nope)%")]).into(),
        Vec::new().into(),
        "".into(),
    ];
    Struct::from_iter([
        ("zz", Value::from("%PROTOCOL%")),
        ("aa", "%RESPONSE_CODE%".into()),
        ("B", "%REQ(nope)%".into()),
        ("nested", nested.into()),
        ("list", list.into()),
        ("num", 5.0.into()),
        ("numf", 1.5.into()),
        ("bool", true.into()),
        ("nul", Value::Null),
        ("multi", "%PROTOCOL% %RESPONSE_CODE% %REQ(nope)%".into()),
        ("two", "%RESPONSE_CODE%%RESPONSE_CODE%".into()),
        ("pct", "100%%".into()),
        ("empty", "".into()),
        ("dynm", "x%DYNAMIC_METADATA(dyn:q)%x%DYNAMIC_METADATA(dyn:o)%".into()),
        ("lit \"q\"\n\u{1}é/<", "lit \"q\"\n\u{1}é/<\u{7f}".into()),
        ("flags", "%RESPONSE_FLAGS%".into()),
    ])
}

/// The lines are Envoy's.
#[test]
fn templates_keep_types_and_sort_fields() {
    let line = String::from_utf8(Exchange::new().json_with(&template(), &FormatOptions::default())).unwrap();
    let expected = concat!(
        r#"{"B":null,"aa":200,"bool":true,"#,
        "\"dynm\":\"xa\\\"b\\\\c\\nd\\u0001\u{7f}é/x{\\\"aa\\\":\\\"x\\\",\\\"zz\\\":1}\",",
        r#""empty":"","flags":"-","list":["HTTP/1.1",null,["x",5],{"k":null},[],""],"#,
        "\"lit \\\"q\\\"\\n\\u0001é/<\":\"lit \\\"q\\\"\\n\\u0001é/<\u{7f}\",",
        r#""multi":"HTTP/1.1 200 -","nested":{"a":{"x":"lit"},"e":{},"z":5},"nul":null,"num":5,"numf":1.5,"#,
        r#""pct":"100%","two":"200200","zz":"HTTP/1.1"}"#,
        "\n",
    );
    assert_eq!(line, expected);
}

#[test]
fn empty_values_are_omitted() {
    let options = FormatOptions { omit_empty_values: true, ..FormatOptions::default() };
    let line = String::from_utf8(Exchange::new().json_with(&template(), &options)).unwrap();
    let expected = concat!(
        r#"{"aa":200,"bool":true,"#,
        "\"dynm\":\"xa\\\"b\\\\c\\nd\\u0001\u{7f}é/x{\\\"aa\\\":\\\"x\\\",\\\"zz\\\":1}\",",
        r#""empty":"","flags":"-","list":["HTTP/1.1",["x",5],[],""],"#,
        "\"lit \\\"q\\\"\\n\\u0001é/<\":\"lit \\\"q\\\"\\n\\u0001é/<\u{7f}\",",
        r#""multi":"HTTP/1.1 200 ","nested":{"a":{"x":"lit"},"z":5},"num":5,"numf":1.5,"#,
        r#""pct":"100%","two":"200200","zz":"HTTP/1.1"}"#,
        "\n",
    );
    assert_eq!(line, expected);
    let nothing = Struct::from_iter([("a", "%REQ(nope)%")]);
    assert_eq!(Exchange::new().json_with(&nothing, &options), b"{}\n");
}

/// A value can neither end its string nor its line (CVE-2025-25294).
#[test]
fn values_can_not_break_out() {
    for (value, expected) in [
        (&b"a\",\"admin\":\"true"[..], r#""a\",\"admin\":\"true""#),
        (b"a\n{\"x\":1}", r#""a\n{\"x\":1}""#),
        (b"a\\", r#""a\\""#),
        (b"\x01\x1f\x08\x0c\r\t", r#""\u0001\u001f\b\f\r\t""#),
        // Not UTF-8: all high bytes are escaped, those of well-formed characters, too.
        (b"\xe9/<", r#""\u00e9/<""#),
        (b"\xc3\xa9\xff", r#""\u00c3\u00a9\u00ff""#),
        (b"\xed\xa0\x80", r#""\u00ed\u00a0\u0080""#),
        (b"\xc3\xa9", "\"é\""),
        (b"\xe2\x80\xa8", "\"\u{2028}\""),
    ] {
        // Headers lose CR, LF and NUL on the way in; metadata does not.
        let mut exchange = Exchange::with_request(&[("x-h", value)]);
        let header = exchange.json("%REQ(x-h)%");
        if !value.iter().any(|byte| b"\r\n".contains(byte)) {
            assert_eq!(header, expected);
        }
        if let Ok(text) = std::str::from_utf8(value) {
            exchange.info.set_dynamic_metadata("m", Struct::from_iter([("k", text)]));
            assert_eq!(exchange.json("%DYNAMIC_METADATA(m:k)%"), expected);
            assert_eq!(exchange.json("%DYNAMIC_METADATA(m)%"), format!("{{\"k\":{expected}}}"));
            let inner = expected.strip_suffix('"').unwrap();
            assert_eq!(exchange.json("%DYNAMIC_METADATA(m:k)%-"), format!("{inner}-\""));
        }
    }
    assert_eq!(Exchange::with_request(&[("x-h", b"\xc3\xa9")]).json("%REQ(x-h):1%"), r#""\u00c3""#);
}

#[test]
fn numbers_are_printed_as_envoy_prints_them() {
    for (number, expected) in [
        (0.1, "0.1"),
        (1.0 / 3.0, "0.3333333333333333"),
        (1e300, "1e+300"),
        (1e21, "1e+21"),
        (1e16, "1e+16"),
        (123_456_789.123_456_79, "123456789.12345679"),
        (1e-7, "1e-07"),
        (1.5e-10, "1.5e-10"),
        (-0.0, "-0"),
        (1e15 + 0.5, "1000000000000000.5"),
        (9_007_199_254_740_993.0, "9007199254740992"),
        (18_446_744_073_709_551_616.0, "18446744073709551616"),
        (-5.0, "-5"),
        (-1.25, "-1.25"),
        (100.0, "100"),
        (5e-324, "5e-324"),
        (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
        (0.000_123_45, "0.00012345"),
        (1e5, "1e+05"),
        (4_294_967_296.5, "4294967296.5"),
        (f64::NAN, "null"),
    ] {
        let mut out = Vec::new();
        Value::from(number).write_json(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let mut exchange = Exchange::new();
    exchange.info.bytes_sent = 100_000;
    assert_eq!(exchange.json("%BYTES_SENT%"), "100000");
}

/// The scan that looks at eight bytes at a time finds every byte that has to be escaped, wherever it stands.
#[test]
fn escapes_are_found_at_every_place() {
    for byte in 0..=u8::MAX {
        for len in 1..20 {
            for at in 0..len {
                let mut text = vec![b' '; len];
                text[at] = byte;
                let mut out = Vec::new();
                crate::write_json_string(&text, &mut out);
                let is_escaped = out.get(1..out.len() - 1) != Some(&text[..]);
                let must_be = byte < 0x20 || byte == b'"' || byte == b'\\' || byte >= 0x80;
                assert_eq!(is_escaped, must_be, "{byte:#x} at {at} of {len}");
            }
        }
    }
}
