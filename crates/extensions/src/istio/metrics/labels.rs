//! The labels of a metric: who talked to whom, and how.

use super::{LONGEST_LABEL, Reporting};
use crate::istio::workload::{DOWNSTREAM_PEER, Labels as ExtraLabels, NO_PEER, UPSTREAM_PEER, Workload};
use nuncio_config::compile::NodeFacts;
use nuncio_stream_info::{FilterStateObject, Metadata, StreamInfo, Struct, TlsInfo, Value};
use std::sync::Arc;

/// The standard labels.
pub(super) const LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "response_code",
    "grpc_response_status",
];

/// On whose side a proxy reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reporter {
    /// A sidecar, for what its workload asks for.
    Client,
    /// A sidecar, for what its workload is asked for.
    Server,
    /// A gateway before the workloads of a service.
    Gateway,
}

/// The proxy's own workload.
pub(crate) struct Own(Workload);

impl Own {
    /// By node metadata. Unlike peers it goes by the plain labels `app` and `version`, as in Envoy.
    pub(super) fn of(node: &NodeFacts) -> Own {
        let plain = |name| match node.metadata.get("LABELS") {
            Some(Value::Struct(labels)) => labels.get(name).and_then(Value::as_str).unwrap_or_default().into(),
            _ => Arc::default(),
        };
        let own = Workload::from_metadata(&node.metadata, &ExtraLabels::new());
        Own(Workload { app: plain("app"), version: plain("version"), ..own })
    }
}

/// Labels by name, in the order in which they were given.
pub(crate) struct Labels<'a> {
    given: [(&'static str, &'a str); LABELS.len()],
    count: usize,
}

impl<'a> Labels<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'static str, &'a str)> {
        self.given.iter().take(self.count)
    }

    pub(super) fn push(&mut self, name: &'static str, value: &'a str) {
        if let Some(place) = self.given.get_mut(self.count) {
            *place = (name, value);
            self.count += 1;
        }
    }
}

/// What is spoken, with what is known of it at the end.
pub(crate) enum Kind<'a> {
    /// A connection.
    Tcp,
    /// A request: the status, and the status of a gRPC call if it is one.
    Http { code: &'a str, grpc_status: Option<&'a str> },
    /// Messages of a call that lasts.
    Messages,
}

/// What is seen of a stream, kept so that labels can refer to it.
pub(crate) struct Seen {
    peer: Option<Arc<dyn FilterStateObject>>,
    /// The server behind a gateway, or what the endpoint's metadata says of it.
    endpoint: Option<Arc<dyn FilterStateObject>>,
    described: Option<Workload>,
    peer_principal: Option<String>,
    local_principal: Option<String>,
    flags: String,
}

/// An object of the filter state as a workload.
fn workload(object: Option<&Arc<dyn FilterStateObject>>) -> Option<&Workload> {
    object.and_then(|object| object.as_any().downcast_ref())
}

fn get(info: &StreamInfo, name: &str) -> Option<Arc<dyn FilterStateObject>> {
    let of_upstream = || info.upstream.filter_state.get(name);
    if name == UPSTREAM_PEER {
        of_upstream().or_else(|| info.filter_state.get(name))
    } else {
        info.filter_state.get(name)
    }
}

/// Whether it is known who the peer is, or that it does not say.
pub(crate) fn is_peer_known(reporter: Reporter, info: &StreamInfo) -> bool {
    let (peer, state) = match reporter {
        Reporter::Client => (UPSTREAM_PEER, &info.upstream.filter_state),
        Reporter::Server | Reporter::Gateway => (DOWNSTREAM_PEER, &info.filter_state),
    };
    get(info, peer).is_some() || state.get(NO_PEER).is_some()
}

fn or_unknown(text: &str) -> &str {
    or(text, "unknown")
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// The namespace in a principal: `<domain>/ns/<namespace>/sa/<account>`.
fn namespace_of(principal: &str) -> &str {
    let rest = principal.split_once("/ns/").map_or("", |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Where a request or connection was meant to go.
#[derive(Default)]
struct Service<'a> {
    host: &'a str,
    name: &'a str,
    namespace: &'a str,
}

const PASSTHROUGH: [&str; 5] = [
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

impl<'a> Service<'a> {
    fn of(info: &'a StreamInfo, host: Option<&'a str>) -> Service<'a> {
        let host = host.unwrap_or_default();
        let mut service = Service { host, name: host, namespace: "" };
        match info.route.as_ref().map(|route| &*route.name) {
            Some("block_all") => service.name = "BlackHoleCluster",
            Some("allow_any") => service.name = "PassthroughCluster",
            _ => {
                let Some(cluster) = &info.upstream.cluster else { return service };
                match PASSTHROUGH.iter().find(|name| ***name == *cluster.name) {
                    Some(name) => service.name = name,
                    None => service.described_by(cluster.metadata.as_deref()),
                }
            }
        }
        service
    }

    /// By the first of the cluster's services.
    fn described_by(&mut self, metadata: Option<&'a Metadata>) {
        let Some(Value::List(services)) = metadata.and_then(|metadata| metadata.get("istio", &["services"])) else {
            return;
        };
        let Some(Value::Struct(first)) = services.first() else { return };
        let text = |fields: &'a Struct, name| fields.get(name).map(|value| value.as_str().unwrap_or_default());
        self.host = text(first, "host").unwrap_or(self.host);
        self.namespace = text(first, "namespace").unwrap_or_default();
        self.name = text(first, "name").unwrap_or_else(|| self.host.split('.').next().unwrap_or_default());
    }
}

impl Seen {
    pub(crate) fn of(reporter: Reporter, info: &StreamInfo) -> Seen {
        let is_client = reporter == Reporter::Client;
        let peer = get(info, if is_client { UPSTREAM_PEER } else { DOWNSTREAM_PEER });
        let described = || {
            let metadata = info.upstream.host()?.metadata.as_deref()?;
            Workload::of_endpoint(metadata.get("istio", &["workload"])?.as_str()?)
        };
        let described = if is_client && workload(peer.as_ref()).is_none() { described() } else { None };
        let principal = |name| {
            let object = info.filter_state.get(name).filter(|_| !is_client)?;
            object.to_plain().map(|text| text.into_owned()).filter(|text| !text.is_empty())
        };
        let flags = if info.flags.is_empty() { String::new() } else { info.flags.to_string() };
        Seen {
            endpoint: if reporter == Reporter::Gateway { get(info, UPSTREAM_PEER) } else { None },
            described,
            peer_principal: principal("io.istio.peer_principal"),
            local_principal: principal("io.istio.local_principal"),
            peer,
            flags,
        }
    }

    /// The labels of a stream; `host` is what its request asked for.
    pub(crate) fn labels<'a>(
        &'a self,
        reporting: &'a Reporting,
        info: &'a StreamInfo,
        host: Option<&'a str>,
        kind: &Kind<'a>,
    ) -> Labels<'a> {
        let mut labels = Labels { given: [("", ""); LABELS.len()], count: 0 };
        let host = host.filter(|host| !reporting.disable_host_header_fallback && host.len() <= LONGEST_LABEL);
        let service = Service::of(info, host);
        let is_client = reporting.reporter == Reporter::Client;
        let (peer_principal, local_principal) = self.principals(is_client, info);
        labels.push(
            "reporter",
            match reporting.reporter {
                Reporter::Client => "source",
                Reporter::Server => "destination",
                Reporter::Gateway => "waypoint",
            },
        );
        let sides = Sides { own: &reporting.own.0, service, peer_principal, local_principal };
        match reporting.reporter {
            Reporter::Client => self.of_client(&sides, &mut labels),
            Reporter::Server => {
                self.of_source(&sides, &mut labels);
                sides.of_server(&mut labels);
            }
            Reporter::Gateway => {
                self.of_source(&sides, &mut labels);
                self.of_gateway(&sides, &mut labels);
            }
        }
        let security = match is_client {
            true => "unknown",
            false if !peer_principal.is_empty() && !local_principal.is_empty() => "mutual_tls",
            false => "none",
        };
        match kind {
            Kind::Messages => return labels,
            Kind::Tcp => labels.push("request_protocol", "tcp"),
            Kind::Http { code, grpc_status } => {
                labels.push("request_protocol", if grpc_status.is_some() { "grpc" } else { "http" });
                labels.push("response_code", code);
                labels.push("grpc_response_status", grpc_status.unwrap_or_default());
            }
        }
        labels.push("response_flags", or(&self.flags, "-"));
        labels.push("connection_security_policy", security);
        labels
    }

    /// The peer's and the own principal: the URI names in the certificates.
    fn principals<'a>(&'a self, is_client: bool, info: &'a StreamInfo) -> (&'a str, &'a str) {
        fn first(names: &[Arc<str>]) -> &str {
            names.first().map_or("", |name| name)
        }
        let of = |tls: Option<&'a TlsInfo>| tls.map_or(("", ""), |tls| (first(&tls.peer.uri), first(&tls.local.uri)));
        if is_client {
            let (peer, local) = of(info.upstream.tls.as_deref());
            let told = workload(self.peer.as_ref()).map_or("", |peer| &peer.identity);
            return (or(peer, told), local);
        }
        match (self.peer_principal.as_deref(), self.local_principal.as_deref()) {
            (None, None) => of(info.connection.as_ref().and_then(|connection| connection.tls.as_deref())),
            (peer, local) => (peer.unwrap_or_default(), local.unwrap_or_default()),
        }
    }

    fn peer(&self) -> Option<&Workload> {
        workload(self.peer.as_ref()).or(self.described.as_ref())
    }

    /// The client as the server's proxy knows it.
    fn of_source<'a>(&'a self, sides: &Sides<'a>, labels: &mut Labels<'a>) {
        let peer = self.peer();
        let of = |field: fn(&Workload) -> &Arc<str>| peer.map_or("", |peer| field(peer));
        labels.push("source_workload", or_unknown(of(|peer| &peer.name)));
        labels.push("source_canonical_service", or_unknown(of(|peer| &peer.canonical_name)));
        labels.push("source_canonical_revision", or(of(|peer| &peer.canonical_revision), "latest"));
        labels.push("source_workload_namespace", or_unknown(sides.peer_namespace(peer)));
        labels.push("source_principal", or_unknown(sides.peer_principal));
        labels.push("source_app", or_unknown(of(|peer| &peer.app)));
        labels.push("source_version", or_unknown(of(|peer| &peer.version)));
        labels.push("source_cluster", or_unknown(of(|peer| &peer.cluster)));
    }

    /// Client and server as the client's proxy knows them.
    fn of_client<'a>(&'a self, sides: &Sides<'a>, labels: &mut Labels<'a>) {
        let (own, service, peer) = (sides.own, &sides.service, self.peer());
        labels.push("source_workload", &own.name);
        labels.push("source_canonical_service", &own.canonical_name);
        labels.push("source_canonical_revision", &own.canonical_revision);
        labels.push("source_workload_namespace", &own.namespace);
        labels.push("source_principal", or_unknown(sides.local_principal));
        labels.push("source_app", &own.app);
        labels.push("source_version", &own.version);
        labels.push("source_cluster", &own.cluster);
        let of = |field: fn(&Workload) -> &Arc<str>| peer.map_or("", |peer| field(peer));
        let namespace = sides.peer_namespace(peer);
        labels.push("destination_workload", or_unknown(of(|peer| &peer.name)));
        labels.push("destination_workload_namespace", or_unknown(namespace));
        labels.push("destination_principal", or_unknown(sides.peer_principal));
        labels.push("destination_app", or_unknown(of(|peer| &peer.app)));
        labels.push("destination_version", or_unknown(of(|peer| &peer.version)));
        labels.push("destination_service", or_unknown(service.host));
        labels.push("destination_canonical_service", or_unknown(of(|peer| &peer.canonical_name)));
        labels.push("destination_canonical_revision", or(of(|peer| &peer.canonical_revision), "latest"));
        labels.push("destination_service_name", or_unknown(service.name));
        labels.push("destination_service_namespace", or_unknown(or(service.namespace, namespace)));
        labels.push("destination_cluster", or_unknown(of(|peer| &peer.cluster)));
    }

    /// The server as the gateway before it knows it.
    fn of_gateway<'a>(&'a self, sides: &Sides<'a>, labels: &mut Labels<'a>) {
        let service = &sides.service;
        let endpoint = workload(self.endpoint.as_ref());
        let of = |field: fn(&Workload) -> &Arc<str>| or_unknown(endpoint.map_or("", |endpoint| field(endpoint)));
        labels.push("destination_workload", of(|endpoint| &endpoint.name));
        labels.push("destination_workload_namespace", of(|endpoint| &endpoint.namespace));
        labels.push("destination_principal", of(|endpoint| &endpoint.identity));
        labels.push("destination_app", of(|endpoint| &endpoint.app));
        labels.push("destination_version", of(|endpoint| &endpoint.version));
        labels.push("destination_service", or_unknown(service.host));
        labels.push("destination_canonical_service", of(|endpoint| &endpoint.canonical_name));
        labels.push("destination_canonical_revision", of(|endpoint| &endpoint.canonical_revision));
        labels.push("destination_service_name", or_unknown(service.name));
        labels.push("destination_service_namespace", or_unknown(service.namespace));
        labels.push("destination_cluster", of(|endpoint| &endpoint.cluster));
    }
}

/// What both ends are, as far as it does not come from the peer.
struct Sides<'a> {
    own: &'a Workload,
    service: Service<'a>,
    peer_principal: &'a str,
    local_principal: &'a str,
}

impl<'a> Sides<'a> {
    /// That of the certificate, or what the peer says.
    fn peer_namespace(&self, peer: Option<&'a Workload>) -> &'a str {
        or(namespace_of(self.peer_principal), peer.map_or("", |peer| &peer.namespace))
    }

    /// The server as its own proxy knows it.
    fn of_server(&self, labels: &mut Labels<'a>) {
        let (own, service) = (self.own, &self.service);
        labels.push("destination_workload", &own.name);
        labels.push("destination_workload_namespace", &own.namespace);
        labels.push("destination_principal", or_unknown(self.local_principal));
        labels.push("destination_app", &own.app);
        labels.push("destination_version", &own.version);
        labels.push("destination_service", or(service.host, &own.canonical_name));
        labels.push("destination_canonical_service", &own.canonical_name);
        labels.push("destination_canonical_revision", &own.canonical_revision);
        labels.push("destination_service_name", or(service.name, &own.canonical_name));
        labels.push("destination_service_namespace", &own.namespace);
        labels.push("destination_cluster", &own.cluster);
    }
}
