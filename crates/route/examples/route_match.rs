//! Nanoseconds per route look-up, by number of routes and virtual hosts; and bytes per simple route.
//!
//! `cargo run --profile bench-fast -p nuncio-route --example route_match`

use nuncio_headers::{HeaderMap, Known};
use nuncio_matcher::NoRuntime;
use nuncio_route::spec::{
    ActionSpec, PathSpec, RouteActionSpec, RouteConfigSpec, RouteMatchSpec, RouteSpec, VirtualHostSpec,
};
use nuncio_route::{Outcome, PeerCertificate, RouteQuery, RouteTable};
use std::hint::black_box;
use std::time::Instant;

/// Look-ups in one round: so few that most rounds are not interrupted. The best round counts.
const LOOKUPS: u32 = 5_000;
const ROUNDS: u32 = 600;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    memory()?;
    for (kind, make) in [("exact", exact as fn(usize) -> PathSpec), ("prefix", prefix), ("regex", regex)] {
        for count in [10, 1_000, 10_000] {
            let table = routes(count, make)?;
            let path = |at: usize| format!("/service-{at}/items/list");
            let first = time(&table, "www.example.com", &path(0), "c0")?;
            let last = time(&table, "www.example.com", &path(count - 1), &format!("c{}", count - 1))?;
            let none = time(&table, "www.example.com", "/elsewhere", "")?;
            println!("{count:>6} {kind:<6} routes   first {first:5.1} ns   last {last:5.1} ns   none {none:5.1} ns");
        }
    }
    for count in [10, 1_000, 10_000] {
        let table = hosts(count, "host-#.example.com")?;
        let first = time(&table, "host-0.example.com", "/", "c0")?;
        let last = time(&table, &format!("host-{}.example.com", count - 1), "/", &format!("c{}", count - 1))?;
        println!("{count:>6} virtual hosts    first {first:5.1} ns   last {last:5.1} ns");
        let table = hosts(count, "*.host-#.example.com")?;
        let first = time(&table, "a.host-0.example.com", "/", "c0")?;
        let last = time(&table, &format!("a.host-{}.example.com", count - 1), "/", &format!("c{}", count - 1))?;
        println!("{count:>6} wildcard hosts   first {first:5.1} ns   last {last:5.1} ns");
    }
    Ok(())
}

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes that tables hold, as the allocator counts them.
fn memory() -> Result<(), Error> {
    const COUNT: usize = 50_000;
    let before = allocated()?;
    let table = routes(COUNT, prefix)?;
    println!("{} bytes per simple route", (allocated()? - before) / COUNT);
    let before = allocated()?;
    let tables = hosts(COUNT, "host-#.example.com")?;
    println!("{} bytes per virtual host with one route", (allocated()? - before) / COUNT);
    black_box((&table, &tables));
    Ok(())
}

fn allocated() -> Result<usize, Error> {
    tikv_jemalloc_ctl::epoch::advance().map_err(|error| error.to_string())?;
    Ok(tikv_jemalloc_ctl::stats::allocated::read().map_err(|error| error.to_string())?)
}

fn exact(at: usize) -> PathSpec {
    PathSpec::Exact(format!("/service-{at}/items/list"))
}

fn prefix(at: usize) -> PathSpec {
    PathSpec::Prefix(format!("/service-{at}/"))
}

fn regex(at: usize) -> PathSpec {
    PathSpec::SafeRegex(format!("/service-{at}/[a-z]+/.*").as_str().into())
}

fn route(path: PathSpec, cluster: usize) -> RouteSpec {
    let action = RouteActionSpec::to_cluster(&format!("c{cluster}"));
    RouteSpec::new(RouteMatchSpec::new(path), ActionSpec::Route(Box::new(action)))
}

fn routes(count: usize, path: fn(usize) -> PathSpec) -> Result<RouteTable, Error> {
    let routes = (0..count).map(|at| route(path(at), at)).collect();
    let host =
        VirtualHostSpec { name: "v".into(), domains: vec!["www.example.com".into()], routes, ..Default::default() };
    build(vec![host])
}

fn hosts(count: usize, domain: &str) -> Result<RouteTable, Error> {
    let host = |at: usize| VirtualHostSpec {
        name: format!("v{at}"),
        domains: vec![domain.replace('#', &at.to_string())],
        routes: vec![route(PathSpec::Prefix("/".into()), at)],
        ..Default::default()
    };
    build((0..count).map(host).collect())
}

fn build(virtual_hosts: Vec<VirtualHostSpec>) -> Result<RouteTable, Error> {
    let spec = RouteConfigSpec { virtual_hosts, ..Default::default() };
    RouteTable::build(spec).map_err(|errors| errors.into_iter().map(|e| e.to_string()).collect::<String>().into())
}

/// Nanoseconds per look-up; checks that it finds the cluster, or none if that is empty.
fn time(table: &RouteTable, host: &str, path: &str, cluster: &str) -> Result<f64, Error> {
    let mut headers = HeaderMap::new();
    headers.append_known(Known::METHOD, b"GET");
    headers.append_known(Known::PATH, path.as_bytes());
    headers.append_known(Known::AUTHORITY, host.as_bytes());
    headers.append_known(Known::SCHEME, b"http");
    headers.append_known(Known::X_FORWARDED_PROTO, b"http");
    headers.append_known(Known::USER_AGENT, b"bench");
    let query = RouteQuery {
        headers: &headers,
        random: 7,
        runtime: &NoRuntime,
        info: None,
        peer_certificate: PeerCertificate::default(),
    };
    let found = match table.find(&query) {
        Outcome::Route(route) => {
            let names = route.forward().and_then(|forward| forward.cluster_names().next());
            names.map(|name| name.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    };
    if found != cluster {
        return Err(format!("{host}{path} found {found:?}, not {cluster:?}").into());
    }
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..LOOKUPS {
            black_box(table.find(black_box(&query)));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(LOOKUPS));
    }
    Ok(best)
}
