//! The program's own log: levels by component, spdlog's pattern language, standard error or a file.

use crate::options::Options;
use nuncio_config::{Diagnostics, Severity};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Envoy's default `--log-format`.
pub(crate) const DEFAULT_FORMAT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

/// Components whose level can be set; they are the targets of log lines.
pub(crate) const COMPONENTS: [&str; 13] = [
    "admin",
    "config",
    "connection",
    "filter",
    "hc",
    "health_checker",
    "http",
    "lua",
    "main",
    "pool",
    "router",
    "runtime",
    "upstream",
];

/// Components of Envoy that there are none of here; `--component-log-level` and `/logging` take them and say so.
pub(crate) const ENVOYS_OTHER_COMPONENTS: &[&str] = &[
    "a2a",
    "ai_protocol_manager",
    "alternate_protocols_cache",
    "assert",
    "aws",
    "backtrace",
    "basic_auth",
    "cache_filter",
    "client",
    "compression",
    "conn_handler",
    "credential_injector",
    "decompression",
    "dns",
    "dubbo",
    "dynamic_modules",
    "envoy_bug",
    "ext_authz",
    "ext_proc",
    "file",
    "forward_proxy",
    "geolocation",
    "golang",
    "grpc",
    "happy_eyeballs",
    "http2",
    "hystrix",
    "init",
    "io",
    "ip_tagging",
    "json_rpc",
    "jwt",
    "kafka",
    "key_value_store",
    "local_rate_limit",
    "matcher",
    "mcp",
    "misc",
    "mongo",
    "multi_connection",
    "notification",
    "oauth2",
    "quic",
    "quic_stream",
    "rate_limit_quota",
    "rbac",
    "rds",
    "redis",
    "rocketmq",
    "secret",
    "sse",
    "stats",
    "stats_sinks",
    "tap",
    "testing",
    "thrift",
    "tracing",
    "udp",
    "wasm",
    "websocket",
];

/// Envoy's level names, most talkative first.
pub(crate) const LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];

/// The levels in force; changed by `/logging`.
#[derive(Clone)]
pub(crate) struct LogControl {
    levels: Arc<[AtomicU8; COMPONENTS.len()]>,
}

impl LogControl {
    /// The level of each component.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        COMPONENTS
            .iter()
            .zip(self.levels.iter())
            .map(|(name, level)| (*name, LEVELS[usize::from(level.load(Relaxed)).min(6)]))
    }

    /// Sets the level of one component; false if there is no such component or level.
    pub(crate) fn set(&self, component: &str, level: &str) -> bool {
        let (Some(at), Some(level)) = (COMPONENTS.iter().position(|name| *name == component), level_number(level))
        else {
            return false;
        };
        self.levels[at].store(level, Relaxed);
        tracing::callsite::rebuild_interest_cache();
        true
    }

    /// Sets the level of all components; false if there is no such level.
    pub(crate) fn set_all(&self, level: &str) -> bool {
        let Some(level) = level_number(level) else { return false };
        self.levels.iter().for_each(|cell| cell.store(level, Relaxed));
        tracing::callsite::rebuild_interest_cache();
        true
    }

    /// The most talkative level of all components: what is below costs a comparison where it stands.
    fn lowest(&self) -> u8 {
        self.levels.iter().map(|level| level.load(Relaxed)).min().unwrap_or(0)
    }

    fn level(&self, target: &str) -> u8 {
        let at = COMPONENTS.iter().position(|name| *name == target);
        let main = COMPONENTS.iter().position(|name| *name == "main").unwrap_or(0);
        self.levels[at.unwrap_or(main)].load(Relaxed)
    }
}

fn level_number(name: &str) -> Option<u8> {
    let name = if name == "warn" { "warning" } else { name };
    LEVELS.iter().position(|level| *level == name).and_then(|at| u8::try_from(at).ok())
}

/// Makes the log as the command line wants it.
pub(crate) fn init(options: &Options) -> Result<LogControl, String> {
    let control = LogControl { levels: Arc::new(std::array::from_fn(|_| AtomicU8::new(2))) };
    if !control.set_all(&options.log_level) {
        return Err(format!("--log-level {:?} is not a level: use one of {}", options.log_level, LEVELS.join(", ")));
    }
    for entry in options.component_log_level.iter().flat_map(|list| list.split(',')).filter(|e| !e.is_empty()) {
        let Some((component, level)) = entry.split_once(':') else {
            return Err(format!("--component-log-level {entry:?}: write component:level"));
        };
        if level_number(level).is_none() {
            return Err(format!(
                "--component-log-level {entry:?}: {level:?} is not a level, use one of {}",
                LEVELS.join(", ")
            ));
        }
        if control.set(component, level) {
            continue;
        }
        if !ENVOYS_OTHER_COMPONENTS.contains(&component) {
            return Err(format!(
                "--component-log-level {entry:?}: there is no component {component:?}, use one of {}",
                COMPONENTS.join(", ")
            ));
        } else {
            eprintln!("--component-log-level: there is no component {component:?} here; it is ignored");
        }
    }
    let output = match &options.log_path {
        None => Destination::Stderr,
        Some(path) => Destination::File(Mutex::new(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| format!("--log-path {path}: {error}"))?,
        )),
    };
    let format = options.log_format.clone().unwrap_or_else(|| DEFAULT_FORMAT.to_owned());
    let subscriber = Logger { control: control.clone(), format, escape: options.log_format_escaped, output };
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    Ok(control)
}

/// Logs the warnings of a configuration.
pub(crate) fn report(diagnostics: &Diagnostics, skip_deprecated: bool) {
    for finding in diagnostics.sorted() {
        if skip_deprecated && finding.message.contains("deprecated") {
            continue;
        }
        let place = finding.location.as_ref().map(|at| format!("{}:{}:{}: ", at.source, at.line, at.column));
        let place = place.unwrap_or_default();
        match finding.severity {
            Severity::Error => tracing::error!(target: "config", "{place}{}: {}", finding.path, finding.message),
            Severity::Warning => tracing::warn!(target: "config", "{place}{}: {}", finding.path, finding.message),
        }
    }
}

enum Destination {
    Stderr,
    File(Mutex<File>),
}

struct Logger {
    control: LogControl,
    format: String,
    escape: bool,
    output: Destination,
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(metadata.level()) >= self.control.level(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.control.lowest() {
            0 => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            2 => LevelFilter::INFO,
            3 => LevelFilter::WARN,
            4 | 5 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let mut text = message.0;
        if self.escape {
            text = text.escape_debug().to_string();
        }
        let line = self.line(event.metadata(), &text);
        // There is no other place to say that the log can't be written.
        let _ = match &self.output {
            Destination::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
            Destination::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()),
        };
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Logger {
    /// The line in spdlog's pattern language.
    fn line(&self, metadata: &Metadata<'_>, text: &str) -> String {
        let now = SystemTime::now();
        let mut line = String::with_capacity(self.format.len() + text.len() + 64);
        let mut chars = self.format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                line.push(c);
                continue;
            }
            match chars.next() {
                Some('v' | '_' | 'j') => line.push_str(text),
                Some('l') => line.push_str(LEVELS[usize::from(number(metadata.level()))]),
                Some('L') => line.push(
                    LEVELS[usize::from(number(metadata.level()))].chars().next().unwrap_or(' ').to_ascii_uppercase(),
                ),
                Some('n') => line.push_str(metadata.target()),
                Some('t') => push(&mut line, std::thread::current().name().unwrap_or("main")),
                Some('P') => push(&mut line, std::process::id()),
                Some('g' | 's') => line.push_str(metadata.file().unwrap_or("")),
                Some('#') => push(&mut line, metadata.line().unwrap_or(0)),
                Some('%') => line.push('%'),
                Some(kind) => time_field(&mut line, kind, now),
                None => line.push('%'),
            }
        }
        line.push('\n');
        line
    }
}

fn push(line: &mut String, value: impl std::fmt::Display) {
    // Writing into a String can't fail.
    let _ = write!(line, "{value}");
}

/// `%Y %m %d %H %M %S %T %e %f %F %D`, in UTC as Envoy logs.
fn time_field(line: &mut String, kind: char, now: SystemTime) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(since.as_secs()).unwrap_or(0));
    let Ok(at) = at else { return };
    let text = match kind {
        'Y' => format!("{:04}", at.year()),
        'm' => format!("{:02}", u8::from(at.month())),
        'd' => format!("{:02}", at.day()),
        'H' => format!("{:02}", at.hour()),
        'M' => format!("{:02}", at.minute()),
        'S' => format!("{:02}", at.second()),
        'T' => format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second()),
        'D' => format!("{:02}/{:02}/{:02}", u8::from(at.month()), at.day(), at.year() % 100),
        'e' => format!("{:03}", since.subsec_millis()),
        'f' => format!("{:06}", since.subsec_micros()),
        'F' => format!("{:09}", since.subsec_nanos()),
        'E' => since.as_secs().to_string(),
        other => format!("%{other}"),
    };
    line.push_str(&text);
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        Level::WARN => 3,
        Level::ERROR => 4,
    }
}

/// Gathers the message and fields of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            push(&mut self.0, format_args!("{value:?}"));
        } else {
            push(&mut self.0, format_args!(" {}={value:?}", field.name()));
        }
    }
}
