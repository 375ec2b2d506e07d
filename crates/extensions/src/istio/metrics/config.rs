//! `stats.PluginConfig`.

use super::labels::{LABELS, Own, Reporter};
use super::overrides::{Changes, Custom, Expression};
use super::{Kinds, Metric, Metrics, Overrides, Reporting};
use nuncio_api::istio::stats as pb;
use nuncio_cel::Options;
use nuncio_config::compile::{Compile, Invalid};
use nuncio_config::lower;
use nuncio_config::snapshot::TrafficDirection;
use nuncio_stats::Unit;
use nuncio_stream_info::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// `tcp_reporting_duration` where none is set.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the interpreter of Istio's expressions allows.
const OPTIONS: Options = Options { string_conversion: true, string_concat: true, string_functions: false };

/// Tells configurations with overrides apart.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where a filter stands.
pub(crate) fn reporting(config: &pb::PluginConfig, cx: &mut Compile<'_>) -> Result<Arc<Reporting>, Invalid> {
    let pb::PluginConfig {
        disable_host_header_fallback,
        tcp_reporting_duration,
        metrics: changes,
        definitions,
        reporter: _,
        rotation_interval,
        graceful_deletion_interval,
    } = config;
    cx.unsupported_if(rotation_interval.is_some(), "rotation_interval");
    cx.unsupported_if(graceful_deletion_interval.is_some(), "graceful_deletion_interval");
    let reporter = match (config.reporter(), cx.facts.traffic_direction) {
        (pb::Reporter::ServerGateway, _) => Reporter::Gateway,
        (pb::Reporter::Unspecified, TrafficDirection::Inbound) => Reporter::Server,
        (pb::Reporter::Unspecified, _) => Reporter::Client,
    };
    let interval = match tcp_reporting_duration {
        None => Some(INTERVAL),
        Some(given) => match lower::duration(given) {
            Some(interval) => Some(interval).filter(|interval| !interval.is_zero()),
            None => return Err(cx.field("tcp_reporting_duration").error("is not a duration")),
        },
    };
    let overrides = (!changes.is_empty() || !definitions.is_empty()).then(|| overrides(changes, definitions, cx));
    let metrics = Metrics::of(cx.store);
    let node = &cx.facts.node;
    metrics.note_version(node.metadata.get("ISTIO_VERSION").and_then(Value::as_str).unwrap_or_default());
    Ok(Arc::new(Reporting {
        reporter,
        own: Own::of(node),
        disable_host_header_fallback: *disable_host_header_fallback,
        interval,
        id: if overrides.is_some() { NEXT_ID.fetch_add(1, Relaxed) } else { 0 },
        overrides,
        metrics,
    }))
}

/// Expressions by their text.
struct Expressions<'a> {
    overrides: &'a mut Overrides,
    known: HashMap<String, usize>,
}

impl Expressions<'_> {
    /// The place of an expression; none, said at the present path, if it is none.
    fn find(&mut self, text: &str, is_amount: bool, cx: &mut Compile<'_>) -> Option<usize> {
        if let Some(at) = self.known.get(text) {
            return Some(*at);
        }
        match nuncio_cel::Program::parse(text, OPTIONS) {
            Ok(program) => {
                let at = self.overrides.expressions.len();
                self.overrides.expressions.push(Expression { program, is_amount });
                self.known.insert(text.to_owned(), at);
                Some(at)
            }
            Err(error) => {
                cx.warn(format!("is left out, as in Envoy: the CEL expression {error}"));
                None
            }
        }
    }
}

fn standard(name: &str) -> Option<Metric> {
    Metric::ALL.into_iter().find(|metric| metric.name().strip_prefix("istio_") == Some(name))
}

fn overrides(metrics: &[pb::MetricConfig], definitions: &[pb::MetricDefinition], cx: &mut Compile<'_>) -> Overrides {
    let mut all = Overrides::default();
    let mut expressions = Expressions { overrides: &mut all, known: HashMap::new() };
    for (index, definition) in definitions.iter().enumerate() {
        let mut cx = cx.element("definitions", index);
        if standard(&definition.name).is_some() {
            cx.field("name").warn("is a standard metric, which can't be defined again: it is left out, as in Envoy");
            continue;
        }
        let kind = match definition.r#type() {
            pb::MetricType::Counter => Kinds::Counter,
            pb::MetricType::Gauge => Kinds::Gauge,
            pb::MetricType::Histogram => Kinds::Histogram(Unit::Bytes),
        };
        let Some(value) = expressions.find(&definition.value, true, &mut cx.field("value")) else { continue };
        let name = format!("istio_{}", definition.name).into();
        expressions.overrides.custom.push(Custom { name, kind, value, tags: Changes::default() });
    }
    for (index, metric) in metrics.iter().enumerate() {
        change(metric, &mut expressions, &mut cx.element("metrics", index));
    }
    all
}

fn change(metric: &pb::MetricConfig, expressions: &mut Expressions<'_>, cx: &mut Compile<'_>) {
    let pb::MetricConfig { dimensions, name, tags_to_remove, r#match, drop } = metric;
    cx.unsupported_if(!r#match.is_empty(), "match");
    let named = standard(name);
    let targets: Vec<Metric> = if name.is_empty() { Metric::ALL.to_vec() } else { named.into_iter().collect() };
    let is_custom = |custom: &Custom| name.is_empty() || custom.name.strip_prefix("istio_") == Some(name);
    let known = named.is_some() || expressions.overrides.custom.iter().any(is_custom) || name.is_empty();
    if !known {
        cx.field("name").warn("is no metric: this entry changes nothing");
    }
    if *drop {
        // Only by its name, as in Envoy.
        named.into_iter().for_each(|metric| expressions.overrides.of_mut(metric).drop = true);
        return;
    }
    for (index, tag) in tags_to_remove.iter().enumerate() {
        if !LABELS.contains(&tag.as_str()) {
            cx.element("tags_to_remove", index).warn("is no standard tag: it is left as it is");
            continue;
        }
        for target in &targets {
            expressions.overrides.of_mut(*target).replaced.insert(tag.as_str().into(), None);
        }
    }
    let mut tags: Vec<_> = dimensions.iter().collect();
    tags.sort();
    for (tag, text) in tags {
        let at = expressions.find(text, false, &mut cx.entry("dimensions", tag));
        let is_standard = LABELS.contains(&tag.as_str());
        for target in &targets {
            let changes = expressions.overrides.of_mut(*target);
            match at {
                _ if is_standard => drop_in(changes, tag, at),
                Some(at) => changes.added.push((tag.as_str().into(), at)),
                None => {}
            }
        }
        for custom in expressions.overrides.custom.iter_mut().filter(|custom| is_custom(custom)) {
            custom.tags.added.extend(at.map(|at| (tag.as_str().into(), at)));
        }
    }
}

fn drop_in(changes: &mut Changes, tag: &str, at: Option<usize>) {
    changes.replaced.insert(tag.into(), at);
}
