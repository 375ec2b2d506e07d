//! Where the compiler stands in the configuration, and what it found wrong.

use nuncio_headers::HeaderName;
use nuncio_matcher::{HeaderMatcher, HeaderMatcherSpec, InvalidMatcher, Substitution, SubstitutionSpec};
use nuncio_stream_info::FormatOptions;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Something wrong in a route configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// Field path below the `RouteConfiguration`: `virtual_hosts[0].routes[2].match.safe_regex.regex`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for BuildError {}

/// Place, findings, and what is shared while compiling.
pub(super) struct Build<'o> {
    path: String,
    errors: Vec<BuildError>,
    warnings: Vec<BuildError>,
    options: &'o FormatOptions<'o>,
    /// Names of clusters, each kept once.
    names: HashSet<Arc<str>>,
    /// Paths are compared without what follows `;`.
    pub(super) ignore_path_parameters: bool,
}

impl<'o> Build<'o> {
    pub(super) fn new(options: &'o FormatOptions<'o>, ignore_path_parameters: bool) -> Self {
        Build {
            path: String::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            options,
            names: HashSet::new(),
            ignore_path_parameters,
        }
    }

    /// Errors and warnings.
    pub(super) fn finish(self) -> (Vec<BuildError>, Vec<BuildError>) {
        (self.errors, self.warnings)
    }

    /// Runs `f` with the place set to a field of the present one.
    pub(super) fn within<T>(&mut self, field: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        let out = f(self);
        self.path.truncate(before);
        out
    }

    /// Runs `f` with the place set to an item of a list.
    pub(super) fn within_item<T>(&mut self, field: &str, at: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        self.within(field, |cx| cx.within_index(at, f))
    }

    /// Runs `f` with the place set to an item of the list that is the present one.
    pub(super) fn within_index<T>(&mut self, at: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        self.path.push_str(&format!("[{at}]"));
        let out = f(self);
        self.path.truncate(before);
        out
    }

    /// Notes an error here; always `None`.
    pub(super) fn error<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.errors.push(BuildError { path: self.path.clone(), message: message.into() });
        None
    }

    /// Notes a warning here.
    pub(super) fn warning(&mut self, message: impl Into<String>) {
        self.warnings.push(BuildError { path: self.path.clone(), message: message.into() });
    }

    /// The value, or its error noted here.
    pub(super) fn check<T>(&mut self, result: Result<T, InvalidMatcher>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(InvalidMatcher { path, message }) if path.is_empty() => self.error(message),
            Err(InvalidMatcher { path, message }) => self.within(&path, |cx| cx.error(message)),
        }
    }

    /// Compiles a list, each item at its place; `None` if any is wrong.
    pub(super) fn list<S, T>(
        &mut self,
        field: &str,
        specs: &[S],
        compile: impl Fn(&S) -> Result<T, InvalidMatcher>,
    ) -> Option<Box<[T]>> {
        let mut compiled = Vec::with_capacity(specs.len());
        for (at, spec) in specs.iter().enumerate() {
            compiled.extend(self.within_item(field, at, |cx| cx.check(compile(spec))));
        }
        (compiled.len() == specs.len()).then(|| compiled.into())
    }

    /// Compiles matchers of request headers.
    pub(super) fn header_matchers(&mut self, field: &str, specs: &[HeaderMatcherSpec]) -> Option<Box<[HeaderMatcher]>> {
        self.list(field, specs, HeaderMatcher::new)
    }

    /// Compiles a substitution, and warns of one that does not do what it seems to.
    pub(super) fn substitution(&mut self, spec: &SubstitutionSpec) -> Option<Substitution> {
        let substitution = self.check(Substitution::new(spec))?;
        if let Some(warning) = substitution.warning() {
            self.within("substitution", |cx| cx.warning(warning));
        }
        Some(substitution)
    }

    /// Compiles a header name.
    pub(super) fn header_name(&mut self, name: &str) -> Option<HeaderName> {
        match HeaderName::new(name) {
            Ok(name) => Some(name),
            Err(error) => self.error(error.to_string()),
        }
    }

    /// A name that is kept once however often it occurs.
    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }

    /// What formats of header values are compiled with.
    pub(super) fn formats(&self) -> &FormatOptions<'o> {
        self.options
    }
}
