//! The endpoints, in the order of their paths, and which of them answers a request.

use super::endpoint::{Call, Effect, Endpoint, choice, flag, text, write_list};
use super::response::{Response, TEXT};
use super::{
    certs, client_status, clusters, config_dump, listeners, logging, memory, mutations, pages, profiling, runtime,
    scrape, server_info, unready,
};

const SWITCH: &[&str] = &["y", "n"];
const USED_ONLY: super::endpoint::Parameter = flag("usedonly", "only what was updated since the start");
const FILTER: super::endpoint::Parameter = text("filter", "regular expression that finds something in the name");
const INVERT: super::endpoint::Parameter = flag("invert_filter", "only names that the filter finds nothing in");
const MASK: super::endpoint::Parameter = text("mask", "field mask (google.protobuf.FieldMask) on what is shown");

macro_rules! endpoints {
    ($($effect:ident $path:literal $answer:path, $help:literal, [$($parameter:expr),* $(,)?];)*) => {
        /// All endpoints.
        pub(super) const ENDPOINTS: &[Endpoint] = &[$(Endpoint {
            path: $path,
            effect: Effect::$effect,
            help: $help,
            parameters: &[$($parameter),*],
            answer: $answer,
        }),*];
    };
}

endpoints! {
    Reads "/" pages::home, "this page", [];
    Changes "/allocprofiler" profiling::allocations, "switch the allocation profiler (not available)", [
        choice("enable", SWITCH, "on or off"),
    ];
    Reads "/certs" certs::certs, "the TLS certificates in use", [];
    Reads "/clusters" clusters::clusters, "clusters and the state of their hosts", [
        text("filter", "regular expression that finds something in the cluster's name"),
        choice("format", &["text", "json"], "output format"),
    ];
    Reads "/config_dump" config_dump::config_dump, "the configuration in force", [
        text("resource", "only this field of the dumps (static_listeners, bootstrap, …)"),
        MASK,
        text("name_regex", "only resources whose name matches"),
        flag("include_eds", "with endpoints"),
    ];
    Reads "/contention" profiling::contention, "lock contention, if it is traced", [];
    Changes "/cpuprofiler" profiling::cpu, "switch the CPU profiler (not available)", [
        choice("enable", SWITCH, "on or off"),
    ];
    Reads "/csds" client_status::client_status, "the state of discovered resources (ClientStatusResponse)", [
        text("type_url", "only resources whose type URL ends so"),
        flag("exclude_resource_contents", "without the resources themselves"),
    ];
    Changes "/drain_listeners" mutations::drain_listeners, "drain connections and close listeners", [
        flag("graceful", "wait for the drain time before listeners close"),
        flag("skip_exit", "drain connections, and let listeners go on"),
        flag("inboundonly", "only listeners whose traffic_direction is INBOUND"),
    ];
    Changes "/healthcheck/fail" mutations::fail_health_checks, "fail health checks of this process", [];
    Changes "/healthcheck/ok" mutations::pass_health_checks, "pass health checks of this process again", [];
    Reads "/heap_dump" profiling::heap_dump, "the heap by place of allocation (not available)", [];
    Changes "/heapprofiler" profiling::heap, "switch the heap profiler (not available)", [
        choice("enable", SWITCH, "on or off"),
    ];
    Reads "/help" pages::help, "this list", [];
    Reads "/hot_restart_version" pages::hot_restart_version, "version of the hot restart protocol", [];
    Reads "/init_dump" unready::init_dump, "what the start waits for, and since when", [MASK];
    Reads "/listeners" listeners::listeners, "listeners and their addresses", [
        choice("format", &["text", "json"], "output format"),
    ];
    Changes "/logging" logging::logging, "show and set log levels", [
        text("paths", "levels of several components: name1:level1,name2:level2"),
        text("group", "levels of a group of source files (needs --enable-fine-grain-logging)"),
        choice("level", &["", "trace", "debug", "info", "warning", "error", "critical", "off"], "level of all components"),
    ];
    Reads "/memory" memory::memory, "use of memory", [];
    Reads "/memory/tcmalloc" memory::allocator, "the allocator's own statistics", [];
    Reads "/peak_heap_dump" profiling::peak_heap_dump, "the heap at its largest (not available)", [];
    Changes "/quitquitquit" mutations::quit, "end the process", [];
    Reads "/ready" pages::ready, "state of the server; status 200 if it is LIVE, else 503", [];
    Changes "/reopen_logs" mutations::reopen_logs, "open access logs anew", [];
    Changes "/reset_counters" mutations::reset_counters, "set all counters to zero", [];
    Reads "/runtime" runtime::runtime, "runtime values by layer", [];
    Changes "/runtime_modify" runtime::modify, "set runtime values (key=value&key=value); an empty value removes what was set here", [];
    Reads "/server_info" server_info::server_info, "version, state, command line and node", [];
    Reads "/stats" scrape::stats, "statistics", [
        USED_ONLY,
        FILTER,
        INVERT,
        choice("format", &["html", "active-html", "text", "json"], "output format"),
        choice("type", &["All", "Counters", "Histograms", "Gauges", "TextReadouts"], "kinds of statistics"),
        choice("histogram_buckets", &["cumulative", "disjoint", "detailed", "summary"], "how histograms are shown"),
    ];
    Reads "/stats/prometheus" scrape::prometheus, "statistics in the format of Prometheus", [
        USED_ONLY,
        flag("text_readouts", "text readouts too, as gauges of value 0"),
        FILTER,
        INVERT,
        choice("histogram_buckets", &["cumulative", "summary"], "how histograms are shown"),
    ];
    Reads "/stats/recentlookups" scrape::recent_lookups, "lookups of stat names", [];
    Changes "/stats/recentlookups/clear" scrape::clear_lookups, "forget the lookups", [];
    Changes "/stats/recentlookups/disable" scrape::disable_lookups, "stop recording lookups", [];
    Changes "/stats/recentlookups/enable" scrape::enable_lookups, "start recording lookups", [];
}

/// What a request comes to.
enum Found {
    Endpoint(&'static Endpoint),
    WrongMethod,
    Nothing,
}

fn find(method: &str, path: &str) -> Found {
    match ENDPOINTS.iter().find(|endpoint| endpoint.path == path) {
        None => Found::Nothing,
        Some(endpoint) if endpoint.effect == Effect::Changes && method != "POST" => Found::WrongMethod,
        Some(endpoint) => Found::Endpoint(endpoint),
    }
}

/// Answers a request.
pub(super) fn respond(method: &str, path: &str, call: &Call<'_>) -> Response {
    match find(method, path) {
        Found::Endpoint(endpoint) => (endpoint.answer)(call),
        Found::WrongMethod => Response::new(405, TEXT, format!("Method {method} not allowed, POST required.")),
        Found::Nothing => {
            let mut body = "invalid path. ".to_owned();
            list(&mut body);
            Response::new(404, TEXT, body)
        }
    }
}

/// Appends what `/help` answers.
pub(super) fn list(out: &mut String) {
    out.push_str("admin commands are:\n");
    write_list(out, ENDPOINTS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods() {
        let check = |method: &str, path: &str, expected: u16| {
            let status = match find(method, path) {
                Found::Endpoint(_) => 200,
                Found::WrongMethod => 405,
                Found::Nothing => 404,
            };
            assert_eq!(status, expected, "{method} {path}");
        };
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            check(method, "/ready", 200);
            check(method, "/reset_counters", if method == "POST" { 200 } else { 405 });
            check(method, "/ready/", 404);
            check(method, "/nothing", 404);
        }
    }

    /// What Envoy 1.40 lists, and `/csds`, which is our own; and which of it is POST only.
    #[test]
    fn the_list_is_complete_and_in_order() {
        let paths: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        assert_eq!(paths.len(), 34);
        assert!(paths.is_sorted());
        let changing = ENDPOINTS.iter().filter(|endpoint| endpoint.effect == Effect::Changes);
        assert_eq!(
            changing.map(|endpoint| endpoint.path).collect::<Vec<_>>(),
            [
                "/allocprofiler",
                "/cpuprofiler",
                "/drain_listeners",
                "/healthcheck/fail",
                "/healthcheck/ok",
                "/heapprofiler",
                "/logging",
                "/quitquitquit",
                "/reopen_logs",
                "/reset_counters",
                "/runtime_modify",
                "/stats/recentlookups/clear",
                "/stats/recentlookups/disable",
                "/stats/recentlookups/enable",
            ]
        );
        let mut help = String::new();
        list(&mut help);
        assert!(help.starts_with("admin commands are:\n  /: "), "{help}");
        assert!(help.contains("\n  /allocprofiler (POST): "), "{help}");
        assert!(help.contains("\n      enable: on or off; One of (y, n)\n"), "{help}");
    }
}
