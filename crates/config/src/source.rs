//! The text of a configuration: where it came from, what form it has, and whether it is text at all.

mod load;
mod positions;

#[cfg(test)]
mod tests;

pub use load::{LoadOptions, Loaded, load};
pub use positions::Positions;

use crate::diagnostics::{Diagnostic, Location};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The largest source that is read, in bytes. A configuration of 10,000 clusters and virtual hosts takes about a tenth of it.
pub const MAX_BYTES: u64 = 64 << 20;

/// The form of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML as yaml-cpp reads it.
    Yaml,
    /// JSON as protobuf's parser reads it.
    Json,
    /// A serialised message.
    Binary,
    /// Protobuf's text format.
    Text,
}

impl Format {
    /// The form that Envoy takes a file of this name to have: by its extension, and JSON if it has no known one.
    pub fn of_path(path: &Path) -> Self {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "yaml" | "yml" => Self::Yaml,
            "pb" => Self::Binary,
            "pb_text" => Self::Text,
            _ => Self::Json,
        }
    }
}

/// One source of configuration.
#[derive(Debug, Clone)]
pub struct Source {
    /// What diagnostics call it: a path as the user gave it, or `--config-yaml`.
    pub name: Arc<str>,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// The form of `bytes`.
    pub format: Format,
}

impl Source {
    /// A source in memory.
    pub fn new(name: &str, bytes: impl Into<Vec<u8>>, format: Format) -> Self {
        Self { name: name.into(), bytes: bytes.into(), format }
    }

    /// The file at `path`. A file larger than [`MAX_BYTES`] is refused before it is read.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let fail = |error: std::io::Error| Diagnostic::error("", format!("{name}: {}", describe(&error)));
        let file = std::fs::File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(Diagnostic::error("", format!("{name}: is a directory, expected a file")));
        }
        if metadata.len() > MAX_BYTES {
            return Err(too_large(&name, metadata.len()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_large(&name, bytes.len() as u64));
        }
        Ok(Self { format: Format::of_path(path), name: name.as_str().into(), bytes })
    }

    /// The text, without a byte order mark. Bytes that are not UTF-8 text are refused with the place of the first of them.
    pub fn text(&self) -> Result<&str, Diagnostic> {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_large(&self.name, bytes.len() as u64));
        }
        if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            let found = Diagnostic::error("", "found UTF-16 text, expected UTF-8").at(self.place(b""));
            return Err(found.hint("save the file as UTF-8"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let byte = bytes.get(before.len()).copied().unwrap_or_default();
            let message = format!("found the byte 0x{byte:02x}, which is not UTF-8; expected text");
            Diagnostic::error("", message).at(self.place(before)).hint(self.binary_hint())
        })?;
        match text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}' | '\u{7f}'..='\u{9f}')) {
            None => Ok(text),
            Some(at) => {
                let message = format!("found the control character 0x{:02x}, expected text", bytes[at]);
                Err(Diagnostic::error("", message).at(self.place(&bytes[..at])).hint(self.binary_hint()))
            }
        }
    }

    fn binary_hint(&self) -> String {
        "a serialised Bootstrap message must be in a file whose name ends in .pb".to_owned()
    }

    /// The place behind `before`.
    fn place(&self, before: &[u8]) -> Option<Location> {
        let line = before.iter().filter(|&&byte| byte == b'\n').count() as u32 + 1;
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() as u32 + 1;
        Some(Location { source: self.name.clone(), line, column })
    }
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn too_large(name: &str, length: u64) -> Diagnostic {
    let message = format!("{name}: is {length} bytes long, more than the {MAX_BYTES} that are read");
    Diagnostic::error("", message)
        .hint("split the configuration: let xDS or files deliver listeners, routes and clusters")
}
