//! `core.v3.DataSource`: bytes that stand in the configuration, in a file or in an environment variable.

use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::core::v3 as core;
use std::io::Read;

/// The largest file or variable that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The bytes of a data source. Files are read now.
pub fn data_source(source: &core::DataSource, cx: &mut Compile<'_>) -> Result<Vec<u8>, Invalid> {
    use core::data_source::Specifier;
    let core::DataSource { watched_directory, specifier } = source;
    cx.unsupported_if(watched_directory.is_some(), "watched_directory");
    match specifier {
        None => Err(cx.error_hint("has no data", "set inline_string, inline_bytes, filename or environment_variable")),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(path)) => match read(path) {
            Ok(bytes) => Ok(bytes),
            Err(text) => Err(cx.field("filename").error(text)),
        },
        Some(Specifier::EnvironmentVariable(name)) => match cx.facts.environment.get(name) {
            Some(value) => Ok(value.as_bytes().to_vec()),
            None => {
                let text = format!("the environment variable {name} is not set");
                Err(cx.field("environment_variable").error_hint(text, "set it where the proxy is started"))
            }
        },
    }
}

/// The same, as text.
pub fn data_source_text(source: &core::DataSource, cx: &mut Compile<'_>) -> Result<String, Invalid> {
    let bytes = data_source(source, cx)?;
    String::from_utf8(bytes).map_err(|_| cx.error("is not UTF-8 text"))
}

/// Reads a file, or says why it can't be read.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => nuncio_io::errno_text(&error),
        };
        format!("{path} can't be read: {why}")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(format!("{path} can't be read: it is a directory"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{path} has more than the {MAX_BYTES} bytes that are read"));
    }
    Ok(bytes)
}
