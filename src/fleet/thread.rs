//! A number for each thread, so that what requests note is kept apart without asking who else is there.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

thread_local! {
    static NUMBER: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Relaxed)
    };
}

/// That of this thread; no other of this process has it.
pub(super) fn thread_number() -> u64 {
    NUMBER.with(|number| *number)
}
