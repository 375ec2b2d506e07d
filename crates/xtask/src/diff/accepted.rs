//! The differences that are meant, each with its reason: `tests/diff/accepted.yaml`. One that is never needed is an error.

use std::cell::Cell;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accepted {
    /// Differences of cases.
    pub cases: Vec<CaseRule>,
    /// Configurations that are not simply accepted by both.
    pub configs: Vec<ConfigRule>,
}

/// A difference in a field of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseRule {
    /// A pattern for `file: case`.
    case: String,
    /// A pattern for the field.
    field: String,
    /// A pattern for Envoy's value.
    envoy: Option<String>,
    /// A pattern for Nuncio's value.
    nuncio: Option<String>,
    /// Why it is meant.
    pub reason: String,
    #[serde(skip)]
    used: Cell<bool>,
}

/// What both say to a configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigRule {
    /// The beginning of the file's name.
    file: String,
    /// Whether Envoy accepts it.
    pub envoy: Verdict,
    /// Whether Nuncio does.
    pub nuncio: Verdict,
    /// Why.
    pub reason: String,
    #[serde(skip)]
    used: Cell<bool>,
}

/// Whether a configuration is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Accepted,
    /// It is not.
    Refused,
}

impl Verdict {
    /// From the exit status of a validation.
    pub fn of(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

impl Accepted {
    /// Reads the file; none is the same as an empty one.
    pub fn load(path: &Path) -> Result<Self, String> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(Self::default()) };
        let document = crate::yaml::documents(&text)?.into_iter().next().unwrap_or_default();
        if document.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(document).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether a difference is meant, and why.
    pub fn case(&self, case: &str, field: &str, envoy: &str, nuncio: &str) -> Option<&str> {
        let fits = |pattern: &str, text: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        let rule = self.cases.iter().find(|rule| {
            fits(&rule.case, case)
                && fits(&rule.field, field)
                && rule.envoy.as_ref().is_none_or(|pattern| fits(pattern, envoy))
                && rule.nuncio.as_ref().is_none_or(|pattern| fits(pattern, nuncio))
        })?;
        rule.used.set(true);
        Some(&rule.reason)
    }

    /// The rule for a configuration.
    pub fn config(&self, file: &str) -> Option<&ConfigRule> {
        let rule = self.configs.iter().find(|rule| file.starts_with(&rule.file))?;
        rule.used.set(true);
        Some(rule)
    }

    /// Rules that nothing needed; those of configurations only if they were all there.
    pub fn unused(&self, configs: bool) -> Vec<String> {
        let cases =
            self.cases.iter().filter(|rule| !rule.used.get()).map(|rule| format!("{} / {}", rule.case, rule.field));
        let configs = self.configs.iter().filter(|rule| configs && !rule.used.get()).map(|rule| rule.file.clone());
        cases.chain(configs).collect()
    }
}
