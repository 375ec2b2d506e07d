//! Structured values: `envoy.type.matcher.v3.ValueMatcher` and `MetadataMatcher`.

use crate::{DoubleMatcher, InvalidMatcher, StringMatcher, StringMatcherSpec};

/// A borrowed `google.protobuf.Value`, as the owner of metadata shows it to matchers.
pub trait ValueRef<'a>: Copy {
    /// What it is.
    fn kind(self) -> ValueKind<'a>;
    /// A field, if it is a struct that has it.
    fn field(self, key: &str) -> Option<Self>;
    /// Whether `test` holds for an item, if it is a list.
    fn any_item(self, test: &mut dyn FnMut(Self) -> bool) -> bool;
}

/// The kinds of `google.protobuf.Value`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueKind<'a> {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// a number
    Number(f64),
    /// a string
    String(&'a [u8]),
    /// a list; see [`ValueRef::any_item`]
    List,
    /// a struct; see [`ValueRef::field`]
    Struct,
}

/// `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatcherSpec {
    /// `null_match`
    Null,
    /// `double_match`
    Double(DoubleMatcher),
    /// `string_match`
    String(StringMatcherSpec),
    /// `bool_match`
    Bool(bool),
    /// `present_match`: true matches any value that is there; false matches nothing, as in Envoy.
    Present(bool),
    /// `list_match.one_of`: any item matches.
    ListOneOf(Box<ValueMatcherSpec>),
    /// `or_match.value_matchers`: any of these, at least two.
    Or(Vec<ValueMatcherSpec>),
}

/// A compiled value matcher.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// See [`ValueMatcherSpec::Null`].
    Null,
    /// See [`ValueMatcherSpec::Double`].
    Double(DoubleMatcher),
    /// See [`ValueMatcherSpec::String`].
    String(StringMatcher),
    /// See [`ValueMatcherSpec::Bool`].
    Bool(bool),
    /// See [`ValueMatcherSpec::Present`].
    Present(bool),
    /// See [`ValueMatcherSpec::ListOneOf`].
    ListOneOf(Box<ValueMatcher>),
    /// See [`ValueMatcherSpec::Or`].
    Or(Box<[ValueMatcher]>),
}

/// Matchers inside matchers beyond this are refused: evaluating recurses.
const MAX_DEPTH: usize = 32;

impl ValueMatcher {
    /// Compiles.
    pub fn new(spec: &ValueMatcherSpec) -> Result<ValueMatcher, InvalidMatcher> {
        ValueMatcher::compile(spec, MAX_DEPTH)
    }

    fn compile(spec: &ValueMatcherSpec, depth: usize) -> Result<ValueMatcher, InvalidMatcher> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(InvalidMatcher::new("", format!("more than {MAX_DEPTH} matchers inside one another")));
        };
        Ok(match spec {
            ValueMatcherSpec::Null => ValueMatcher::Null,
            ValueMatcherSpec::Double(double) => ValueMatcher::Double(*double),
            ValueMatcherSpec::Bool(bool) => ValueMatcher::Bool(*bool),
            ValueMatcherSpec::Present(present) => ValueMatcher::Present(*present),
            ValueMatcherSpec::String(string) => {
                ValueMatcher::String(StringMatcher::new(string).map_err(|e| e.within("string_match"))?)
            }
            ValueMatcherSpec::ListOneOf(item) => {
                let item = ValueMatcher::compile(item, depth).map_err(|e| e.within("list_match.one_of"))?;
                ValueMatcher::ListOneOf(Box::new(item))
            }
            ValueMatcherSpec::Or(any) => ValueMatcher::Or(
                any.iter()
                    .enumerate()
                    .map(|(at, one)| {
                        ValueMatcher::compile(one, depth)
                            .map_err(|e| e.within(&format!("or_match.value_matchers[{at}]")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    /// Whether the value, `None` if there is none, matches.
    pub fn matches<'a, V: ValueRef<'a>>(&self, value: Option<V>) -> bool {
        let Some(value) = value else {
            return match self {
                ValueMatcher::Or(any) => any.iter().any(|one| one.matches(None::<V>)),
                _ => false,
            };
        };
        match self {
            ValueMatcher::Null => matches!(value.kind(), ValueKind::Null),
            ValueMatcher::Double(double) => matches!(value.kind(), ValueKind::Number(n) if double.matches(n)),
            ValueMatcher::String(string) => matches!(value.kind(), ValueKind::String(text) if string.matches(text)),
            ValueMatcher::Bool(expected) => matches!(value.kind(), ValueKind::Bool(b) if b == *expected),
            ValueMatcher::Present(present) => *present,
            ValueMatcher::ListOneOf(item) => value.any_item(&mut |each| item.matches(Some(each))),
            ValueMatcher::Or(any) => any.iter().any(|one| one.matches(Some(value))),
        }
    }
}

/// `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataMatcherSpec {
    /// Namespace of the metadata (`filter`).
    pub filter: String,
    /// Keys from the namespace down to the value (`path[].key`), at least one.
    pub path: Vec<String>,
    /// What the value must be.
    pub value: ValueMatcherSpec,
    /// Negate; then an absent value matches. Default false.
    pub invert: bool,
}

/// A compiled metadata matcher.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    filter: Box<str>,
    path: Box<[Box<str>]>,
    value: ValueMatcher,
    invert: bool,
}

impl MetadataMatcher {
    /// Compiles.
    pub fn new(spec: &MetadataMatcherSpec) -> Result<MetadataMatcher, InvalidMatcher> {
        if spec.path.is_empty() {
            return Err(InvalidMatcher::new("path", "must have at least one key"));
        }
        Ok(MetadataMatcher {
            filter: spec.filter.as_str().into(),
            path: spec.path.iter().map(|key| key.as_str().into()).collect(),
            value: ValueMatcher::new(&spec.value).map_err(|e| e.within("value"))?,
            invert: spec.invert,
        })
    }

    /// Whether metadata matches. `field` gives a namespace's field of the given key.
    pub fn matches<'a, V: ValueRef<'a>>(&self, field: impl FnOnce(&str, &str) -> Option<V>) -> bool {
        let mut keys = self.path.iter();
        let first = keys.next().and_then(|key| field(&self.filter, key));
        let value = keys.fold(first, |value, key| value.and_then(|value| value.field(key)));
        self.value.matches(value) != self.invert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    enum V {
        Null,
        B(bool),
        N(f64),
        S(&'static str),
        L(Vec<V>),
        O(Vec<(&'static str, V)>),
    }

    impl<'a> ValueRef<'a> for &'a V {
        fn kind(self) -> ValueKind<'a> {
            match self {
                V::Null => ValueKind::Null,
                V::B(b) => ValueKind::Bool(*b),
                V::N(n) => ValueKind::Number(*n),
                V::S(text) => ValueKind::String(text.as_bytes()),
                V::L(_) => ValueKind::List,
                V::O(_) => ValueKind::Struct,
            }
        }
        fn field(self, key: &str) -> Option<Self> {
            let V::O(fields) = self else { return None };
            fields.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
        }
        fn any_item(self, test: &mut dyn FnMut(Self) -> bool) -> bool {
            let V::L(items) = self else { return false };
            items.iter().any(test)
        }
    }

    #[test]
    fn kinds() {
        use ValueMatcherSpec as M;
        let check = |spec: M, value: Option<V>, expected: bool| {
            assert_eq!(ValueMatcher::new(&spec).unwrap().matches(value.as_ref()), expected, "{spec:?} on {value:?}");
        };
        let string = |text: &str| M::String(StringMatcherSpec::exact(text));
        check(M::Null, Some(V::Null), true);
        check(M::Null, None, false);
        check(M::Bool(true), Some(V::B(true)), true);
        check(M::Bool(true), Some(V::S("true")), false);
        check(M::Double(DoubleMatcher::Exact(1.0)), Some(V::N(1.0)), true);
        check(string("a"), Some(V::S("a")), true);
        check(string("a"), None, false);
        check(M::Present(true), Some(V::Null), true);
        check(M::Present(true), None, false);
        check(M::Present(false), None, false);
        check(M::ListOneOf(Box::new(string("b"))), Some(V::L(vec![V::S("a"), V::S("b")])), true);
        check(M::ListOneOf(Box::new(string("b"))), Some(V::S("b")), false);
        check(M::Or(vec![string("x"), M::Null]), Some(V::Null), true);
    }

    #[test]
    fn paths_and_inversion() {
        let data = V::O(vec![("a", V::O(vec![("b", V::S("v"))]))]);
        let check = |path: &[&str], invert: bool, expected: bool| {
            let spec = MetadataMatcherSpec {
                filter: "ns".to_owned(),
                path: path.iter().map(|p| (*p).to_owned()).collect(),
                value: ValueMatcherSpec::String(StringMatcherSpec::exact("v")),
                invert,
            };
            let matcher = MetadataMatcher::new(&spec).unwrap();
            assert_eq!(matcher.matches(|ns, key| (ns == "ns").then(|| data.field(key)).flatten()), expected);
        };
        check(&["a", "b"], false, true);
        check(&["a"], false, false);
        check(&["a", "b", "c"], false, false);
        check(&["x", "b"], true, true);
        check(&["a", "b"], true, false);
    }

    #[test]
    fn depth_is_bounded() {
        let mut spec = ValueMatcherSpec::Null;
        for _ in 0..100 {
            spec = ValueMatcherSpec::ListOneOf(Box::new(spec));
        }
        assert!(ValueMatcher::new(&spec).unwrap_err().message.contains("32"));
    }
}
