//! Hot restart: a process takes another one's place under load, and nothing is lost.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nuncio_testkit::PATIENCE;
use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::h2_client::{H2Client, H2Request};
use nuncio_testkit::message::End;
use nuncio_testkit::origin::{Origin, Reply, Script};
use nuncio_testkit::process::{Proxy, Signal};

use crate::support::*;

mod supervised;

/// Base ids of the tests of this process differ from one another, and most likely from all others on this machine.
fn base_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + (std::process::id() % 100_000) * 100 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A configuration of which one process after the other is started.
struct Epochs {
    setup: Setup,
    base_id: u32,
    next: u32,
    flags: Vec<String>,
}

impl Epochs {
    fn new(config: &str, flags: &[&str]) -> Epochs {
        let setup = Setup::new(config);
        let flags = flags.iter().map(|flag| setup.fill(flag)).collect();
        Epochs { setup, base_id: base_id(), next: 0, flags }
    }

    /// Starts the next epoch, with further flags.
    fn spawn(&mut self, flags: &[&str]) -> Proxy {
        let directory = self.setup.path(&format!("epoch-{}", self.next));
        std::fs::create_dir_all(&directory).unwrap();
        let (config, base, epoch) = (self.setup.config(), self.base_id.to_string(), self.next.to_string());
        let mut args = vec!["-c", config.to_str().unwrap(), "--base-id", &base, "--restart-epoch", &epoch];
        args.extend(self.flags.iter().map(String::as_str));
        args.extend(flags);
        self.next += 1;
        program().spawn(&args, &directory).unwrap()
    }

    /// Starts the next epoch and waits until it serves.
    fn start(&mut self, flags: &[&str]) -> Proxy {
        let mut proxy = self.spawn(flags);
        if let Err(error) = proxy.await_ready() {
            panic!("{error}\n--- output:\n{}", proxy.output());
        }
        proxy
    }

    fn address(&self) -> SocketAddr {
        self.setup.address("front")
    }
}

/// A listener that answers by itself.
fn direct() -> String {
    Http {
        routes: "[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hi}}}]",
        ..Http::default()
    }
    .text()
}

fn stat(proxy: &Proxy, name: &str) -> u64 {
    let listed = proxy.admin_text(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).unwrap();
    nuncio_testkit::stats::parse(&listed).get(name).copied().unwrap_or(0)
}

fn await_stat(proxy: &Proxy, name: &str, wanted: u64) {
    assert!(
        proxy.await_that(|proxy| stat(proxy, name) == wanted),
        "{name} is {}, not {wanted}\n--- output:\n{}",
        stat(proxy, name),
        proxy.output()
    );
}

fn await_end(proxy: &mut Proxy) {
    let status = proxy.await_exit().unwrap().unwrap_or_else(|| panic!("it does not end:\n{}", proxy.output()));
    assert_eq!(status.code(), Some(0), "{}", proxy.output());
}

/// What a load sends its requests to.
#[derive(Clone)]
enum Target {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    fn connect(&self) -> std::io::Result<Client> {
        match self {
            Target::Ip(address) => Client::connect(*address),
            Target::Unix(path) => Client::connect_unix(path),
        }
    }
}

/// Sends requests over HTTP/2 until told to stop, over a new connection whenever the present one takes no more: what was lost.
fn http2_load(address: SocketAddr, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
    let request = H2Request {
        method: "GET".into(),
        path: "/".into(),
        authority: "test".into(),
        scheme: "http".into(),
        ..H2Request::default()
    };
    let mut lost = Vec::new();
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) {
        let client = match kept.take().map_or_else(|| H2Client::connect(address), Ok) {
            Ok(client) => client,
            Err(error) => {
                lost.push(format!("HTTP/2: connecting: {error}"));
                continue;
            }
        };
        let response = client.request(&request);
        if answer(&response) == (200, "hi".to_owned()) {
            answered.fetch_add(1, Ordering::Relaxed);
            kept = Some(client);
        } else if response.body.end != End::Closed {
            // Closed: it was told to send no more, and has not.
            lost.push(format!("HTTP/2: {response:?}"));
        }
    }
    lost
}

/// Clients that send request after request: one over kept connections, one over a new connection each time, and one over
/// HTTP/2.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(target: &Target) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::from([true, false].map(|keep| {
            let (target, stop, answered) = (target.clone(), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut lost = Vec::new();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut client = match kept.take().map_or_else(|| target.connect(), Ok) {
                        Ok(client) => client,
                        Err(error) => {
                            lost.push(format!("connecting: {error}"));
                            continue;
                        }
                    };
                    let response = get(&mut client, "/");
                    if answer(&response) != (200, "hi".to_owned()) {
                        lost.push(format!("keep: {keep}: {response:?}"));
                        continue;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    if keep && header(&response, "connection") != Some("close") {
                        kept = Some(client);
                    }
                }
                lost
            })
        }));
        if let Target::Ip(address) = *target {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            threads.push(std::thread::spawn(move || http2_load(address, &stop, &answered)));
        }
        Load { stop, answered, threads }
    }

    /// Waits until there were that many more answers.
    fn await_more(&self, proxy: &Proxy, count: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        assert!(proxy.await_that(|_| self.answered.load(Ordering::Relaxed) >= wanted), "no answers come");
    }

    /// Ends the load, which must have lost nothing: how many requests were answered.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let lost: Vec<String> = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
        self.answered.load(Ordering::Relaxed)
    }
}

/// Ten restarts in a row, with changing numbers of workers.
fn ten_restarts(config: &str, flags: &[&str], target: impl Fn(&Epochs, &Proxy) -> Target) {
    let mut epochs = Epochs::new(config, flags);
    let mut current = epochs.start(&["--concurrency", "2"]);
    let load = Load::start(&target(&epochs, &current));
    let mut old = Vec::new();
    for workers in ["2", "1", "3", "3", "2", "1", "1", "2", "3", "1"] {
        load.await_more(&current, 50);
        let next = epochs.start(&["--concurrency", workers]);
        old.push(std::mem::replace(&mut current, next));
    }
    load.await_more(&current, 50);
    let sent = load.finish();
    for proxy in &mut old {
        await_end(proxy);
    }
    // Each was counted once, whichever process answered it.
    await_stat(&current, "server.parent_connections", 0);
    await_stat(&current, "http.front.downstream_rq_total", sent);
    await_stat(&current, "http.front.downstream_cx_active", 0);
    assert_eq!((stat(&current, "server.hot_restart_epoch"), stat(&current, "server.hot_restart_generation")), (10, 11));
}

#[test]
fn ten_restarts_lose_nothing() {
    ten_restarts(&direct(), &[], |epochs, _| Target::Ip(epochs.address()));
}

#[test]
fn ten_restarts_with_an_immediate_drain_lose_nothing() {
    ten_restarts(&direct(), &["--drain-strategy", "immediate"], |epochs, _| Target::Ip(epochs.address()));
}

#[test]
fn ten_restarts_with_one_shared_socket_lose_nothing() {
    let config = Http {
        routes: "[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hi}}}]",
        listener: &["enable_reuse_port: false"],
        ..Http::default()
    };
    let config = config.text().replace("port_value: $front", "port_value: 0");
    ten_restarts(&config, &["--drain-time-s", "2"], |_, first| Target::Ip(first.listener("front").unwrap()));
}

#[test]
fn ten_restarts_on_a_unix_socket_lose_nothing() {
    let config = direct().replace(
        "{socket_address: {address: '127.0.0.1', port_value: $front}}",
        "{pipe: {path: $dir/front.sock, mode: 384}}",
    );
    let flags = ["--socket-path", "$dir/hot", "--socket-mode", "600"];
    ten_restarts(&config, &flags, |epochs, _| Target::Unix(epochs.setup.path("front.sock")));
}

#[test]
fn a_child_that_fails_leaves_the_parent_serving() {
    let mut epochs = Epochs::new(&direct(), &[]);
    let mut parent = epochs.start(&[]);
    let load = Load::start(&Target::Ip(epochs.address()));
    let good = std::fs::read_to_string(epochs.setup.config()).unwrap();
    // One that does not get as far as the parent; one that finds another listener's port in use when it has everything.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listener = format!(
        "  listeners:\n  - {{name: other, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, \
         filter_chains: [{{filters: [{}]}}]}}\n",
        Http { routes: "[]", ..Http::default() }.connection_manager()
    );
    for bad in ["nonsense: true".to_owned(), good.replace("  listeners:\n", &listener)] {
        std::fs::write(epochs.setup.config(), bad).unwrap();
        let mut child = epochs.spawn(&[]);
        let status = child.await_exit().unwrap().expect("it does not end");
        assert_ne!(status.code(), Some(0), "{}", child.output());
        epochs.next -= 1;
        load.await_more(&parent, 20);
    }
    assert!(parent.output().contains("did not come to serve"), "{}", parent.output());
    // Its admin interface is back.
    assert_eq!(answer(&parent.admin("GET", "/ready").unwrap()), (200, "LIVE\n".into()));
    // The next one may come.
    std::fs::write(epochs.setup.config(), good).unwrap();
    let child = epochs.start(&[]);
    load.await_more(&child, 20);
    load.finish();
    await_end(&mut parent);
}

#[test]
fn a_request_under_way_is_finished_by_the_parent() {
    let gates = Gates::default();
    let held = Reply { path: Some("/held".into()), hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text();
    let mut epochs = Epochs::new(&config, &["--drain-strategy", "immediate"]);
    let mut parent = epochs.start(&[]);
    let mut waiting = Client::connect(epochs.address()).unwrap();
    waiting.send(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(1, PATIENCE));
    let child = epochs.start(&[]);
    // Gauges are those of both processes.
    await_stat(&child, "server.parent_connections", 1);
    await_stat(&child, "http.front.downstream_rq_active", 1);
    await_stat(&child, "cluster.a.upstream_rq_active", 1);
    let mut client = Client::connect(epochs.address()).unwrap();
    assert_eq!(get(&mut client, "/").status(), 200);
    await_stat(&child, "http.front.downstream_rq_total", 2);
    gates.open("go");
    let response = waiting.response(false);
    assert_eq!((response.status(), header(&response, "connection")), (200, Some("close")));
    assert_eq!(waiting.rest().end, End::Complete);
    await_end(&mut parent);
    await_stat(&child, "cluster.a.upstream_rq_active", 0);
    await_stat(&child, "http.front.downstream_cx_active", 1);
    await_stat(&child, "cluster.a.upstream_rq_200", 2);
    drop(client);
}

#[test]
fn the_parent_shutdown_time_is_the_limit() {
    let gates = Gates::default();
    let held = Reply { path: Some("/held".into()), hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text();
    let mut epochs = Epochs::new(&config, &[]);
    let mut parent = epochs.start(&[]);
    let mut waiting = Client::connect(epochs.address()).unwrap();
    waiting.send(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(1, PATIENCE));
    // The child's time counts, not the parent's.
    let child = epochs.start(&["--parent-shutdown-time-s", "1"]);
    await_end(&mut parent);
    assert_eq!(waiting.response(false).status(), 0);
    await_stat(&child, "http.front.downstream_rq_total", 1);
    await_stat(&child, "http.front.downstream_cx_active", 0);
}

#[test]
fn a_killed_parent_takes_only_its_own_connections_along() {
    let mut epochs = Epochs::new(&direct(), &[]);
    let mut parent = epochs.start(&[]);
    let mut kept = Client::connect(epochs.address()).unwrap();
    assert_eq!(get(&mut kept, "/").status(), 200);
    let child = epochs.start(&[]);
    await_stat(&child, "server.parent_connections", 1);
    parent.signal(Signal::Kill).unwrap();
    assert!(parent.await_exit().unwrap().is_some());
    await_stat(&child, "server.parent_connections", 0);
    await_stat(&child, "http.front.downstream_cx_active", 0);
    let load = Load::start(&Target::Ip(epochs.address()));
    load.await_more(&child, 50);
    load.finish();
    drop(child);
    // Nobody is left to take over from.
    let mut orphan = epochs.spawn(&[]);
    assert_eq!(orphan.await_exit().unwrap().expect("it does not end").code(), Some(1));
    assert!(orphan.output().contains("--skip-hot-restart-on-no-parent"), "{}", orphan.output());
    epochs.next -= 1;
    let alone = epochs.start(&["--skip-hot-restart-on-no-parent"]);
    assert_eq!(stat(&alone, "server.hot_restart_epoch"), 2);
    TcpStream::connect(epochs.address()).unwrap();
}

#[test]
fn ports_that_the_kernel_chose_stay() {
    let config = direct().replace("port_value: $front", "port_value: 0");
    let mut epochs = Epochs::new(&config, &[]);
    let parent = epochs.start(&[]);
    let (front, admin) = (parent.listener("front").unwrap(), parent.admin_address());
    let child = epochs.start(&[]);
    assert_eq!((child.listener("front").unwrap(), child.admin_address()), (front, admin));
}

#[test]
fn statistics_can_be_left_behind() {
    let mut epochs = Epochs::new(&direct(), &[]);
    let mut parent = epochs.start(&[]);
    let mut client = Client::connect(epochs.address()).unwrap();
    assert_eq!(get(&mut client, "/").status(), 200);
    drop(client);
    let child = epochs.start(&["--skip-hot-restart-parent-stats"]);
    await_end(&mut parent);
    assert_eq!(stat(&child, "http.front.downstream_rq_total"), 0);
    assert_eq!(stat(&child, "server.hot_restart_generation"), 2);
}

#[test]
fn base_ids_are_taken_once_and_found() {
    let mut epochs = Epochs::new(&direct(), &[]);
    let _first = epochs.start(&[]);
    epochs.next = 0;
    let mut second = epochs.spawn(&[]);
    assert_eq!(second.await_exit().unwrap().expect("it does not end").code(), Some(1));
    assert!(second.output().contains("(see --base-id option)"), "{}", second.output());
    let other = Setup::new(&direct());
    let flags = ["--use-dynamic-base-id", "--base-id-path", "$dir/base-id"];
    let args: Vec<String> = flags.iter().map(|flag| other.fill(flag)).collect();
    let config = other.config();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["-c", config.to_str().unwrap()]);
    let mut proxy = program().spawn(&args, other.dir.path()).unwrap();
    proxy.await_ready().unwrap();
    let found: u32 = std::fs::read_to_string(other.path("base-id")).unwrap().parse().unwrap();
    assert!(proxy.admin_text("/server_info").unwrap().contains(&format!("\"base_id\": \"{found}\"")));
    let (code, output) = run_to_end(&["--use-dynamic-base-id", "--restart-epoch", "1", "-c", config.to_str().unwrap()]);
    assert!(code == 1 && output.contains("cannot use --restart-epoch=1 with --use-dynamic-base-id"), "{output}");
}

#[test]
fn who_speaks_another_language_is_refused() {
    let mut epochs = Epochs::new(&direct(), &["--socket-path", "$dir/hot"]);
    let parent = epochs.start(&[]);
    let path = epochs.setup.path(&format!("hot_nuncio_{}_0", epochs.base_id));
    assert!(UnixStream::connect(&path).is_err(), "a stream is no sequence of packets");
    let socket = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket
    };
    let answer_to = |message: &[u8]| {
        let socket = socket();
        socket.send(message).unwrap();
        let mut answer = Vec::with_capacity(1024);
        std::io::Read::read_to_end(&mut &socket, &mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let hello = |version: u8, epoch: u8| [1, version, 0, 0, 0, epoch, 0, 0, 0, 1];
    assert!(answer_to(&hello(77, 1)).contains("it speaks version 77 of the hot restart protocol, this one 1"));
    assert!(answer_to(&hello(1, 2)).contains("its epoch is 2, this one's 0"));
    assert!(answer_to(b"\xff\xff\xff\xffnonsense").contains("the hello is missing"));
    assert!(answer_to(&vec![1; 100_000]).contains("the hello is missing"));
    // One that says hello and then nonsense, with the admin interface taken.
    let liar = socket();
    liar.send(&hello(1, 1)).unwrap();
    liar.send(&[2]).unwrap();
    liar.send(&[99]).unwrap();
    assert!(parent.await_that(|proxy| proxy.output().contains("a malformed message came")), "{}", parent.output());
    assert_eq!(answer(&parent.admin("GET", "/ready").unwrap()), (200, "LIVE\n".into()));
    // Silent ones don't keep the right one out.
    let _silent = [socket(), socket(), socket()];
    epochs.start(&[]);
}
