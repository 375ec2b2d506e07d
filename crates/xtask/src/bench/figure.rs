//! What is measured, and what it should come to.

use super::peer::Kind;

/// A kind of number in the tables.
#[derive(Debug, PartialEq, Eq)]
pub struct Figure {
    /// In JSON; names the unit.
    pub key: &'static str,
    /// In tables.
    pub label: &'static str,
    pub decimals: usize,
}

macro_rules! figures {
    ($($name:ident: $key:literal, $label:literal, $decimals:literal;)*) => {
        $(pub const $name: Figure = Figure { key: $key, label: $label, decimals: $decimals };)*
    };
}

figures! {
    CPU_PER_REQUEST: "cpu_us_per_request", "CPU per request, µs", 2;
    RATE: "requests_per_second", "requests/s", 0;
    PROCESSOR_USED: "processor_used_percent", "processor used, %", 0;
    P50: "p50_us", "p50, µs", 0;
    P99: "p99_us", "p99, µs", 0;
    P99_ALONE: "p99_alone_us", "p99 alone, µs", 0;
    P99_FLOOD: "p99_flood_us", "p99 in the flood, µs", 0;
    P99_RATIO: "p99_ratio", "p99 in the flood ÷ alone", 2;
    HELLOS: "handshakes_per_second", "handshakes/s", 0;
    P999: "p999_us", "p99.9, µs", 0;
    CPU_PER_GB: "cpu_seconds_per_gb", "CPU per GB, s", 3;
    GB_PER_SECOND: "gb_per_second", "GB/s", 2;
    RSS_START: "rss_start_mb", "RSS idle, MB", 1;
    RSS_IDLE: "rss_1000_idle_mb", "RSS with 1,000 idle connections, MB", 1;
    PER_IDLE: "kb_per_idle_connection", "an idle connection, kB", 1;
    RSS_BUSY: "rss_2000_busy_mb", "RSS with 2,000 busy connections, MB", 1;
    RSS_BURST: "rss_burst_mb", "RSS in a burst of 5,000, MB", 1;
    LEFT_AFTER_BURST: "rss_growth_after_burst_mb", "RSS above idle after the burst, MB", 1;
    RSS: "rss_mb", "RSS, MB", 1;
    READY: "ready_seconds", "time to ready, s", 3;
    READY_CPU: "ready_cpu_seconds", "CPU until ready, s", 2;
    CPU_FEW: "cpu_us_small_table", "CPU per request, short or first, µs", 2;
    CPU_MANY: "cpu_us_large_table", "CPU per request, long or last, µs", 2;
    HANDSHAKES: "handshakes_per_cpu_second", "handshakes per CPU second", 0;
    FLATNESS: "flatness", "the second ÷ the first", 3;
}

/// What a figure of Nuncio is held against.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// At most this part of the peer's figure.
    Against(Kind, f64),
    /// At least this many times the peer's figure.
    Ahead(Kind, f64),
    /// At most this.
    AtMost(f64),
    /// At most this far from 1, either way.
    Flat(f64),
}

/// What a figure should be.
pub struct Target {
    scenario: &'static str,
    /// The only variant that it holds for.
    variant: Option<&'static str>,
    figure: &'static Figure,
    pub rule: Rule,
}

/// The larger table of the scale scenario.
pub const MOST_CLUSTERS: usize = 10_000;
/// Its variant.
pub const MOST_CLUSTERS_NAME: &str = "10000 clusters, virtual hosts";

/// Variants of the handshakes.
pub const FULL: &str = "full, ECDSA P-256";
pub const RESUMED: &str = "resumed";

const fn target(scenario: &'static str, figure: &'static Figure, rule: Rule) -> Target {
    Target { scenario, variant: None, figure, rule }
}

const TARGETS: &[Target] = &[
    target("http", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.42)),
    target("http", &CPU_PER_REQUEST, Rule::Against(Kind::Haproxy, 0.85)),
    target("log", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.42)),
    target("tcp", &CPU_PER_GB, Rule::Against(Kind::Haproxy, 1.0)),
    target("memory", &RSS_START, Rule::AtMost(10.0)),
    target("memory", &PER_IDLE, Rule::AtMost(4.0)),
    target("memory", &RSS_BUSY, Rule::Against(Kind::Haproxy, 1.0)),
    target("memory", &LEFT_AFTER_BURST, Rule::AtMost(15.0)),
    Target { variant: Some(MOST_CLUSTERS_NAME), ..target("scale", &RSS, Rule::Against(Kind::Envoy, 0.2)) },
    Target { variant: Some(MOST_CLUSTERS_NAME), ..target("scale", &READY, Rule::Against(Kind::Envoy, 0.2)) },
    target("http2", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.48)),
    target("http2-both", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.5)),
    target("grpc", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.5)),
    target("tls", &CPU_PER_REQUEST, Rule::Against(Kind::Envoy, 0.45)),
    target("tls", &CPU_PER_REQUEST, Rule::Against(Kind::Haproxy, 0.75)),
    Target { variant: Some(FULL), ..target("handshakes", &HANDSHAKES, Rule::Ahead(Kind::Envoy, 1.3)) },
    Target { variant: Some(FULL), ..target("handshakes", &HANDSHAKES, Rule::Ahead(Kind::Haproxy, 1.5)) },
    Target { variant: Some(RESUMED), ..target("handshakes", &HANDSHAKES, Rule::Ahead(Kind::Envoy, 1.0)) },
    Target { variant: Some(RESUMED), ..target("handshakes", &HANDSHAKES, Rule::Ahead(Kind::Haproxy, 1.0)) },
    target("handshake-flood", &P99_RATIO, Rule::AtMost(2.0)),
    target("tls-bulk", &CPU_PER_GB, Rule::Against(Kind::Envoy, 1.0)),
    target("tls-bulk", &CPU_PER_GB, Rule::Against(Kind::Haproxy, 1.0)),
    target("tls-memory", &PER_IDLE, Rule::AtMost(16.0)),
    target("tls-memory", &LEFT_AFTER_BURST, Rule::AtMost(15.0)),
    target("http2-memory", &PER_IDLE, Rule::Against(Kind::Envoy, 0.5)),
    target("tls-clusters", &RSS, Rule::Against(Kind::Envoy, 0.15)),
    target("routes", &FLATNESS, Rule::Flat(0.2)),
];

/// The targets of a figure.
pub fn targets(scenario: &str, variant: &str, figure: &Figure) -> impl Iterator<Item = &'static Target> {
    let applies =
        move |target: &&Target| target.scenario == scenario && target.variant.is_none_or(|only| only == variant);
    let key = figure.key;
    TARGETS.iter().filter(applies).filter(move |target| target.figure.key == key)
}

impl Rule {
    /// Whether Nuncio's figure, or its ratio to the peer of the rule, is as it should be.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Against(_, most) | Self::AtMost(most) => value <= most,
            Self::Ahead(_, least) => value >= least,
            Self::Flat(most) => (value - 1.0).abs() <= most,
        }
    }

    /// For the table.
    pub fn text(self) -> String {
        match self {
            Self::Against(peer, most) => format!("≤ {most} × {}", peer.name()),
            Self::Ahead(peer, least) => format!("≥ {least} × {}", peer.name()),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Flat(most) => format!("1 ± {most}"),
        }
    }
}
