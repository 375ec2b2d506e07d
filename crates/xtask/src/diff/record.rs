//! What one program did in one case, as named values that can be compared, with everything volatile made equal.

use std::collections::BTreeMap;

use nuncio_testkit::client::Response;
use nuncio_testkit::message::{Body, End, Fields};
use nuncio_testkit::origin::Seen;
use regex::{Captures, Regex};
use serde_json::Value;

use super::case::{Part, View};

/// The values of a case in order of recording, and the expectations that did not hold.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Name and value.
    pub values: Vec<(String, String)>,
    /// Expectations that did not hold.
    pub failures: Vec<String>,
    /// What is shown and not compared.
    pub notes: Vec<(String, String)>,
}

/// Replaces what differs from run to run: ports, the scratch directory, request ids, dates.
pub struct Normaliser {
    ports: BTreeMap<String, String>,
    scratch: String,
    masks: Vec<Regex>,
    number: Regex,
    address: Regex,
    uuid: Regex,
}

impl Normaliser {
    /// `ports` are the known ones by number, each with its name.
    pub fn new(ports: BTreeMap<u16, String>, scratch: &str) -> Result<Self, String> {
        let regex = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        Ok(Self {
            ports: ports.into_iter().map(|(number, name)| (number.to_string(), name)).collect(),
            scratch: scratch.to_owned(),
            masks: Vec::new(),
            number: regex(r"\b\d{5}\b")?,
            address: regex(r"(127\.0\.0\.\d+|\[::1\]):\d{4,5}\b")?,
            uuid: regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")?,
        })
    }

    /// Sets the masks of a case.
    pub fn set_masks(&mut self, masks: &[String]) -> Result<(), String> {
        self.masks =
            masks.iter().map(|mask| Regex::new(mask)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Applies all replacements.
    pub fn apply(&self, text: &str) -> String {
        let text = text.replace(&self.scratch, "<tmp>");
        let named = |found: &Captures<'_>| match self.ports.get(&found[0]) {
            Some(name) => format!("<{name}>"),
            None => found[0].to_owned(),
        };
        let text = self.number.replace_all(&text, named);
        let text = self.address.replace_all(&text, "$1:<port>");
        let mut text = self.uuid.replace_all(&text, "<uuid:$1>").into_owned();
        for mask in &self.masks {
            text = mask.replace_all(&text, "<masked>").into_owned();
        }
        text
    }

    fn header(&self, name: &str, value: &str) -> String {
        match name.to_ascii_lowercase().as_str() {
            "date" if value.len() == 29 && value.ends_with(" GMT") => "<date>".to_owned(),
            // What is left for a retry depends on the clock.
            "x-envoy-expected-rq-timeout-ms" => match value.parse::<u64>() {
                Ok(ms) if ms > 1000 => (ms.div_ceil(1000) * 1000).to_string(),
                _ => value.to_owned(),
            },
            "x-envoy-upstream-service-time" if value.bytes().all(|byte| byte.is_ascii_digit()) => "<ms>".to_owned(),
            _ => self.apply(value),
        }
    }
}

impl Record {
    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.push((name.into(), value.into()));
    }

    /// Adds what is shown and not compared.
    pub fn note(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.notes.push((name.into(), value.into()));
    }

    /// Adds an expectation that did not hold.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.failures.push(text.into());
    }

    /// Adds a response under the label of its step.
    pub fn response(&mut self, label: &str, response: &Response, normal: &Normaliser, skip: &[Part]) {
        for interim in &response.interim {
            self.add(format!("{label}: interim"), interim.start.clone());
        }
        let Some(head) = &response.head else {
            self.add(format!("{label}: status"), normal.apply(&format!("none ({:?})", response.body.end)));
            return;
        };
        self.add(format!("{label}: status"), head.start.clone());
        self.fields(&format!("{label}: header"), &head.fields, normal);
        self.fields(&format!("{label}: trailer"), &response.body.trailers, normal);
        if !skip.contains(&Part::Body) {
            self.add(format!("{label}: body"), show(&response.body, normal));
        }
        if response.body.end != End::Complete {
            self.add(format!("{label}: body end"), format!("{:?}", response.body.end));
        }
    }

    /// Adds what an origin saw.
    pub fn seen(&mut self, origin: &str, seen: &[Seen], normal: &Normaliser, reuse: bool) {
        self.add(format!("{origin} saw"), format!("{} requests", seen.len()));
        let mut connections = Vec::new();
        for (index, seen) in seen.iter().enumerate() {
            let label = format!("{origin} request {}", index + 1);
            if !connections.contains(&seen.connection) {
                connections.push(seen.connection);
            }
            if reuse {
                let place = connections.iter().position(|&number| number == seen.connection).unwrap_or(0) + 1;
                self.add(format!("{label}: connection"), place.to_string());
            }
            self.add(format!("{label}: line"), normal.apply(&seen.head.start));
            self.fields(&format!("{label}: header"), &seen.head.fields, normal);
            self.fields(&format!("{label}: trailer"), &seen.body.trailers, normal);
            match seen.body.end {
                End::Complete => self.add(format!("{label}: body"), show(&seen.body, normal)),
                end => self.add(format!("{label}: body"), format!("ended early: {end:?}")),
            }
        }
    }

    fn fields(&mut self, label: &str, fields: &Fields, normal: &Normaliser) {
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, value) in fields {
            by_name.entry(name).or_default().push(normal.header(name, value));
        }
        for (name, values) in by_name {
            self.add(format!("{label} {name}"), values.join(" | "));
        }
    }
}

/// A body as text: escaped, and only its length and a digest when it is long.
fn show(body: &Body, normal: &Normaliser) -> String {
    let text = normal.apply(&body.data.escape_ascii().to_string());
    if text.len() <= 2000 {
        return text;
    }
    let digest = body
        .data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{} bytes, digest {digest:016x}", body.data.len())
}

/// The part of a body of the admin endpoint that is compared.
pub fn view(view: &View, body: &str, normal: &Normaliser) -> Result<String, String> {
    let parse = || serde_json::from_str::<Value>(body).map_err(|error| format!("not JSON: {error}: {body}"));
    Ok(match view {
        View::All => normal.apply(body),
        View::None => String::new(),
        View::Json => normal.apply(&serde_json::to_string_pretty(&parse()?).unwrap_or_default()),
        View::Keys => {
            let mut paths = BTreeMap::new();
            keys(&parse()?, String::new(), &mut paths);
            paths.into_iter().map(|(path, kind)| format!("{path}: {kind}\n")).collect()
        }
        View::Lines(pattern) => {
            let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
            let mut lines: Vec<String> =
                body.lines().filter(|line| pattern.is_match(line)).map(|line| normal.apply(line)).collect();
            lines.sort();
            lines.join("\n")
        }
    })
}

fn keys(value: &Value, path: String, into: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| keys(item, format!("{path}[]"), into));
            "list"
        }
        Value::Object(entries) => {
            entries.iter().for_each(|(key, value)| keys(value, format!("{path}.{key}"), into));
            "object"
        }
    };
    into.insert(path, kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_values_become_equal() {
        let normal = Normaliser::new([(41234, "origin:a".to_owned())].into(), "/tmp/x").unwrap();
        let check = |text: &str, expected: &str| assert_eq!(normal.apply(text), expected);
        check("127.0.0.1:41234", "127.0.0.1:<origin:a>");
        check("127.0.0.1:50000", "127.0.0.1:<port>");
        check("/tmp/x/access.log", "<tmp>/access.log");
        check("id 01234567-89ab-4cde-8123-0123456789ab", "id <uuid:4>");
    }
}
