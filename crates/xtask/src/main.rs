//! Tasks of the project that are no part of what ships: `cargo xtask <task>`.

mod diff;
mod layers;
mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the project.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the cases of tests/diff on Nuncio and on real Envoy, and compares.
    Diff(diff::Arguments),
    /// Checks the rules about crates: who may use whom, where unsafe code may stand, and names that say nothing.
    Layers,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Diff(arguments) => diff::run(&arguments),
        Task::Layers => layers::run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
