//! Endpoints that change how the process behaves.

use super::endpoint::Call;
use super::response::Response;
use crate::state::Request;

/// `/quitquitquit`
pub(super) fn quit(_: &Call<'_>) -> Response {
    Response::ok().then(Request::Quit)
}

/// `/healthcheck/fail`
pub(super) fn fail_health_checks(call: &Call<'_>) -> Response {
    call.admin.server.fail_health_checks(true);
    Response::ok()
}

/// `/healthcheck/ok`
pub(super) fn pass_health_checks(call: &Call<'_>) -> Response {
    call.admin.server.fail_health_checks(false);
    Response::ok()
}

/// `/drain_listeners`
pub(super) fn drain_listeners(call: &Call<'_>) -> Response {
    let has = |name| call.parameters.has(name);
    let (skip_exit, inbound_only) = (has("skip_exit"), has("inboundonly"));
    // Listeners that never stop need no time before they do.
    let graceful = has("graceful") || skip_exit;
    call.admin.server.request(Request::DrainListeners { inbound_only, graceful, skip_exit });
    Response::ok()
}

/// `/reset_counters`
pub(super) fn reset_counters(call: &Call<'_>) -> Response {
    call.admin.server.store.reset_counters();
    Response::ok()
}

/// `/reopen_logs`
pub(super) fn reopen_logs(call: &Call<'_>) -> Response {
    call.admin.server.files.reopen();
    call.admin.server.clusters.reopen_logs();
    Response::ok()
}
