//! A workload: what runs behind a proxy. Owns its forms: node metadata, the message between peers, the object in the filter
//! state, the endpoint's metadata and the `baggage` header.
//!
//! See envoyproxy/envoy, `contrib/istio/filters/common/source/metadata_object.{h,cc}`, for the names.

mod baggage;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use nuncio_config::compile::NodeFacts;
use nuncio_stream_info::{FieldValue, FilterStateObject, Locality, Struct, Value};
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the filter state holds the client's workload.
pub(crate) const DOWNSTREAM_PEER: &str = "downstream_peer";
/// The same, for `FILTER_STATE(…:FIELD:…)`.
pub(crate) const DOWNSTREAM_PEER_OBJECT: &str = "downstream_peer_obj";
/// Where the filter state holds the server's workload.
pub(crate) const UPSTREAM_PEER: &str = "upstream_peer";
/// The same, for `FILTER_STATE(…:FIELD:…)`.
pub(crate) const UPSTREAM_PEER_OBJECT: &str = "upstream_peer_obj";

/// In the filter state once it is known that the peer tells nothing.
pub(crate) const NO_PEER: &str = "peer_not_found";

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const OWNER_PREFIX: &str = "kubernetes://apis/apps/v1/namespaces/";

/// Most bytes of a name, a label or its value; longer ones are left out. Kubernetes allows 253.
const LONGEST: usize = 256;

/// What kind of thing owns the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WorkloadKind {
    /// It is not known.
    #[default]
    Unknown,
    Pod,
    Deployment,
    Job,
    CronJob,
}

impl WorkloadKind {
    fn from_name(name: &str) -> WorkloadKind {
        match name {
            "pod" => WorkloadKind::Pod,
            "deployment" => WorkloadKind::Deployment,
            "job" => WorkloadKind::Job,
            "cronjob" => WorkloadKind::CronJob,
            _ => WorkloadKind::Unknown,
        }
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            WorkloadKind::Unknown => return None,
            WorkloadKind::Pod => "pod",
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::Job => "job",
            WorkloadKind::CronJob => "cronjob",
        })
    }

    /// By `OWNER`: `kubernetes://apis/apps/v1/namespaces/<namespace>/<kind>s/<workload>`.
    fn of_owner(owner: &str, workload: &str) -> WorkloadKind {
        let kind = owner.len().checked_sub(workload.len() + 2).and_then(|end| owner.get(..end));
        kind.and_then(|kind| kind.rsplit_once('/')).map_or(WorkloadKind::Unknown, |(_, kind)| Self::from_name(kind))
    }
}

/// A workload. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Workload {
    /// `NAME`: the instance.
    pub instance: Arc<str>,
    /// `CLUSTER_ID`.
    pub cluster: Arc<str>,
    /// `NAMESPACE`.
    pub namespace: Arc<str>,
    /// `WORKLOAD_NAME`.
    pub name: Arc<str>,
    /// The label `service.istio.io/canonical-name`.
    pub canonical_name: Arc<str>,
    /// The label `service.istio.io/canonical-revision`.
    pub canonical_revision: Arc<str>,
    /// The label `app.kubernetes.io/name`, or `app`.
    pub app: Arc<str>,
    /// The label `app.kubernetes.io/version`, or `version`.
    pub version: Arc<str>,
    /// The kind in `OWNER`.
    pub kind: WorkloadKind,
    /// `IDENTITY`.
    pub identity: Arc<str>,
    /// `REGION`, or the region of the node.
    pub region: Arc<str>,
    /// `AVAILABILITY_ZONE`, or the zone of the node.
    pub zone: Arc<str>,
    /// Further labels that the configuration asks for.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

/// `additional_labels`.
pub(crate) type Labels = BTreeSet<Box<str>>;

/// The text of a field; none if it is none or too long.
fn text(fields: &Struct, name: &str) -> Arc<str> {
    match fields.get(name) {
        Some(Value::String(text)) if text.len() <= LONGEST => Arc::clone(text),
        _ => Arc::default(),
    }
}

fn first(one: Arc<str>, other: impl FnOnce() -> Arc<str>) -> Arc<str> {
    if one.is_empty() { other() } else { one }
}

impl Workload {
    /// From node metadata, or what a peer says of its own.
    pub(crate) fn from_metadata(metadata: &Struct, labels: &Labels) -> Workload {
        let none = Struct::new();
        let given = match metadata.get("LABELS") {
            Some(Value::Struct(given)) => given,
            _ => &none,
        };
        let name = text(metadata, "WORKLOAD_NAME");
        let further = labels.iter().filter_map(|label| match given.get(label) {
            Some(Value::String(value)) if value.len() <= LONGEST => Some((Arc::from(&**label), Arc::clone(value))),
            _ => None,
        });
        Workload {
            instance: text(metadata, "NAME"),
            cluster: text(metadata, "CLUSTER_ID"),
            namespace: text(metadata, "NAMESPACE"),
            canonical_name: text(given, CANONICAL_NAME),
            canonical_revision: text(given, CANONICAL_REVISION),
            app: first(text(given, "app.kubernetes.io/name"), || text(given, "app")),
            version: first(text(given, "app.kubernetes.io/version"), || text(given, "version")),
            kind: WorkloadKind::of_owner(&text(metadata, "OWNER"), &name),
            identity: text(metadata, "IDENTITY"),
            region: text(metadata, "REGION"),
            zone: text(metadata, "AVAILABILITY_ZONE"),
            labels: further.collect(),
            name,
        }
    }

    /// The proxy's own.
    pub(crate) fn of_node(node: &NodeFacts, labels: &Labels) -> Workload {
        let own = Workload::from_metadata(&node.metadata, labels);
        let Locality { region, zone, sub_zone: _ } = &node.locality;
        Workload {
            region: first(Arc::clone(&own.region), || Arc::clone(region)),
            zone: first(Arc::clone(&own.zone), || Arc::clone(zone)),
            ..own
        }
    }

    /// From the metadata of an endpoint, `istio.workload`: name, namespace, canonical name and revision, and cluster, with `;`
    /// between them.
    pub(crate) fn of_endpoint(text: &str) -> Option<Workload> {
        let mut parts = text.split(';').map(Arc::from);
        let (name, namespace) = (parts.next()?, parts.next()?);
        let (canonical_name, canonical_revision, cluster) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Workload { name, namespace, canonical_name, canonical_revision, cluster, ..Workload::default() })
    }

    /// As peers are told of it.
    pub(crate) fn to_metadata(&self) -> Struct {
        let mut labels = Struct::new();
        let known = [
            (CANONICAL_NAME, &self.canonical_name),
            (CANONICAL_REVISION, &self.canonical_revision),
            ("app", &self.app),
            ("version", &self.version),
        ];
        set_all(&mut labels, known);
        for (label, value) in &self.labels {
            labels.set(Arc::clone(label), Value::String(Arc::clone(value)));
        }
        let mut metadata = Struct::new();
        let known = [
            ("NAME", &self.instance),
            ("NAMESPACE", &self.namespace),
            ("WORKLOAD_NAME", &self.name),
            ("CLUSTER_ID", &self.cluster),
            ("IDENTITY", &self.identity),
            ("REGION", &self.region),
            ("AVAILABILITY_ZONE", &self.zone),
        ];
        set_all(&mut metadata, known);
        metadata.set("LABELS", Value::Struct(labels));
        if let Some(kind) = self.kind.name() {
            let owner = format!("{OWNER_PREFIX}{}/{kind}s/{}", self.namespace, self.name);
            metadata.set("OWNER", owner);
        }
        metadata
    }

    /// The same as the bytes of a `google.protobuf.Struct`, in the order of names.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        wire::encode(&self.to_metadata())
    }

    /// From the bytes of a `google.protobuf.Struct`.
    pub(crate) fn from_wire(bytes: &[u8], labels: &Labels) -> Option<Workload> {
        Some(Workload::from_metadata(&wire::decode(bytes)?, labels))
    }

    /// Fields by the names that expressions and formats use.
    fn fields(&self) -> [(&'static str, &str); 12] {
        [
            ("type", self.kind.name().unwrap_or_default()),
            ("workload", &self.name),
            ("name", &self.instance),
            ("cluster", &self.cluster),
            ("namespace", &self.namespace),
            ("service", &self.canonical_name),
            ("revision", &self.canonical_revision),
            ("app", &self.app),
            ("version", &self.version),
            ("identity", &self.identity),
            ("region", &self.region),
            ("availability_zone", &self.zone),
        ]
    }

    /// As expressions see it.
    pub(crate) fn to_fields(&self) -> Struct {
        let mut fields = Struct::new();
        for (name, value) in self.fields().into_iter().filter(|(_, value)| !value.is_empty()) {
            fields.set(name, value);
        }
        if !self.labels.is_empty() {
            let labels = self.labels.iter().map(|(name, value)| (Arc::clone(name), Value::String(Arc::clone(value))));
            fields.set("labels", Value::Struct(labels.collect()));
        }
        fields
    }
}

fn set_all<const N: usize>(fields: &mut Struct, known: [(&'static str, &Arc<str>); N]) {
    for (name, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
        fields.set(name, Value::String(Arc::clone(value)));
    }
}

impl FilterStateObject for Workload {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_plain(&self) -> Option<Cow<'_, str>> {
        let named = self.fields().into_iter().filter(|(name, value)| !value.is_empty() && *name != "identity");
        let mut parts: Vec<String> = named.map(|(name, value)| format!("{name}={value}")).collect();
        parts.extend(self.labels.iter().map(|(name, value)| format!("labels[]{name}={value}")));
        Some(Cow::Owned(parts.join(",")))
    }

    fn to_typed(&self) -> Option<Value> {
        Some(Value::Struct(self.to_fields()))
    }

    fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        let found = match name.strip_prefix("labels[]") {
            Some(label) => self.labels.iter().find(|(known, _)| **known == *label).map(|(_, value)| &**value),
            None => self.fields().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value),
        };
        found.filter(|value| !value.is_empty()).map(|value| FieldValue::Text(Cow::Borrowed(value)))
    }
}
