//! `config.accesslog.v3.AccessLog`: loggers, and the filters around them.

use super::cel;
use super::extension;
use super::matcher;
use super::number::{Wrapped, fractional_percent, runtime_uint32};
use super::value::Shown;
use crate::compile::{Compile, Invalid, message_of};
use nuncio_api::pb::envoy::config::accesslog::v3 as pb;
use nuncio_api::pb::envoy::data::accesslog::v3::AccessLogType as LogType;
use nuncio_api::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use nuncio_filter::{AccessLog, AccessLogs, Runtime};
use nuncio_matcher::ValueMatcher;
use nuncio_stream_info::{
    AccessLogType, Comparison, LogContext, LogFilter, ResponseFlags, RuntimeValue, ValuePredicate,
};
use prost::Name;
use std::sync::Arc;

/// Filters inside filters beyond this are refused: translating and deciding recurse.
const MAX_DEPTH: usize = 32;

/// The access logs of `field`, each with its filter around it.
pub fn access_logs(logs: &[pb::AccessLog], field: &'static str, cx: &mut Compile<'_>) -> Result<AccessLogs, Invalid> {
    let runtime = cx.runtime.clone();
    let lowered = matcher::list(logs, field, cx, |log, cx| access_log(log, &runtime, cx))?;
    Ok(lowered.into())
}

fn access_log(
    log: &pb::AccessLog,
    runtime: &Arc<Runtime>,
    cx: &mut Compile<'_>,
) -> Result<Arc<dyn AccessLog>, Invalid> {
    let pb::AccessLog { name, filter, config_type } = log;
    let filter = filter.as_ref().map(|filter| log_filter(filter, &mut cx.field("filter"))).transpose();
    let any = config_type.as_ref().map(|pb::access_log::ConfigType::TypedConfig(any)| any);
    let registry = cx.registry;
    let logger = extension::compile(name, any, &registry.access_log, "access logger", cx);
    let (filter, logger) = (filter?, logger?);
    Ok(match filter {
        None => logger,
        Some(filter) => Arc::new(Filtered { filter, logger, runtime: runtime.clone() }),
    })
}

/// A logger that gets only the records that its filter wants.
struct Filtered {
    filter: LogFilter,
    logger: Arc<dyn AccessLog>,
    runtime: Arc<Runtime>,
}

impl AccessLog for Filtered {
    fn log(&self, record: &LogContext<'_>, random: u64) {
        let lookup = |key: &str| self.runtime.get(key).and_then(|text| text.trim().parse().ok());
        if self.filter.matches_with(record, random, &lookup) {
            self.logger.log(record, random);
        }
    }
}

/// `AccessLogFilter`.
pub fn log_filter(filter: &pb::AccessLogFilter, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    filter_at(filter, MAX_DEPTH, cx)
}

fn filter_at(filter: &pb::AccessLogFilter, depth: usize, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    use pb::access_log_filter::FilterSpecifier as Kind;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.error(format!("more than {MAX_DEPTH} filters inside one another")));
    };
    match &filter.filter_specifier {
        None => Err(cx.error("has no filter: set status_code_filter or another")),
        Some(Kind::StatusCodeFilter(filter)) => {
            let (comparison, value) = comparison(&filter.comparison, &mut cx.field("status_code_filter"))?;
            Ok(LogFilter::StatusCode(comparison, value))
        }
        Some(Kind::DurationFilter(filter)) => {
            let (comparison, value) = comparison(&filter.comparison, &mut cx.field("duration_filter"))?;
            Ok(LogFilter::Duration(comparison, value))
        }
        Some(Kind::NotHealthCheckFilter(_)) => Ok(LogFilter::NotHealthCheck),
        Some(Kind::TraceableFilter(_)) => Ok(LogFilter::Traceable),
        Some(Kind::RuntimeFilter(filter)) => Ok(runtime_filter(filter)),
        Some(Kind::AndFilter(and)) => Ok(LogFilter::And(filters(&and.filters, depth, &mut cx.field("and_filter"))?)),
        Some(Kind::OrFilter(or)) => Ok(LogFilter::Or(filters(&or.filters, depth, &mut cx.field("or_filter"))?)),
        Some(Kind::HeaderFilter(filter)) => header_filter(filter, &mut cx.field("header_filter")),
        Some(Kind::ResponseFlagFilter(filter)) => flag_filter(filter, &mut cx.field("response_flag_filter")),
        Some(Kind::GrpcStatusFilter(filter)) => {
            let statuses = filter.statuses.iter().map(|status| i64::from(*status)).collect();
            Ok(LogFilter::GrpcStatus { statuses, exclude: filter.exclude })
        }
        Some(Kind::MetadataFilter(filter)) => metadata_filter(filter, &mut cx.field("metadata_filter")),
        Some(Kind::LogTypeFilter(filter)) => {
            let types = filter.types().filter_map(log_type).collect();
            Ok(LogFilter::LogType { types, exclude: filter.exclude })
        }
        Some(Kind::ExtensionFilter(extension)) => extension_filter(extension, &mut cx.field("extension_filter")),
    }
}

fn extension_filter(extension: &pb::ExtensionFilter, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    let any = extension.config_type.as_ref().map(|pb::extension_filter::ConfigType::TypedConfig(any)| any);
    let Some(any) = any.filter(|any| message_of(any) == ExpressionFilter::full_name()) else {
        let text = format!("the access log filter {} is not built", extension.name);
        return Err(cx.error_hint(text, "envoy.access_loggers.extension_filters.cel is"));
    };
    let mut cx = cx.field("typed_config");
    let ExpressionFilter { expression, cel_config } = cx.decode(any)?;
    let program = cel::cel_text(&expression, cel::cel_options(cel_config.as_ref()), &mut cx.field("expression"))?;
    Ok(LogFilter::Custom(Box::new(move |context| program.holds(context))))
}

fn filters(list: &[pb::AccessLogFilter], depth: usize, cx: &mut Compile<'_>) -> Result<Vec<LogFilter>, Invalid> {
    matcher::list(list, "filters", cx, |filter, cx| filter_at(filter, depth, cx))
}

fn comparison(
    comparison: &Option<pb::ComparisonFilter>,
    cx: &mut Compile<'_>,
) -> Result<(Comparison, RuntimeValue), Invalid> {
    let Some(filter) = comparison else { return Err(cx.field("comparison").error("is required")) };
    let kind = match filter.op() {
        pb::comparison_filter::Op::Eq => Comparison::Equal,
        pb::comparison_filter::Op::Ge => Comparison::GreaterOrEqual,
        pb::comparison_filter::Op::Le => Comparison::LessOrEqual,
        pb::comparison_filter::Op::Ne => Comparison::NotEqual,
    };
    let value = filter.value.as_ref().map_or_else(|| RuntimeValue::fixed(0), runtime_uint32);
    Ok((kind, value))
}

fn runtime_filter(filter: &pb::RuntimeFilter) -> LogFilter {
    let pb::RuntimeFilter { runtime_key, percent_sampled, use_independent_randomness } = filter;
    let share = percent_sampled.as_ref().map(fractional_percent).unwrap_or_default();
    LogFilter::Runtime {
        numerator: RuntimeValue { default: u64::from(share.numerator), key: runtime_key.as_str().into() },
        denominator: share.denominator.get(),
        use_independent_randomness: *use_independent_randomness,
    }
}

fn header_filter(filter: &pb::HeaderFilter, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    let mut cx = cx.field("header");
    let Some(header) = &filter.header else { return Err(cx.error("is required")) };
    let matcher = matcher::header(header, &mut cx)?;
    Ok(LogFilter::Header(Box::new(move |headers| matcher.matches(headers))))
}

fn flag_filter(filter: &pb::ResponseFlagFilter, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    let mut all = ResponseFlags::NONE;
    let before = cx.errors();
    for (index, name) in filter.flags.iter().enumerate() {
        match ResponseFlags::from_short_name(name) {
            Ok(flag) => all.insert(flag),
            Err(error) => {
                cx.element("flags", index).error(error.to_string());
            }
        }
    }
    cx.unless_errors_since(before)?;
    Ok(LogFilter::ResponseFlag(all))
}

fn metadata_filter(filter: &pb::MetadataFilter, cx: &mut Compile<'_>) -> Result<LogFilter, Invalid> {
    let pb::MetadataFilter { matcher, match_if_key_not_found } = filter;
    let match_if_key_not_found = match_if_key_not_found.value_or(true);
    let Some(matcher) = matcher else {
        // Without a matcher there is no key to be found.
        let (namespace, path) = (Box::from(""), Vec::new());
        return Ok(LogFilter::Metadata { namespace, path, matches: None, match_if_key_not_found });
    };
    let mut cx = cx.field("matcher");
    let path = cx.check(matcher::metadata_path(&matcher.path))?;
    let matches = match &matcher.value {
        None => None,
        Some(value) => {
            let compiled: ValueMatcher = matcher::value(value, &mut cx.field("value"))?;
            let invert = matcher.invert;
            let predicate: ValuePredicate = Box::new(move |value| compiled.matches(Some(Shown(value))) != invert);
            Some(predicate)
        }
    };
    let path = path.into_iter().map(String::into_boxed_str).collect();
    Ok(LogFilter::Metadata { namespace: matcher.filter.as_str().into(), path, matches, match_if_key_not_found })
}

/// The kind of record; none for one that is never written.
fn log_type(kind: LogType) -> Option<AccessLogType> {
    Some(match kind {
        LogType::TcpConnectionStart => return None,
        LogType::NotSet => AccessLogType::NotSet,
        LogType::TcpUpstreamConnected => AccessLogType::TcpUpstreamConnected,
        LogType::TcpPeriodic => AccessLogType::TcpPeriodic,
        LogType::TcpConnectionEnd => AccessLogType::TcpConnectionEnd,
        LogType::DownstreamStart => AccessLogType::DownstreamStart,
        LogType::DownstreamPeriodic => AccessLogType::DownstreamPeriodic,
        LogType::DownstreamEnd => AccessLogType::DownstreamEnd,
        LogType::UpstreamPoolReady => AccessLogType::UpstreamPoolReady,
        LogType::UpstreamPeriodic => AccessLogType::UpstreamPeriodic,
        LogType::UpstreamEnd => AccessLogType::UpstreamEnd,
        LogType::DownstreamTunnelSuccessfullyEstablished => AccessLogType::DownstreamTunnelSuccessfullyEstablished,
        LogType::UdpTunnelUpstreamConnected => AccessLogType::UdpTunnelUpstreamConnected,
        LogType::UdpPeriodic => AccessLogType::UdpPeriodic,
        LogType::UdpSessionEnd => AccessLogType::UdpSessionEnd,
    })
}
