//! The command line: Envoy's flags, all of them, with Envoy's defaults.

use clap::{Parser, ValueEnum};

/// `--socket-path` where none is given.
const SOCKET_PATH: &str = "@envoy_domain_socket";
/// `--socket-mode` where none is given.
const SOCKET_MODE: &str = "600";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve.
    Serve,
    /// Check the configuration and exit: 0 if it can be used.
    Validate,
}

/// How draining goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DrainStrategy {
    /// Connections are told to end one after the other over the drain time.
    Gradual,
    /// All connections are told at once.
    Immediate,
}

/// IP version of the local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// `file:line:column: error: …`
    Text,
    /// One JSON object.
    Json,
}

/// A proxy that runs Envoy v3 configuration.
#[derive(Debug, Clone, Parser)]
#[command(name = "nuncio", disable_version_flag = true)]
#[allow(clippy::struct_excessive_bools)]
pub struct Options {
    /// Path of the configuration: YAML, or JSON if it ends in .json.
    #[arg(short = 'c', long)]
    pub config_path: Option<String>,
    /// Configuration as YAML text, merged over that of --config-path.
    #[arg(long)]
    pub config_yaml: Option<String>,
    /// Serve, or check the configuration and exit.
    #[arg(long, value_enum, default_value = "serve", ignore_case = true)]
    pub mode: Mode,
    /// How --mode validate prints its findings.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Reload the configuration when its file changes (SIGHUP does so at any time).
    #[arg(long)]
    pub watch: bool,
    /// Number of worker threads; by default the CPUs available under the cgroup's quota and the affinity mask.
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Take the number of workers from the affinity mask.
    #[arg(long)]
    pub cpuset_threads: bool,
    /// Seconds that connections have to end when the process drains.
    #[arg(long, default_value_t = 600, value_parser = seconds())]
    pub drain_time_s: u64,
    /// How draining goes.
    #[arg(long, value_enum, default_value = "gradual", ignore_case = true)]
    pub drain_strategy: DrainStrategy,
    /// End the process when /drain_listeners has closed listeners, and no connection is left.
    #[arg(long)]
    pub drain_exit_on_zero: bool,
    /// Seconds after which a hot-restarted parent ends.
    #[arg(long, default_value_t = 900, value_parser = seconds())]
    pub parent_shutdown_time_s: u64,
    /// trace, debug, info, warning (warn), error, critical or off.
    #[arg(short = 'l', long, default_value = "info")]
    pub log_level: String,
    /// Levels of single components: `upstream:debug,connection:trace`.
    #[arg(long)]
    pub component_log_level: Option<String>,
    /// Format of log lines, in spdlog's pattern language.
    #[arg(long)]
    pub log_format: Option<String>,
    /// Escape C-style escape sequences in log lines.
    #[arg(long)]
    pub log_format_escaped: bool,
    /// File for log lines; by default standard error.
    #[arg(long)]
    pub log_path: Option<String>,
    /// Write the stack of a crash in one log line.
    #[arg(long)]
    pub log_stacktrace_single_entry: bool,
    /// A logger for each source file.
    #[arg(long)]
    pub enable_fine_grain_logging: bool,
    /// Do not log the use of deprecated fields.
    #[arg(long)]
    pub skip_deprecated_logs: bool,
    /// Unknown fields in static configuration are warnings.
    #[arg(long, alias = "allow-unknown-fields")]
    pub allow_unknown_static_fields: bool,
    /// Unknown fields in dynamic configuration are errors.
    #[arg(long)]
    pub reject_unknown_dynamic_fields: bool,
    /// Unknown fields in dynamic configuration are not even counted.
    #[arg(long)]
    pub ignore_unknown_dynamic_fields: bool,
    /// Write the address of the admin interface to this file.
    #[arg(long)]
    pub admin_address_path: Option<String>,
    /// IP version of the address that stands for this host.
    #[arg(long, value_enum, default_value = "v4")]
    pub local_address_ip_version: IpVersion,
    /// Name of the cluster that this process is part of.
    #[arg(long)]
    pub service_cluster: Option<String>,
    /// Name of this node.
    #[arg(long)]
    pub service_node: Option<String>,
    /// Zone that this process runs in.
    #[arg(long)]
    pub service_zone: Option<String>,
    /// Milliseconds between writes of access logs.
    #[arg(long, default_value_t = 10_000)]
    pub file_flush_interval_msec: u64,
    /// KiB of access log that are written at once.
    #[arg(long, default_value_t = 64)]
    pub file_flush_min_size_kb: u64,
    /// Statistics tag with a fixed value, `name:value`; may be repeated.
    #[arg(long)]
    pub stats_tag: Vec<String>,
    /// Extensions that configurations must not use, as category/name, with commas.
    #[arg(long)]
    pub disable_extensions: Option<String>,
    /// Number that tells apart the processes of a host for hot restart.
    #[arg(long, default_value_t = 0)]
    pub base_id: u32,
    /// Choose a free base id.
    #[arg(long)]
    pub use_dynamic_base_id: bool,
    /// Write the base id to this file.
    #[arg(long)]
    pub base_id_path: Option<String>,
    /// Number of the hot restart.
    #[arg(long, default_value_t = 0)]
    pub restart_epoch: u32,
    /// Run the proxy as a child process, and replace it by hot restart on SIGHUP or when the binary is replaced.
    #[arg(long)]
    pub supervise: bool,
    /// Do not take part in hot restarts.
    #[arg(long)]
    pub disable_hot_restart: bool,
    /// Print the version of the hot restart protocol and exit.
    #[arg(long)]
    pub hot_restart_version: bool,
    /// Start without a parent where there is none.
    #[arg(long)]
    pub skip_hot_restart_on_no_parent: bool,
    /// Do not take over the parent's statistics.
    #[arg(long)]
    pub skip_hot_restart_parent_stats: bool,
    /// Path of the hot restart socket.
    #[arg(long, default_value = SOCKET_PATH)]
    pub socket_path: String,
    /// Permissions of the hot restart socket.
    #[arg(long, default_value = SOCKET_MODE, value_parser = octal)]
    pub socket_mode: String,
    /// Write core files.
    #[arg(long)]
    pub enable_core_dump: bool,
    /// Trace lock contention.
    #[arg(long)]
    pub enable_mutex_tracing: bool,
    /// Print the version and exit.
    #[arg(long)]
    pub version: bool,
    /// Ignored, as Envoy ignores what follows `--`.
    #[arg(last = true, hide = true)]
    pub rest: Vec<String>,
}

impl Options {
    /// Over which time connections are told to end where there is time (`--drain-strategy`).
    pub(crate) fn gradual_drain(&self) -> std::time::Duration {
        match self.drain_strategy {
            DrainStrategy::Gradual => std::time::Duration::from_secs(self.drain_time_s),
            DrainStrategy::Immediate => std::time::Duration::ZERO,
        }
    }

    /// How connections of removed and replaced listeners end.
    pub(crate) fn drain_times(&self) -> crate::listener::DrainTimes {
        let closed = std::time::Duration::from_secs(self.drain_time_s);
        crate::listener::DrainTimes { told: self.gradual_drain(), closed }
    }

    /// The flags that were given and do not act yet; said once at the start.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let flags = [
            (self.log_stacktrace_single_entry, "--log-stacktrace-single-entry"),
            (self.enable_fine_grain_logging, "--enable-fine-grain-logging"),
            (self.enable_core_dump, "--enable-core-dump"),
            (self.enable_mutex_tracing, "--enable-mutex-tracing"),
        ];
        flags.into_iter().filter(|(given, _)| *given).map(|(_, name)| name).collect()
    }
}

/// A time as Envoy takes it: what fits into 32 bits.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=u64::from(u32::MAX))
}

/// A mode as Envoy takes it: a number in base 8.
fn octal(text: &str) -> Result<String, String> {
    match u64::from_str_radix(text, 8) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a number in base 8".to_owned()),
    }
}
