//! Endpoints of Envoy's profilers. There is none in this program: they answer as an Envoy that was built without.

use super::endpoint::Call;
use super::response::{Response, TEXT};

const INSTEAD: &str = "use perf or another profiler from outside the process\n";

/// `/cpuprofiler`
pub(super) fn cpu(call: &Call<'_>) -> Response {
    switch(call, "CPU profiler")
}

/// `/allocprofiler`
pub(super) fn allocations(call: &Call<'_>) -> Response {
    switch(call, "allocation profiler")
}

/// `/heapprofiler`
pub(super) fn heap(_: &Call<'_>) -> Response {
    Response::new(501, TEXT, format!("The current build does not support heap profiler: {INSTEAD}"))
}

fn switch(call: &Call<'_>, what: &str) -> Response {
    match (call.parameters.len(), call.parameters.get("enable")) {
        (1, Some("y")) => Response::new(501, TEXT, format!("The current build does not support {what}: {INSTEAD}")),
        (1, Some("n")) => Response::ok(),
        _ => Response::bad_request("?enable=<y|n>\n"),
    }
}

/// `/heap_dump`
pub(super) fn heap_dump(_: &Call<'_>) -> Response {
    Response::new(501, TEXT, format!("Heap dump not supported by the current build: {INSTEAD}"))
}

/// `/peak_heap_dump`
pub(super) fn peak_heap_dump(_: &Call<'_>) -> Response {
    Response::new(501, TEXT, format!("Peak heap dump not supported by the current build: {INSTEAD}"))
}

/// `/contention`
pub(super) fn contention(_: &Call<'_>) -> Response {
    Response::text(
        "Mutex contention tracing is not enabled: this program takes no lock while it serves a request, \
         and --enable-mutex-tracing has no effect.",
    )
}
