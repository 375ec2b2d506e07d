use crate::{HeaderMap, HeaderName, Known};

fn name(text: &str) -> HeaderName {
    HeaderName::new(text).unwrap()
}

fn dump(map: &HeaderMap) -> String {
    map.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect::<Vec<_>>().join("|")
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
