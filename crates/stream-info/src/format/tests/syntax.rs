use crate::{Format, FormatOptions, Struct, Value};

/// Lines of `+ format` and `- format`.
pub(super) const VERDICTS: &str = include_str!("../../../testdata/envoy-1.40-syntax.txt");

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                other => other,
            },
            other => other,
        });
    }
    out
}

#[test]
fn accepts_and_refuses_what_envoy_does() {
    let mut wrong = Vec::new();
    for line in VERDICTS.lines().filter(|line| !line.starts_with('#')) {
        let format = unescape(line.get(2..).unwrap());
        let outcome = Format::text(&format, &FormatOptions::default());
        // Who evaluates CEL is another crate.
        let is_cel = format.contains("CEL(") || format.contains("\"CEL\"");
        let wanted = line.starts_with('+') && !is_cel;
        match outcome {
            Ok(_) if wanted => {}
            Err(error) if !wanted => assert!(!error.message.is_empty() && error.column > 0),
            other => wrong.push(format!("{line}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_have_column_and_hint() {
    for (format, column, message, hint) in [
        (
            "[%Y-%m-%d %T.%fZ] %RESPONSE_CODE% %RESPONSE_FLAGS%",
            2,
            "no valid command",
            "did you mean %START_TIME(%Y-%m-%d %T.%fZ)%?",
        ),
        ("at %Y/%m/%d, %PROTOCOL%", 4, "no valid command", "%START_TIME(%Y/%m/%d)%"),
        ("x %s %PROTOCOL%", 3, "no valid command", "%START_TIME(%s)%"),
        ("%start_time%", 1, "no valid command", "did you mean %START_TIME%?"),
        ("é %START_TIME", 3, "no valid command", "write %START_TIME% with a percent sign"),
        ("100%", 4, "no valid command", "a literal percent sign is written %%"),
        ("%REQ(a", 1, "no valid command", "lack their closing bracket"),
        ("%REQ(a):x%", 1, "no valid command", ":LENGTH%"),
        ("ab %RESPONSE_CDE%", 4, "no operator RESPONSE_CDE", "did you mean %RESPONSE_CODE%?"),
        ("%UPSTREAM_HOST(x)%", 1, "takes no parameters", "write %UPSTREAM_HOST%"),
        ("%REQ%", 1, "requires parameters", "%REQ(…)%"),
        ("%REQ(a b)%", 1, "not a header name", ""),
        ("%CEL(response.code)%", 1, "not evaluated here", ""),
        ("%REQ_WITHOUT_QUERY(a)%", 1, "no operator", "envoy.formatter.req_without_query"),
        ("%START_TIME(%n)%", 1, "newline", ""),
        ("%METADATA(BOGUS:a)%", 1, "no kind of metadata", "VIRTUAL_HOST"),
        ("%COALESCE({\"operators\":[\"PROTOCOL\",\"BOGUS\"]})%", 1, "operators[1]: there is no operator BOGUS", ""),
    ] {
        let error = Format::text(format, &FormatOptions::default()).unwrap_err();
        assert_eq!(error.column, column, "{format}: {error}");
        assert!(error.message.contains(message), "{format}: {error}");
        assert!(error.hint.contains(hint), "{format}: {error}");
    }
}

#[test]
fn errors_in_json_name_the_field() {
    let inner = Struct::from_iter([("b", Value::List(vec!["x".into(), "x%START_TIME".into()]))]);
    let template = Struct::from_iter([("a", inner)]);
    let error = Format::json(&template, &FormatOptions::default()).unwrap_err();
    assert_eq!((error.path.as_str(), error.column), ("a.b[1]", 2));
    assert!(error.to_string().starts_with("a.b[1]: column 2: "), "{error}");
    let mut deep = Value::from("x");
    for _ in 0..100 {
        deep = Value::List(vec![deep]);
    }
    let error = Format::json(&Struct::from_iter([("a", deep)]), &FormatOptions::default()).unwrap_err();
    assert!(error.message.contains("nested"), "{error}");
}

#[test]
fn header_values_refuse_the_old_metadata_form() {
    let format = "%UPSTREAM_METADATA([\"a\",\"b\"])%";
    assert!(Format::text(format, &FormatOptions::default()).is_ok());
    let error = Format::text(format, &FormatOptions::for_header_value()).unwrap_err();
    assert!(error.hint.contains("NAMESPACE:KEY"), "{error}");
}

#[test]
fn nesting_of_coalesce_is_bounded() {
    let mut parameter = "{\"operators\":[\"PROTOCOL\"]}".to_owned();
    for depth in 0..6 {
        let is_fine = Format::text(&format!("%COALESCE({parameter})%"), &FormatOptions::default()).is_ok();
        assert_eq!(is_fine, depth < 4, "{depth}");
        let quoted = parameter.replace('\\', "\\\\").replace('"', "\\\"");
        parameter = format!("{{\"operators\":[{{\"command\":\"COALESCE\",\"param\":\"{quoted}\"}}]}}");
    }
}
