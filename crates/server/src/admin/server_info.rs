//! `/server_info`, and the node that this process is.

use super::Admin;
use super::endpoint::Call;
use super::json::Json;
use super::response::Response;
use crate::logging::DEFAULT_FORMAT;
use crate::options::{DrainStrategy, IpVersion, Mode, Options};
use crate::run::COMPATIBLE;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::r#type::v3::SemanticVersion;
use nuncio_api::pb::google::protobuf::{ListValue, Struct, Value, value};
use nuncio_api::schema::Schema;
use nuncio_config::compile::Registry;
use nuncio_config::json::{JsonOptions, write_message};
use prost::Message;
use std::time::Duration;

/// `/server_info`, as Envoy's `admin.v3.ServerInfo`: all fields, also those that are not set.
pub(super) fn server_info(call: &Call<'_>) -> Response {
    let server = &call.admin.server;
    let uptime = format!("{}s", server.started.elapsed().as_secs());
    let info = Json::object([
        ("version", Json::text(crate::run::version_id())),
        ("state", Json::text(server.visible_state().as_str())),
        ("uptime_current_epoch", Json::text(uptime)),
        ("uptime_all_epochs", Json::text(format!("{}s", server.hot_restart.uptime().as_secs()))),
        ("hot_restart_version", Json::text(crate::hot_restart::version(&server.options))),
        ("command_line_options", command_line(&server.options, server.workers.len())),
        ("node", node_json(&node_message(call.admin))),
        ("hot_restart_initializing", Json::Bool(server.hot_restart.is_initializing())),
    ]);
    Response::json(info.document())
}

/// `admin.v3.CommandLineOptions`
fn command_line(options: &Options, concurrency: usize) -> Json {
    let text = |text: &Option<String>| Json::text(text.as_deref().unwrap_or_default());
    let list = |items: Vec<&str>| Json::List(items.into_iter().map(Json::text).collect());
    let disabled = options.disable_extensions.iter().flat_map(|names| names.split(','));
    Json::object([
        ("base_id", Json::long(options.base_id.into())),
        ("concurrency", Json::Number(concurrency as i64)),
        ("config_path", text(&options.config_path)),
        ("config_yaml", text(&options.config_yaml)),
        ("allow_unknown_static_fields", Json::Bool(options.allow_unknown_static_fields)),
        ("admin_address_path", text(&options.admin_address_path)),
        ("local_address_ip_version", Json::text(ip_version(options.local_address_ip_version))),
        ("log_level", Json::text(if options.log_level == "warn" { "warning" } else { &options.log_level })),
        ("component_log_level", text(&options.component_log_level)),
        ("log_format", Json::text(options.log_format.as_deref().unwrap_or(DEFAULT_FORMAT))),
        ("log_path", text(&options.log_path)),
        ("service_cluster", text(&options.service_cluster)),
        ("service_node", text(&options.service_node)),
        ("service_zone", text(&options.service_zone)),
        ("file_flush_interval", Json::text(duration(Duration::from_millis(options.file_flush_interval_msec)))),
        ("drain_time", Json::text(duration(Duration::from_secs(options.drain_time_s)))),
        ("parent_shutdown_time", Json::text(duration(Duration::from_secs(options.parent_shutdown_time_s)))),
        ("mode", Json::text(if options.mode == Mode::Serve { "Serve" } else { "Validate" })),
        ("disable_hot_restart", Json::Bool(options.disable_hot_restart)),
        ("enable_mutex_tracing", Json::Bool(options.enable_mutex_tracing)),
        ("restart_epoch", Json::Number(options.restart_epoch.into())),
        ("cpuset_threads", Json::Bool(options.cpuset_threads)),
        ("reject_unknown_dynamic_fields", Json::Bool(options.reject_unknown_dynamic_fields)),
        ("log_format_escaped", Json::Bool(options.log_format_escaped)),
        ("disabled_extensions", list(disabled.filter(|name| !name.is_empty()).collect())),
        ("ignore_unknown_dynamic_fields", Json::Bool(options.ignore_unknown_dynamic_fields)),
        ("use_dynamic_base_id", Json::Bool(options.use_dynamic_base_id)),
        ("base_id_path", text(&options.base_id_path)),
        ("drain_strategy", Json::text(drain_strategy(options.drain_strategy))),
        ("enable_fine_grain_logging", Json::Bool(options.enable_fine_grain_logging)),
        ("socket_path", Json::text(options.socket_path.as_str())),
        ("socket_mode", Json::Number(i64::from_str_radix(&options.socket_mode, 8).unwrap_or_default())),
        ("enable_core_dump", Json::Bool(options.enable_core_dump)),
        ("stats_tag", list(options.stats_tag.iter().map(String::as_str).collect())),
        ("skip_hot_restart_on_no_parent", Json::Bool(options.skip_hot_restart_on_no_parent)),
        ("skip_hot_restart_parent_stats", Json::Bool(options.skip_hot_restart_parent_stats)),
        ("skip_deprecated_logs", Json::Bool(options.skip_deprecated_logs)),
        ("file_flush_min_size", Json::Number(i64::try_from(options.file_flush_min_size_kb).unwrap_or(i64::MAX))),
        ("log_stacktrace_single_entry", Json::Bool(options.log_stacktrace_single_entry)),
    ])
}

fn ip_version(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "v4",
        IpVersion::V6 => "v6",
    }
}

fn drain_strategy(strategy: DrainStrategy) -> &'static str {
    match strategy {
        DrainStrategy::Gradual => "Gradual",
        DrainStrategy::Immediate => "Immediate",
    }
}

/// A duration as protobuf's JSON has it: no decimals, or three of them.
fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    }
}

/// Wire bytes of the node.
pub(super) fn node(admin: &Admin) -> Vec<u8> {
    node_message(admin).encode_to_vec()
}

fn node_message(admin: &Admin) -> core::Node {
    let snapshot = &admin.server.snapshot.borrow();
    let node = &snapshot.node;
    let locality = [&node.region, &node.zone, &node.sub_zone].iter().any(|part| !part.is_empty());
    core::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        metadata: node.metadata.as_ref().and_then(|bytes| Struct::decode(&bytes[..]).ok()),
        locality: locality.then(|| core::Locality {
            region: node.region.clone(),
            zone: node.zone.clone(),
            sub_zone: node.sub_zone.clone(),
        }),
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentBuildVersion(build_version(
            &snapshot.dump.unsupported,
        ))),
        extensions: extensions(&admin.server.registry),
        ..Default::default()
    }
}

/// The version of Envoy that this program stands in for, and what tells it apart.
fn build_version(unsupported: &[String]) -> core::BuildVersion {
    let mut numbers = COMPATIBLE.split('.').map(|number| number.parse().unwrap_or_default());
    let mut number = || numbers.next().unwrap_or_default();
    let version = SemanticVersion { major_number: number(), minor_number: number(), patch: number() };
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let mut fields = vec![
        ("build.type", text("RELEASE")),
        ("nuncio.version", text(env!("CARGO_PKG_VERSION"))),
        ("revision.status", text("Clean")),
        ("ssl.version", text("rustls")),
    ];
    if !unsupported.is_empty() {
        let values = unsupported.iter().map(|path| text(path)).collect();
        fields.push(("nuncio.unsupported_fields", Value { kind: Some(value::Kind::ListValue(ListValue { values })) }));
    }
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    core::BuildVersion { version: Some(version), metadata: Some(Struct { fields }) }
}

fn extensions(registry: &Registry) -> Vec<core::Extension> {
    let extension = |category: &str, name: &str, types: &[&str]| core::Extension {
        name: name.to_owned(),
        category: category.to_owned(),
        type_urls: types.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let logs = registry.access_log.iter().map(|entry| ("envoy.access_loggers", entry.name, vec![&entry.config]));
    let http = registry.http.iter().map(|entry| {
        let mut types = vec![&entry.config, &entry.per_route];
        types.dedup();
        ("envoy.filters.http", entry.name, types)
    });
    let listener = registry.listener.iter().map(|entry| ("envoy.filters.listener", entry.name, vec![&entry.config]));
    let network = registry.network.iter().map(|entry| ("envoy.filters.network", entry.name, vec![&entry.config]));
    let all = logs.chain(http).chain(listener).chain(network);
    all.map(|(category, name, types)| {
        extension(category, name, &types.into_iter().map(String::as_str).collect::<Vec<_>>())
    })
    .collect()
}

/// The node with all fields, also those that are not set.
fn node_json(node: &core::Node) -> Json {
    let mut members = vec![("id", Json::text(node.id.as_str())), ("cluster", Json::text(node.cluster.as_str()))];
    if let Some(metadata) = &node.metadata {
        members.push(("metadata", struct_json(metadata, 2)));
    }
    if let Some(core::Locality { region, zone, sub_zone }) = &node.locality {
        let text = |text: &String| Json::text(text.as_str());
        let locality = [("region", text(region)), ("zone", text(zone)), ("sub_zone", text(sub_zone))];
        members.push(("locality", Json::object(locality)));
    }
    members.push(("user_agent_name", Json::text(node.user_agent_name.as_str())));
    if let Some(core::node::UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type {
        let version = build.version.unwrap_or_default();
        let number = |number: u32| Json::Number(number.into());
        let version = Json::object([
            ("major_number", number(version.major_number)),
            ("minor_number", number(version.minor_number)),
            ("patch", number(version.patch)),
        ]);
        let metadata = build.metadata.as_ref().map_or(Json::Object(Vec::new()), |metadata| struct_json(metadata, 3));
        members.push(("user_agent_build_version", Json::object([("version", version), ("metadata", metadata)])));
    }
    members.push(("extensions", Json::List(node.extensions.iter().map(extension_json).collect())));
    members.push(("client_features", Json::List(Vec::new())));
    members.push(("listening_addresses", Json::List(Vec::new())));
    members.push(("dynamic_parameters", Json::Object(Vec::new())));
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn extension_json(extension: &core::Extension) -> Json {
    let types = extension.type_urls.iter().map(|name| Json::text(name.as_str())).collect();
    Json::object([
        ("name", Json::text(extension.name.as_str())),
        ("category", Json::text(extension.category.as_str())),
        ("type_descriptor", Json::text("")),
        ("disabled", Json::Bool(false)),
        ("type_urls", Json::List(types)),
    ])
}

fn struct_json(value: &Struct, indentation: usize) -> Json {
    let Some(message) = Schema::message("google.protobuf.Struct") else { return Json::Object(Vec::new()) };
    let mut out = String::new();
    let options = JsonOptions { indentation, ..JsonOptions::default() };
    write_message(&mut out, &value.encode_to_vec(), message, options);
    Json::Printed(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_secs(600)), "600s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.500s");
    }

    #[test]
    fn options_under_envoys_names() {
        let options = Options::parse_from([
            "nuncio",
            "-c",
            "x.yaml",
            "--log-level",
            "warn",
            "--stats-tag",
            "a:b",
            "--disable-extensions",
            "x,y",
            "--file-flush-interval-msec",
            "1500",
            "--drain-strategy",
            "immediate",
        ]);
        let Json::Object(members) = command_line(&options, 2) else { unreachable!() };
        assert_eq!(members.len(), 39);
        let check = |name: &str, expected: Json| {
            let found = members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            assert_eq!(found, Some(&expected), "{name}");
        };
        check("config_path", Json::text("x.yaml"));
        check("concurrency", Json::Number(2));
        check("log_level", Json::text("warning"));
        check("stats_tag", Json::List(vec![Json::text("a:b")]));
        check("disabled_extensions", Json::List(vec![Json::text("x"), Json::text("y")]));
        check("file_flush_interval", Json::text("1.500s"));
        check("drain_strategy", Json::text("Immediate"));
        check("socket_mode", Json::Number(0o600));
        check("base_id", Json::text("0"));
    }

    #[test]
    fn unsupported_fields_are_told() {
        let build = build_version(&["admin.profile_path".to_owned()]);
        let json = struct_json(&build.metadata.unwrap(), 0);
        let Json::Printed(json) = json else { unreachable!() };
        assert!(json.contains("nuncio.unsupported_fields") && json.contains("admin.profile_path"), "{json}");
        assert_eq!(build.version.map(|version| (version.major_number, version.minor_number)), Some((1, 40)));
    }
}
