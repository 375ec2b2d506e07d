//! The rules about crates (DESIGN section 2), checked: dependencies point inward, unsafe code stands in two crates only, no name
//! says nothing, and the filters of extensions know nothing of the API messages. `cargo xtask layers` prints what is wrong;
//! the same check is a test, so that `cargo test --workspace` fails on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

/// Crate, ring, and what it may use. What those may use may be named as well, and `headers` by everybody.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("headers", 0, &[]),
    ("api", 0, &[]),
    ("matcher", 0, &[]),
    ("stats", 0, &[]),
    ("stream-info", 0, &["matcher"]),
    ("cel", 0, &["matcher", "stream-info"]),
    ("lb", 0, &["stream-info"]),
    ("identity", 0, &[]),
    ("io", 1, &["stats"]),
    ("tls", 1, &["identity", "io", "matcher", "stream-info"]),
    ("http", 1, &["io"]),
    ("route", 1, &["matcher", "stats", "stream-info"]),
    ("xds", 1, &["api", "stats"]),
    ("filter", 2, &["stream-info", "route", "http", "stats"]),
    ("cluster", 2, &["lb", "tls", "http", "route", "stats", "stream-info"]),
    ("hcm", 2, &["filter", "cluster"]),
    ("config", 2, &["api", "cel", "filter", "cluster", "route", "tls"]),
    ("extensions", 2, &["api", "cel", "config", "filter", "hcm", "cluster"]),
    ("server", 3, &["extensions", "xds"]),
    ("nuncio", 3, &["server"]),
];

/// Crates that never ship; others may use the first for their tests only.
const DEVELOPMENT: &[&str] = &["testkit", "xtask", "benches", "e2e", "fuzz"];
const UNSAFE_ALLOWED: &[&str] = &["io", "testkit"];
/// External crates that one crate only may name.
const ONE_USER: &[(&str, &str)] = &[("rustls", "tls"), ("tokio-rustls", "tls"), ("kube", "controller")];
const EMPTY_NAMES: &[&str] = &["core", "common", "util", "utils", "helper", "helpers", "misc"];

/// Checks everything and prints what is wrong.
pub fn run() -> Result<bool, String> {
    let wrong = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    wrong.iter().for_each(|line| println!("{line}"));
    println!("{}", if wrong.is_empty() { "the layers hold" } else { "the layers do not hold" });
    Ok(wrong.is_empty())
}

/// Everything that is wrong below `root`.
fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for (name, dependencies) in packages(root)? {
        wrong.extend(dependencies.iter().filter_map(|dependency| edge(&name, dependency)));
    }
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files)?;
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        wrong.extend(file(&place, &text)?);
    }
    Ok(wrong)
}

/// A dependency as Cargo reports it.
struct Dependency {
    name: String,
    is_dev: bool,
}

fn packages(root: &Path) -> Result<Vec<(String, Vec<Dependency>)>, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .map_err(|error| error.to_string())?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let dependencies = |package: &Value| {
        let list = package["dependencies"].as_array().into_iter().flatten();
        list.map(|found| Dependency { name: text(found, "name"), is_dev: found["kind"] == "dev" }).collect()
    };
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages.map(|package| (text(package, "name"), dependencies(package))).collect())
}

/// What is wrong with one dependency.
fn edge(package: &str, dependency: &Dependency) -> Option<String> {
    let from = package.strip_prefix("nuncio-").unwrap_or(package);
    if let Some((name, owner)) = ONE_USER.iter().find(|(name, _)| *name == dependency.name) {
        return (from != *owner).then(|| format!("{package} names {name}: only {owner} may"));
    }
    let to = match dependency.name.strip_prefix("nuncio-") {
        Some(to) => to,
        None if dependency.name == "nuncio" => "nuncio",
        None => return None,
    };
    if DEVELOPMENT.contains(&from) {
        return None;
    }
    if DEVELOPMENT.contains(&to) {
        let is_fine = dependency.is_dev && to == "testkit";
        return (!is_fine).then(|| format!("{package} uses {to}, which does not ship"));
    }
    match (ring(from), ring(to)) {
        (None, _) => Some(format!("{package} stands in no ring: add it to the table of crates/xtask/src/layers.rs")),
        (_, None) => Some(format!("{package} uses {to}, which stands in no ring")),
        (Some(inner), Some(outer)) if outer > inner => {
            Some(format!("{package} (ring {inner}) uses {to} (ring {outer})"))
        }
        _ if to == "headers" || reachable(from).contains(to) => None,
        _ => Some(format!("{package} may not use {to}")),
    }
}

fn ring(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(layer, ..)| *layer == name).map(|(_, ring, _)| *ring)
}

/// What `name` may use, directly or through what it uses.
fn reachable(name: &str) -> BTreeSet<&'static str> {
    let uses =
        |name: &str| LAYERS.iter().find(|(layer, ..)| *layer == name).map(|(.., uses)| *uses).unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut open: Vec<&'static str> = uses(name).to_vec();
    while let Some(name) = open.pop() {
        if found.insert(name) {
            open.extend(uses(name));
        }
    }
    found
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// What is wrong in one source file; `place` is its path from the root.
fn file(place: &str, text: &str) -> Result<Vec<String>, String> {
    let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
    let mut wrong = Vec::new();
    let parts: Vec<&str> = place.trim_end_matches(".rs").split('/').collect();
    for part in parts.iter().filter(|part| EMPTY_NAMES.contains(part)) {
        wrong.push(format!("{place}: '{part}' says nothing"));
    }
    let module = regex(&format!(r"^\s*(pub(\([^)]*\))? )?mod ({})\b", EMPTY_NAMES.join("|")))?;
    let keyword = regex(r"\bunsafe\b")?;
    let may_be_unsafe = parts.get(1).is_some_and(|name| UNSAFE_ALLOWED.contains(name));
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let at = format!("{place}:{}", index + 1);
        if module.is_match(code) {
            wrong.push(format!("{at}: a module whose name says nothing"));
        }
        if keyword.is_match(&without_text(code)) {
            let is_explained = lines[index.saturating_sub(5)..index].iter().any(|line| line.contains("SAFETY"));
            match (may_be_unsafe, is_explained) {
                (false, _) => wrong.push(format!("{at}: unsafe code outside {}", UNSAFE_ALLOWED.join(" and "))),
                (true, false) => wrong.push(format!("{at}: unsafe code without a SAFETY comment")),
                (true, true) => {}
            }
        }
    }
    let is_filter =
        place.contains("crates/extensions/") && (place.ends_with("/filter.rs") || place.contains("/filter/"));
    if is_filter && text.contains("nuncio_api") {
        wrong.push(format!("{place}: the filter of an extension names nuncio_api; only its config.rs may"));
    }
    Ok(wrong)
}

/// A line without what stands between double quotes.
fn without_text(code: &str) -> String {
    code.split('"').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_hold() {
        let wrong = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn edges() {
        let check = |from: &str, to: &str, is_dev: bool, is_fine: bool| {
            let found = edge(from, &Dependency { name: to.into(), is_dev });
            assert_eq!(found.is_none(), is_fine, "{from} -> {to}: {found:?}");
        };
        check("nuncio-hcm", "nuncio-filter", false, true);
        check("nuncio-hcm", "nuncio-stream-info", false, true);
        check("nuncio-lb", "nuncio-headers", false, true);
        check("nuncio-filter", "nuncio-api", false, false);
        check("nuncio-http", "nuncio-hcm", false, false);
        check("nuncio-http", "nuncio-testkit", true, true);
        check("nuncio-http", "nuncio-testkit", false, false);
        check("nuncio-http", "rustls", false, false);
        check("nuncio-new", "nuncio-http", false, false);
    }

    #[test]
    fn files() {
        let check = |place: &str, text: &str, count: usize| {
            let found = file(place, text).unwrap();
            assert_eq!(found.len(), count, "{place}: {found:?}");
        };
        check("crates/http/src/codec.rs", "fn f() {}\n// unsafe\nlet x = \"unsafe\";", 0);
        check("crates/http/src/codec.rs", "unsafe { f() }", 1);
        check("crates/io/src/fd.rs", "unsafe { f() }", 1);
        check("crates/io/src/fd.rs", "// SAFETY: the descriptor is open\nunsafe { f() }", 0);
        check("crates/http/src/util.rs", "", 1);
        check("crates/http/src/codec.rs", "pub(crate) mod helpers;", 1);
        check("crates/extensions/src/http/cors/filter.rs", "use nuncio_api::Cors;", 1);
        check("crates/extensions/src/http/cors/config.rs", "use nuncio_api::Cors;", 0);
    }
}
