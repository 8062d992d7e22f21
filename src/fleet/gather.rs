//! What many threads put in and one takes out, without a lock that two requests share in practice.
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Threads are dealt over so many boxes.
const BOXES: usize = 16;
/// What nobody takes out is not kept beyond so many a box: the rest is dropped.
const MOST: usize = 65_536;

thread_local! {
    static MINE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % BOXES
    };
}

/// Closed until somebody wants what comes in.
#[derive(Debug)]
pub struct Gather<T> {
    open: AtomicBool,
    boxes: [Mutex<Vec<T>>; BOXES],
}

impl<T> Default for Gather<T> {
    fn default() -> Self {
        Self { open: AtomicBool::default(), boxes: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl<T> Gather<T> {
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Relaxed);
    }

    pub fn add(&self, one: T) {
        let mut mine = self.boxes[MINE.with(|mine| *mine)].lock();
        if mine.len() < MOST {
            mine.push(one);
        }
    }

    /// All that came in, a box after the other.
    pub fn take(&self) -> Vec<T> {
        self.boxes.iter().flat_map(|each| std::mem::take(&mut *each.lock())).collect()
    }
}
