//! Starting the binary on a configuration whose ports are chosen by the test, and talking to it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nuncio_testkit::client::{Client, Response};
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::text;
use nuncio_testkit::origin::{Origin, Reply, Script};
use nuncio_testkit::port::ReservedPort;
use nuncio_testkit::process::{Program, Proxy};
use tempfile::TempDir;

/// The binary under test.
pub fn program() -> Program {
    Program { binary: PathBuf::from(env!("CARGO_BIN_EXE_nuncio")), flags: Vec::new() }
}

/// An HTTP origin that plays these replies.
pub fn origin(replies: Vec<Reply>) -> Origin {
    Origin::start(Script::Http(replies), Gates::default()).unwrap()
}

/// A reply of 200 with this body.
pub fn body(body: &str) -> Reply {
    Reply { body: Some(body.into()), ..Reply::default() }
}

/// A directory with a configuration in which `$name` stands for a free port of loopback, the same one for the same name,
/// and `$dir` for the directory.
pub struct Setup {
    pub dir: TempDir,
    ports: BTreeMap<String, ReservedPort>,
    known: BTreeMap<String, u16>,
    flags: Vec<String>,
}

impl Setup {
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut setup = Self { dir, ports: BTreeMap::new(), known: BTreeMap::new(), flags: Vec::new() };
        setup.write(config);
        setup
    }

    pub fn flags(mut self, flags: &[&str]) -> Self {
        let filled: Vec<String> = flags.iter().map(|flag| self.fill(flag)).collect();
        self.flags.extend(filled);
        self
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn port(&self, name: &str) -> u16 {
        self.ports.get(name).unwrap_or_else(|| panic!("the configuration has no ${name}")).number()
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(name)))
    }

    /// Replaces the configuration file.
    pub fn write(&mut self, config: &str) {
        for name in placeholders(config) {
            if name != "dir" && !self.ports.contains_key(name) {
                self.ports.insert(name.to_owned(), ReservedPort::new().unwrap());
            }
        }
        self.known = self.ports.iter().map(|(name, port)| (name.clone(), port.number())).collect();
        std::fs::write(self.config(), self.fill(config)).unwrap();
    }

    /// Puts the values of the placeholders into a text.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        let mut names = placeholders(text);
        // The longest first: `$a` is a part of `$ab`.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        for name in names {
            let value = match self.known.get(name) {
                Some(port) => port.to_string(),
                None => self.dir.path().to_string_lossy().into_owned(),
            };
            filled = filled.replace(&format!("${name}"), &value);
        }
        filled
    }

    /// Starts the binary and waits until it is ready.
    pub fn start(self) -> Running {
        let mut running = self.spawn();
        if let Err(error) = running.proxy.await_ready() {
            panic!("{error}\n--- output:\n{}", running.proxy.output());
        }
        running
    }

    /// Starts the binary.
    pub fn spawn(self) -> Running {
        let config = self.config().to_string_lossy().into_owned();
        let mut args = vec!["-c", &config, "--concurrency", "1", "--disable-hot-restart"];
        args.extend(["--file-flush-interval-msec", "10"]);
        if !self.flags.iter().any(|flag| flag == "--log-level") {
            args.extend(["--log-level", "info"]);
        }
        args.extend(self.flags.iter().map(String::as_str));
        let proxy = program().spawn(&args, self.dir.path()).unwrap();
        Running { proxy, setup: self }
    }

    /// Runs the binary, which is expected to end by itself: the exit code, and all that it printed. A death by a signal and
    /// the exit code of a panic are failures of the test.
    pub fn refused(&self) -> String {
        let config = self.config();
        let mut args = vec!["-c", config.to_str().unwrap(), "--disable-hot-restart"];
        args.extend(self.flags.iter().map(String::as_str));
        let (code, output) = run_to_end(&args);
        assert_ne!(code, 0, "accepted:\n{output}");
        output
    }
}

/// A program that gets this much address space in KiB, and this many descriptors.
pub fn limited(kib: usize, files: usize) -> Program {
    let limits = format!("ulimit -v {kib} && ulimit -n {files} && exec \"$0\" \"$@\"");
    let binary = env!("CARGO_BIN_EXE_nuncio");
    Program { binary: "/bin/sh".into(), flags: vec!["-c".into(), limits, binary.into()] }
}

/// Runs the binary until it ends by itself: the exit code, and all that it printed. It must not panic, nor need more than
/// 4 GiB of address space, most of which it only reserves.
pub fn run_to_end(args: &[&str]) -> (i32, String) {
    let output = limited(4 << 20, 1024).output(args).unwrap();
    let printed = text(&[output.stdout, output.stderr].concat());
    let code = output.status.code().unwrap_or_else(|| panic!("it ended with {}:\n{printed}", output.status));
    assert_ne!(code, 101, "it panicked:\n{printed}");
    assert!(!printed.contains("panicked at"), "it panicked:\n{printed}");
    (code, printed)
}

fn placeholders(text: &str) -> Vec<&str> {
    let name = |rest: &&str| rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
    let cut = |rest: &'_ str| -> usize { name(&rest).unwrap_or(rest.len()) };
    let mut names: Vec<&str> = text.split('$').skip(1).map(|rest| &rest[..cut(rest)]).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// A running binary with its directory.
pub struct Running {
    pub proxy: Proxy,
    pub setup: Setup,
}

/// Waits a moment for requests under way: a client has its response before the request is counted.
pub fn settle(proxy: &Proxy) {
    let deadline = Instant::now() + Duration::from_millis(250);
    let is_active = |text: &str| {
        let gauges = nuncio_testkit::stats::parse(text);
        gauges.iter().any(|(name, value)| *value > 0 && !name.contains("admin"))
    };
    while Instant::now() < deadline
        && proxy.admin_text("/stats?filter=http\\..*downstream_rq_active$").is_ok_and(|text| is_active(&text))
    {}
}

impl Running {
    /// A connection to the listener on `$front`.
    pub fn client(&self) -> Client {
        self.client_of("front")
    }

    /// A connection to the listener on the port of that name.
    pub fn client_of(&self, name: &str) -> Client {
        Client::connect(self.setup.address(name)).unwrap_or_else(|error| self.fail(&format!("connecting: {error}")))
    }

    /// One GET over a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        get(&mut self.client(), path)
    }

    /// The status and body of one GET over a connection of its own.
    pub fn answer(&self, path: &str) -> (u16, String) {
        answer(&self.get(path))
    }

    /// The value of a counter or gauge, 0 when there is none of that name.
    pub fn stat(&self, name: &str) -> u64 {
        settle(&self.proxy);
        let listed = self.proxy.admin_text(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).unwrap();
        nuncio_testkit::stats::parse(&listed).get(name).copied().unwrap_or(0)
    }

    /// Waits until a counter or gauge satisfies `wanted`.
    pub fn await_stat(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        if !self.proxy.await_that(|_| wanted(self.stat(name))) {
            self.fail(&format!("{name} stays at {}", self.stat(name)));
        }
    }

    /// Waits until the proxy has printed `text`.
    pub fn await_output(&self, text: &str) {
        if !self.proxy.await_that(|proxy| proxy.output().contains(text)) {
            self.fail(&format!("it did not print {text:?}"));
        }
    }

    /// Waits until a GET of `path` is answered as `wanted`, over a new connection each time.
    pub fn await_answer(&self, path: &str, wanted: (u16, &str)) {
        let mut last = None;
        let came = self.proxy.await_that(|_| {
            let Ok(mut client) = Client::connect(self.setup.address("front")) else { return false };
            last = Some(answer(&get(&mut client, path)));
            last.as_ref().is_some_and(|(status, body)| (*status, body.as_str()) == wanted)
        });
        if !came {
            self.fail(&format!("GET {path}: wanted {wanted:?}, last answer {last:?}"));
        }
    }

    /// Ends the test with the output of the proxy.
    pub fn fail(&self, why: &str) -> ! {
        panic!("{why}\n--- output:\n{}", self.proxy.output())
    }
}

/// Sends a GET and reads the response.
pub fn get(client: &mut Client, path: &str) -> Response {
    ask(client, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
}

/// Sends these bytes and reads one response.
pub fn ask(client: &mut Client, request: &str) -> Response {
    // A peer that closes while it is sent to may have answered all the same.
    let _ = client.send(request.as_bytes());
    client.response(request.starts_with("HEAD "))
}

/// Status and body.
pub fn answer(response: &Response) -> (u16, String) {
    (response.status(), text(&response.body.data))
}

/// A header of a response.
pub fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.head.as_ref()?.get(name)
}

/// The name of a message type of network filter configuration.
pub const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// A bootstrap with one HTTP listener, `front`. Everything but `clusters` is text in YAML's flow style.
#[derive(Default)]
pub struct Http<'a> {
    /// A list of routes.
    pub routes: &'a str,
    /// Elements of the list of clusters.
    pub clusters: Vec<String>,
    /// Fields of the connection manager, each `name: value`.
    pub manager: &'a [&'a str],
    /// HTTP filters before the router.
    pub filters: &'a [&'a str],
    /// Fields of the listener, each `name: value`.
    pub listener: &'a [&'a str],
    /// Fields of the bootstrap, each `name: value`.
    pub bootstrap: &'a [&'a str],
}

impl Http<'_> {
    /// The text of the configuration.
    pub fn text(&self) -> String {
        let listener = format!(
            "name: front, address: {}, filter_chains: [{{filters: [{}]}}]{}",
            address(SocketAddr::from(([127, 0, 0, 1], 0))).replace("port_value: 0", "port_value: $front"),
            self.connection_manager(),
            self.listener.iter().fold(String::new(), |all, field| all + ", " + field),
        );
        bootstrap(&[listener], &self.clusters, self.bootstrap)
    }

    /// The connection manager alone, as a network filter.
    pub fn connection_manager(&self) -> String {
        let routes = if self.routes.is_empty() { "[{match: {prefix: /}, route: {cluster: a}}]" } else { self.routes };
        let fields = self.manager.iter().fold(String::new(), |all, field| all + ", " + field);
        let filters = self.filters.iter().fold(String::new(), |all, filter| all + filter + ", ");
        format!(
            "{{name: hcm, typed_config: {{'@type': {HCM}, stat_prefix: front{fields}, \
             route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: {routes}}}]}}, \
             http_filters: [{filters}{{name: router, typed_config: {{'@type': {ROUTER}}}}}]}}}}"
        )
    }
}

/// A bootstrap with an admin endpoint on a free port.
pub fn bootstrap(listeners: &[String], clusters: &[String], fields: &[&str]) -> String {
    let mut text = String::from("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
    for field in fields {
        writeln!(text, "{field}").unwrap();
    }
    text += "static_resources:\n  listeners:\n";
    for listener in listeners {
        writeln!(text, "  - {{{listener}}}").unwrap();
    }
    text += "  clusters:\n";
    for cluster in clusters {
        writeln!(text, "  - {{{cluster}}}").unwrap();
    }
    if clusters.is_empty() { text.replace("  clusters:\n", "  clusters: []\n") } else { text }
}

/// An address as configurations state it.
pub fn address(address: SocketAddr) -> String {
    format!("{{socket_address: {{address: '{}', port_value: {}}}}}", address.ip(), address.port())
}

/// A static cluster with these endpoints.
pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> String {
    cluster_with(name, endpoints, "")
}

/// A static cluster with these endpoints and further fields, each `, name: value`.
pub fn cluster_with(name: &str, endpoints: &[SocketAddr], fields: &str) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|endpoint| format!("{{endpoint: {{address: {}}}}}", address(*endpoint))).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "name: {name}, type: STATIC, connect_timeout: 5s, \
         load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}{fields}"
    )
}

/// A connection manager in front of one origin, started.
pub fn in_front_of(origin: &Origin) -> Running {
    Setup::new(&Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text()).start()
}

/// The file in the directory of a test, once it holds what `wanted` looks for.
pub fn await_file(running: &Running, path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let came = running.proxy.await_that(|_| {
        last = std::fs::read_to_string(path).unwrap_or_default();
        wanted(&last)
    });
    if !came {
        running.fail(&format!("{} holds {last:?}", path.display()));
    }
    last
}
