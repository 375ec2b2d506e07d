//! How much a thread has allocated: for tests that hold structures to a size, whatever other threads do meanwhile.
//!
//! A test binary counts with `#[global_allocator] static ALLOCATOR: CountingAllocator = CountingAllocator;`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NET: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread what it allocates and frees.
pub struct CountingAllocator;

/// Bytes that this thread has allocated less those that it has freed.
pub fn net_bytes() -> isize {
    NET.with(Cell::get)
}

fn count(bytes: isize) {
    // A thread that is ending has no counter any more, and nobody asks for it.
    let _ = NET.try_with(|net| net.set(net.get() + bytes));
}

// SAFETY: everything is passed to the system's allocator as it came; counting does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}
