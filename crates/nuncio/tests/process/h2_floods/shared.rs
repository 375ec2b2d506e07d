//! Clients that share an upstream connection, or have had many streams on their own: what one of them does, however often
//! and however rightly, is nobody else's loss.

use nuncio_testkit::h2_raw::RawServer;

use super::upstreams::{Attacked, answer_frame};
use super::*;

/// Answers every request with a head and some data, and goes on only where asked for `/victim`: its stream is the first.
fn endless() -> RawServer {
    let first = [settings(&[(3, 10_000)]), window_update(0, 1 << 28)].concat();
    let server = RawServer::start(first, |came| match came.kind {
        kind::HEADERS => [answer_frame(came.stream, false), frame(kind::DATA, 0, came.stream, &[b'x'; 500])].concat(),
        _ => Vec::new(),
    });
    server.unwrap()
}

/// Clients that cancel downloads whose answers have begun: 2000 of them on the upstream connection of another's download.
#[test]
fn cancelled_downloads_do_not_end_that_of_another() {
    let attacked = Attacked::new(endless());
    let victim = RawH2::connect(attacked.target.running.setup.address("front")).unwrap();
    victim.get(1, "/victim", &[]).unwrap();
    assert!(victim.await_that(|account| account.data == 500), "{:?}", victim.account());
    let upstream = attacked.server.accept().unwrap();
    for round in 0..20 {
        let client = RawH2::connect(attacked.target.running.setup.address("front")).unwrap();
        for stream in streams(100) {
            client.get(stream, "/cancelled", &[]).unwrap();
        }
        assert!(client.await_that(|account| account.data == 50_000), "{round}: {:?}", client.account());
        let cancelled: Vec<u8> = streams(100).flat_map(|stream| reset(stream, code::CANCEL)).collect();
        client.send(&cancelled).unwrap();
        let wanted = (round + 1) * 100;
        let came = upstream.await_that(|account| account.closed || account.frames[3] >= wanted);
        assert!(came && !upstream.account().closed, "{round}: {:?}", upstream.account());
        // What was on its way when the stream was cancelled, and what an upstream sends that is slow to hear of it.
        let opened = 1 + 2 * (100 * u32::try_from(round).unwrap() + 1);
        let late: Vec<u8> =
            streams(100).flat_map(|stream| frame(kind::DATA, 0, opened + stream - 1, &[b'l'; 100])).collect();
        upstream.send(&late).unwrap();
    }
    // The download goes on.
    for piece in 1..50 {
        upstream.send(&frame(kind::DATA, 0, 1, &[b'v'; 1000])).unwrap();
        let came = victim.await_that(|account| account.data == 500 + piece * 1000);
        assert!(came, "{piece}: {:?}, {:?}", victim.account(), upstream.account());
    }
    upstream.send(&frame(kind::DATA, flag::END_STREAM, 1, b"")).unwrap();
    assert!(victim.await_that(|account| account.ended == 1), "{:?}", victim.account());
    attacked.target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    attacked.holds(8 * MIB);
}

/// Downloads that upstreams reset, more than a connection's limits of cancelled streams allow.
#[test]
fn downloads_that_the_upstream_ends_do_not_end_that_of_another() {
    let attacked = Attacked::new(endless());
    let victim = RawH2::connect(attacked.target.running.setup.address("front")).unwrap();
    victim.get(1, "/victim", &[]).unwrap();
    let upstream = attacked.server.accept().unwrap();
    assert!(victim.await_that(|account| account.data == 500), "{:?}", victim.account());
    for round in 0..20_u32 {
        let client = RawH2::connect(attacked.target.running.setup.address("front")).unwrap();
        for stream in streams(100) {
            client.get(stream, "/reset", &[]).unwrap();
        }
        assert!(client.await_that(|account| account.data == 50_000), "{round}: {:?}", client.account());
        let first = 3 + 200 * round;
        upstream
            .send(&streams(100).flat_map(|stream| reset(first + stream - 1, code::INTERNAL_ERROR)).collect::<Vec<_>>())
            .unwrap();
        let ended = client.await_that(|account| account.closed || account.frames[3] == 100);
        assert!(ended && !client.account().closed, "{round}: {:?}", client.account());
    }
    upstream.send(&frame(kind::DATA, flag::END_STREAM, 1, b"the end")).unwrap();
    assert!(victim.await_that(|account| account.ended == 1), "{:?}", victim.account());
}

/// Uploads that are answered before they end, whose rest arrives all the same: nothing that a client may not do.
#[test]
fn uploads_that_were_answered_early_do_not_end_the_connection() {
    let target = Target::new(vec![]);
    let client = target.connect();
    for round in 0..40_u32 {
        let numbers: Vec<u32> = streams(80).map(|stream| round * 160 + stream).collect();
        let heads = numbers.iter().flat_map(|stream| {
            let block = hpack::request("POST", "/direct", &[]);
            frame(kind::HEADERS, flag::END_HEADERS, *stream, &block)
        });
        client.send(&heads.collect::<Vec<u8>>()).unwrap();
        let wanted = u64::from((round + 1) * 80);
        let answered = client.await_that(|account| account.closed || account.ended >= wanted);
        assert!(answered && !client.account().closed, "{round}: {:?}", client.account());
        let rest = numbers.iter().flat_map(|stream| frame(kind::DATA, flag::END_STREAM, *stream, &[b'x'; 100]));
        client.send(&[rest.collect::<Vec<u8>>(), frame(kind::PING, 0, 0, b"complete")].concat()).unwrap();
        let came = client.await_that(|account| account.closed || account.frames[6] > u64::from(round));
        assert!(came && account_is_fine(&client), "{round}: {:?}", client.account());
    }
    client.get(100_001, "/direct", &[]).unwrap();
    assert!(client.await_that(|account| account.ended == 3201), "{:?}", client.account());
    target.holds(8 * MIB);
}

fn account_is_fine(client: &RawH2) -> bool {
    let account = client.account();
    !account.closed && account.goaway.is_none()
}
