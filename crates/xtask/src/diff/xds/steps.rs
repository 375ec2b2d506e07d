//! The steps of a scenario.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::client::{Client, Response as HttpResponse};
use nuncio_testkit::xds::{Event, Resource, Response, StreamKind, short_type, type_url};
use serde_json::Value;

use super::super::{expand, tls};
use super::play::{PATIENCE, Places, Stage};
use super::resources::{bytes, resource};
use super::scenario::{Mode, Scenario, Step};

const POLL: Duration = Duration::from_millis(10);

/// Writes the files that are there before the start.
pub fn write_files(scenario: &Scenario, mode: Mode, places: &Places) -> Result<(), String> {
    for (name, content) in &scenario.files {
        let text = match content {
            Value::String(text) => expand::fill_text(text, &|name| places.lookup(name))?,
            other => {
                let step: Step = serde_json::from_value(other.clone()).map_err(|error| format!("{name}: {error}"))?;
                file_text(&step, mode, places)?
            }
        };
        write_file(&path(places, name), &text)?;
    }
    Ok(())
}

fn path(places: &Places, name: &str) -> PathBuf {
    PathBuf::from(places.lookup("tmp").unwrap_or_default()).join(name)
}

/// Writes beside the file and renames, so that a reader sees all of it or nothing.
fn write_file(path: &std::path::Path, text: &str) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(fail)?;
    }
    let beside = path.with_extension("beside");
    std::fs::write(&beside, text).map_err(fail)?;
    std::fs::rename(&beside, path).map_err(fail)
}

/// The response that a step describes.
fn response(step: &Step, nonce: &str, mode: Mode, places: &Places) -> Result<Response, String> {
    let kind = step.send.as_deref().unwrap_or_default();
    let made = |spec: &Value| resource(spec, &step.version, mode, &|name| places.lookup(name));
    let resources = step.resources.iter().map(made).collect::<Result<Vec<Resource>, _>>()?;
    Ok(Response {
        type_url: type_url(step.claims.as_deref().unwrap_or(kind)),
        removed: step.removed.clone(),
        control_plane: step.control_plane.clone(),
        ..Response::new(kind, &step.version, nonce, resources)
    })
}

fn file_text(step: &Step, mode: Mode, places: &Places) -> Result<String, String> {
    match &step.text {
        Some(text) => expand::fill_text(text, &|name| places.lookup(name)),
        None => {
            let bytes = response(step, "", mode, places)?.encode(StreamKind::Rest);
            String::from_utf8(bytes).map_err(|error| error.to_string())
        }
    }
}

/// The request of a step.
fn head_of(step: &Step) -> String {
    let mut head = format!("GET {} HTTP/1.1\r\n", step.path.as_deref().unwrap_or("/"));
    head += &format!("host: {}\r\n", step.host.as_deref().unwrap_or("h.test"));
    for line in &step.headers {
        head += &format!("{line}\r\n");
    }
    head + "\r\n"
}

impl Stage<'_> {
    /// Does a step.
    pub fn step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        if let Some(types) = &step.expect {
            if self.mode == Mode::Files { Ok(()) } else { self.expect(types.list()) }
        } else if let (Some(kind), None) = (&step.send, &step.write) {
            self.send(kind, step)
        } else if step.raw.is_some() || step.close.is_some() || step.reset.is_some() {
            self.stream_step(step)
        } else if step.go_away || step.cut || step.stop || step.listen {
            self.server_step(step)
        } else if let Some(kind) = &step.ended {
            self.await_ended(kind)
        } else if step.open.is_some() || step.closed.is_some() || step.begin.is_some() || step.finish.is_some() {
            self.connection_step(number, step)
        } else if step.http.is_some() {
            self.http(number, step)
        } else if let Some(target) = &step.admin {
            self.admin(number, target, step)
        } else if !step.stats.is_empty() {
            self.await_stats(step)
        } else if let Some(wanted) = step.ready {
            self.await_ready(wanted)
        } else if step.quiet {
            self.listen_on()
        } else {
            self.file_step(step)
        }
    }

    /// What is done with a connection that has a name.
    fn connection_step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let fail = |error: std::io::Error| error.to_string();
        if let Some(name) = step.open.as_ref().or(step.begin.as_ref()) {
            let listener = step.http.as_deref().ok_or("'open' and 'begin' need 'http'")?;
            let mut client = self.connect(listener)?;
            if step.begin.is_some() {
                client.send(head_of(step).as_bytes()).map_err(fail)?;
            }
            self.connections.insert(name.clone(), client);
            return Ok(());
        }
        let name = step.closed.as_ref().or(step.finish.as_ref()).ok_or("the step names no connection")?;
        let client = self.connections.get_mut(name).ok_or("there is no such connection")?;
        if step.closed.is_some() {
            let closed = client.is_closed_within(PATIENCE).map_err(fail)?;
            return if closed { Ok(()) } else { Err("the connection stays open".into()) };
        }
        let response = client.response(false);
        let text = format!("{} {}", response.status(), String::from_utf8_lossy(&response.body.data));
        self.record.add(format!("step {number}: http"), self.normal.apply(text.trim()));
        Ok(())
    }

    fn await_ready(&self, wanted: bool) -> Result<(), String> {
        let is_ready = |proxy: &nuncio_testkit::process::Proxy| {
            proxy.admin("GET", "/ready").is_ok_and(|response| (response.status() == 200) == wanted)
        };
        let right = self.proxy.await_that(is_ready);
        if right { Ok(()) } else { Err(format!("/ready does not become {wanted}")) }
    }

    /// A request that came before it was asked for counts.
    fn expect(&mut self, mut wanted: Vec<String>) -> Result<(), String> {
        let from = self.transcript.len();
        let is_one = wanted.len() == 1;
        loop {
            wanted.retain(|kind| match self.ahead.get_mut(kind.as_str()) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            });
            if wanted.is_empty() {
                break;
            }
            if self.take(PATIENCE).is_none() {
                return Err(format!("no request came for {wanted:?}"));
            }
        }
        if !is_one {
            self.transcript.sort_from(from);
        }
        Ok(())
    }

    fn send(&mut self, kind: &str, step: &Step) -> Result<(), String> {
        let count = self.sent.entry(kind.to_owned()).or_default();
        *count += 1;
        let nonce = step.nonce.clone().unwrap_or_else(|| format!("{}-{count}", short_type(kind)));
        let response = response(step, &nonce, self.mode, &self.places)?;
        let names = response.resources.iter().map(|resource| &resource.name).chain(&response.removed);
        names.for_each(|name| self.transcript.sent(name));
        if self.mode == Mode::Files {
            let text = String::from_utf8(response.encode(StreamKind::Rest)).map_err(|error| error.to_string())?;
            return write_file(&path(&self.places, &format!("{kind}.json")), &text);
        }
        let stream = step.stream.or_else(|| self.streams.get(step.of.as_deref().unwrap_or(kind)).copied());
        let stream = stream.ok_or_else(|| format!("no stream has asked for {kind}"))?;
        self.server.respond(stream, &response).map_err(|error| error.to_string())
    }

    fn stream_of(&self, step: &Step) -> Result<usize, String> {
        let named = step.of.as_ref().map_or(self.last, |kind| self.streams.get(kind).copied());
        step.stream.or(named).ok_or_else(|| "there is no such stream".to_owned())
    }

    fn stream_step(&mut self, step: &Step) -> Result<(), String> {
        let stream = self.stream_of(step)?;
        let done = match (&step.raw, step.close, step.reset) {
            (Some(hex), ..) => self.server.respond_bytes(stream, bytes(hex)?),
            (None, Some(status), _) => self.server.close(stream, status, step.text.as_deref().unwrap_or_default()),
            (None, None, Some(code)) => self.server.reset(stream, code),
            (None, None, None) => Ok(()),
        };
        done.map_err(|error| error.to_string())
    }

    fn server_step(&mut self, step: &Step) -> Result<(), String> {
        if step.stop {
            self.server.stop_listening();
        }
        if step.go_away {
            self.server.go_away();
        }
        if step.cut {
            self.server.cut();
        }
        if step.listen {
            self.server.listen_again().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn await_ended(&mut self, kind: &str) -> Result<(), String> {
        let stream = self.streams.get(kind).copied().ok_or_else(|| format!("no stream has asked for {kind}"))?;
        loop {
            match self.take(PATIENCE) {
                Some(Event::Ended { stream: ended, .. }) if ended == stream => return Ok(()),
                Some(_) => {}
                None => return Err(format!("the stream of {kind} does not end")),
            }
        }
    }

    fn connect(&self, listener: &str) -> Result<Client, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.places.port(listener)?));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(address) {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    fn http(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.ask(step)?;
            let right = step.status.is_none_or(|wanted| wanted == status)
                && step.body.as_ref().is_none_or(|wanted| body.contains(wanted));
            if right || step.on.is_some() || Instant::now() > deadline {
                self.record
                    .add(format!("step {number}: http"), self.normal.apply(&format!("{status} {}", body.trim())));
                if !right {
                    self.record.fail(format!("step {number}: got {status} {body}"));
                }
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }

    /// Status, 0 without a response, and body.
    fn ask(&mut self, step: &Step) -> Result<(u16, String), String> {
        let listener = step.http.as_deref().unwrap_or_default();
        let text = |response: &HttpResponse| String::from_utf8_lossy(&response.body.data).into_owned();
        if let Some(name) = &step.tls {
            let url = format!("https://{name}{}", step.path.as_deref().unwrap_or("/"));
            let response = tls::curl(self.places.port(listener)?, &[url])?;
            return Ok((response.status(), text(&response)));
        }
        let head = head_of(step);
        let address = SocketAddr::from(([127, 0, 0, 1], self.places.port(listener)?));
        let mut new = match &step.on {
            Some(_) => None,
            None => match Client::connect(address) {
                Ok(client) => Some(client),
                Err(_) => return Ok((0, String::new())),
            },
        };
        let named = step.on.as_ref().and_then(|name| self.connections.get_mut(name));
        let client = named.or(new.as_mut()).ok_or("there is no such connection")?;
        // What a connection that ends has taken shows in the response.
        let _ = client.send(head.as_bytes());
        let response = client.response(false);
        Ok((response.status(), text(&response)))
    }

    fn admin(&mut self, number: usize, target: &str, step: &Step) -> Result<(), String> {
        let method = step.method.as_deref().unwrap_or("GET");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.proxy.admin(method, target).map_err(|error| error.to_string())?;
            let mut text = String::from_utf8_lossy(&answer.body.data).into_owned();
            if let Ok(mut json) = serde_json::from_str::<Value>(&text) {
                hide_times(&mut json);
                // The keys of maps come in any order.
                let part = step.pointer.as_ref().map_or(Some(&json), |pointer| json.pointer(pointer));
                text = part.map(Value::to_string).unwrap_or_default();
            }
            let right = step.body.as_ref().is_none_or(|wanted| text.contains(wanted));
            if right || Instant::now() > deadline {
                if !step.unrecorded {
                    let text = self.normal.apply(text.trim());
                    self.record.add(format!("step {number}: {target}"), format!("{} {text}", answer.status()));
                }
                if !right {
                    self.record.fail(format!("step {number}: {target} says: {text}"));
                }
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }

    fn await_stats(&mut self, step: &Step) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let values = self.read_statistics()?;
            let value = |name: &String| values.get(name).map_or("0", String::as_str);
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let wrong: Vec<String> = step
                .stats
                .iter()
                .filter(|(name, wanted)| value(name) != text(wanted))
                .map(|(name, wanted)| format!("{name} is {}, not {wanted}", value(name)))
                .collect();
            if wrong.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(wrong.join("; "));
            }
            thread::sleep(POLL);
        }
    }

    fn file_step(&mut self, step: &Step) -> Result<(), String> {
        if let Some(name) = &step.write {
            let text = file_text(step, self.mode, &self.places)?;
            return write_file(&path(&self.places, name), &text);
        }
        let fail = |error: std::io::Error| error.to_string();
        if let Some((from, to)) = &step.rename {
            return std::fs::rename(path(&self.places, from), path(&self.places, to)).map_err(fail);
        }
        if let Some((target, name)) = &step.link {
            let name = path(&self.places, name);
            let beside = name.with_extension("beside");
            symlink(target, &beside).map_err(fail)?;
            return std::fs::rename(beside, name).map_err(fail);
        }
        Err("the step does nothing".into())
    }
}

/// Replaces what no two runs have in common.
fn hide_times(json: &mut Value) {
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "last_updated" | "last_update_attempt" => *value = Value::from("<time>"),
                    _ => hide_times(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_times),
        _ => {}
    }
}
