//! Stats of the gRPC calls of a cluster: `cluster.<name>.grpc.*` and `cluster.<name>.grpc-web.*`, with the names of service
//! and method in between where they are wanted.

use hashbrown::HashMap;
use nuncio_stats::Scope;
use nuncio_stats::names::GrpcCallStats;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most methods of a cluster that have stats of their own: their names come from request paths. Calls of further ones are
/// counted where calls without names are.
const MOST_METHODS: usize = 10_000;

/// Most `grpc-status` values beyond those that gRPC defines which are counted per method: they come from upstreams.
const MOST_OTHER_CODES: usize = 20;

/// How a call came: part of the names of its stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrpcProtocol {
    /// gRPC, `grpc`.
    Grpc,
    /// gRPC-Web, `grpc-web`.
    GrpcWeb,
}

/// The stats of a cluster's calls over one protocol.
pub struct GrpcStats {
    id: u64,
    scope: Scope,
    all: OnceLock<Arc<GrpcMethod>>,
    methods: Mutex<HashMap<Box<str>, Arc<GrpcMethod>>>,
}

impl GrpcStats {
    pub(crate) fn new(cluster: &Scope, protocol: GrpcProtocol) -> GrpcStats {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = match protocol {
            GrpcProtocol::Grpc => "grpc",
            GrpcProtocol::GrpcWeb => "grpc-web",
        };
        GrpcStats {
            id: NEXT.fetch_add(1, Relaxed),
            scope: cluster.child(name),
            all: OnceLock::new(),
            methods: Mutex::default(),
        }
    }

    /// A number that no other of these has in the process: to remember methods by.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The stats of calls without names.
    #[inline]
    pub fn all(&self) -> &Arc<GrpcMethod> {
        self.all.get_or_init(|| Arc::new(GrpcMethod::new(self.scope.clone())))
    }

    /// The stats of a method, `<service>.<method>`. Takes a lock: what is found should be remembered.
    pub fn method(&self, service: &str, method: &str) -> Arc<GrpcMethod> {
        let name = format!("{service}.{method}");
        let mut known = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&*name) {
            return Arc::clone(found);
        }
        if known.len() >= MOST_METHODS {
            return Arc::clone(self.all());
        }
        let new = Arc::new(GrpcMethod::new(self.scope.child(&name)));
        known.insert(name.into(), Arc::clone(&new));
        new
    }
}

impl fmt::Debug for GrpcStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GrpcStats").field(&self.scope).finish()
    }
}

/// The stats of one method, or of all that have none of their own.
#[derive(Debug)]
pub struct GrpcMethod {
    scope: Scope,
    /// Counters and the time; each appears with its first use.
    pub stats: GrpcCallStats,
    others: Mutex<Vec<Box<str>>>,
}

impl GrpcMethod {
    fn new(scope: Scope) -> GrpcMethod {
        GrpcMethod { stats: GrpcCallStats::register(&scope), others: Mutex::default(), scope }
    }

    /// Counts the end of a call by its `grpc-status`.
    pub fn charge_status(&self, status: &[u8]) {
        let stats = self.stats.local();
        let counter = match status {
            b"0" => stats.code_0(),
            b"1" => stats.code_1(),
            b"2" => stats.code_2(),
            b"3" => stats.code_3(),
            b"4" => stats.code_4(),
            b"5" => stats.code_5(),
            b"6" => stats.code_6(),
            b"7" => stats.code_7(),
            b"8" => stats.code_8(),
            b"9" => stats.code_9(),
            b"10" => stats.code_10(),
            b"11" => stats.code_11(),
            b"12" => stats.code_12(),
            b"13" => stats.code_13(),
            b"14" => stats.code_14(),
            b"15" => stats.code_15(),
            b"16" => stats.code_16(),
            other => {
                self.charge_other(other);
                return self.charge(false);
            }
        };
        counter.inc();
        self.charge(status == b"0");
    }

    /// Counts the end of a call: `success` or `failure`, and `total`.
    pub fn charge(&self, success: bool) {
        let stats = self.stats.local();
        if success {
            stats.success().inc();
        } else {
            stats.failure().inc();
        }
        stats.total().inc();
    }

    fn charge_other(&self, status: &[u8]) {
        let Ok(status) = std::str::from_utf8(status) else { return };
        if status.is_empty() || status.len() > 16 {
            return;
        }
        let mut known = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|other| **other == *status) {
            if known.len() >= MOST_OTHER_CODES {
                return;
            }
            known.push(status.into());
        }
        drop(known);
        self.scope.dynamic_counter(status).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_stats::Store;

    #[test]
    fn counts_by_method_and_status() {
        let store = Store::new(1);
        let stats = GrpcStats::new(&store.scope("cluster.c", &[]), GrpcProtocol::Grpc);
        stats.method("pkg.Service", "Get").charge_status(b"0");
        stats.method("pkg.Service", "Get").charge_status(b"14");
        stats.all().charge_status(b"17");
        for (name, value) in [
            ("pkg.Service.Get.0", 1),
            ("pkg.Service.Get.14", 1),
            ("pkg.Service.Get.success", 1),
            ("pkg.Service.Get.failure", 1),
            ("pkg.Service.Get.total", 2),
            ("17", 1),
            ("failure", 1),
            ("total", 1),
        ] {
            assert_eq!(store.value(&format!("cluster.c.grpc.{name}")), Some(value), "{name}");
        }
    }

    #[test]
    fn names_that_peers_choose_are_bounded() {
        let store = Store::new(1);
        let stats = GrpcStats::new(&store.scope("cluster.c", &[]), GrpcProtocol::GrpcWeb);
        for number in 0..MOST_METHODS + 5 {
            stats.method("s", &format!("m{number}")).charge(true);
        }
        assert_eq!(store.value("cluster.c.grpc-web.total"), Some(5));
        for number in 0..100 {
            stats.all().charge_status(format!("x{number}").as_bytes());
        }
        assert_eq!(store.value("cluster.c.grpc-web.x19"), Some(1));
        assert_eq!(store.value("cluster.c.grpc-web.x20"), None);
    }
}
