//! `xds.type.matcher.v3.Matcher` over the headers of a request.

use super::matcher;
use crate::compile::{Compile, Invalid, message_of};
use nuncio_api::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use nuncio_api::pb::xds::core::v3::TypedExtensionConfig;
use nuncio_api::pb::xds::r#type::matcher::v3 as pb;
use nuncio_headers::HeaderName;
use nuncio_matcher::{
    FieldMatcher, InvalidMatcher, MatchMap, MatchNode, MatchTree, OnMatch, Predicate, PrefixMap, RegexSpec,
    StringMatchSpec, StringMatcher, StringMatcherSpec, ValueTest,
};
use pb::matcher::matcher_list::Predicate as PbPredicate;
use pb::matcher::matcher_list::predicate::{MatchType, SinglePredicate, single_predicate};
use pb::matcher::matcher_tree::TreeType;
use pb::matcher::on_match::OnMatch as PbOnMatch;
use pb::string_matcher::MatchPattern;
use prost::Name;
use std::collections::HashMap;

/// Lowers what a matcher leads to.
pub type LowerAction<'a, A> = &'a dyn Fn(&TypedExtensionConfig, &mut Compile<'_>) -> Result<A, Invalid>;

/// A matcher. What is not built of it is an error: other actions would be taken than it says.
pub fn header_match_tree<A>(
    tree: &pb::Matcher,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<MatchTree<HeaderName, A>, Invalid> {
    let lowered = match_tree(tree, action, cx)?;
    cx.check(lowered.check().map(|()| lowered))
}

fn match_tree<A>(
    tree: &pb::Matcher,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<MatchTree<HeaderName, A>, Invalid> {
    let pb::Matcher { on_no_match: otherwise, matcher_type } = tree;
    let node = match matcher_type {
        None => Ok(None),
        Some(pb::matcher::MatcherType::MatcherList(list)) => {
            let mut cx = cx.field("matcher_list");
            let fields =
                matcher::list(&list.matchers, "matchers", &mut cx, |field, cx| field_matcher(field, action, cx));
            fields.map(|fields| Some(MatchNode::List(fields)))
        }
        Some(pb::matcher::MatcherType::MatcherTree(map)) => {
            match_map(map, action, &mut cx.field("matcher_tree")).map(Some)
        }
    };
    let on_no_match = otherwise.as_ref().map(|otherwise| on_match(otherwise, action, &mut cx.field("on_no_match")));
    Ok(MatchTree { node: node?, on_no_match: on_no_match.transpose()? })
}

fn field_matcher<A>(
    field: &pb::matcher::matcher_list::FieldMatcher,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<FieldMatcher<HeaderName, A>, Invalid> {
    let predicate = match &field.predicate {
        Some(wanted) => predicate(wanted, &mut cx.field("predicate")),
        None => Err(cx.field("predicate").error("is required")),
    };
    let on_match = match &field.on_match {
        Some(then) => on_match(then, action, &mut cx.field("on_match")),
        None => Err(cx.field("on_match").error("is required")),
    };
    Ok(FieldMatcher { predicate: predicate?, on_match: on_match? })
}

fn on_match<A>(
    then: &pb::matcher::OnMatch,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<OnMatch<HeaderName, A>, Invalid> {
    if then.keep_matching {
        return Err(cx.field("keep_matching").error_hint("has no meaning here", "leave it out"));
    }
    match &then.on_match {
        Some(PbOnMatch::Action(config)) => action(config, &mut cx.field("action")).map(OnMatch::Action),
        Some(PbOnMatch::Matcher(tree)) => {
            match_tree(tree, action, &mut cx.field("matcher")).map(|tree| OnMatch::Matcher(Box::new(tree)))
        }
        None => Err(cx.error_hint("says nothing", "set action or matcher")),
    }
}

fn match_map<A>(
    map: &pb::matcher::MatcherTree,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<MatchNode<HeaderName, A>, Invalid> {
    let input = input(map.input.as_ref(), cx);
    let (name, entries) = match &map.tree_type {
        Some(TreeType::ExactMatchMap(map)) => ("exact_match_map", map),
        Some(TreeType::PrefixMatchMap(map)) => ("prefix_match_map", map),
        Some(TreeType::CustomMatch(custom)) => {
            let text = format!("the matcher {} is not built", custom.name);
            return Err(cx.field("custom_match").error_hint(text, "use exact_match_map or prefix_match_map"));
        }
        None => return Err(cx.error_hint("says nothing", "set exact_match_map or prefix_match_map")),
    };
    let mut at = cx.field(name);
    let mut lowered = HashMap::with_capacity(entries.map.len());
    for (key, then) in &entries.map {
        let then = on_match(then, action, &mut at.entry("map", key))?;
        lowered.insert(Box::from(key.as_bytes()), then);
    }
    let is_exact = name == "exact_match_map";
    let map = if is_exact { MatchMap::Exact(lowered) } else { MatchMap::Prefix(PrefixMap::new(lowered)) };
    Ok(MatchNode::Map(input?, map))
}

fn predicate(wanted: &PbPredicate, cx: &mut Compile<'_>) -> Result<Predicate<HeaderName>, Invalid> {
    match &wanted.match_type {
        None => Err(cx.error_hint("says nothing", "set single_predicate, or_matcher, and_matcher or not_matcher")),
        Some(MatchType::SinglePredicate(single)) => self::single(single, &mut cx.field("single_predicate")),
        Some(MatchType::OrMatcher(any)) => {
            matcher::list(&any.predicate, "predicate", &mut cx.field("or_matcher"), predicate).map(Predicate::Or)
        }
        Some(MatchType::AndMatcher(all)) => {
            matcher::list(&all.predicate, "predicate", &mut cx.field("and_matcher"), predicate).map(Predicate::And)
        }
        Some(MatchType::NotMatcher(one)) => {
            predicate(one, &mut cx.field("not_matcher")).map(|one| Predicate::Not(Box::new(one)))
        }
    }
}

fn single(single: &SinglePredicate, cx: &mut Compile<'_>) -> Result<Predicate<HeaderName>, Invalid> {
    let input = input(single.input.as_ref(), cx);
    let test = match &single.matcher {
        Some(single_predicate::Matcher::ValueMatch(value)) => {
            let mut cx = cx.field("value_match");
            cx.check(string_spec(value).and_then(|spec| StringMatcher::new(&spec)))
        }
        Some(single_predicate::Matcher::CustomMatch(custom)) => {
            let text = format!("the matcher {} is not built", custom.name);
            Err(cx.field("custom_match").error_hint(text, "use value_match"))
        }
        None => Err(cx.error_hint("compares with nothing", "set value_match")),
    };
    Ok(Predicate::Single(input?, ValueTest::Text(test?)))
}

fn input(input: Option<&TypedExtensionConfig>, cx: &mut Compile<'_>) -> Result<HeaderName, Invalid> {
    let mut cx = cx.field("input");
    let Some(any) = input.and_then(|input| input.typed_config.as_ref()) else { return Err(cx.error("is required")) };
    let mut cx = cx.field("typed_config");
    if message_of(any) != HttpRequestHeaderMatchInput::full_name() {
        let text = format!("the input {} is not built here", message_of(any));
        return Err(cx.error_hint(text, "envoy.type.matcher.v3.HttpRequestHeaderMatchInput is"));
    }
    let header = cx.decode::<HttpRequestHeaderMatchInput>(any)?;
    HeaderName::new(&header.header_name).map_err(|error| cx.field("header_name").error(error.to_string()))
}

fn string_spec(value: &pb::StringMatcher) -> Result<StringMatcherSpec, InvalidMatcher> {
    let pattern = match &value.match_pattern {
        Some(MatchPattern::Exact(text)) => StringMatchSpec::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => StringMatchSpec::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => StringMatchSpec::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => StringMatchSpec::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) => StringMatchSpec::SafeRegex(RegexSpec { regex: regex.regex.clone() }),
        Some(MatchPattern::Custom(custom)) => {
            return Err(InvalidMatcher::new("custom", format!("the string matcher {} is not built", custom.name)));
        }
        None => {
            return Err(InvalidMatcher::new("", "has no pattern: set exact, prefix, suffix, contains or safe_regex"));
        }
    };
    Ok(StringMatcherSpec { pattern, ignore_case: value.ignore_case })
}
