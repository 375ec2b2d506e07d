//! What clients and the server say, whichever of the protocol's forms a stream has.

use std::time::Duration;

use nuncio_api::pb::envoy::config::core::v3::{ControlPlane, Node};
use nuncio_api::pb::envoy::service::discovery::v3 as pb;
use nuncio_api::pb::google::rpc::Status;
use nuncio_api::wkt::Any;
use prost::Message as _;

use crate::message::Fields;

/// What happened, in the order in which it arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream was opened; for REST, a request came.
    Opened {
        /// Its number, from 1 in order of opening.
        stream: usize,
        /// The number of its connection, from 1.
        connection: usize,
        /// `/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources`, or the path of REST.
        path: String,
        /// The headers, without pseudo-headers.
        fields: Fields,
    },
    /// A message came.
    Request(Request),
    /// The client ended a stream, or its connection ended.
    Ended {
        /// Its number.
        stream: usize,
        /// By a reset, or the loss of the connection.
        reset: bool,
    },
}

/// The form of the messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `DiscoveryRequest` and `DiscoveryResponse`.
    Sotw,
    /// `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
    Delta,
    /// The same as `Sotw`, as JSON over HTTP/1.1; a stream is one request.
    Rest,
    /// Something else; messages are bytes.
    Raw,
}

impl StreamKind {
    /// By the path of a request.
    pub fn of(path: &str) -> Self {
        let (service, method) = path.rsplit_once('/').unwrap_or_default();
        if path.starts_with("/v3/discovery:") {
            Self::Rest
        } else if !service.ends_with("DiscoveryService") || service.ends_with("HealthDiscoveryService") {
            Self::Raw
        } else if method.starts_with("Delta") {
            Self::Delta
        } else if method.starts_with("Stream") {
            Self::Sotw
        } else {
            Self::Raw
        }
    }
}

/// A message of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The number of its stream.
    pub stream: usize,
    /// The path of the stream.
    pub path: String,
    /// What it says.
    pub message: Message,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// State of the world.
    Sotw(Box<pb::DiscoveryRequest>),
    /// Delta.
    Delta(Box<pb::DeltaDiscoveryRequest>),
    /// Of another service, or what can't be decoded.
    Raw(Vec<u8>),
}

impl Message {
    /// Reads a message of a stream of this kind.
    pub fn decode(kind: StreamKind, bytes: &[u8]) -> Self {
        let raw = || Self::Raw(bytes.to_vec());
        match kind {
            StreamKind::Sotw => {
                pb::DiscoveryRequest::decode(bytes).map_or_else(|_| raw(), |message| Self::Sotw(Box::new(message)))
            }
            StreamKind::Delta => {
                pb::DeltaDiscoveryRequest::decode(bytes).map_or_else(|_| raw(), |message| Self::Delta(message.into()))
            }
            StreamKind::Rest | StreamKind::Raw => raw(),
        }
    }
}

impl Request {
    /// The type that is asked for, empty where there is none.
    pub fn type_url(&self) -> &str {
        match &self.message {
            Message::Sotw(request) => &request.type_url,
            Message::Delta(request) => &request.type_url,
            Message::Raw(_) => "",
        }
    }

    /// The nonce of the response that this answers.
    pub fn nonce(&self) -> &str {
        match &self.message {
            Message::Sotw(request) => &request.response_nonce,
            Message::Delta(request) => &request.response_nonce,
            Message::Raw(_) => "",
        }
    }

    /// The version that is accepted; always empty with delta.
    pub fn version(&self) -> &str {
        match &self.message {
            Message::Sotw(request) => &request.version_info,
            _ => "",
        }
    }

    /// The names: those of state of the world, or those that delta subscribes.
    pub fn names(&self) -> &[String] {
        match &self.message {
            Message::Sotw(request) => &request.resource_names,
            Message::Delta(request) => &request.resource_names_subscribe,
            Message::Raw(_) => &[],
        }
    }

    /// The names that delta unsubscribes.
    pub fn unsubscribed(&self) -> &[String] {
        match &self.message {
            Message::Delta(request) => &request.resource_names_unsubscribe,
            _ => &[],
        }
    }

    /// The versions that delta says are there already, sorted by name.
    pub fn initial_versions(&self) -> Vec<(String, String)> {
        let Message::Delta(request) = &self.message else { return Vec::new() };
        let mut versions: Vec<_> = request.initial_resource_versions.clone().into_iter().collect();
        versions.sort_unstable();
        versions
    }

    /// Why the response is refused.
    pub fn error(&self) -> Option<&Status> {
        match &self.message {
            Message::Sotw(request) => request.error_detail.as_ref(),
            Message::Delta(request) => request.error_detail.as_ref(),
            Message::Raw(_) => None,
        }
    }

    /// Who asks.
    pub fn node(&self) -> Option<&Node> {
        match &self.message {
            Message::Sotw(request) => request.node.as_ref(),
            Message::Delta(request) => request.node.as_ref(),
            Message::Raw(_) => None,
        }
    }
}

/// A resource of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Its name. State of the world tells it only where the resource is wrapped.
    pub name: String,
    /// Its version, for delta.
    pub version: String,
    /// The resource; `None` for a heartbeat.
    pub any: Option<Any>,
    /// How long it is valid.
    pub ttl: Option<Duration>,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// State of the world wraps it into a `Resource`, as it does wherever there is a TTL.
    pub wrapped: bool,
}

impl Resource {
    /// A resource of this name and version.
    pub fn new(name: &str, version: &str, any: Any) -> Self {
        Self { name: name.into(), version: version.into(), any: Some(any), ..Self::default() }
    }

    fn message(&self) -> pb::Resource {
        let ttl = self.ttl.map(|ttl| nuncio_api::wkt::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or(0),
        });
        pb::Resource {
            name: self.name.clone(),
            aliases: self.aliases.clone(),
            version: self.version.clone(),
            resource: self.any.clone(),
            ttl,
            ..pb::Resource::default()
        }
    }

    /// As it stands in a response of state of the world.
    fn any_message(&self) -> Any {
        match &self.any {
            Some(any) if self.ttl.is_none() && !self.wrapped => any.clone(),
            _ => Any { type_url: type_url("resource"), value: self.message().encode_to_vec() },
        }
    }
}

/// A response, whichever form its stream has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// The type.
    pub type_url: String,
    /// `version_info`, or `system_version_info`.
    pub version: String,
    /// The nonce.
    pub nonce: String,
    /// The resources.
    pub resources: Vec<Resource>,
    /// Names of resources that are gone; delta only.
    pub removed: Vec<String>,
    /// The identifier of the control plane.
    pub control_plane: Option<String>,
}

impl Response {
    /// A response of `wanted`, a type URL or its short name.
    pub fn new(wanted: &str, version: &str, nonce: &str, resources: Vec<Resource>) -> Self {
        Self { type_url: type_url(wanted), version: version.into(), nonce: nonce.into(), resources, ..Self::default() }
    }

    /// The message for a stream of this kind.
    pub fn encode(&self, kind: StreamKind) -> Vec<u8> {
        match kind {
            StreamKind::Delta => self.delta().encode_to_vec(),
            StreamKind::Rest => super::json::response(&self.sotw()).into_bytes(),
            StreamKind::Sotw | StreamKind::Raw => self.sotw().encode_to_vec(),
        }
    }

    fn control_plane(&self) -> Option<ControlPlane> {
        self.control_plane.clone().map(|identifier| ControlPlane { identifier })
    }

    /// The message of state of the world.
    pub fn sotw(&self) -> pb::DiscoveryResponse {
        pb::DiscoveryResponse {
            version_info: self.version.clone(),
            resources: self.resources.iter().map(Resource::any_message).collect(),
            type_url: self.type_url.clone(),
            nonce: self.nonce.clone(),
            control_plane: self.control_plane(),
            ..pb::DiscoveryResponse::default()
        }
    }

    /// The message of delta.
    pub fn delta(&self) -> pb::DeltaDiscoveryResponse {
        pb::DeltaDiscoveryResponse {
            system_version_info: self.version.clone(),
            resources: self.resources.iter().map(Resource::message).collect(),
            type_url: self.type_url.clone(),
            removed_resources: self.removed.clone(),
            nonce: self.nonce.clone(),
            control_plane: self.control_plane(),
            ..pb::DeltaDiscoveryResponse::default()
        }
    }
}

const PREFIX: &str = "type.googleapis.com/";

/// Short names and the messages of the types.
const TYPES: &[(&str, &str)] = &[
    ("cds", "envoy.config.cluster.v3.Cluster"),
    ("eds", "envoy.config.endpoint.v3.ClusterLoadAssignment"),
    ("lds", "envoy.config.listener.v3.Listener"),
    ("rds", "envoy.config.route.v3.RouteConfiguration"),
    ("srds", "envoy.config.route.v3.ScopedRouteConfiguration"),
    ("vhds", "envoy.config.route.v3.VirtualHost"),
    ("sds", "envoy.extensions.transport_sockets.tls.v3.Secret"),
    ("ecds", "envoy.config.core.v3.TypedExtensionConfig"),
    ("rtds", "envoy.service.runtime.v3.Runtime"),
    ("resource", "envoy.service.discovery.v3.Resource"),
];

/// The type URL of a short name (`cds`, `eds`, `lds`, `rds`, `srds`, `vhds`, `sds`, `ecds`, `rtds`); another text stays.
pub fn type_url(name: &str) -> String {
    let found = TYPES.iter().find(|(short, _)| *short == name);
    found.map_or_else(|| name.to_owned(), |(_, message)| format!("{PREFIX}{message}"))
}

/// The short name of a type URL, or the URL.
pub fn short_type(url: &str) -> &str {
    let message = url.strip_prefix(PREFIX).unwrap_or(url);
    TYPES.iter().find(|(_, known)| *known == message).map_or(url, |(short, _)| short)
}
