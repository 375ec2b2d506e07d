//! The configuration messages of Istio's extensions, which the generated ones lack. `build/istio.rs` has their descriptors.
//!
//! They keep the package names that Istio gave them; see envoyproxy/envoy, `api/contrib/envoy/extensions/filters`.

/// `stats.PluginConfig`: what `istio.stats` counts.
pub mod stats {
    use crate::wkt::Duration;
    use prost::{Enumeration, Message, Name};
    use std::collections::HashMap;

    /// What a metric of its own is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
    #[repr(i32)]
    pub enum MetricType {
        /// It grows.
        Counter = 0,
        /// It is set.
        Gauge = 1,
        /// A distribution.
        Histogram = 2,
    }

    /// What the proxy is, as seen from its metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
    #[repr(i32)]
    pub enum Reporter {
        /// By the listener's direction.
        Unspecified = 0,
        /// A gateway before the workloads of a service (waypoint).
        ServerGateway = 1,
    }

    /// Changes to a metric, or to all.
    #[derive(Clone, PartialEq, Message)]
    pub struct MetricConfig {
        /// Tags by name, each with an expression.
        #[prost(map = "string, string", tag = "1")]
        pub dimensions: HashMap<String, String>,
        /// The metric, without `istio_`; all if it is empty.
        #[prost(string, tag = "2")]
        pub name: String,
        /// Tags that are left out.
        #[prost(string, repeated, tag = "3")]
        pub tags_to_remove: Vec<String>,
        /// A condition.
        #[prost(string, tag = "4")]
        pub r#match: String,
        /// The metric is not counted.
        #[prost(bool, tag = "5")]
        pub drop: bool,
    }

    /// A metric of its own.
    #[derive(Clone, PartialEq, Message)]
    pub struct MetricDefinition {
        /// Its name, without `istio_`.
        #[prost(string, tag = "1")]
        pub name: String,
        /// The expression of its value.
        #[prost(string, tag = "2")]
        pub value: String,
        /// What it is.
        #[prost(enumeration = "MetricType", tag = "3")]
        pub r#type: i32,
    }

    /// The configuration.
    #[derive(Clone, PartialEq, Message)]
    pub struct PluginConfig {
        /// The host header does not stand in for the destination service.
        #[prost(bool, tag = "6")]
        pub disable_host_header_fallback: bool,
        /// How often TCP connections are reported while they last. Default 5 s.
        #[prost(message, optional, tag = "7")]
        pub tcp_reporting_duration: Option<Duration>,
        /// Changes to metrics.
        #[prost(message, repeated, tag = "8")]
        pub metrics: Vec<MetricConfig>,
        /// Metrics of its own.
        #[prost(message, repeated, tag = "9")]
        pub definitions: Vec<MetricDefinition>,
        /// What the proxy is.
        #[prost(enumeration = "Reporter", tag = "10")]
        pub reporter: i32,
        /// Deprecated.
        #[prost(message, optional, tag = "11")]
        pub rotation_interval: Option<Duration>,
        /// Deprecated.
        #[prost(message, optional, tag = "12")]
        pub graceful_deletion_interval: Option<Duration>,
    }

    impl Name for PluginConfig {
        const NAME: &'static str = "PluginConfig";
        const PACKAGE: &'static str = "stats";
    }
}

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`: which protocols a request's connection offers.
pub mod alpn {
    use prost::{Enumeration, Message, Name};

    /// What is spoken to the host.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
    #[repr(i32)]
    pub enum Protocol {
        /// HTTP/1.0.
        Http10 = 0,
        /// HTTP/1.1.
        Http11 = 1,
        /// HTTP/2.
        Http2 = 2,
    }

    /// The names of one protocol.
    #[derive(Clone, PartialEq, Message)]
    pub struct AlpnOverride {
        /// What is spoken to the host.
        #[prost(enumeration = "Protocol", tag = "1")]
        pub upstream_protocol: i32,
        /// What is offered, best first.
        #[prost(string, repeated, tag = "2")]
        pub alpn_override: Vec<String>,
    }

    /// The configuration.
    #[derive(Clone, PartialEq, Message)]
    pub struct FilterConfig {
        /// By protocol.
        #[prost(message, repeated, tag = "1")]
        pub alpn_override: Vec<AlpnOverride>,
    }

    impl Name for FilterConfig {
        const NAME: &'static str = "FilterConfig";
        const PACKAGE: &'static str = "istio.envoy.config.filter.http.alpn.v2alpha1";
    }
}

/// `io.istio.http.peer_metadata.Config`: how peers tell each other what they are.
pub mod peer_metadata {
    use prost::{Message, Name, Oneof};

    /// By the `baggage` header.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct Baggage {}

    /// By workload discovery.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct WorkloadDiscovery {}

    /// By the headers `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct IstioHeaders {
        /// Services outside the mesh get none.
        #[prost(bool, tag = "1")]
        pub skip_external_clusters: bool,
    }

    /// How the peer is found out.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct DiscoveryMethod {
        /// The way.
        #[prost(oneof = "Discovery", tags = "1, 2, 3")]
        pub method_specifier: Option<Discovery>,
    }

    /// A way to find the peer out.
    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub enum Discovery {
        /// By the `baggage` header.
        #[prost(message, tag = "1")]
        Baggage(Baggage),
        /// By workload discovery.
        #[prost(message, tag = "2")]
        WorkloadDiscovery(WorkloadDiscovery),
        /// By Istio's headers.
        #[prost(message, tag = "3")]
        IstioHeaders(IstioHeaders),
    }

    /// How the peer is told.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct PropagationMethod {
        /// The way.
        #[prost(oneof = "Propagation", tags = "1")]
        pub method_specifier: Option<Propagation>,
    }

    /// A way to tell the peer.
    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub enum Propagation {
        /// By Istio's headers.
        #[prost(message, tag = "1")]
        IstioHeaders(IstioHeaders),
    }

    /// The configuration.
    #[derive(Clone, PartialEq, Message)]
    pub struct Config {
        /// How the client is found out: the first that works.
        #[prost(message, repeated, tag = "1")]
        pub downstream_discovery: Vec<DiscoveryMethod>,
        /// How the server is found out: the first that works.
        #[prost(message, repeated, tag = "2")]
        pub upstream_discovery: Vec<DiscoveryMethod>,
        /// How the client is told.
        #[prost(message, repeated, tag = "3")]
        pub downstream_propagation: Vec<PropagationMethod>,
        /// How the server is told.
        #[prost(message, repeated, tag = "4")]
        pub upstream_propagation: Vec<PropagationMethod>,
        /// Upstream filters see what was found out.
        #[prost(bool, tag = "5")]
        pub shared_with_upstream: bool,
        /// Labels that are told beside the usual ones.
        #[prost(string, repeated, tag = "6")]
        pub additional_labels: Vec<String>,
    }

    impl Name for Config {
        const NAME: &'static str = "Config";
        const PACKAGE: &'static str = "io.istio.http.peer_metadata";
    }
}

/// `envoy.tcp.metadataexchange.config.MetadataExchange`: the same on TCP connections.
pub mod metadata_exchange {
    use prost::{Message, Name};

    /// The configuration.
    #[derive(Clone, PartialEq, Message)]
    pub struct MetadataExchange {
        /// The protocol (ALPN) that says that the peer takes part.
        #[prost(string, tag = "1")]
        pub protocol: String,
        /// Where the peer does not, workload discovery is asked.
        #[prost(bool, tag = "2")]
        pub enable_discovery: bool,
        /// Labels that are told beside the usual ones.
        #[prost(string, repeated, tag = "3")]
        pub additional_labels: Vec<String>,
    }

    impl Name for MetadataExchange {
        const NAME: &'static str = "MetadataExchange";
        const PACKAGE: &'static str = "envoy.tcp.metadataexchange.config";
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Schema;
    use prost::{Message, Name};

    /// Every field of a message is among its descriptors, under the number that it has on the wire.
    #[test]
    fn messages_and_descriptors_agree() {
        fn numbers<M: Name>() -> Vec<(String, u32)> {
            let message = Schema::message(&M::full_name()).unwrap();
            message.fields().map(|field| (field.name().to_owned(), field.number())).collect()
        }
        let names = |fields: Vec<(String, u32)>| -> Vec<String> {
            fields.into_iter().map(|(name, number)| format!("{name}={number}")).collect()
        };
        assert_eq!(
            names(numbers::<super::stats::PluginConfig>()).join(" "),
            "disable_host_header_fallback=6 tcp_reporting_duration=7 metrics=8 definitions=9 reporter=10 \
             rotation_interval=11 graceful_deletion_interval=12"
        );
        assert_eq!(names(numbers::<super::alpn::FilterConfig>()).join(" "), "alpn_override=1");
        assert_eq!(names(numbers::<super::peer_metadata::Config>()).len(), 6);
        assert_eq!(names(numbers::<super::metadata_exchange::MetadataExchange>()).len(), 3);
        assert!(Schema::message("istio.workload.BootstrapExtension").is_some());
        let config = super::metadata_exchange::MetadataExchange { enable_discovery: true, ..Default::default() };
        assert_eq!(config.encode_to_vec(), [0x10, 1]);
    }
}
