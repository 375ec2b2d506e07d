//! The connection manager alone, for profiling: forwards everything to the address given.
//!
//! `cargo run --profile bench-fast --example forward -p nuncio-hcm -- 127.0.0.1:8000` prints where it listens.

#[allow(dead_code)]
#[path = "../tests/support/mod.rs"]
mod support;

use nuncio_stats::Store;
use std::sync::Arc;

fn main() {
    let Some(upstream) = std::env::args().nth(1).and_then(|address| address.parse().ok()) else {
        eprintln!("usage: forward IP:PORT");
        return;
    };
    nuncio_stats::set_worker(1);
    support::run(async move {
        let store = Arc::new(Store::new(1));
        let hcm = support::config(&store, vec![support::to_cluster("a")]);
        let proxy = support::start(store, hcm, vec![support::cluster("a", &[upstream])]).await;
        println!("http://{}/", proxy.address);
        std::future::pending::<()>().await;
    });
}
