//! Floods whose frames look harmless one by one: on a connection that has carried many streams, and around resets.

use super::*;

/// envoy#45077: the same as with PRIORITY for every frame that costs work and carries nothing, after enough streams that
/// limits which grow with them would let all of it pass.
#[test]
fn envoy_45077_floods_after_many_streams() {
    let empty_data = [post_frame(1_000_001, &[]), frame(kind::DATA, 0, 1_000_001, &[]).repeat(100_000)].concat();
    for (what, flood) in [
        ("priority", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 15]).repeat(200_000)),
        ("window updates", window_update(0, 1).repeat(200_000)),
        ("empty data", empty_data),
    ] {
        let target = Target::new(vec![]);
        let client = target.connect();
        for round in 0..200_u32 {
            let bytes: Vec<u8> = streams(100).flat_map(|stream| get_frame(round * 200 + stream, "/direct")).collect();
            client.send(&[bytes, window_update(0, 400)].concat()).unwrap();
            let wanted = u64::from((round + 1) * 100);
            assert!(client.await_that(|account| account.ended >= wanted), "{what}: {:?}", client.account());
        }
        let _ = client.send(&flood);
        if !client.await_closed() {
            target.running.fail(&format!("{what}: the connection stays open: {:?}", client.account()));
        }
        target.holds(8 * MIB);
    }
}

/// envoy#45077: frames that must be answered, by a client that stopped reading after many streams.
#[test]
fn envoy_45077_answers_that_nobody_reads_after_many_streams() {
    for (what, piece) in [
        ("pings", frame(kind::PING, 0, 0, b"flooding").repeat(1000)),
        ("settings", settings(&[(INITIAL_WINDOW, 65_535)]).repeat(1000)),
    ] {
        let target = Target::new(vec![]);
        let client = target.deaf();
        for round in 0..50_u32 {
            let bytes: Vec<u8> = streams(100).flat_map(|stream| get_frame(round * 200 + stream, "/direct")).collect();
            if client.send(&bytes).is_err() {
                break;
            }
        }
        let sent = send_until_refused(&client, &piece, 256 * MIB);
        assert!(sent < 64 * MIB, "{what}: the proxy took {} KiB whose answers nobody reads", sent / 1024);
        target.holds(16 * MIB);
    }
}

/// RUSTSEC-2024-0332: CONTINUATION without end, after a head that is over the limit already.
#[test]
fn rustsec_2024_0332_continuation_of_a_head_that_is_too_large() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut large = hpack::request("GET", "/", &[]);
    while large.len() < 100_000 {
        hpack::literal(&mut large, b"x-filler", &[b'a'; 4000]);
    }
    let pieces: Vec<&[u8]> = large.chunks(16_000).collect();
    client.send(&frame(kind::HEADERS, flag::END_STREAM, 1, pieces[0])).unwrap();
    for piece in &pieces[1..] {
        let _ = client.send(&frame(kind::CONTINUATION, 0, 1, piece));
    }
    // Single bytes of a field's value.
    let mut field = vec![0, 1, b'x', 0x7f];
    field.extend([0xff, 0xff, 0xff, 0x7f]);
    let _ = client.send(&frame(kind::CONTINUATION, 0, 1, &field));
    let sent = send_until_refused(&client, &frame(kind::CONTINUATION, 0, 1, b"a").repeat(1000), 64 * MIB);
    assert!(sent < 16 * MIB, "the proxy took {} KiB of one header block", sent / 1024);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR, code::COMPRESSION_ERROR]);
    target.holds(8 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
}

/// CVE-2026-26311: frames for a stream that was reset by the frame before, all in one write.
#[test]
fn cve_2026_26311_data_behind_a_reset() {
    let target = Target::with(vec![], &["stream_idle_timeout: 60s"]);
    let client = target.connect();
    let mut all = Vec::new();
    for stream in streams(50) {
        all.extend(post_frame(stream, &[]));
        all.extend(frame(kind::DATA, 0, stream, b"before"));
        all.extend(reset(stream, code::CANCEL));
        all.extend(frame(kind::DATA, 0, stream, b"behind"));
        all.extend(frame(kind::DATA, flag::END_STREAM, stream, b"end"));
        all.extend(window_update(stream, 1));
    }
    all.extend(frame(kind::PING, 0, 0, b"complete"));
    let _ = client.send(&all);
    assert!(client.await_that(|account| account.closed || account.frames[6] > 0), "{:?}", client.account());
    target.running.await_stat("http.front.downstream_rq_active", |active| active == 0);
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    target.holds(8 * MIB);
    for seen in target.origin.seen() {
        assert_ne!(seen.body.end, nuncio_testkit::message::End::Complete, "a request that was reset came to its end");
    }
}
