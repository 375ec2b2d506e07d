//! The client side of a case: it plays the steps and records what came back.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::PATIENCE;
use nuncio_testkit::client::{Client, Response};
use nuncio_testkit::gate::Gates;
use nuncio_testkit::h2_client::{H2Client, H2Request};
use nuncio_testkit::message::{End, text};
use nuncio_testkit::origin::Origin;
use nuncio_testkit::port::ReservedPort;
use nuncio_testkit::process::Proxy;
use nuncio_testkit::stats;

use super::case::{Case, Expect, Part, Read, ReadNamed, Stat, Step};
use super::record::{self, Normaliser, Record};
use super::tls;

/// How long a connection that was not announced to be closed is watched for a close.
const GLANCE: Duration = Duration::from_millis(20);
const CLOSE_PATIENCE: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(5);

/// One round of a step.
struct Turn<'a> {
    label: String,
    step: &'a Step,
    case: &'a Case,
}

/// Plays steps against one proxy.
pub struct Player<'a> {
    ports: &'a BTreeMap<String, ReservedPort>,
    origins: &'a BTreeMap<String, Origin>,
    gates: &'a Gates,
    scratch: &'a Path,
    normal: &'a Normaliser,
    connections: BTreeMap<String, Client>,
    http2: BTreeMap<String, H2Client>,
    responses: usize,
}

impl<'a> Player<'a> {
    /// Starts without connections.
    pub fn new(
        ports: &'a BTreeMap<String, ReservedPort>,
        origins: &'a BTreeMap<String, Origin>,
        gates: &'a Gates,
        scratch: &'a Path,
        normal: &'a Normaliser,
    ) -> Self {
        Self {
            ports,
            origins,
            gates,
            scratch,
            normal,
            connections: BTreeMap::new(),
            http2: BTreeMap::new(),
            responses: 0,
        }
    }

    /// How many HTTP responses came.
    pub fn response_count(&self) -> usize {
        self.responses
    }

    /// Plays step `number`, as often as it says.
    pub fn play(
        &mut self,
        number: usize,
        step: &Step,
        case: &Case,
        proxy: &mut Proxy,
        record: &mut Record,
    ) -> Result<(), String> {
        for round in 1..=step.repeat.unwrap_or(1) {
            let round = step.repeat.map(|_| format!("#{round}")).unwrap_or_default();
            let label = format!("step {number}{round}");
            if let Some(target) = &step.admin {
                self.admin(&label, target, step, proxy, record)?;
            } else if let Some(arguments) = &step.curl {
                self.curl(&Turn { label, step, case }, arguments, record)?;
            } else if step.req.is_some() || step.raw.is_some() || step.read.is_some() || step.shutdown {
                self.talk(&Turn { label, step, case }, record)?;
            } else {
                self.wait_or_signal(step, proxy, record)?;
            }
        }
        Ok(())
    }

    fn wait_or_signal(&mut self, step: &Step, proxy: &mut Proxy, record: &mut Record) -> Result<(), String> {
        if let Some(name) = step.close.as_ref().filter(|name| self.http2.contains_key(*name)) {
            self.http2.remove(name);
        } else if let Some(name) = &step.close {
            self.connections.remove(name).ok_or_else(|| format!("no connection '{name}'"))?;
        } else if let Some(name) = &step.reset {
            let client = self.connections.remove(name).ok_or_else(|| format!("no connection '{name}'"))?;
            client.reset().map_err(|error| error.to_string())?;
        } else if let Some(gate) = &step.release {
            self.gates.open(gate);
        } else if let Some(gate) = &step.hold {
            if !self.gates.wait(gate, PATIENCE) {
                record.fail(format!("gate '{gate}' was never opened"));
            }
        } else if let Some(awaited) = &step.r#await {
            if !self.origin(&awaited.origin)?.await_seen(awaited.requests, PATIENCE) {
                record.fail(format!("origin {} never saw {} requests", awaited.origin, awaited.requests));
            }
        } else if let Some(stat) = &step.stat {
            self.await_stat(stat, proxy, record)?;
        } else if let Some(origin) = &step.drop_origin {
            let origin = self.origin(origin)?;
            origin.close_connections();
            origin.await_open(0, PATIENCE);
        } else if let Some(wanted) = step.exit {
            let status = proxy.await_exit().map_err(|error| error.to_string())?;
            let code = status.and_then(|status| status.code());
            if code != Some(wanted) {
                record.fail(format!("expected exit code {wanted}, got {code:?}"));
            }
        } else {
            return Err("a step that does nothing".into());
        }
        Ok(())
    }

    fn origin(&self, name: &str) -> Result<&'a Origin, String> {
        self.origins.get(name).ok_or_else(|| format!("no origin '{name}'"))
    }

    fn await_stat(&self, stat: &Stat, proxy: &Proxy, record: &mut Record) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let filter = format!("/stats?filter=^{}$", stat.name.replace('.', "\\."));
        let mut value = None;
        while Instant::now() < deadline {
            let values = stats::parse(&proxy.admin_text(&filter).map_err(|error| error.to_string())?);
            value = values.get(&stat.name).copied();
            let reached = value.is_some_and(|value| {
                stat.is.is_none_or(|is| is == value) && stat.at_least.is_none_or(|least| least <= value)
            });
            if reached {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        record.fail(format!("{} stayed {value:?}, expected {:?} or at least {:?}", stat.name, stat.is, stat.at_least));
        Ok(())
    }

    fn admin(&self, label: &str, target: &str, step: &Step, proxy: &Proxy, record: &mut Record) -> Result<(), String> {
        let (method, path) = target.split_once(' ').ok_or("'admin' takes a method and a target")?;
        let response = proxy.admin(method, path).map_err(|error| error.to_string())?;
        let body = text(&response.body.data);
        record.response(label, &response, self.normal, &[Part::Body]);
        match record::view(&step.view, &body, self.normal) {
            Ok(view) => record.add(format!("{label}: body"), view),
            Err(error) => record.fail(format!("{label}: {error}")),
        }
        // Its length is no more comparable than its body.
        if !matches!(step.view, super::case::View::All) {
            record.values.retain(|(name, _)| *name != format!("{label}: header content-length"));
        }
        self.check(label, &response, None, step.expect.as_ref(), record);
        Ok(())
    }

    fn curl(&mut self, turn: &Turn<'_>, arguments: &[String], record: &mut Record) -> Result<(), String> {
        let to = turn.step.to.as_deref().unwrap_or("main");
        let port = self.ports.get(to).ok_or_else(|| format!("no listener '{to}'"))?.number();
        let response = tls::curl(port, arguments)?;
        self.responses += usize::from(response.head.is_some());
        match &response.head {
            Some(_) => record.response(&turn.label, &response, self.normal, &turn.case.skip),
            None => record.add(format!("{}: handshake", turn.label), "failed"),
        }
        self.check(&turn.label, &response, None, turn.step.expect.as_ref(), record);
        Ok(())
    }

    fn talk(&mut self, turn: &Turn<'_>, record: &mut Record) -> Result<(), String> {
        let (label, step) = (turn.label.as_str(), turn.step);
        if step.version.as_deref() == Some("2") {
            return self.talk_http2(turn, record);
        }
        let mut client = match step.conn.as_ref().and_then(|name| self.connections.remove(name)) {
            Some(client) => client,
            None => match self.connect(step)? {
                Ok(client) => client,
                Err(error) => {
                    record.add(format!("{label}: connect"), format!("{:?}", error.kind()));
                    self.check(label, &Response::default(), Some(true), step.expect.as_ref(), record);
                    return Ok(());
                }
            },
        };
        // A peer that has closed already shows in what is read.
        let _ = client.send(&bytes_of(step)?);
        if step.shutdown {
            let _ = client.finish_sending();
        }
        self.receive(turn, &mut client, record);
        if let Some(name) = &step.conn {
            self.connections.insert(name.clone(), client);
        }
        Ok(())
    }

    /// Sends a request over HTTP/2, on a connection of its own or a named one.
    fn talk_http2(&mut self, turn: &Turn<'_>, record: &mut Record) -> Result<(), String> {
        let (label, step) = (turn.label.as_str(), turn.step);
        let request = http2_request(step)?;
        let client = match step.conn.as_ref().and_then(|name| self.http2.remove(name)) {
            Some(client) => client,
            None => H2Client::connect(self.address(step)?).map_err(|error| error.to_string())?,
        };
        let response = client.request(&request);
        self.responses += usize::from(response.head.is_some());
        record.response(label, &response, self.normal, &turn.case.skip);
        self.check(label, &response, None, step.expect.as_ref(), record);
        if let Some(name) = &step.conn {
            self.http2.insert(name.clone(), client);
        }
        Ok(())
    }

    fn address(&self, step: &Step) -> Result<SocketAddr, String> {
        let to = step.to.as_deref().unwrap_or("main");
        let port = self.ports.get(to).ok_or_else(|| format!("no listener '{to}'"))?.number();
        let ip: IpAddr = if to.ends_with("v6") { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() };
        Ok(SocketAddr::new(ip, port))
    }

    fn connect(&self, step: &Step) -> Result<io::Result<Client>, String> {
        let to = step.to.as_deref().unwrap_or("main");
        if let Some(path) = to.strip_prefix("unix:") {
            return Ok(Client::connect_unix(&self.scratch.join(path)));
        }
        let address = self.address(step)?;
        Ok(match &step.from {
            Some(from) => {
                let from: IpAddr = from.parse().map_err(|_| format!("'{from}' is no address"))?;
                Client::connect_from(SocketAddr::new(from, 0), address)
            }
            None => Client::connect(address),
        })
    }

    fn receive(&mut self, turn: &Turn<'_>, client: &mut Client, record: &mut Record) {
        let (label, step) = (turn.label.as_str(), turn.step);
        let default = Read::Responses(usize::from(step.req.is_some() || step.raw.is_some()));
        let body = match step.read.as_ref().unwrap_or(&default) {
            Read::Responses(count) => {
                self.read_responses(turn, *count, client, record);
                return;
            }
            Read::Named(ReadNamed::Nothing) => return,
            Read::Named(ReadNamed::Close) => client.rest(),
            Read::Bytes { bytes } => client.bytes(*bytes),
            Read::Named(ReadNamed::Head) => {
                let head = client.head().ok();
                let response = Response { head, ..Response::default() };
                record.response(label, &response, self.normal, &[Part::Body]);
                self.check(label, &response, None, step.expect.as_ref(), record);
                return;
            }
        };
        record.add(
            format!("{label}: data"),
            self.normal.apply(&format!("{} ({:?})", body.data.escape_ascii(), body.end)),
        );
        let closed = matches!(step.read, Some(Read::Named(ReadNamed::Close))) && body.end != End::TimedOut;
        self.check(label, &Response { body, ..Response::default() }, Some(closed), step.expect.as_ref(), record);
    }

    fn read_responses(&mut self, turn: &Turn<'_>, count: usize, client: &mut Client, record: &mut Record) {
        let (step, case) = (turn.step, turn.case);
        let to_head = step.to_head || step.req.as_ref().is_some_and(|request| request.starts_with("HEAD "));
        let mut last = Response::default();
        for index in 1..=count {
            let label = if count > 1 { format!("{} response {index}", turn.label) } else { turn.label.clone() };
            last = client.response(to_head);
            self.responses += usize::from(last.head.is_some());
            record.response(&label, &last, self.normal, &case.skip);
        }
        let label = turn.label.as_str();
        let says_close = last
            .head
            .as_ref()
            .and_then(|head| head.get("connection"))
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let wanted = step.expect.as_ref().and_then(|expect| expect.closed);
        let ended = last.head.is_none() || last.body.end != End::Complete;
        let looks = step.conn.is_none() || says_close || wanted.is_some();
        let closed = looks.then(|| {
            let wait = if says_close || wanted == Some(true) { CLOSE_PATIENCE } else { GLANCE };
            ended || client.is_closed_within(wait).unwrap_or(true)
        });
        if let (Some(closed), false) = (closed, case.skip.contains(&Part::Closed)) {
            record.add(format!("{label}: connection"), if closed { "closed" } else { "kept" });
        }
        self.check(label, &last, closed, step.expect.as_ref(), record);
    }

    fn check(
        &self,
        label: &str,
        response: &Response,
        closed: Option<bool>,
        expect: Option<&Expect>,
        record: &mut Record,
    ) {
        let Some(expect) = expect else { return };
        let status = response.status();
        if let Some(wanted) = expect.status.filter(|&wanted| wanted != status) {
            record.fail(format!("{label}: expected status {wanted}, got {status}"));
        }
        let body = text(&response.body.data);
        if let Some(wanted) = expect.body.as_ref().filter(|wanted| !body.contains(*wanted)) {
            record.fail(format!("{label}: expected '{wanted}' in the body '{body}'"));
        }
        let fields = response.head.as_ref().map(|head| head.fields.as_slice()).unwrap_or_default();
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        for wanted in expect.headers.iter().filter(|wanted| !lines.contains(wanted)) {
            record.fail(format!("{label}: expected header '{wanted}' among {lines:?}"));
        }
        for name in expect.lacks.iter().filter(|name| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name)))
        {
            record.fail(format!("{label}: unexpected header '{name}' among {lines:?}"));
        }
        if let (Some(wanted), Some(closed)) = (expect.closed, closed)
            && wanted != closed
        {
            record.fail(format!("{label}: expected the connection to be {}", if wanted { "closed" } else { "kept" }));
        }
    }
}

fn http2_request(step: &Step) -> Result<H2Request, String> {
    let request = step.req.as_ref().ok_or("a step of version 2 takes 'req'")?;
    let (method, path) = request.split_once(' ').ok_or("'req' takes a method and a target")?;
    let chunks = match (&step.body, step.size, &step.chunks) {
        (Some(body), None, None) => vec![body.clone().into_bytes()],
        (None, Some(size), None) => vec![vec![b'x'; size]],
        (None, None, Some(chunks)) => chunks.iter().map(|chunk| chunk.clone().into_bytes()).collect(),
        (None, None, None) => Vec::new(),
        _ => return Err("a step takes one of 'body', 'size' and 'chunks'".into()),
    };
    Ok(H2Request {
        method: method.to_owned(),
        path: path.to_owned(),
        authority: step.host.clone().unwrap_or_else(|| "h.test".to_owned()),
        scheme: "http".to_owned(),
        headers: step.headers.clone(),
        chunks,
        trailers: step.trailers.clone(),
    })
}

fn bytes_of(step: &Step) -> Result<Vec<u8>, String> {
    if let Some(raw) = &step.raw {
        return Ok(raw.clone().into_bytes());
    }
    let Some(request) = &step.req else { return Ok(Vec::new()) };
    let mut head = format!("{request} HTTP/{}\r\n", step.version.as_deref().unwrap_or("1.1"));
    match step.host.as_deref() {
        Some("") => {}
        host => head += &format!("host: {}\r\n", host.unwrap_or("h.test")),
    }
    for line in &step.headers {
        head += &format!("{line}\r\n");
    }
    let body = match (&step.body, step.size, &step.chunks) {
        (Some(body), None, None) => body.clone().into_bytes(),
        (None, Some(size), None) => vec![b'x'; size],
        (None, None, Some(chunks)) => {
            let mut body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
            body += "0\r\n";
            body.extend(step.trailers.iter().map(|line| format!("{line}\r\n")));
            (body + "\r\n").into_bytes()
        }
        (None, None, None) => Vec::new(),
        _ => return Err("a step takes one of 'body', 'size' and 'chunks'".into()),
    };
    if step.chunks.is_some() {
        head += "transfer-encoding: chunked\r\n";
    } else if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    Ok([head.as_bytes(), b"\r\n", &body].concat())
}
