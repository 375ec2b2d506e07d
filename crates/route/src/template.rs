//! Path templates: `envoy.path.match.uri_template` and `envoy.path.rewrite.uri_template`.
//!
//! A template is segments of literal text with one operator each: `*` (one segment), `**` (any number of segments; none of
//! the operators may follow it), or a named variable `{name}`, `{name=*}`, `{name=**}`, `{name=a/*/b}`; text may stand around
//! it (`/{file}.html`). It becomes a regular expression with one group per variable; a rewrite becomes its substitution.

use nuncio_matcher::{Regex, RegexSpec, path_only};
use std::fmt::Write;

/// At most so many variables, as in Envoy.
const MAX_VARIABLES: usize = 5;
/// Longest name of a variable, as in Envoy.
const MAX_NAME: usize = 16;
/// What a path segment may hold, as in Envoy, as the inside of a character class.
const SEGMENT: &str = "-a-zA-Z0-9._~%!$&'()*+,;:@=";

/// A template as a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// For the whole path without query.
    pub(crate) regex: String,
    /// Names of the groups, in order.
    pub(crate) variables: Vec<String>,
}

/// `envoy.path.match.uri_template`, compiled for others than routes.
#[derive(Debug, Clone)]
pub struct UriTemplate(Regex);

impl UriTemplate {
    /// Compiles a `path_template`.
    pub fn new(template: &str) -> Result<UriTemplate, String> {
        let spec = RegexSpec { regex: parse(template)?.regex };
        Regex::new(&spec).map(UriTemplate).map_err(|error| error.to_string())
    }

    /// Whether a `:path`, its query left out, matches as a whole.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.matches(path_only(path))
    }
}

/// Compiles a `path_template`.
pub(crate) fn parse(template: &str) -> Result<Template, String> {
    let Some(path) = template.strip_prefix('/') else {
        return Err(format!("{template:?} must start with `/`"));
    };
    let mut parser = Parser { regex: String::new(), variables: Vec::new(), text_glob: false };
    let mut rest = path;
    loop {
        let end = segment_end(rest)?;
        let (segment, after) = rest.split_at(end);
        if segment.is_empty() && !after.is_empty() {
            return Err(format!("{template:?} has an empty segment"));
        }
        parser.regex.push('/');
        parser.segment(segment)?;
        match after.strip_prefix('/') {
            // A `/` at the end is part of the path.
            Some("") => {
                parser.regex.push('/');
                break;
            }
            Some(next) => rest = next,
            None => break,
        }
    }
    Ok(Template { regex: parser.regex, variables: parser.variables })
}

/// Where the segment ends: at a `/` outside of braces.
fn segment_end(text: &str) -> Result<usize, String> {
    let mut inside = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' if inside => return Err(format!("{text:?}: `{{` inside of a variable")),
            '{' => inside = true,
            '}' if !inside => return Err(format!("{text:?}: `}}` without `{{`")),
            '}' => inside = false,
            '/' if !inside => return Ok(at),
            _ => {}
        }
    }
    if inside { Err(format!("{text:?}: `{{` without `}}`")) } else { Ok(text.len()) }
}

struct Parser {
    regex: String,
    variables: Vec<String>,
    /// `**` was there.
    text_glob: bool,
}

impl Parser {
    /// Text, then an operator, then text; each may be missing.
    fn segment(&mut self, segment: &str) -> Result<(), String> {
        let start = segment.find(['*', '{']).unwrap_or(segment.len());
        let (before, operator) = segment.split_at(start);
        self.literal(before)?;
        if operator.starts_with('*') && !before.is_empty() {
            return Err(format!("{segment:?}: text before `*`; use a variable, as in `text{{name}}`"));
        }
        let after = if let Some(inside) = operator.strip_prefix('{') {
            let (variable, after) = inside.split_once('}').ok_or_else(|| format!("{segment:?}: `{{` without `}}`"))?;
            self.variable(variable)?;
            after
        } else {
            self.glob(operator)?
        };
        if after.contains(['*', '{']) {
            return Err(format!("{segment:?}: one `*`, `**` or variable per segment"));
        }
        self.literal(after)
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        for c in text.chars() {
            if !is_literal(c) {
                return Err(format!("{c:?} can't be in a path template"));
            }
            if !c.is_ascii_alphanumeric() {
                self.regex.push('\\');
            }
            self.regex.push(c);
        }
        Ok(())
    }

    /// The operator that the text starts with, if any; gives what follows.
    fn glob<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let Some(after) = text.strip_prefix('*') else { return Ok(text) };
        if self.text_glob {
            return Err("no `*`, `**` or variable may follow `**`".to_owned());
        }
        if let Some(after) = after.strip_prefix('*') {
            self.text_glob = true;
            let _ = write!(self.regex, "[{SEGMENT}/]*");
            return Ok(after);
        }
        let _ = write!(self.regex, "[{SEGMENT}]+");
        Ok(after)
    }

    /// `name` or `name=pattern`.
    fn variable(&mut self, inside: &str) -> Result<(), String> {
        let (name, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts || name.len() > MAX_NAME || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!(
                "{name:?} is no variable name: a letter, then letters, digits and `_`, {MAX_NAME} at most"
            ));
        }
        if self.variables.iter().any(|known| known == name) {
            return Err(format!("variable {name:?} occurs twice"));
        }
        if self.variables.len() == MAX_VARIABLES {
            return Err(format!("more than {MAX_VARIABLES} variables"));
        }
        self.variables.push(name.to_owned());
        self.regex.push('(');
        for (at, part) in pattern.split('/').enumerate() {
            if part.is_empty() {
                return Err(format!("{pattern:?} has an empty segment"));
            }
            if at > 0 {
                self.regex.push('/');
            }
            match part {
                "*" | "**" => self.glob(part).map(|_| ())?,
                text => self.literal(text)?,
            }
        }
        self.regex.push(')');
        Ok(())
    }
}

fn is_literal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c)
}

/// Compiles a `path_template_rewrite` for a template with these variables to a substitution.
pub(crate) fn parse_rewrite(rewrite: &str, variables: &[String]) -> Result<String, String> {
    if !rewrite.starts_with('/') {
        return Err(format!("{rewrite:?} must start with `/`"));
    }
    if let Some(bad) = rewrite.chars().find(|c| !is_literal(*c) && !"/{}*_".contains(*c)) {
        return Err(format!("{rewrite:?}: {bad:?} can't be in a path"));
    }
    if rewrite.contains("//") {
        return Err(format!("{rewrite:?} has an empty segment"));
    }
    let mut out = String::new();
    let mut rest = rewrite;
    while let Some(open) = rest.find(['{', '}']) {
        out.push_str(&rest[..open].replace('\\', r"\\"));
        let (name, after) = rest[open..]
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
            .ok_or_else(|| format!("{rewrite:?}: braces do not match"))?;
        let at = variables.iter().position(|known| known == name).ok_or_else(|| {
            format!("{rewrite:?}: the path template has no variable {name:?}; it has {}", variables.join(", "))
        })?;
        let _ = write!(out, r"\{}", at + 1);
        rest = after;
    }
    out.push_str(&rest.replace('\\', r"\\"));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_matcher::{Regex, RegexSpec, Substitution, SubstitutionSpec};

    #[test]
    fn matching() {
        let check = |template: &str, yes: &[&str], no: &[&str]| {
            let regex = Regex::new(&RegexSpec { regex: parse(template).unwrap().regex }).unwrap();
            for path in yes {
                assert!(regex.matches(path.as_bytes()), "{template} should match {path}");
            }
            for path in no {
                assert!(!regex.matches(path.as_bytes()), "{template} should not match {path}");
            }
        };
        check("/a/*", &["/a/b", "/a/b.c-d", "/a/*", "/a/b%41"], &["/a/", "/a", "/a/b/c", "/a/b\"c", "/a/[", "/a/b\\c"]);
        check("/a/**", &["/a/", "/a/b/c", "/a//b/"], &["/a", "/ab"]);
        check("/a/{x}/c", &["/a/b/c"], &["/a/b/d", "/a//c"]);
        check("/{x=**}", &["/", "/a/b"], &[]);
        check("/{x=v1/*}/z", &["/v1/a/z"], &["/v2/a/z", "/v1/a/b/z"]);
        check("/m/**/b", &["/m//b", "/m/x/b", "/m/x/y/b"], &["/m/b"]);
        check("/n/{x=**}/a", &["/n/x/y/a", "/n//a"], &["/n/a"]);
        check("/{x}.html", &["/x.html"], &["/.html"]);
        check("/*.js", &["/a.js"], &["/.js"]);
        check("/b-{x}", &["/b-c"], &["/b-", "/b-c/d"]);
        check("/a.b", &["/a.b"], &["/axb"]);
        check("/q/", &["/q/"], &["/q"]);
        check("/", &["/"], &["/a"]);
    }

    #[test]
    fn rewriting() {
        let check = |template: &str, rewrite: &str, path: &str, expected: &str| {
            let template = parse(template).unwrap();
            let spec = SubstitutionSpec {
                substitution: parse_rewrite(rewrite, &template.variables).unwrap(),
                pattern: RegexSpec { regex: template.regex },
            };
            let out = Substitution::new(&spec).unwrap().replace_all(path.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("/users/{id}/{rest=**}", "/{rest}/of/{id}", "/users/7/a/b", "/a/b/of/7");
        check("/a/*", "/x", "/a/b", "/x");
    }

    #[test]
    fn errors() {
        for bad in [
            "a",
            "/a*",
            "/**/**",
            "/**/*",
            "/{x=**}/{y}",
            "/{x",
            "/{x}{y}",
            "/*{x}",
            "/{x=*}.{y}",
            "/{1}",
            "/{_a}",
            "/{}",
            "/{x}/{x}",
            "/{x=}",
            "/{x=a/}",
            "/{x=***}",
            "/{x=*.js}",
            "/a b",
            "/a//b",
            "//",
            "/{x={y}}",
            "/x}",
            "/[a]",
            "/a?b",
            "/{abcdefghijklmnopq}",
            "/{a}/{b}/{c}/{d}/{e}/{f}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["a", "/{y}", "/{x", "/x}", "/a b", "//", "/{x}?a"] {
            assert!(parse_rewrite(bad, &["x".to_owned()]).is_err(), "{bad}");
        }
    }
}
