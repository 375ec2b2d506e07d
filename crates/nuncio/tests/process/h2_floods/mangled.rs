//! Sessions that were right until somebody changed a few of their bytes or frames, from clients and from upstreams. Whatever
//! comes of one, the process lives, nothing panics, the connection ends, and others are served.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use nuncio_testkit::PATIENCE;
use nuncio_testkit::h2_raw::PREFACE;

use super::upstreams::{answer_frame, http2};
use super::*;

/// Sessions tried on each side.
const SESSIONS: u64 = 4000;

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

/// Changes frames: bytes of one, their order, their number, their end.
fn mangled(frames: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut frames = frames.to_vec();
    for _ in 0..=random.below(3) {
        let (one, other) = (random.below(frames.len()), random.below(frames.len()));
        match random.below(8) {
            0 => frames.swap(one, other),
            1 => frames.insert(one, frames[other].clone()),
            2 => drop(frames.remove(one)),
            3 => {
                let end = random.below(frames[one].len());
                frames[one].truncate(end);
            }
            _ => {
                // Mostly heads of frames, and the beginnings of blocks.
                let length = frames[one].len();
                let near = random.below(2) == 0;
                let at = random.below(if near { length.min(16) } else { length });
                if let Some(byte) = frames[one].get_mut(at) {
                    *byte = u8::try_from(random.below(256)).unwrap();
                }
            }
        }
        if frames.is_empty() {
            break;
        }
    }
    frames.concat()
}

/// What a client says that uses all there is.
fn session_of_a_client() -> Vec<Vec<u8>> {
    let mut first = hpack::request("GET", "/direct", &[]);
    hpack::indexing(&mut first, b"x-kept", b"value");
    let mut second = vec![0x3f, 0x01];
    second.extend(hpack::request("POST", "/", &[("content-length", "8")]));
    hpack::indexed(&mut second, 62);
    let (head, tail) = second.split_at(20);
    let end = flag::END_STREAM;
    vec![
        settings(&[(1, 4096), (3, 100), (INITIAL_WINDOW, 65_535), (5, 16_384)]),
        window_update(0, 1000),
        frame(kind::HEADERS, flag::END_HEADERS | end, 1, &first),
        frame(kind::HEADERS, 0, 3, head),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, tail),
        frame(kind::DATA, 0, 3, b"body"),
        frame(kind::DATA, flag::PADDED, 3, b"\x02body\0\0"),
        frame(kind::HEADERS, flag::END_HEADERS | end, 3, &hpack::block(&[("x-trailer", "1")])),
        frame(kind::PRIORITY, 0, 5, &[0, 0, 0, 1, 15]),
        frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY | flag::PADDED | end, 5, &{
            let mut padded = vec![3, 0, 0, 0, 3, 200];
            padded.extend(hpack::request("GET", "/direct", &[]));
            padded.extend([0; 3]);
            padded
        }),
        frame(kind::PING, 0, 0, b"12345678"),
        window_update(3, 10),
        frame(kind::HEADERS, flag::END_HEADERS, 7, &hpack::request("POST", "/", &[])),
        reset(7, code::CANCEL),
        frame(kind::GOAWAY, 0, 0, &[0; 8]),
    ]
}

#[test]
fn sessions_of_clients() {
    let target = Target::new(vec![]);
    let frames = session_of_a_client();
    for seed in 0..SESSIONS {
        let bytes = [PREFACE, &mangled(&frames, &mut Random(seed))].concat();
        let mut stream = TcpStream::connect(target.running.setup.address("front")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The proxy may close before it has all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut came = Vec::new();
        if let Err(error) = stream.read_to_end(&mut came)
            && matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        {
            target.running.fail(&format!("session {seed} does not end: {bytes:?}"));
        }
    }
    target.running.await_stat("http.front.downstream_rq_active", |active| active == 0);
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    target.holds(16 * MIB);
    assert!(!target.running.proxy.output().contains("panicked"), "{}", target.running.proxy.output());
}

/// What an upstream says that answers one request.
fn session_of_an_upstream() -> Vec<Vec<u8>> {
    let mut head = vec![0x88];
    hpack::indexing(&mut head, b"x-kept", b"value");
    hpack::literal(&mut head, b"content-length", b"8");
    let mut trailers = hpack::block(&[("x-trailer", "1")]);
    hpack::indexed(&mut trailers, 62);
    let interim = hpack::block(&[(":status", "103"), ("link", "</a>")]);
    vec![
        settings(&[(1, 4096), (3, 100), (INITIAL_WINDOW, 65_535), (5, 16_384)]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        window_update(0, 1000),
        frame(kind::HEADERS, flag::END_HEADERS, 1, &interim),
        frame(kind::HEADERS, 0, 1, &head[..5]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &head[5..]),
        frame(kind::DATA, 0, 1, b"body"),
        frame(kind::PING, 0, 0, b"12345678"),
        window_update(1, 10),
        frame(kind::DATA, flag::PADDED, 1, b"\x02body\0\0"),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailers),
        frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        answer_frame(3, true),
    ]
}

#[test]
fn sessions_of_upstreams() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let bad = cluster_with("a", &[address], &http2("", ""));
    let routes = "[{match: {path: /direct}, direct_response: {status: 200, body: {inline_string: fine}}}, \
                  {match: {prefix: /}, route: {cluster: a}}]";
    let running = Setup::new(&Http { routes, clusters: vec![bad], ..Http::default() }.text()).start();
    let mut target = Target { running, origin: origin(vec![]), before: 0 };
    target.serves_others();
    target.before = target.memory();
    let serving = std::thread::spawn(move || {
        let frames = session_of_an_upstream();
        for seed in 0.. {
            let Ok((mut stream, _)) = upstream.accept() else { return };
            let mut preface = [0; PREFACE.len()];
            let asked = stream.read_exact(&mut preface).is_ok();
            // A connection without a preface is the last.
            if !asked {
                return;
            }
            let _ = stream.write_all(&mangled(&frames, &mut Random(seed)));
            let _ = stream.shutdown(Shutdown::Write);
            // Until the proxy ends it, too.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let mut whole = 0;
    for seed in 0..SESSIONS {
        let mut client = target.running.client();
        let response = ask(&mut client, "GET / HTTP/1.1\r\nhost: h.test\r\nte: trailers\r\n\r\n");
        if response.body.end == nuncio_testkit::message::End::TimedOut {
            target.running.fail(&format!("request {seed} is not answered: {response:?}"));
        }
        whole += u32::from(response.status() == 200 && response.body.data == b"bodybody");
    }
    assert!(whole > 100, "only {whole} sessions were near enough to right");
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    target.holds(16 * MIB);
    assert!(!target.running.proxy.output().contains("panicked"), "{}", target.running.proxy.output());
    drop(target);
    drop(TcpStream::connect(address).unwrap());
    serving.join().unwrap();
}
