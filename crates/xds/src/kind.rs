//! The kinds of resources, and how each is asked for.

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoint,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// SRDS.
    ScopedRoute,
    /// VHDS.
    VirtualHost,
    /// SDS.
    Secret,
    /// ECDS.
    ExtensionConfig,
    /// RTDS.
    Runtime,
}

const PREFIX: &str = "type.googleapis.com/";

impl ResourceType {
    /// All of them.
    pub const ALL: [ResourceType; 9] = [
        ResourceType::Cluster,
        ResourceType::Endpoint,
        ResourceType::Listener,
        ResourceType::Route,
        ResourceType::ScopedRoute,
        ResourceType::VirtualHost,
        ResourceType::Secret,
        ResourceType::ExtensionConfig,
        ResourceType::Runtime,
    ];

    /// `type.googleapis.com/envoy.config.cluster.v3.Cluster` and the like.
    pub fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            ResourceType::ScopedRoute => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            ResourceType::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            ResourceType::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            ResourceType::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            ResourceType::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The full name of the message.
    pub fn message(self) -> &'static str {
        self.type_url().strip_prefix(PREFIX).unwrap_or_default()
    }

    /// The kind of a type URL.
    pub fn of_url(url: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The path of the streaming gRPC method of the kind's own service. VHDS is delta only.
    pub fn stream_method(self, is_delta: bool) -> &'static str {
        match (self, is_delta) {
            (ResourceType::Cluster, false) => "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
            (ResourceType::Cluster, true) => "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
            (ResourceType::Endpoint, false) => "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            (ResourceType::Endpoint, true) => "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
            (ResourceType::Listener, false) => "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
            (ResourceType::Listener, true) => "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
            (ResourceType::Route, false) => "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
            (ResourceType::Route, true) => "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
            (ResourceType::ScopedRoute, false) => {
                "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes"
            }
            (ResourceType::ScopedRoute, true) => {
                "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes"
            }
            (ResourceType::VirtualHost, _) => "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts",
            (ResourceType::Secret, false) => "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            (ResourceType::Secret, true) => "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
            (ResourceType::ExtensionConfig, false) => {
                "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs"
            }
            (ResourceType::ExtensionConfig, true) => {
                "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs"
            }
            (ResourceType::Runtime, false) => "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
            (ResourceType::Runtime, true) => "/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime",
        }
    }

    /// The path of the aggregated service's method.
    pub fn aggregated_method(is_delta: bool) -> &'static str {
        match is_delta {
            false => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            true => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        }
    }

    /// The path that REST polling posts to.
    pub fn rest_path(self) -> &'static str {
        match self {
            ResourceType::Cluster => "/v3/discovery:clusters",
            ResourceType::Endpoint => "/v3/discovery:endpoints",
            ResourceType::Listener => "/v3/discovery:listeners",
            ResourceType::Route => "/v3/discovery:routes",
            ResourceType::ScopedRoute => "/v3/discovery:scoped-routes",
            ResourceType::VirtualHost => "/v3/discovery:virtual-hosts",
            ResourceType::Secret => "/v3/discovery:secrets",
            ResourceType::ExtensionConfig => "/v3/discovery:extension_configs",
            ResourceType::Runtime => "/v3/discovery:runtime",
        }
    }

    /// Whether a state-of-the-world response holds all resources of the kind, so that what is missing is gone.
    pub fn is_complete(self) -> bool {
        matches!(self, ResourceType::Cluster | ResourceType::Listener | ResourceType::ScopedRoute)
    }
}
