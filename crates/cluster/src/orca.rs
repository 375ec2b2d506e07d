//! Load reports of hosts (ORCA): what responses say of how busy the host is, and the weight that follows from it.
//!
//! A report stands in `endpoint-load-metrics-bin` (a serialised `xds.data.orca.v3.OrcaLoadReport` in Base64), or in
//! `endpoint-load-metrics` as `BIN …`, `JSON …` or `TEXT name:value, …`.

#[cfg(test)]
mod tests;

use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_lb::ClientSideWeights;
use serde_json::Value;
use std::sync::LazyLock;

/// Most metrics of one kind that are read of a report.
const MOST_METRICS: usize = 256;

static TEXT: LazyLock<Option<HeaderName>> = LazyLock::new(|| HeaderName::new("endpoint-load-metrics").ok());
static BINARY: LazyLock<Option<HeaderName>> = LazyLock::new(|| HeaderName::new("endpoint-load-metrics-bin").ok());
static JSON: LazyLock<Option<HeaderName>> = LazyLock::new(|| HeaderName::new("endpoint-load-metrics-json").ok());

/// The parts of an `OrcaLoadReport` that weights are made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadReport {
    cpu_utilization: f64,
    mem_utilization: f64,
    application_utilization: f64,
    rps_fractional: f64,
    eps: f64,
    utilization: Vec<(String, f64)>,
    request_cost: Vec<(String, f64)>,
    named_metrics: Vec<(String, f64)>,
}

impl LoadReport {
    /// The report among headers or trailers of a response; none if there is none, several, or one that can't be read.
    pub fn of(headers: &HeaderMap) -> Option<LoadReport> {
        let value = |name: &'static LazyLock<Option<HeaderName>>| headers.get_name(name.as_ref()?);
        match (value(&TEXT), value(&BINARY), value(&JSON)) {
            (Some(text), None, None) => {
                if let Some(json) = text.strip_prefix(b"JSON ") {
                    Self::of_json(json)
                } else if let Some(text) = text.strip_prefix(b"TEXT ") {
                    Self::of_text(std::str::from_utf8(text).ok()?)
                } else {
                    Self::of_binary(&base64(text.strip_prefix(b"BIN ")?)?)
                }
            }
            (None, Some(binary), None) => Self::of_binary(&base64(binary)?),
            (None, None, Some(json)) => Self::of_json(json),
            _ => None,
        }
    }

    fn of_text(text: &str) -> Option<LoadReport> {
        let mut report = LoadReport::default();
        let mut names = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once([':', '='])?;
            let name = name.trim();
            if names.contains(&name) || names.len() >= MOST_METRICS {
                return None;
            }
            names.push(name);
            let value: f64 = value.trim().parse().ok().filter(|value: &f64| value.is_finite())?;
            match name.strip_prefix("named_metrics.") {
                Some("") => return None,
                Some(name) => report.named_metrics.push((name.to_owned(), value)),
                None => *report.number(name)? = value,
            }
        }
        Some(report)
    }

    fn of_json(json: &[u8]) -> Option<LoadReport> {
        let Value::Object(fields) = serde_json::from_slice(json).ok()? else { return None };
        let mut report = LoadReport::default();
        for (name, value) in &fields {
            match (name.as_str(), value) {
                ("named_metrics" | "namedMetrics", Value::Object(map)) => report.named_metrics = metrics(map)?,
                ("request_cost" | "requestCost", Value::Object(map)) => report.request_cost = metrics(map)?,
                ("utilization", Value::Object(map)) => report.utilization = metrics(map)?,
                ("rps", _) => {}
                (name, value) => *report.number(name)? = number(value)?,
            }
        }
        Some(report)
    }

    fn of_binary(bytes: &[u8]) -> Option<LoadReport> {
        let mut report = LoadReport::default();
        let mut wire = Wire(bytes);
        while let Some(field) = wire.field()? {
            match field {
                (1, Part::Fixed(value)) => report.cpu_utilization = value,
                (2, Part::Fixed(value)) => report.mem_utilization = value,
                (4, Part::Bytes(entry)) => push(&mut report.request_cost, entry)?,
                (5, Part::Bytes(entry)) => push(&mut report.utilization, entry)?,
                (6, Part::Fixed(value)) => report.rps_fractional = value,
                (7, Part::Fixed(value)) => report.eps = value,
                (8, Part::Bytes(entry)) => push(&mut report.named_metrics, entry)?,
                (9, Part::Fixed(value)) => report.application_utilization = value,
                _ => {}
            }
        }
        Some(report)
    }

    fn number(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "cpu_utilization" | "cpuUtilization" => &mut self.cpu_utilization,
            "mem_utilization" | "memUtilization" => &mut self.mem_utilization,
            "application_utilization" | "applicationUtilization" => &mut self.application_utilization,
            "rps_fractional" | "rpsFractional" => &mut self.rps_fractional,
            "eps" => &mut self.eps,
            _ => return None,
        })
    }

    /// The value of a metric as configuration names it, `named_metrics.queue` or `cpu_utilization`; `*` stands for the
    /// greatest one of its kind.
    fn metric(&self, name: &str) -> f64 {
        let of = |metrics: &[(String, f64)], name: &str| {
            let matching = metrics.iter().filter(|(own, _)| name == "*" || own == name);
            matching.map(|(_, value)| *value).fold(0.0, f64::max)
        };
        match name.split_once('.') {
            Some(("named_metrics", name)) => of(&self.named_metrics, name),
            Some(("utilization", name)) => of(&self.utilization, name),
            Some(("request_cost", name)) => of(&self.request_cost, name),
            _ => match name {
                "cpu_utilization" => self.cpu_utilization,
                "mem_utilization" => self.mem_utilization,
                "application_utilization" => self.application_utilization,
                "rps_fractional" => self.rps_fractional,
                "eps" => self.eps,
                _ => 0.0,
            },
        }
    }

    /// Requests per second by utilisation; none if either is not known.
    pub fn weight(&self, options: &ClientSideWeights) -> Option<u32> {
        if self.rps_fractional <= 0.0 {
            return None;
        }
        let named = options.metric_names.iter().map(|name| self.metric(name)).fold(0.0, f64::max);
        let first = [named, self.application_utilization].into_iter().find(|utilization| *utilization > 0.0);
        let utilization =
            first.unwrap_or(self.cpu_utilization) + options.error_utilization_penalty * self.eps / self.rps_fractional;
        // The cast keeps within what a weight can be.
        (utilization > 0.0).then(|| (self.rps_fractional / utilization) as u32)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(0.0),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

fn metrics(map: &serde_json::Map<String, Value>) -> Option<Vec<(String, f64)>> {
    map.iter().take(MOST_METRICS).map(|(name, value)| Some((name.clone(), number(value)?))).collect()
}

/// Adds an entry of a protobuf map.
fn push(metrics: &mut Vec<(String, f64)>, entry: &[u8]) -> Option<()> {
    let (mut name, mut value) = (String::new(), 0.0);
    let mut wire = Wire(entry);
    while let Some(field) = wire.field()? {
        match field {
            (1, Part::Bytes(text)) => name = String::from_utf8(text.to_vec()).ok()?,
            (2, Part::Fixed(number)) => value = number,
            _ => {}
        }
    }
    if metrics.len() < MOST_METRICS {
        metrics.push((name, value));
    }
    Some(())
}

/// A message in protobuf's wire format.
struct Wire<'a>(&'a [u8]);

/// The value of a field, as far as reports have such ones.
enum Part<'a> {
    Fixed(f64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Wire<'a> {
    /// The next field; the inner `None` at the end, the outer one if there is no sense in it.
    #[allow(clippy::option_option)]
    fn field(&mut self) -> Option<Option<(u64, Part<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let part = match key & 7 {
            0 => {
                self.varint()?;
                Part::Other
            }
            1 => Part::Fixed(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Part::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Part::Other
            }
            _ => return None,
        };
        Some(Some((key >> 3, part)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Decodes Base64, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let data = text.get(..text.len() - padding.min(2))?;
    let mut out = Vec::with_capacity(data.len() / 4 * 3 + 3);
    for group in data.chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let value = match group.get(at) {
                None => 0,
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        out.extend(bits.to_be_bytes().get(1..group.len())?);
    }
    Some(out)
}
