//! `envoy.access_loggers.stdout` and `envoy.access_loggers.stderr`, and what they share with files.

use nuncio_api::pb::envoy::extensions::access_loggers::stream::v3 as pb;
use nuncio_config::compile::{AccessLogExtension, Compile, Invalid};
use nuncio_config::lower;
use nuncio_filter::AccessLog;
use nuncio_io::log_file::{LogDestination, LogFile};
use nuncio_stream_info::{Format, LogContext};
use std::cell::RefCell;
use std::sync::Arc;

/// Standard output.
pub struct Stdout;

impl AccessLogExtension for Stdout {
    type Config = pb::StdoutAccessLog;
    const NAME: &'static str = "envoy.access_loggers.stdout";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn AccessLog>, Invalid> {
        use pb::stdout_access_log::AccessLogFormat::LogFormat;
        let format = match config.access_log_format {
            Some(LogFormat(format)) => Some(lower::format_string(&format, &mut cx.field("log_format"))?.0),
            None => None,
        };
        compile_log(&LogDestination::Stdout, format, "log_format", cx)
    }
}

/// Standard error.
pub struct Stderr;

impl AccessLogExtension for Stderr {
    type Config = pb::StderrAccessLog;
    const NAME: &'static str = "envoy.access_loggers.stderr";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn AccessLog>, Invalid> {
        use pb::stderr_access_log::AccessLogFormat::LogFormat;
        let format = match config.access_log_format {
            Some(LogFormat(format)) => Some(lower::format_string(&format, &mut cx.field("log_format"))?.0),
            None => None,
        };
        compile_log(&LogDestination::Stderr, format, "log_format", cx)
    }
}

/// Opens the destination; one that can't be opened is an error at `field`, as in Envoy.
pub(super) fn compile_log(
    destination: &LogDestination,
    format: Option<Format>,
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Arc<dyn AccessLog>, Invalid> {
    let format = match format {
        Some(format) => format,
        None => lower::default_log_format(cx)?,
    };
    match cx.files.open(destination) {
        Ok(file) => Ok(Arc::new(LineLog { format, file })),
        Err(error) => Err(cx.field(field).error_hint(
            error.to_string(),
            "make the directory, or name a file that this user may write (/dev/stdout prints the lines)",
        )),
    }
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Memory of a line that is kept for the next one.
const KEPT_LINE: usize = 16 * 1024;

/// One line per record.
struct LineLog {
    format: Format,
    file: Arc<LogFile>,
}

impl AccessLog for LineLog {
    fn log(&self, record: &LogContext<'_>, _random: u64) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.format.write(record, line);
            self.file.write(line);
            line.shrink_to(KEPT_LINE);
        });
    }
}
