//! What the filter contract must carry, proved with a sketch of ext_proc: a long-lived exchange per stream that sees and
//! changes both directions, out of step with the messages.

// Helpers of tests, which the lint does not see as tests.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "support/processor.rs"]
mod processor;
#[allow(dead_code)]
mod support;

use bytes::Bytes;
use nuncio_cluster::config::{ClusterConfig, HttpProtocolOptions};
use nuncio_filter::{
    Body, Chunk, Completed, DataStep, End, FilterSlot, HttpFilter, HttpFilterFactory, Step, Stream, Work, Worker,
};
use nuncio_stats::Store;
use processor::{Answer, Event, Exchange, Whole, slot};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{cluster, config, exchange, read_response, run, start, to_cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(30);
/// More than the buffers of all sockets and of the proxy together.
const HELD_BY_SOCKETS: usize = 32 << 20;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

/// Answers with the request's chunks as they come, or `hello`; `x-saw` tells what `x-added` was.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::task::spawn_local(echo_on(socket));
        }
    });
    address
}

async fn echo_on(mut socket: TcpStream) -> Option<()> {
    loop {
        let mut seen = Vec::new();
        let head = loop {
            match seen.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(end) => break seen.drain(..end + 4).collect::<Vec<u8>>(),
                None => read_more(&mut socket, &mut seen).await?,
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let saw = head.lines().find_map(|line| line.strip_prefix("x-added: ")).unwrap_or("nothing");
        if !head.contains("transfer-encoding: chunked") {
            let response = format!("HTTP/1.1 200 OK\r\nx-saw: {saw}\r\ncontent-length: 5\r\n\r\nhello");
            socket.write_all(response.as_bytes()).await.ok()?;
            continue;
        }
        let response = format!("HTTP/1.1 200 OK\r\nx-saw: {saw}\r\ntransfer-encoding: chunked\r\n\r\n");
        socket.write_all(response.as_bytes()).await.ok()?;
        let mut all = std::mem::take(&mut seen);
        socket.write_all(&all).await.ok()?;
        while !over(&all) {
            let before = all.len();
            read_more(&mut socket, &mut all).await?;
            socket.write_all(&all[before..]).await.ok()?;
        }
    }
}

/// Whether a chunked body is complete, with its trailers.
fn over(body: &[u8]) -> bool {
    body.ends_with(b"\r\n\r\n") && (body.starts_with(b"0\r\n") || body.windows(5).any(|w| w == b"\r\n0\r\n"))
}

async fn read_more(socket: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    match socket.read_buf(into).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

async fn proxy(filters: Vec<FilterSlot>) -> SocketAddr {
    nuncio_stats::set_worker(1);
    let store = Arc::new(Store::new(1));
    let upstream = echo().await;
    let mut hcm = config(&store, vec![to_cluster("a")]);
    hcm.filters = Arc::from(filters);
    // The tests' tasks keep what they need; the manager of clusters lives as long as the process.
    let mut to = ClusterConfig::clone(&cluster("a", &[upstream]));
    let mut protocol = HttpProtocolOptions::clone(&to.http);
    protocol.http1.enable_trailers = true;
    to.http = Arc::new(protocol);
    let proxy = start(store, hcm, vec![Arc::new(to)]).await;
    let address = proxy.address;
    std::mem::forget(proxy);
    address
}

async fn client(filters: Vec<FilterSlot>) -> TcpStream {
    TcpStream::connect(proxy(filters).await).await.unwrap()
}

/// The bytes of a chunked body.
fn dechunk(response: &str) -> String {
    let mut rest = response.split_once("\r\n\r\n").unwrap().1;
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn upper(bytes: &Bytes) -> Bytes {
    bytes.to_ascii_uppercase().into()
}

/// Answers each event at once: names headers, changes the case of bodies.
async fn in_step(mut exchange: Exchange) {
    while let Some(event) = exchange.events.recv().await {
        let (body, answer) = match event {
            Event::Headers(body, ..) => (body, Answer::Headers(vec![("x-added", format!("{body:?}"))])),
            Event::Data(body, bytes, end) => (body, Answer::Data(upper(&bytes), end)),
            Event::Trailers(body) => (body, Answer::Trailers),
        };
        exchange.answer(body, answer).await;
    }
}

#[test]
fn headers_are_changed_both_ways() {
    run(async {
        let mut client = client(vec![slot(LONG, in_step)]).await;
        for _ in 0..2 {
            let response = exchange(&mut client, GET).await;
            assert!(response.contains("\r\nx-saw: request\r\n"), "{response}");
            assert!(response.contains("\r\nx-added: Response\r\n"), "{response}");
            assert_eq!(dechunk(&response), "HELLO", "{response}");
        }
    });
}

#[test]
fn chunks_are_replaced_in_full_duplex() {
    run(async {
        let mut client = client(vec![slot(LONG, in_step)]).await;
        client.write_all(CHUNKED).await.unwrap();
        let mut seen = Vec::new();
        // Each chunk comes back before the next is sent.
        for text in ["one", "two", "three"] {
            client.write_all(&chunk(text)).await.unwrap();
            let wanted = chunk(&text.to_ascii_uppercase());
            while !seen.ends_with(&wanted) {
                read_more(&mut client, &mut seen).await.unwrap();
            }
        }
        client.write_all(b"0\r\n\r\n").await.unwrap();
        while !over(&seen) {
            read_more(&mut client, &mut seen).await.unwrap();
        }
        assert_eq!(dechunk(&String::from_utf8(seen).unwrap()), "ONETWOTHREE");
    });
}

#[test]
fn trailers_follow_what_the_processor_sends() {
    run(async {
        let mut client = client(vec![slot(LONG, in_step)]).await;
        let mut request = CHUNKED.to_vec();
        request.extend(chunk("body"));
        request.extend_from_slice(b"0\r\nx-last: word\r\n\r\n");
        client.write_all(&request).await.unwrap();
        let mut seen = Vec::new();
        while !over(&seen) {
            read_more(&mut client, &mut seen).await.unwrap();
        }
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.ends_with("4\r\nBODY\r\n0\r\nx-last: word\r\n\r\n"), "{seen}");
    });
}

/// Answers nothing of a body until it has seen it all, then in pieces of its own.
async fn out_of_step(mut exchange: Exchange) {
    let mut kept = Vec::new();
    while let Some(event) = exchange.events.recv().await {
        match event {
            Event::Headers(body, ..) => exchange.answer(body, Answer::Headers(Vec::new())).await,
            Event::Data(body, bytes, end) => {
                kept.extend_from_slice(&bytes);
                if end == End::Last {
                    let all = std::mem::take(&mut kept);
                    for piece in all.chunks(3) {
                        exchange.answer(body, Answer::Data(Bytes::copy_from_slice(piece), End::More)).await;
                    }
                    exchange.answer(body, Answer::Data(Bytes::from_static(b"."), End::Last)).await;
                }
            }
            Event::Trailers(body) => exchange.answer(body, Answer::Trailers).await,
        }
    }
}

#[test]
fn answers_may_come_later_and_in_other_pieces() {
    run(async {
        let mut client = client(vec![slot(LONG, out_of_step), slot(LONG, in_step)]).await;
        let mut request = CHUNKED.to_vec();
        for _ in 0..20 {
            request.extend(chunk("abcdefgh"));
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let response = exchange(&mut client, &request).await;
        assert_eq!(dechunk(&response), format!("{}..", "ABCDEFGH".repeat(20)));
    });
}

/// Answers the client at an event of choice.
fn replying(at: &'static str) -> FilterSlot {
    slot(LONG, move |mut exchange: Exchange| async move {
        while let Some(event) = exchange.events.recv().await {
            let (name, body, answer) = match event {
                Event::Headers(body, ..) => ("headers", body, Answer::Headers(Vec::new())),
                Event::Data(body, bytes, end) => ("data", body, Answer::Data(bytes, end)),
                Event::Trailers(body) => ("trailers", body, Answer::Trailers),
            };
            let reply = at == format!("{body:?} {name}");
            exchange.answer(body, if reply { Answer::Reply(418, "no more") } else { answer }).await;
        }
    })
}

#[test]
fn the_client_may_be_answered_at_any_time() {
    run(async {
        for at in ["Request headers", "Request data", "Response headers"] {
            let mut client = client(vec![replying(at)]).await;
            let mut request = CHUNKED.to_vec();
            request.extend(chunk("body"));
            client.write_all(&request).await.unwrap();
            // The rest of the request never comes.
            let response = read_response(&mut client).await;
            if at == "Request data" && response.starts_with("HTTP/1.1 200 ") {
                continue; // The origin was faster.
            }
            assert!(response.starts_with("HTTP/1.1 418 "), "{at}: {response}");
            assert!(response.ends_with("\r\n\r\nno more"), "{at}: {response}");
        }
        // What has begun can't be replaced, only cut off.
        let mut client = client(vec![replying("Response data")]).await;
        let response = exchange(&mut client, GET).await;
        assert!(response.starts_with("HTTP/1.1 200 ") && !response.ends_with("0\r\n\r\n"), "{response}");
    });
}

/// How far a processor came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Begun,
    Silent,
    Ended,
}

/// Does not answer an event of choice.
fn silent(limit: Duration, at: &'static str, progress: Arc<watch::Sender<Progress>>) -> FilterSlot {
    slot(limit, move |mut exchange: Exchange| {
        let progress = Arc::clone(&progress);
        async move {
            while let Some(event) = exchange.events.recv().await {
                let (name, body, answer) = match event {
                    Event::Headers(body, ..) => ("headers", body, Answer::Headers(Vec::new())),
                    Event::Data(body, bytes, end) => ("data", body, Answer::Data(bytes, end)),
                    Event::Trailers(body) => ("trailers", body, Answer::Trailers),
                };
                match at == format!("{body:?} {name}") {
                    true => drop(progress.send_replace(Progress::Silent)),
                    false => exchange.answer(body, answer).await,
                }
            }
            progress.send_replace(Progress::Ended);
        }
    })
}

/// Waits until a processor came so far; a test that waits for ever is a failure.
async fn until<T: Copy + PartialOrd>(progress: &watch::Sender<T>, wanted: T) {
    let mut seen = progress.subscribe();
    let reached = seen.wait_for(|now| *now >= wanted);
    assert!(tokio::time::timeout(LONG, reached).await.is_ok_and(|it| it.is_ok()), "it did not come to that");
}

#[test]
fn a_late_processor_ends_in_a_reply() {
    run(async {
        for at in ["Request headers", "Request data", "Response headers"] {
            let progress = Arc::new(watch::Sender::new(Progress::Begun));
            let limit = Duration::from_millis(50);
            // Behind it a filter that keeps the origin from answering before the request is complete.
            let filters = vec![silent(limit, at, Arc::clone(&progress)), whole()];
            let mut client = client(filters).await;
            let mut request = CHUNKED.to_vec();
            request.extend(chunk("body"));
            request.extend_from_slice(b"0\r\n\r\n");
            let response = exchange(&mut client, &request).await;
            assert!(response.starts_with("HTTP/1.1 504 "), "{at}: {response}");
            assert!(response.ends_with("processor timeout"), "{at}: {response}");
            until(&progress, Progress::Ended).await;
        }
    });
}

#[test]
fn the_exchange_ends_when_the_client_leaves() {
    run(async {
        for at in ["Request headers", "Request data", "Response headers", "Response data"] {
            for request in [GET, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"] {
                let progress = Arc::new(watch::Sender::new(Progress::Begun));
                let mut client = client(vec![silent(LONG, at, Arc::clone(&progress))]).await;
                client.write_all(request).await.unwrap();
                // A request without a body comes to its response without that event.
                tokio::select! {
                    () = until(&progress, Progress::Silent) => {}
                    readable = client.readable() => readable.unwrap(),
                }
                drop(client);
                until(&progress, Progress::Ended).await;
            }
        }
    });
}

#[test]
fn a_processor_that_sends_without_end_is_slowed_down() {
    run(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let endless = slot(LONG, move |mut exchange: Exchange| {
            let count = Arc::clone(&count);
            async move {
                while let Some(event) = exchange.events.recv().await {
                    match event {
                        Event::Headers(body, ..) => exchange.answer(body, Answer::Headers(Vec::new())).await,
                        Event::Data(Body::Response, ..) => {
                            while !exchange.response.is_closed() {
                                let bytes = Bytes::from(vec![b'x'; 65536]);
                                exchange.answer(Body::Response, Answer::Data(bytes, End::More)).await;
                                count.fetch_add(65536, Ordering::Relaxed);
                            }
                        }
                        _ => {}
                    }
                }
            }
        });
        let mut client = client(vec![endless]).await;
        client.write_all(GET).await.unwrap();
        let mut seen = vec![0; 1 << 20];
        for read in 0..64 {
            client.read_exact(&mut seen).await.unwrap();
            // The processor is ahead of the client by what the sockets hold, however much the client has read.
            let ahead = sent.load(Ordering::Relaxed).saturating_sub(read << 20);
            assert!(ahead < HELD_BY_SOCKETS, "the proxy took {ahead} bytes that nobody read");
        }
    });
}

#[test]
fn a_slow_processor_slows_the_client_down() {
    run(async {
        let taken = Arc::new(watch::Sender::new(0));
        let count = Arc::clone(&taken);
        let going = Arc::new(watch::Sender::new(false));
        let gate = Arc::clone(&going);
        let stuck = slot(LONG, move |mut exchange: Exchange| {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            async move {
                let first = exchange.events.recv().await;
                assert!(matches!(first, Some(Event::Headers(..))));
                exchange.answer(Body::Request, Answer::Headers(Vec::new())).await;
                until(&gate, true).await;
                while let Some(event) = exchange.events.recv().await {
                    if let Event::Data(_, bytes, _) = event {
                        count.send_modify(|taken| *taken += bytes.len());
                    }
                }
            }
        });
        let mut client = client(vec![stuck]).await;
        client.write_all(CHUNKED).await.unwrap();
        // Bytes of one endless chunk, until the proxy has had every chance to take more and took nothing.
        client.write_all(b"40000000\r\n").await.unwrap();
        let (text, mut given, mut refused) = ([b'y'; 65536], 0, 0);
        while refused < 2000 {
            match client.try_write(&text) {
                Ok(count) => (given, refused) = (given + count, 0),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    refused += 1;
                    tokio::task::yield_now().await;
                }
            }
            assert!(given < HELD_BY_SOCKETS, "the proxy took {given} bytes that nobody asked for");
        }
        going.send_replace(true);
        until(&taken, 1).await;
    });
}

/// Buffers the request whole, then lets it go.
fn whole() -> FilterSlot {
    made("whole", || Box::new(Whole))
}

/// Waits a moment over every piece of the request, then lets it go.
fn dawdling() -> FilterSlot {
    struct Dawdling;
    impl HttpFilter for Dawdling {
        fn request_headers(&mut self, _: &mut Stream<'_>, _: End) -> Step {
            Step::Await(Work::sleep(Duration::from_millis(1)))
        }
        fn request_data(&mut self, _: &mut Stream<'_>, _: &mut Chunk, _: End) -> DataStep {
            DataStep::Await(Work::sleep(Duration::from_millis(1)))
        }
        fn request_trailers(&mut self, _: &mut Stream<'_>) -> Step {
            Step::Await(Work::sleep(Duration::from_millis(1)))
        }
        fn resume(&mut self, _: &mut Stream<'_>, _: Completed) -> Step {
            Step::Next
        }
    }
    made("dawdling", || Box::new(Dawdling))
}

/// Puts bytes before the body.
fn prefixing() -> FilterSlot {
    struct Prefixing;
    impl HttpFilter for Prefixing {
        fn request_headers(&mut self, stream: &mut Stream<'_>, _: End) -> Step {
            stream.add_request_body(Bytes::from_static(b"<"));
            Step::Next
        }
    }
    made("prefixing", || Box::new(Prefixing))
}

fn made(name: &str, make: fn() -> Box<dyn HttpFilter>) -> FilterSlot {
    struct Made(fn() -> Box<dyn HttpFilter>);
    impl HttpFilterFactory for Made {
        fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
            (self.0)()
        }
    }
    FilterSlot { name: name.into(), factory: Arc::new(Made(make)), disabled: false }
}

#[test]
fn filters_of_every_kind_stand_behind_each_other() {
    run(async {
        type Make = fn() -> FilterSlot;
        let kinds: [Make; 5] = [whole, dawdling, prefixing, || slot(LONG, in_step), || slot(LONG, out_of_step)];
        let client_sends = |trailers: bool| {
            let mut request = CHUNKED.to_vec();
            for text in ["one", "two", "three", "four", "five", "six", "seven"] {
                request.extend(chunk(text));
            }
            let end: &[u8] = if trailers { b"0\r\nx-last: word\r\n\r\n" } else { b"0\r\n\r\n" };
            request.extend_from_slice(end);
            request
        };
        for a in 0..kinds.len() {
            for b in 0..kinds.len() {
                for c in 0..kinds.len() {
                    // The processor that waits for the end of a body does not see it in trailers.
                    let trailers = a != 4 && b != 4 && c != 4;
                    let mut client = client(vec![kinds[a](), kinds[b](), kinds[c]()]).await;
                    client.write_all(&client_sends(trailers)).await.unwrap();
                    let mut seen = Vec::new();
                    let read = async {
                        while !over(&seen) {
                            read_more(&mut client, &mut seen).await.unwrap();
                        }
                    };
                    let in_time = tokio::time::timeout(Duration::from_secs(5), read).await;
                    let seen = String::from_utf8_lossy(&seen).into_owned();
                    assert!(in_time.is_ok(), "{a} {b} {c}: {seen}");
                    let count = |kind: usize| [a, b, c].iter().filter(|one| **one == kind).count();
                    let body = dechunk(&seen).to_ascii_lowercase();
                    // A processor that answers out of step ends each body with a dot, on the way there and back.
                    let wanted =
                        format!("{}onetwothreefourfivesixseven{}", "<".repeat(count(2)), ".".repeat(2 * count(4)));
                    assert_eq!(body.replace('<', ""), wanted.replace('<', ""), "{a} {b} {c}");
                    assert_eq!(body.matches('<').count(), count(2), "{a} {b} {c}");
                    assert_eq!(seen.ends_with("x-last: word\r\n\r\n"), trailers, "{a} {b} {c}: {seen}");
                }
            }
        }
    });
}
