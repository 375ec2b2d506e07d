//! `envoy.access_loggers.file`: lines into a file.

use super::stream::compile_log;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::access_loggers::file::v3 as pb;
use nuncio_config::compile::{AccessLogExtension, Compile, Invalid};
use nuncio_config::lower;
use nuncio_filter::AccessLog;
use nuncio_io::log_file::LogDestination;
use nuncio_stream_info::Format;
use pb::file_access_log::AccessLogFormat;
use std::sync::Arc;

/// The extension.
pub struct File;

impl AccessLogExtension for File {
    type Config = pb::FileAccessLog;
    const NAME: &'static str = "envoy.access_loggers.file";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn AccessLog>, Invalid> {
        let format = format(config.access_log_format, cx);
        let destination = LogDestination::from_path(&config.path);
        compile_log(&destination, format?, "path", cx)
    }
}

/// The deprecated forms still work; the transcoder has warned of them.
#[allow(deprecated)]
fn format(format: Option<AccessLogFormat>, cx: &mut Compile<'_>) -> Result<Option<Format>, Invalid> {
    use core::substitution_format_string::Format as Kind;
    let string = |format| core::SubstitutionFormatString { format: Some(format), ..Default::default() };
    match format {
        None => Ok(None),
        Some(AccessLogFormat::LogFormat(format)) => {
            lower::format_string(&format, &mut cx.field("log_format")).map(|(format, _)| Some(format))
        }
        Some(AccessLogFormat::Format(text)) if text.is_empty() => Ok(None),
        Some(AccessLogFormat::Format(text)) => {
            lower::format_string(&string(Kind::TextFormat(text)), &mut cx.field("format"))
                .map(|(format, _)| Some(format))
        }
        Some(AccessLogFormat::JsonFormat(json)) => {
            lower::format_string(&string(Kind::JsonFormat(json)), &mut cx.field("json_format")).map(|(f, _)| Some(f))
        }
        Some(AccessLogFormat::TypedJsonFormat(json)) => {
            let mut cx = cx.field("typed_json_format");
            lower::format_string(&string(Kind::JsonFormat(json)), &mut cx).map(|(f, _)| Some(f))
        }
    }
}
