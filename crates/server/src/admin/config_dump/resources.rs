//! Where the resources of a dump lie in the bytes of the bootstrap.

use super::super::Admin;
use super::to_any;
use nuncio_api::schema::{MessageRef, Schema};
use nuncio_config::transcode::wire::{self, put_bytes};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Kinds of resources that a dump lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Endpoint,
    Listener,
    Route,
    Secret,
}

impl Kind {
    /// The field that lists them.
    pub(super) fn list(self) -> &'static str {
        match self {
            Kind::Cluster => "static_clusters",
            Kind::Endpoint => "static_endpoint_configs",
            Kind::Listener => "static_listeners",
            Kind::Route => "static_route_configs",
            Kind::Secret => "static_secrets",
        }
    }

    /// The message of an item of that list.
    pub(super) fn item(self) -> Option<MessageRef> {
        let name = match self {
            Kind::Cluster => "ClustersConfigDump.StaticCluster",
            Kind::Endpoint => "EndpointsConfigDump.StaticEndpointConfig",
            Kind::Listener => "ListenersConfigDump.StaticListener",
            Kind::Route => "RoutesConfigDump.StaticRouteConfig",
            Kind::Secret => "SecretsConfigDump.StaticSecret",
        };
        Schema::message(&format!("envoy.admin.v3.{name}"))
    }

    /// The resource's own message.
    pub(super) fn message(self) -> Option<MessageRef> {
        Schema::message(self.full_name())
    }

    fn full_name(self) -> &'static str {
        match self {
            Kind::Cluster => "envoy.config.cluster.v3.Cluster",
            Kind::Endpoint => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "envoy.config.listener.v3.Listener",
            Kind::Route => "envoy.config.route.v3.RouteConfiguration",
            Kind::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// In the bootstrap.
    Bootstrap(Range<usize>),
    /// The cluster of this number, whose endpoints are made up when they are written.
    Endpoints(usize),
}

/// The bytes that a dump is made from.
pub(super) struct Source {
    pub bootstrap: Arc<[u8]>,
    admin: Option<Rc<Admin>>,
    /// Names of the clusters whose endpoints are shown.
    clusters: Option<Vec<Arc<str>>>,
}

impl Source {
    pub(super) fn new(admin: &Rc<Admin>, with_endpoints: bool) -> Source {
        let snapshot = Rc::clone(&admin.server.snapshot.borrow());
        let clusters = with_endpoints.then(|| admin.server.clusters.names());
        Source { bootstrap: Arc::clone(&snapshot.dump.bootstrap), admin: Some(Rc::clone(admin)), clusters }
    }

    #[cfg(test)]
    pub(super) fn of_bootstrap(bootstrap: &[u8]) -> Source {
        Source { bootstrap: bootstrap.into(), admin: None, clusters: None }
    }

    pub(super) fn with_endpoints(&self) -> bool {
        self.clusters.is_some()
    }

    /// The resources of a kind, in the order of the configuration.
    pub(super) fn resources(&self, kind: Kind) -> Vec<Resource> {
        let ranges = match kind {
            Kind::Cluster => self.find(&["static_resources", "clusters"]),
            Kind::Listener => self.find(&["static_resources", "listeners"]),
            Kind::Secret => self.find(&["static_resources", "secrets"]),
            Kind::Route => self.routes(),
            Kind::Endpoint => {
                let count = self.clusters.as_ref().map_or(0, Vec::len);
                return (0..count).map(Resource::Endpoints).collect();
            }
        };
        ranges.into_iter().map(Resource::Bootstrap).collect()
    }

    fn find(&self, path: &[&str]) -> Vec<Range<usize>> {
        let Some(message) = Schema::message("envoy.config.bootstrap.v3.Bootstrap") else { return Vec::new() };
        find(&self.bootstrap, 0..self.bootstrap.len(), message, path)
    }

    /// Whether a listener has a connection manager.
    pub(super) fn has_connection_manager(&self) -> bool {
        !self.managers().is_empty()
    }

    /// The routes of the connection managers in listeners.
    fn routes(&self) -> Vec<Range<usize>> {
        let Some(manager) = Schema::message(MANAGER) else { return Vec::new() };
        let managers = self.managers().into_iter();
        managers.flat_map(|range| find(&self.bootstrap, range, manager, &["route_config"])).collect()
    }

    /// The connection managers in listeners.
    fn managers(&self) -> Vec<Range<usize>> {
        let bytes = &self.bootstrap;
        let mut managers = Vec::new();
        let Some(listener) = Kind::Listener.message() else { return managers };
        for range in self.find(&["static_resources", "listeners"]) {
            for chains in ["filter_chains", "default_filter_chain"] {
                let configs = find(bytes, range.clone(), listener, &[chains, "filters", "typed_config"]).into_iter();
                let parts = configs.map(|config| any_parts(bytes, config));
                let is_manager =
                    |url: &Range<usize>| bytes.get(url.clone()).is_some_and(|url| url.ends_with(MANAGER.as_bytes()));
                managers.extend(parts.filter(|(url, _)| is_manager(url)).map(|(_, value)| value));
            }
        }
        managers
    }

    fn bytes(&self, resource: &Resource) -> Vec<u8> {
        match resource {
            Resource::Bootstrap(range) => self.bootstrap.get(range.clone()).unwrap_or_default().to_vec(),
            Resource::Endpoints(at) => {
                let name = self.clusters.as_ref().and_then(|clusters| clusters.get(*at));
                let assignment = self.admin.as_ref().zip(name);
                assignment.map(|(admin, name)| super::endpoints::assignment(admin, name)).unwrap_or_default()
            }
        }
    }

    /// The name of a resource.
    pub(super) fn name(&self, kind: Kind, resource: &Resource) -> String {
        if let (Resource::Endpoints(at), Some(clusters)) = (resource, &self.clusters) {
            return clusters.get(*at).map(|name| name.to_string()).unwrap_or_default();
        }
        let number = kind.message().and_then(|message| message.field_by_name("name")).map(|field| field.number());
        let bytes = self.bytes(resource);
        let mut fields = wire::fields(&bytes).flatten();
        let name = fields.find_map(|(at, value)| (Some(at) == number).then(|| value.bytes()));
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// The item of a list that shows the resource.
    pub(super) fn item(&self, kind: Kind, resource: &Resource, updated: &[u8]) -> Vec<u8> {
        let any = to_any(kind.full_name(), &self.bytes(resource));
        let mut item = Vec::with_capacity(any.len() + 32);
        match kind {
            Kind::Cluster | Kind::Listener | Kind::Route => {
                put_bytes(&mut item, 1, &any);
                put_bytes(&mut item, 2, updated);
            }
            Kind::Endpoint => put_bytes(&mut item, 1, &any),
            Kind::Secret => {
                put_bytes(&mut item, 1, self.name(kind, resource).as_bytes());
                put_bytes(&mut item, 2, updated);
                put_bytes(&mut item, 3, &any);
            }
        }
        item
    }
}

/// Where the messages at the end of a path of fields are.
fn find(bytes: &[u8], within: Range<usize>, message: MessageRef, path: &[&str]) -> Vec<Range<usize>> {
    let Some((first, rest)) = path.split_first() else { return vec![within] };
    let Some(field) = message.field_by_name(first) else { return Vec::new() };
    let mut found = Vec::new();
    for range in occurrences(bytes, within, field.number()) {
        match (rest.is_empty(), field.message()) {
            (true, _) => found.push(range),
            (false, Some(inner)) => found.extend(find(bytes, range, inner, rest)),
            (false, None) => {}
        }
    }
    found
}

/// Where the values of a field are.
fn occurrences(bytes: &[u8], within: Range<usize>, number: u32) -> Vec<Range<usize>> {
    let part = bytes.get(within).unwrap_or_default();
    let values = wire::fields(part).flatten().filter(|(at, _)| *at == number).map(|(_, value)| value.bytes());
    values.map(|value| place(bytes, value)).collect()
}

/// Where a part of `bytes` begins and ends in it.
fn place(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(bytes.as_ptr().addr()).min(bytes.len());
    start..(start + part.len()).min(bytes.len())
}

/// URL and value of an `Any`.
fn any_parts(bytes: &[u8], any: Range<usize>) -> (Range<usize>, Range<usize>) {
    let last = |number| occurrences(bytes, any.clone(), number).pop().unwrap_or_default();
    (last(1), last(2))
}
