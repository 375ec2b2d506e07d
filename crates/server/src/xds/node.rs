//! Who this proxy is, as management servers are told.

use crate::run::COMPATIBLE;
use nuncio_api::pb::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::pb::envoy::config::core::v3::node::UserAgentVersionType;
use nuncio_api::pb::envoy::config::core::v3::{BuildVersion, Extension, Locality, Node};
use nuncio_api::pb::envoy::r#type::v3::SemanticVersion;
use nuncio_config::compile::Registry;
use nuncio_config::snapshot::Snapshot;
use prost::Message;

/// The node of the bootstrap, with what the command line says, and what this program is.
pub(crate) fn node(snapshot: &Snapshot, registry: &Registry) -> Node {
    let bootstrap = Bootstrap::decode(&snapshot.dump.bootstrap[..]).unwrap_or_default();
    let mut node = bootstrap.node.unwrap_or_default();
    let own = &snapshot.node;
    node.id.clone_from(&own.id);
    node.cluster.clone_from(&own.cluster);
    if !(own.region.is_empty() && own.zone.is_empty() && own.sub_zone.is_empty()) {
        node.locality =
            Some(Locality { region: own.region.clone(), zone: own.zone.clone(), sub_zone: own.sub_zone.clone() });
    }
    // The name that control planes know this API by.
    node.user_agent_name = "envoy".to_owned();
    let mut numbers = COMPATIBLE.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    node.user_agent_version_type = Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
        version: Some(SemanticVersion { major_number: next(), minor_number: next(), patch: next() }),
        metadata: None,
    }));
    node.extensions = extensions(registry);
    node
}

fn extensions(registry: &Registry) -> Vec<Extension> {
    let extension = |category: &str, name: &str, urls: Vec<String>| Extension {
        name: name.to_owned(),
        category: category.to_owned(),
        type_urls: urls,
        ..Extension::default()
    };
    let mut extensions = Vec::new();
    for entry in &registry.http {
        let mut urls = vec![entry.config.clone(), entry.per_route.clone()];
        urls.dedup();
        extensions.push(extension("envoy.filters.http", entry.name, urls));
    }
    for entry in &registry.network {
        extensions.push(extension("envoy.filters.network", entry.name, vec![entry.config.clone()]));
    }
    for entry in &registry.listener {
        extensions.push(extension("envoy.filters.listener", entry.name, vec![entry.config.clone()]));
    }
    for entry in &registry.access_log {
        extensions.push(extension("envoy.access_loggers", entry.name, vec![entry.config.clone()]));
    }
    extensions
}
