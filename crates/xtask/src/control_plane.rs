//! `cargo xtask control-plane`: a management server made with go-control-plane drives Nuncio (or, to compare, Envoy) through
//! random changes under load. On the way the server dies, and the proxy is restarted hot and cold; nothing may be lost.

mod load;
mod model;
mod server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::origin::{Origin, Reply, Script};
use nuncio_testkit::port::ReservedPort;
use nuncio_testkit::process::{Program, Proxy, Signal};
use serde_json::json;

use crate::diff::find_nuncio;
use load::Load;
use model::{Model, PATHS, Step, Variant};
use server::Server;

const ORIGINS: usize = 6;
const SPARE: usize = 4;
/// What memory may grow by, in MiB, between a fifth of the changes and the end: allocators keep some.
const GROWTH: u64 = 24;
/// How many descriptors more there may be at the end than at the start: connections to origins and of the load.
const FILES: usize = 40;

/// Arguments of `cargo xtask control-plane`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The Nuncio to run; by default the newest of target/release and target/debug.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// Runs the Envoy that the variable `NUNCIO_ENVOY` names instead of Nuncio, to compare.
    #[arg(long)]
    envoy: bool,
    /// How many changes in each variant of the protocol.
    #[arg(long, default_value_t = 1000)]
    changes: u64,
    /// What determines the changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Variants of the protocol: ads, delta-ads, separate, delta-separate; all unless given.
    variants: Vec<String>,
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

/// Runs everything. `true` when nothing was lost.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let target = crate::target();
    let management = server::build(&target)?;
    let binary = if arguments.envoy {
        std::env::var_os("NUNCIO_ENVOY").ok_or("NUNCIO_ENVOY names no Envoy")?.into()
    } else {
        find_nuncio(arguments.nuncio.as_deref(), &target)?
    };
    let all = [(true, false), (true, true), (false, false), (false, true)].map(|(ads, delta)| Variant { ads, delta });
    let mut well = true;
    for variant in all {
        if !arguments.variants.is_empty() && !arguments.variants.iter().any(|name| name == variant.name()) {
            continue;
        }
        let mut fleet = Fleet::start(&binary, &management, variant, arguments.seed)?;
        let result = fleet.drive(arguments.changes);
        well &= fleet.report(result);
    }
    Ok(well)
}

/// All that runs for one variant.
struct Fleet {
    variant: Variant,
    model: Model,
    management: PathBuf,
    server: Option<Server>,
    address: SocketAddr,
    epochs: Epochs,
    proxy: Proxy,
    load: Option<Load>,
    front: SocketAddr,
    nacks: u64,
    /// The resident memory in bytes and the descriptors: what was measured, and what it was at first.
    measured: Vec<(u64, usize)>,
    _origins: Vec<Origin>,
    _ports: Vec<ReservedPort>,
}

/// How processes are started.
struct Epochs {
    program: Program,
    directory: tempfile::TempDir,
    base: u32,
    epoch: u32,
    started: u32,
}

/// Base ids of the processes of a host differ.
fn base_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    3_000_000 + (std::process::id() % 100_000) * 100 + NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Epochs {
    /// Starts the next epoch, and waits until it serves.
    fn start(&mut self) -> Result<Proxy, String> {
        let directory = self.directory.path().join(format!("process-{}", self.started));
        std::fs::create_dir_all(&directory).map_err(said)?;
        self.started += 1;
        let (base, epoch) = (self.base.to_string(), self.epoch.to_string());
        let config = self.directory.path().join("bootstrap.yaml");
        let config = config.to_string_lossy();
        let mut args = vec!["-c", &config, "--base-id", &base, "--restart-epoch", &epoch, "--concurrency", "2"];
        args.extend(["--drain-time-s", "2", "--parent-shutdown-time-s", "4", "--log-level", "warn"]);
        let mut proxy = self.program.spawn(&args, &directory).map_err(said)?;
        proxy.await_ready().map_err(said)?;
        Ok(proxy)
    }
}

fn bootstrap(variant: Variant, server: SocketAddr) -> String {
    let mut dynamic = json!({"cds_config": variant.source(), "lds_config": variant.source()});
    if variant.ads {
        dynamic["ads_config"] = json!({"api_type": variant.api_type(), "transport_api_version": "V3",
            "set_node_on_first_message_only": true, "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}]});
    }
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let control = json!({"name": "control", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {(options): {"@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}}}},
        "load_assignment": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": server.ip().to_string(), "port_value": server.port()}}}}]}]}});
    json!({"node": {"id": "fleet", "cluster": "fleet"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": dynamic, "static_resources": {"clusters": [control]}})
    .to_string()
}

fn origin(index: usize) -> Result<Origin, String> {
    let reply = Reply { body: Some(index.to_string()), ..Reply::default() };
    Origin::start(Script::Http(vec![reply]), Gates::default()).map_err(said)
}

impl Fleet {
    fn start(binary: &Path, management: &Path, variant: Variant, seed: u64) -> Result<Self, String> {
        let origins = (0..ORIGINS).map(origin).collect::<Result<Vec<_>, _>>()?;
        let ports = (0..=SPARE).map(|_| ReservedPort::new().map_err(said)).collect::<Result<Vec<_>, _>>()?;
        let mut places = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port.number())));
        let front = places.next().ok_or("no port")?;
        let addresses = origins.iter().map(Origin::address).collect();
        let model = Model::new(seed, variant, (front, places.collect()), addresses);
        let mut server = Server::start(management, SocketAddr::from(([127, 0, 0, 1], 0)), variant.ads)?;
        server.serve(&model.snapshot())?;
        let directory = tempfile::tempdir().map_err(said)?;
        let text = bootstrap(variant, server.address());
        std::fs::write(directory.path().join("bootstrap.yaml"), text).map_err(said)?;
        let program = Program { binary: binary.to_owned(), flags: Vec::new() };
        let mut epochs = Epochs { program, directory, base: base_id(), epoch: 0, started: 0 };
        let proxy = epochs.start()?;
        Ok(Self {
            variant,
            model,
            management: management.to_owned(),
            address: server.address(),
            server: Some(server),
            epochs,
            proxy,
            load: Some(Load::start(front, PATHS)),
            front,
            nacks: 0,
            measured: Vec::new(),
            _origins: origins,
            _ports: ports,
        })
    }

    /// All changes, and what happens on the way.
    fn drive(&mut self, changes: u64) -> Result<(), String> {
        for number in 0..changes {
            let at = |text: String| format!("change {number}: {text}");
            for step in self.model.change() {
                self.apply(&step).map_err(at)?;
            }
            self.check().map_err(at)?;
            if number == changes / 5 || number == changes / 2 {
                self.measure().map_err(at)?;
            }
            if number == changes / 3 {
                self.lose_server().map_err(|text| at(format!("a lost server: {text}")))?;
            }
            if number == changes / 2 {
                self.restart_hot().map_err(|text| at(format!("hot restart: {text}")))?;
                self.measured.clear();
                self.measure()?;
            }
            if number == changes * 2 / 3 {
                self.restart_cold().map_err(|text| at(format!("SIGTERM: {text}")))?;
                self.measured.clear();
            }
            if number == changes * 4 / 5 {
                self.measure().map_err(at)?;
            }
        }
        let last = self.model.touch_all();
        self.apply(&last)?;
        self.check()?;
        self.server()?.await_quiet()?;
        self.measure()
    }

    fn server(&mut self) -> Result<&mut Server, String> {
        self.server.as_mut().ok_or_else(|| "there is no management server".into())
    }

    fn apply(&mut self, step: &Step) -> Result<(), String> {
        let server = self.server()?;
        server.serve(&step.snapshot)?;
        for (kind, version) in &step.awaits {
            server.await_ack(kind, *version)?;
        }
        let Some(cluster) = &step.serves else { return Ok(()) };
        let line = format!("{cluster}::127.0.0.1:");
        let serves = |proxy: &Proxy| proxy.admin_text("/clusters").is_ok_and(|text| text.contains(&line));
        if self.proxy.await_that(serves) {
            Ok(())
        } else {
            Err(format!("cluster {cluster} does not come into service"))
        }
    }

    /// Waits until each path is answered by one of those that it leads to, and each listener accepts.
    fn check(&self) -> Result<(), String> {
        for (path, origins) in self.model.expected() {
            let mut last = None;
            let right = self.proxy.await_that(|_| {
                last = self.ask(&path).ok();
                last.as_ref().is_some_and(|(_, from)| from.is_some_and(|from| origins.contains(&from)))
            });
            if !right {
                return Err(format!("{path} is answered by {last:?}, not by one of {origins:?}"));
            }
        }
        for address in self.model.extra_listeners() {
            if !self.proxy.await_that(|_| Client::connect(address).is_ok()) {
                return Err(format!("there is no listener at {address}"));
            }
        }
        Ok(())
    }

    /// Status and origin of an answer.
    fn ask(&self, path: &str) -> Result<(u16, Option<u64>), String> {
        let mut client = Client::connect(self.front).map_err(said)?;
        let response = load::get(&mut client, path);
        let origin = std::str::from_utf8(&response.body.data).ok().and_then(|text| text.parse().ok());
        Ok((response.status(), origin))
    }

    fn more(&self, count: u64) -> Result<(), String> {
        self.load.as_ref().map_or(Ok(()), |load| load.await_more(count))
    }

    /// The server dies; traffic goes on; it comes back with something new.
    fn lose_server(&mut self) -> Result<(), String> {
        self.server = None;
        let lost = |proxy: &Proxy| {
            let text = proxy.admin_text("/stats?filter=connected_state").unwrap_or_default();
            !text.contains("connected_state: 1")
        };
        if !self.proxy.await_that(lost) {
            return Err("the proxy does not notice".into());
        }
        self.more(200)?;
        let step = self.model.change_endpoints();
        let mut server = Server::start(&self.management, self.address, self.variant.ads)?;
        server.serve(&step.snapshot)?;
        self.server = Some(server);
        self.check_after_return()?;
        self.server()?.await_quiet()
    }

    /// After the loss of a server the proxy may wait long before it tries again.
    fn check_after_return(&self) -> Result<(), String> {
        let mut last = Err("never asked".into());
        for _ in 0..4 {
            last = self.check();
            if last.is_ok() {
                return last;
            }
        }
        last
    }

    /// The next epoch takes over.
    fn restart_hot(&mut self) -> Result<(), String> {
        self.epochs.epoch += 1;
        let next = self.epochs.start()?;
        let mut parent = std::mem::replace(&mut self.proxy, next);
        self.more(200)?;
        if parent.await_exit().map_err(said)?.is_none() {
            return Err("the parent does not end".into());
        }
        self.check()
    }

    /// The proxy is told to end, and started anew.
    fn restart_cold(&mut self) -> Result<(), String> {
        let Some(load) = &self.load else { return Ok(()) };
        load.tally.away.store(true, Ordering::SeqCst);
        self.proxy.signal(Signal::Terminate).map_err(said)?;
        if self.proxy.await_exit().map_err(said)?.is_none() {
            return Err("the proxy does not end".into());
        }
        (self.epochs.base, self.epochs.epoch) = (base_id(), 0);
        self.proxy = self.epochs.start()?;
        load.tally.away.store(false, Ordering::SeqCst);
        self.more(200)?;
        self.check()
    }

    fn measure(&mut self) -> Result<(), String> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.proxy.id())).map_err(said)?.count();
        self.measured.push((self.proxy.resident_bytes().map_err(said)?, files));
        let rejected = self.proxy.admin_text("/stats?usedonly&filter=update_rejected").map_err(said)?;
        self.nacks += rejected.lines().filter(|line| !line.ends_with(": 0")).count() as u64;
        Ok(())
    }

    /// Says what has happened; whether all is well.
    fn report(&mut self, result: Result<(), String>) -> bool {
        let name = self.variant.name();
        let mut faults: BTreeSet<String> = BTreeSet::new();
        if let Some(load) = self.load.take() {
            let (tally, told) = load.finish();
            let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
            let (answered, raced) = (count(&tally.answered), count(&tally.raced));
            let (refused, cut, lost) = (count(&tally.refused), count(&tally.cut), count(&tally.lost));
            println!("{name}: {answered} answered, {raced} sent again, {lost} lost");
            println!("{name}: without a proxy {refused} refused and {cut} cut off");
            faults.extend(told);
        }
        if let Err(error) = result {
            faults.insert(format!("{error}\n{}", self.proxy.last_words()));
        }
        if self.nacks > 0 {
            faults.insert("updates were rejected".into());
        }
        if let (Some((before, opened)), Some((after, open))) = (self.measured.first(), self.measured.last()) {
            let mib = |bytes: u64| bytes >> 20;
            println!(
                "{name}: {} MiB and {opened} descriptors, at the end {} MiB and {open}",
                mib(*before),
                mib(*after)
            );
            if mib(*after) > mib(*before) + GROWTH || *open > opened + FILES {
                faults.insert("memory or descriptors grow".into());
            }
        }
        for fault in &faults {
            println!("{name}: FAILED: {fault}");
        }
        faults.is_empty()
    }
}
