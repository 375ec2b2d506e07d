//! One group of cases on one program: origins, process, and what every case left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::access_log::LogTail;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::origin::{Origin, Script};
use nuncio_testkit::port::ReservedPort;
use nuncio_testkit::process::{Program, Proxy};
use nuncio_testkit::stats::{self, Values};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::case::{Case, Group, OriginSpec, Part, Step, Validate};
use super::expand;
use super::record::{Normaliser, Record};
use super::steps::Player;
use super::tls;

const POLL: Duration = Duration::from_millis(10);
const SETTLE: Duration = Duration::from_millis(1500);

/// Counters that depend on time, on sizes of volatile values, or on the admin traffic of the run itself.
const VOLATILE: &str = concat!(
    r"_bytes_|^(http|listener)\.admin\.|^listener\..*worker_|^(server|main_thread|workers|filesystem|runtime|dns)\.",
    r"|^(listener_manager|cluster_manager|thread_local_cluster_manager|access_logs)\.",
    r"|\.update_(attempt|success|no_rebuild)$|\.health_check\.(attempt|success|failure|network_failure)$|connections_accepted",
);

/// The records of the cases that ran, by name.
pub type Records = BTreeMap<String, Record>;

/// The same, where every case had a process of its own and may have failed alone.
pub type RecordsApart = BTreeMap<String, Result<Record, String>>;

/// Everything that belongs to a run of a group.
struct Bench {
    scratch: TempDir,
    ports: BTreeMap<String, ReservedPort>,
    origins: BTreeMap<String, Origin>,
    gates: Gates,
}

/// Runs the cases of `document` whose names `wanted` lets through.
pub fn run(document: &Value, program: &Program, wanted: &dyn Fn(&str) -> bool) -> Result<Records, String> {
    let plan = parse(document.clone())?;
    let mut bench = Bench::new(&plan)?;
    let mut records = Records::new();
    for case in plan.cases.iter().filter(|case| wanted(&case.name)) {
        if let Some(validate) = &case.validate {
            records.insert(case.name.clone(), bench.validate(validate, &plan, program)?);
        }
    }
    if plan.cases.iter().any(|case| case.validate.is_none() && wanted(&case.name)) {
        bench.serve(document, &plan, program, wanted, &mut records)?;
    }
    Ok(records)
}

/// Runs each of the cases `names` in a process of its own, with those listeners only that it uses. It costs a start per case, and
/// keeps what one case is about from spoiling the others.
pub fn run_apart(document: &Value, program: &Program, names: &[String]) -> RecordsApart {
    let alone = |name: &String| {
        let mut records = run(&alone(document, name), program, &|other| other == name)?;
        records.remove(name).ok_or_else(|| "it did not run".to_owned())
    };
    names.iter().map(|name| (name.clone(), alone(name))).collect()
}

/// `document` with one case only, and the listeners that its steps connect to.
fn alone(document: &Value, name: &str) -> Value {
    let mut document = document.clone();
    let mut used = Vec::new();
    if let Some(cases) = document["cases"].as_array_mut() {
        cases.retain(|case| case["name"] == name);
        let steps = cases.iter().filter_map(|case| case["steps"].as_array()).flatten();
        used.extend(steps.map(|step| step["to"].as_str().unwrap_or("main").to_owned()));
    }
    if let Some(listeners) = document.pointer_mut("/config/listeners").and_then(Value::as_object_mut) {
        let uses = |name: &String, listener: &Value| {
            let socket = |to: &String| to.strip_prefix("unix:").is_some_and(|path| listener.to_string().contains(path));
            used.iter().any(|to| to == name || socket(to))
        };
        listeners.retain(|name, listener| uses(name, listener));
    }
    document
}

/// Reads a group from a document, and checks what serde can't.
pub fn parse(document: Value) -> Result<Group, String> {
    let name = document.pointer("/cases/0/name").and_then(Value::as_str).unwrap_or("?").to_owned();
    let group: Group =
        serde_json::from_value(document).map_err(|error| format!("in the group of case '{name}': {error}"))?;
    for case in &group.cases {
        let steps = case.steps.iter().map(super::case::StepSpec::full);
        let expects = |step: Step| step.stat.is_some() || step.expect.is_some_and(|expect| !expect.is_empty());
        let asserts = !case.expect.is_empty() || steps.into_iter().any(expects);
        if case.validate.is_none() && !asserts {
            return Err(format!("case '{}' expects nothing: it could pass by doing nothing", case.name));
        }
    }
    Ok(group)
}

impl Bench {
    fn new(plan: &Group) -> Result<Self, String> {
        let gates = Gates::default();
        let mut origins = BTreeMap::new();
        for (name, spec) in &plan.origins {
            let origin = match spec {
                OriginSpec::Refuse { .. } => Origin::refusing(),
                OriginSpec::Play(script) => Origin::start(script.clone(), gates.clone()),
            };
            origins.insert(name.clone(), origin.map_err(|error| format!("origin '{name}': {error}"))?);
        }
        let scratch = TempDir::new().map_err(|error| error.to_string())?;
        Ok(Self { scratch, ports: BTreeMap::new(), origins, gates })
    }

    /// The value of a placeholder.
    fn lookup(&self, name: &str) -> Option<String> {
        match name.split_once(':') {
            Some(("port", port)) => Some(self.ports.get(port)?.number().to_string()),
            Some(("origin", origin)) => Some(self.origins.get(origin)?.address().port().to_string()),
            Some(("big", size)) => Some("x".repeat(size.parse().ok()?)),
            Some(("lines", count)) => {
                let count: usize = count.parse().ok()?;
                Some((1..=count).map(|number| format!("x-{number}: {number}\r\n")).collect())
            }
            _ if name == "tls" => tls::directory().ok(),
            _ => (name == "tmp").then(|| self.scratch.path().display().to_string()),
        }
    }

    fn reserve(&mut self, names: &[String]) -> Result<(), String> {
        for name in names {
            if !self.ports.contains_key(name) {
                let port = if name.ends_with("v6") { ReservedPort::v6() } else { ReservedPort::new() };
                self.ports.insert(name.clone(), port.map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }

    /// Writes the expanded configuration to a file.
    fn write_config(&mut self, compact: &Value, plan: &Group) -> Result<std::path::PathBuf, String> {
        let origins: Vec<String> = plan.origins.keys().cloned().collect();
        let mut expanded = expand::expand(compact, &origins)?;
        self.reserve(&expanded.listeners)?;
        self.reserve(&named_ports(&expanded.config.to_string()))?;
        expand::fill(&mut expanded.config, &|name| self.lookup(name))?;
        let path = self.scratch.path().join("config.json");
        let text = serde_json::to_string_pretty(&expanded.config).map_err(|error| error.to_string())?;
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn validate(&mut self, validate: &Validate, plan: &Group, program: &Program) -> Result<Record, String> {
        let path = match (&validate.config, &validate.text) {
            (Some(config), None) => self.write_config(config, plan)?,
            (None, Some(text)) => {
                let path = self.scratch.path().join("config.yaml");
                let text = expand::fill_text(text, &|name| self.lookup(name))?;
                std::fs::write(&path, text).map_err(|error| error.to_string())?;
                path
            }
            _ => return Err("'validate' takes 'config' or 'text'".into()),
        };
        let verdict = program.validate(&path).map_err(|error| error.to_string())?;
        let mut record = Record::default();
        record.add("accepted", verdict.accepted.to_string());
        if verdict.accepted != validate.accepted {
            record.fail(format!("accepted: {}\n{}", verdict.accepted, verdict.output.trim()));
        }
        Ok(record)
    }

    fn serve(
        &mut self,
        document: &Value,
        plan: &Group,
        program: &Program,
        wanted: &dyn Fn(&str) -> bool,
        records: &mut Records,
    ) -> Result<(), String> {
        let config = self.write_config(&plan.config, plan)?;
        let mut filled = document.clone();
        filled["config"] = Value::Null;
        if let Some(origins) = filled.get_mut("origins") {
            expand::fill(origins, &|name| self.lookup(name))?;
        }
        for case in filled["cases"].as_array_mut().into_iter().flatten() {
            if let Some(case) = case.as_object_mut() {
                case.remove("validate");
            }
            expand::fill(case, &|name| self.lookup(name))?;
        }
        let group: Group = serde_json::from_value(filled).map_err(|error| error.to_string())?;
        let program = Program { flags: [program.flags.clone(), plan.flags.clone()].concat(), ..program.clone() };
        let mut proxy = program.start(&config, self.scratch.path()).map_err(|error| error.to_string())?;
        let mut normal = self.normaliser()?;
        let mut log = LogTail::new(self.scratch.path().join("access.log"));
        for (case, original) in group.cases.iter().zip(&plan.cases) {
            if original.validate.is_none() && wanted(&case.name) {
                normal.set_masks(&case.mask)?;
                let record = self.case(case, &group, &mut proxy, &normal, &mut log);
                let record =
                    record.map_err(|error| format!("case '{}': {error}\n{}", case.name, proxy.last_words()))?;
                records.insert(case.name.clone(), record);
            }
        }
        Ok(())
    }

    fn normaliser(&self) -> Result<Normaliser, String> {
        let listeners = self.ports.iter().map(|(name, port)| (port.number(), name.clone()));
        let origins = self.origins.iter().map(|(name, origin)| (origin.address().port(), format!("origin:{name}")));
        Normaliser::new(listeners.chain(origins).collect(), &self.scratch.path().display().to_string())
    }

    fn case(
        &mut self,
        case: &Case,
        group: &Group,
        proxy: &mut Proxy,
        normal: &Normaliser,
        log: &mut LogTail,
    ) -> Result<Record, String> {
        for (name, origin) in &self.origins {
            origin.play(script_of(name, case, group));
        }
        log.take();
        let before = settled_counters(proxy)?;
        let mut record = Record::default();
        let mut player = Player::new(&self.ports, &self.origins, &self.gates, self.scratch.path(), normal);
        for (index, step) in case.steps.iter().enumerate() {
            player.play(index + 1, &step.full(), case, proxy, &mut record)?;
        }
        let responses = player.response_count();
        drop(player);
        self.gates.reset();
        let lines = await_lines(log, case.log_lines.unwrap_or(responses));
        let has_ended = case.steps.iter().any(|step| step.full().exit.is_some());
        let after = if has_ended { Values::new() } else { settled_counters(proxy)? };
        let lines = [lines, log.take()].concat();
        // The proxy closes connections in the middle of requests: the origins must have noticed.
        for origin in self.origins.values() {
            // What still waits for a body then is recorded as it is.
            let _ = origin.await_quiet(SETTLE);
        }
        self.conclude(case, &mut record, normal, (&lines, &moved(&before, &after, case)?));
        Ok(record)
    }

    fn conclude(&self, case: &Case, record: &mut Record, normal: &Normaliser, (lines, moved): (&[String], &Moved)) {
        let mut lines: Vec<String> = lines.iter().map(|line| normal.apply(line)).collect();
        if case.unordered {
            lines.sort();
        }
        if !case.skip.contains(&Part::Log) {
            for (index, line) in lines.iter().enumerate() {
                record.add(format!("log {}", index + 1), line);
            }
        }
        if !case.skip.contains(&Part::Upstream) {
            for (name, origin) in &self.origins {
                let mut seen = origin.seen();
                if case.unordered {
                    seen.sort_by(|a, b| (&a.head.start, &a.body.data).cmp(&(&b.head.start, &b.body.data)));
                }
                if !seen.is_empty() {
                    record.seen(name, &seen, normal, !case.unordered && !case.skip.contains(&Part::Reuse));
                }
            }
        }
        if !case.skip.contains(&Part::Counters) {
            for (name, delta) in moved {
                record.add(format!("counter {name}"), format!("{delta:+}"));
            }
        }
        self.check(case, record, &lines, moved);
    }

    fn check(&self, case: &Case, record: &mut Record, lines: &[String], moved: &Moved) {
        let expect = &case.expect;
        for (index, wanted) in expect.log.iter().enumerate() {
            match lines.get(index) {
                Some(line) if line.contains(wanted) => {}
                Some(line) => record.fail(format!("log line {}: expected '{wanted}' in '{line}'", index + 1)),
                None => record.fail(format!("log line {}: there is none; expected '{wanted}'", index + 1)),
            }
        }
        for unwanted in &expect.log_lacks {
            if let Some(line) = lines.iter().find(|line| line.contains(unwanted)) {
                record.fail(format!("log: unexpected '{unwanted}' in '{line}'"));
            }
        }
        for (name, &count) in &expect.upstream {
            let seen = self.origins.get(name).map_or(0, |origin| origin.seen().len());
            if seen != count {
                record.fail(format!("origin {name}: expected {count} requests, saw {seen}"));
            }
        }
        for (name, wanted) in &expect.saw {
            let text = self.seen_text(name);
            for wanted in wanted.iter().filter(|wanted| !text.contains(*wanted)) {
                record.fail(format!("origin {name}: expected '{wanted}' in:\n{text}"));
            }
        }
        for (name, unwanted) in &expect.saw_not {
            let text = self.seen_text(name);
            for unwanted in unwanted.iter().filter(|unwanted| text.contains(*unwanted)) {
                record.fail(format!("origin {name}: unexpected '{unwanted}' in:\n{text}"));
            }
        }
        for (name, &wanted) in &expect.counters {
            let delta = moved.get(name).copied().unwrap_or(0);
            if delta != wanted {
                record.fail(format!("counter {name}: expected {wanted:+}, got {delta:+}; moved: {moved:?}"));
            }
        }
    }

    fn seen_text(&self, origin: &str) -> String {
        let mut text = String::new();
        for seen in self.origins.get(origin).map(Origin::seen).unwrap_or_default() {
            text += &format!("{}\n", seen.head.start);
            for (name, value) in seen.head.fields.iter().chain(&seen.body.trailers) {
                text += &format!("{name}: {value}\n");
            }
            text += &format!("{}\n", seen.body.data.escape_ascii());
        }
        text
    }
}

type Moved = BTreeMap<String, i128>;

/// The names in `{{port:name}}` of `text`.
fn named_ports(text: &str) -> Vec<String> {
    text.split("{{port:").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.to_owned())).collect()
}

fn script_of(name: &str, case: &Case, group: &Group) -> Script {
    match (case.script.get(name), group.origins.get(name)) {
        (Some(script), _) | (None, Some(OriginSpec::Play(script))) => script.clone(),
        _ => Script::default(),
    }
}

/// The counters that are the same in every run.
fn stable(values: &Values) -> Values {
    static VOLATILE_NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(VOLATILE).ok());
    let is_volatile = |name: &String| VOLATILE_NAMES.as_ref().is_none_or(|pattern| pattern.is_match(name));
    values.iter().filter(|(name, _)| !is_volatile(name)).map(|(name, value)| (name.clone(), *value)).collect()
}

fn moved(before: &Values, after: &Values, case: &Case) -> Result<Moved, String> {
    let mut moved = stats::moved(before, after);
    if !case.ignore_counters.is_empty() {
        let ignored = Regex::new(&case.ignore_counters.join("|")).map_err(|error| error.to_string())?;
        moved.retain(|name, _| !ignored.is_match(name));
    }
    Ok(moved)
}

/// Waits for at least `count` lines, for a while: a line is written when the stream ends, which may be after the response.
fn await_lines(log: &mut LogTail, count: usize) -> Vec<String> {
    let deadline = Instant::now() + SETTLE;
    let mut lines = log.take();
    while lines.len() < count && Instant::now() < deadline {
        thread::sleep(POLL);
        lines.extend(log.take());
    }
    lines
}

/// The counters once nothing is active any more and two readings agree. What stays active is given up on after a while.
fn settled_counters(proxy: &Proxy) -> Result<Values, String> {
    let deadline = Instant::now() + SETTLE;
    let active = "/stats?filter=(downstream_cx|downstream_rq|upstream_rq)_active$";
    while Instant::now() < deadline {
        let gauges = stats::parse(&proxy.admin_text(active).map_err(|error| error.to_string())?);
        if gauges.iter().all(|(name, &value)| value == 0 || name.contains("admin")) {
            break;
        }
        thread::sleep(POLL);
    }
    let read = || proxy.counters().map(|values| stable(&values)).map_err(|error| error.to_string());
    let mut last = read()?;
    while Instant::now() < deadline {
        thread::sleep(POLL);
        let next = read()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

/// The configuration that a document expands to, placeholders kept; for `--print-config`.
pub fn expanded(document: &Value) -> Result<Value, String> {
    let plan = parse(document.clone())?;
    let origins: Vec<String> = plan.origins.keys().cloned().collect();
    Ok(json!(expand::expand(&plan.config, &origins)?.config))
}

/// Whether `path` holds a case file.
pub fn is_case_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml")
        && path.file_name().is_some_and(|name| name != "accepted.yaml")
}
