//! One scenario on one program: the server, the process, and what they said.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::origin::Origin;
use nuncio_testkit::port::ReservedPort;
use nuncio_testkit::process::{Program, Proxy};
use nuncio_testkit::xds::{Event, Place, XdsServer, short_type};
use nuncio_tls::spec::{CertificateSpec, ServerSpec};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::record::{Normaliser, Record};
use super::super::{expand, tls};
use super::bootstrap::bootstrap;
use super::scenario::{Mode, Scenario, Transport};
use super::transcript::Transcript;

const POLL: Duration = Duration::from_millis(10);
/// How long a step waits for what it awaits.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client that has nothing more to say is listened to.
const QUIET: Duration = Duration::from_millis(150);
const ORIGINS: &[&str] = &["a", "b"];

/// Statistics that are compared.
const COMPARED: &str = concat!(
    r"(^|\.)(update_(attempt|success|rejected|failure|empty|no_rebuild)|init_fetch_timeout|config_reload|config_fail|",
    r"config_conflict|version|version_text|key_rotation_failed|active_scopes|all_scopes|update_missing|config_not_found)$|",
    r"(^|\.)control_plane\.|^listener_manager\.listener_|",
    r"^cluster_manager\.(cluster_(added|modified|removed|updated)|active_clusters|warming_clusters)|",
    r"^runtime\.num_|^server\.(state|static_unknown_fields|dynamic_unknown_fields)|",
    r"^cluster\.[^.]*\.(membership_(total|healthy)|assignment_\w+)$",
);
/// Of those, what depends on time.
const VOLATILE: &str = r"update_(time|duration)|\.rate_limit_enforced|^cluster\.xds\.|draining|_ms$|^server\.version$";

/// Everything that belongs to a run.
pub struct Stage<'s> {
    pub scenario: &'s Scenario,
    pub mode: Mode,
    _scratch: TempDir,
    pub server: XdsServer,
    pub proxy: Proxy,
    pub record: Record,
    pub transcript: Transcript,
    pub normal: Normaliser,
    pub places: Places,
    /// The last stream with a request, by short type and of all.
    pub streams: BTreeMap<String, usize>,
    pub last: Option<usize>,
    /// Requests that came before a step asked for them, by short type.
    pub ahead: BTreeMap<String, usize>,
    /// How many responses were sent, by short type.
    pub sent: BTreeMap<String, usize>,
    pub connections: BTreeMap<String, Client>,
    _origins: Vec<Origin>,
}

/// The values of placeholders.
pub struct Places {
    ports: BTreeMap<String, ReservedPort>,
    origins: BTreeMap<String, u16>,
    server: u16,
    scratch: PathBuf,
}

impl Places {
    fn new(
        scenario: &Scenario,
        origins: &BTreeMap<String, Origin>,
        server: u16,
        scratch: &TempDir,
    ) -> Result<Self, String> {
        let mut ports = BTreeMap::new();
        for name in port_names(scenario) {
            if let Entry::Vacant(place) = ports.entry(name) {
                place.insert(ReservedPort::new().map_err(|error| error.to_string())?);
            }
        }
        let origins = origins.iter().map(|(name, origin)| (name.clone(), origin.address().port())).collect();
        Ok(Self { ports, origins, server, scratch: scratch.path().to_owned() })
    }

    /// The value of a placeholder.
    pub fn lookup(&self, name: &str) -> Option<String> {
        match name.split_once(':') {
            Some(("port", port)) => Some(self.ports.get(port)?.number().to_string()),
            Some(("origin", origin)) => Some(self.origins.get(origin)?.to_string()),
            Some(("big", size)) => Some("x".repeat(size.parse().ok()?)),
            _ if name == "xds" => Some(self.server.to_string()),
            _ if name == "tls" => tls::directory().ok(),
            _ => (name == "tmp").then(|| self.scratch.display().to_string()),
        }
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> Result<u16, String> {
        self.ports.get(listener).map(ReservedPort::number).ok_or_else(|| format!("there is no listener '{listener}'"))
    }
}

/// Plays `scenario` on `program`.
pub fn run(scenario: &Scenario, mode: Mode, program: &Program) -> Result<Record, String> {
    let mut stage = Stage::new(scenario, mode, program)?;
    let played = stage.play();
    let words = stage.proxy.last_words();
    let words = if stage.read_statistics().is_ok() { words } else { format!("{words}\nthe process is gone") };
    played.map_err(|error| format!("{error}\n{}\n{words}", stage.told()))?;
    stage.listen_on()?;
    stage.transcript.finish(&mut stage.record);
    stage.statistics()?;
    Ok(stage.record)
}

fn start_server(scenario: &Scenario, scratch: &TempDir) -> Result<XdsServer, String> {
    let (place, tls) = match scenario.transport {
        Transport::Tcp => (Place::Tcp, None),
        Transport::Unix => (Place::Unix(scratch.path().join("xds.sock")), None),
        Transport::Tls => {
            let read =
                |file: &str| std::fs::read(PathBuf::from(tls::directory()?).join(file)).map_err(|e| e.to_string());
            let certificates = vec![CertificateSpec::pem(read("server.crt")?, read("server.key")?)];
            let spec = ServerSpec { certificates, alpn_protocols: vec![b"h2".to_vec()], ..ServerSpec::default() };
            (Place::Tcp, Some(spec))
        }
    };
    XdsServer::start_at(place, tls).map_err(|error| format!("management server: {error}"))
}

/// The two origins that are always there, and those of the scenario.
fn start_origins(scenario: &Scenario) -> Result<BTreeMap<String, Origin>, String> {
    let mut scripts = scenario.origins.clone();
    for name in ORIGINS {
        let reply = serde_json::from_value(json!([{"body": name}])).map_err(|error| error.to_string())?;
        scripts.entry((*name).to_owned()).or_insert(reply);
    }
    let start = |(name, script)| Origin::start(script, Gates::default()).map(|origin| (name, origin));
    scripts.into_iter().map(start).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Writes configuration and files, and starts the process.
fn start_proxy(scenario: &Scenario, mode: Mode, program: &Program, places: &Places) -> Result<Proxy, String> {
    let mut text = bootstrap(scenario, mode);
    expand::fill(&mut text, &|name| places.lookup(name))?;
    let text = serde_json::to_vec_pretty(&text).map_err(|error| error.to_string())?;
    let config = places.scratch.join("config.json");
    std::fs::write(&config, text).map_err(|error| error.to_string())?;
    super::steps::write_files(scenario, mode, places)?;
    let program = Program { flags: [&program.flags[..], &scenario.flags].concat(), ..program.clone() };
    let path = config.display().to_string();
    let mut args = vec!["-c", &path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
    args.extend(["--file-flush-interval-msec", "10", "--drain-time-s", "1"]);
    program.spawn(&args, &places.scratch).map_err(|error| error.to_string())
}

/// The names that follow `{{port:` and those of listeners in their short form.
fn port_names(scenario: &Scenario) -> Vec<String> {
    fn walk(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                let names = text.split("{{port:").skip(1).filter_map(|rest| rest.split_once("}}"));
                into.extend(names.map(|(name, _)| name.to_owned()));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, into)),
            Value::Object(entries) => {
                let name = entries.get("port").or_else(|| entries.get("listener")).and_then(Value::as_str);
                into.extend(name.filter(|_| entries.contains_key("listener")).map(str::to_owned));
                entries.values().for_each(|item| walk(item, into));
            }
            _ => {}
        }
    }
    let mut names = Vec::new();
    walk(&scenario.config, &mut names);
    scenario.files.values().for_each(|file| walk(file, &mut names));
    for step in &scenario.steps {
        step.resources.iter().for_each(|resource| walk(resource, &mut names));
        names.extend(step.http.clone());
        walk(&json!(step.text), &mut names);
    }
    names
}

impl<'s> Stage<'s> {
    fn new(scenario: &'s Scenario, mode: Mode, program: &Program) -> Result<Self, String> {
        let fail = |error: std::io::Error| error.to_string();
        let scratch = TempDir::new().map_err(fail)?;
        let server = start_server(scenario, &scratch)?;
        let origins = start_origins(scenario)?;
        let places = Places::new(scenario, &origins, server.port(), &scratch)?;
        let listeners = places.ports.iter().map(|(name, port)| (port.number(), name.clone()));
        let known = places.origins.iter().map(|(name, port)| (*port, format!("origin:{name}")));
        let mut normal = Normaliser::new(
            listeners.chain(known).chain([(server.port(), "xds".to_owned())]).collect(),
            &scratch.path().display().to_string(),
        )?;
        normal.set_masks(&scenario.mask)?;
        let proxy = start_proxy(scenario, mode, program, &places)?;
        Ok(Self {
            scenario,
            mode,
            _scratch: scratch,
            server,
            proxy,
            record: Record::default(),
            transcript: Transcript::default(),
            normal,
            places,
            streams: BTreeMap::new(),
            last: None,
            ahead: BTreeMap::new(),
            sent: BTreeMap::new(),
            connections: BTreeMap::new(),
            _origins: origins.into_values().collect(),
        })
    }

    fn play(&mut self) -> Result<(), String> {
        self.await_admin()?;
        for (index, step) in self.scenario.steps.iter().enumerate() {
            if step.modes.is_empty() || step.modes.contains(&self.mode) {
                self.step(index + 1, step).map_err(|error| format!("step {}: {error}", index + 1))?;
            }
        }
        Ok(())
    }

    fn await_admin(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !self.proxy.find_admin() {
            if Instant::now() > deadline {
                return Err("the admin endpoint does not listen".into());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The transcript so far, for messages.
    fn told(&self) -> String {
        let mut record = self.record.clone();
        self.transcript.finish(&mut record);
        let lines = record.values.iter().chain(&record.notes).map(|(name, value)| format!("  {name} = {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Takes the next event within `patience`.
    pub fn take(&mut self, patience: Duration) -> Option<Event> {
        let event = self.server.next_event(patience)?;
        if let Event::Request(request) = &event {
            let kind = short_type(request.type_url()).to_owned();
            *self.ahead.entry(kind.clone()).or_default() += 1;
            self.streams.insert(kind, request.stream);
            self.last = Some(request.stream);
        }
        // A REST stream is one request: the request says all.
        let is_poll = matches!(&event, Event::Opened { path, .. } if path.starts_with("/v3/"));
        if !is_poll {
            self.transcript.event(&event, &mut self.record, &self.normal);
        }
        Some(event)
    }

    /// Takes what still comes, until nothing does for a while.
    pub fn listen_on(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        // A client that polls never ends.
        while self.mode != Mode::Rest && self.take(QUIET).is_some() {
            if Instant::now() > deadline {
                return Err("the client does not come to rest".into());
            }
        }
        Ok(())
    }

    /// All statistics, text readouts included.
    pub fn read_statistics(&self) -> Result<BTreeMap<String, String>, String> {
        let text = self.proxy.admin_text("/stats").map_err(|error| error.to_string())?;
        let line = |line: &str| {
            line.split_once(": ").map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    fn statistics(&mut self) -> Result<(), String> {
        let regex = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let compared = regex(&[&[COMPARED.to_owned()][..], &self.scenario.also].concat().join("|"))?;
        let ignored = regex(&[&[VOLATILE.to_owned()][..], &self.scenario.ignore].concat().join("|"))?;
        let read = || -> Result<BTreeMap<String, String>, String> {
            let mut values = self.read_statistics()?;
            values.retain(|name, value| {
                let value = value.as_str();
                !matches!(value, "0" | "")
                    && compared.is_match(name)
                    && !ignored.is_match(name)
                    && !value.starts_with("P0(")
            });
            Ok(values)
        };
        let deadline = Instant::now() + QUIET * 10;
        let mut last = read()?;
        while Instant::now() < deadline {
            thread::sleep(POLL);
            let next = read()?;
            if next == last {
                break;
            }
            last = next;
        }
        // Statistics of a listener have its address in their names.
        let ports = regex(r"_\d{4,5}\b")?;
        for (name, value) in last {
            let value = self.normal.apply(&value);
            let name = ports.replace_all(&name, "_<port>").into_owned();
            self.record.add(format!("stat {}", self.normal.apply(&name)), value);
        }
        Ok(())
    }
}
