//! `/stats` and what is below it.

use super::Admin;
use super::endpoint::Call;
use super::response::{HTML, JSON, Response, TEXT};
use nuncio_stats::render::{Endpoint, Format, Query, Scrape};
use std::time::SystemTime;

/// `/stats`
pub(super) fn stats(call: &Call<'_>) -> Response {
    scrape(call, Endpoint::Stats)
}

/// `/stats/prometheus`
pub(super) fn prometheus(call: &Call<'_>) -> Response {
    scrape(call, Endpoint::Prometheus)
}

fn scrape(call: &Call<'_>, endpoint: Endpoint) -> Response {
    let query = match Query::parse(endpoint, call.parameters.iter()) {
        Ok(query) => query,
        Err(error) => return Response::bad_request(error.to_string()),
    };
    let content_type = match query.format {
        Format::Text | Format::Prometheus => TEXT,
        Format::Json => JSON,
        Format::Html => HTML,
    };
    refresh(call.admin);
    Response::pieces(content_type, Scrape::new(&call.admin.server.store, query))
}

/// Brings the gauges up to date that say how the process is now.
fn refresh(admin: &Admin) {
    let server = &admin.server;
    let stats = &server.stats;
    stats.uptime().set(server.hot_restart.uptime().as_secs());
    let open = server
        .listeners
        .borrow()
        .served()
        .iter()
        .map(|listener| listener.handle.stats.downstream_cx_active().value())
        .sum();
    stats.total_connections().set(open);
    stats.version().set(version_number());
    let now = SystemTime::now();
    stats.days_until_first_cert_expiring().set(server.contexts.days_left(now).unwrap_or(u64::from(u32::MAX)));
    let staple = server.contexts.ocsp_seconds_left(now).unwrap_or_default();
    stats.seconds_until_first_ocsp_response_expiring().set(staple);
    if let Some(memory) = super::memory::Memory::read() {
        stats.memory_allocated().set(memory.allocated);
        stats.memory_heap_size().set(memory.heap_size());
        stats.memory_physical_size().set(memory.resident);
    }
}

/// `server.version`: the program's version as one number, a byte for each part.
fn version_number() -> u64 {
    let parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse::<u8>().unwrap_or_default());
    parts.take(3).fold(0, |number, part| number << 8 | u64::from(part))
}

/// `/stats/recentlookups`. Names are looked up when a group is made, never later, so there is nothing to record.
pub(super) fn recent_lookups(call: &Call<'_>) -> Response {
    if call.admin.recent_lookups.get() {
        return Response::text("   Count Lookup\n\ntotal: 0\n");
    }
    Response::text("Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n")
}

/// `/stats/recentlookups/clear`
pub(super) fn clear_lookups(_: &Call<'_>) -> Response {
    Response::ok()
}

/// `/stats/recentlookups/disable`
pub(super) fn disable_lookups(call: &Call<'_>) -> Response {
    call.admin.recent_lookups.set(false);
    Response::ok()
}

/// `/stats/recentlookups/enable`
pub(super) fn enable_lookups(call: &Call<'_>) -> Response {
    call.admin.recent_lookups.set(true);
    Response::ok()
}
