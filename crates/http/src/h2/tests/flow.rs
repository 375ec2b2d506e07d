//! Windows: those that this side gives, those that it was given, and who sends next.

use super::*;

const SMALL: u32 = 65_535;

fn small_windows() -> Http2Options {
    Http2Options { stream_window: SMALL, connection_window: SMALL, ..Http2Options::default() }
}

#[test]
fn a_body_that_is_taken_is_told_of() {
    let mut server = Server::new(&small_windows(), &[]);
    let (task, mut stream) = (Task::default(), server.request(1, 0, POST));
    assert_eq!(task.read(&mut stream), "0 waits");
    server.peer.send(&[data(1, 0, 16_000), data(1, 0, 16_000)].concat());
    assert_eq!(server.heard(), [""; 0]);
    assert!(task.woken());
    assert_eq!(task.read(&mut stream), "32000 waits");
    assert_eq!(server.heard(), [""; 0], "less than half of the window");
    server.peer.send(&data(1, 0, 16_000));
    assert_eq!(server.heard(), ["WINDOW_UPDATE 0 32000"], "there is more of it than what is left");
    assert_eq!(task.read(&mut stream), "16000 waits");
    assert_eq!(server.heard(), ["WINDOW_UPDATE 1 48000"]);
    server.peer.send(&data(1, END_STREAM, 16_000));
    server.idle();
    assert_eq!(task.read(&mut stream), "16000 end");
    assert_eq!(server.windows(), (i64::from(SMALL) - 32_000, 32_000, i64::from(SMALL)));
    assert_eq!(server.heard(), [""; 0]);
}

/// The connection's window is whole again, whatever became of the stream whose data it carried.
#[test]
fn nothing_is_lost_of_the_window_of_a_connection() {
    let whole = |server: &Server| server.windows().0 + i64::from(server.windows().1);
    let padded = frame(kind::DATA, PADDED, 1, &[vec![9], vec![b'x'; 100], vec![0; 9]].concat());
    type Case = (&'static str, fn(&mut Server, ServerStream));
    let cases: [Case; 7] = [
        ("taken", |_, mut stream| {
            Task::default().read(&mut stream);
        }),
        ("never looked at", |_, stream| drop(stream)),
        ("looked at, and not taken", |_, mut stream| {
            let looked = stream.poll_body(&mut Context::from_waker(Waker::noop()), &mut HeaderMap::new());
            assert!(matches!(looked, Poll::Ready(Ok(BodyPart::Data { .. }))));
        }),
        ("reset by this side", |_, mut stream| stream.reset(crate::ResetReason::LocalReset)),
        ("reset by the client", |server, mut stream| {
            let _ = stream.poll_body(&mut Context::from_waker(Waker::noop()), &mut HeaderMap::new());
            server.peer.send(&word(kind::RST_STREAM, 1, 8));
            server.idle();
            server.peer.send(&data(1, 0, 0));
        }),
        ("answered before its end", |server, mut stream| {
            stream.send_head(&map(OK));
            stream.send_end(None);
            assert_eq!(Task::default().flush(&mut stream), Poll::Ready(true));
            drop(stream);
            server.peer.send(&data(1, END_STREAM, 5000));
        }),
        ("cut off with its end unread", |server, stream| {
            server.peer.send(&data(1, END_STREAM, 5000));
            server.idle();
            drop(stream);
        }),
    ];
    for (what, ends) in cases {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let start = whole(&server);
        let stream = server.request(1, 0, POST);
        server.peer.send(&[&padded[..], &data(1, 0, 9000), &padded, &data(1, 0, 70), &data(1, 0, 700)].concat());
        server.idle();
        ends(&mut server, stream);
        server.idle();
        assert_eq!(whole(&server), start, "{what}");
    }
}

/// Data of a frame whose stream ends while it is on its way, and of streams that are over.
#[test]
fn what_nobody_wants_is_given_back_too() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let start = server.windows().0;
    let stream = server.request(1, 0, POST);
    let (first, second) = (data(1, 0, 9000), data(1, END_STREAM, 3000));
    server.peer.send(&first[..5000]);
    server.idle();
    drop(stream);
    server.peer.send(&first[5000..]);
    server.peer.send(&second);
    assert_eq!(server.heard(), ["RST_STREAM 1 8"]);
    let (window, owed, _) = server.windows();
    assert_eq!((window + i64::from(owed), owed), (start, 12_000));
}

#[test]
fn padding_is_not_part_of_the_body_but_of_the_window() {
    let mut server = Server::new(&small_windows(), &[]);
    let mut stream = server.request(1, 0, POST);
    let payload = [vec![250], vec![b'x'; 3], vec![0; 250]].concat();
    for _ in 0..300 {
        server.peer.send(&frame(kind::DATA, PADDED, 1, &payload));
    }
    assert!(server.heard().contains(&"WINDOW_UPDATE 1 32881".into()), "for the padding alone");
    assert_eq!(Task::default().read(&mut stream), "900 waits");
    server.peer.send(&frame(kind::DATA, PADDED | END_STREAM, 1, &[2, 0, 0]));
    server.idle();
    assert_eq!(Task::default().read(&mut stream), "0 end");
}

#[test]
fn more_than_the_windows_is_refused() {
    let mut server = Server::new(&Http2Options { stream_window: SMALL, ..Http2Options::default() }, &[]);
    let mut stream = server.request(1, 0, POST);
    for _ in 0..4 {
        server.peer.send(&data(1, 0, 16_384));
    }
    assert_eq!(server.heard(), ["RST_STREAM 1 3"], "the stream's");
    assert_eq!(Task::default().read(&mut stream), "0 ProtocolError");
    let mut server = Server::new(&Http2Options { connection_window: SMALL, ..Http2Options::default() }, &[]);
    let _stream = server.request(1, 0, POST);
    for _ in 0..4 {
        server.peer.send(&data(1, 0, 16_384));
    }
    assert_eq!(server.fails().1, ["GOAWAY 1 3"], "the connection's");
}

/// A stream whose body nobody takes may hold most of the connection's window: what is left of it must still move.
#[test]
fn what_one_stream_holds_does_not_stop_the_others() {
    let mut server = Server::new(&Http2Options { stream_window: 70_000, connection_window: 100_000, ..small() }, &[]);
    let _stalled = server.request(1, 0, POST);
    let mut moving = server.request(3, 0, POST);
    for _ in 0..7 {
        server.peer.send(&data(1, 0, 10_000 - 1));
    }
    server.idle();
    let mut window = 100_000 - 7 * 9_999;
    let mut total = 0;
    for round in 0..100 {
        let length = window.min(5000);
        assert!(length > 0, "the client may not send any more in round {round}");
        server.peer.send(&data(3, 0, length as usize));
        window -= length;
        server.idle();
        total += Task::default().read(&mut moving).split(' ').next().unwrap().parse::<i32>().unwrap();
        for line in server.heard() {
            if let Some(more) = line.strip_prefix("WINDOW_UPDATE 0 ") {
                window += more.parse::<i32>().unwrap();
            }
        }
    }
    assert!(total > 100_000, "{total}");
}

fn small() -> Http2Options {
    Http2Options::default()
}

#[test]
fn a_body_waits_for_the_windows_of_its_peer() {
    let mut server = Server::new(&Http2Options::default(), &[(4, 10)]);
    let (task, mut stream) = (Task::default(), server.request(1, END_STREAM, GET));
    stream.send_head(&map(OK));
    stream.send_data(Bytes::from(vec![b'x'; 100]));
    stream.send_end(None);
    assert!(task.flush(&mut stream).is_pending());
    assert_eq!(server.heard(), ["HEADERS 1 :status=200", "DATA 1 10"]);
    server.peer.send(&word(kind::WINDOW_UPDATE, 1, 20));
    server.idle();
    assert!(task.woken());
    assert!(task.flush(&mut stream).is_pending());
    assert_eq!(server.heard(), ["DATA 1 20"]);
    // Less than nothing: what is given next only makes up for it.
    server.peer.send(&settings(&[(4, 0)]));
    server.peer.send(&word(kind::WINDOW_UPDATE, 1, 10));
    server.idle();
    assert!(!task.woken());
    assert!(task.flush(&mut stream).is_pending());
    assert_eq!(server.heard(), ["SETTINGS ack"]);
    server.peer.send(&settings(&[(4, 11)]));
    server.idle();
    assert!(task.woken());
    assert!(task.flush(&mut stream).is_pending());
    assert_eq!(server.heard(), ["SETTINGS ack", "DATA 1 11"]);
    server.peer.send(&settings(&[(4, 1000), (5, 16_384)]));
    server.idle();
    assert!(task.woken());
    assert_eq!(task.flush(&mut stream), Poll::Ready(true));
    assert_eq!(server.heard(), ["SETTINGS ack", "DATA 1 59 end"]);
}

#[test]
fn frames_are_as_large_as_the_peer_takes_and_no_larger_than_this_side_takes() {
    for (most, frames) in [(16_384, ["DATA 1 16384", "DATA 1 3616"]), (1 << 20, ["DATA 1 16384", "DATA 1 3616"])] {
        let mut server = Server::new(&Http2Options::default(), &[(5, most)]);
        let mut stream = server.request(1, END_STREAM, GET);
        stream.send_head(&map(OK));
        stream.send_data(Bytes::from(vec![b'x'; 20_000]));
        assert_eq!(Task::default().flush(&mut stream), Poll::Ready(true));
        assert_eq!(server.heard()[1..], frames);
    }
}

/// The window of the connection goes round.
#[test]
fn streams_share_a_small_window_of_the_connection() {
    let mut server = Server::new(&Http2Options::default(), &[(4, 1 << 20)]);
    let ids = [1, 3, 5, 7];
    let mut streams = ids.map(|id| (Task::default(), server.request(id, END_STREAM, GET)));
    for (task, stream) in &mut streams {
        stream.send_head(&map(OK));
        stream.send_data(Bytes::from(vec![b'x'; 600_000]));
        stream.send_end(None);
        let _ = task.flush(stream);
    }
    let mut left: i64 = 65_535;
    for round in 0..400 {
        server.heard();
        let sent: usize = server.peer.bodies.values().sum();
        if sent == 4 * 600_000 {
            assert!(round > 30);
            return;
        }
        assert!(sent as i64 <= left);
        if sent as i64 == left {
            server.peer.send(&word(kind::WINDOW_UPDATE, 0, 50_000));
            left += 50_000;
            server.idle();
        }
        let mut any = false;
        streams.sort_by_key(|(task, _)| task.0.0.load(std::sync::atomic::Ordering::Relaxed));
        for (task, stream) in &mut streams {
            if task.woken() {
                any = true;
                let _ = task.flush(stream);
            }
        }
        assert!(any, "nobody was woken in round {round}");
        if round == 30 {
            let (least, most) =
                (server.peer.bodies.values().min().unwrap(), server.peer.bodies.values().max().unwrap());
            assert!(server.peer.bodies.len() == 4 && most - least <= 2 * 65_536, "{:?}", server.peer.bodies);
        }
    }
    panic!("it takes for ever: {:?}", server.peer.bodies);
}

/// A peer that does not read: streams wait, and go on when it does, one after the other.
#[test]
fn streams_wait_for_a_peer_that_does_not_read() {
    let mut server = Server::new(&Http2Options::default(), &[(4, 1 << 20)]);
    server.peer.send(&word(kind::WINDOW_UPDATE, 0, 1 << 24));
    server.idle();
    server.peer.give_room(0);
    let mut streams = [1, 3, 5].map(|id| (Task::default(), server.request(id, END_STREAM, GET)));
    for (task, stream) in &mut streams {
        stream.send_head(&map(OK));
        stream.send_data(Bytes::from(vec![b'x'; 200_000]));
        stream.send_end(None);
        let _ = task.flush(stream);
    }
    server.idle();
    let held = |server: &Server| server.connection.pings().0.borrow().output.len();
    let waiting = held(&server);
    assert!((256 * 1024..300 * 1024).contains(&waiting), "{waiting}");
    for _ in 0..10_000 {
        server.peer.give_room(1000);
        server.heard();
        for (task, stream) in &mut streams {
            if task.woken() {
                let _ = task.flush(stream);
            }
        }
        server.idle();
        assert!(held(&server) < 300 * 1024);
        if server.peer.bodies.values().sum::<usize>() == 600_000 {
            assert_eq!(held(&server), 0);
            return;
        }
    }
    panic!("streams were forgotten: {:?}", server.peer.bodies);
}

/// Whoever leaves while it stands in line lets the next have its turn.
#[test]
fn a_stream_that_leaves_passes_its_turn() {
    for leaves in [drop as fn(ServerStream), |mut stream| stream.reset(crate::ResetReason::LocalReset)] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let mut streams = [1, 3, 5].map(|id| (Task::default(), server.request(id, END_STREAM, GET)));
        for (task, stream) in &mut streams {
            stream.send_head(&map(OK));
            stream.send_data(Bytes::from(vec![b'x'; 65_535]));
            let _ = task.flush(stream);
        }
        server.heard();
        let [_, (second, stream), (third, last)] = &mut streams;
        server.peer.send(&word(kind::WINDOW_UPDATE, 0, 1000));
        server.idle();
        assert!(second.woken(), "the first in line");
        let given = std::mem::replace(stream, server.request(7, END_STREAM, GET));
        leaves(given);
        server.idle();
        assert!(third.woken(), "the next");
        assert!(third.flush(last).is_pending());
        assert!(server.heard().contains(&"DATA 5 1000".into()));
    }
}

#[test]
fn windows_that_grow_too_large_are_faults() {
    let most = (1u32 << 31) - 1;
    for (bytes, heard) in [
        (word(kind::WINDOW_UPDATE, 0, most), "GOAWAY 1 3"),
        (word(kind::WINDOW_UPDATE, 0, 0), "GOAWAY 1 1"),
        (settings(&[(4, most + 1)]), "GOAWAY 1 3"),
        ([word(kind::WINDOW_UPDATE, 1, 1), settings(&[(4, most)])].concat(), "GOAWAY 1 3"),
    ] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let _stream = server.request(1, 0, POST);
        server.peer.send(&bytes);
        assert_eq!(server.fails().1.last().unwrap(), heard, "{bytes:?}");
    }
    for (more, heard) in [(most, "RST_STREAM 1 3"), (0, "RST_STREAM 1 1")] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let _stream = server.request(1, 0, POST);
        server.peer.send(&word(kind::WINDOW_UPDATE, 1, more));
        assert_eq!(server.heard(), [heard]);
    }
}

/// Each change of the initial window is work for all streams.
#[test]
fn windows_that_change_all_the_time_are_a_flood() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let _stream = server.request(1, 0, POST);
    let both: Vec<_> = (0..2000).map(|at| (4, 10 + at % 2)).collect();
    server.peer.send(&settings(&both));
    assert_eq!(server.heard(), ["SETTINGS ack"], "the last of one frame counts");
    for at in 0..3000 {
        server.peer.send(&settings(&[(4, at)]));
        server.peer.heard();
        match server.poll() {
            Poll::Pending => {}
            Poll::Ready(Some(Err(ConnectionError::Flood(_)))) => return,
            _ => panic!(),
        }
    }
    panic!("it is let be");
}

#[test]
fn answers_that_were_sent_do_not_count_while_a_body_keeps_the_connection_busy() {
    let mut server = Server::new(&Http2Options { max_outbound_control_frames: 20, ..small() }, &[(4, 1 << 30)]);
    server.peer.send(&word(kind::WINDOW_UPDATE, 0, 1 << 30));
    let (task, mut stream) = (Task::default(), server.request(1, END_STREAM, GET));
    stream.send_head(&map(OK));
    server.peer.give_room(0);
    for _ in 0..200 {
        stream.send_data(Bytes::from(vec![b'x'; 100_000]));
        let _ = task.flush(&mut stream);
        server.peer.send(&frame(kind::PING, 0, 0, &[7; 8]));
        server.peer.give_room(100_000);
        server.idle();
        server.peer.give_room(0);
        server.idle();
        assert!(!server.connection.pings().0.borrow().output.is_empty());
    }
    server.heard();
    for _ in 0..60 {
        server.peer.send(&frame(kind::PING, 0, 0, &[7; 8]));
    }
    assert!(matches!(server.fails().0, ConnectionError::Flood(_)), "those that were not sent do");
}
