//! What waits for its reader, and what a peer may send for nothing.

use super::*;
use crate::h2::credit::Credit;
use crate::h2::meter::Flood;
use crate::h2::stream::Receive;

#[test]
fn pieces_come_out_as_they_went_in() {
    let random = super::conversation::Random::new(7);
    for _ in 0..200 {
        let mut receive = Receive::default();
        let (mut pushed, mut popped) = (Vec::new(), Vec::new());
        for _ in 0..random.below(60) {
            let next = |length: usize| (0..length).map(|_| random.below(256) as u8).collect::<Vec<_>>();
            match random.below(5) {
                0 => {
                    let large = next(8192 + random.below(100));
                    pushed.extend_from_slice(&large);
                    receive.push(large.into());
                }
                1 => {
                    if let Some(piece) = receive.pop() {
                        assert!(!piece.is_empty());
                        popped.extend_from_slice(&piece);
                    }
                }
                _ => {
                    let small = next(1 + random.below(3000));
                    pushed.extend_from_slice(&small);
                    receive.gather(&small);
                }
            }
            assert_eq!(receive.held(), pushed.len() - popped.len());
        }
        if random.below(4) == 0 {
            assert_eq!(receive.discard(), pushed.len() - popped.len());
            assert!(receive.pop().is_none() && receive.held() == 0);
            continue;
        }
        while let Some(piece) = receive.pop() {
            popped.extend_from_slice(&piece);
        }
        assert!(popped == pushed && receive.held() == 0);
    }
}

/// Small pieces are gathered: what holds them is not larger by far than what they are.
#[test]
fn small_pieces_become_large_ones() {
    let mut receive = Receive::default();
    for _ in 0..100_000 {
        receive.gather(b"x");
    }
    let mut pieces = 0;
    while receive.pop().is_some() {
        pieces += 1;
    }
    assert!(pieces < 20, "{pieces}");
}

#[test]
fn what_costs_and_carries_nothing_is_bounded() {
    let options = Http2Options { max_consecutive_empty_frames: 2, ..Http2Options::default() };
    let head = |flags| FrameHead { length: 0, kind: kind::DATA, flags, stream: 1 };
    let mut credit = Credit::new(&options);
    for _ in 0..10 {
        assert!(credit.message_frame(head(0), 0).is_ok());
        assert!(credit.message_frame(head(0), 0).is_ok());
        assert!(credit.message_frame(head(0), 1).is_ok(), "data");
        assert!(credit.message_frame(head(0), 0).is_ok());
        assert!(credit.message_frame(head(END_STREAM), 0).is_ok(), "an end");
    }
    assert!(credit.message_frame(head(0), 0).is_ok() && credit.message_frame(head(0), 0).is_ok());
    assert_eq!(credit.message_frame(head(0), 0), Err(Flood::EmptyFrames));
    for (kind, begins, stream, sent) in [(kind::PRIORITY, 100, 100, 0), (kind::WINDOW_UPDATE, 5, 2, 20)] {
        let spend = |credit: &mut Credit| (0..10_000_000).take_while(|_| credit.other_frame(kind).is_ok()).count();
        let mut credit = Credit::new(&options);
        assert_eq!(spend(&mut credit), begins);
        credit.stream_opened();
        assert_eq!(spend(&mut credit), stream);
        credit.data_sent();
        assert_eq!(spend(&mut credit), sent);
        // Credit is not kept for ever.
        (0..1_000_000).for_each(|_| credit.stream_opened());
        (0..1_000_000).for_each(|_| credit.data_sent());
        assert!(spend(&mut credit) <= 110_000);
    }
    let mut credit = Credit::new(&options);
    assert_eq!((0..5000).take_while(|_| credit.useless_frame().is_ok()).count(), 1000);
    let faults = (0..5000).take_while(|_| credit.fault()).count();
    assert!((512..1000).contains(&faults), "{faults}");
}

/// A client that does not read its answers, and one that resets what it opened.
#[test]
fn answers_that_nobody_reads_end_the_connection() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    server.peer.give_room(0);
    for _ in 0..1100 {
        server.peer.send(&frame(kind::PING, 0, 0, &[0; 8]));
    }
    assert!(matches!(server.fails().0, ConnectionError::Flood(Flood::Control)));
    let mut server = Server::new(&Http2Options { max_concurrent_streams: 10, ..Http2Options::default() }, &[]);
    for id in 0..5000 {
        server.peer.send_head(1 + 2 * id, 0, POST);
        let (_, _, stream) = server.accept();
        server.peer.send(&word(kind::RST_STREAM, 1 + 2 * id, 8));
        server.idle();
        drop(stream);
        server.idle();
    }
    assert_eq!(server.connection.meter().take_resets(), (5000, 0));
    let pings = server.connection.pings();
    let core = pings.0.borrow();
    assert!(core.streams.is_empty() && core.ids.is_empty() && core.accepted.is_empty() && !core.has_waiting());
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut server = Server::new(&Http2Options { max_concurrent_streams: 2, ..Http2Options::default() }, &[]);
    let first = server.request(1, END_STREAM, GET);
    let second = server.request(3, END_STREAM, GET);
    server.peer.send_head(5, 0, POST);
    server.peer.send(&data(5, END_STREAM, 100));
    assert_eq!(server.heard(), ["RST_STREAM 5 7"]);
    drop(first);
    assert_eq!(server.heard(), ["RST_STREAM 1 8"]);
    let third = server.request(7, END_STREAM, GET);
    server.peer.send_head(5, END_STREAM, GET);
    assert_eq!(server.heard(), [""; 0], "of a stream that was reset");
    server.peer.send_head(6 + 1, END_STREAM, GET);
    assert_eq!(server.heard(), ["RST_STREAM 7 5"], "it has ended");
    drop((second, third));
}
