//! What a client said, one line per request, and the order of it all.

use std::collections::{BTreeMap, BTreeSet};

use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_testkit::xds::{Event, Message, Request, short_type};

use super::super::record::{Normaliser, Record};

/// The end of the names of fields that say which resources an error speaks of.
const NAMES: &str = " names";
/// Headers of a stream that say nothing about what a scenario configures.
const USUAL: &[&str] = &[
    "accept-encoding",
    "content-type",
    "grpc-accept-encoding",
    "grpc-timeout",
    "te",
    "user-agent",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
    "x-forwarded-for",
    "x-request-id",
];

/// Who names more resources in an error than Envoy does is right as well.
pub fn allow_more_names(envoy: &Record, nuncio: &mut Record) {
    for (field, value) in &mut nuncio.values {
        let wanted = envoy.values.iter().find(|(name, _)| field.ends_with(NAMES) && name == field);
        let named: BTreeSet<&str> = value.split(' ').collect();
        if let Some((_, wanted)) = wanted
            && wanted.split(' ').all(|name| name.is_empty() || named.contains(name))
        {
            value.clone_from(wanted);
        }
    }
}

/// The transcript of a scenario.
#[derive(Default)]
pub struct Transcript {
    counts: BTreeMap<String, usize>,
    order: Vec<String>,
    /// What the streams are called: by their service, and their count of it.
    streams: BTreeMap<usize, String>,
    /// Names of resources that were sent; of those an error may speak.
    names: BTreeSet<String>,
}

impl Transcript {
    /// A resource of this name was sent.
    pub fn sent(&mut self, name: &str) {
        if !name.is_empty() {
            self.names.insert(name.to_owned());
        }
    }

    /// Records what happened.
    pub fn event(&mut self, event: &Event, record: &mut Record, normal: &Normaliser) {
        let token = match event {
            Event::Opened { stream, path, fields, .. } => {
                let service = service(path);
                let count = self.counts.entry(format!("open {service}")).or_default();
                *count += 1;
                let name = format!("{service}#{count}");
                record.add(format!("stream {name}"), path);
                let unusual = fields.iter().filter(|(name, _)| !USUAL.contains(&name.as_str()));
                for (header, value) in unusual {
                    record.add(format!("stream {name} {header}"), value);
                }
                self.streams.insert(*stream, name.clone());
                format!("open:{name}")
            }
            Event::Ended { stream, reset } => {
                format!("{}:{}", if *reset { "reset" } else { "end" }, self.stream(*stream))
            }
            Event::Request(request) => self.request(request, record, normal),
        };
        self.order.push(token);
    }

    /// The number of events so far.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// What happened from the event `from` on may come in any order.
    pub fn sort_from(&mut self, from: usize) {
        self.order[from..].sort_unstable();
    }

    /// Records the order.
    pub fn finish(&self, record: &mut Record) {
        record.add("order", self.order.join(" "));
    }

    fn request(&mut self, request: &Request, record: &mut Record, normal: &Normaliser) -> String {
        let kind = short_type(request.type_url());
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let label = format!("{kind}:{count}");
        record.add(label.clone(), self.line(request));
        if let Some(error) = request.error() {
            // Every program has its own words.
            record.note(format!("{label} says"), normal.apply(&error.message));
            record.add(format!("{label}{NAMES}"), self.names_in(&error.message));
        }
        if let Some(node) = request.node() {
            record.add(format!("{label} node"), node_line(node));
        }
        label
    }

    /// The resources that a text speaks of.
    fn names_in(&self, text: &str) -> String {
        let words: BTreeSet<&str> = text
            .split(|c: char| !(c.is_alphanumeric() || "_-./*:".contains(c)))
            .flat_map(|word| [word, word.trim_end_matches(['.', '/', ':'])])
            .collect();
        let names: Vec<&str> = self.names.iter().map(String::as_str).filter(|name| words.contains(name)).collect();
        names.join(" ")
    }

    /// What a stream is called; requests of REST have none.
    fn stream(&self, number: usize) -> String {
        self.streams.get(&number).map_or_else(|| "poll".to_owned(), String::clone)
    }

    fn line(&self, request: &Request) -> String {
        let mut line = format!("stream={}", self.stream(request.stream));
        if request.node().is_some() {
            line += " node";
        }
        if !request.nonce().is_empty() {
            line += &format!(" nonce={}", request.nonce());
        }
        match &request.message {
            Message::Sotw(_) => {
                line += &format!(" version='{}' names={:?}", request.version(), sorted(request.names()))
            }
            Message::Delta(_) => {
                line += &format!(" subscribe={:?}", sorted(request.names()));
                line += &format!(" unsubscribe={:?}", sorted(request.unsubscribed()));
                line += &format!(" initial={:?}", request.initial_versions());
            }
            Message::Raw(bytes) => line += &format!(" bytes={}", bytes.escape_ascii()),
        }
        if let Some(error) = request.error() {
            let text = if error.message.is_empty() { "no text" } else { "text" };
            line += &format!(" error={} {text}", error.code);
        }
        line
    }
}

/// The short name of the service that a path names: `ads`, or that of a type.
fn service(path: &str) -> &str {
    const SERVICES: &[(&str, &str)] = &[
        ("Aggregated", "ads"),
        ("Cluster", "cds"),
        ("Endpoint", "eds"),
        ("Listener", "lds"),
        ("ScopedRoutes", "srds"),
        ("VirtualHost", "vhds"),
        ("Route", "rds"),
        ("Secret", "sds"),
        ("ExtensionConfig", "ecds"),
        ("Runtime", "rtds"),
    ];
    let is_of = |(service, _): &&(&str, &str)| path.contains(&format!(".{service}DiscoveryService/"));
    SERVICES.iter().find(is_of).map_or(path, |(_, short)| short)
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort_unstable();
    sorted
}

fn node_line(node: &Node) -> String {
    let has = |there: bool, name: &str| if there { format!(" {name}") } else { String::new() };
    let mut line = format!("id={} cluster={}", node.id, node.cluster);
    if let Some(locality) = &node.locality {
        line += &format!(" locality={}/{}/{}", locality.region, locality.zone, locality.sub_zone);
    }
    if let Some(metadata) = &node.metadata {
        let mut keys: Vec<_> = metadata.fields.keys().collect();
        keys.sort_unstable();
        line += &format!(" metadata={keys:?}");
    }
    line += &has(!node.user_agent_name.is_empty(), "user_agent_name");
    line += &has(node.user_agent_version_type.is_some(), "user_agent_version");
    line += &has(!node.extensions.is_empty(), "extensions");
    let mut features = node.client_features.clone();
    features.sort_unstable();
    if !features.is_empty() {
        line += &format!(" features={features:?}");
    }
    line
}
