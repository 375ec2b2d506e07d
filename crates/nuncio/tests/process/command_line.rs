//! Flags, `--mode validate` and what a start prints when it can't go on.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::*;

/// A configuration that answers by itself.
fn answers(body: &str) -> String {
    let routes =
        format!("[{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: '{body}'}}}}}}]");
    Http { routes: &routes, ..Http::default() }.text()
}

/// All flags of Envoy 1.40 that take no value, or with a value that it takes.
const FLAGS: &[&str] = &[
    "--stats-tag a:b",
    "--stats-tag c:d",
    "--enable-core-dump",
    "--socket-mode 644",
    "--socket-path @nuncio_test",
    "--disable-extensions envoy.filters.http.grpc_web",
    "--cpuset-threads",
    "--enable-mutex-tracing",
    "--disable-hot-restart",
    "--parent-shutdown-time-s 5",
    "--drain-strategy immediate",
    "--drain-time-s 5",
    "--file-flush-min-size-kb 1",
    "--file-flush-interval-msec 100",
    "--service-zone z",
    "--service-node n",
    "--service-cluster c",
    "--restart-epoch 0",
    "--log-path $dir/log",
    "--enable-fine-grain-logging",
    "--log-format-escaped",
    "--log-format %v",
    "--component-log-level upstream:debug,connection:trace",
    "--log-level error",
    "--local-address-ip-version v4",
    "--admin-address-path $dir/admin",
    "--log-stacktrace-single-entry",
    "--skip-deprecated-logs",
    "--ignore-unknown-dynamic-fields",
    "--reject-unknown-dynamic-fields",
    "--allow-unknown-static-fields",
    "--concurrency 1",
    "--base-id-path $dir/base",
    "--skip-hot-restart-parent-stats",
    "--skip-hot-restart-on-no-parent",
    "--use-dynamic-base-id",
    "--base-id 7",
];

#[test]
fn every_flag_parses() {
    let setup = Setup::new(&answers("ok"));
    let config = setup.config().to_string_lossy().into_owned();
    // These two exclude each other, as the two levels of logging do.
    let exclusive = ["--enable-fine-grain-logging", "--component-log-level upstream:debug,connection:trace"];
    let all: Vec<String> = FLAGS.iter().filter(|flag| !exclusive.contains(flag)).map(|flag| setup.fill(flag)).collect();
    let words: Vec<&str> = all.iter().flat_map(|flag| flag.split(' ')).collect();
    let (code, printed) = run_to_end(&[&["-c", &config, "--mode", "validate"], &words[..]].concat());
    assert_eq!(code, 0, "{printed}");
    for flag in FLAGS.iter().chain(&["--allow-unknown-fields", "-l off", "--log-level critical"]) {
        let flag = setup.fill(flag);
        let words: Vec<&str> = flag.split(' ').collect();
        let (code, printed) = run_to_end(&[&["--config-path", &config, "--mode", "validate"], &words[..]].concat());
        assert_eq!(code, 0, "{flag}: {printed}");
    }
}

#[test]
fn flags_that_only_print() {
    let (code, printed) = run_to_end(&["--version"]);
    assert_eq!(code, 0);
    assert!(printed.contains("version: "), "{printed}");
    let (code, printed) = run_to_end(&["--help"]);
    assert_eq!(code, 0);
    for flag in FLAGS {
        let name = flag.split(' ').next().unwrap();
        assert!(printed.contains(name), "--help has no {name}:\n{printed}");
    }
    let (code, printed) = run_to_end(&["-h"]);
    assert_eq!((code, printed.contains("--config-path")), (0, true), "{printed}");
    let (code, printed) = run_to_end(&["--hot-restart-version", "--disable-hot-restart"]);
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn flags_that_are_wrong() {
    let setup = Setup::new(&answers("ok"));
    let config = setup.config().to_string_lossy().into_owned();
    for wrong in [
        vec!["--no-such-flag"],
        vec!["--mode", "guess"],
        vec!["--concurrency", "many"],
        vec!["--drain-strategy", "sudden"],
        vec!["--log-level", "loud"],
        vec!["--component-log-level", "nothing:debug"],
        vec!["--stats-tag", "no-colon"],
        vec!["--base-id", "-1"],
        vec!["--socket-mode", "9"],
        vec!["--disable-extensions", "envoy.clusters/envoy.clusters.dns"],
        vec!["--disable-extensions", "envoy.filters.http/envoy.filters.http.router"],
    ] {
        let mode: &[&str] = if wrong[0] == "--mode" { &[] } else { &["--mode", "validate"] };
        let (code, printed) = run_to_end(&[&["-c", &config], mode, &wrong[..]].concat());
        assert_ne!(code, 0, "{wrong:?} is accepted:\n{printed}");
        assert!(printed.contains(wrong.last().unwrap()), "{wrong:?}: it does not say what is wrong:\n{printed}");
    }
}

#[test]
fn without_a_configuration() {
    let (code, printed) = run_to_end(&[]);
    assert_ne!(code, 0, "{printed}");
    assert!(printed.contains("-c") && printed.contains("--config-yaml"), "{printed}");
    let (code, printed) = run_to_end(&["-c", "/nonexistent/envoy.yaml"]);
    assert_ne!(code, 0, "{printed}");
    assert!(printed.contains("/nonexistent/envoy.yaml: no such file"), "{printed}");
}

#[test]
fn yaml_on_the_command_line_is_merged_over_the_file() {
    let file =
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\nnode: {id: file, cluster: file}\n";
    let listener = answers("merged");
    let listener = &listener[listener.find("static_resources").unwrap()..];
    let setup = Setup::new(&format!("{file}# $front\n"));
    let overlay = setup.fill(&format!("node: {{id: flag}}\n{listener}"));
    let running = setup.flags(&["--config-yaml", &overlay]).start();
    assert_eq!(running.answer("/"), (200, "merged".into()));
    let info: Value = serde_json::from_str(&running.proxy.admin_text("/server_info").unwrap()).unwrap();
    assert_eq!((info["node"]["id"].as_str(), info["node"]["cluster"].as_str()), (Some("flag"), Some("file")));
}

#[test]
fn yaml_on_the_command_line_is_enough() {
    let setup = Setup::new("# $front\n");
    let config = setup.fill(&answers("alone").replace("$front", &setup.port("front").to_string()));
    let args = ["--config-yaml", &config, "--disable-hot-restart"];
    let mut proxy = program().spawn(&args, setup.dir.path()).unwrap();
    proxy.await_ready().unwrap();
    let running = Running { proxy, setup };
    assert_eq!(running.answer("/"), (200, "alone".into()));
}

#[test]
fn json_is_read_too() {
    let mut setup = Setup::new("# $front\n");
    let port = setup.port("front");
    setup.write(&format!(
        r#"{{"admin": {{"address": {{"socketAddress": {{"address": "127.0.0.1", "portValue": 0}}}}}},
            "staticResources": {{"listeners": [{{"name": "front", "address": {{"socketAddress": {{"address": "127.0.0.1",
            "portValue": {port}}}}}, "filterChains": [{{"filters": [{{"name": "d", "typedConfig": {{
            "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
            "response": {{"inlineString": "json"}}}}}}]}}]}}]}}}}"#
    ));
    let json = setup.path("envoy.json");
    std::fs::rename(setup.config(), &json).unwrap();
    let args = ["-c", json.to_str().unwrap(), "--disable-hot-restart"];
    let mut proxy = program().spawn(&args, setup.dir.path()).unwrap();
    proxy.await_ready().unwrap();
    let running = Running { proxy, setup };
    assert_eq!(running.client().rest().data, b"json");
}

/// What `--mode validate --output json` printed.
fn findings(config: &str) -> (i32, Value) {
    let setup = Setup::new(config);
    let output =
        program().output(&["-c", setup.config().to_str().unwrap(), "--mode", "validate", "--output", "json"]).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    (output.status.code().unwrap(), value)
}

#[test]
fn findings_for_machines() {
    let (code, value) = findings(&answers("ok"));
    assert_eq!((code, value["diagnostics"].as_array().map(Vec::len)), (0, Some(0)), "{value}");
    let config = answers("ok").replace("stat_prefix: front", "stat_prefix: front, stat_prefixx: a, server_names: b");
    let (code, value) = findings(&config);
    assert_ne!(code, 0);
    let found = value["diagnostics"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{value}");
    let line = config.lines().position(|line| line.contains("stat_prefixx")).unwrap() + 1;
    let column = config.lines().nth(line - 1).unwrap().find("stat_prefixx").unwrap() + 1;
    let first = &found[0];
    assert_eq!(first["severity"], "error", "{value}");
    assert!(first["source"].as_str().unwrap().ends_with("envoy.yaml"), "{value}");
    // The configuration was filled in before it was read: the port may be shorter or longer than its placeholder.
    assert_eq!(first["line"], line, "{value}");
    assert!(first["column"].as_u64().unwrap().abs_diff(column as u64) < 6, "{value}");
    let path = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefixx";
    assert_eq!(first["path"], path, "{value}");
    assert!(first["hint"].as_str().unwrap().contains("stat_prefix"), "{value}");
}

#[test]
fn validation_starts_nothing_and_says_ok() {
    // A port that is taken is none of its business.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = answers("ok").replace("$front", &taken.local_addr().unwrap().port().to_string());
    let setup = Setup::new(&config);
    let (code, printed) = run_to_end(&["-c", setup.config().to_str().unwrap(), "--mode", "validate"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("OK"), "{printed}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listener = answers("ok").replace("$front", &address.port().to_string());
    let printed = Setup::new(&listener).refused();
    assert!(printed.contains(&address.to_string()) && printed.contains("front"), "{printed}");
    assert!(printed.contains("Address already in use"), "{printed}");
    let admin = answers("ok").replace("port_value: 0}}}\n", &format!("port_value: {}}}}}}}\n", address.port()));
    let printed = Setup::new(&admin).refused();
    assert!(printed.contains(&address.to_string()) && printed.contains("Address already in use"), "{printed}");
}

#[test]
fn flags_without_effect_are_said_once() {
    let flags = ["--enable-core-dump", "--enable-mutex-tracing", "--enable-fine-grain-logging"];
    let running = Setup::new(&answers("ok")).flags(&flags).start();
    for flag in flags.iter().filter(|flag| flag.starts_with("--")) {
        let said = running.proxy.output().matches(flag).count();
        assert_eq!(said, 1, "{flag}: {}", running.proxy.output());
    }
}

#[test]
fn the_log_goes_where_and_how_it_is_told() {
    let flags = ["--log-path", "$dir/log", "--log-format", "%l|%n|%v", "--log-level", "info"];
    let running = Setup::new(&answers("ok")).flags(&flags).start();
    let log = running.setup.path("log");
    await_file(&running, &log, |text| text.contains("info|main|all dependencies initialized. starting workers\n"));
    let quiet = Setup::new(&answers("ok")).flags(&["--log-level", "off"]).start();
    assert_eq!(quiet.proxy.output(), "");
}

#[test]
fn the_base_id_is_written() {
    let running = Setup::new(&answers("ok")).flags(&["--base-id", "7", "--base-id-path", "$dir/base"]).start();
    await_file(&running, &running.setup.path("base"), |text| text == "7");
}

#[test]
fn disabled_extensions_are_refused() {
    let setup = Setup::new(&answers("ok"));
    let config = setup.config().to_string_lossy().into_owned();
    let validate = |list: &str| run_to_end(&["-c", &config, "--mode", "validate", "--disable-extensions", list]);
    let (code, printed) = validate("envoy.filters.network/envoy.filters.network.http_connection_manager");
    assert_eq!((code, printed.contains("is disabled (--disable-extensions)")), (1, true), "{printed}");
    let (code, printed) = validate("envoy.filters.http/envoy.filters.http.lua,envoy.filters.http/unknown");
    assert_eq!((code, printed.contains("unknown extension 'envoy.filters.http/unknown'")), (0, true), "{printed}");
}
