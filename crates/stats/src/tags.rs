//! Tag extraction: takes the parts of a stat name that vary (cluster, listener, response code) out of it, and
//! says what they are. Owns the order of extraction and the rules of the configuration; the default rules
//! are in `defaults`.

mod defaults;
mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::options::{StatsOptions, TagRule, TagSpecifier};

/// Steps that the backtracking engine may take on one name before it gives up; names are short.
const BACKTRACK_LIMIT: usize = 100_000;

/// Finds the tags of a name.
#[derive(Debug)]
pub struct TagProducer {
    fixed: Vec<(String, String)>,
    /// Rules that may match any name, in order; they go first.
    anywhere: Vec<Extractor>,
    /// Rules for names that start with this segment, in order.
    by_first_segment: HashMap<Box<str>, Vec<Extractor>>,
}

#[derive(Debug)]
struct Extractor {
    tag: Cow<'static, str>,
    rule: Rule,
}

enum Rule {
    Segments(pattern::Segments),
    /// Code, for the default rules that segments can't say.
    Find(Find),
    Regex(regex::Regex),
    /// A regular expression with look-around or back-references, which need the slower engine.
    Backtracking(fancy_regex::Regex),
    Fixed(String),
}

type Find = fn(&str) -> Option<Found>;

/// What a rule found in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What goes out of the name.
    cut: Range<usize>,
    /// The value of the tag.
    value: Range<usize>,
}

/// A name without the parts that became tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted<'a> {
    /// What is left of the name.
    pub name: String,
    /// Tags and their values, in Envoy's order.
    pub tags: Vec<(&'a str, &'a str)>,
}

/// A tag rule that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagError {
    /// The position in `stats_config.stats_tags`.
    pub index: usize,
    /// The name of the tag.
    pub tag_name: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, tag_name, reason } = self;
        write!(f, "stats_config.stats_tags[{index}] ({tag_name}): {reason}")
    }
}

impl std::error::Error for TagError {}

impl Default for TagProducer {
    /// Envoy's default rules.
    fn default() -> Self {
        let mut producer = Self { fixed: Vec::new(), anywhere: Vec::new(), by_first_segment: HashMap::new() };
        producer.add_defaults(|_| true);
        producer
    }
}

impl TagProducer {
    /// Compiles the rules of the configuration, after the default ones if those are wanted.
    pub fn new(options: &StatsOptions) -> Result<Self, TagError> {
        let mut producer =
            Self { fixed: options.cli_tags.clone(), anywhere: Vec::new(), by_first_segment: HashMap::new() };
        if options.use_all_default_tags {
            producer.add_defaults(|_| true);
        }
        for (index, specifier) in options.stats_tags.iter().enumerate() {
            producer.add_specifier(index, specifier)?;
        }
        Ok(producer)
    }

    fn add_specifier(&mut self, index: usize, specifier: &TagSpecifier) -> Result<(), TagError> {
        let tag_name = &specifier.tag_name;
        let error = |reason| TagError { index, tag_name: tag_name.clone(), reason };
        match &specifier.rule {
            TagRule::Default => {
                if !self.add_defaults(|tag| tag == tag_name) {
                    return Err(error("no regex is given and there is no default tag of this name".to_owned()));
                }
            }
            TagRule::Fixed(value) => self.add(tag_name.clone().into(), Rule::Fixed(value.clone()), None),
            TagRule::Regex(regex) => {
                let rule = pattern::compile(regex).map_err(error)?;
                let segment = pattern::first_segment(regex);
                self.add(tag_name.clone().into(), rule, segment);
            }
        }
        Ok(())
    }

    /// Adds the default rules of the tags that are wanted; false if there were none.
    fn add_defaults(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let mut any = false;
        for &(tag, segment, find) in defaults::FIND {
            if wanted(tag) {
                self.add(tag.into(), Rule::Find(find), segment);
                any = true;
            }
        }
        for &(tag, segments) in defaults::SEGMENTS {
            if wanted(tag) {
                let first = segments.split('.').next().filter(|&first| first != "$");
                self.add(tag.into(), Rule::Segments(pattern::Segments::new(segments)), first);
                any = true;
            }
        }
        any
    }

    fn add(&mut self, tag: Cow<'static, str>, rule: Rule, first_segment: Option<&str>) {
        let extractor = Extractor { tag, rule };
        match first_segment {
            Some(segment) => {
                let rules = self.by_first_segment.entry(segment.into()).or_default();
                rules.push(extractor);
            }
            None => self.anywhere.push(extractor),
        }
    }

    /// The tags that every stat has.
    pub(crate) fn fixed(&self) -> impl Iterator<Item = (&str, &str)> {
        let cli = self.fixed.iter().map(|(name, value)| (&**name, &**value));
        let configured = self.anywhere.iter().filter_map(|extractor| match &extractor.rule {
            Rule::Fixed(value) => Some((&*extractor.tag, &**value)),
            _ => None,
        });
        cli.chain(configured)
    }

    /// Finds the tags of a full name. The first rule that gives a tag a value wins.
    pub fn produce<'a>(&'a self, name: &'a str) -> Extracted<'a> {
        let mut tags: Vec<(&str, &str)> = Vec::with_capacity(4);
        for (tag, value) in &self.fixed {
            tags.push((tag, value));
        }
        let mut cuts: Vec<Range<usize>> = Vec::new();
        let segments = pattern::segments_of(name);
        let of_segment = name.split_once('.').and_then(|(first, _)| self.by_first_segment.get(first));
        for Extractor { tag, rule } in self.anywhere.iter().chain(of_segment.into_iter().flatten()) {
            if tags.iter().any(|&(known, _)| known == tag) {
                continue;
            }
            if let Rule::Fixed(value) = rule {
                tags.push((tag, value));
            } else if let Some(found) = rule.find(name, &segments) {
                tags.push((tag, name.get(found.value).unwrap_or_default()));
                cuts.push(found.cut);
            }
        }
        Extracted { name: without(name, &mut cuts), tags }
    }
}

impl Rule {
    fn find(&self, name: &str, segments: &[Range<usize>]) -> Option<Found> {
        match self {
            Rule::Segments(pattern) => pattern.find(name, segments),
            Rule::Find(find) => find(name),
            Rule::Fixed(_) => None,
            Rule::Regex(regex) => {
                let groups = regex.captures(name)?;
                let cut = groups.get(1).map_or(0..0, |group| group.range());
                let value = match groups.len() {
                    0..=2 => cut.clone(),
                    _ => groups.get(2).map_or(0..0, |group| group.range()),
                };
                Some(Found { cut, value })
            }
            Rule::Backtracking(regex) => {
                // An error is the step limit: then the name has no such tag.
                let groups = regex.captures(name).ok()??;
                let cut = groups.get(1).map_or(0..0, |group| group.range());
                let value = match groups.len() {
                    0..=2 => cut.clone(),
                    _ => groups.get(2).map_or(0..0, |group| group.range()),
                };
                Some(Found { cut, value })
            }
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Segments(pattern) => f.write_str(pattern.as_str()),
            Rule::Find(_) => f.write_str("code"),
            Rule::Regex(regex) => f.write_str(regex.as_str()),
            Rule::Backtracking(regex) => f.write_str(regex.as_str()),
            Rule::Fixed(value) => write!(f, "={value}"),
        }
    }
}

/// `name` without these ranges, which may overlap.
fn without(name: &str, cuts: &mut [Range<usize>]) -> String {
    cuts.sort_by_key(|cut| cut.start);
    let mut rest = String::with_capacity(name.len());
    let mut at = 0;
    for cut in cuts {
        rest.push_str(name.get(at..cut.start).unwrap_or_default());
        at = at.max(cut.end);
    }
    rest.push_str(name.get(at..).unwrap_or_default());
    rest
}
