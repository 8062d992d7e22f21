//! Requests that are open, as a canary reads them: how long each waits, and for what.
use crate::canary::Open;
use crate::stats::Moment;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Threads are dealt over so many shelves: more than a machine's workers, mostly.
const SHELVES: usize = 64;

thread_local! {
    static MINE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % SHELVES
    };
}

/// All that are open.
#[derive(Debug)]
pub struct UnderWay([Arc<Shelf>; SHELVES]);

/// Those that began on one thread. Alone on its cache lines, with the counts of those who hold it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shelf(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
    /// Requests so far.
    count: u64,
}

#[derive(Debug)]
struct Entry {
    /// As it began.
    open: Open,
    /// Nanoseconds of the moments of its first byte, and since which a stream says nothing; 0: there is none.
    first_byte: AtomicU64,
    silent_since: AtomicU64,
}

/// The place of an open request, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    shelf: Arc<Shelf>,
    place: usize,
    entry: Arc<Entry>,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl UnderWay {
    /// Takes in a request, and gives it a number.
    pub fn begin(&self, open: Open) -> Ticket {
        let number = MINE.with(|mine| *mine);
        let shelf = Arc::clone(&self.0[number]);
        let mut places = shelf.0.lock();
        places.count += 1;
        let id = places.count * SHELVES as u64 + number as u64;
        let entry = Arc::new(Entry {
            open: Open { id, ..open },
            first_byte: AtomicU64::default(),
            silent_since: AtomicU64::default(),
        });
        let place = places.free.pop().unwrap_or(places.taken.len());
        if place == places.taken.len() {
            places.taken.push(None);
        }
        places.taken[place] = Some(Arc::clone(&entry));
        drop(places);
        Ticket { shelf, place, entry }
    }

    /// All of them, as far as they have come.
    pub fn list(&self, now: Moment) -> Vec<Open> {
        let so_far = |entry: &Arc<Entry>| entry.so_far(now);
        let of = |shelf: &Arc<Shelf>| -> Vec<Open> {
            shelf.0.lock().taken.iter().flatten().map(so_far).collect()
        };
        self.0.iter().flat_map(of).collect()
    }
}

impl Entry {
    fn so_far(&self, now: Moment) -> Open {
        let at = |nanos: &AtomicU64| match nanos.load(Relaxed) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        };
        Open {
            first_byte: at(&self.first_byte).map(|came| came.since(self.open.began)),
            silent: at(&self.silent_since).map(|since| now.since(since)),
            ..self.open
        }
    }
}

impl Ticket {
    /// What is known of it from its beginning.
    pub fn open(&self) -> &Open {
        &self.entry.open
    }

    /// The first byte of its answer has come.
    pub fn answers(&self, now: Moment) {
        self.entry.first_byte.store(now.as_nanos().max(1), Relaxed);
    }

    /// From this moment on its stream says nothing; `None`: it does not wait for its replica.
    pub fn is_silent_since(&self, since: Option<Moment>) {
        let nanos = since.map_or(0, |since| since.as_nanos().max(1));
        self.entry.silent_since.store(nanos, Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut places = self.shelf.0.lock();
        places.taken[self.place] = None;
        places.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Arm;
    use std::time::Duration;

    fn open(began: Moment) -> Open {
        Open {
            id: 0,
            arm: Arm::Candidate,
            began,
            key: None,
            client: Some(7),
            replica: 1,
            beside: 0,
            prefix: None,
            first_byte: None,
            silent: None,
        }
    }

    #[test]
    fn a_request_is_open_until_its_ticket_is_dropped() {
        let all = UnderWay::default();
        let at = Moment::from_millis;
        let one = all.begin(open(at(1000)));
        let two = all.begin(open(at(2000)));
        assert_ne!(one.open().id, two.open().id);
        two.answers(at(2500));
        two.is_silent_since(Some(at(2600)));
        let listed = all.list(at(4000));
        assert_eq!(listed.len(), 2);
        let listed = listed.iter().find(|open| open.id == two.open().id).unwrap();
        assert_eq!(listed.first_byte, Some(Duration::from_millis(500)));
        assert_eq!(listed.silent, Some(Duration::from_millis(1400)));
        two.is_silent_since(None);
        drop(one);
        let listed = all.list(at(5000));
        assert_eq!((listed.len(), listed[0].silent), (1, None));
        let three = all.begin(open(at(5000)));
        assert!(all.list(at(5000)).iter().any(|open| open.id == three.open().id));
        drop((two, three));
        assert!(all.list(at(6000)).is_empty());
    }

    #[test]
    fn places_are_used_again() {
        let all = UnderWay::default();
        for _ in 0..1000 {
            let tickets = [all.begin(open(Moment::ZERO)), all.begin(open(Moment::ZERO))];
            drop(tickets);
        }
        let most = all.0.iter().map(|shelf| shelf.0.lock().taken.len()).max();
        assert_eq!(most, Some(2));
    }
}
