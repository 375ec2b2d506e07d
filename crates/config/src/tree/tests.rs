//! What texts mean, where their parts stand, and that hostile ones are refused in bounded time and memory.

use super::{MAX_DEPTH, NodeRef, Scalar, Shape, Tree};
use crate::diagnostics::Diagnostics;
use crate::source::{Format, Source};

fn parse(text: &str, format: Format) -> Result<Tree, String> {
    let mut diagnostics = Diagnostics::new();
    let tree = Tree::parse(&Source::new("t", text, format), &mut diagnostics);
    match tree {
        Some(tree) if !diagnostics.has_errors() => Ok(tree),
        _ => Err(diagnostics.to_string()),
    }
}

fn show(node: NodeRef<'_>) -> String {
    match node.shape() {
        Shape::Scalar(Scalar::Null) => "null".to_owned(),
        Shape::Scalar(Scalar::Bool(value)) => value.to_string(),
        Shape::Scalar(Scalar::Int(value)) => value.to_string(),
        Shape::Scalar(Scalar::Number(text)) => format!("#{text}"),
        Shape::Scalar(Scalar::Text(text)) => format!("{text:?}"),
        Shape::Sequence(items) => format!("[{}]", items.map(show).collect::<Vec<_>>().join(",")),
        Shape::Mapping(entries) => {
            let entries: Vec<_> = entries.map(|(key, value)| format!("{}:{}", key.spelling(), show(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

fn check(format: Format, text: &str, expected: &str) {
    let shown = parse(text, format).map_or_else(|error| error, |tree| show(tree.root()));
    assert_eq!(shown, expected, "{text}");
}

/// The first finding, which must be an error.
fn refused(format: Format, text: &str, expected: &str) {
    let error = parse(text, format).expect_err(text);
    let first = error.lines().next().unwrap_or_default();
    assert!(first.starts_with(expected), "{text:?}: found {first}, expected {expected}");
}

#[test]
fn yaml_scalars_mean_what_they_mean_to_envoy() {
    check(
        Format::Yaml,
        "{a: ~, b: , c: null, d: Null, e: NULL, f: nULL}",
        r#"{a:null,b:null,c:null,d:null,e:null,f:"nULL"}"#,
    );
    for text in ["true", "True", "TRUE", "yes", "Yes", "on", "ON", "y", "Y"] {
        check(Format::Yaml, text, "true");
    }
    for text in ["false", "No", "off", "n"] {
        check(Format::Yaml, text, "false");
    }
    check(Format::Yaml, "[tRUE, yES, \"yes\", 'true']", r#"["tRUE","yES","yes","true"]"#);
    check(Format::Yaml, "[5, -5, +5, 0x10, 010, 0, -0x1]", "[5,-5,5,16,8,0,-1]");
    check(Format::Yaml, "[08, 1_000, 0b11, 0o17, 1.5, 1e3, .inf, 0x]", {
        r#"["08","1_000","0b11","0o17","1.5","1e3",".inf","0x"]"#
    });
    check(Format::Yaml, "[9223372036854775807, 9223372036854775808]", r#"[9223372036854775807,"9223372036854775808"]"#);
    check(Format::Yaml, "[\"5\", !!str 5, !!int \"5\", ! 5, !!str ~, !foo x]", r#"["5",5,5,"5","~","x"]"#);
    check(Format::Yaml, "a: |\n  5\nb: >\n  x\n  y\n", r#"{a:"5\n",b:"x y\n"}"#);
}

#[test]
fn yaml_structure() {
    check(Format::Yaml, "a: {b: [1, 2,], c: ,}\n", "{a:{b:[1,2],c:null}}");
    check(Format::Yaml, "---\na: 1\n...\n", "{a:1}");
    check(Format::Yaml, "---\na: 1\n---\n", "{a:1}");
    check(Format::Yaml, "\u{feff}a: 1", "{a:1}");
    check(Format::Yaml, "a: &x {b: 1}\nc: *x\nd: [*x, *x]", "{a:{b:1},c:{b:1},d:[{b:1},{b:1}]}");
    check(Format::Yaml, "a: &x 1\n*x : 2", "{a:1,1:2}");
    check(Format::Yaml, "!ignore x: &a {id: 1}\nnode: *a\n", "{node:{id:1}}");
    check(Format::Yaml, "!ignore x:\n  y: {z: [&q 1]}\nn: *q", "{n:1}");
    check(Format::Yaml, "<<: {a: 1}", "{<<:{a:1}}");
    check(Format::Yaml, "true: 1\n~: 2\n5: 3", "{true:1,~:2,5:3}");
}

#[test]
fn json_texts() {
    check(
        Format::Json,
        r#"{"a": [1, -2.5e3, true, false, null, "x"], "b": {}}"#,
        r##"{a:[#1,#-2.5e3,true,false,null,"x"],b:{}}"##,
    );
    check(Format::Json, "{\"a\": [1,],\n\t'b': {\"c\": 2,},}", "{a:[#1],b:{c:#2}}");
    check(Format::Json, "{a: 1, $b_2: 'x'}", r#"{a:#1,$b_2:"x"}"#);
    check(Format::Json, r#"["\u00e9\ud83d\ude00\n\/\"\\", "a	b"]"#, r#"["é😀\n/\"\\","a\tb"]"#);
    refused(Format::Json, "", "t:1:1: error: JSON: the text ends here, expected `{`");
    refused(Format::Json, "node: 1", "t:1:1: error: JSON: found `n`, expected `{`");
    refused(Format::Json, r#"{"a": 1"#, "t:1:8: error: JSON: the text ends here, expected `,` or `}`");
    refused(Format::Json, r#"{"a": "x"#, "t:1:7: error: JSON: the string that begins here does not end");
    refused(Format::Json, r#"{"a": 1} x"#, "t:1:10: error: JSON: found `x`, expected the end of the text");
    refused(Format::Json, "{\"a\": 1 // x\n}", "t:1:9: error: JSON: found `/`, expected `,` or `}`");
    refused(Format::Json, r#"{"a": 1,, "b": 2}"#, "t:1:9: error: JSON: found `,`, expected a key");
    for number in ["01", "+1", "0x10", "1.", ".5", "1e", "NaN", "True", "1_0", "-"] {
        assert!(parse(&format!("[{number}]"), Format::Json).is_err(), "{number}");
    }
    for escape in [r#""\x""#, r#""\ud83d""#, r#""\ud83dx""#, r#""\u12""#, r#""\ud83d\u0041""#, r#""\"#] {
        assert!(parse(&format!("[{escape}]"), Format::Json).is_err(), "{escape}");
    }
}

#[test]
fn places_are_lines_and_columns_from_one() {
    let check = |text: &str, format: Format, path: &[&str], key_at: (u32, u32), value_at: (u32, u32)| {
        let tree = parse(text, format).unwrap();
        let mut node = tree.root();
        let mut key = node;
        for name in path {
            (key, node) = node.get(name).unwrap();
        }
        let (key, value) = (key.location(), node.location());
        assert_eq!(((key.line, key.column), (value.line, value.column)), (key_at, value_at), "{text}");
    };
    check("a:\n  bé: x\n", Format::Yaml, &["a", "bé"], (2, 3), (2, 7));
    check("a: {b: x}\n", Format::Yaml, &["a", "b"], (1, 5), (1, 8));
    check("{\n \"a\": {\"b\":\n 5}}", Format::Json, &["a", "b"], (2, 8), (3, 2));
    let tree = parse("- a\n- b: 1\n  c: 2\n", Format::Yaml).unwrap();
    let Shape::Sequence(items) = tree.root().shape() else { panic!() };
    let lines: Vec<_> = items.map(|item| (item.location().line, item.location().column)).collect();
    assert_eq!(lines, [(1, 3), (2, 3)]);
}

#[test]
fn duplicate_keys_are_named_with_both_places() {
    refused(Format::Yaml, "a: 1\nb: 2\na: 3\n", "t:3:1: error: duplicate key `a`, first given at t:1:1");
    refused(Format::Json, "{\"a\": 1, \"a\": 2}", "t:1:10: error: duplicate key `a`, first given at t:1:2");
    let many: String = (0..20).map(|at| format!("k{}: 1\n", at % 19)).collect();
    refused(Format::Yaml, &many, "t:20:1: error: duplicate key `k0`, first given at t:1:1");
}

#[test]
fn broken_yaml_says_where() {
    refused(Format::Yaml, "a: [1, 2", "t:");
    refused(Format::Yaml, "a: \"x", "t:");
    refused(Format::Yaml, "a:\n\tb: 1", "t:2:2: error: YAML: ");
    refused(Format::Yaml, "a: *x", "t:1:4: error: YAML: ");
    refused(Format::Yaml, "[a]: 1", "t:1:1: error: found a mapping or a sequence as a key");
    refused(Format::Yaml, "a: 1\n---\nb: 2\n", "t:3:1: error: found a second document, expected one");
    refused(Format::Yaml, "a: &x [*x]", "t:1:8: error: the alias stands inside the node that it refers to");
    refused(Format::Yaml, "a: b: c", "t:1:");
}

#[test]
fn binary_is_refused_with_the_place_of_the_first_bad_byte() {
    let check = |bytes: &[u8], expected: &str| {
        let mut diagnostics = Diagnostics::new();
        assert!(Tree::parse(&Source::new("t", bytes, Format::Yaml), &mut diagnostics).is_none());
        assert!(diagnostics.to_string().starts_with(expected), "{diagnostics}");
    };
    check(b"a: 1\nb: \"x\0y\"", "t:2:6: error: found the control character 0x00");
    check(b"a: 1\nb: \xff", "t:2:4: error: found the byte 0xff, which is not UTF-8");
    check(b"a: \xc3", "t:1:4: error: found the byte 0xc3");
    check(b"\x7fELF\x02\x01\x01", "t:1:5: error: found the control character 0x02");
    check(b"\xff\xfea\0", "t:1:1: error: found UTF-16 text");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH), Format::Json).is_ok());
    refused(Format::Json, &nested(MAX_DEPTH + 1), "t:1:101: error: nested deeper than 100 levels");
    assert!(parse(&nested(MAX_DEPTH), Format::Yaml).is_ok());
    refused(Format::Yaml, &nested(MAX_DEPTH + 1), "t:1:101: error: nested deeper than 100 levels");
    for deep in [nested(100_000), "[".repeat(1_000_000), "{a: ".repeat(500_000), "- ".repeat(500_000)] {
        assert!(parse(&deep, Format::Yaml).is_err());
        assert!(parse(&deep, Format::Json).is_err());
        assert!(parse(&deep, Format::Text).is_err());
    }
    let block: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(parse(&block, Format::Yaml).is_err());
}

#[test]
fn aliases_do_not_multiply() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..=20 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    refused(Format::Yaml, &bomb, "t:7:");
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..=120 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(parse(&deep, Format::Yaml).unwrap_err().contains("the alias nests deeper than 100 levels"));
    // Few nodes, but long ones: 1 MiB of text, and 65 aliases that stand for it.
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(65));
    assert!(parse(&long, Format::Yaml).unwrap_err().contains("the aliases expand to more than 67108864 bytes of text"));
}

#[test]
fn protobuf_text() {
    check(Format::Text, "a: 1 b { c: \"x\" 'y' # z\n d: -2.5f } e < f: true >; g: [A, -0x10, 010],", {
        r##"{a:#1,b:{c:"xy",d:#-2.5},e:{f:true},g:["A",#-0x10,#8]}"##
    });
    check(Format::Text, r#"a: "\n\t\"\x41\101\u00e9" a: 1e+5"#, r##"{a:"\n\t\"AAé",a:#1e+5}"##);
    check(Format::Text, "[type.googleapis.com/x.Y] { a: - inf }", "{[type.googleapis.com/x.Y]:{a:#-inf}}");
    refused(Format::Text, "a", "t:1:2: error: text format: the text ends here, expected `:` or `{`");
    refused(Format::Text, "a: \"x", "t:1:4: error: text format: the string that begins here does not end");
    refused(Format::Text, "a { b: 1 >", "t:1:10: error: text format: found `>`, expected a field name");
    refused(Format::Text, "a: \"\\xff\"", "t:1:4: error: text format: the escapes of this string");
    refused(Format::Text, "}", "t:1:1: error: text format: found `}`, expected a field name");
}
