//! What is gathered while a context is read: findings by field, and the files that were looked at.

use super::secrets::{SecretKey, Secrets};
use crate::compile::{Compile, Environment, Invalid};
use crate::lower::read_file;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_tls::Finding;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// Findings and files of one context.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub errors: Vec<Finding>,
    pub warnings: Vec<Finding>,
    /// Paths of fields that are accepted and not acted on.
    pub unsupported: Vec<String>,
    /// Files and directories whose change may change the context.
    pub paths: BTreeSet<PathBuf>,
    /// Secrets of discovery that it rests on.
    pub discovered: Vec<SecretKey>,
    /// One of them is not there yet.
    pub is_pending: bool,
}

impl Found {
    /// Reports everything where the context stands in the configuration.
    pub(crate) fn report(&self, cx: &mut Compile<'_>) {
        for Finding { field, found, hint } in &self.errors {
            let mut cx = cx.below(field);
            let _ = if hint.is_empty() { cx.error(found) } else { cx.error_hint(found, hint) };
        }
        for Finding { field, found, hint } in &self.warnings {
            let mut cx = cx.below(field);
            if hint.is_empty() { cx.warn(found) } else { cx.warn_hint(found, hint) }
        }
        for field in &self.unsupported {
            cx.below(field).unsupported_here();
        }
    }

    /// The errors in one line, for a log.
    pub(crate) fn text(&self) -> String {
        self.errors.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// A place in a context that is read.
pub(crate) struct Reading<'a> {
    pub found: &'a mut Found,
    pub environment: &'a Environment,
    pub secrets: &'a Secrets,
    path: String,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(found: &'a mut Found, environment: &'a Environment, secrets: &'a Secrets) -> Reading<'a> {
        Reading { found, environment, secrets, path: String::new() }
    }

    /// One field further down.
    pub(crate) fn field(&mut self, name: &str) -> Reading<'_> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Reading { found: self.found, environment: self.environment, secrets: self.secrets, path }
    }

    /// An element of a list.
    pub(crate) fn element(&mut self, name: &str, index: usize) -> Reading<'_> {
        let mut inner = self.field(name);
        // Writing into a String can't fail.
        let _ = write!(inner.path, "[{index}]");
        inner
    }

    pub(crate) fn error(&mut self, found: impl Into<String>, hint: impl Into<String>) -> Invalid {
        self.found.errors.push(Finding::new(self.path.clone(), found, hint));
        Invalid
    }

    pub(crate) fn warn(&mut self, found: impl Into<String>, hint: impl Into<String>) {
        self.found.warnings.push(Finding::new(self.path.clone(), found, hint));
    }

    /// An error if the field is set: what it asks for isn't there, and to go on without it would not be safe.
    pub(crate) fn refuse_if(&mut self, set: bool, field: &str, why: &str) {
        if set {
            let text = format!("is not supported yet, and ignoring it would not be safe: {why}");
            self.field(field).error(text, "");
        }
    }

    pub(crate) fn unsupported_if(&mut self, set: bool, field: &str) {
        if set {
            let path = self.field(field).path;
            self.found.unsupported.push(path);
        }
    }

    /// How many errors there are.
    pub(crate) fn errors(&self) -> usize {
        self.found.errors.len()
    }

    /// Fails if there are more than that.
    pub(crate) fn unless_errors_since(&self, errors: usize) -> Result<(), Invalid> {
        if self.found.errors.len() > errors || self.found.is_pending { Err(Invalid) } else { Ok(()) }
    }

    /// The bytes of a source that may be lacking.
    pub(crate) fn optional(
        &mut self,
        source: Option<&core::DataSource>,
        field: &str,
    ) -> Result<Option<Vec<u8>>, Invalid> {
        source.map(|source| self.field(field).data(source)).transpose()
    }

    /// The bytes of a source, and notes the file that they are from.
    pub(crate) fn data(&mut self, source: &core::DataSource) -> Result<Vec<u8>, Invalid> {
        use core::data_source::Specifier;
        let core::DataSource { watched_directory, specifier } = source;
        if let Some(directory) = watched_directory {
            self.watch_directory(directory);
        }
        match specifier {
            None => Err(self.error("has no data", "set filename, inline_string, inline_bytes or environment_variable")),
            Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
            Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
            Some(Specifier::Filename(path)) => {
                self.found.paths.insert(path.into());
                let hint = "is the file mounted there, and may this user read it?";
                read_file(path).map_err(|text| self.field("filename").error(text, hint))
            }
            Some(Specifier::EnvironmentVariable(name)) => match self.environment.get(name) {
                Some(value) => Ok(value.as_bytes().to_vec()),
                None => {
                    let text = format!("the environment variable {name} is not set");
                    Err(self.field("environment_variable").error(text, "set it where the proxy is started"))
                }
            },
        }
    }

    /// Notes a directory. Its files are watched in any case, however they are replaced.
    pub(crate) fn watch_directory(&mut self, directory: &core::WatchedDirectory) {
        self.found.paths.insert((&directory.path).into());
    }
}
