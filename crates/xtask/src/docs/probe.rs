//! Which fields of a message are accepted without acting, or refused: found by compiling messages that set one field each.
//!
//! Nothing here knows the fields: messages are made from the schema tables, and what the compiler reports is what counts.

use nuncio_api::schema::{FieldRef, Kind, MessageRef, Schema};
use nuncio_config::compile::{Compile, Facts, References, Registry};
use nuncio_config::{Diagnostics, FieldPath, Severity};
use nuncio_filter::Runtime;
use nuncio_io::log_file::{LogFileOptions, LogFiles};
use nuncio_stats::Store;
use nuncio_stats::names::FilesystemStats;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What compiling the probes reported.
#[derive(Default)]
pub(super) struct Report {
    /// Fields that are accepted and not acted on.
    pub without_effect: BTreeSet<String>,
    /// Fields, or values of them, that are refused because what they ask for is not there, and the message.
    pub refused: BTreeMap<String, String>,
}

/// What compiling needs beside a message.
pub(super) struct Bench {
    pub registry: Registry,
    pub store: Arc<Store>,
    pub files: Arc<LogFiles>,
}

/// Text of every string field: a name for most, and a file that is always there for those that are opened.
const TEXT: &[u8] = b"/dev/null";
/// Messages inside one another that are looked at.
const DEPTH: usize = 4;

impl Bench {
    pub(super) fn new() -> Result<Bench, String> {
        let store = Arc::new(Store::new(1));
        let stats = FilesystemStats::register(&store.scope("filesystem", &[]));
        let files = LogFiles::new(LogFileOptions::new(1), stats).map_err(|error| error.to_string())?;
        Ok(Bench { registry: nuncio_extensions::registry(), store, files: Arc::new(files) })
    }

    /// Runs `compile` on a fresh context and gathers what it reports below `prefix`.
    pub(super) fn compile(&self, report: &mut Report, prefix: &str, compile: impl FnOnce(&mut Compile<'_>)) {
        let (mut diagnostics, mut references, mut unsupported) =
            (Diagnostics::new(), References::default(), BTreeSet::new());
        compile(&mut Compile {
            diagnostics: &mut diagnostics,
            positions: None,
            path: FieldPath::root(),
            registry: &self.registry,
            references: &mut references,
            unsupported: &mut unsupported,
            store: &self.store,
            scope: self.store.scope("", &[]),
            files: &self.files,
            runtime: &Arc::new(Runtime::default()),
            facts: &Facts::default(),
        });
        report.add(prefix, &diagnostics);
    }
}

impl Report {
    /// Adds findings, paths made relative to `prefix`.
    pub(super) fn add(&mut self, prefix: &str, diagnostics: &Diagnostics) {
        for finding in diagnostics {
            let Some(path) = relative(&finding.path, prefix) else { continue };
            let says = &finding.message;
            match finding.severity {
                Severity::Warning if says.contains("is accepted and has no effect") => {
                    self.without_effect.insert(path);
                }
                Severity::Error if says.contains("not built") || says.contains("not supported yet") => {
                    self.refused.entry(path).or_insert_with(|| of_any_extension(says));
                }
                _ => {}
            }
        }
    }

    /// Keeps the findings at the paths that `wanted` says yes to.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.without_effect.retain(|path| wanted(path));
        self.refused.retain(|path, _| wanted(path));
    }

    /// Adds the findings of another report.
    pub(super) fn extend(&mut self, other: Report) {
        self.without_effect.extend(other.without_effect);
        self.refused.extend(other.refused);
    }
}

/// What is said of the extension of a probe, which is none, as it is true of all: others may be built.
fn of_any_extension(says: &str) -> String {
    let unnamed = ["  () is not built", " () is not built", "  is not built", " /dev/null is not built"];
    for end in unnamed {
        if let Some((kind, hint)) = says.strip_prefix("the ").and_then(|says| says.split_once(end)) {
            return format!("any {kind} that is not built{hint}");
        }
    }
    says.to_owned()
}

/// The path below `prefix`, without the places in lists and maps. `None` if it is not below it.
fn relative(path: &str, prefix: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix)?.trim_start_matches('.');
    let mut out = String::new();
    let mut inside = false;
    for c in rest.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Messages of type `name`, each with one field set, on its own or inside of fields.
pub(super) fn probes(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let message = Schema::message(name).ok_or_else(|| format!("there is no message {name}"))?;
    let mut found = vec![Vec::new()];
    gather(message, DEPTH, &mut Vec::new(), &mut found);
    Ok(found)
}

fn gather(message: MessageRef, depth: usize, above: &mut Vec<MessageRef>, found: &mut Vec<Vec<u8>>) {
    above.push(message);
    for field in message.fields() {
        match field.message() {
            None => found.extend(values(field)),
            Some(inner) => {
                let mut inside = vec![Vec::new()];
                if depth > 1 && !above.contains(&inner) && !inner.full_name().starts_with("google.protobuf.Struct") {
                    gather(inner, depth - 1, above, &mut inside);
                }
                found.extend(inside.into_iter().map(|bytes| delimited(field.number(), &bytes)));
            }
        }
    }
    above.pop();
}

/// The encodings of a scalar field that is set to something.
fn values(field: FieldRef) -> Vec<Vec<u8>> {
    let number = field.number();
    match field.kind() {
        Kind::String | Kind::Bytes => vec![delimited(number, TEXT)],
        Kind::Double => vec![fixed(number, 1, &1f64.to_le_bytes())],
        Kind::Float => vec![fixed(number, 5, &1f32.to_le_bytes())],
        Kind::Fixed64 | Kind::Sfixed64 => vec![fixed(number, 1, &1u64.to_le_bytes())],
        Kind::Fixed32 | Kind::Sfixed32 => vec![fixed(number, 5, &1u32.to_le_bytes())],
        Kind::Enum => {
            let values = field.enumeration().into_iter().flat_map(|enumeration| enumeration.values());
            let values = values.map(|value| u64::try_from(value.number()).unwrap_or(0));
            values.filter(|value| *value != 0).map(|value| tagged(number, value)).collect()
        }
        Kind::Message => Vec::new(),
        _ => vec![tagged(number, 1)],
    }
}

/// A field of the wire type "varint".
fn tagged(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3, &mut out);
    varint(value, &mut out);
    out
}

fn fixed(number: u32, wire_type: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3 | wire_type, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A field that holds `bytes`: text, or a message.
pub(super) fn delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3 | 2, &mut out);
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, prefix: &str, expected: Option<&str>| {
            assert_eq!(relative(path, prefix).as_deref(), expected, "{path} below {prefix}");
        };
        check("a.b[0].c", "", Some("a.b[].c"));
        check("a[0].b[\"x.y\"].c", "a[0]", Some("b[].c"));
        check("a[0]", "a[0]", None);
        check("b", "a[0]", None);
    }

    #[test]
    fn extensions_that_are_not_named() {
        assert_eq!(of_any_extension("the cluster type  is not built"), "any cluster type that is not built");
        let (socket, any) = ("the transport socket  () is not built", "any transport socket that is not built");
        assert_eq!(of_any_extension(socket), any);
        let matcher = "the string matcher  is not built: use safe_regex";
        assert_eq!(of_any_extension(matcher), "any string matcher that is not built: use safe_regex");
        assert_eq!(of_any_extension("xDS is not built yet"), "xDS is not built yet");
    }

    #[test]
    fn probes_are_messages_of_their_type() {
        use prost::Message;
        let name = "envoy.config.core.v3.SocketAddress";
        for probe in probes(name).unwrap() {
            nuncio_api::pb::envoy::config::core::v3::SocketAddress::decode(&probe[..]).unwrap();
        }
    }
}
