//! Frames on their way out: their order, however few bytes are taken at a time, and flags that are added late.

use super::*;
use crate::h2::output::Output;

fn flush(output: &mut Output, socket: &Socket, room: usize) -> usize {
    socket.0.borrow_mut().room = room;
    let mut sent = 0;
    let _ = output.poll_flush(&mut Context::from_waker(Waker::noop()), &mut socket.transport(), &mut sent);
    sent as usize
}

fn push(output: &mut Output, stream: u32, length: usize) -> u64 {
    let payload = Bytes::from(vec![stream as u8; length]);
    output.push_data(FrameHead { length, kind: kind::DATA, flags: 0, stream }, payload)
}

#[test]
fn frames_leave_in_order_a_few_bytes_at_a_time() {
    for room in [1, 5, 9, 100, 2048, 5000, usize::MAX] {
        let (mut output, socket) = (Output::default(), Socket::new());
        let mut expected = Vec::new();
        let mut add = |output: &mut Output, stream: u32, length: usize| {
            push(output, stream, length);
            expected.extend(frame(kind::DATA, 0, stream, &vec![stream as u8; length]));
            output.frame().extend_from_slice(&word(kind::RST_STREAM, stream, 8));
            expected.extend(word(kind::RST_STREAM, stream, 8));
        };
        for (stream, length) in [(1, 0), (3, 3000), (5, 2048), (7, 2047), (9, 5), (11, 9000)] {
            add(&mut output, stream, length);
            flush(&mut output, &socket, room / 2);
        }
        for at in 0..40 {
            add(&mut output, at, 2500);
        }
        while !output.is_empty() {
            assert!(flush(&mut output, &socket, room) > 0);
        }
        assert!(socket.0.borrow().output == expected, "{room}");
        assert_eq!((output.len(), output.frames(), output.answers()), (0, 0, 0));
    }
}

#[test]
fn flags_are_added_as_long_as_nothing_of_the_frame_was_sent() {
    for length in [10, 5000] {
        for sent in 0..40 {
            let (mut output, socket) = (Output::default(), Socket::new());
            // What was sent before counts as well.
            push(&mut output, 1, 3);
            flush(&mut output, &socket, usize::MAX);
            output.frame().extend_from_slice(&word(kind::RST_STREAM, 1, 8));
            let place = push(&mut output, 3, length);
            flush(&mut output, &socket, sent);
            let added = output.set_flags(place, END_STREAM);
            assert_eq!(added, sent <= 13, "{sent}");
            flush(&mut output, &socket, usize::MAX);
            assert!(!output.set_flags(place, END_STREAM), "it is gone");
            push(&mut output, 5, 100);
            assert!(!output.set_flags(place, END_STREAM) && !output.set_flags(0, END_STREAM));
            let bytes = &socket.0.borrow().output;
            assert_eq!(bytes[12 + 13 + frame::FLAGS_AT], u8::from(added));
            assert_eq!(bytes.len(), 12 + 13 + 9 + length);
        }
    }
}

/// Under a peer that never takes all, what was sent is forgotten, and places stay what they are.
#[test]
fn what_was_sent_is_not_held() {
    let (mut output, socket) = (Output::default(), Socket::new());
    let (mut expected, mut frames) = (Vec::new(), 0);
    for at in 0..3000u32 {
        let length = if at % 3 == 0 { 3000 } else { 1000 };
        let place = push(&mut output, at, length);
        let ends = at % 7 == 0;
        if ends {
            assert!(output.set_flags(place, END_STREAM));
        }
        expected.extend(frame(kind::DATA, u8::from(ends), at, &vec![at as u8; length]));
        if at >= 10 {
            flush(&mut output, &socket, 1700);
        }
        frames = frames.max(output.frames());
    }
    while !output.is_empty() {
        flush(&mut output, &socket, 100_000);
    }
    assert!(socket.0.borrow().output == expected);
    assert!(frames < 600, "{frames}");
}

#[test]
fn a_transport_that_takes_nothing_is_broken() {
    struct Nothing;
    impl AsyncRead for Nothing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    impl AsyncWrite for Nothing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(0))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let mut output = Output::default();
    push(&mut output, 1, 10);
    let mut transport = Transport::Other(Box::new(Nothing));
    let outcome = output.poll_flush(&mut Context::from_waker(Waker::noop()), &mut transport, &mut 0);
    assert!(matches!(outcome, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WriteZero));
}
