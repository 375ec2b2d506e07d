//! No file descriptors left: existing connections go on, and counters tell.

use std::net::TcpStream;

use nuncio_testkit::client::Client;
use nuncio_testkit::message::text;
use nuncio_testkit::stats;

use crate::support::*;

#[test]
fn existing_connections_go_on() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let mut client = running.client();
    assert_eq!(get(&mut client, "/").status(), 200);
    // The admin connection is open before nothing can be opened any more.
    let mut admin = Client::connect(running.proxy.admin_address().unwrap()).unwrap();
    let mut all = || -> stats::Values {
        let response = get(&mut admin, "/stats?type=Counters");
        assert_eq!(response.status(), 200);
        stats::parse(&text(&response.body.data))
    };
    let before = all();
    let name = format!("listener.127.0.0.1_{}.downstream_cx_overload_reject", running.setup.port("front"));
    running.proxy.exhaust_files().unwrap();
    // The kernel completes these connections; nobody accepts them.
    let address = running.setup.address("front");
    let waiting: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut after = before.clone();
    let counted = running.proxy.await_that(|_| {
        assert_eq!(get(&mut client, "/").status(), 200);
        after = all();
        after[&name] > before[&name]
    });
    let moved = stats::moved(&before, &after);
    assert!(counted, "no counter tells of it; what moved: {moved:#?}\n{}", running.proxy.output());
    for _ in 0..50 {
        assert_eq!(get(&mut client, "/").status(), 200);
    }
    // It does not spin: whoever waits is tried again at intervals.
    let (one, two) = (all(), all());
    assert!(two[&name] - one[&name] < 1000, "it tries without a pause");
    drop(waiting);
    // With descriptors again, it accepts again.
    running.proxy.limit_files(1024).unwrap();
    running.await_answer("/", (200, "ok"));
}

/// No descriptor for a connection to the origin: 503 for that request alone.
#[test]
fn an_upstream_connection_that_cant_be_opened() {
    let origin = origin(vec![]);
    let routes = "[{match: {path: /here}, direct_response: {status: 200}}, {match: {prefix: /}, route: {cluster: a}}]";
    let config = Http { routes, clusters: vec![cluster("a", &[origin.address()])], ..Http::default() };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    assert_eq!(get(&mut client, "/here").status(), 200);
    running.proxy.exhaust_files().unwrap();
    let response = get(&mut client, "/");
    assert_eq!(response.status(), 503, "{:?}", answer(&response));
    running.proxy.limit_files(1024).unwrap();
    assert_eq!(get(&mut client, "/").status(), 200);
}

/// Started with few: it says so, or works with what there is.
#[test]
fn a_low_limit_at_start() {
    let origin = origin(vec![]);
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text();
    let setup = Setup::new(&config);
    let path = setup.config().to_string_lossy().into_owned();
    let args = ["-c", &path, "--concurrency", "1", "--disable-hot-restart"];
    let mut proxy = limited(64 << 20, 64).spawn(&args, setup.dir.path()).unwrap();
    proxy.await_ready().unwrap();
    let running = Running { proxy, setup };
    let mut kept = running.client();
    assert_eq!(get(&mut kept, "/").status(), 200);
    let mut crowd: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(running.setup.address("front")).unwrap()).collect();
    for _ in 0..100 {
        assert_eq!(get(&mut kept, "/").status(), 200);
    }
    crowd.clear();
    running.await_answer("/", (200, "ok"));
}
