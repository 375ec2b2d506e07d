//! What is configured, how it changes at random, and what that looks like as resources.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

/// Routes of which the load asks; those that are not there fall to the cluster that is always there.
pub const PATHS: u64 = 12;
/// Additional filter chains and clusters at most.
const MOST: usize = 12;

/// A generator of numbers that a seed determines (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(u64::try_from(all.len()).ok()?.max(1));
        all.get(usize::try_from(index).ok()?).copied()
    }
}

/// Whether resources come over one stream, and in which variant of the protocol.
#[derive(Clone, Copy)]
pub struct Variant {
    pub ads: bool,
    pub delta: bool,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match (self.ads, self.delta) {
            (true, false) => "ads",
            (true, true) => "delta-ads",
            (false, false) => "separate",
            (false, true) => "delta-separate",
        }
    }

    /// `ApiConfigSource.api_type`.
    pub fn api_type(self) -> &'static str {
        if self.delta { "DELTA_GRPC" } else { "GRPC" }
    }

    /// The source of resources, as resources and the bootstrap state it.
    pub fn source(self) -> Value {
        if self.ads {
            return json!({"ads": {}, "resource_api_version": "V3"});
        }
        json!({"resource_api_version": "V3", "api_config_source": {
            "api_type": self.api_type(), "transport_api_version": "V3", "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}]}})
    }
}

struct Cluster {
    origins: BTreeSet<u64>,
    /// Its connect timeout in seconds, which changes where the cluster itself does.
    timeout: u64,
}

/// A part of a change: the types that it changes, which must be acknowledged before the next.
pub struct Step {
    pub snapshot: Value,
    pub awaits: Vec<(&'static str, u64)>,
    /// A cluster that must be in service before the next step.
    pub serves: Option<String>,
}

/// The configuration.
pub struct Model {
    pub random: Random,
    variant: Variant,
    front: SocketAddr,
    spare: Vec<SocketAddr>,
    origins: Vec<SocketAddr>,
    versions: BTreeMap<&'static str, u64>,
    clusters: BTreeMap<u64, Cluster>,
    next: u64,
    routes: BTreeMap<u64, Vec<u64>>,
    chains: BTreeMap<u64, u64>,
    main: u64,
    listeners: BTreeSet<usize>,
}

impl Model {
    /// One cluster and one listener.
    pub fn new(seed: u64, variant: Variant, places: (SocketAddr, Vec<SocketAddr>), origins: Vec<SocketAddr>) -> Self {
        let clusters = BTreeMap::from([(0, Cluster { origins: BTreeSet::from([0]), timeout: 5 })]);
        Self {
            random: Random(seed),
            variant,
            front: places.0,
            spare: places.1,
            origins,
            versions: ["cds", "eds", "lds", "rds"].map(|kind| (kind, 1)).into(),
            clusters,
            next: 1,
            routes: BTreeMap::new(),
            chains: BTreeMap::new(),
            main: 0,
            listeners: BTreeSet::new(),
        }
    }

    /// The origins that may answer each path.
    pub fn expected(&self) -> Vec<(String, BTreeSet<u64>)> {
        let of = |path| {
            let clusters = self.routes.get(&path).cloned().unwrap_or_else(|| vec![0]);
            clusters.iter().filter_map(|id| self.clusters.get(id)).flat_map(|cluster| cluster.origins.clone()).collect()
        };
        (0..PATHS).map(|path| (format!("/r{path}"), of(path))).collect()
    }

    /// The additional listeners that are configured.
    pub fn extra_listeners(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|index| self.spare.get(*index).copied()).collect()
    }

    fn step(&mut self, changes: &[&'static str]) -> Step {
        for kind in changes {
            *self.versions.entry(kind).or_default() += 1;
        }
        let awaits = changes.iter().map(|kind| (*kind, self.versions[kind])).collect();
        Step { snapshot: self.snapshot(), awaits, serves: None }
    }

    /// Everything once more, each type in a new version.
    pub fn touch_all(&mut self) -> Step {
        for cluster in self.clusters.values_mut() {
            cluster.timeout = 5 + (cluster.timeout + 1) % 5;
            let other = if cluster.origins == BTreeSet::from([0, 1]) { 2 } else { 1 };
            cluster.origins = BTreeSet::from([0, other]);
        }
        self.routes.clear();
        self.main += 1;
        self.step(&["cds", "eds", "lds", "rds"])
    }

    fn some_origins(&mut self) -> BTreeSet<u64> {
        let count = 1 + self.random.below(3);
        (0..count).map(|_| self.random.below(self.origins.len() as u64)).collect()
    }

    fn some_cluster(&mut self) -> u64 {
        let all: Vec<u64> = self.clusters.keys().copied().collect();
        self.random.pick(&all).unwrap_or(0)
    }

    /// Other endpoints of some cluster, which break nothing in whatever order they come.
    pub fn change_endpoints(&mut self) -> Step {
        let (cluster, mut origins) = (self.some_cluster(), self.some_origins());
        // Over delta discovery what is as it was is not sent.
        while self.clusters.get(&cluster).is_some_and(|before| before.origins == origins) {
            origins = self.some_origins();
        }
        if let Some(cluster) = self.clusters.get_mut(&cluster) {
            cluster.origins = origins;
        }
        self.step(&["eds"])
    }

    /// A change at random, in steps that break nothing.
    pub fn change(&mut self) -> Vec<Step> {
        match self.random.below(20) {
            0..=5 => vec![self.change_endpoints()],
            6..=7 => {
                let cluster = self.some_cluster();
                if let Some(cluster) = self.clusters.get_mut(&cluster) {
                    cluster.timeout = 5 + (cluster.timeout + 1) % 5;
                }
                vec![self.step(&["cds"])]
            }
            8..=10 if self.clusters.len() < MOST => self.add_cluster(),
            8..=12 if self.clusters.len() > 1 => self.remove_cluster(),
            13..=15 => {
                let path = self.random.below(PATHS);
                let some = (0..=self.random.below(2)).map(|_| self.some_cluster()).collect();
                self.routes.insert(path, some);
                vec![self.step(&["rds"])]
            }
            16 if self.chains.len() < MOST => {
                let chain = self.random.below(200);
                *self.chains.entry(chain).or_default() += 1;
                vec![self.step(&["lds"])]
            }
            17 if !self.chains.is_empty() => {
                self.chains.pop_first();
                vec![self.step(&["lds"])]
            }
            18 => {
                self.main += 1;
                vec![self.step(&["lds"])]
            }
            _ => {
                let spare: Vec<usize> = (0..self.spare.len()).collect();
                let index = self.random.pick(&spare).unwrap_or(0);
                if !self.listeners.remove(&index) {
                    self.listeners.insert(index);
                }
                vec![self.step(&["lds"])]
            }
        }
    }

    /// A new cluster, and then a route to it.
    fn add_cluster(&mut self) -> Vec<Step> {
        let (id, origins) = (self.next, self.some_origins());
        self.next += 1;
        self.clusters.insert(id, Cluster { origins, timeout: 5 });
        let mut made = self.step(&["cds", "eds"]);
        made.serves = Some(format!("c{id}"));
        let path = self.random.below(PATHS);
        self.routes.insert(path, vec![id]);
        vec![made, self.step(&["rds"])]
    }

    /// No route to a cluster, and then it is gone. Who has its endpoints says nothing of a type that has nothing new.
    fn remove_cluster(&mut self) -> Vec<Step> {
        let some = self.some_cluster().max(1);
        let id = self.clusters.range(some..).next().map_or(1, |(id, _)| *id);
        let before = self.routes.len();
        self.routes.retain(|_, clusters| !clusters.contains(&id));
        let mut steps = Vec::new();
        if self.routes.len() < before {
            steps.push(self.step(&["rds"]));
        }
        self.clusters.remove(&id);
        let mut gone = self.step(&["cds", "eds"]);
        gone.awaits.retain(|(kind, _)| *kind == "cds");
        steps.push(gone);
        steps
    }

    /// The whole configuration, as the management server is told it.
    pub fn snapshot(&self) -> Value {
        let clusters: Vec<Value> = self.clusters.iter().map(|(id, cluster)| self.cluster(*id, cluster)).collect();
        let endpoints: Vec<Value> = self.clusters.iter().map(|(id, cluster)| self.endpoints(*id, cluster)).collect();
        let mut listeners = vec![self.listener("front", self.front, true)];
        for address in self.extra_listeners() {
            listeners.push(self.listener(&format!("extra-{}", address.port()), address, false));
        }
        let of = |kind: &str, all: Vec<Value>| {
            let version = self.versions.get(kind).copied().unwrap_or_default();
            json!({"version": version.to_string(), "resources": all})
        };
        json!({"cds": of("cds", clusters), "eds": of("eds", endpoints),
            "lds": of("lds", listeners), "rds": of("rds", vec![self.routes()])})
    }

    fn cluster(&self, id: u64, cluster: &Cluster) -> Value {
        json!({"name": format!("c{id}"), "type": "EDS", "connect_timeout": format!("{}s", cluster.timeout),
            "eds_cluster_config": {"eds_config": self.variant.source()}})
    }

    fn endpoints(&self, id: u64, cluster: &Cluster) -> Value {
        let addresses = cluster.origins.iter().filter_map(|index| self.origins.get(usize::try_from(*index).ok()?));
        let endpoints: Vec<Value> =
            addresses.map(|address| json!({"endpoint": {"address": socket(*address)}})).collect();
        json!({"cluster_name": format!("c{id}"), "endpoints": [{"lb_endpoints": endpoints}]})
    }

    fn routes(&self) -> Value {
        let route = |(path, clusters): (&u64, &Vec<u64>)| {
            let weighted: Vec<Value> =
                clusters.iter().map(|id| json!({"name": format!("c{id}"), "weight": 1})).collect();
            json!({"match": {"path": format!("/r{path}")}, "route": {"weighted_clusters": {"clusters": weighted}}})
        };
        let mut routes: Vec<Value> = self.routes.iter().map(route).collect();
        routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": "c0"}}));
        let host = json!({"name": "all", "domains": ["*"], "routes": routes, "response_headers_to_add": [
            {"header": {"key": "x-routes", "value": self.versions["rds"].to_string()}}]});
        json!({"name": "routes", "virtual_hosts": [host]})
    }

    fn listener(&self, name: &str, address: SocketAddr, changes: bool) -> Value {
        let mut chains = Vec::new();
        if changes {
            for (chain, generation) in &self.chains {
                let mut made = self.chain(&format!("chain-{chain}"), *generation);
                made["filter_chain_match"] = json!({"source_prefix_ranges":
                    [{"address_prefix": format!("127.1.{chain}.0"), "prefix_len": 24}]});
                chains.push(made);
            }
        }
        chains.push(self.chain("main", if changes { self.main } else { 0 }));
        json!({"name": name, "address": socket(address), "filter_chains": chains})
    }

    fn chain(&self, name: &str, generation: u64) -> Value {
        json!({"name": name, "filters": [{"name": "hcm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front", "server_name": format!("generation-{generation}"),
            "rds": {"route_config_name": "routes", "config_source": self.variant.source()},
            "http_filters": [{"name": "router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]})
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
