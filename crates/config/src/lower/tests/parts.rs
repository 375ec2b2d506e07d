//! Bootstrap, runtime, statistics options, access logs and other parts.

use super::{BOOTSTRAP, lower_yaml};
use crate::lower::{decode, stats_options};
use crate::snapshot::LogFormat;
use crate::sources::{ApiKind, From};
use crate::{Diagnostics, Format, LoadOptions, Source, load};
use nuncio_io::Address;
use nuncio_stats::TagRule;
use std::time::Duration;

#[test]
fn node_admin_and_intervals() {
    let snapshot = lower_yaml(
        "{node: {id: theirs, cluster: k, locality: {zone: z}, metadata: {a: 1}}, stats_flush_interval: 3s, \
         admin: {access_log_path: /dev/null, address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}, \
         application_log_config: {log_format: {text_format: '%v'}}, \
         cluster_manager: {outlier_detection: {event_log_path: /tmp/o}}}",
    )
    .snapshot();
    let node = &snapshot.node;
    assert_eq!((&*node.id, &*node.cluster, &*node.zone), ("me", "k", "z"), "the command line goes first");
    assert!(node.metadata.is_some());
    let admin = snapshot.admin.unwrap();
    assert_eq!(admin.address.address, Address::Ip("127.0.0.1:9901".parse().unwrap()));
    assert_eq!(admin.access_logs.len(), 1);
    assert_eq!(snapshot.stats_flush_interval, Duration::from_secs(3));
    assert_eq!(snapshot.log_format, Some(LogFormat::Text("%v".to_owned())));
    assert_eq!(snapshot.outlier_event_log.as_deref(), Some("/tmp/o"));
}

#[test]
fn dynamic_resources_over_ads_need_ads() {
    let outcome = lower_yaml("{dynamic_resources: {lds_config: {ads: {}}, cds_config: {ads: {}}}}");
    let errors = outcome.errors();
    for field in ["lds_config", "cds_config"] {
        assert!(errors.contains(&format!("dynamic_resources.{field}.ads: there is no ADS")), "{errors}");
    }
}

#[test]
fn dynamic_resources() {
    let outcome = lower_yaml(
        "{dynamic_resources: {ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}], \
         set_node_on_first_message_only: true, rate_limit_settings: {}}, lds_config: {ads: {}, initial_fetch_timeout: 0s}, \
         cds_config: {path_config_source: {path: /c}}}, static_resources: {clusters: [{name: x}]}}",
    );
    let dynamic = outcome.snapshot().dynamic;
    let ads = dynamic.ads.unwrap();
    assert_eq!((ads.kind, ads.node_on_first_only, ads.rate_limit), (ApiKind::DeltaGrpc, true, Some((100, 10.0))));
    assert_eq!(&*ads.service.as_ref().unwrap().cluster, "x");
    let (lds, cds) = (dynamic.lds.unwrap(), dynamic.cds.unwrap());
    assert_eq!((lds.from, lds.initial_fetch_timeout), (From::Ads, None));
    assert_eq!(cds.initial_fetch_timeout, Some(Duration::from_secs(15)));
    assert!(matches!(cds.from, From::File(_)));
}

#[test]
fn fields_of_the_bootstrap_are_reported() {
    let outcome = lower_yaml("{enable_dispatcher_stats: true, header_prefix: x-envoy, flags_path: /f}");
    assert_eq!(outcome.warnings().matches("is not supported yet").count(), 2, "{}", outcome.findings);
    assert_eq!(outcome.snapshot().dump.unsupported, ["enable_dispatcher_stats", "flags_path"]);
}

#[test]
fn runtime_layers() {
    let snapshot = lower_yaml(
        "layered_runtime: {layers: [{name: base, static_layer: {a: {b: 5, c: {numerator: 3, denominator: MILLION}}, \
         d.e: true}}, {name: admin_0, admin_layer: {}}]}",
    )
    .snapshot();
    let runtime = &snapshot.runtime;
    for (key, expected) in [
        ("a.b", Some("5")),
        ("a.c", Some(r#"{"denominator":"MILLION","numerator":3}"#)),
        ("d.e", Some("true")),
        ("a", None),
    ] {
        assert_eq!(runtime.get(key), expected, "{key}");
    }
    assert_eq!(snapshot.admin_runtime_layer.as_deref(), Some("admin_0"));
    let outcome = lower_yaml(
        "layered_runtime: {layers: [{name: a, static_layer: {x: [1]}}, {name: a, admin_layer: {}}, \
         {name: b, admin_layer: {}}, {name: c, rtds_layer: {name: r, rtds_config: {ads: {}}}}]}",
    );
    let errors = outcome.errors();
    for expected in [
        "layers[0].static_layer[\"x\"]: Invalid runtime entry value for x",
        "layers[1].name: Duplicate layer name: a",
        "layers[2].admin_layer: Too many admin layers specified",
        "layers[3].rtds_layer.rtds_config.ads: there is no ADS",
    ] {
        assert!(errors.contains(&format!("layered_runtime.{expected}")), "{expected}: {errors}");
    }
}

#[test]
fn statistics_options() {
    let lower = |text: &str| {
        let loaded = load(&[Source::new("t", text, Format::Yaml)], BOOTSTRAP, &LoadOptions::default());
        let mut findings = Diagnostics::new();
        let bootstrap = decode(&loaded, &mut findings).unwrap();
        (stats_options(&bootstrap, &loaded, &mut findings), findings.to_string())
    };
    let (options, findings) = lower(
        "stats_config: {use_all_default_tags: false, stats_tags: [{tag_name: a, regex: 'x(.*)'}, {tag_name: b, \
         fixed_value: v}, {tag_name: envoy.cluster_name}], stats_matcher: {exclusion_list: {patterns: [{prefix: http.}]}}, \
         histogram_bucket_settings: [{match: {suffix: _time}, buckets: [1, 5]}]}",
    );
    assert_eq!(findings, "");
    assert!(!options.use_all_default_tags);
    assert_eq!(options.stats_tags[1].rule, TagRule::Fixed("v".to_owned()));
    assert_eq!(options.stats_tags[2].rule, TagRule::Default);
    let accept = options.accept.unwrap();
    assert!(accept("cluster.x") && !accept("http.x"));
    assert_eq!(*options.histogram_bucket_settings[0].buckets, [1.0, 5.0]);
    let (_, findings) =
        lower("{stats_config: {histogram_bucket_settings: [{match: {safe_regex: {regex: '('}}, buckets: [1]}]}}");
    assert!(findings.contains("t:1:"), "{findings}");
    assert!(findings.contains("stats_config.histogram_bucket_settings[0].match.safe_regex.regex: "), "{findings}");
}

#[test]
fn access_log_filters() {
    let lower = |filter: &str| {
        lower_yaml(&format!(
            "admin: {{address: {{pipe: {{path: /tmp/x}}}}, access_log: [{{name: f, filter: {filter}, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null, log_format: \
             {{text_format_source: {{inline_string: 'x'}}}}}}}}]}}"
        ))
    };
    for filter in [
        "{status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: k}}}}",
        "{duration_filter: {comparison: {op: EQ, value: {default_value: 1, runtime_key: k}}}}",
        "{not_health_check_filter: {}}",
        "{and_filter: {filters: [{traceable_filter: {}}, {response_flag_filter: {flags: [UH, DC]}}]}}",
        "{header_filter: {header: {name: a, present_match: true}}}",
        "{grpc_status_filter: {statuses: [OK], exclude: true}}",
        "{metadata_filter: {matcher: {filter: a, path: [{key: b}], value: {string_match: {exact: c}}}}}",
        "{log_type_filter: {types: [DownstreamEnd]}}",
        "{runtime_filter: {runtime_key: k, percent_sampled: {numerator: 5}}}",
    ] {
        assert!(lower(filter).snapshot.is_some(), "{filter}: {}", lower(filter).findings);
    }
    let nested =
        lower("{or_filter: {filters: [{not_health_check_filter: {}}, {response_flag_filter: {flags: [UH, NOPE]}}]}}");
    assert!(nested.snapshot.is_none());
    let errors = lower("{extension_filter: {name: cel}}").errors();
    assert!(
        errors.contains("admin.access_log[0].filter.extension_filter: the access log filter cel is not built"),
        "{errors}"
    );
}

#[test]
fn errors_that_only_follow_are_left_out() {
    let outcome = lower_yaml(
        "static_resources: {listeners: [{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 80}}, \
         filter_chains: [{filters: [{name: t, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, clutser: c}}]}]}]}",
    );
    let errors = outcome.errors();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("unknown field `clutser`"), "{errors}");
}
