//! Moves bytes between real sockets on the loopback interface.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;

const COPY: SpliceSettings = SpliceSettings { pipe_bytes: 0, ..SpliceSettings::DEFAULT };
const PIPE: SpliceSettings = SpliceSettings { splice_after: 0, ..SpliceSettings::DEFAULT };
const WAYS: [SpliceSettings; 3] = [COPY, PIPE, SpliceSettings::DEFAULT];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Two connected ends: (the peer's, the proxy's).
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn run<A: SpliceSocket, B: SpliceSocket>(splice: &mut Splice, a: &A, b: &B) -> Result<Closed, SpliceError> {
    poll_fn(|cx| splice.poll(cx, a, b, Instant::now())).await
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(i >> 9).wrapping_add(seed)) as u8).collect()
}

async fn send_all<S: tokio::io::AsyncWrite + Unpin>(to: &mut S, bytes: &[u8]) {
    to.write_all(bytes).await.unwrap();
    to.shutdown().await.unwrap();
}

async fn read_all<S: tokio::io::AsyncRead + Unpin>(from: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    all
}

#[test]
fn bulk_both_ways() {
    for settings in WAYS {
        block_on(async {
            let ((client, a), (server, b)) = (tcp().await, tcp().await);
            let (up, down) = (pattern(5_000_001, 1), pattern(9_000_017, 2));
            let mut splice = Splice::with_settings(settings, Instant::now());
            let (mut client_read, mut client_write) = client.into_split();
            let (mut server_read, mut server_write) = server.into_split();
            let (closed, (), (), got_up, got_down) = tokio::join!(
                run(&mut splice, &a, &b),
                send_all(&mut client_write, &up),
                send_all(&mut server_write, &down),
                read_all(&mut server_read),
                read_all(&mut client_read),
            );
            assert_eq!(closed.unwrap(), Closed);
            assert!(got_up == up && got_down == down);
            let len = |bytes: &[u8]| Progress { received: bytes.len() as u64, sent: bytes.len() as u64 };
            assert_eq!((splice.a_to_b(), splice.b_to_a()), (len(&up), len(&down)));
        });
    }
}

#[test]
fn unix_sockets() {
    for settings in WAYS {
        block_on(async {
            let ((client, a), (mut server, b)) = (tcp().await, UnixStream::pair().unwrap());
            let down = pattern(3_000_000, 3);
            let mut splice = Splice::with_settings(settings, Instant::now());
            let (mut client_read, mut client_write) = client.into_split();
            let (closed, (), got) = tokio::join!(
                run(&mut splice, &a, &b),
                async {
                    send_all(&mut client_write, b"hello").await;
                    assert_eq!(read_all(&mut client_read).await, down);
                },
                async {
                    let got = read_all(&mut server).await;
                    send_all(&mut server, &down).await;
                    got
                },
            );
            closed.unwrap();
            assert_eq!(got, b"hello");
        });
    }
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    for settings in WAYS {
        block_on(async {
            let ((mut client, a), (mut server, b)) = (tcp().await, tcp().await);
            let mut splice = Splice::with_settings(settings, Instant::now());
            let script = async {
                send_all(&mut client, b"question").await;
                assert_eq!(read_all(&mut server).await, b"question");
                // The server knows that the client is done; only then does it answer.
                send_all(&mut server, b"answer").await;
                assert_eq!(read_all(&mut client).await, b"answer");
            };
            let (closed, ()) = tokio::join!(run(&mut splice, &a, &b), script);
            closed.unwrap();
            assert!(splice.ended(Side::A) && splice.ended(Side::B));
        });
    }
}

#[test]
fn idle_connection_holds_no_pipe() {
    block_on(async {
        let ((mut client, a), (mut server, b)) = (tcp().await, tcp().await);
        let mut splice = Splice::with_settings(PIPE, Instant::now());
        let script = async {
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
        };
        tokio::select! {
            biased;
            _ = run(&mut splice, &a, &b) => unreachable!("nobody closed"),
            () = script => {}
        }
        assert_eq!((splice.pipes(), splice.buffered()), (0, 0));
        assert_eq!(splice.a_to_b(), Progress { received: 4, sent: 4 });
        assert!(!splice.ended(Side::A));
    });
    assert!(size_of::<Splice>() <= 320, "{}", size_of::<Splice>());
}

#[test]
fn slow_reader_bounds_what_waits() {
    for settings in WAYS {
        block_on(async {
            let settings = SpliceSettings { buffer_limit: 100_000, ..settings };
            let ((mut client, a), (mut server, b)) = (tcp().await, tcp().await);
            let down = pattern(20_000_000, 4);
            let mut splice = Splice::with_settings(settings, Instant::now());
            let (blocked, mut most) = (tokio::sync::Notify::new(), 0);
            let moving = poll_fn(|cx| {
                let polled = splice.poll(cx, &a, &b, Instant::now());
                most = most.max(splice.buffered());
                if splice.buffered() > 0 && splice.b_to_a().received > 1_000_000 {
                    blocked.notify_one();
                }
                polled
            });
            let (closed, (), got) = tokio::join!(moving, send_all(&mut server, &down), async {
                client.shutdown().await.unwrap();
                blocked.notified().await;
                read_all(&mut client).await
            });
            closed.unwrap();
            assert!(got == down);
            assert!((1..=100_000).contains(&most), "{most}");
        });
    }
}

#[test]
fn preloaded_bytes_go_first() {
    block_on(async {
        let ((mut client, a), (mut server, b)) = (tcp().await, tcp().await);
        let mut splice = Splice::with_settings(PIPE, Instant::now());
        splice.preload_a_to_b(b"peeked, ".to_vec());
        splice.preload_b_to_a(Vec::new());
        let script = async {
            send_all(&mut client, b"then read").await;
            send_all(&mut server, b"").await;
            read_all(&mut server).await
        };
        let (closed, got) = tokio::join!(run(&mut splice, &a, &b), script);
        closed.unwrap();
        assert_eq!(got, b"peeked, then read");
        assert_eq!(splice.a_to_b(), Progress { received: 17, sent: 17 });
    });
}

#[test]
fn reset_is_told_with_its_side() {
    for (settings, side) in WAYS.iter().flat_map(|&s| [(s, Side::A), (s, Side::B)]) {
        block_on(async {
            let ((mut client, a), (mut server, b)) = (tcp().await, tcp().await);
            let mut splice = Splice::with_settings(settings, Instant::now());
            let (resets, stays) = if side == Side::A { (&mut client, &mut server) } else { (&mut server, &mut client) };
            resets.write_all(b"last words").await.unwrap();
            let script = async {
                stays.read_exact(&mut [0; 10]).await.unwrap();
                // Linger 0: close sends RST. The descriptor is shared with nobody.
                SockRef::from(&*resets).set_linger(Some(Duration::ZERO)).unwrap();
                let dead = std::mem::replace(resets, tcp().await.0);
                drop(dead);
            };
            let (closed, ()) = tokio::join!(run(&mut splice, &a, &b), script);
            let error = closed.unwrap_err();
            let what = (error.side, error.operation, error.source.kind());
            assert_eq!(what, (side, Operation::Read, ErrorKind::ConnectionReset));
            assert!(error.to_string().starts_with("cannot receive from side"), "{error}");
        });
    }
}

#[test]
fn answer_is_delivered_though_nobody_takes_the_question() {
    for settings in WAYS {
        block_on(async {
            let ((mut client, a), (server, b)) = (tcp().await, tcp().await);
            let mut splice = Splice::with_settings(settings, Instant::now());
            let script = async {
                // The server answers, and closes with bytes unread, so the kernel resets.
                client.write_all(b"first").await.unwrap();
                let mut server = server;
                server.readable().await.unwrap();
                server.write_all(b"refused").await.unwrap();
                let mut answer = [0; 7];
                client.read_exact(&mut answer).await.unwrap();
                drop(server);
                answer
            };
            let (closed, answer) = tokio::join!(run(&mut splice, &a, &b), script);
            assert_eq!(&answer, b"refused");
            assert_eq!(closed.unwrap_err().side, Side::B);
        });
    }
}

#[test]
fn activity_is_noted_only_when_bytes_move() {
    block_on(async {
        let ((mut client, a), (_server, b)) = (tcp().await, tcp().await);
        let start = Instant::now();
        let mut splice = Splice::new(start);
        let mut at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(splice.poll(&mut cx, &a, &b, now).is_pending());
            splice.last_activity()
        };
        assert_eq!(at(5), start);
        client.write_all(b"x").await.unwrap();
        a.readable().await.unwrap();
        assert_eq!(at(7), start + Duration::from_secs(7));
        assert_eq!(at(9), start + Duration::from_secs(7));
    });
}
