//! The proxies of a run: finding them, and starting one for a setup.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::client::Client;
use nuncio_testkit::port::ReservedPort;

use super::config::{self, Names, Setup};
use super::load::Origins;
use super::process::Process;

/// How long a proxy may take until it serves; 10,000 clusters need their time.
const LONGEST_START: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(1);
/// Directories of server programs, which are often missing in `PATH`.
const MORE_DIRECTORIES: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];

/// Which program a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// The one under test.
    Nuncio,
    Envoy,
    Haproxy,
    Nginx,
}

impl Kind {
    /// For tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nuncio => "nuncio",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it can be set up so, for a comparison that means something.
    pub fn can(self, setup: Setup) -> bool {
        match self {
            Self::Nuncio | Self::Envoy => true,
            Self::Haproxy => {
                let is_http2 = matches!(setup, Setup::Http2 { .. } | Setup::Grpc);
                is_http2 || setup.is_secure() || matches!(setup, Setup::Http { log: false } | Setup::Tcp)
            }
            // It has no HTTP/2 to origins but for gRPC.
            Self::Nginx => matches!(
                setup,
                Setup::Http { log: false } | Setup::Http2 { both: false } | Setup::Grpc | Setup::Tls | Setup::TlsAnswer
            ),
        }
    }
}

/// A program that was found.
#[derive(Clone, Debug)]
pub struct Peer {
    pub kind: Kind,
    pub binary: PathBuf,
    /// What it says about its version.
    pub version: String,
}

/// A peer that serves.
pub struct Running {
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start until it was ready, in seconds.
    pub ready_seconds: f64,
    _port: ReservedPort,
}

/// What every start has in common.
pub struct Site<'a> {
    /// The processor of the proxy.
    pub processor: usize,
    /// The most connections that a proxy may have to hold on one side.
    pub connections: u64,
    pub origins: Origins,
    /// A directory of this start alone.
    pub directory: &'a Path,
}

impl Peer {
    /// The program given, or the one that is found; an error says what is missing.
    pub fn find(kind: Kind, given: Option<&Path>, target: &Path) -> Result<Self, String> {
        let binary = match (given, kind) {
            (Some(path), _) => path.to_owned(),
            (None, Kind::Nuncio) => Some(target.join("release/nuncio"))
                .filter(|path| path.is_file())
                .ok_or("not built: cargo build --release -p nuncio, or --nuncio")?,
            (None, Kind::Envoy) => find_envoy(target)
                .ok_or("not found: --envoy, NUNCIO_ENVOY, or run cargo xtask diff once, which fetches it")?,
            (None, Kind::Haproxy | Kind::Nginx) => on_path(kind.name()).ok_or("not installed")?,
        };
        let flag = if matches!(kind, Kind::Nuncio | Kind::Envoy) { "--version" } else { "-v" };
        let output = Command::new(&binary).arg(flag).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", binary.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let version = text.lines().map(str::trim).find(|line| line.chars().any(|it| it.is_ascii_digit()));
        Ok(Self { kind, binary, version: shorten(version.unwrap_or("unknown version")) })
    }

    /// Starts it and waits until it serves: `/ready` answers 200, or the port accepts where there is no such thing.
    pub fn start(&self, setup: Setup, site: &Site<'_>) -> Result<Running, String> {
        let port = ReservedPort::new().map_err(|error| error.to_string())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let names = Names { listen: address, origins: site.origins, directory: site.directory };
        let text = match self.kind {
            Kind::Nuncio | Kind::Envoy => config::envoy(setup, &names),
            Kind::Haproxy => config::haproxy(setup, &names, site.connections),
            Kind::Nginx => config::nginx(setup, &names, site.connections),
        };
        let extension = if matches!(self.kind, Kind::Nuncio | Kind::Envoy) { "yaml" } else { "conf" };
        let path = site.directory.join(format!("config.{extension}"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let admin = site.directory.join("admin-address");
        let arguments = self.arguments(&path, &admin);
        let begin = Instant::now();
        let output = site.directory.join("output");
        let process = Process::start(site.processor, &self.binary, &arguments, output)?;
        let mut running = Running { process, address, ready_seconds: 0.0, _port: port };
        while begin.elapsed() < LONGEST_START {
            running.process.check_alive()?;
            let ready = match self.kind {
                Kind::Nuncio | Kind::Envoy => is_ready(&admin),
                Kind::Haproxy | Kind::Nginx => TcpStream::connect(address).is_ok(),
            };
            if ready {
                running.ready_seconds = begin.elapsed().as_secs_f64();
                return Ok(running);
            }
            thread::sleep(POLL);
        }
        Err(format!("not ready after {} s: {}", LONGEST_START.as_secs(), running.process.last_words()))
    }

    fn arguments(&self, config: &Path, admin: &Path) -> Vec<String> {
        let config = config.display().to_string();
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        match self.kind {
            Kind::Nuncio | Kind::Envoy => {
                let admin = admin.display().to_string();
                let fixed = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
                [owned(&["-c", &config, "--admin-address-path", &admin]), owned(&fixed)].concat()
            }
            Kind::Haproxy => owned(&["-db", "-q", "-f", &config]),
            Kind::Nginx => owned(&["-c", &config]),
        }
    }
}

fn is_ready(admin: &Path) -> bool {
    let address = fs::read_to_string(admin).ok().and_then(|text| text.trim().parse().ok());
    let Some(mut client) = address.and_then(|address| Client::connect(address).ok()) else { return false };
    client.send(b"GET /ready HTTP/1.1\r\nhost: bench\r\n\r\n").is_ok() && client.response(false).status() == 200
}

/// Where `cargo xtask diff` finds Envoy, except that nothing is fetched here.
fn find_envoy(target: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("NUNCIO_ENVOY").map(PathBuf::from);
    let fetched = target.join("envoy-1.40.0/envoy/_bin/envoy");
    named.or_else(|| on_path("envoy")).or_else(|| Some(fetched).filter(|path| path.is_file()))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = MORE_DIRECTORIES.iter().map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}
