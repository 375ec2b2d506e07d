//! The overload manager, driven by a file that holds the pressure; limits of connections.

use std::fs;

use crate::support::*;

const RESOURCE: &str = "envoy.resource_monitors.injected_resource";
const SERVED: &str = "[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: served}}}]";

/// Starts without pressure; `$dir/pressure` decides from then on.
fn start(overload: &str) -> Running {
    let manager = format!(
        "overload_manager: {{refresh_interval: 0.01s, resource_monitors: [{{name: {RESOURCE}, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig, \
         filename: $dir/pressure}}}}], {overload}}}"
    );
    let setup = Setup::new(&Http { routes: SERVED, bootstrap: &[&manager], ..Http::default() }.text());
    fs::write(setup.path("pressure"), "0.1").unwrap();
    setup.start()
}

/// Changes the pressure, and waits until it is known.
fn press(running: &Running, percent: u64) {
    let new = running.setup.path("pressure.new");
    fs::write(&new, format!("0.{percent:02}")).unwrap();
    fs::rename(&new, running.setup.path("pressure")).unwrap();
    running.await_stat(&format!("overload.{RESOURCE}.pressure"), |now| now == percent);
}

fn threshold(name: &str, value: &str) -> String {
    format!("{{name: {name}, triggers: [{{name: {RESOURCE}, threshold: {{value: {value}}}}}]}}")
}

#[test]
fn requests_are_refused_while_the_pressure_lasts() {
    let action = "envoy.overload_actions.stop_accepting_requests";
    let running = start(&format!("actions: [{}]", threshold(action, "0.9")));
    let mut client = running.client();
    assert_eq!(answer(&get(&mut client, "/")), (200, "served".into()));
    press(&running, 95);
    assert_eq!(answer(&get(&mut client, "/")), (503, "envoy overloaded".into()));
    assert_eq!(running.stat(&format!("overload.{action}.active")), 1);
    assert_eq!(running.stat("http.front.downstream_rq_overload_close"), 1);
    press(&running, 20);
    assert_eq!(answer(&get(&mut client, "/")), (200, "served".into()));
    // A file that makes no sense changes nothing.
    fs::write(running.setup.path("pressure"), "much").unwrap();
    running.await_stat(&format!("overload.{RESOURCE}.failed_updates"), |failed| failed > 0);
    assert_eq!(answer(&get(&mut client, "/")), (200, "served".into()));
}

#[test]
fn sockets_are_left_alone_and_taken_up_again() {
    let action = "envoy.overload_actions.stop_accepting_connections";
    let running = start(&format!("actions: [{}]", threshold(action, "0.9")));
    let mut before = running.client();
    assert_eq!(get(&mut before, "/").status(), 200);
    press(&running, 95);
    running.await_output(&format!("overload action {action} is now at 100 %"));
    // The worker is told by a command; its answer to a request of the open connection may come before that.
    assert_eq!(get(&mut before, "/").status(), 200);
    press(&running, 10);
    running.await_answer("/", (200, "served"));
}

#[test]
fn idle_connections_end_when_timeouts_shrink() {
    let timers = "{'@type': type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig, \
                  timer_scale_factors: [{timer: HTTP_DOWNSTREAM_CONNECTION_IDLE, min_timeout: 0.001s}]}";
    let scaled = format!(
        "{{name: envoy.overload_actions.reduce_timeouts, typed_config: {timers}, \
         triggers: [{{name: {RESOURCE}, scaled: {{scaling_threshold: 0.2, saturation_threshold: 0.8}}}}]}}"
    );
    let running = start(&format!("actions: [{scaled}]"));
    let mut client = running.client();
    assert_eq!(get(&mut client, "/").status(), 200);
    press(&running, 50);
    running.await_stat("overload.envoy.overload_actions.reduce_timeouts.scale_percent", |percent| percent == 50);
    assert_eq!(get(&mut client, "/").status(), 200);
    press(&running, 90);
    running.await_stat("http.front.downstream_cx_idle_timeout", |ended| ended == 1);
}

#[test]
fn connections_without_a_request_are_closed() {
    let action = "envoy.overload_actions.close_idle_http_connections";
    let running = start(&format!("actions: [{}]", threshold(action, "0.9")));
    let mut client = running.client();
    assert_eq!(get(&mut client, "/").status(), 200);
    press(&running, 95);
    running.await_stat("http.front.downstream_cx_active", |open| open == 0);
}

#[test]
fn a_listener_may_bypass_the_overload_manager() {
    let action = "envoy.overload_actions.stop_accepting_requests";
    let manager = format!(
        "overload_manager: {{refresh_interval: 0.01s, resource_monitors: [{{name: envoy.resource_monitors.fixed_heap, \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, \
         max_heap_size_bytes: 1}}}}], actions: [{}]}}",
        threshold(action, "0.9").replace(RESOURCE, "envoy.resource_monitors.fixed_heap")
    );
    let http = Http {
        routes: SERVED,
        bootstrap: &[&manager],
        listener: &["bypass_overload_manager: true"],
        ..Http::default()
    };
    let running = Setup::new(&http.text()).start();
    running.await_stat(&format!("overload.{action}.active"), |active| active == 1);
    assert_eq!(running.answer("/"), (200, "served".into()));
}

#[test]
fn what_cant_be_understood_is_refused() {
    let refused = |overload: &str| {
        let manager = format!("overload_manager: {{{overload}}}");
        Setup::new(&Http { routes: SERVED, bootstrap: &[&manager], ..Http::default() }.text()).refused()
    };
    let heap = "{name: h, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1}}";
    let trigger = "triggers: [{name: h, threshold: {value: 0.5}}]";
    for (overload, expected) in [
        (format!("resource_monitors: [{heap}, {heap}]"), "Duplicate resource monitor h"),
        (
            format!("resource_monitors: [{heap}], actions: [{{name: x, {trigger}}}]"),
            "Unknown Overload Manager Action x",
        ),
        (format!("actions: [{{name: envoy.overload_actions.shrink_heap, {trigger}}}]"), "Unknown trigger resource h"),
        (
            format!(
                "resource_monitors: [{heap}], actions: [{{name: envoy.overload_actions.reduce_timeouts, {trigger}}}]"
            ),
            "requires a configuration",
        ),
    ] {
        let printed = refused(&overload);
        assert!(printed.contains(expected), "{overload}:\n{printed}");
    }
}
