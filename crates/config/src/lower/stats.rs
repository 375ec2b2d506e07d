//! `stats_config`, to what the statistics store is made with.

use super::matcher;
use super::number::Wrapped;
use crate::diagnostics::{Diagnostic, Diagnostics, FieldPath};
use crate::source::Loaded;
use nuncio_api::pb::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::pb::envoy::config::metrics::v3 as pb;
use nuncio_api::pb::envoy::r#type::matcher::v3 as patterns;
use nuncio_matcher::{InvalidMatcher, StringMatcher};
use nuncio_stats::{HistogramBuckets, Predicate, StatsOptions, TagRule, TagSpecifier};
use std::sync::Arc;

/// The options of the statistics store. Errors are reported; what has one is left out.
pub fn stats_options(bootstrap: &Bootstrap, loaded: &Loaded, diagnostics: &mut Diagnostics) -> StatsOptions {
    let mut options = StatsOptions::default();
    let Some(config) = &bootstrap.stats_config else { return options };
    let pb::StatsConfig {
        stats_tags,
        use_all_default_tags,
        stats_matcher,
        histogram_bucket_settings,
        allow_default_tag_overrides,
    } = config;
    let path = FieldPath::root().field("stats_config");
    let mut report = |path: &FieldPath, finding: Diagnostic| {
        diagnostics.push(finding.at(loaded.positions.locate(path)));
    };
    if allow_default_tag_overrides.is_some() {
        let path = path.field("allow_default_tag_overrides");
        let text = "is not supported yet: it is accepted and has no effect";
        report(&path, Diagnostic::warning(path.to_string(), text));
    }
    options.use_all_default_tags = use_all_default_tags.value_or(true);
    options.stats_tags = stats_tags.iter().map(tag).collect();
    if let Some(matcher) = stats_matcher {
        match self::stats_matcher(matcher) {
            Ok(accept) => options.accept = accept,
            Err(error) => fail(&path.field("stats_matcher"), error, &mut report),
        }
    }
    for (index, settings) in histogram_bucket_settings.iter().enumerate() {
        let path = path.field("histogram_bucket_settings").index(index);
        if settings.bins.is_some() {
            let path = path.field("bins");
            let text = "is not supported yet: it is accepted and has no effect";
            report(&path, Diagnostic::warning(path.to_string(), text));
        }
        match buckets(settings) {
            Ok(buckets) => options.histogram_bucket_settings.push(buckets),
            Err(error) => fail(&path, error, &mut report),
        }
    }
    options
}

fn fail(path: &FieldPath, error: InvalidMatcher, report: &mut impl FnMut(&FieldPath, Diagnostic)) {
    let InvalidMatcher { path: below, message } = error;
    let path = if below.is_empty() { path.clone() } else { FieldPath::parse(&format!("{path}.{below}")) };
    report(&path, Diagnostic::error(path.to_string(), message));
}

fn tag(specifier: &pb::TagSpecifier) -> TagSpecifier {
    use pb::tag_specifier::TagValue;
    let pb::TagSpecifier { tag_name, tag_value } = specifier;
    let rule = match tag_value {
        None => TagRule::Default,
        Some(TagValue::Regex(regex)) if regex.is_empty() => TagRule::Default,
        Some(TagValue::Regex(regex)) => TagRule::Regex(regex.clone()),
        Some(TagValue::FixedValue(value)) => TagRule::Fixed(value.clone()),
    };
    TagSpecifier { tag_name: tag_name.clone(), rule }
}

/// `StatsMatcher` as a predicate over names; none keeps all. Errors name their field below the matcher.
pub fn stats_matcher(matcher: &pb::StatsMatcher) -> Result<Option<Predicate>, InvalidMatcher> {
    use pb::stats_matcher::StatsMatcher as Kind;
    Ok(match &matcher.stats_matcher {
        None => return Err(InvalidMatcher::new("", "has no rule: set reject_all, inclusion_list or exclusion_list")),
        Some(Kind::RejectAll(false)) => None,
        Some(Kind::RejectAll(true)) => Some(Arc::new(|_| false)),
        Some(Kind::InclusionList(list)) => {
            let any = any_of(&list.patterns).map_err(|error| error.within("inclusion_list"))?;
            Some(any)
        }
        Some(Kind::ExclusionList(list)) => {
            let any = any_of(&list.patterns).map_err(|error| error.within("exclusion_list"))?;
            Some(Arc::new(move |name| !any(name)))
        }
    })
}

fn any_of(list: &[patterns::StringMatcher]) -> Result<Predicate, InvalidMatcher> {
    let compiled =
        |(at, pattern)| compile(pattern).map_err(|error: InvalidMatcher| error.within(&format!("patterns[{at}]")));
    let matchers: Vec<StringMatcher> = list.iter().enumerate().map(compiled).collect::<Result<_, _>>()?;
    Ok(Arc::new(move |name| matchers.iter().any(|matcher| matcher.matches(name.as_bytes()))))
}

fn compile(pattern: &patterns::StringMatcher) -> Result<StringMatcher, InvalidMatcher> {
    matcher::string_spec(pattern).and_then(|spec| StringMatcher::new(&spec))
}

fn buckets(settings: &pb::HistogramBucketSettings) -> Result<HistogramBuckets, InvalidMatcher> {
    let pb::HistogramBucketSettings { r#match, buckets, bins: _ } = settings;
    let pattern = r#match.as_ref().ok_or_else(|| InvalidMatcher::new("match", "is required"))?;
    let matcher = compile(pattern).map_err(|error| error.within("match"))?;
    let ascending = buckets.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || !buckets.iter().all(|bound| bound.is_finite() && *bound > 0.0) {
        return Err(InvalidMatcher::new("buckets", "must be ascending numbers above zero"));
    }
    let matches: Predicate = Arc::new(move |name| matcher.matches(name.as_bytes()));
    Ok(HistogramBuckets { matches, buckets: buckets.as_slice().into() })
}
