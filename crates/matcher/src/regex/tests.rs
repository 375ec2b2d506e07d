use super::*;

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&pattern.into()).map_err(|e| e.to_string())
}

/// Each input with whether the whole of it matches; the expectations are RE2's.
#[test]
fn whole_input_in_the_dialect_of_re2() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("a|ab", &["a", "ab"], &["abc", "xa", ""]),
        ("/b[io]t", &["/bit", "/bot"], &["/bite", "/bit/bot"]),
        ("^foo$", &["foo"], &["foo\n", "xfoo"]),
        (".*", &["", "abc", "ü"], &["a\nb"]),
        ("(?s).*", &["a\nb"], &[]),
        (r"\d+", &["123"], &["١٢٣", "12a"]),
        (r"\w+", &["a_1"], &["é"]),
        (r"\W", &["-"], &["a", "é"]),
        (r"\W\W", &["é"], &["a"]),
        ("é", &["é"], &["e"]),
        ("[é]", &[], &["é"]),
        ("[é]{2}", &["é"], &["e"]),
        ("a.", &["ab"], &["aé"]),
        ("a..", &["aé", "abc"], &["ab"]),
        (r"a\sb", &["a b", "a\tb"], &["a\u{b}b", "a\u{a0}b"]),
        (r"[\d\-x]+", &["1-x"], &["y"]),
        (r"[^\d]+", &["abc"], &["a1"]),
        (r"[a&&b]+", &["a&b"], &["c"]),
        (r"[a~~b]+", &["a~b"], &["c"]),
        (r"[[a]+", &["[a"], &["b"]),
        (r"[+--]+", &["+,-"], &["*"]),
        (r"[a-]+", &["a-"], &["b"]),
        (r"[-a]+", &["a-"], &["b"]),
        (r"[]a]+", &["]a"], &["b"]),
        (r"[^]a]+", &["bc"], &["]"]),
        (r"[[:alpha:]_]+", &["ab_"], &["1"]),
        (r"[[:^alpha:]]+", &["12"], &["a"]),
        ("/v{id}", &["/v{id}"], &["/vid"]),
        ("a{2}", &["aa"], &["a", "a{2}"]),
        ("a{2,}", &["aaa"], &["a"]),
        ("a{,2}", &["a{,2}"], &["aa"]),
        ("a{2,3}", &["aaa"], &["aaaa"]),
        ("x{", &["x{"], &["x"]),
        ("x}]", &["x}]"], &["x"]),
        (r"\/a\-b\ \_", &["/a-b _"], &[]),
        (r"\Qa.b*\E+", &["a.b*"], &["axb"]),
        (r"\141\x62\x{63}", &["abc"], &[]),
        (r"\pL+", &["abc"], &["1", "é"]),
        (r"[\pN_]+", &["1_2"], &["a"]),
        (r"\PL", &["1"], &["a"]),
        (r"\p{^Greek}", &["a"], &["α"]),
        (r"\p{Greek}", &[], &["a", "α"]),
        (r"[x\p{Greek}]", &["x"], &["a"]),
        (r"(?i)abc", &["ABC", "abc"], &["abd"]),
        (r"(?P<n>a)(?:b)", &["ab"], &[]),
        (r"a\b.*", &["a b"], &["ab"]),
        (r"[\Q]-\E]+", &["]-"], &["a"]),
        (r"a#b c", &["a#b c"], &["a"]),
    ];
    for (pattern, yes, no) in cases {
        let regex = compile(pattern).unwrap();
        for input in *yes {
            assert!(regex.matches(input.as_bytes()), "{pattern} should match {input:?}");
        }
        for input in *no {
            assert!(!regex.matches(input.as_bytes()), "{pattern} should not match {input:?}");
        }
    }
}

/// CVE-2026-73552: no byte keeps an expression from matching.
#[test]
fn bytes_are_characters() {
    for (pattern, input, expected) in [
        (".*", &b"a\xff"[..], true),
        (r"a\C", b"a\xff", true),
        ("admin.*", b"admin\xe9\xff", true),
        ("admin.", b"admin\xe9", true),
        ("admin[^a]", b"admin\xff", true),
        (r"a\xff", b"a\xff", true),
        (r"a\x{ff}", b"a\xff", true),
        (r"[\x80-\xff]+", b"\x80\xc3\xff", true),
        (r"\pL", b"\xe9", true),
        (r"\pL", b"\xf7", false),
    ] {
        assert_eq!(compile(pattern).unwrap().matches(input), expected, "{pattern}");
    }
    assert!(compile(r"\x{100}").unwrap_err().contains("only bytes"));
}

#[test]
fn errors_say_what_to_do() {
    for (pattern, expected) in [
        ("", "must not be empty"),
        ("a(", "unclosed group"),
        ("a)(b", "unopened group"),
        ("(?=a)", "no look-around"),
        (r"(a)\1", "no back-references"),
        ("a{1001}", "more than 1000"),
        ("(?x)a", "no flag `x`"),
        ("[a", "`[` without `]`"),
        (r"\y", "no escape"),
        (r"a\", "lone"),
        ("((a{1000}){1000}){1000}", "when compiled"),
        ("*", "repetition operator missing expression"),
    ] {
        let message = compile(pattern).unwrap_err();
        assert!(message.contains(expected), "{pattern:?}: {message}");
        assert!(message.starts_with("regex: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn literal_prefixes() {
    for (pattern, expected) in [
        ("/api/v1/.*", "/api/v1/"),
        ("^/users/[^/]+$", "/users/"),
        (".*", ""),
        ("/a|/ab", "/a"),
        ("(?i)/abc", "/"),
        ("/foo", "/foo"),
        (r"/x\.y/\d+", "/x.y/"),
        ("a|b", ""),
        ("/a?", "/"),
    ] {
        let regex = compile(pattern).unwrap();
        assert_eq!(String::from_utf8_lossy(regex.literal_prefix()), expected, "{pattern}");
    }
}

#[test]
fn substitution() {
    let check = |pattern: &str, substitution: &str, input: &str, expected: &str| {
        let spec = SubstitutionSpec { pattern: pattern.into(), substitution: substitution.to_owned() };
        let compiled = Substitution::new(&spec).unwrap();
        assert_eq!(String::from_utf8_lossy(&compiled.replace_all(input.as_bytes())), expected, "{pattern}");
    };
    check("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo");
    check("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz");
    check("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz");
    check("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb");
    check("a", r"[\0]\\", "banana", r"b[a]\n[a]\n[a]\");
    check("(x)?a", r"<\1>", "ba", "b<>");
    check("x*", "-", "abc", "-a-b-c-");
    check("a", r"[\1]", "banana", "banana");
    check("a", r"[\q]", "bat", "b[t");
    for (substitution, expected) in [(r"\2", "does not have"), (r"\q", "backslash"), (r"\", "backslash")] {
        let spec = SubstitutionSpec { pattern: "(a)".into(), substitution: substitution.to_owned() };
        let message = Substitution::new(&spec).unwrap().warning().unwrap();
        assert!(message.contains(expected), "{message}");
    }
}
