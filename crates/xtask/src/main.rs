//! Tasks of the project that are no part of what ships: `cargo xtask <task>`.

mod bench;
mod browser;
mod control_plane;
mod diff;
mod docs;
mod go;
mod h2spec;
mod interop;
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
    /// Measures Nuncio beside Envoy, HAProxy and nginx: CPU per request, latency, memory, scale.
    Bench(bench::Arguments),
    /// Loads a page with a real browser, over HTTPS and HTTP/2.
    Browser(browser::Arguments),
    /// Drives Nuncio through random changes with a management server made with go-control-plane.
    ControlPlane(control_plane::Arguments),
    /// Runs the cases of tests/diff on Nuncio and on real Envoy, and compares.
    Diff(diff::Arguments),
    /// Writes the pages of docs/reference from the code, or with --check compares them.
    Docs(docs::Arguments),
    /// Runs all cases of h2spec against a listener.
    H2spec(h2spec::Arguments),
    /// Runs the interoperability cases of grpc-go through the proxy.
    Interop(interop::Arguments),
    /// Checks the rules about crates: who may use whom, where unsafe code may stand, and names that say nothing.
    Layers,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Browser(arguments) => browser::run(&arguments),
        Task::ControlPlane(arguments) => control_plane::run(&arguments),
        Task::Diff(arguments) => diff::run(&arguments),
        Task::Docs(arguments) => docs::run(&arguments),
        Task::H2spec(arguments) => h2spec::run(&arguments),
        Task::Interop(arguments) => interop::run(&arguments),
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

/// Where build products are.
fn target() -> std::path::PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}
