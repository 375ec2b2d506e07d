//! What a client said, one line per request, and the order of it all.

use std::collections::{BTreeMap, BTreeSet};

use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_testkit::xds::{Event, Message, Request, short_type};

use super::super::record::{Normaliser, Record};

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
            Event::Opened { stream, path, .. } => {
                let service = service(path);
                let count = self.counts.entry(format!("open {service}")).or_default();
                *count += 1;
                let name = format!("{service}#{count}");
                record.add(format!("stream {name}"), path);
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
        }
        if let Some(node) = request.node() {
            record.add(format!("{label} node"), node_line(node));
        }
        label
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
            let words: BTreeSet<&str> = error
                .message
                .split(|c: char| !(c.is_alphanumeric() || "_-./*".contains(c)))
                .flat_map(|word| [word, word.trim_end_matches(['.', '/'])])
                .collect();
            let names: Vec<_> = self.names.iter().filter(|name| words.contains(name.as_str())).collect();
            let text = if error.message.is_empty() { "no text" } else { "text" };
            line += &format!(" error={} {text} about {names:?}", error.code);
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
