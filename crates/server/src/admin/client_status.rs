//! `/csds`: the state of every discovered resource, as a `ClientStatusResponse` (`envoy.service.status.v3`).

use super::config_dump::{json_options, timestamp, to_any};
use super::endpoint::Call;
use super::response::{JSON, PIECE, Pieces, Response};
use super::server_info;
use crate::xds::{HeldResource, Version};
use nuncio_api::pb::envoy::admin::v3::ClientResourceStatus;
use nuncio_api::pb::envoy::service::status::v3::ConfigStatus;
use nuncio_api::schema::Schema;
use nuncio_config::json::write_message;
use nuncio_config::transcode::wire::{put_bytes, put_nested, put_tag, put_varint};
use nuncio_xds::ResourceType;

/// `/csds`
pub(super) fn client_status(call: &Call<'_>) -> Response {
    let admin = call.admin;
    let wanted = call.parameters.text("type_url");
    let kinds = ResourceType::ALL.into_iter().filter(|kind| wanted.is_none_or(|url| kind.type_url().ends_with(url)));
    let mut resources: Vec<Item> = kinds
        .flat_map(|kind| admin.server.xds.held.all(kind).into_iter().map(move |(name, held)| Item { kind, name, held }))
        .collect();
    resources.reverse();
    let mut head = String::from("{\n \"config\": [\n  {\n   \"node\": ");
    if let Some(message) = Schema::message("envoy.config.core.v3.Node") {
        write_message(&mut head, &server_info::node(admin), message, json_options(3));
    }
    let exclude_contents = call.parameters.has("exclude_resource_contents");
    Response::pieces(JSON, Status { head: Some(head), resources, exclude_contents, any: false })
}

/// A resource to be listed.
struct Item {
    kind: ResourceType,
    name: String,
    held: HeldResource,
}

/// The answer on its way out.
struct Status {
    head: Option<String>,
    /// The next one last.
    resources: Vec<Item>,
    exclude_contents: bool,
    any: bool,
}

impl Pieces for Status {
    fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(head) = self.head.take() {
            out.extend_from_slice(head.as_bytes());
        }
        let Some(message) = Schema::message("envoy.service.status.v3.ClientConfig.GenericXdsConfig") else {
            return false;
        };
        while out.len() < PIECE {
            let Some(item) = self.resources.pop() else {
                out.extend_from_slice(if self.any { b"\n   ]\n  }\n ]\n}\n" } else { b"\n  }\n ]\n}\n" });
                return false;
            };
            let first = !std::mem::replace(&mut self.any, true);
            out.extend_from_slice(if first { b",\n   \"generic_xds_configs\": [\n    " } else { b",\n    " });
            let mut text = String::new();
            write_message(&mut text, &generic(&item, self.exclude_contents), message, json_options(4));
            out.extend_from_slice(text.as_bytes());
        }
        true
    }
}

/// `ClientConfig.GenericXdsConfig`
fn generic(item: &Item, exclude_contents: bool) -> Vec<u8> {
    let Item { kind, name, held } = item;
    let mut out = Vec::new();
    put_bytes(&mut out, 1, kind.type_url().as_bytes());
    put_bytes(&mut out, 2, name.as_bytes());
    if let Some(Version { resource, at }) = &held.active {
        put_bytes(&mut out, 3, resource.version.as_bytes());
        if !exclude_contents {
            put_bytes(&mut out, 4, &to_any(kind.message(), &resource.body));
        }
        put_bytes(&mut out, 5, &timestamp(*at));
    }
    let (status, client) = match &held.refused {
        Some(_) => (ConfigStatus::Error, ClientResourceStatus::Nacked),
        None => (ConfigStatus::Synced, ClientResourceStatus::Acked),
    };
    for (number, value) in [(6, status as u64), (7, client as u64)] {
        put_tag(&mut out, number, 0);
        put_varint(&mut out, value);
    }
    if let Some((Version { resource, at }, why)) = &held.refused {
        put_tag(&mut out, 8, 2);
        put_nested(&mut out, |out| {
            if !exclude_contents {
                put_bytes(out, 1, &to_any(kind.message(), &resource.body));
            }
            put_bytes(out, 2, &timestamp(*at));
            put_bytes(out, 3, why.as_bytes());
            put_bytes(out, 4, resource.version.as_bytes());
        });
    }
    out
}
