//! `cargo xtask bench`: Nuncio beside Envoy, HAProxy and nginx, in alternating rounds of one run.
//!
//! The proxy has one processor for itself; the load and the origin share another one, in this process. Each round starts
//! every proxy anew, one after the other, in an order that rotates. Machines drift by tens of percent, so that only ratios
//! of the same round are held against targets. docs/performance.md says how to read the figures.

mod config;
mod credentials;
mod figure;
mod histogram;
mod load;
mod machine;
mod peer;
mod process;
mod report;
mod scenario;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use credentials::Credentials;
use load::Load;
use machine::Processors;
use peer::{Kind, Peer};
use report::Report;
use scenario::{Scenario, Settings, Stage};

/// Connections on either side that a proxy must be able to hold at the same time.
const MOST_CONNECTIONS: u64 = scenario::BURST_CONNECTIONS as u64 + 500;
/// Part of the proxy's processor that others may use before the figures are called disturbed.
const UNDISTURBED: f64 = 0.05;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs these scenarios only.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Runs these proxies only.
    #[arg(long, value_delimiter = ',', default_values = ["nuncio", "envoy", "haproxy", "nginx"])]
    peers: Vec<Kind>,
    /// Rounds; memory takes two at most, scale three.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds of each timed measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Keep-alive connections of the load.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4000))]
    connections: u16,
    /// Requests a second for latency.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Seconds from the end of a burst until memory is read.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    settle: u16,
    /// The Nuncio to run; by default target/release/nuncio.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// The Envoy to run; by default that of NUNCIO_ENVOY, that on the path, or the one that `cargo xtask diff` fetched.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// The HAProxy to run; by default that on the path.
    #[arg(long)]
    haproxy: Option<PathBuf>,
    /// The nginx to run; by default that on the path.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Processor of the proxy; by default the last one.
    #[arg(long)]
    proxy_cpu: Option<usize>,
    /// Processor of the load; by default the first one.
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Where the figures go; by default target/bench.json.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs everything. `true` when every measurement could be made; targets that are missed are printed and are no error.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let peers = find(arguments, &target);
    if peers.is_empty() {
        return Err("there is no proxy to run".into());
    }
    let machine = machine::describe();
    println!("{machine}");
    let processors = Processors::choose(arguments.proxy_cpu, arguments.load_cpu)?;
    processors.pin()?;
    let descriptors = machine::raise_descriptors()?;
    if descriptors < 2 * MOST_CONNECTIONS + 1_000 {
        println!("only {descriptors} descriptors are allowed: the burst of the memory scenario may not fit");
    }
    let settings = Settings {
        duration: Duration::from_secs(arguments.seconds.into()),
        connections: arguments.connections.into(),
        rate: arguments.rate,
        settle: Duration::from_secs(arguments.settle.into()),
        most_connections: MOST_CONNECTIONS,
    };
    let begin = Instant::now();
    let mut stage =
        Stage { settings, processors, load: Load::new()?, credentials: Credentials::new()?, disturbed: 0.0 };
    let (report, failures) = rounds(arguments, &peers, &mut stage);
    println!("{}", report.markdown(&peers.iter().map(|peer| peer.kind).collect::<Vec<_>>()));
    let (met, all) = report.met();
    println!("{met} of {all} targets met; {} s", begin.elapsed().as_secs());
    if stage.disturbed > UNDISTURBED {
        let part = 100.0 * stage.disturbed;
        println!("DISTURBED: something else used up to {part:.0} % of the proxy's processor while it was measured");
    }
    failures.iter().for_each(|failure| println!("FAILED: {failure}"));
    let result = json!({
        "machine": machine,
        "processors": { "proxy": processors.proxy, "load": processors.load },
        "settings": format!("{settings:?}, {} rounds", arguments.rounds),
        "peers": peers.iter().map(|it| json!({ "name": it.kind.name(), "version": it.version })).collect::<Vec<_>>(),
        "results": report.json(),
        "disturbed": stage.disturbed,
        "failures": failures,
    });
    write(arguments.json.as_deref().unwrap_or(&target.join("bench.json")), &result)?;
    Ok(failures.is_empty())
}

/// The proxies that are there, each named with its version; what is missing is said and left out.
fn find(arguments: &Arguments, target: &Path) -> Vec<Peer> {
    let mut peers = Vec::new();
    for kind in &arguments.peers {
        let given = match kind {
            Kind::Nuncio => &arguments.nuncio,
            Kind::Envoy => &arguments.envoy,
            Kind::Haproxy => &arguments.haproxy,
            Kind::Nginx => &arguments.nginx,
        };
        match Peer::find(*kind, given.as_deref(), target) {
            Ok(peer) => {
                println!("{}: {}", kind.name(), peer.version);
                peers.push(peer);
            }
            Err(reason) => println!("{}: left out: {reason}", kind.name()),
        }
    }
    peers
}

fn rounds(arguments: &Arguments, peers: &[Peer], stage: &mut Stage) -> (Report, Vec<String>) {
    let mut report = Report::default();
    let mut failures = Vec::new();
    let wanted = |scenario: &&Scenario| arguments.only.is_empty() || arguments.only.contains(scenario);
    for &scenario in scenario::ALL.iter().filter(wanted) {
        let able: Vec<&Peer> = peers.iter().filter(|peer| peer.kind.can(scenario.setup())).collect();
        let rounds = scenario.rounds(arguments.rounds.into());
        for round in 0..rounds {
            for place in 0..able.len() {
                let peer = able[(place + round) % able.len()];
                let name = format!("{} {}/{rounds} {}", scenario.name(), round + 1, peer.kind.name());
                match stage.perform(scenario, peer, round) {
                    Ok(samples) => {
                        eprintln!("{name}: {}", brief(&samples));
                        report.add(scenario, peer.kind, round, samples);
                    }
                    Err(error) => {
                        eprintln!("{name}: FAILED: {error}");
                        failures.push(format!("{name}: {error}"));
                    }
                }
            }
        }
    }
    (report, failures)
}

/// The first figure of each variant, to see that something happens.
fn brief(samples: &[scenario::Sample]) -> String {
    let first = |sample: &scenario::Sample| {
        let (figure, value) = sample.values.first()?;
        Some(format!("{} {value:.*} ({})", figure.label, figure.decimals, sample.variant))
    };
    samples.iter().filter_map(first).collect::<Vec<_>>().join("; ")
}

fn write(path: &Path, result: &serde_json::Value) -> Result<(), String> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let text = serde_json::to_string_pretty(result).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    println!("figures: {}", path.display());
    Ok(())
}
