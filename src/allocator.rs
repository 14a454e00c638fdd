//! The system's allocator, with a count of what each thread holds. Tensors' data is libtorch's own and is not counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};

/// Counts on top of the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // Signed: a thread may free what another one has allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(isize::MAX) };
    static WHEN_FULL: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// The bytes that this thread has allocated and not freed.
pub fn held() -> isize {
    HELD.get()
}

/// Lets this thread hold `most` bytes. At the request for more it calls `when_full` and stops for ever, with what it
/// holds: an allocator cannot return an error, and code of others that takes too much knows no other end but that of the
/// process.
pub fn confine(most: usize, when_full: impl FnOnce() + 'static) {
    WHEN_FULL.set(Some(Box::new(when_full)));
    MOST.set(isize::try_from(most).unwrap_or(isize::MAX));
}

fn count(bytes: isize) {
    let held = HELD.get().wrapping_add(bytes);
    HELD.set(held);
    if held > MOST.get() {
        stop();
    }
}

#[cold]
fn stop() {
    MOST.set(isize::MAX);
    if let Some(when_full) = WHEN_FULL.take() {
        when_full();
    }
    loop {
        std::thread::park();
    }
}

// SAFETY: the system's allocator does the work; counting allocates nothing, since the counters have no destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the conditions of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the conditions of this very function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count((size as isize).wrapping_sub(layout.size() as isize));
        // SAFETY: the caller keeps the conditions of this very function.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count((layout.size() as isize).wrapping_neg());
        // SAFETY: the caller keeps the conditions of this very function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_is_not_held() {
        let before = held();
        let mut bytes: Vec<u8> = Vec::with_capacity(1000);
        assert_eq!(held() - before, 1000);
        bytes.reserve_exact(5000);
        assert_eq!(held() - before, 5000);
        drop(bytes);
        assert_eq!(held(), before);
    }

    #[test]
    fn a_confined_thread_stops_before_it_takes_more() {
        let (sender, full) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            confine(1 << 20, move || sender.send("full").unwrap());
            let mut bytes = vec![0u8; 1 << 10];
            loop {
                bytes.extend_from_within(..);
            }
        });
        assert_eq!(full.recv_timeout(std::time::Duration::from_secs(60)), Ok("full"));
    }
}
