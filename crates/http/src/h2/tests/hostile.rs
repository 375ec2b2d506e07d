//! Valid conversations with faults in them: bytes that are changed, left out, doubled or cut off. Nothing panics, and whoever
//! waits, waits for the peer.

use super::conversation::Random;
use super::*;

/// A client's bytes, frame by frame, with a bit of everything.
fn conversation(peer: &mut Peer) -> Vec<Vec<u8>> {
    let mut frames = vec![frame::PREFACE.to_vec(), settings(&[(1, 100), (3, 5), (4, 100), (8, 1)])];
    frames.push(frame(kind::SETTINGS, flag::ACK, 0, &[]));
    for id in [1, 3, 5] {
        let block = peer.block(&[POST, &[("content-length", "300"), ("cookie", "a"), ("cookie", "b")]].concat());
        frames.push(frame(kind::HEADERS, 0, id, &block[..10]));
        frames.push(frame(kind::CONTINUATION, END_HEADERS, id, &block[10..]));
        frames.push(data(id, 0, 200));
        frames.push(word(kind::WINDOW_UPDATE, id, 100));
        frames.push(frame(kind::DATA, PADDED, id, &[vec![3], vec![b'p'; 100], vec![0; 3]].concat()));
        frames.push(frame(kind::PRIORITY, 0, id, &[0, 0, 0, 7, 1]));
        if id == 3 {
            frames.push(word(kind::RST_STREAM, id, 8));
        } else {
            let trailers = peer.block(&[("t", "1")]);
            frames.push(frame(kind::HEADERS, END_STREAM | END_HEADERS, id, &trailers));
        }
    }
    frames.push(frame(kind::PING, 0, 0, &[1; 8]));
    frames.push(settings(&[(4, 1000), (5, 20_000)]));
    frames.push(word(kind::WINDOW_UPDATE, 0, 5000));
    frames.push(frame(kind::GOAWAY, 0, 0, &[0; 8]));
    frames
}

/// A server's.
fn answers(peer: &mut Peer) -> Vec<Vec<u8>> {
    let mut frames = vec![settings(&[(3, 5), (4, 100), (8, 1)]), frame(kind::SETTINGS, flag::ACK, 0, &[])];
    for id in [1, 3, 5] {
        let early = peer.block(&[(":status", "103"), ("link", "l")]);
        frames.push(frame(kind::HEADERS, END_HEADERS, id, &early));
        let block = peer.block(&[(":status", "200"), ("content-length", "300")]);
        frames.push(frame(kind::HEADERS, 0, id, &block[..1]));
        frames.push(frame(kind::CONTINUATION, END_HEADERS, id, &block[1..]));
        frames.push(data(id, 0, 200));
        frames.push(word(kind::WINDOW_UPDATE, id, 1000));
        frames.push(data(id, 0, 100));
        let trailers = peer.block(&[("grpc-status", "0")]);
        frames.push(if id == 3 {
            word(kind::RST_STREAM, id, 0)
        } else {
            frame(kind::HEADERS, END_STREAM | END_HEADERS, id, &trailers)
        });
    }
    frames.push(frame(kind::PING, 0, 0, &[1; 8]));
    frames.push(frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
    frames
}

/// Some faults.
fn spoil(frames: &mut Vec<Vec<u8>>, random: &Random) -> Vec<u8> {
    for _ in 0..random.below(4) {
        let (at, other) = (random.below(frames.len()), random.below(frames.len()));
        match random.below(6) {
            0 => drop(frames.remove(at)),
            1 => frames.swap(at, other),
            2 => frames.insert(at, frames[other].clone()),
            // The head of a frame, or any of it.
            fault @ (3 | 4) => {
                let (frame, bit) = (&mut frames[at], random.below(8));
                let place = random.below(if fault == 3 { HEAD.min(frame.len()) } else { frame.len() });
                if let Some(byte) = frame.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
            _ => {
                let length = random.below(frames[at].len());
                frames[at].truncate(length);
            }
        }
        if frames.is_empty() {
            break;
        }
    }
    frames.concat()
}

#[test]
fn faults_of_clients_end_their_connection_or_are_waited_out() {
    let mut ends = [0; 3];
    for seed in 0..3000 {
        let random = Random::new(seed);
        let options = Http2Options {
            stream_error_on_invalid_message: seed % 2 == 0,
            allow_connect: seed % 3 == 0,
            ..Http2Options::default()
        };
        let mut server = Server::fresh(&options);
        let bytes = spoil(&mut conversation(&mut server.peer), &random);
        server.peer.socket.0.borrow_mut().most = [1, 10, 1000, usize::MAX][random.below(4)];
        server.peer.send(&bytes);
        server.peer.close();
        let (mut streams, mut polls) = (Vec::new(), 0);
        let end = loop {
            polls += 1;
            assert!(polls < 20_000, "seed {seed}: it goes on for ever");
            match server.poll() {
                Poll::Ready(Some(Ok(incoming))) => {
                    let mut headers = HeaderMap::new();
                    let (head, mut stream) = incoming.open(&mut headers);
                    if head.is_ok() {
                        stream.send_head(&map(OK));
                        stream.send_data(Bytes::from(vec![0; 300]));
                        stream.send_end(Some(&map(&[("t", "2")])));
                        streams.push(stream);
                    }
                }
                Poll::Ready(Some(Err(ConnectionError::Io(_)))) => panic!("seed {seed}"),
                Poll::Ready(Some(Err(_))) => break 0,
                Poll::Ready(None) => break 1,
                Poll::Pending => assert!(server.peer.woken.take(), "seed {seed}: it waits for nobody"),
            }
            for stream in &mut streams {
                let _ = Task::default().flush(stream);
                Task::default().read(stream);
            }
            if random.below(10) == 0 {
                streams.pop();
            }
        };
        ends[end] += 1;
        for stream in &mut streams {
            assert!(Task::default().flush(stream).is_ready(), "seed {seed}: it waits for ever");
            assert!(!Task::default().read(stream).contains("waits"), "seed {seed}");
        }
        drop(streams);
        let pings = server.connection.pings();
        let core = pings.0.borrow();
        assert!(core.streams.len() <= core.accepted.len() && core.ids.is_empty(), "seed {seed}");
        drop(core);
        server.peer.heard();
    }
    assert!(ends[0] > 500 && ends[1] > 500, "{ends:?}");
}

#[test]
fn faults_of_upstreams_end_their_connection_or_are_waited_out() {
    let mut ends = [0; 2];
    for seed in 0..3000 {
        let random = Random::new(seed);
        let options = Http2Options { stream_error_on_invalid_message: seed % 2 == 0, ..Http2Options::default() };
        let mut client = Client::fresh(&options);
        client.idle();
        let mut streams: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = client.opener.open();
                stream.send_head(&map(POST));
                stream.send_data(Bytes::from(vec![0; 300]));
                stream.send_end(None);
                let _ = Task::default().flush(&mut stream);
                stream
            })
            .collect();
        let bytes = spoil(&mut answers(&mut client.peer), &random);
        client.peer.socket.0.borrow_mut().most = [1, 10, 1000, usize::MAX][random.below(4)];
        client.peer.send(&bytes);
        client.peer.close();
        let mut polls = 0;
        loop {
            polls += 1;
            assert!(polls < 20_000, "seed {seed}: it goes on for ever");
            if let Poll::Ready(broken) = client.poll() {
                ends[usize::from(broken)] += 1;
                break;
            }
            assert!(client.peer.woken.take(), "seed {seed}: it waits for nobody");
            for stream in &mut streams {
                let _ = Task::default().flush(stream);
                head(stream);
            }
            if random.below(10) == 0 {
                streams.pop();
            }
        }
        for stream in &mut streams {
            assert!(Task::default().flush(stream).is_ready(), "seed {seed}: it waits for ever");
            assert!(!Task::default().read(stream).contains("waits"), "seed {seed}");
        }
        drop(streams);
        let pings = client.connection.pings();
        let core = pings.0.borrow();
        assert!(core.streams.is_empty() && core.ids.is_empty(), "seed {seed}");
        drop(core);
        client.peer.heard();
    }
    assert!(ends[0] > 500 && ends[1] > 500, "{ends:?}");
}
