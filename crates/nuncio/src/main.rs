//! The data plane: `nuncio -c envoy.yaml`.

use clap::Parser;
use nuncio_server::Options;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    nuncio_server::run(Options::parse())
}
