//! `cargo xtask diff --xds`: what Envoy and Nuncio say to a management server that plays a script, and what they do with what it
//! answers. Both transcripts are compared: the same requests in the same order.
//!
//! # Adding a scenario
//!
//! Put it into a YAML file below `tests/diff/xds/`; a document is `{scenarios: [...]}`.
//!
//! ```yaml
//! scenarios:
//!   - name: a cluster warms on its endpoints
//!     modes: [sotw-ads, delta-ads]          # scenario.rs says which there are; each is run
//!     steps:
//!       - expect: cds                       # waits for the request; what comes before it is recorded too
//!       - send: cds                         # answers on the stream of the last request for the type
//!         version: "1"
//!         resources: [{cluster: c}]         # short forms: resources.rs
//!       - expect: eds
//!       - send: eds
//!         version: "1"
//!         resources: [{endpoints: c, to: [a]}]
//!       - expect: [cds, eds]                # in any order
//!       - stats: {cluster_manager.active_clusters: 2}
//! ```
//!
//! Recorded are the order of requests, every request as one line, the steps that ask (`http`, `admin`), and the statistics of
//! subscriptions and managers at the end. A difference that is meant goes into `tests/diff/xds/accepted.yaml` with its reason.

mod bootstrap;
mod play;
mod resources;
mod scenario;
mod steps;
mod transcript;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::accepted::Accepted;
use super::report::{self, CaseResult, Outcome};
use super::{Arguments, Programs, collect, on_both};
use scenario::{Mode, Scenario};

/// As many differences may be chance; more are no chance, and the scenarios are not run again.
const FEW: usize = 10;

/// One scenario in one of its modes.
struct Run {
    file: String,
    scenario: Scenario,
    mode: Mode,
}

impl Run {
    fn name(&self) -> String {
        format!("{} [{}]", self.scenario.name, self.mode.name())
    }
}

/// Runs every scenario. `true` when nothing differs.
pub fn run(arguments: &Arguments, root: &Path) -> Result<bool, String> {
    let directory = root.join(&arguments.cases).join("xds");
    let accepted = Accepted::load(&directory.join("accepted.yaml"))?;
    let runs = load(&directory, arguments)?;
    let programs = Programs::find(arguments, root)?;
    let mut results = run_all(&runs, &programs, arguments.jobs)?;
    let mut flaky = Vec::new();
    let is_compared = arguments.only.is_none();
    let different = results.iter().filter(|result| !result.outcome.is_equal()).count();
    let may_be_chance = is_compared && different <= FEW.max(runs.len() / 10);
    for (result, run) in results.iter_mut().zip(&runs).filter(|(result, _)| may_be_chance && !result.outcome.is_equal())
    {
        // A difference counts only when it is there twice.
        let second = run_one(run, &programs);
        if second.outcome.is_equal() {
            flaky.push(second.id());
        }
        *result = second;
    }
    let summary = report::print(&results, &accepted, arguments.verbose);
    for name in &flaky {
        println!("passed only when run again: {name}");
    }
    let all = arguments.case.is_none() && is_compared;
    let unused = if all { accepted.unused(false) } else { Vec::new() };
    for rule in &unused {
        println!("xds/accepted.yaml: nothing needs the rule for {rule}");
    }
    Ok(summary && unused.is_empty())
}

fn load(directory: &Path, arguments: &Arguments) -> Result<Vec<Run>, String> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    let mut runs = Vec::new();
    for path in paths {
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for value in crate::yaml::documents(&text).map_err(|error| format!("{file}: {error}"))? {
            for scenario in scenario::parse(value).map_err(|error| format!("{file}: {error}"))? {
                let run = |mode: &Mode| Run { file: format!("xds/{file}"), scenario: scenario.clone(), mode: *mode };
                runs.extend(scenario.modes.iter().map(run));
            }
        }
    }
    let wanted =
        |run: &Run| arguments.case.as_ref().is_none_or(|text| format!("{}: {}", run.file, run.name()).contains(text));
    runs.retain(wanted);
    let mut names = std::collections::BTreeSet::new();
    match runs.iter().find(|run| !names.insert((run.file.clone(), run.name()))) {
        Some(twice) => Err(format!("{}: '{}' stands twice", twice.file, twice.name())),
        None => Ok(runs),
    }
}

fn run_one(run: &Run, programs: &Programs) -> CaseResult {
    let (envoy, mut nuncio) = on_both(programs, |program| play::run(&run.scenario, run.mode, program));
    if let (Some(Ok(envoy)), Some(Ok(nuncio))) = (&envoy, &mut nuncio) {
        transcript::allow_more_names(envoy, nuncio);
    }
    CaseResult { file: run.file.clone(), name: run.name(), outcome: Outcome::of(envoy, nuncio) }
}

fn run_all(runs: &[Run], programs: &Programs, jobs: usize) -> Result<Vec<CaseResult>, String> {
    let next = Mutex::new(0);
    let results = Mutex::new(BTreeMap::new());
    let take = || {
        let mut next = next.lock().ok()?;
        *next += 1;
        Some((*next, runs.get(*next - 1)?))
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some((index, run)) = take() {
                    let result = run_one(run, programs);
                    if let Ok(mut results) = results.lock() {
                        results.insert(index, result);
                    }
                }
            });
        }
    });
    Ok(results.into_inner().map_err(|_| "a worker of the run failed")?.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_can_be_read() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/diff/xds");
        let mut paths = Vec::new();
        collect(&directory, &mut paths).unwrap();
        for path in paths {
            for value in crate::yaml::documents(&std::fs::read_to_string(&path).unwrap()).unwrap() {
                scenario::parse(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
    }
}
