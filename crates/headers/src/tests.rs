use crate::{HeaderMap, HeaderName, Known, KnownSet};

fn name(text: &str) -> HeaderName {
    HeaderName::new(text).unwrap()
}

fn dump(map: &HeaderMap) -> String {
    map.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect::<Vec<_>>().join("|")
}

#[test]
fn lists_grow_by_an_element() {
    for (present, expected) in
        [(&[][..], "new"), (&["a"], "a, new"), (&["a", "b"], "a,b, new"), (&[""], "new"), (&["", "b"], ",b, new")]
    {
        for name in ["via", "x-list"] {
            let name = HeaderName::new(name).unwrap();
            let mut map = HeaderMap::new();
            for value in present {
                map.append(&name, value.as_bytes());
                map.append(&HeaderName::new("x-other").unwrap(), b"o");
            }
            map.append_to_list(&name, ", ", |out| out.extend_from_slice(b"n\new"));
            let values: Vec<_> = map.all(&name).collect();
            assert_eq!(values, [expected.replace("new", "n ew").as_bytes()]);
            assert_eq!(map.len(), present.len().max(1) + present.len() - present.len().saturating_sub(1));
        }
    }
}

#[test]
fn names_are_lowered_and_refused() {
    assert_eq!(name("X-Foo").as_str(), "x-foo");
    assert_eq!(name("HOST").known(), Some(Known::HOST));
    assert_eq!(name(":path").known(), Some(Known::PATH));
    for bad in ["", "a b", "a:b", "ä", "a\n", ":foo"] {
        assert!(HeaderName::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn parsed_entries_read_back() {
    let head = b"Host: a\r\nX-Foo: bar\r\n";
    let mut map = HeaderMap::new();
    map.start(head, true);
    map.push_parsed((0, 4), (6, 1)).unwrap();
    map.push_parsed((9, 5), (16, 3)).unwrap();
    assert_eq!(dump(&map), "host=a|x-foo=bar");
    assert_eq!(map.get(Known::HOST), Some(&b"a"[..]));
    assert_eq!(map.original_name(1), Some(&b"X-Foo"[..]));
    assert!(map.push_parsed((0, 4), (6, 1000)).is_err());
    assert!(map.push_parsed((1000, 4), (6, 1)).is_err());
}

#[test]
fn set_append_remove_keep_order() {
    let mut map = HeaderMap::new();
    for (n, v) in [("a", "1"), ("host", "h"), ("a", "2"), ("b", "3"), ("host", "i")] {
        map.append(&name(n), v.as_bytes());
    }
    assert_eq!(map.joined(&name("a")).unwrap().as_ref(), b"1,2");
    map.set(&name("a"), b"9");
    assert_eq!(dump(&map), "a=9|host=h|b=3|host=i");
    map.set_known(Known::HOST, b"x");
    assert_eq!(dump(&map), "a=9|host=x|b=3");
    assert_eq!(map.remove(&name("host")), 1);
    assert!(!map.has(Known::HOST));
    assert_eq!(map.remove(&name("b")), 1);
    assert_eq!(map.remove(&name("b")), 0);
    assert_eq!(dump(&map), "a=9");
}

#[test]
fn values_can_not_split_a_message() {
    let mut map = HeaderMap::new();
    map.append(&name("a"), b"x\r\nevil: 1\0");
    map.append_known(Known::HOST, b"a\nb");
    assert_eq!(dump(&map), "a=x  evil: 1 |host=a b");
}

#[test]
fn retain_updates_presence() {
    let mut map = HeaderMap::new();
    map.append_known(Known::HOST, b"a");
    map.append(&name("k"), b"v");
    map.retain(|n, _| n != "host");
    assert!(!map.has(Known::HOST));
    assert_eq!(dump(&map), "k=v");
}

/// A map of a head as a parser fills it.
fn received(head: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.start(head, false);
    let mut at = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        let colon = line.iter().position(|b| *b == b':').unwrap();
        let space = line[colon + 1..].iter().take_while(|b| **b == b' ').count();
        let value = colon + 1 + space;
        let len = line[value..].trim_ascii_end().len();
        map.push_parsed((at, colon), (at + value, len)).unwrap();
        at += line.len();
    }
    map
}

#[test]
fn lines_are_written_as_if_one_by_one() {
    let check = |map: &HeaderMap, skip: &[Known], expected: &str| {
        let mut out = Vec::new();
        map.write_lines(&mut out, KnownSet::of(skip));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    let mut map = received(b"Host: a\r\nX-Foo: 1\r\nAccept:2\r\nVia:  3\r\nX-Bar: 4 \r\nX-Baz: 5\r\nAge: \r\n");
    let all = "host: a\r\nx-foo: 1\r\naccept: 2\r\nvia: 3\r\nx-bar: 4\r\nx-baz: 5\r\nage: \r\n";
    check(&map, &[], all);
    check(&map, &[Known::HOST, Known::VIA], "x-foo: 1\r\naccept: 2\r\nx-bar: 4\r\nx-baz: 5\r\nage: \r\n");
    map.append(&name("x-new"), b"6");
    map.set(&name("x-foo"), b"changed");
    map.remove(&name("x-baz"));
    check(&map, &[Known::VIA, Known::AGE], "host: a\r\nx-foo: changed\r\naccept: 2\r\nx-bar: 4\r\nx-new: 6\r\n");
    check(&HeaderMap::new(), &[], "");
    let known: Vec<_> = map.lines().filter_map(|line| line.known).collect();
    assert_eq!(known, [Known::HOST, Known::ACCEPT, Known::VIA, Known::AGE]);
}

#[test]
fn repeated_names_are_joined_when_asked() {
    let mut map = received(b"Via: 1\r\nCookie: a\r\nVia: 2\r\nX: 1\r\nCookie: b\r\nX: 2\r\n");
    assert!(map.is_repeated(Known::VIA) && map.is_repeated(Known::COOKIE) && !map.is_repeated(Known::HOST));
    map.join_repeated(KnownSet::of(&[Known::VIA, Known::HOST]));
    assert_eq!(dump(&map), "via=1,2|cookie=a|x=1|cookie=b|x=2");
    assert!(!map.is_repeated(Known::VIA));
}

#[test]
fn authority_remembers_how_host_was_spelled() {
    let mut map = HeaderMap::new();
    map.start(b"HOST: a\r\n", true);
    map.push_parsed_host(0, (6, 1)).unwrap();
    assert_eq!(map.original_name(0), Some(&b"HOST"[..]));
    assert_eq!(map.get(Known::AUTHORITY), Some(&b"a"[..]));
    assert!(map.push_parsed_host(100, (6, 1)).is_err());
}
