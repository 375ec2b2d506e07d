//! The generic matcher (`xds.type.matcher.v3.Matcher`): lists of predicates and maps that lead to actions.
//!
//! What inputs there are and what actions mean is the owner's business: a tree is generic over both, and asks a function for
//! the value of an input. Evaluating allocates nothing of its own.

use crate::{CidrMap, CidrRange, CidrSet, InvalidMatcher, StringMatcher};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

/// Matchers inside matchers beyond this are refused: evaluating recurses.
const MAX_DEPTH: usize = 32;

/// `xds.type.matcher.v3.Matcher`.
#[derive(Debug, Clone)]
pub struct MatchTree<I, A> {
    /// `matcher_list` or `matcher_tree`; `None`: only `on_no_match`.
    pub node: Option<MatchNode<I, A>>,
    /// `on_no_match`.
    pub on_no_match: Option<OnMatch<I, A>>,
}

/// `Matcher.matcher_type`.
#[derive(Debug, Clone)]
pub enum MatchNode<I, A> {
    /// `matcher_list`: the first whose predicate holds and that leads to an action.
    List(Vec<FieldMatcher<I, A>>),
    /// `matcher_tree`: by the value of an input.
    Map(I, MatchMap<I, A>),
}

/// `MatcherList.FieldMatcher`.
#[derive(Debug, Clone)]
pub struct FieldMatcher<I, A> {
    /// `predicate`.
    pub predicate: Predicate<I>,
    /// `on_match`.
    pub on_match: OnMatch<I, A>,
}

/// `Matcher.OnMatch`. `keep_matching` is not represented: lowering reports it.
#[derive(Debug, Clone)]
pub enum OnMatch<I, A> {
    /// `action`.
    Action(A),
    /// `matcher`.
    Matcher(Box<MatchTree<I, A>>),
}

/// `MatcherTree.tree_type`.
#[derive(Debug, Clone)]
pub enum MatchMap<I, A> {
    /// `exact_match_map`.
    Exact(HashMap<Box<[u8]>, OnMatch<I, A>>),
    /// `prefix_match_map`: the longest prefix that leads to an action.
    Prefix(PrefixMap<OnMatch<I, A>>),
    /// `custom_match` with `xds.type.matcher.v3.IPMatcher`: the longest range that leads to an action. A value that is no
    /// address matches nothing.
    Address(CidrMap<OnMatch<I, A>>),
}

/// `MatcherList.Predicate`.
#[derive(Debug, Clone)]
pub enum Predicate<I> {
    /// `single_predicate`.
    Single(I, ValueTest),
    /// `or_matcher`.
    Or(Vec<Predicate<I>>),
    /// `and_matcher`.
    And(Vec<Predicate<I>>),
    /// `not_matcher`.
    Not(Box<Predicate<I>>),
    /// `single_predicate` with a `custom_match` that the owner knows together with its input: it holds if there is a value.
    Present(I),
}

/// What a value is compared with. An absent value never matches.
#[derive(Debug, Clone)]
pub enum ValueTest {
    /// `value_match`.
    Text(StringMatcher),
    /// `custom_match` with `envoy.extensions.matching.input_matchers.ip.v3.Ip`.
    Address(CidrSet),
}

/// Values by prefix.
#[derive(Debug, Clone)]
pub struct PrefixMap<T> {
    entries: HashMap<Box<[u8]>, T>,
    /// Lengths that occur, longest first.
    lengths: Vec<usize>,
}

impl<T> PrefixMap<T> {
    /// A map of these; of equal prefixes the last counts.
    pub fn new(entries: impl IntoIterator<Item = (Box<[u8]>, T)>) -> Self {
        let entries: HashMap<Box<[u8]>, T> = entries.into_iter().collect();
        let mut lengths: Vec<usize> = Vec::new();
        lengths.extend(entries.keys().map(|prefix| prefix.len()));
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        PrefixMap { entries, lengths }
    }

    /// The values of all prefixes of `text`, longest prefix first.
    pub fn matching<'m>(&'m self, text: &[u8]) -> impl Iterator<Item = &'m T> {
        self.lengths.iter().filter_map(|length| self.entries.get(text.get(..*length)?))
    }
}

impl ValueTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            ValueTest::Text(matcher) => matcher.matches(value),
            ValueTest::Address(ranges) => address(value).is_some_and(|address| ranges.contains(address)),
        }
    }

    /// A test for addresses in any of the ranges.
    pub fn addresses(ranges: impl IntoIterator<Item = CidrRange>) -> Self {
        ValueTest::Address(CidrSet::new(ranges))
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl<I> Predicate<I> {
    fn holds<'v>(&self, value: &impl Fn(&I) -> Option<Cow<'v, [u8]>>) -> bool {
        match self {
            Predicate::Single(input, test) => value(input).is_some_and(|value| test.holds(&value)),
            Predicate::Or(any) => any.iter().any(|predicate| predicate.holds(value)),
            Predicate::And(all) => all.iter().all(|predicate| predicate.holds(value)),
            Predicate::Not(predicate) => !predicate.holds(value),
            Predicate::Present(input) => value(input).is_some(),
        }
    }

    fn depth(&self, limit: usize) -> Option<usize> {
        let limit = limit.checked_sub(1)?;
        let deepest =
            |list: &[Predicate<I>]| list.iter().map(|one| one.depth(limit)).try_fold(0, |a, b| b.map(|b| a.max(b)));
        Some(
            1 + match self {
                Predicate::Single(..) | Predicate::Present(_) => 0,
                Predicate::Or(list) | Predicate::And(list) => deepest(list)?,
                Predicate::Not(one) => one.depth(limit)?,
            },
        )
    }
}

impl<I, A> MatchTree<I, A> {
    /// The action for the values that `value` gives for inputs; `None` for a value that is absent.
    pub fn evaluate<'v>(&self, value: &impl Fn(&I) -> Option<Cow<'v, [u8]>>) -> Option<&A> {
        let found = match &self.node {
            None => None,
            Some(MatchNode::List(list)) => list
                .iter()
                .filter(|field| field.predicate.holds(value))
                .find_map(|field| field.on_match.evaluate(value)),
            Some(MatchNode::Map(input, map)) => value(input).and_then(|found| match map {
                MatchMap::Exact(entries) => entries.get(&*found)?.evaluate(value),
                MatchMap::Prefix(entries) => entries.matching(&found).find_map(|on_match| on_match.evaluate(value)),
                MatchMap::Address(ranges) => {
                    ranges.matching(address(&found)?).find_map(|on_match| on_match.evaluate(value))
                }
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.evaluate(value))
    }

    /// Refuses a tree that is too deep to evaluate. To be called once, before the first [`MatchTree::evaluate`].
    pub fn check(&self) -> Result<(), InvalidMatcher> {
        match self.fits(MAX_DEPTH) {
            true => Ok(()),
            false => Err(InvalidMatcher::new("", format!("more than {MAX_DEPTH} matchers inside one another"))),
        }
    }

    fn fits(&self, limit: usize) -> bool {
        let Some(limit) = limit.checked_sub(1) else { return false };
        self.predicates().all(|predicate| predicate.depth(limit).is_some())
            && self.branches().all(|on_match| match on_match {
                OnMatch::Action(_) => true,
                OnMatch::Matcher(tree) => tree.fits(limit),
            })
    }

    fn predicates(&self) -> impl Iterator<Item = &Predicate<I>> {
        let list = match &self.node {
            Some(MatchNode::List(list)) => &list[..],
            _ => &[],
        };
        list.iter().map(|field| &field.predicate)
    }

    fn branches(&self) -> Box<dyn Iterator<Item = &OnMatch<I, A>> + '_> {
        let branches: Box<dyn Iterator<Item = &OnMatch<I, A>>> = match &self.node {
            None => Box::new(std::iter::empty()),
            Some(MatchNode::List(list)) => Box::new(list.iter().map(|field| &field.on_match)),
            Some(MatchNode::Map(_, MatchMap::Exact(map))) => Box::new(map.values()),
            Some(MatchNode::Map(_, MatchMap::Prefix(map))) => Box::new(map.entries.values()),
            Some(MatchNode::Map(_, MatchMap::Address(map))) => Box::new(map.values()),
        };
        Box::new(branches.chain(&self.on_no_match))
    }

    /// The same tree with other actions. `change` is called for each action; the tree must have passed
    /// [`MatchTree::check`].
    pub fn map<B>(self, change: &mut impl FnMut(A) -> B) -> MatchTree<I, B> {
        let node = self.node.map(|node| match node {
            MatchNode::List(list) => MatchNode::List(
                list.into_iter()
                    .map(|FieldMatcher { predicate, on_match }| FieldMatcher {
                        predicate,
                        on_match: on_match.map(change),
                    })
                    .collect(),
            ),
            MatchNode::Map(input, map) => MatchNode::Map(
                input,
                match map {
                    MatchMap::Exact(map) => {
                        MatchMap::Exact(map.into_iter().map(|(key, on_match)| (key, on_match.map(change))).collect())
                    }
                    MatchMap::Prefix(map) => MatchMap::Prefix(PrefixMap {
                        entries: map.entries.into_iter().map(|(key, on_match)| (key, on_match.map(change))).collect(),
                        lengths: map.lengths,
                    }),
                    MatchMap::Address(map) => MatchMap::Address(map.map(|on_match| on_match.map(change))),
                },
            ),
        });
        MatchTree { node, on_no_match: self.on_no_match.map(|on_match| on_match.map(change)) }
    }
}

impl<I, A> OnMatch<I, A> {
    fn evaluate<'v>(&self, value: &impl Fn(&I) -> Option<Cow<'v, [u8]>>) -> Option<&A> {
        match self {
            OnMatch::Action(action) => Some(action),
            OnMatch::Matcher(tree) => tree.evaluate(value),
        }
    }

    fn map<B>(self, change: &mut impl FnMut(A) -> B) -> OnMatch<I, B> {
        match self {
            OnMatch::Action(action) => OnMatch::Action(change(action)),
            OnMatch::Matcher(tree) => OnMatch::Matcher(Box::new(tree.map(change))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringMatcherSpec;

    type Tree = MatchTree<&'static str, u32>;

    fn text(input: &'static str, exact: &str) -> Predicate<&'static str> {
        Predicate::Single(input, ValueTest::Text(StringMatcher::new(&StringMatcherSpec::exact(exact)).unwrap()))
    }

    fn when(
        predicate: Predicate<&'static str>,
        on_match: OnMatch<&'static str, u32>,
    ) -> FieldMatcher<&'static str, u32> {
        FieldMatcher { predicate, on_match }
    }

    fn nested(tree: Tree) -> OnMatch<&'static str, u32> {
        OnMatch::Matcher(Box::new(tree))
    }

    fn check(tree: &Tree, values: &[(&str, &str)], expected: Option<u32>) {
        let value = |input: &&'static str| {
            let found = values.iter().find(|(name, _)| name == input);
            found.map(|(_, value)| Cow::Owned(value.as_bytes().to_vec()))
        };
        assert_eq!(tree.evaluate(&value).copied(), expected, "{values:?}");
    }

    #[test]
    fn lists() {
        let inner =
            Tree { node: Some(MatchNode::List(vec![when(text("b", "2"), OnMatch::Action(1))])), on_no_match: None };
        let tree = Tree {
            node: Some(MatchNode::List(vec![
                when(text("a", "1"), nested(inner)),
                when(Predicate::Or(vec![text("a", "1"), text("a", "2")]), OnMatch::Action(2)),
                when(
                    Predicate::And(vec![text("a", "3"), Predicate::Not(Box::new(text("b", "2")))]),
                    OnMatch::Action(3),
                ),
            ])),
            on_no_match: Some(OnMatch::Action(9)),
        };
        check(&tree, &[("a", "1"), ("b", "2")], Some(1));
        check(&tree, &[("a", "1"), ("b", "3")], Some(2));
        check(&tree, &[("a", "2")], Some(2));
        check(&tree, &[("a", "3")], Some(3));
        check(&tree, &[("a", "3"), ("b", "2")], Some(9));
        check(&tree, &[], Some(9));
        assert!(tree.check().is_ok());
        let doubled = tree.map(&mut |action| action * 2);
        check(&doubled, &[("a", "2")], Some(4));
    }

    #[test]
    fn maps() {
        let only = |input, exact, action| Tree {
            node: Some(MatchNode::List(vec![when(text(input, exact), OnMatch::Action(action))])),
            on_no_match: None,
        };
        let bytes = |text: &str| Box::<[u8]>::from(text.as_bytes());
        let exact = Tree {
            node: Some(MatchNode::Map("a", MatchMap::Exact(HashMap::from([(bytes("x"), OnMatch::Action(1))])))),
            on_no_match: None,
        };
        check(&exact, &[("a", "x")], Some(1));
        check(&exact, &[("a", "xy")], None);
        let prefix = Tree {
            node: Some(MatchNode::Map(
                "a",
                MatchMap::Prefix(PrefixMap::new([
                    (bytes("/"), OnMatch::Action(1)),
                    (bytes("/a"), nested(only("b", "1", 2))),
                    (bytes("/ab"), OnMatch::Action(3)),
                ])),
            )),
            on_no_match: None,
        };
        check(&prefix, &[("a", "/abc")], Some(3));
        check(&prefix, &[("a", "/ac"), ("b", "1")], Some(2));
        check(&prefix, &[("a", "/ac")], Some(1));
        check(&prefix, &[("a", "x")], None);
        let mut ranges = CidrMap::default();
        for (range, length, action) in [("10.0.0.0", 8, 1), ("10.1.0.0", 16, 2)] {
            ranges.insert(CidrRange::parse(range, length).unwrap(), OnMatch::Action(action));
        }
        let by_address =
            Tree { node: Some(MatchNode::Map("ip", MatchMap::Address(ranges))), on_no_match: Some(OnMatch::Action(0)) };
        for (address, expected) in [("10.1.2.3", 2), ("10.2.2.3", 1), ("11.2.2.3", 0), ("x", 0), ("", 0)] {
            check(&by_address, &[("ip", address)], Some(expected));
        }
        check(&by_address, &[], Some(0));
    }

    #[test]
    fn addresses_as_predicates() {
        let ranges = [CidrRange::parse("fd00::", 8).unwrap()];
        let predicate = Predicate::Single("ip", ValueTest::addresses(ranges));
        let tree = Tree { node: Some(MatchNode::List(vec![when(predicate, OnMatch::Action(1))])), on_no_match: None };
        check(&tree, &[("ip", "fd12::1")], Some(1));
        check(&tree, &[("ip", "10.0.0.1")], None);
    }

    #[test]
    fn depth_is_bounded() {
        let mut tree = Tree { node: None, on_no_match: Some(OnMatch::Action(1)) };
        let mut predicate = text("a", "1");
        for _ in 0..100 {
            tree = Tree { node: None, on_no_match: Some(nested(tree)) };
            predicate = Predicate::Not(Box::new(predicate));
        }
        assert!(tree.check().is_err());
        let tree = Tree { node: Some(MatchNode::List(vec![when(predicate, OnMatch::Action(1))])), on_no_match: None };
        assert!(tree.check().is_err());
    }
}
