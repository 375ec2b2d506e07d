//! Where the resources of a dump lie: in the bytes of the bootstrap, and in what discovery brought.

use super::super::Admin;
use super::dynamic::{self, Held};
use super::{timestamp, to_any};
use crate::xds::Version;
use nuncio_api::schema::{MessageRef, Schema};
use nuncio_config::transcode::wire::{self, put_bytes};
use nuncio_xds::ResourceType;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Lists of resources in a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    ActiveCluster,
    WarmingCluster,
    Extension,
    Endpoint,
    DynamicEndpoint,
    Listener,
    DynamicListener,
    Route,
    DynamicRoute,
    Secret,
    ActiveSecret,
    WarmingSecret,
}

impl Kind {
    /// The field of the dump's message.
    pub(super) fn list(self) -> &'static str {
        match self {
            Kind::Cluster => "static_clusters",
            Kind::ActiveCluster => "dynamic_active_clusters",
            Kind::WarmingCluster => "dynamic_warming_clusters",
            Kind::Extension => "ecds_filters",
            Kind::Endpoint => "static_endpoint_configs",
            Kind::DynamicEndpoint => "dynamic_endpoint_configs",
            Kind::Listener => "static_listeners",
            Kind::DynamicListener => "dynamic_listeners",
            Kind::Route => "static_route_configs",
            Kind::DynamicRoute => "dynamic_route_configs",
            Kind::Secret => "static_secrets",
            Kind::ActiveSecret => "dynamic_active_secrets",
            Kind::WarmingSecret => "dynamic_warming_secrets",
        }
    }

    /// The message of an item of that list.
    pub(super) fn item(self) -> Option<MessageRef> {
        let name = match self {
            Kind::Cluster => "ClustersConfigDump.StaticCluster",
            Kind::ActiveCluster | Kind::WarmingCluster => "ClustersConfigDump.DynamicCluster",
            Kind::Extension => "EcdsConfigDump.EcdsFilterConfig",
            Kind::Endpoint => "EndpointsConfigDump.StaticEndpointConfig",
            Kind::DynamicEndpoint => "EndpointsConfigDump.DynamicEndpointConfig",
            Kind::Listener => "ListenersConfigDump.StaticListener",
            Kind::DynamicListener => "ListenersConfigDump.DynamicListener",
            Kind::Route => "RoutesConfigDump.StaticRouteConfig",
            Kind::DynamicRoute => "RoutesConfigDump.DynamicRouteConfig",
            Kind::Secret => "SecretsConfigDump.StaticSecret",
            Kind::ActiveSecret | Kind::WarmingSecret => "SecretsConfigDump.DynamicSecret",
        };
        Schema::message(&format!("envoy.admin.v3.{name}"))
    }

    /// The resource's own message.
    pub(super) fn message(self) -> Option<MessageRef> {
        Schema::message(self.full_name())
    }

    pub(super) fn full_name(self) -> &'static str {
        self.resource_type().message()
    }

    /// What the resources are.
    pub(super) fn resource_type(self) -> ResourceType {
        match self {
            Kind::Cluster | Kind::ActiveCluster | Kind::WarmingCluster => ResourceType::Cluster,
            Kind::Extension => ResourceType::ExtensionConfig,
            Kind::Endpoint | Kind::DynamicEndpoint => ResourceType::Endpoint,
            Kind::Listener | Kind::DynamicListener => ResourceType::Listener,
            Kind::Route | Kind::DynamicRoute => ResourceType::Route,
            Kind::Secret | Kind::ActiveSecret | Kind::WarmingSecret => ResourceType::Secret,
        }
    }
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resource {
    /// In the bootstrap.
    Bootstrap(Range<usize>),
    /// The cluster of this name, whose endpoints are made up when they are written.
    Endpoints(Arc<str>),
    /// Part of what discovery brought.
    Part(Version, Range<usize>),
    /// What discovery brought.
    Held(Held),
}

/// The bytes that a dump is made from.
pub(super) struct Source {
    pub bootstrap: Arc<[u8]>,
    admin: Option<Rc<Admin>>,
    with_endpoints: bool,
}

impl Source {
    pub(super) fn new(admin: &Rc<Admin>, with_endpoints: bool) -> Source {
        let snapshot = Rc::clone(&admin.server.snapshot.borrow());
        Source { bootstrap: Arc::clone(&snapshot.dump.bootstrap), admin: Some(Rc::clone(admin)), with_endpoints }
    }

    #[cfg(test)]
    pub(super) fn of_bootstrap(bootstrap: &[u8]) -> Source {
        Source { bootstrap: bootstrap.into(), admin: None, with_endpoints: false }
    }

    pub(super) fn with_endpoints(&self) -> bool {
        self.with_endpoints
    }

    /// The resources of a list, static ones in the order of the configuration.
    pub(super) fn resources(&self, kind: Kind) -> Vec<Resource> {
        let ranges = match kind {
            Kind::Cluster => self.find(&["static_resources", "clusters"]),
            Kind::Listener => self.find(&["static_resources", "listeners"]),
            Kind::Secret => self.find(&["static_resources", "secrets"]),
            Kind::Route => return self.routes(),
            Kind::Endpoint => return self.endpoints(false),
            Kind::DynamicEndpoint => return self.endpoints(true),
            _ => {
                let held = self.admin.as_ref().map(|admin| dynamic::resources(&admin.server, kind));
                return held.unwrap_or_default().into_iter().map(Resource::Held).collect();
            }
        };
        ranges.into_iter().map(Resource::Bootstrap).collect()
    }

    /// The version of the response that changed resources of a kind last.
    pub(super) fn version(&self, kind: Kind) -> Option<String> {
        let admin = self.admin.as_ref()?;
        match kind {
            Kind::Cluster | Kind::Listener => admin.server.xds.held.version(kind.resource_type()),
            _ => None,
        }
    }

    fn endpoints(&self, dynamic: bool) -> Vec<Resource> {
        let Some(admin) = self.admin.as_ref().filter(|_| self.with_endpoints) else { return Vec::new() };
        let clusters = &admin.server.clusters;
        let names = clusters.names().into_iter().filter(|name| clusters.is_static(name) != dynamic);
        names.map(Resource::Endpoints).collect()
    }

    fn find(&self, path: &[&str]) -> Vec<Range<usize>> {
        let Some(message) = Schema::message("envoy.config.bootstrap.v3.Bootstrap") else { return Vec::new() };
        find(&self.bootstrap, 0..self.bootstrap.len(), message, path)
    }

    /// Whether there are filters whose configuration comes by discovery.
    pub(super) fn has_extensions(&self) -> bool {
        self.admin.as_ref().is_some_and(|admin| !admin.server.xds.held.names(ResourceType::ExtensionConfig).is_empty())
    }

    /// Whether a listener has a connection manager.
    pub(super) fn has_connection_manager(&self) -> bool {
        let of_static = self.find(&["static_resources", "listeners"]).into_iter();
        of_static.clone().any(|range| !managers(&self.bootstrap, range).is_empty())
            || self.listeners().iter().any(|version| {
                let body = &version.resource.body;
                !managers(body, 0..body.len()).is_empty()
            })
    }

    /// The listeners that discovery brought.
    fn listeners(&self) -> Vec<Version> {
        let Some(admin) = &self.admin else { return Vec::new() };
        let held = admin.server.xds.held.all(ResourceType::Listener);
        held.into_iter().filter_map(|(_, held)| held.active).collect()
    }

    /// The routes of the connection managers in listeners.
    fn routes(&self) -> Vec<Resource> {
        let Some(manager) = Schema::message(MANAGER) else { return Vec::new() };
        let routes = |bytes: &[u8], listener: Range<usize>| {
            let managers = managers(bytes, listener).into_iter();
            managers.flat_map(|range| find(bytes, range, manager, &["route_config"])).collect::<Vec<_>>()
        };
        let mut found = Vec::new();
        for listener in self.find(&["static_resources", "listeners"]) {
            found.extend(routes(&self.bootstrap, listener).into_iter().map(Resource::Bootstrap));
        }
        for version in self.listeners() {
            let body = &version.resource.body;
            let parts = routes(body, 0..body.len());
            found.extend(parts.into_iter().map(|range| Resource::Part(version.clone(), range)));
        }
        found
    }

    fn bytes(&self, resource: &Resource) -> Vec<u8> {
        match resource {
            Resource::Bootstrap(range) => self.bootstrap.get(range.clone()).unwrap_or_default().to_vec(),
            Resource::Endpoints(name) => {
                let admin = self.admin.as_ref();
                admin.map(|admin| super::endpoints::assignment(admin, name)).unwrap_or_default()
            }
            Resource::Part(version, range) => version.resource.body.get(range.clone()).unwrap_or_default().to_vec(),
            Resource::Held(_) => Vec::new(),
        }
    }

    /// The name of a resource.
    pub(super) fn name(&self, kind: Kind, resource: &Resource) -> String {
        match resource {
            Resource::Endpoints(name) => return name.to_string(),
            Resource::Held(held) => return held.name.clone(),
            Resource::Bootstrap(_) | Resource::Part(..) => {}
        }
        let number = kind.message().and_then(|message| message.field_by_name("name")).map(|field| field.number());
        let bytes = self.bytes(resource);
        let mut fields = wire::fields(&bytes).flatten();
        let name = fields.find_map(|(at, value)| (Some(at) == number).then(|| value.bytes()));
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// The item of a list that shows the resource.
    pub(super) fn item(&self, kind: Kind, resource: &Resource, updated: &[u8]) -> Vec<u8> {
        if let Resource::Held(held) = resource {
            return dynamic::item(kind, held);
        }
        let updated = match resource {
            Resource::Part(version, _) => &timestamp(version.at),
            _ => updated,
        };
        let any = to_any(kind.full_name(), &self.bytes(resource));
        let mut item = Vec::with_capacity(any.len() + 32);
        match kind {
            Kind::Endpoint => put_bytes(&mut item, 1, &any),
            Kind::DynamicEndpoint => put_bytes(&mut item, 2, &any),
            Kind::Secret => {
                put_bytes(&mut item, 1, self.name(kind, resource).as_bytes());
                put_bytes(&mut item, 2, updated);
                put_bytes(&mut item, 3, &any);
            }
            _ => {
                put_bytes(&mut item, 1, &any);
                put_bytes(&mut item, 2, updated);
            }
        }
        item
    }
}

/// The connection managers of a listener.
fn managers(bytes: &[u8], listener: Range<usize>) -> Vec<Range<usize>> {
    let mut managers = Vec::new();
    let Some(message) = Kind::Listener.message() else { return managers };
    for chains in ["filter_chains", "default_filter_chain"] {
        let configs = find(bytes, listener.clone(), message, &[chains, "filters", "typed_config"]).into_iter();
        let parts = configs.map(|config| any_parts(bytes, config));
        let is_manager =
            |url: &Range<usize>| bytes.get(url.clone()).is_some_and(|url| url.ends_with(MANAGER.as_bytes()));
        managers.extend(parts.filter(|(url, _)| is_manager(url)).map(|(_, value)| value));
    }
    managers
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
