//! The parameters of `/stats` and `/stats/prometheus`. Owns their parsing and Envoy's words for what is wrong with
//! them.

use std::fmt;

use regex::Regex;

use crate::group::Kind;

/// Longest filter that is compiled, in bytes.
const MAX_FILTER: usize = 4096;
/// Most memory that a compiled filter may take, in bytes.
const MAX_FILTER_SIZE: usize = 1 << 20;

/// What to show, and how.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The output format.
    pub format: Format,
    /// Only stats whose full name this finds something in.
    pub filter: Option<Regex>,
    /// Only stats whose name the filter does not find anything in.
    pub invert_filter: bool,
    /// Only stats that were ever updated.
    pub used_only: bool,
    /// Only these kinds; ignored by Prometheus.
    pub kinds: Kinds,
    /// How histograms are shown.
    pub histogram_buckets: BucketMode,
    /// Whether Prometheus gets text readouts, as gauges.
    pub text_readouts: bool,
}

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `name: value`
    #[default]
    Text,
    /// `{"stats":[…]}`
    Json,
    /// A page with the text in it.
    Html,
    /// Prometheus text exposition.
    Prometheus,
}

/// Which kinds of stats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// All.
    #[default]
    All,
    /// One.
    Only(Kind),
}

/// How histograms are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketMode {
    /// Not said: quantiles in lists, cumulative buckets for Prometheus.
    #[default]
    Unset,
    /// Quantiles.
    Summary,
    /// Counts up to each bound.
    Cumulative,
    /// Counts between bounds.
    Disjoint,
    /// Every bin.
    Detailed,
}

/// Which endpoint was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/stats`
    Stats,
    /// `/stats/prometheus`
    Prometheus,
}

/// Parameters that Envoy answers with 400 and this body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQuery(pub String);

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadQuery {}

fn bad(message: impl Into<String>) -> BadQuery {
    BadQuery(message.into())
}

impl Query {
    /// Reads decoded parameters. Unknown ones are ignored, as in Envoy; of a repeated one the first counts.
    pub fn parse<'a>(
        endpoint: Endpoint,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BadQuery> {
        let parameters: Vec<(&str, &str)> = parameters.into_iter().collect();
        let get = |wanted: &str| {
            let mut known = parameters.iter();
            known.find(|(name, _)| *name == wanted).map(|&(_, value)| value)
        };
        let filter = get("filter").filter(|filter| !filter.is_empty()).map(compile).transpose()?;
        let query = Self {
            format: format(endpoint, get("format").unwrap_or_default())?,
            invert_filter: get("invert_filter").is_some(),
            used_only: get("usedonly").is_some(),
            kinds: kinds(get("type").unwrap_or_default())?,
            histogram_buckets: bucket_mode(get("histogram_buckets").unwrap_or_default())?,
            text_readouts: get("text_readouts").is_some(),
            filter,
        };
        if query.invert_filter && query.filter.is_none() {
            return Err(bad("invert_filter can only be used if filter is also provided"));
        }
        query.check_buckets(get("histogram_buckets").unwrap_or_default())?;
        Ok(query)
    }

    fn check_buckets(&self, mode: &str) -> Result<(), BadQuery> {
        if self.format != Format::Prometheus {
            return match mode {
                "prometheusnative" => Err(bad("Invalid histogram_buckets type for non prometheus stats type")),
                _ => Ok(()),
            };
        }
        match mode {
            "prometheusnative" => {
                Err(bad("unsupported prometheusnative histogram type when not using protobuf exposition format"))
            }
            "disjoint" | "detailed" => Err(bad("unsupported prometheus histogram bucket mode")),
            _ => Ok(()),
        }
    }

    /// Whether a stat of this full name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        match &self.filter {
            Some(filter) => filter.is_match(name) != self.invert_filter,
            None => true,
        }
    }

    /// Whether stats of this kind are wanted.
    pub(crate) fn wants_kind(&self, kind: Kind) -> bool {
        match self.kinds {
            Kinds::All => true,
            Kinds::Only(only) => only == kind,
        }
    }
}

fn compile(filter: &str) -> Result<Regex, BadQuery> {
    if filter.len() > MAX_FILTER {
        return Err(bad(format!("Invalid re2 regex: longer than {MAX_FILTER} bytes")));
    }
    let regex = regex::RegexBuilder::new(filter).size_limit(MAX_FILTER_SIZE).build();
    regex.map_err(|error| bad(format!("Invalid re2 regex: {error}")))
}

fn format(endpoint: Endpoint, format: &str) -> Result<Format, BadQuery> {
    match (endpoint, format) {
        (Endpoint::Prometheus, _) | (_, "prometheus") => Ok(Format::Prometheus),
        (_, "" | "text") => Ok(Format::Text),
        (_, "json") => Ok(Format::Json),
        (_, "html" | "active-html") => Ok(Format::Html),
        _ => Err(bad("usage: /stats?format=(html|active-html|json|prometheus|text)\n\n")),
    }
}

fn kinds(kinds: &str) -> Result<Kinds, BadQuery> {
    match kinds {
        "" | "All" => Ok(Kinds::All),
        "Counters" => Ok(Kinds::Only(Kind::Counter)),
        "Gauges" => Ok(Kinds::Only(Kind::Gauge)),
        "Histograms" => Ok(Kinds::Only(Kind::Histogram)),
        "TextReadouts" => Ok(Kinds::Only(Kind::TextReadout)),
        _ => Err(bad("invalid &type= param")),
    }
}

fn bucket_mode(mode: &str) -> Result<BucketMode, BadQuery> {
    match mode {
        "" | "prometheusnative" => Ok(BucketMode::Unset),
        "none" | "summary" => Ok(BucketMode::Summary),
        "cumulative" => Ok(BucketMode::Cumulative),
        "disjoint" => Ok(BucketMode::Disjoint),
        "detailed" => Ok(BucketMode::Detailed),
        _ => Err(bad("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n")),
    }
}
