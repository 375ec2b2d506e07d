//! The load generator and the origins: one thread, one epoll loop, no allocation per request, so that the processor beside
//! the proxy's can keep one proxy busy.
//!
//! A closed loop sends the next request of a connection when it has the reply of the last one. An open loop sends at fixed
//! times and counts latency from the time at which a request was due, so that a proxy that stalls can't hide it
//! (coordinated omission). Every reply is checked: status 200, and the length of the body.

mod http2;
pub mod message;
mod stream;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Poll};
use socket2::{Domain, Socket, Type};

use super::histogram::Histogram;
use http2::Message;
use message::Request;
pub use world::{Origins, Tally};
use world::{Phase, Role, World};

/// Connections that are being made at the same time.
const CONNECTING_AT_ONCE: usize = 64;
/// Failures after which a measurement ends: it would not mean anything.
const MOST_FAILURES: u64 = 1_000;
/// How long connecting, and waiting for the last replies, may take.
const PATIENCE: Duration = Duration::from_secs(30);
const BACKLOG: i32 = 16_384;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Requests and replies.
    Http,
    /// Requests and replies over HTTP/2, so many at the same time on each connection.
    Http2 { streams: usize },
    /// Whatever the bulk origin sends.
    Bulk,
}

/// What lies below the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS 1.3, with a full handshake each.
    Full,
    /// TLS 1.3, with sessions resumed where there are some.
    Resumed,
}

/// Handshakes that are begun beside the requests of [`Load::paced`], each ended when the proxy has answered.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Begun a second, evenly spaced; as many as are answered when absent.
    pub rate: Option<u32>,
    /// At the same time at most.
    pub at_once: usize,
}

/// The generator and its origins.
pub struct Load {
    poll: Poll,
    events: Events,
    world: World,
    flood: Option<Flood>,
}

impl Load {
    /// Binds the origins.
    pub fn new() -> Result<Self, String> {
        let build = || -> io::Result<Self> {
            let poll = Poll::new()?;
            let world = World::new(poll.registry().try_clone()?, [listen()?, listen()?, listen()?])?;
            Ok(Self { poll, events: Events::with_capacity(1_024), world, flood: None })
        };
        build().map_err(|error| format!("the origin: {error}"))
    }

    /// The addresses of the origins.
    pub fn origins(&self) -> Result<Origins, String> {
        self.world.origins().map_err(|error| error.to_string())
    }

    /// Sets where connections go and what is asked on them. Connections that exist are kept.
    pub fn aim(&mut self, target: SocketAddr, request: &Request) {
        self.world.target = target;
        self.world.request = request.bytes();
        self.world.reply = request.reply();
        self.world.http2_request = Message::new(&request.http2_request());
        self.world.http2_reply = Message::new(&request.http2_reply());
    }

    /// Sets how connections are secured from now on, until the next reset.
    pub fn secure(&mut self, security: Security) -> Result<(), String> {
        self.world.tls = match security {
            Security::Full => Some(stream::context(false)?),
            Security::Resumed => Some(stream::context(true)?),
        };
        Ok(())
    }

    /// Sets what comes beside the requests of [`Load::paced`], until the next reset.
    pub fn flood(&mut self, flood: Flood) -> Result<(), String> {
        self.world.hello = stream::hello()?;
        self.flood = Some(flood);
        Ok(())
    }

    /// Begins the handshakes that are due at this time of a flood.
    fn flood_until(&mut self, begun: &mut u32, elapsed: Duration) {
        let Some(Flood { rate, at_once }) = self.flood else { return };
        let due = rate.map_or(u32::MAX, |rate| (elapsed.as_secs_f64() * f64::from(rate)) as u32);
        while *begun < due && self.world.hellos < at_once {
            *begun += 1;
            self.world.begin_handshake();
        }
    }

    /// Sets whether a closed loop has a connection for each request, until the next reset.
    pub fn once(&mut self, once: bool) {
        self.world.once = once;
    }

    /// Ends all connections, those of the origins too.
    pub fn reset(&mut self) {
        self.world.repeat = false;
        self.world.once = false;
        self.world.tls = None;
        self.flood = None;
        self.world.close_all();
        self.clear();
    }

    /// Ends the connections to the proxy.
    pub fn close(&mut self) {
        self.world.repeat = false;
        self.world.close_clients();
    }

    /// Begins to count anew.
    pub fn clear(&mut self) {
        self.world.tally = Tally::default();
    }

    /// What was done since [`Load::clear`].
    pub fn tally(&self) -> &Tally {
        &self.world.tally
    }

    /// Connects `count` times, and waits until it is done.
    pub fn open(&mut self, count: usize, protocol: Protocol) -> Result<(), String> {
        let goal = self.world.connected + count;
        let deadline = Instant::now() + PATIENCE;
        self.world.streams = if let Protocol::Http2 { streams } = protocol { streams } else { 0 };
        while self.world.connected < goal {
            let missing = goal.saturating_sub(self.world.connected + self.world.connecting);
            let now = CONNECTING_AT_ONCE.saturating_sub(self.world.connecting).min(missing);
            for _ in 0..now {
                self.world.connect(match protocol {
                    Protocol::Http | Protocol::Http2 { .. } => Role::Client(Phase::Connecting),
                    Protocol::Bulk => Role::Sink { connected: false },
                });
            }
            self.turn(Duration::from_millis(10))?;
            if Instant::now() > deadline {
                return Err(format!("only {} of {goal} connections were made: {}", self.world.connected, self.why()));
            }
        }
        Ok(())
    }

    /// Sends one request on each connection, at most `at_once` at the same time, and waits for the replies.
    pub fn each_once(&mut self, at_once: usize) -> Result<(), String> {
        let mut unsent = self.world.idle();
        let deadline = Instant::now() + PATIENCE;
        while unsent > 0 && Instant::now() < deadline {
            while unsent > 0 && self.world.waiting < at_once && self.world.send(Instant::now()) {
                unsent -= 1;
            }
            self.turn(Duration::from_millis(10))?;
        }
        self.finish()
    }

    /// Waits for the replies that are missing.
    fn finish(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while self.world.waiting > 0 {
            self.turn(Duration::from_millis(10))?;
            if Instant::now() > deadline {
                return Err(format!("{} requests were not answered: {}", self.world.waiting, self.why()));
            }
        }
        Ok(())
    }

    /// Begins the closed loop on all connections.
    pub fn start(&mut self) {
        self.world.repeat = true;
        self.world.send_all_idle();
    }

    /// Ends the closed loop and waits for the last replies.
    pub fn stop(&mut self) -> Result<(), String> {
        self.world.repeat = false;
        self.finish()
    }

    /// Lets happen what happens for `duration`.
    pub fn run(&mut self, duration: Duration) -> Result<(), String> {
        let deadline = Instant::now() + duration;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left.min(Duration::from_millis(20)))?;
        }
    }

    /// The open loop: `rate` requests a second for `duration`, evenly spaced. It spins instead of sleeping, since sleeping is
    /// exact to a millisecond only. An error when less than 99 % of the rate was reached, unless there is a flood beside it.
    pub fn paced(&mut self, rate: u32, duration: Duration) -> Result<Histogram, String> {
        let begin = Instant::now();
        let count = (duration.as_secs_f64() * f64::from(rate)) as u32;
        let due = |number: u32| begin + Duration::from_secs(1) * number / rate;
        let (mut sent, mut begun) = (0, 0);
        let answered = self.world.tally.completed;
        self.world.latencies = Some(Histogram::default());
        // In a flood, a proxy that falls behind is no failure but the figure: what is late is sent, too.
        let flooded = self.flood.is_some();
        while begin.elapsed() < duration || flooded && sent < count && begin.elapsed() < duration + PATIENCE {
            while sent < count && due(sent) <= Instant::now() && self.world.send(due(sent)) {
                sent += 1;
            }
            self.flood_until(&mut begun, begin.elapsed());
            self.turn(Duration::ZERO)?;
        }
        let reached = self.world.tally.completed - answered;
        self.finish()?;
        let latencies = self.world.latencies.take().unwrap_or_default();
        if !flooded && (reached as f64) < f64::from(count) * 0.99 {
            return Err(format!(
                "only {reached} of {count} requests were answered in time at {rate}/s: {}",
                self.why()
            ));
        }
        Ok(latencies)
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), String> {
        let timeout = if self.world.is_busy() { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(format!("epoll: {error}")),
            _ => {}
        }
        for event in &self.events {
            self.world.handle(event);
        }
        self.world.go_on();
        if self.world.tally.failed > MOST_FAILURES {
            return Err(format!("more than {MOST_FAILURES} failures: {}", self.why()));
        }
        Ok(())
    }

    fn why(&self) -> &str {
        self.world.tally.first_failure.as_deref().unwrap_or("no reason is known")
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::message::{Request, Shape};
    use super::{Load, Origins, Protocol};

    /// The load straight at its own origins.
    #[test]
    fn generator_and_origin_understand_each_other() {
        let mut load = Load::new().unwrap();
        let Origins { http, bulk, http2 } = load.origins().unwrap();
        for shape in [Shape::One, Shape::Twelve] {
            load.aim(http, &Request::plain(shape));
            load.open(20, Protocol::Http).unwrap();
            load.each_once(3).unwrap();
            assert_eq!(load.tally().completed, 20);
            load.start();
            load.run(Duration::from_millis(20)).unwrap();
            load.stop().unwrap();
            assert!(load.tally().completed > 40, "{:?}", load.tally());
            assert_eq!(load.tally().failed, 0, "{:?}", load.tally());
            load.reset();
        }
        for shape in [Shape::One, Shape::Twelve, Shape::Unary] {
            load.aim(http2, &Request::plain(shape));
            load.open(5, Protocol::Http2 { streams: 4 }).unwrap();
            load.each_once(3).unwrap();
            assert_eq!(load.tally().completed, 20);
            load.start();
            load.run(Duration::from_millis(20)).unwrap();
            load.stop().unwrap();
            assert!(load.tally().completed > 40, "{:?}", load.tally());
            assert_eq!(load.tally().failed, 0, "{:?}", load.tally());
            load.reset();
        }
        load.aim(bulk, &Request::plain(Shape::One));
        load.open(2, Protocol::Bulk).unwrap();
        load.run(Duration::from_millis(20)).unwrap();
        assert!(load.tally().bytes > 1 << 20, "{:?}", load.tally());
    }

    #[test]
    fn open_loop_counts_every_request() {
        let mut load = Load::new().unwrap();
        let http = load.origins().unwrap().http;
        load.aim(http, &Request::plain(Shape::One));
        load.open(8, Protocol::Http).unwrap();
        // A loaded machine may miss the rate; that is then an error and no figure.
        if let Ok(latencies) = load.paced(200, Duration::from_millis(100)) {
            assert_eq!(load.tally().completed, 20);
            assert!(latencies.quantile(0.5) > 0);
        }
    }
}
