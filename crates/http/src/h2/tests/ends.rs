//! How connections begin and end.

use super::*;

#[test]
fn a_connection_begins_with_settings_of_both_sides() {
    let mut server = Server::fresh(&Http2Options::default());
    assert_eq!(server.heard(), ["SETTINGS", "WINDOW_UPDATE 0 8323073"]);
    for byte in [frame::PREFACE, &settings(&[])[..]].concat() {
        server.idle();
        server.peer.send(&[byte]);
    }
    assert_eq!(server.heard(), ["SETTINGS ack"]);
    let mut client = Client::fresh(&Http2Options { connection_window: 65_535, ..Http2Options::default() });
    client.idle();
    assert!(client.peer.socket.0.borrow().output.starts_with(frame::PREFACE));
    assert_eq!(client.peer.heard(), ["SETTINGS"]);
    // Requests need not wait for the server's.
    let _stream = client.request(GET, true);
    assert_eq!(client.heard().len(), 1);
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut server = Server::fresh(&Http2Options::default());
        server.peer.send(wrong);
        assert!(matches!(server.fails().0, ConnectionError::Protocol(_)));
    }
    for first in [frame(kind::PING, 0, 0, &[0; 8]), frame(kind::SETTINGS, flag::ACK, 0, &[]), data(1, 0, 0)] {
        let mut server = Server::fresh(&Http2Options::default());
        server.peer.send(&[frame::PREFACE, &first[..]].concat());
        assert_eq!(server.fails().1.last().unwrap(), "GOAWAY 0 1");
    }
}

/// RFC 9113 §6.8: first without a limit, then with the last stream that came meanwhile.
#[test]
fn a_drain_lets_requests_on_their_way_come() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let mut first = server.request(1, END_STREAM, GET);
    server.connection.drain();
    server.connection.drain();
    assert_eq!(server.heard(), ["GOAWAY 2147483647 0", "PING"]);
    let second = server.request(3, END_STREAM, GET);
    server.peer.send(&frame(kind::PING, flag::ACK, 0, b"drained?"));
    assert_eq!(server.heard(), ["GOAWAY 3 0"]);
    // What comes in spite of it is as if it had not been sent.
    let unserved = [data(5, 0, 10_000), word(kind::WINDOW_UPDATE, 5, 1), data(5, 0, 10_000)].concat();
    server.peer.send_head(5, 0, POST);
    server.peer.send(&unserved);
    server.peer.send_head(7, END_STREAM, GET);
    server.peer.send_head(5, END_STREAM, &[("trailer", "1")]);
    server.peer.send(&word(kind::RST_STREAM, 5, 8));
    assert_eq!(server.heard(), [""; 0]);
    let (window, owed, _) = server.windows();
    assert_eq!(window + i64::from(owed), 8 << 20);
    first.send_head(&map(OK));
    first.send_end(None);
    assert_eq!(Task::default().flush(&mut first), Poll::Ready(true));
    assert_eq!(server.heard(), ["HEADERS 1 end :status=200"]);
    drop(second);
    assert!(server.peer.woken.take());
    assert!(matches!(server.poll(), Poll::Ready(None)), "the last stream is over");
    assert_eq!(server.peer.heard(), ["RST_STREAM 3 8"]);
}

/// A client that does not answer is told all the same.
#[test]
fn a_drain_can_be_hurried() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let stream = server.request(1, END_STREAM, GET);
    server.connection.finish_drain();
    assert_eq!(server.heard(), [""; 0], "there is none");
    server.connection.drain();
    server.connection.finish_drain();
    server.connection.finish_drain();
    assert_eq!(server.heard(), ["GOAWAY 2147483647 0", "PING", "GOAWAY 1 0"]);
    server.peer.send(&frame(kind::PING, flag::ACK, 0, b"drained?"));
    server.peer.send_head(3, END_STREAM, GET);
    assert_eq!(server.heard(), [""; 0]);
    drop(stream);
    assert!(matches!(server.poll(), Poll::Ready(None)));
}

#[test]
fn an_end_at_once_takes_the_streams_with_it() {
    for (calm, heard) in [(false, "GOAWAY 1 0"), (true, "GOAWAY 1 11")] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let (task, mut stream) = (Task::default(), server.request(1, 0, POST));
        assert_eq!(task.read(&mut stream), "0 waits");
        server.connection.abort(calm);
        assert!(task.woken());
        assert_eq!(task.read(&mut stream), "0 LocalReset");
        assert!(server.peer.woken.take());
        assert!(matches!(server.poll(), Poll::Ready(None)));
        assert_eq!(server.peer.heard(), [heard]);
        stream.send_head(&map(OK));
        stream.send_end(None);
        assert_eq!(task.flush(&mut stream), Poll::Ready(false));
        drop(stream);
        assert!(server.connection.poll_linger(&mut Context::from_waker(Waker::noop())).is_pending());
        server.peer.send(&[0; 10_000]);
        server.peer.close();
        assert!(server.connection.poll_linger(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(server.peer.heard(), [""; 0]);
    }
}

#[test]
fn streams_end_with_their_transport() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let (task, mut stream) = (Task::default(), server.request(1, 0, POST));
    assert_eq!(task.read(&mut stream), "0 waits");
    server.peer.close();
    assert!(matches!(server.poll(), Poll::Ready(None)));
    assert!(task.woken() && server.connection.meter().is_ended());
    assert_eq!(task.read(&mut stream), "0 ConnectionTermination");
    let client = Client::new(&Http2Options::default(), &[]);
    let mut stream = client.opener.open();
    stream.send_head(&map(GET));
    drop(client.connection);
    stream.send_end(None);
    assert_eq!(task.flush(&mut stream), Poll::Ready(false));
    assert_eq!(head(&mut stream), "ConnectionTermination");
    let mut late = client.opener.open();
    late.send_head(&map(GET));
    assert_eq!(task.flush(&mut late), Poll::Ready(false));
}

#[test]
fn the_streams_above_that_of_a_goaway_were_not_processed() {
    let mut client = Client::new(&Http2Options::default(), &[]);
    let mut streams = [1, 3, 5].map(|_| client.request(GET, true));
    client.heard();
    client.peer.send(&frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]));
    client.idle();
    assert!(!client.opener.is_usable());
    assert_eq!(streams.each_mut().map(head), ["waits", "waits", "RemoteRefusedStreamReset"]);
    client.peer.send_head(1, END_STREAM, OK);
    client.peer.send_head(3, 0, OK);
    assert_eq!(client.head(&mut streams[0]), "200 None :status=200");
    client.peer.send(&data(3, END_STREAM, 1));
    assert_eq!(client.poll(), Poll::Ready(false), "with the last stream");
    assert!(client.peer.socket.0.borrow().shut);
    assert_eq!(head(&mut streams[1]), "200 UntilClose :status=200");
    assert_eq!(Task::default().read(&mut streams[1]), "1 end");
}

#[test]
fn a_client_that_is_done_says_so() {
    let mut client = Client::new(&Http2Options::default(), &[]);
    let stream = client.request(GET, true);
    client.heard();
    let Client { mut connection, opener, mut peer } = client;
    drop(opener);
    let woken = Arc::clone(&peer.woken);
    let waker = Arc::clone(&woken).into();
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
    drop(stream);
    assert!(woken.take());
    assert_eq!(Pin::new(&mut connection).poll(&mut cx), Poll::Ready(false));
    assert_eq!(peer.heard(), ["RST_STREAM 1 8", "GOAWAY 0 0"]);
    assert!(peer.socket.0.borrow().shut);
}

#[test]
fn pings_are_answered_and_told_of_once() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let pings = server.connection.pings();
    assert!(pings.send() && !pings.send());
    assert_eq!(server.heard(), ["PING"]);
    server.peer.send(&frame(kind::PING, flag::ACK, 0, b"another!"));
    server.idle();
    assert!(!pings.take_answer());
    server.peer.send(&frame(kind::PING, flag::ACK, 0, b"alive???"));
    server.idle();
    assert!(pings.take_answer() && !pings.take_answer() && pings.send());
    server.peer.send(&frame(kind::PING, 0, 0, &[1; 8]));
    assert_eq!(server.heard(), ["PING", "PING ack"]);
}

/// A client that sends one request after the other gets its answers all the same.
#[test]
fn requests_without_end_do_not_hold_up_responses() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    for at in 0..200 {
        server.peer.send_head(1 + 2 * at, END_STREAM, GET);
    }
    let mut unanswered = 0;
    for _ in 0..200 {
        let (_, _, mut stream) = server.accept();
        stream.send_head(&map(OK));
        stream.send_end(None);
        assert_eq!(Task::default().flush(&mut stream), Poll::Ready(true));
        unanswered = if server.peer.heard().is_empty() { unanswered + 1 } else { 0 };
        assert!(unanswered < 100);
    }
}

/// What began and does not end is seen, in whichever frame of a head it stops.
#[test]
fn a_head_that_does_not_end_is_seen() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let block = server.peer.block(GET);
    let bytes =
        [frame(kind::HEADERS, END_STREAM, 1, &block[..5]), frame(kind::CONTINUATION, END_HEADERS, 1, &block[5..])]
            .concat();
    assert!(!server.connection.is_reading_head());
    for byte in &bytes[..bytes.len() - 1] {
        let before = server.connection.is_reading_head();
        server.peer.send(&[*byte]);
        server.idle();
        assert!(server.connection.is_reading_head() >= before);
    }
    assert!(server.connection.is_reading_head());
    server.peer.send(&bytes[bytes.len() - 1..]);
    server.accept().1.unwrap();
    assert!(!server.connection.is_reading_head());
    let block = server.peer.block(GET);
    let bytes = frame(kind::HEADERS, END_STREAM | END_HEADERS, 3, &block);
    server.peer.send(&bytes[..bytes.len() - 1]);
    server.idle();
    assert!(server.connection.is_reading_head(), "in its only frame");
    server.peer.send(&bytes[bytes.len() - 1..]);
    let (_, _, stream) = server.accept();
    server.peer.send(&data(3, 0, 100)[..50]);
    server.idle();
    assert!(!server.connection.is_reading_head(), "a body");
    drop(stream);
}
