//! Which worker this thread is. Owns the thread-local number that picks a block of cells.

use std::cell::Cell;

/// The number of a thread that is no worker: beyond the blocks of any store.
const NONE: u32 = u32::MAX;

thread_local! {
    static WORKER: Cell<u32> = const { Cell::new(NONE) };
}

/// Says that this thread is worker `id`, from 1 to the number given to [`Store::new`](crate::Store::new).
///
/// Call it once when a worker thread starts. Two live threads must not share an id: updates would be lost
/// (nothing worse). 0, the state of every other thread, means "not a worker": its cells are updated with
/// read-modify-write instructions, so that any number of threads may share them. So does an id above the
/// number of workers of a store.
pub fn set_worker(id: u32) {
    WORKER.set(if id == 0 { NONE } else { id });
}

/// The id given to [`set_worker`] on this thread; 0 if none was.
pub fn worker() -> u32 {
    match WORKER.get() {
        NONE => 0,
        id => id,
    }
}

/// The index of this worker's block; out of range on other threads.
#[inline]
pub(crate) fn block_index() -> usize {
    WORKER.get() as usize
}
