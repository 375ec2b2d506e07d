//! `/config_dump`: the configuration in force, printed from its wire bytes, one resource after the other.
//!
//! Only places in the bytes of the bootstrap are gathered beforehand; a resource is copied when its turn comes.

mod dynamic;
mod endpoints;
mod mask;
mod resources;

pub(crate) use endpoints::{address, locality};

use super::Admin;
use super::endpoint::Call;
use super::response::{JSON, PIECE, Pieces, Response};
use super::server_info;
use mask::{Mask, MaskError};
use nuncio_api::schema::{MessageRef, Schema};
use nuncio_config::json::{JsonOptions, write_message};
use nuncio_config::transcode::wire::{put_bytes, put_nested, put_tag, put_varint};
use regex::Regex;
use resources::{Kind, Resource, Source};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest `name_regex` that is compiled, in bytes.
const MAX_PATTERN: usize = 4096;
/// Most memory that a compiled `name_regex` may take, in bytes.
const MAX_PATTERN_SIZE: usize = 1 << 20;
/// Errors of this endpoint have another type than those of the rest, as in Envoy.
const PLAIN: &str = "text/plain";

/// `/config_dump`
pub(super) fn config_dump(call: &Call<'_>) -> Response {
    match dump(call) {
        Ok(dump) => Response::pieces(JSON, dump),
        Err((status, text)) => Response::new(status, PLAIN, text),
    }
}

type Refusal = (u16, String);

fn dump(call: &Call<'_>) -> Result<Dump, Refusal> {
    let parameters = call.parameters;
    let names = parameters.text("name_regex").map(compile).transpose()?;
    let mask = parameters.text("mask").map(Mask::parse);
    let source = Source::new(call.admin, parameters.has("include_eds"));
    let sections = sections(&source);
    let mut plan = Plan { source, names, mask, steps: Vec::new() };
    match parameters.text("resource") {
        Some(resource) => plan.one_list(&sections, resource)?,
        None => plan.all(call.admin, &sections)?,
    }
    plan.steps.reverse();
    Ok(Dump {
        source: plan.source,
        mask: plan.mask,
        updated: timestamp(call.admin.server.last_updated.get()),
        steps: plan.steps,
    })
}

/// The whole name has to match.
fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let refuse = |why: &dyn std::fmt::Display| {
        (400, format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {why}"))
    };
    if pattern.len() > MAX_PATTERN {
        return Err(refuse(&"it is too long"));
    }
    // By itself first, so that no unbalanced parenthesis is completed by the anchors.
    Regex::new(pattern).map_err(|error| refuse(&error))?;
    let whole = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MAX_PATTERN_SIZE).build();
    whole.map_err(|error| refuse(&error))
}

/// The message of a dump, and the lists in it.
type Section = (MessageRef, &'static [Kind]);

/// The messages of a dump. Those of routes are there if a connection manager is, as in Envoy; that of filters if one's
/// configuration was discovered.
fn sections(source: &Source) -> Vec<Section> {
    const CLUSTERS: &[Kind] = &[Kind::Cluster, Kind::ActiveCluster, Kind::WarmingCluster];
    let has_manager = source.has_connection_manager();
    let sections: [(&str, &'static [Kind], bool); 8] = [
        ("BootstrapConfigDump", &[], true),
        ("ClustersConfigDump", CLUSTERS, true),
        ("EcdsConfigDump", &[Kind::Extension], source.has_extensions()),
        ("EndpointsConfigDump", &[Kind::Endpoint, Kind::DynamicEndpoint], source.with_endpoints()),
        ("ListenersConfigDump", &[Kind::Listener, Kind::DynamicListener], true),
        ("ScopedRoutesConfigDump", &[], has_manager),
        ("RoutesConfigDump", &[Kind::Route, Kind::DynamicRoute], has_manager),
        ("SecretsConfigDump", &[Kind::Secret, Kind::ActiveSecret, Kind::WarmingSecret], true),
    ];
    let wanted = sections.into_iter().filter(|(_, _, there)| *there);
    wanted.filter_map(|(name, kinds, _)| Some((Schema::message(&format!("envoy.admin.v3.{name}"))?, kinds))).collect()
}

/// What is written, in order.
enum Step {
    Text(String),
    /// A resource of a list; as `Any`, so with its type, if it stands alone.
    Resource {
        kind: Kind,
        resource: Resource,
        typed: bool,
        indentation: usize,
    },
}

struct Plan {
    source: Source,
    names: Option<Regex>,
    mask: Option<Mask>,
    steps: Vec<Step>,
}

impl Plan {
    fn text(&mut self, text: impl Into<String>) {
        self.steps.push(Step::Text(text.into()));
    }

    /// `?resource=`: the resources of one list.
    fn one_list(&mut self, sections: &[Section], resource: &str) -> Result<(), Refusal> {
        let found = sections.iter().find_map(|(message, kinds)| Some((message.field_by_name(resource)?, kinds)));
        let Some((field, kinds)) = found else {
            return Err((404, format!("{resource} not found in config dump")));
        };
        if !field.is_list() {
            return Err((
                400,
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field"),
            ));
        }
        let kind = kinds.iter().copied().find(|kind| kind.list() == resource);
        let resources = kind.map(|kind| self.resources(kind)).unwrap_or_default();
        let Some(kind) = kind.filter(|_| !resources.is_empty()) else {
            self.text("{}\n");
            return Ok(());
        };
        if let (Some(mask), Some(message)) = (&self.mask, field.message())
            && let Err(MaskError) = mask.check_resource(message, kind)
        {
            return Err((400, format!("FieldMask {mask} could not be successfully used.")));
        }
        self.text("{\n \"configs\": [");
        self.list(kind, resources, 2, true);
        self.text("\n ]\n}\n");
        Ok(())
    }

    fn all(&mut self, admin: &Admin, sections: &[Section]) -> Result<(), Refusal> {
        let usable = |message: MessageRef| self.mask.as_ref().is_none_or(|mask| mask.check(message).is_ok());
        let shown: Vec<_> = sections.iter().filter(|(message, _)| usable(*message)).collect();
        if shown.is_empty() {
            let mask = self.mask.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err((400, format!("FieldMask {mask} could not be successfully applied to any configs.")));
        }
        self.text("{\n \"configs\": [");
        for (at, (message, kinds)) in shown.into_iter().enumerate() {
            self.text(if at == 0 { "\n  " } else { ",\n  " });
            match kinds.is_empty() {
                false => self.section(*message, kinds),
                true => self.whole(admin, *message),
            }
        }
        self.text("\n ]\n}\n");
        Ok(())
    }

    /// A message whose contents are resources.
    fn section(&mut self, message: MessageRef, kinds: &[Kind]) {
        self.text(format!("{{\n   \"@type\": \"type.googleapis.com/{}\"", message.full_name()));
        let shown = |mask: &Option<Mask>, field: &str| mask.as_ref().is_none_or(|mask| mask.has(field));
        let version = kinds.iter().find_map(|kind| self.source.version(*kind)).filter(|version| !version.is_empty());
        if let Some(version) = version.filter(|_| shown(&self.mask, "version_info")) {
            let mut text = Vec::new();
            nuncio_stream_info::write_json_string(version.as_bytes(), &mut text);
            self.text(format!(",\n   \"version_info\": {}", String::from_utf8_lossy(&text)));
        }
        for kind in kinds.iter().copied().filter(|kind| shown(&self.mask, kind.list())).collect::<Vec<_>>() {
            let resources = self.resources(kind);
            if !resources.is_empty() {
                self.text(format!(",\n   \"{}\": [", kind.list()));
                self.list(kind, resources, 4, false);
                self.text("\n   ]");
            }
        }
        self.text("\n  }");
    }

    /// The bootstrap; also a message that is always empty here.
    fn whole(&mut self, admin: &Admin, message: MessageRef) {
        let mut bytes = Vec::new();
        if message.short_name() == "BootstrapConfigDump" {
            put_bytes(&mut bytes, 1, &with_node(&self.source.bootstrap, &server_info::node(admin)));
            put_bytes(&mut bytes, 2, &timestamp(admin.server.last_updated.get()));
        }
        if let Some(mask) = &self.mask {
            bytes = mask.trim(&bytes, message);
        }
        let mut out = String::new();
        write_any(&mut out, message, &bytes, 2);
        self.text(out);
    }

    fn resources(&self, kind: Kind) -> Vec<Resource> {
        let mut resources = self.source.resources(kind);
        if let Some(names) = &self.names {
            resources.retain(|resource| names.is_match(&self.source.name(kind, resource)));
        }
        resources
    }

    fn list(&mut self, kind: Kind, resources: Vec<Resource>, indentation: usize, typed: bool) {
        let line = format!("\n{:indentation$}", "");
        for (at, resource) in resources.into_iter().enumerate() {
            self.text(if at == 0 { line.clone() } else { format!(",{line}") });
            self.steps.push(Step::Resource { kind, resource, typed, indentation });
        }
    }
}

/// A dump on its way out.
struct Dump {
    source: Source,
    mask: Option<Mask>,
    updated: Vec<u8>,
    /// The next one last.
    steps: Vec<Step>,
}

impl Pieces for Dump {
    fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        while out.len() < PIECE {
            match self.steps.pop() {
                None => return false,
                Some(Step::Text(text)) => out.extend_from_slice(text.as_bytes()),
                Some(Step::Resource { kind, resource, typed, indentation }) => {
                    out.extend_from_slice(self.resource(kind, &resource, typed, indentation).as_bytes());
                }
            }
        }
        !self.steps.is_empty()
    }
}

impl Dump {
    fn resource(&self, kind: Kind, resource: &Resource, typed: bool, indentation: usize) -> String {
        let mut out = String::new();
        let Some(message) = kind.item() else { return out };
        let mut bytes = self.source.item(kind, resource, &self.updated);
        if let Some(mask) = self.mask.as_ref().filter(|_| typed) {
            bytes = mask.trim(&bytes, message);
        }
        if typed {
            write_any(&mut out, message, &bytes, indentation);
        } else {
            write_message(&mut out, &bytes, message, json_options(indentation));
        }
        out
    }
}

pub(super) fn json_options(indentation: usize) -> JsonOptions {
    JsonOptions { redact: true, indentation, ..JsonOptions::default() }
}

/// Appends a message with its type.
fn write_any(out: &mut String, message: MessageRef, bytes: &[u8], indentation: usize) {
    if let Some(any) = Schema::message("google.protobuf.Any") {
        write_message(out, &to_any(message.full_name(), bytes), any, json_options(indentation));
    }
}

/// `google.protobuf.Any`
pub(super) fn to_any(full_name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut any = Vec::with_capacity(bytes.len() + full_name.len() + 32);
    put_bytes(&mut any, 1, format!("type.googleapis.com/{full_name}").as_bytes());
    put_bytes(&mut any, 2, bytes);
    any
}

/// `google.protobuf.Timestamp`, to the millisecond.
pub(super) fn timestamp(at: SystemTime) -> Vec<u8> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = Vec::new();
    put_tag(&mut out, 1, 0);
    put_varint(&mut out, since.as_secs());
    put_tag(&mut out, 2, 0);
    put_varint(&mut out, u64::from(since.subsec_millis()) * 1_000_000);
    out
}

/// The bootstrap with another node.
fn with_node(bootstrap: &Arc<[u8]>, node: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bootstrap.len() + node.len());
    put_tag(&mut out, 1, 2);
    put_nested(&mut out, |out| out.extend_from_slice(node));
    mask::copy_fields(&mut out, bootstrap, |number| number != 1);
    out
}

#[cfg(test)]
mod tests;
