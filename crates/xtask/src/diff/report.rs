//! Results of cases, and how they are printed.

use std::collections::BTreeMap;

use super::accepted::Accepted;
use super::compare::{self, Difference};
use super::record::Record;

/// What came of a case.
pub struct CaseResult {
    /// The file, without its extension.
    pub file: String,
    /// The name of the case.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl CaseResult {
    /// Names the case in messages and in `accepted.yaml`.
    pub fn id(&self) -> String {
        format!("{}: {}", self.file, self.name)
    }
}

/// The records of both sides and what follows from them.
#[derive(Default)]
pub struct Outcome {
    envoy: Option<Record>,
    nuncio: Option<Record>,
    differences: Vec<Difference>,
    /// Why a side could not run, and expectations that did not hold.
    failures: Vec<String>,
    /// The same of Nuncio alone, which an accepted difference explains.
    missed: Vec<String>,
}

type Side = Option<Result<Record, String>>;

impl Outcome {
    /// Compares the two sides; one may be missing.
    pub fn of(envoy: Side, nuncio: Side) -> Self {
        let mut outcome = Self::default();
        let envoy = open(envoy, "envoy", &mut outcome.failures).inspect(|record| {
            outcome.failures.extend(record.failures.iter().map(|failure| format!("envoy: {failure}")));
        });
        let mut ended = Vec::new();
        let nuncio = open(nuncio, "nuncio", &mut ended).inspect(|record| {
            outcome.missed.extend(record.failures.iter().map(|failure| format!("nuncio: {failure}")));
        });
        match (&envoy, &nuncio) {
            (Some(envoy), Some(nuncio)) => outcome.differences = compare::compare(envoy, nuncio),
            // Where Envoy plays a case to its end, that Nuncio can't is a difference like others: it may be meant.
            (Some(_), None) => outcome.differences.extend(ended.drain(..).map(|error| Difference {
                field: "outcome".to_owned(),
                envoy: "plays to its end".to_owned(),
                nuncio: error,
            })),
            _ => {}
        }
        outcome.failures.extend(ended);
        outcome.envoy = envoy;
        outcome.nuncio = nuncio;
        outcome
    }

    /// Whether nothing differs and nothing failed.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.failures.is_empty() && self.missed.is_empty()
    }
}

fn open(side: Side, name: &str, failures: &mut Vec<String>) -> Option<Record> {
    match side? {
        Ok(record) => Some(record),
        Err(error) => {
            failures.push(format!("{name}: {error}"));
            None
        }
    }
}

#[derive(Default)]
struct Count {
    cases: usize,
    equal: usize,
    accepted: usize,
    different: usize,
}

/// Prints differences, a table by file, and the summary. `true` when no case differs.
pub fn print(results: &[CaseResult], accepted: &Accepted, verbose: bool) -> bool {
    let mut files: BTreeMap<&str, Count> = BTreeMap::new();
    let mut printed = "";
    for result in results {
        let count = files.entry(&result.file).or_default();
        count.cases += 1;
        if verbose {
            print_records(result);
        }
        let (meant, left) = split(result, accepted);
        let fails = !result.outcome.failures.is_empty() || (meant.is_empty() && !result.outcome.missed.is_empty());
        match (meant.is_empty(), left.is_empty() && !fails) {
            (true, true) => count.equal += 1,
            (false, true) => count.accepted += 1,
            (_, false) => {
                count.different += 1;
                print_case(result, &left, &mut printed);
            }
        }
    }
    print_table(&files)
}

fn split<'a>(result: &'a CaseResult, accepted: &Accepted) -> (Vec<&'a Difference>, Vec<&'a Difference>) {
    let id = result.id();
    let is_meant = |found: &&Difference| accepted.case(&id, &found.field, &found.envoy, &found.nuncio).is_some();
    result.outcome.differences.iter().partition(is_meant)
}

/// `printed` is the last failure printed: what ends a whole group is printed once.
fn print_case<'a>(result: &'a CaseResult, differences: &[&Difference], printed: &mut &'a str) {
    println!("\n--- {}", result.id());
    for failure in result.outcome.failures.iter().chain(&result.outcome.missed) {
        let text = if failure == *printed { "the same".to_owned() } else { failure.replace('\n', "\n    ") };
        println!("  {text}");
        *printed = failure;
    }
    for found in differences {
        println!("  {}\n    envoy:  {}\n    nuncio: {}", found.field, found.envoy, found.nuncio);
    }
}

fn print_records(result: &CaseResult) {
    println!("\n=== {}", result.id());
    for (side, record) in [("envoy", &result.outcome.envoy), ("nuncio", &result.outcome.nuncio)] {
        for (name, value) in record.iter().flat_map(|record| record.values.iter().chain(&record.notes)) {
            println!("  {side} {name} = {value}");
        }
    }
}

fn print_table(files: &BTreeMap<&str, Count>) -> bool {
    let width = files.keys().map(|file| file.len()).max().unwrap_or(0).max(5);
    println!("\n{:width$} | cases | equal | accepted | different", "file");
    let mut sum = Count::default();
    for (file, count) in files {
        println!(
            "{file:width$} | {:5} | {:5} | {:8} | {:9}",
            count.cases, count.equal, count.accepted, count.different
        );
        sum.cases += count.cases;
        sum.equal += count.equal;
        sum.accepted += count.accepted;
        sum.different += count.different;
    }
    println!("\n{} cases, {} equal, {} accepted, {} different", sum.cases, sum.equal, sum.accepted, sum.different);
    sum.different == 0
}
