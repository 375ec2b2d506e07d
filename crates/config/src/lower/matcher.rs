//! String, header, query, value and address matchers.
//!
//! Functions ending in `_spec` only translate; the others also compile. Where a specification is compiled later, as in route
//! tables, its errors are found then.

use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::route::v3 as route;
use nuncio_api::pb::envoy::r#type::matcher::v3 as pb;
use nuncio_matcher::{
    CidrRange, CookieMatcherSpec, DoubleMatcher, HeaderMatchSpec, HeaderMatcher, HeaderMatcherSpec, InvalidMatcher,
    MetadataMatcher, MetadataMatcherSpec, QueryMatchSpec, QueryParameterMatcher, QueryParameterMatcherSpec, Regex,
    RegexSpec, StringMatchSpec, StringMatcher, StringMatcherSpec, Substitution, SubstitutionSpec, ValueMatcher,
    ValueMatcherSpec,
};

/// Translates, with errors that name their field below the message.
type Translated<T> = Result<T, InvalidMatcher>;

/// Matchers inside matchers beyond this are refused: translating recurses.
const MAX_DEPTH: usize = 32;

fn missing(field: &str) -> InvalidMatcher {
    InvalidMatcher::new(field, "is required")
}

fn within<T>(translated: Translated<T>, field: &str) -> Translated<T> {
    translated.map_err(|error| error.within(field))
}

/// `RegexMatcher`.
pub fn regex_spec(matcher: &pb::RegexMatcher) -> RegexSpec {
    RegexSpec { regex: matcher.regex.clone() }
}

/// `RegexMatcher`, compiled to match the whole input.
pub fn regex(matcher: &pb::RegexMatcher, cx: &mut Compile<'_>) -> Result<Regex, Invalid> {
    cx.check(Regex::new(&regex_spec(matcher)))
}

/// `RegexMatchAndSubstitute`.
pub fn substitution_spec(rewrite: &pb::RegexMatchAndSubstitute) -> SubstitutionSpec {
    let pb::RegexMatchAndSubstitute { pattern, substitution } = rewrite;
    let pattern = pattern.as_ref().map(regex_spec).unwrap_or_default();
    SubstitutionSpec { pattern, substitution: substitution.clone() }
}

/// `RegexMatchAndSubstitute`, compiled.
pub fn substitution(rewrite: &pb::RegexMatchAndSubstitute, cx: &mut Compile<'_>) -> Result<Substitution, Invalid> {
    cx.check(Substitution::new(&substitution_spec(rewrite)))
}

/// `StringMatcher`.
pub fn string_spec(matcher: &pb::StringMatcher) -> Translated<StringMatcherSpec> {
    use pb::string_matcher::MatchPattern;
    let pb::StringMatcher { ignore_case, match_pattern } = matcher;
    let pattern = match match_pattern {
        None => {
            return Err(InvalidMatcher::new("", "has no pattern: set exact, prefix, suffix, contains or safe_regex"));
        }
        Some(MatchPattern::Exact(text)) => StringMatchSpec::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => StringMatchSpec::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => StringMatchSpec::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => StringMatchSpec::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) => StringMatchSpec::SafeRegex(regex_spec(regex)),
        Some(MatchPattern::Custom(extension)) => {
            let text =
                format!("the string matcher {} is not built: use safe_regex or one of the others", extension.name);
            return Err(InvalidMatcher::new("custom", text));
        }
    };
    Ok(StringMatcherSpec { pattern, ignore_case: *ignore_case })
}

/// `StringMatcher`, compiled.
pub fn string(matcher: &pb::StringMatcher, cx: &mut Compile<'_>) -> Result<StringMatcher, Invalid> {
    cx.check(string_spec(matcher).and_then(|spec| StringMatcher::new(&spec)))
}

/// A list of `StringMatcher`, compiled.
pub fn strings(
    matchers: &[pb::StringMatcher],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Vec<StringMatcher>, Invalid> {
    list(matchers, field, cx, string)
}

/// Lowers each element; all findings are made before it fails.
pub fn list<S, T>(
    elements: &[S],
    field: &'static str,
    cx: &mut Compile<'_>,
    lower: impl Fn(&S, &mut Compile<'_>) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    let mut lowered = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        lowered.extend(lower(element, &mut cx.element(field, index)));
    }
    if lowered.len() == elements.len() { Ok(lowered) } else { Err(Invalid) }
}

/// `HeaderMatcher`.
pub fn header_spec(matcher: &route::HeaderMatcher) -> Translated<HeaderMatcherSpec> {
    use route::header_matcher::HeaderMatchSpecifier as Kind;
    let route::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = matcher;
    #[allow(deprecated)]
    let kind = match header_match_specifier {
        None => HeaderMatchSpec::Unset,
        Some(Kind::ExactMatch(text)) => HeaderMatchSpec::Exact(text.clone()),
        Some(Kind::SafeRegexMatch(regex)) => HeaderMatchSpec::SafeRegex(regex_spec(regex)),
        Some(Kind::RangeMatch(range)) => HeaderMatchSpec::Range { start: range.start, end: range.end },
        Some(Kind::PresentMatch(present)) => HeaderMatchSpec::Present(*present),
        Some(Kind::PrefixMatch(text)) => HeaderMatchSpec::Prefix(text.clone()),
        Some(Kind::SuffixMatch(text)) => HeaderMatchSpec::Suffix(text.clone()),
        Some(Kind::ContainsMatch(text)) => HeaderMatchSpec::Contains(text.clone()),
        Some(Kind::StringMatch(matcher)) => HeaderMatchSpec::StringMatch(within(string_spec(matcher), "string_match")?),
    };
    Ok(HeaderMatcherSpec {
        name: name.clone(),
        kind,
        invert_match: *invert_match,
        treat_missing_header_as_empty: *treat_missing_header_as_empty,
    })
}

/// `HeaderMatcher`, compiled.
pub fn header(matcher: &route::HeaderMatcher, cx: &mut Compile<'_>) -> Result<HeaderMatcher, Invalid> {
    cx.check(header_spec(matcher).and_then(|spec| HeaderMatcher::new(&spec)))
}

/// A list of `HeaderMatcher`, compiled.
pub fn headers(
    matchers: &[route::HeaderMatcher],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Vec<HeaderMatcher>, Invalid> {
    list(matchers, field, cx, header)
}

/// `QueryParameterMatcher`.
pub fn query_spec(matcher: &route::QueryParameterMatcher) -> Translated<QueryParameterMatcherSpec> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Kind;
    let route::QueryParameterMatcher { name, query_parameter_match_specifier } = matcher;
    let kind = match query_parameter_match_specifier {
        None => QueryMatchSpec::Unset,
        Some(Kind::PresentMatch(present)) => QueryMatchSpec::Present(*present),
        Some(Kind::StringMatch(matcher)) => QueryMatchSpec::StringMatch(within(string_spec(matcher), "string_match")?),
    };
    Ok(QueryParameterMatcherSpec { name: name.clone(), kind })
}

/// `QueryParameterMatcher`, compiled.
pub fn query(matcher: &route::QueryParameterMatcher, cx: &mut Compile<'_>) -> Result<QueryParameterMatcher, Invalid> {
    cx.check(query_spec(matcher).and_then(|spec| QueryParameterMatcher::new(&spec)))
}

/// `CookieMatcher`.
pub fn cookie_spec(matcher: &route::CookieMatcher) -> Translated<CookieMatcherSpec> {
    let route::CookieMatcher { name, string_match, invert_match } = matcher;
    let string_match = string_match.as_ref().ok_or_else(|| missing("string_match"))?;
    let string_match = within(string_spec(string_match), "string_match")?;
    Ok(CookieMatcherSpec { name: name.clone(), string_match, invert_match: *invert_match })
}

/// `ValueMatcher`.
pub fn value_spec(matcher: &pb::ValueMatcher) -> Translated<ValueMatcherSpec> {
    value_at(matcher, MAX_DEPTH)
}

fn value_at(matcher: &pb::ValueMatcher, depth: usize) -> Translated<ValueMatcherSpec> {
    use pb::value_matcher::MatchPattern as Kind;
    let too_deep = || InvalidMatcher::new("", format!("more than {MAX_DEPTH} matchers inside one another"));
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    Ok(match &matcher.match_pattern {
        None => return Err(InvalidMatcher::new("", "has no pattern: set string_match, present_match or another")),
        Some(Kind::NullMatch(_)) => ValueMatcherSpec::Null,
        Some(Kind::DoubleMatch(double)) => ValueMatcherSpec::Double(within(double_spec(double), "double_match")?),
        Some(Kind::StringMatch(string)) => ValueMatcherSpec::String(within(string_spec(string), "string_match")?),
        Some(Kind::BoolMatch(bool)) => ValueMatcherSpec::Bool(*bool),
        Some(Kind::PresentMatch(present)) => ValueMatcherSpec::Present(*present),
        Some(Kind::ListMatch(list)) => {
            let Some(pb::list_matcher::MatchPattern::OneOf(one)) = &list.match_pattern else {
                return Err(missing("list_match.one_of"));
            };
            ValueMatcherSpec::ListOneOf(Box::new(within(value_at(one, depth), "list_match.one_of")?))
        }
        Some(Kind::OrMatch(any)) => {
            let each = |(at, one)| within(value_at(one, depth), &format!("or_match.value_matchers[{at}]"));
            ValueMatcherSpec::Or(any.value_matchers.iter().enumerate().map(each).collect::<Result<_, _>>()?)
        }
    })
}

fn double_spec(matcher: &pb::DoubleMatcher) -> Translated<DoubleMatcher> {
    use pb::double_matcher::MatchPattern as Kind;
    match &matcher.match_pattern {
        None => Err(InvalidMatcher::new("", "has no pattern: set exact or range")),
        Some(Kind::Exact(exact)) => Ok(DoubleMatcher::Exact(*exact)),
        Some(Kind::Range(range)) => Ok(DoubleMatcher::Range { start: range.start, end: range.end }),
    }
}

/// `ValueMatcher`, compiled.
pub fn value(matcher: &pb::ValueMatcher, cx: &mut Compile<'_>) -> Result<ValueMatcher, Invalid> {
    cx.check(value_spec(matcher).and_then(|spec| ValueMatcher::new(&spec)))
}

/// `MetadataMatcher`.
pub fn metadata_spec(matcher: &pb::MetadataMatcher) -> Translated<MetadataMatcherSpec> {
    let pb::MetadataMatcher { filter, path, value, invert } = matcher;
    let value = value.as_ref().ok_or_else(|| missing("value"))?;
    Ok(MetadataMatcherSpec {
        filter: filter.clone(),
        path: metadata_path(path)?,
        value: within(value_spec(value), "value")?,
        invert: *invert,
    })
}

pub(super) fn metadata_path(path: &[pb::metadata_matcher::PathSegment]) -> Translated<Vec<String>> {
    use pb::metadata_matcher::path_segment::Segment;
    let key = |(at, segment): (usize, &pb::metadata_matcher::PathSegment)| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.clone()),
        None => Err(missing(&format!("path[{at}].key"))),
    };
    path.iter().enumerate().map(key).collect()
}

/// `MetadataMatcher`, compiled.
pub fn metadata_matcher(matcher: &pb::MetadataMatcher, cx: &mut Compile<'_>) -> Result<MetadataMatcher, Invalid> {
    cx.check(metadata_spec(matcher).and_then(|spec| MetadataMatcher::new(&spec)))
}

/// A list of `CidrRange`.
pub fn cidrs(ranges: &[core::CidrRange], field: &'static str, cx: &mut Compile<'_>) -> Result<Vec<CidrRange>, Invalid> {
    list(ranges, field, cx, |range, cx| {
        let core::CidrRange { address_prefix, prefix_len } = range;
        let length = prefix_len.as_ref().map_or(0, |length| length.value);
        cidr(address_prefix, length, cx)
    })
}

/// An address range. Envoy takes a length beyond the address for its whole.
pub fn cidr(prefix: &str, length: u32, cx: &mut Compile<'_>) -> Result<CidrRange, Invalid> {
    let width = if prefix.contains(':') { 128 } else { 32 };
    if length > width {
        cx.field("prefix_len").warn(format!("found {length}, which counts as {width}, as in Envoy"));
    }
    cx.check(CidrRange::parse(prefix, length.min(width)))
}
