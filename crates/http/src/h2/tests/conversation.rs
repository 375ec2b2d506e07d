//! Both of our ends in conversation: over transports that take and give few bytes at a time, with tasks that run in any order,
//! but only when they were woken. Every body must arrive, nobody may be forgotten, and the windows must be whole in the end.

use super::*;
use crate::ResetReason;
use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;

/// Numbers from a fixed seed.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(seed: u64) -> Rc<Random> {
        Rc::new(Random(Cell::new((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))))
    }

    pub(super) fn below(&self, limit: usize) -> usize {
        let mut next = self.0.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.0.set(next);
        (next >> 16) as usize % limit.max(1)
    }

    fn of<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// One way of a transport.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    closed: bool,
    waker: [Option<Waker>; 2],
}

impl Way {
    fn wake(&mut self) {
        self.waker.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

struct End {
    reads: Rc<RefCell<Way>>,
    writes: Rc<RefCell<Way>>,
    random: Rc<Random>,
    capacity: usize,
}

impl End {
    /// Now and then nothing happens yet.
    fn hesitates(&self, cx: &Context<'_>) -> bool {
        let hesitates = self.random.below(4) == 0;
        if hesitates {
            cx.waker().wake_by_ref();
        }
        hesitates
    }

    fn pair(random: &Rc<Random>, capacity: usize) -> [Transport; 2] {
        let ways: [Rc<RefCell<Way>>; 2] = Default::default();
        [0, 1].map(|side: usize| {
            let (reads, writes) = (Rc::clone(&ways[side]), Rc::clone(&ways[1 - side]));
            Transport::Other(Box::new(End { reads, writes, random: Rc::clone(random), capacity }))
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for way in [&self.reads, &self.writes] {
            way.borrow_mut().closed = true;
            way.borrow_mut().wake();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let mut way = self.reads.borrow_mut();
        if way.bytes.is_empty() && !way.closed {
            way.waker[0] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = way.bytes.len().min(into.remaining()).min(1 + self.random.below(self.capacity));
        let bytes: Vec<u8> = way.bytes.drain(..count).collect();
        into.put_slice(&bytes);
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let mut way = self.writes.borrow_mut();
        if way.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.capacity.saturating_sub(way.bytes.len());
        if room == 0 {
            way.waker[1] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = 1 + self.random.below(room);
        let before = way.bytes.len();
        way.bytes.extend(from.iter().flat_map(|slice| slice.iter()).take(most));
        way.wake();
        Poll::Ready(Ok(way.bytes.len() - before))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hesitates(cx) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.borrow_mut().closed = true;
        self.writes.borrow_mut().wake();
        Poll::Ready(Ok(()))
    }
}

type Job = Pin<Box<dyn Future<Output = ()>>>;
type NamedJob = (String, Job, Arc<Woken>);

/// Tasks that run when they were woken, in any order.
#[derive(Clone, Default)]
struct Tasks {
    spawned: Rc<RefCell<Vec<(String, Job)>>>,
    jobs: Rc<RefCell<Vec<NamedJob>>>,
}

impl Tasks {
    fn spawn(&self, name: String, job: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push((name, Box::pin(job)));
    }

    /// Until nobody is awake. The names of those that sleep.
    fn run(&self, random: &Random) -> Vec<String> {
        let mut jobs = self.jobs.borrow_mut();
        for _ in 0..2_000_000 {
            for (name, job) in self.spawned.borrow_mut().drain(..) {
                let woken = Arc::<Woken>::default();
                Arc::clone(&woken).wake();
                jobs.push((name, job, woken));
            }
            let awake: Vec<usize> = (0..jobs.len()).filter(|at| jobs[*at].2.0.load(Ordering::Relaxed) != 0).collect();
            if awake.is_empty() {
                return jobs.iter().map(|(name, ..)| name.clone()).collect();
            }
            let at = random.of(&awake);
            let (_, job, woken) = &mut jobs[at];
            woken.take();
            let waker = Arc::clone(woken).into();
            if job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(jobs.swap_remove(at));
            }
        }
        panic!("it goes on for ever");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The response is what comes of the request, as it comes.
    Echo,
    /// The same once the request has come whole, with its length.
    Late,
    /// The response does not wait for the request.
    Early,
    /// The server gives up in the middle.
    Reset,
    /// The client does.
    Cancel,
}

/// The bytes of a body, which depend on their stream and their place.
fn piece(salt: usize, from: usize, length: usize) -> Bytes {
    (from..from + length).map(|at| ((at * 7) ^ (at >> 8) ^ salt) as u8).collect()
}

/// Sends a body of `total` bytes a few at a time, and its end.
struct Sending {
    salt: usize,
    sent: usize,
    total: usize,
    ended: bool,
    random: Rc<Random>,
}

impl Sending {
    /// Ready: all was handed over, or it failed.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut impl Exchange) -> Poll<bool> {
        loop {
            if self.sent < self.total {
                let length = (1 + self.random.below(20_000)).min(self.total - self.sent);
                stream.send_data(piece(self.salt, self.sent, length));
                self.sent += length;
            } else if !self.ended {
                self.ended = true;
                let trailers = map(&[("checked", "yes")]);
                stream.send_end(self.salt.is_multiple_of(2).then_some(&trailers));
            }
            match stream.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(true),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Receives a body and compares it.
struct Receiving {
    salt: usize,
    received: usize,
}

impl Receiving {
    /// Ready: it came whole, or why not.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut impl Exchange) -> Poll<Result<(), RecvError>> {
        let mut trailers = HeaderMap::new();
        loop {
            match std::task::ready!(stream.poll_body(cx, &mut trailers))? {
                BodyPart::Data { last, .. } => {
                    let bytes = stream.take_body();
                    assert!(bytes == piece(self.salt, self.received, bytes.len()), "other bytes");
                    self.received += bytes.len();
                    if last {
                        assert_eq!(self.salt % 2, 1, "trailers were lost");
                        return Poll::Ready(Ok(()));
                    }
                }
                BodyPart::End { trailers: any } => {
                    assert_eq!(any, self.salt.is_multiple_of(2));
                    assert_eq!(dump(&trailers), if any { "checked=yes" } else { "" });
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> usize {
    let value = headers.iter().find(|(known, _)| known == &name).unwrap().1.to_vec();
    String::from_utf8(value).unwrap().parse().unwrap()
}

/// The server's part in a request.
async fn serve(headers: HeaderMap, mut stream: ServerStream, random: Rc<Random>) {
    let (salt, total) = (number(&headers, "x-salt"), number(&headers, "x-total"));
    let kind = [Kind::Echo, Kind::Late, Kind::Early, Kind::Reset, Kind::Cancel][number(&headers, "x-kind")];
    let mut receiving = Receiving { salt, received: 0 };
    let answer = |stream: &mut ServerStream, length: Option<usize>| {
        let mut head = map(&[(":status", "103"), ("x", "y")]);
        stream.send_informational(&head);
        head = map(OK);
        if let Some(length) = length {
            head.append_known(Known::CONTENT_LENGTH, length.to_string().as_bytes());
        }
        head.append_received(None, b"x-long", &vec![b'l'; salt * 700 % 40_000]).unwrap();
        assert!(stream.send_head(&head) > 0 || kind == Kind::Cancel);
    };
    match kind {
        Kind::Echo | Kind::Cancel => {
            answer(&mut stream, None);
            let (mut sent, mut received) = (0, false);
            let mut sending = Sending { salt, sent: 0, total: 0, ended: false, random };
            // The body is sent on as far as it came: not faster than it is taken.
            poll_fn(|cx| {
                loop {
                    let reads = stream.buffered() < 5000 && !received;
                    if reads {
                        match receiving.poll_some(cx, &mut stream) {
                            Poll::Ready(Some(end)) => {
                                received = true;
                                if end.is_err() {
                                    return Poll::Ready(());
                                }
                            }
                            Poll::Ready(None) | Poll::Pending => {}
                        }
                    }
                    let length = receiving.received - sent;
                    if length > 0 {
                        stream.send_data(piece(salt, sent, length));
                        sent += length;
                    }
                    if received {
                        sending.sent = sent;
                        sending.total = sent;
                        return sending.poll(cx, &mut stream).map(|_| ());
                    }
                    match stream.poll_flush(cx) {
                        Poll::Ready(Ok(())) if !reads => {}
                        Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                    }
                }
            })
            .await;
            assert!(kind == Kind::Cancel || sent == total);
        }
        Kind::Late | Kind::Early => {
            if kind == Kind::Late {
                poll_fn(|cx| receiving.poll(cx, &mut stream)).await.unwrap();
                assert_eq!(receiving.received, total);
            }
            answer(&mut stream, Some(total));
            let mut sending = Sending { salt, sent: 0, total, ended: false, random };
            assert!(poll_fn(|cx| sending.poll(cx, &mut stream)).await);
        }
        Kind::Reset => {
            if random.below(2) == 0 {
                answer(&mut stream, None);
            }
            stream.reset(ResetReason::LocalReset);
        }
    }
}

impl Receiving {
    /// One piece. Ready with something: it is over.
    fn poll_some(&mut self, cx: &mut Context<'_>, stream: &mut ServerStream) -> Poll<Option<Result<(), RecvError>>> {
        let before = self.received;
        // All that is there is taken; that there is more to come is what `Pending` says.
        match self.poll(cx, stream) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if self.received > before => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The client's part. What it came to goes into `outcomes`.
async fn ask(opener: Opener, salt: usize, random: Rc<Random>, outcomes: Rc<RefCell<Vec<&'static str>>>) {
    let kind = random.below(5);
    let total = random.of(&[0, 1, 100, 5000, 20_000, 100_000]);
    let mut head = map(POST);
    for (name, value) in [("x-salt", salt), ("x-total", total), ("x-kind", kind)] {
        head.append_received(None, name.as_bytes(), value.to_string().as_bytes()).unwrap();
    }
    head.append_received(None, b"x-long", &vec![b'l'; salt * 900 % 40_000]).unwrap();
    let mut stream = opener.open();
    drop(opener);
    stream.send_head(&head);
    let mut sending = Sending { salt, sent: 0, total, ended: false, random: Rc::clone(&random) };
    let mut receiving = Receiving { salt, received: 0 };
    let patience = if kind == 4 { random.below(10) } else { usize::MAX };
    let (mut polls, mut final_head, mut is_sending) = (0, false, true);
    let outcome = poll_fn(|cx| {
        polls += 1;
        if polls > patience {
            return Poll::Ready("cancelled");
        }
        if is_sending {
            is_sending = sending.poll(cx, &mut stream).is_pending();
        }
        let mut headers = HeaderMap::new();
        while !final_head {
            match std::task::ready!(stream.poll_head(cx, &mut headers)) {
                Ok(head) => final_head = head.status == 200,
                Err(RecvError::Reset(ResetReason::RemoteRefusedStreamReset)) => return Poll::Ready("refused"),
                Err(_) => return Poll::Ready("reset"),
            }
        }
        match std::task::ready!(receiving.poll(cx, &mut stream)) {
            Ok(()) => Poll::Ready("whole"),
            Err(_) => Poll::Ready("reset"),
        }
    })
    .await;
    if outcome == "whole" {
        assert_eq!(receiving.received, total);
    }
    assert_eq!(outcome == "reset", kind == 3 && outcome != "refused", "{kind}");
    outcomes.borrow_mut().push(outcome);
}

fn options(random: &Random) -> Http2Options {
    Http2Options {
        stream_window: random.of(&[65_535, 70_000, 1 << 20]),
        connection_window: random.of(&[65_535, 100_000, 1 << 20]),
        hpack_table_size: random.of(&[0, 100, 4096, 65_536]),
        max_concurrent_streams: random.of(&[1, 3, 100]),
        huffman: random.below(2) == 0,
        ..Http2Options::default()
    }
}

/// Runs a conversation; with `drains`, the server ends it at some time.
fn converse(seed: u64, drains: bool) {
    let random = Random::new(seed);
    let tasks = Tasks::default();
    let [near, far] = End::pair(&random, [60, 700, 5000, 200_000][random.below(4)]);
    let (ours, theirs) = (options(&random), options(&random));
    let (opener, client) = connect(near, &ours);
    let mut server = ServerConnection::new(far, Bytes::new(), &theirs);
    let (client_core, server_core) = (client.pings().0, server.pings().0);
    let served = Rc::new(Cell::new(0));
    tasks.spawn("client".into(), async move {
        assert!(!client.await, "the server broke the protocol");
    });
    let (spawns, counts, dice) = (tasks.clone(), Rc::clone(&served), Rc::clone(&random));
    tasks.spawn("server".into(), async move {
        while let Some(incoming) = poll_fn(|cx| server.poll_accept(cx)).await {
            let mut headers = HeaderMap::new();
            let incoming = match incoming {
                Ok(incoming) => incoming,
                // The client was faster to close.
                Err(ConnectionError::Io(_)) if drains => return,
                Err(error) => panic!("{error}"),
            };
            let (head, stream) = incoming.open(&mut headers);
            head.unwrap();
            counts.set(counts.get() + 1);
            if drains && counts.get() == 4 {
                server.drain();
            }
            spawns.spawn(format!("served {}", counts.get()), serve(headers, stream, Rc::clone(&dice)));
        }
        poll_fn(|cx| server.poll_linger(cx)).await;
    });
    assert_eq!(tasks.run(&random), ["client", "server"], "settings are exchanged");
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let asked = 3 + random.below(12);
    for salt in 0..asked {
        let asks = ask(opener.clone(), salt, Rc::clone(&random), Rc::clone(&outcomes));
        tasks.spawn(format!("asked {salt}"), asks);
    }
    let left = tasks.run(&random);
    let outcomes = outcomes.borrow();
    assert_eq!(outcomes.len(), asked, "seed {seed}: forgotten: {left:?}");
    if drains && served.get() >= 4 {
        assert!(left.is_empty(), "seed {seed}: forgotten: {left:?}");
        return;
    }
    assert!(!outcomes.contains(&"refused"), "seed {seed}");
    assert_eq!(left.len(), 2, "seed {seed}: {left:?}");
    {
        let (client, server) = (client_core.borrow(), server_core.borrow());
        for (core, options) in [(&client, &ours), (&server, &theirs)] {
            assert!(core.ids.is_empty() && core.streams.is_empty() && !core.has_waiting(), "seed {seed}");
            let whole = i64::from(options.connection_window);
            assert_eq!(core.receive_window + i64::from(core.owed), whole, "seed {seed}");
        }
        assert_eq!(client.send_window, server.receive_window, "seed {seed}");
        assert_eq!(server.send_window, client.receive_window, "seed {seed}");
    }
    drop(opener);
    assert_eq!(tasks.run(&random), [""; 0], "seed {seed}");
}

#[test]
fn every_body_arrives_and_windows_are_whole_again() {
    (0..40).for_each(|seed| converse(seed, false));
}

#[test]
fn a_drain_in_the_middle_ends_in_order() {
    (100..120).for_each(|seed| converse(seed, true));
}
