//! What many threads put in and one takes out, without a lock that two requests share in practice.
use super::thread::thread_number;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Threads are dealt over so many boxes: more than a machine's workers, mostly.
const BOXES: usize = 64;
/// What nobody takes out is not kept beyond so many a box: the rest is dropped.
const MOST: usize = 32_768;

/// Alone on its cache line: a neighbour's lock would take it away from its thread.
#[derive(Debug)]
#[repr(align(64))]
struct Own<T>(Mutex<Vec<T>>);

/// Closed until somebody wants what comes in.
#[derive(Debug)]
pub struct Gather<T> {
    open: AtomicBool,
    boxes: [Own<T>; BOXES],
}

impl<T> Default for Gather<T> {
    fn default() -> Self {
        Self { open: AtomicBool::default(), boxes: std::array::from_fn(|_| Own(Mutex::default())) }
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
        let mut mine = self.boxes[thread_number() as usize % BOXES].0.lock();
        if mine.len() < MOST {
            mine.push(one);
        }
    }

    /// All that came in until now, a box after the other. Each keeps room for as much again, so that requests
    /// allocate none.
    pub fn take(&self) -> impl Iterator<Item = T> + use<T> {
        let emptied = |each: &Own<T>| {
            let mut full = each.0.lock();
            let room = full.len();
            std::mem::replace(&mut *full, Vec::with_capacity(room))
        };
        self.boxes.iter().map(emptied).collect::<Vec<_>>().into_iter().flatten()
    }
}
