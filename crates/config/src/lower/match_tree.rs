//! `xds.type.matcher.v3.Matcher`, over whatever inputs its owner has.

use super::matcher;
use crate::compile::{Compile, Invalid, message_of};
use nuncio_api::matchers::{IpMatcher, IpRangeMatcher};
use nuncio_api::pb::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use nuncio_api::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use nuncio_api::pb::xds::core::v3::TypedExtensionConfig;
use nuncio_api::pb::xds::r#type::matcher::v3 as pb;
use nuncio_api::wkt::Any;
use nuncio_headers::HeaderName;
use nuncio_matcher::{
    CidrMap, FieldMatcher, InvalidMatcher, MatchMap, MatchNode, MatchTree, OnMatch, Predicate, PrefixMap, RegexSpec,
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

/// Which inputs a matcher may have.
pub trait MatchInputs {
    /// An input, as it is asked for when the matcher is evaluated.
    type Input;

    /// The input that a message configures. What is not known is an error.
    fn input(&self, any: &Any, cx: &mut Compile<'_>) -> Result<Self::Input, Invalid>;

    /// A matcher that only makes sense together with its input; none to leave it to [`match_tree`].
    fn custom(
        &self,
        input: &Any,
        matcher: &Any,
        cx: &mut Compile<'_>,
    ) -> Result<Option<Predicate<Self::Input>>, Invalid> {
        let _ = (input, matcher, cx);
        Ok(None)
    }
}

/// The headers of a request.
struct RequestHeaders;

impl MatchInputs for RequestHeaders {
    type Input = HeaderName;

    fn input(&self, any: &Any, cx: &mut Compile<'_>) -> Result<HeaderName, Invalid> {
        if message_of(any) != HttpRequestHeaderMatchInput::full_name() {
            let text = format!("the input {} is not built here", message_of(any));
            return Err(cx.error_hint(text, "envoy.type.matcher.v3.HttpRequestHeaderMatchInput is"));
        }
        header_input(any, cx)
    }
}

/// `HttpRequestHeaderMatchInput`.
pub fn header_input(any: &Any, cx: &mut Compile<'_>) -> Result<HeaderName, Invalid> {
    let header = cx.decode::<HttpRequestHeaderMatchInput>(any)?;
    HeaderName::new(&header.header_name).map_err(|error| cx.field("header_name").error(error.to_string()))
}

/// A matcher on request headers. What is not built of it is an error: other actions would be taken than it says.
pub fn header_match_tree<A>(
    tree: &pb::Matcher,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<MatchTree<HeaderName, A>, Invalid> {
    match_tree(tree, &RequestHeaders, action, cx)
}

/// A matcher on these inputs. What is not built of it is an error.
pub fn match_tree<S: MatchInputs, A>(
    tree: &pb::Matcher,
    inputs: &S,
    action: LowerAction<'_, A>,
    cx: &mut Compile<'_>,
) -> Result<MatchTree<S::Input, A>, Invalid> {
    let lowered = Lowering { inputs, action, depth: MAX_DEPTH }.tree(tree, cx)?;
    cx.check(lowered.check().map(|()| lowered))
}

/// Matchers inside matchers beyond this are refused: lowering recurses.
const MAX_DEPTH: usize = 32;

struct Lowering<'a, S, A> {
    inputs: &'a S,
    action: LowerAction<'a, A>,
    depth: usize,
}

impl<S: MatchInputs, A> Lowering<'_, S, A> {
    fn below(&self, cx: &mut Compile<'_>) -> Result<Self, Invalid> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Lowering { inputs: self.inputs, action: self.action, depth }),
            None => Err(cx.error(format!("more than {MAX_DEPTH} matchers inside one another"))),
        }
    }

    fn tree(&self, tree: &pb::Matcher, cx: &mut Compile<'_>) -> Result<MatchTree<S::Input, A>, Invalid> {
        let pb::Matcher { on_no_match: otherwise, matcher_type } = tree;
        let node = match matcher_type {
            None => Ok(None),
            Some(pb::matcher::MatcherType::MatcherList(list)) => {
                let mut cx = cx.field("matcher_list");
                let fields =
                    matcher::list(&list.matchers, "matchers", &mut cx, |field, cx| self.field_matcher(field, cx));
                fields.map(|fields| Some(MatchNode::List(fields)))
            }
            Some(pb::matcher::MatcherType::MatcherTree(map)) => self.map(map, &mut cx.field("matcher_tree")).map(Some),
        };
        let on_no_match = otherwise.as_ref().map(|otherwise| self.on_match(otherwise, &mut cx.field("on_no_match")));
        Ok(MatchTree { node: node?, on_no_match: on_no_match.transpose()? })
    }

    fn field_matcher(
        &self,
        field: &pb::matcher::matcher_list::FieldMatcher,
        cx: &mut Compile<'_>,
    ) -> Result<FieldMatcher<S::Input, A>, Invalid> {
        let predicate = match &field.predicate {
            Some(wanted) => self.predicate(wanted, &mut cx.field("predicate")),
            None => Err(cx.field("predicate").error("is required")),
        };
        let on_match = match &field.on_match {
            Some(then) => self.on_match(then, &mut cx.field("on_match")),
            None => Err(cx.field("on_match").error("is required")),
        };
        Ok(FieldMatcher { predicate: predicate?, on_match: on_match? })
    }

    fn on_match(&self, then: &pb::matcher::OnMatch, cx: &mut Compile<'_>) -> Result<OnMatch<S::Input, A>, Invalid> {
        if then.keep_matching {
            return Err(cx.field("keep_matching").error_hint("has no meaning here", "leave it out"));
        }
        match &then.on_match {
            Some(PbOnMatch::Action(config)) => (self.action)(config, &mut cx.field("action")).map(OnMatch::Action),
            Some(PbOnMatch::Matcher(tree)) => {
                let mut cx = cx.field("matcher");
                let tree = self.below(&mut cx)?.tree(tree, &mut cx)?;
                Ok(OnMatch::Matcher(Box::new(tree)))
            }
            None => Err(cx.error_hint("says nothing", "set action or matcher")),
        }
    }

    fn map(&self, map: &pb::matcher::MatcherTree, cx: &mut Compile<'_>) -> Result<MatchNode<S::Input, A>, Invalid> {
        let input = self.input(map.input.as_ref(), cx);
        let (name, entries) = match &map.tree_type {
            Some(TreeType::ExactMatchMap(map)) => ("exact_match_map", map),
            Some(TreeType::PrefixMatchMap(map)) => ("prefix_match_map", map),
            Some(TreeType::CustomMatch(custom)) => {
                let ranges = self.ranges(custom, &mut cx.field("custom_match"));
                return Ok(MatchNode::Map(input?, MatchMap::Address(ranges?)));
            }
            None => return Err(cx.error_hint("says nothing", "set exact_match_map or prefix_match_map")),
        };
        let mut at = cx.field(name);
        let mut lowered = HashMap::with_capacity(entries.map.len());
        for (key, then) in &entries.map {
            let then = self.on_match(then, &mut at.entry("map", key))?;
            lowered.insert(Box::from(key.as_bytes()), then);
        }
        let is_exact = name == "exact_match_map";
        let map = if is_exact { MatchMap::Exact(lowered) } else { MatchMap::Prefix(PrefixMap::new(lowered)) };
        Ok(MatchNode::Map(input?, map))
    }

    /// `xds.type.matcher.v3.IPMatcher`.
    fn ranges(
        &self,
        custom: &TypedExtensionConfig,
        cx: &mut Compile<'_>,
    ) -> Result<CidrMap<OnMatch<S::Input, A>>, Invalid> {
        let any = custom.typed_config.as_ref().filter(|any| message_of(any) == IpMatcher::full_name());
        let Some(any) = any else {
            let text = format!("the matcher {} is not built", custom.name);
            return Err(cx.error_hint(text, "use exact_match_map, prefix_match_map or xds.type.matcher.v3.IPMatcher"));
        };
        let mut cx = cx.field("typed_config");
        let IpMatcher { range_matchers } = cx.decode(any)?;
        let mut map = CidrMap::default();
        for (index, IpRangeMatcher { ranges, on_match, exclusive }) in range_matchers.iter().enumerate() {
            let mut cx = cx.element("range_matchers", index);
            if *exclusive {
                return Err(cx.field("exclusive").error_hint("is not built", "leave it out, or add on_no_match"));
            }
            let Some(then) = on_match else { return Err(cx.field("on_match").error("is required")) };
            for (at, range) in ranges.iter().enumerate() {
                let length = range.prefix_len.map_or(0, |length| length.value);
                let range = matcher::cidr(&range.address_prefix, length, &mut cx.element("ranges", at))?;
                let then = self.on_match(then, &mut cx.field("on_match"))?;
                if map.insert(range, then).is_some() {
                    return Err(cx.element("ranges", at).error("stands twice"));
                }
            }
        }
        Ok(map)
    }

    fn predicate(&self, wanted: &PbPredicate, cx: &mut Compile<'_>) -> Result<Predicate<S::Input>, Invalid> {
        let this = self.below(cx)?;
        match &wanted.match_type {
            None => Err(cx.error_hint("says nothing", "set single_predicate, or_matcher, and_matcher or not_matcher")),
            Some(MatchType::SinglePredicate(single)) => this.single(single, &mut cx.field("single_predicate")),
            Some(MatchType::OrMatcher(any)) => {
                let mut cx = cx.field("or_matcher");
                matcher::list(&any.predicate, "predicate", &mut cx, |one, cx| this.predicate(one, cx))
                    .map(Predicate::Or)
            }
            Some(MatchType::AndMatcher(all)) => {
                let mut cx = cx.field("and_matcher");
                matcher::list(&all.predicate, "predicate", &mut cx, |one, cx| this.predicate(one, cx))
                    .map(Predicate::And)
            }
            Some(MatchType::NotMatcher(one)) => {
                this.predicate(one, &mut cx.field("not_matcher")).map(|one| Predicate::Not(Box::new(one)))
            }
        }
    }

    fn single(&self, single: &SinglePredicate, cx: &mut Compile<'_>) -> Result<Predicate<S::Input>, Invalid> {
        let test = match &single.matcher {
            Some(single_predicate::Matcher::ValueMatch(value)) => {
                let mut cx = cx.field("value_match");
                cx.check(string_spec(value).and_then(|spec| StringMatcher::new(&spec))).map(ValueTest::Text)
            }
            Some(single_predicate::Matcher::CustomMatch(custom)) => {
                return self.custom(single.input.as_ref(), custom, cx);
            }
            None => Err(cx.error_hint("compares with nothing", "set value_match or custom_match")),
        };
        Ok(Predicate::Single(self.input(single.input.as_ref(), cx)?, test?))
    }

    fn custom(
        &self,
        input: Option<&TypedExtensionConfig>,
        custom: &TypedExtensionConfig,
        cx: &mut Compile<'_>,
    ) -> Result<Predicate<S::Input>, Invalid> {
        let Some(any) = &custom.typed_config else {
            return Err(cx.field("custom_match").field("typed_config").error("is required"));
        };
        if let Some(input) = input.and_then(|input| input.typed_config.as_ref())
            && let Some(predicate) = self.inputs.custom(input, any, cx)?
        {
            return Ok(predicate);
        }
        let input = self.input(input, cx);
        let mut cx = cx.field("custom_match");
        let mut cx = cx.field("typed_config");
        if message_of(any) != Ip::full_name() {
            let text = format!("the matcher {} ({}) is not built for this input", custom.name, message_of(any));
            return Err(cx.error_hint(text, "use value_match or envoy.matching.matchers.ip"));
        }
        let Ip { cidr_ranges, stat_prefix: _ } = cx.decode(any)?;
        let ranges = matcher::cidrs(&cidr_ranges, "cidr_ranges", &mut cx)?;
        Ok(Predicate::Single(input?, ValueTest::addresses(ranges)))
    }

    fn input(&self, input: Option<&TypedExtensionConfig>, cx: &mut Compile<'_>) -> Result<S::Input, Invalid> {
        let mut cx = cx.field("input");
        let Some(any) = input.and_then(|input| input.typed_config.as_ref()) else {
            return Err(cx.error("is required"));
        };
        self.inputs.input(any, &mut cx.field("typed_config"))
    }
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
