//! `/memory`: what the allocator knows.

use super::endpoint::Call;
use super::json::Json;
use super::response::{Response, TEXT};
use tikv_jemalloc_ctl::{epoch, stats};

/// The allocator's figures, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// In use by the program.
    pub allocated: u64,
    /// In pages that are in use.
    pub active: u64,
    /// In mappings.
    pub mapped: u64,
    /// Of mappings, what is in physical memory; the allocator's own data included.
    pub resident: u64,
    /// Kept to be used again, given back to the system.
    pub retained: u64,
    /// The allocator's own data.
    pub metadata: u64,
}

impl Memory {
    /// The figures now; none where another allocator is in use.
    pub(super) fn read() -> Option<Memory> {
        epoch::advance().ok()?;
        let memory = Memory {
            allocated: stats::allocated::read().ok()? as u64,
            active: stats::active::read().ok()? as u64,
            mapped: stats::mapped::read().ok()? as u64,
            resident: stats::resident::read().ok()? as u64,
            retained: stats::retained::read().ok()? as u64,
            metadata: stats::metadata::read().ok()? as u64,
        };
        Some(memory)
    }

    /// Address space that is held (`server.memory_heap_size`).
    pub(super) fn heap_size(self) -> u64 {
        self.mapped.saturating_add(self.retained)
    }
}

/// `/memory`, in the terms of Envoy's `admin.v3.Memory`.
pub(super) fn memory(_: &Call<'_>) -> Response {
    let Some(memory) = Memory::read() else {
        return Response::new(501, TEXT, "this build has no allocator with statistics\n");
    };
    let free = memory.resident.saturating_sub(memory.active).saturating_sub(memory.metadata);
    let document = Json::object([
        ("allocated", Json::long(memory.allocated)),
        ("heap_size", Json::long(memory.heap_size())),
        ("pageheap_unmapped", Json::long(memory.retained)),
        ("pageheap_free", Json::long(free)),
        ("total_thread_cache", Json::long(memory.active.saturating_sub(memory.allocated))),
        ("total_physical_bytes", Json::long(memory.resident)),
    ]);
    Response::json(document.document())
}

/// `/memory/tcmalloc`
pub(super) fn allocator(_: &Call<'_>) -> Response {
    let Some(memory) = Memory::read() else {
        return Response::new(501, TEXT, "this build has no allocator with statistics\n");
    };
    let Memory { allocated, active, mapped, resident, retained, metadata } = memory;
    Response::text(format!(
        "The allocator is jemalloc, not TCMalloc. Bytes, by jemalloc's names:\n\
         stats.allocated: {allocated}\nstats.active: {active}\nstats.mapped: {mapped}\n\
         stats.resident: {resident}\nstats.retained: {retained}\nstats.metadata: {metadata}\n"
    ))
}
