//! What the filter contract costs: requests through the whole driver, over loopback, with one filter or none.
//!
//! `cargo run --profile bench-fast -p nuncio-hcm --example filters [CASE [REQUESTS]]` prints CPU time per request for each
//! case as the median of alternating rounds. With a case, only that one runs, once: for `perf stat -e instructions:u` and
//! `valgrind --tool=callgrind`. Client and origin run in the same thread and are part of every number: what counts is the
//! difference from the case without a filter (`none`; `none-body` for cases with a body).

#![allow(clippy::unwrap_used)]

#[path = "../tests/support/processor.rs"]
mod processor;
#[allow(dead_code)]
#[path = "../tests/support/mod.rs"]
mod support;

use nuncio_filter::{Completed, End, FilterSlot, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Work, Worker};
use nuncio_headers::HeaderName;
use nuncio_stats::Store;
use processor::{Answer, Event, Exchange, Whole, slot};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::{cluster, config, run, start, to_cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 9;
const CASES: [&str; 8] = ["none", "interest", "headers", "await", "exchange", "none-body", "buffer", "exchange-body"];
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Sets five headers.
struct Headers(Rc<[HeaderName]>);

impl HttpFilter for Headers {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _: End) -> Step {
        for name in self.0.iter() {
            stream.request.set(name, b"a value of some length");
        }
        Step::Next
    }
}

/// Does nothing, in all hooks.
struct Nothing;

impl HttpFilter for Nothing {}

/// Waits for what is there already.
struct Ready;

impl HttpFilter for Ready {
    fn request_headers(&mut self, _: &mut Stream<'_>, _: End) -> Step {
        Step::Await(Work::new(std::future::ready(())))
    }

    fn resume(&mut self, _: &mut Stream<'_>, _: Completed) -> Step {
        Step::Next
    }
}

type Make = fn(&Rc<Worker>) -> Box<dyn HttpFilter>;

struct Made(Make, Interest);

impl HttpFilterFactory for Made {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        (self.0)(worker)
    }

    fn interest(&self) -> Interest {
        self.1
    }
}

/// The names that a configured filter would have compiled.
fn names(worker: &Rc<Worker>) -> Rc<[HeaderName]> {
    struct Names(Rc<[HeaderName]>);
    let names = worker.services().get_or_insert_with(|| {
        Names((0..5).map(|number| HeaderName::new(&format!("x-added-{number}")).unwrap()).collect())
    });
    Rc::clone(&names.0)
}

async fn answer_all(mut exchange: Exchange) {
    while let Some(event) = exchange.events.recv().await {
        let (body, answer) = match event {
            Event::Headers(body, ..) => (body, Answer::Headers(Vec::new())),
            Event::Data(body, bytes, end) => (body, Answer::Data(bytes, end)),
            Event::Trailers(body) => (body, Answer::Trailers),
        };
        exchange.answer(body, answer).await;
    }
}

fn filters(case: &str) -> Vec<FilterSlot> {
    let made = |make: Make, interest| {
        vec![FilterSlot { name: "one".into(), factory: Arc::new(Made(make, interest)), disabled: false }]
    };
    let request = Interest::REQUEST_HEADERS;
    match case {
        "interest" => made(|_| Box::new(Nothing), Interest::ALL),
        "headers" => made(|worker| Box::new(Headers(names(worker))), request),
        "await" => made(|_| Box::new(Ready), request),
        "buffer" => made(|_| Box::new(Whole), request.and(Interest::REQUEST_BODY)),
        "exchange" | "exchange-body" => vec![slot(Duration::from_secs(10), answer_all)],
        _ => Vec::new(),
    }
}

fn request(case: &str) -> Vec<u8> {
    if matches!(case, "none-body" | "buffer" | "exchange-body") {
        let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1024\r\n\r\n".to_vec();
        request.resize(request.len() + 1024, b'x');
        return request;
    }
    b"GET / HTTP/1.1\r\nhost: a\r\nuser-agent: bench\r\naccept: */*\r\n\r\n".to_vec()
}

/// Answers whatever ends a request: a blank line for a GET, the 1024th `x` of a body.
async fn origin(with_body: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            tokio::task::spawn_local(async move {
                let mut buffer = vec![0; 16384];
                let mut filled = 0;
                while let Ok(count @ 1..) = socket.read(&mut buffer[filled..]).await {
                    filled += count;
                    let seen = &buffer[..filled];
                    let head = seen.windows(4).position(|w| w == b"\r\n\r\n");
                    let body = |end: usize| {
                        let body = &seen[end + 4..];
                        body.len() >= 1024 && (body.ends_with(b"x") || body.ends_with(b"\r\n0\r\n\r\n"))
                    };
                    if head.is_some_and(|end| !with_body || body(end)) {
                        filled = 0;
                        socket.write_all(RESPONSE).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

/// CPU time of this process, user and kernel, ns.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Nanoseconds of CPU per request.
fn measure(case: &str, requests: usize) -> f64 {
    let mut taken = 0.0;
    let request = request(case);
    let filters = filters(case);
    let with_body = request.starts_with(b"POST");
    run(async {
        let store = Arc::new(Store::new(1));
        let upstream = origin(with_body).await;
        let mut hcm = config(&store, vec![to_cluster("a")]);
        hcm.filters = Arc::from(filters);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 4096];
        let warm = requests / 10;
        let mut began = 0.0;
        for number in 0..warm + requests {
            if number == warm {
                began = cpu();
            }
            client.write_all(&request).await.unwrap();
            let mut filled = 0;
            while !buffer[..filled].ends_with(b"hello") && !buffer[..filled].ends_with(b"\r\n0\r\n\r\n") {
                filled += client.read(&mut buffer[filled..]).await.unwrap();
            }
        }
        taken = cpu() - began;
    });
    taken / requests as f64
}

fn main() {
    nuncio_stats::set_worker(1);
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next();
    let requests = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3000);
    if let Some(case) = case {
        println!("{case}: {:.0} ns", measure(&case, requests));
        return;
    }
    let mut rounds = vec![Vec::new(); CASES.len()];
    for _ in 0..ROUNDS {
        for (case, times) in CASES.iter().zip(&mut rounds) {
            times.push(measure(case, requests));
        }
    }
    for (case, times) in CASES.iter().zip(&mut rounds) {
        times.sort_by(f64::total_cmp);
        println!("{case:14} {:6.0} ns per request (lowest {:.0})", times[ROUNDS / 2], times[0]);
    }
}
