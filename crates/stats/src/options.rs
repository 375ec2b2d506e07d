//! What the configuration decides about stats, as plain data. Owns no parsing of protobuf.

use std::fmt;
use std::sync::Arc;

/// A predicate over full stat names, compiled by whoever knows the matcher language.
pub type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Everything of `config.metrics.v3.StatsConfig` that the store needs. The default is Envoy's.
#[derive(Clone)]
pub struct StatsOptions {
    /// `stats_config.use_all_default_tags`; true when absent.
    pub use_all_default_tags: bool,
    /// `stats_config.stats_tags`, in order.
    pub stats_tags: Vec<TagSpecifier>,
    /// `--stats-tag name:value`, on every stat.
    pub cli_tags: Vec<(String, String)>,
    /// `stats_config.stats_matcher`: true for a name that is kept; `None` keeps all.
    ///
    /// `reject_all`, `inclusion_list` and `exclusion_list` all come down to this. It is asked once for each stat of a
    /// group, when the group is first shown.
    pub accept: Option<Predicate>,
    /// `stats_config.histogram_bucket_settings`: the first one that matches a name decides.
    pub histogram_bucket_settings: Vec<HistogramBuckets>,
    /// First segments of names that are shown to Prometheus without themselves and without `envoy_`.
    pub custom_namespaces: Vec<String>,
}

impl Default for StatsOptions {
    fn default() -> Self {
        Self {
            use_all_default_tags: true,
            stats_tags: Vec::new(),
            cli_tags: Vec::new(),
            accept: None,
            histogram_bucket_settings: Vec::new(),
            custom_namespaces: vec!["istiocustom".to_owned(), "wasmcustom".to_owned()],
        }
    }
}

impl fmt::Debug for StatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.histogram_bucket_settings.len();
        f.debug_struct("StatsOptions")
            .field("use_all_default_tags", &self.use_all_default_tags)
            .field("stats_tags", &self.stats_tags)
            .field("cli_tags", &self.cli_tags)
            .field("accept", &self.accept.is_some())
            .field("histogram_bucket_settings", &buckets)
            .field("custom_namespaces", &self.custom_namespaces)
            .finish()
    }
}

/// One entry of `stats_config.stats_tags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSpecifier {
    /// The name of the tag.
    pub tag_name: String,
    /// Where its value comes from.
    pub rule: TagRule,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagRule {
    /// A default tag of this name, used although `use_all_default_tags` is false.
    Default,
    /// The first capture group is cut from the name; the second one, or else the first, is the value.
    Regex(String),
    /// The same value on every stat.
    Fixed(String),
}

/// One entry of `stats_config.histogram_bucket_settings`.
#[derive(Clone)]
pub struct HistogramBuckets {
    /// Which full names it is for.
    pub matches: Predicate,
    /// Upper bounds, ascending and above zero.
    pub buckets: Arc<[f64]>,
}
