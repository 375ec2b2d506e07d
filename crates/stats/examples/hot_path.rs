//! Measures what the default statistics of one HTTP/1 request cost: 25 updates of counters and gauges and 3
//! histogram records, on a worker. `cargo run --release -p nuncio-stats --example hot_path`

use std::hint::black_box;
use std::time::Instant;

use nuncio_stats::names::{
    ClusterRequestTimeStats, ClusterStats, HttpConnectionManagerStats, ListenerHttpStats, RouterStats,
};
use nuncio_stats::{CodeCounters, Store, set_worker};

struct Request {
    http: HttpConnectionManagerStats,
    router: RouterStats,
    listener: ListenerHttpStats,
    cluster: ClusterStats,
    time: ClusterRequestTimeStats,
    external_time: ClusterRequestTimeStats,
    codes: CodeCounters,
}

impl Request {
    /// 25 counters and gauges: what a keep-alive request moves.
    #[inline(never)]
    fn counters(&self, bytes: u64) {
        let http = self.http.local();
        let cluster = self.cluster.local();
        let listener = self.listener.local();
        http.downstream_rq_total().inc();
        http.downstream_rq_http1_total().inc();
        http.downstream_rq_active().add(1);
        http.downstream_cx_rx_bytes_total().add(bytes);
        http.downstream_cx_rx_bytes_buffered().add(bytes);
        self.router.rq_total().inc();
        cluster.upstream_rq_total().inc();
        cluster.upstream_rq_active().add(1);
        cluster.upstream_rq_pending_total().inc();
        cluster.upstream_rq_pending_active().add(1);
        cluster.upstream_rq_pending_active().sub(1);
        cluster.upstream_cx_tx_bytes_total().add(bytes);
        cluster.upstream_cx_tx_bytes_buffered().add(bytes);
        cluster.upstream_cx_tx_bytes_buffered().sub(bytes);
        cluster.upstream_cx_rx_bytes_total().add(bytes);
        cluster.upstream_cx_rx_bytes_buffered().add(bytes);
        cluster.upstream_cx_rx_bytes_buffered().sub(bytes);
        cluster.upstream_rq_active().sub(1);
        http.downstream_cx_tx_bytes_total().add(bytes);
        http.downstream_cx_rx_bytes_buffered().sub(bytes);
        http.downstream_rq_2xx().inc();
        http.downstream_rq_completed().inc();
        listener.downstream_rq_2xx().inc();
        listener.downstream_rq_completed().inc();
        http.downstream_rq_active().sub(1);
    }

    /// The same without looking up the blocks first.
    #[inline(never)]
    fn counters_one_by_one(&self, bytes: u64) {
        self.http.downstream_rq_total().inc();
        self.http.downstream_rq_http1_total().inc();
        self.http.downstream_rq_active().add(1);
        self.http.downstream_cx_rx_bytes_total().add(bytes);
        self.http.downstream_cx_rx_bytes_buffered().add(bytes);
        self.router.rq_total().inc();
        self.cluster.upstream_rq_total().inc();
        self.cluster.upstream_rq_active().add(1);
        self.cluster.upstream_rq_pending_total().inc();
        self.cluster.upstream_rq_pending_active().add(1);
        self.cluster.upstream_rq_pending_active().sub(1);
        self.cluster.upstream_cx_tx_bytes_total().add(bytes);
        self.cluster.upstream_cx_tx_bytes_buffered().add(bytes);
        self.cluster.upstream_cx_tx_bytes_buffered().sub(bytes);
        self.cluster.upstream_cx_rx_bytes_total().add(bytes);
        self.cluster.upstream_cx_rx_bytes_buffered().add(bytes);
        self.cluster.upstream_cx_rx_bytes_buffered().sub(bytes);
        self.cluster.upstream_rq_active().sub(1);
        self.http.downstream_cx_tx_bytes_total().add(bytes);
        self.http.downstream_cx_rx_bytes_buffered().sub(bytes);
        self.http.downstream_rq_2xx().inc();
        self.http.downstream_rq_completed().inc();
        self.listener.downstream_rq_2xx().inc();
        self.listener.downstream_rq_completed().inc();
        self.http.downstream_rq_active().sub(1);
    }

    #[inline(never)]
    fn histograms(&self, milliseconds: u64) {
        self.http.downstream_rq_time().record(milliseconds);
        self.time.upstream_rq_time().record(milliseconds);
        self.external_time.upstream_rq_time().record(milliseconds);
    }

    #[inline(never)]
    fn codes(&self, status: u16) {
        self.codes.charge(status);
    }
}

fn main() {
    let store = Store::new(2);
    let cluster = store.scope("cluster.foo", &[]);
    let http = store.scope("http.ingress", &[]);
    let request = Request {
        http: HttpConnectionManagerStats::register(&http),
        router: RouterStats::register(&http),
        listener: ListenerHttpStats::register(&store.scope("listener.0.0.0.0_80.http.ingress", &[])),
        cluster: ClusterStats::register(&cluster),
        time: ClusterRequestTimeStats::register(&cluster),
        external_time: ClusterRequestTimeStats::register(&cluster.child("external")),
        codes: cluster.code_counters("upstream_rq"),
    };
    set_worker(1);
    measure("25 counters and gauges", |i| request.counters(i));
    measure("the same, each looked up", |i| request.counters_one_by_one(i));
    measure("3 histograms, 0 to 7 ms", |i| request.histograms(i % 8));
    measure("3 histograms, 0 to 2 s", |i| request.histograms(i % 2048));
    measure("code, class and completed", |_| request.codes(200));
    measure("25 and 3", |i| {
        request.counters(i);
        request.histograms(i % 8);
    });
    set_worker(0);
    measure("25 and 3 on the main thread", |i| {
        request.counters(i);
        request.histograms(i % 8);
    });
}

/// Prints the best of several rounds, which is the least disturbed one.
fn measure(what: &str, mut run: impl FnMut(u64)) {
    const ROUND: u64 = 2_000_000;
    let mut best = f64::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        for i in 0..ROUND {
            run(black_box(i));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / ROUND as f64);
    }
    println!("{what}: {best:.1} ns");
}
