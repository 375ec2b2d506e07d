//! Path templates: `envoy.path.match.uri_template` and `envoy.path.rewrite.uri_template`.
//!
//! A template is literal text with `*` (one segment), `**` (the rest, last only), and named variables `{name}`,
//! `{name=*}`, `{name=**}` or `{name=a/*/b}`. It becomes a regular expression with one group per variable; a rewrite
//! becomes its substitution.

use std::fmt::Write;

/// At most so many variables, as in Envoy.
const MAX_VARIABLES: usize = 5;
/// Longest name of a variable, as in Envoy.
const MAX_NAME: usize = 16;
/// What a path segment may hold, as in Envoy, as the inside of a character class.
const SEGMENT: &str = "-a-zA-Z0-9._~%!$&'()+,;:@=";

/// A template as a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// For the whole path without query.
    pub(crate) regex: String,
    /// Names of the groups, in order.
    pub(crate) variables: Vec<String>,
}

/// Compiles a `path_template`.
pub(crate) fn parse(template: &str) -> Result<Template, String> {
    let Some(mut rest) = template.strip_prefix('/') else {
        return Err(format!("{template:?} must start with `/`"));
    };
    let mut compiled = Template { regex: "/".to_owned(), variables: Vec::new() };
    let mut ended = false;
    while let Some(c) = rest.chars().next() {
        if ended {
            return Err(format!("{template:?}: nothing may follow `**`"));
        }
        if c == '{' {
            let (inside, after) =
                rest[1..].split_once('}').ok_or_else(|| format!("{template:?}: `{{` without `}}`"))?;
            ended = variable(inside, &mut compiled)?;
            rest = after;
            if !rest.is_empty() && !rest.starts_with('/') {
                return Err(format!("{template:?}: a variable must be a whole segment"));
            }
            continue;
        }
        let (text, star) = piece(rest)?;
        ended = star == Some("**");
        write_piece(text, star, &mut compiled.regex);
        rest = &rest[text.len() + star.map_or(0, str::len)..];
    }
    if rest.is_empty() && compiled.regex.contains("//") {
        return Err(format!("{template:?} has an empty segment"));
    }
    Ok(compiled)
}

/// Compiles a `path_template_rewrite` for a template with these variables to a substitution.
pub(crate) fn parse_rewrite(rewrite: &str, variables: &[String]) -> Result<String, String> {
    if !rewrite.starts_with('/') {
        return Err(format!("{rewrite:?} must start with `/`"));
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

/// Literal text up to a star or brace, and the star that follows it.
fn piece(text: &str) -> Result<(&str, Option<&'static str>), String> {
    let end = text.find(['*', '{']).unwrap_or(text.len());
    let (literal, after) = text.split_at(end);
    let allowed = |c: char| c == '/' || c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
    if let Some(bad) = literal.chars().find(|c| !allowed(*c)) {
        return Err(format!("{bad:?} can't be in a path template"));
    }
    let star = if after.starts_with("**") {
        Some("**")
    } else if after.starts_with('*') {
        Some("*")
    } else {
        None
    };
    if let Some(star) = star {
        let before = literal.is_empty() || literal.ends_with('/');
        let behind = after[star.len()..].is_empty() || after[star.len()..].starts_with('/');
        if !before || !behind {
            return Err(format!("`{star}` must be a whole segment"));
        }
    }
    Ok((literal, star))
}

fn write_piece(literal: &str, star: Option<&str>, regex: &mut String) {
    for c in literal.chars() {
        if !c.is_ascii_alphanumeric() && c != '/' {
            regex.push('\\');
        }
        regex.push(c);
    }
    match star {
        Some("**") => {
            let _ = write!(regex, "[{SEGMENT}/]*");
        }
        Some(_) => {
            let _ = write!(regex, "[{SEGMENT}]+");
        }
        None => {}
    }
}

/// `name` or `name=pattern`; tells whether it ends the template.
fn variable(inside: &str, compiled: &mut Template) -> Result<bool, String> {
    let (name, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || name.len() > MAX_NAME || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "{name:?} is no variable name: a letter, then letters, digits and `_`, {MAX_NAME} at most"
        ));
    }
    if compiled.variables.iter().any(|known| known == name) {
        return Err(format!("variable {name:?} occurs twice"));
    }
    if compiled.variables.len() == MAX_VARIABLES {
        return Err(format!("more than {MAX_VARIABLES} variables"));
    }
    if pattern.is_empty() {
        return Err(format!("variable {name:?} has an empty pattern"));
    }
    compiled.variables.push(name.to_owned());
    compiled.regex.push('(');
    let mut rest = pattern;
    let mut ended = false;
    while !rest.is_empty() {
        if ended || rest.starts_with('{') {
            return Err(format!("{pattern:?} is no pattern of a variable"));
        }
        let (text, star) = piece(rest)?;
        ended = star == Some("**");
        write_piece(text, star, &mut compiled.regex);
        rest = &rest[text.len() + star.map_or(0, str::len)..];
    }
    compiled.regex.push(')');
    Ok(ended)
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
        check("/a/*", &["/a/b", "/a/b.c-d"], &["/a/", "/a", "/a/b/c"]);
        check("/a/**", &["/a/", "/a/b/c"], &["/a", "/ab"]);
        check("/a/{x}/c", &["/a/b/c"], &["/a/b/d", "/a//c"]);
        check("/{x=**}", &["/", "/a/b"], &[]);
        check("/{x=v1/*}/z", &["/v1/a/z"], &["/v2/a/z", "/v1/a/b/z"]);
        check("/a.b", &["/a.b"], &["/axb"]);
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
        for bad in
            ["a", "/a*", "/**/b", "/{x", "/{x}{y}", "/{1}", "/{x}/{x}", "/{x=}", "/a b", "/a//b", "/{x={y}}", "/x}"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["a", "/{y}", "/{x", "/x}"] {
            assert!(parse_rewrite(bad, &["x".to_owned()]).is_err(), "{bad}");
        }
    }
}
