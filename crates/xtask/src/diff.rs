//! `cargo xtask diff`: Envoy is the oracle. It starts Envoy and Nuncio with the same configuration, sends both the same
//! requests, and compares status, headers, body, what the upstream saw, access-log lines, and the counters that moved.
//!
//! # Adding a case
//!
//! Put it into a YAML file below `tests/diff/<feature>/`. A document of a file is a group: one configuration, on which its
//! cases run one after another in one process. Several documents, separated by `---`, are several groups.
//!
//! ```yaml
//! config:                      # compact; diff/expand.rs says what it may hold
//!   routes:
//!     - {prefix: /gone, status: 410, body: gone}
//!     - {prefix: /, cluster: a}
//! origins:
//!   a: [{status: 503, times: 1}, {body: fine}]   # the script: testkit's origin/script.rs; {refuse: true}; {tcp: [...]}
//! cases:
//!   - name: a request and its response
//!     script: {a: [{status: 404}]}               # this case only
//!     steps:                                     # diff/case.rs says what a step may be
//!       - GET /gone
//!       - {req: POST /x, headers: ["a: b"], body: hi, expect: {status: 404}}
//!       - {raw: "GET / HTTP/1.1\r\n\r\n", expect: {status: 400, closed: true}}
//!     expect: {upstream: {a: 1}}                 # so that the case can't degenerate; every case needs one expectation
//! ```
//!
//! Everything is compared without being named; `skip`, `mask`, `ignore_counters` and `unordered` take out what timing decides.
//! Write it with `cargo xtask diff --only envoy --case <text> --verbose`, which shows what Envoy did. A difference that is meant goes into
//! `tests/diff/accepted.yaml` with its reason.

mod accepted;
mod case;
mod compare;
mod envoy;
mod expand;
mod names;
mod record;
mod report;
mod session;
mod steps;
mod tls;
mod validate;
mod xds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use clap::ValueEnum;
use nuncio_testkit::process::Program;
use serde_json::Value;

use accepted::Accepted;
use report::{CaseResult, Outcome};

/// Arguments of `cargo xtask diff`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs cases only whose `file: name` contains this.
    #[arg(long)]
    case: Option<String>,
    /// Runs one program only, and checks the expectations of the cases on it.
    #[arg(long)]
    only: Option<Side>,
    /// Prints everything that was recorded.
    #[arg(long)]
    verbose: bool,
    /// The Nuncio to run; by default the newest of target/release and target/debug.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// The Envoy to run; by default that of NUNCIO_ENVOY, that on the path, or the wheel of PyPI.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where the case files are.
    #[arg(long, default_value = "tests/diff")]
    cases: PathBuf,
    /// Directories of configurations to validate with both.
    #[arg(long, default_values = ["examples", "../shared/acceptance/envoy"])]
    configs: Vec<PathBuf>,
    /// How many groups run at the same time.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Prints the expanded configurations of the matching groups and runs nothing.
    #[arg(long)]
    print_config: bool,
    /// Runs the scenarios of tests/diff/xds with a scripted management server instead of the cases.
    #[arg(long)]
    xds: bool,
}

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The oracle.
    Envoy,
    /// The program under test.
    Nuncio,
}

/// The programs of this run.
struct Programs {
    envoy: Option<Program>,
    nuncio: Option<Program>,
}

/// A document of a case file.
struct Document {
    file: String,
    value: Value,
}

/// Runs everything. `true` when nothing differs.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|error| error.to_string())?;
    if arguments.xds {
        return xds::run(arguments, &root);
    }
    let accepted = Accepted::load(&root.join(&arguments.cases).join("accepted.yaml"))?;
    let documents = load(&root.join(&arguments.cases))?;
    if arguments.print_config {
        return print_configs(&documents, arguments);
    }
    let programs = Programs::find(arguments, &root)?;
    let results = run_all(&documents, &programs, arguments)?;
    let (results, flaky) = again(results, &documents, &programs, arguments)?;
    let summary = report::print(&results, &accepted, arguments.verbose);
    for name in &flaky {
        println!("passed only when run again: {name}");
    }
    if arguments.case.is_some() {
        return Ok(summary);
    }
    let (directories, missing): (Vec<PathBuf>, Vec<PathBuf>) =
        arguments.configs.iter().map(|directory| root.join(directory)).partition(|directory| directory.is_dir());
    for directory in &missing {
        println!("SKIPPED: there are no configurations at {}", directory.display());
    }
    let lines = validate::table(&directories, programs.envoy.as_ref(), programs.nuncio.as_ref(), &accepted)?;
    validate::print(&lines);
    let unused = if arguments.only.is_none() { accepted.unused(missing.is_empty()) } else { Vec::new() };
    for rule in &unused {
        println!("accepted.yaml: nothing needs the rule for {rule}");
    }
    Ok(summary && unused.is_empty() && lines.iter().all(|line| line.right))
}

impl Programs {
    fn find(arguments: &Arguments, root: &Path) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let program = |binary| Program { binary, flags: Vec::new() };
        let wants = |side| arguments.only.is_none_or(|only| only == side);
        let envoy = wants(Side::Envoy).then(|| envoy::find(arguments.envoy.as_deref(), &target.join("envoy-1.40.0")));
        let nuncio = wants(Side::Nuncio).then(|| find_nuncio(arguments.nuncio.as_deref(), &target));
        Ok(Self { envoy: envoy.transpose()?.map(program), nuncio: nuncio.transpose()?.map(program) })
    }
}

/// The Nuncio to run: the one given, or the newest that was built.
pub fn find_nuncio(given: Option<&Path>, target: &Path) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let built = ["release", "debug"].map(|profile| target.join(profile).join("nuncio"));
    let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let newest = built.into_iter().filter(|path| path.is_file()).max_by_key(modified);
    newest.ok_or_else(|| "no nuncio was built: run `cargo build -p nuncio`, or use --nuncio or --only envoy".into())
}

fn load(directory: &Path) -> Result<Vec<Document>, String> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        let file = path.strip_prefix(directory).unwrap_or(&path).with_extension("").display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for value in crate::yaml::documents(&text).map_err(|error| format!("{file}: {error}"))? {
            session::parse(value.clone()).map_err(|error| format!("{file}: {error}"))?;
            documents.push(Document { file: file.clone(), value });
        }
    }
    Ok(documents)
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        // Scenarios for a management server have a form of their own.
        if path.ends_with("tests/diff/xds") {
            continue;
        }
        if path.is_dir() {
            collect(&path, into)?;
        } else if session::is_case_file(&path) {
            into.push(path);
        }
    }
    Ok(())
}

fn print_configs(documents: &[Document], arguments: &Arguments) -> Result<bool, String> {
    for document in documents.iter().filter(|document| !names(document, arguments).is_empty()) {
        let config = session::expanded(&document.value)?;
        println!("# {}\n{}", document.file, serde_json::to_string_pretty(&config).unwrap_or_default());
    }
    Ok(true)
}

/// The names of the cases of `document` that are to run.
fn names(document: &Document, arguments: &Arguments) -> Vec<String> {
    let cases = document.value.get("cases").and_then(Value::as_array).into_iter().flatten();
    let names = cases.filter_map(|case| case.get("name")?.as_str());
    let wanted =
        |name: &&str| arguments.case.as_ref().is_none_or(|text| format!("{}: {name}", document.file).contains(text));
    names.filter(wanted).map(str::to_owned).collect()
}

fn run_all(documents: &[Document], programs: &Programs, arguments: &Arguments) -> Result<Vec<CaseResult>, String> {
    let next = Mutex::new(0);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some((index, document)) = take(&next, documents) {
                    let names = names(document, arguments);
                    let found = if names.is_empty() { Vec::new() } else { run_document(document, &names, programs) };
                    if let Ok(mut results) = results.lock() {
                        results.insert(index, found);
                    }
                }
            });
        }
    });
    let results = results.into_inner().map_err(|_| "a worker of the run failed")?;
    Ok(results.into_values().flatten().collect())
}

fn take<'a>(next: &Mutex<usize>, documents: &'a [Document]) -> Option<(usize, &'a Document)> {
    let mut next = next.lock().ok()?;
    let index = *next;
    *next += 1;
    Some((index, documents.get(index)?))
}

/// Runs one group on both sides. When a side fails as a whole, its cases are run apart, on both sides alike.
fn run_document(document: &Document, names: &[String], programs: &Programs) -> Vec<CaseResult> {
    let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    let (envoy, nuncio) = on_both(programs, |program| session::run(&document.value, program, &wanted));
    let failed = |side: &Option<Result<session::Records, String>>| matches!(side, Some(Err(_)));
    let (mut envoy, mut nuncio) = if names.len() > 1 && (failed(&envoy) || failed(&nuncio)) {
        on_both(programs, |program| session::run_apart(&document.value, program, names))
    } else {
        (envoy.map(|records| apart(records, names)), nuncio.map(|records| apart(records, names)))
    };
    let pick = |records: &mut Option<session::RecordsApart>, name: &str| {
        records.as_mut().map(|records| records.remove(name).unwrap_or_else(|| Err("it did not run".to_owned())))
    };
    let result = |name: &String| CaseResult {
        file: document.file.clone(),
        name: name.clone(),
        outcome: Outcome::of(pick(&mut envoy, name), pick(&mut nuncio, name)),
    };
    names.iter().map(result).collect()
}

/// Does the same with both programs at the same time.
fn on_both<T: Send>(programs: &Programs, run: impl Fn(&Program) -> T + Sync) -> (Option<T>, Option<T>) {
    thread::scope(|scope| {
        let envoy = programs.envoy.as_ref().map(|program| scope.spawn(|| run(program)));
        let nuncio = programs.nuncio.as_ref().map(&run);
        let envoy = envoy.map(|side| side.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (envoy, nuncio)
    })
}

fn apart(records: Result<session::Records, String>, names: &[String]) -> session::RecordsApart {
    match records {
        Ok(records) => records.into_iter().map(|(name, record)| (name, Ok(record))).collect(),
        Err(error) => names.iter().map(|name| (name.clone(), Err(error.clone()))).collect(),
    }
}

/// Runs the groups of what did not pass once more: a difference counts only when it is there twice.
fn again(
    results: Vec<CaseResult>,
    documents: &[Document],
    programs: &Programs,
    arguments: &Arguments,
) -> Result<(Vec<CaseResult>, Vec<String>), String> {
    let failed: Vec<String> = results.iter().filter(|result| !result.outcome.is_equal()).map(CaseResult::id).collect();
    let mut second = BTreeMap::new();
    for document in documents {
        let names = names(document, arguments);
        if names.iter().any(|name| failed.contains(&format!("{}: {name}", document.file))) {
            second.extend(run_document(document, &names, programs).into_iter().map(|result| (result.id(), result)));
        }
    }
    let mut flaky = Vec::new();
    let replace = |result: CaseResult| match second.remove(&result.id()) {
        Some(other) if !result.outcome.is_equal() => {
            if other.outcome.is_equal() {
                flaky.push(other.id());
            }
            other
        }
        _ => result,
    };
    let results = results.into_iter().map(replace).collect();
    Ok((results, flaky))
}
