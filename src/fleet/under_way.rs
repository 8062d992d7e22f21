//! Requests that are open, as a canary reads them: how long each waits, and for what.
//!
//! Each thread has places of its own for those that begin on it. So to begin and to end one are plain stores: no lock,
//! no allocation, and no exchange with memory that another thread may want.
use super::thread::thread_number;
use crate::canary::{Arm, Open};
use crate::stats::Moment;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

/// A thread begins with so many places.
const PLACES: usize = 64;
/// A thread numbers so many requests: those of 50 years at 10 000 a second.
const NUMBERS: u64 = 1 << 44;

/// All places of all threads. Threads that serve live as long as the process, and so do their places.
static ALL: Mutex<Vec<&'static [Place]>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: RefCell<Mine> = RefCell::default();
}

/// A thread, as one on which requests begin.
#[derive(Default)]
struct Mine {
    /// Requests so far.
    requests: u64,
    places: Vec<&'static Place>,
    /// Those that were nobody's at the last look, and were not given away since.
    free: Vec<&'static Place>,
}

/// Those of one model that are open.
#[derive(Debug)]
pub struct UnderWay {
    /// No other of this process has it.
    model: u64,
}

/// An open request: written by its ticket alone, read by anybody. What was read is one request's, and whole, if `id`
/// was the same before and after, and not 0 (a seqlock, as in H.-J. Boehm, "Can seqlocks get along with programming
/// language memory models?", MSPC 2012).
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    /// 0: nobody's.
    id: AtomicU64,
    model: AtomicU64,
    began: AtomicU64,
    key: AtomicU64,
    client: AtomicU64,
    prefix: AtomicU64,
    replica: AtomicU64,
    /// In the upper half, the requests beside it; below, bits of [`Place::HAS_KEY`] and its neighbours.
    rest: AtomicU64,
    /// Nanoseconds of the moments of its first byte, and since which a stream says nothing; 0: there is none.
    first_byte: AtomicU64,
    silent_since: AtomicU64,
}

/// The place of an open request, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    place: &'static Place,
    id: u64,
}

impl Default for UnderWay {
    fn default() -> Self {
        static MODELS: AtomicU64 = AtomicU64::new(0);
        Self { model: MODELS.fetch_add(1, Relaxed) }
    }
}

impl UnderWay {
    /// Takes in a request, and gives it a number: its own `id` says nothing.
    pub fn begin(&self, open: &Open) -> Ticket {
        let (place, id) = MINE.with_borrow_mut(|mine| (mine.free_place(), mine.number()));
        place.write(id, self.model, open);
        Ticket { place, id }
    }

    /// All of them, as far as they have come.
    pub fn list(&self, now: Moment) -> Vec<Open> {
        // A thread that wants more places does not wait for the reading.
        let all = ALL.lock().clone();
        all.into_iter().flatten().filter_map(|place| place.read(self.model, now)).collect()
    }
}

impl Mine {
    fn number(&mut self) -> u64 {
        self.requests += 1;
        thread_number() * NUMBERS + self.requests
    }

    /// Only this thread makes one somebody's, so it stays free until it is written.
    fn free_place(&mut self) -> &'static Place {
        if self.free.is_empty() {
            self.look_for_free();
        }
        self.free.pop().expect("a look finds some, or makes them")
    }

    /// There are twice as many places afterwards, where three quarters or more were somebody's. So a look at all of
    /// them serves a quarter as many requests at least, and they are never three times as many as were taken at once.
    fn look_for_free(&mut self) {
        let is_free = |place: &&&Place| place.id.load(Acquire) == 0;
        self.free.extend(self.places.iter().filter(is_free).copied());
        if self.free.len() <= self.places.len() / 4 {
            let more = (0..self.places.len().max(PLACES)).map(|_| Place::default());
            let more: &'static [Place] = more.collect::<Vec<_>>().leak();
            ALL.lock().push(more);
            self.places.extend(more);
            self.free.extend(more);
        }
    }
}

impl Place {
    const OF_CANDIDATE: u64 = 1;
    const HAS_KEY: u64 = 2;
    const HAS_CLIENT: u64 = 4;
    const HAS_PREFIX: u64 = 8;

    fn write(&self, id: u64, model: u64, open: &Open) {
        let bit = |is: bool, bit: u64| if is { bit } else { 0 };
        let rest = u64::from(open.beside) << 32
            | bit(open.arm == Arm::Candidate, Self::OF_CANDIDATE)
            | bit(open.key.is_some(), Self::HAS_KEY)
            | bit(open.client.is_some(), Self::HAS_CLIENT)
            | bit(open.prefix.is_some(), Self::HAS_PREFIX);
        // Whoever reads anything of what follows finds that its last owner has left.
        fence(Release);
        self.model.store(model, Relaxed);
        self.began.store(open.began.as_nanos(), Relaxed);
        self.key.store(open.key.unwrap_or(0), Relaxed);
        self.client.store(open.client.unwrap_or(0), Relaxed);
        self.prefix.store(open.prefix.unwrap_or(0), Relaxed);
        self.replica.store(open.replica, Relaxed);
        self.rest.store(rest, Relaxed);
        self.first_byte.store(0, Relaxed);
        self.silent_since.store(0, Relaxed);
        self.id.store(id, Release);
    }

    /// `None`: it is nobody's, or of another model, or its owner changed meanwhile.
    fn read(&self, model: u64, now: Moment) -> Option<Open> {
        let id = self.id.load(Acquire);
        if id == 0 || self.model.load(Relaxed) != model {
            return None;
        }
        let rest = self.rest.load(Relaxed);
        let began = Moment::from_nanos(self.began.load(Relaxed));
        let of = |word: &AtomicU64, bit| (rest & bit != 0).then(|| word.load(Relaxed));
        let moment = |word: &AtomicU64| match word.load(Relaxed) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        };
        let open = Open {
            id,
            arm: if rest & Self::OF_CANDIDATE != 0 { Arm::Candidate } else { Arm::Stable },
            began,
            key: of(&self.key, Self::HAS_KEY),
            client: of(&self.client, Self::HAS_CLIENT),
            replica: self.replica.load(Relaxed),
            beside: (rest >> 32) as u32,
            prefix: of(&self.prefix, Self::HAS_PREFIX),
            first_byte: moment(&self.first_byte).map(|came| came.since(began)),
            silent: moment(&self.silent_since).map(|since| now.since(since)),
        };
        fence(Acquire);
        (self.id.load(Relaxed) == id).then_some(open)
    }
}

impl Ticket {
    /// Of no other request of this process, and never 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The first byte of its answer has come.
    pub fn answers(&self, now: Moment) {
        self.place.first_byte.store(now.as_nanos().max(1), Relaxed);
    }

    /// From this moment on its stream says nothing; `None`: it does not wait for its replica.
    pub fn is_silent_since(&self, since: Option<Moment>) {
        let nanos = since.map_or(0, |since| since.as_nanos().max(1));
        self.place.silent_since.store(nanos, Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.place.id.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    fn open(began: Moment) -> Open {
        Open {
            id: 0,
            arm: Arm::Candidate,
            began,
            key: None,
            client: Some(7),
            replica: 1,
            beside: 3,
            prefix: None,
            first_byte: None,
            silent: None,
        }
    }

    #[test]
    fn a_request_is_open_until_its_ticket_is_dropped() {
        let all = UnderWay::default();
        let at = Moment::from_millis;
        let one = all.begin(&open(at(1000)));
        let two = all.begin(&open(at(2000)));
        assert_ne!(one.id(), two.id());
        two.answers(at(2500));
        two.is_silent_since(Some(at(2600)));
        let listed = all.list(at(4000));
        assert_eq!(listed.len(), 2);
        let (first_byte, silent) = (Duration::from_millis(500), Duration::from_millis(1400));
        let so_far = Open {
            id: two.id(),
            first_byte: Some(first_byte),
            silent: Some(silent),
            ..open(at(2000))
        };
        assert!(listed.contains(&so_far), "{listed:?}");
        assert!(listed.contains(&Open { id: one.id(), ..open(at(1000)) }), "{listed:?}");
        two.is_silent_since(None);
        drop(one);
        let listed = all.list(at(5000));
        assert_eq!((listed.len(), listed[0].silent), (1, None));
        // A new one in the place of the first knows nothing of it.
        let three =
            all.begin(&Open { arm: Arm::Stable, client: None, key: Some(0), ..open(at(5000)) });
        let listed = all.list(at(5000));
        let listed = listed.iter().find(|open| open.id == three.id()).expect("it is open");
        assert_eq!((listed.arm, listed.client, listed.key), (Arm::Stable, None, Some(0)));
        assert_eq!(listed.first_byte, None);
        drop((two, three));
        assert!(all.list(at(6000)).is_empty());
    }

    /// What `test` returns, on a thread that has no places yet.
    fn on_a_new_thread<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(test).join().expect("no assertion failed"))
    }

    fn places_of_this_thread() -> usize {
        MINE.with_borrow(|mine| mine.places.len())
    }

    #[test]
    fn places_are_used_again() {
        let (all, other) = (UnderWay::default(), UnderWay::default());
        let begin = |_| (all.begin(&open(Moment::ZERO)), other.begin(&open(Moment::ZERO)));
        let places = on_a_new_thread(|| {
            for open_at_once in [1000, 10, 700, 1000] {
                let tickets: Vec<_> = (0..open_at_once).map(begin).collect();
                let listed = all.list(Moment::ZERO);
                let ids: BTreeSet<u64> = listed.iter().map(|open| open.id).collect();
                assert_eq!((listed.len(), ids.len()), (open_at_once, open_at_once));
                drop(tickets);
                assert!(all.list(Moment::ZERO).is_empty());
            }
            places_of_this_thread()
        });
        assert_eq!(places, 2048);
    }

    /// However many stay open, and for however long.
    #[test]
    fn places_are_never_three_times_as_many_as_were_taken_at_once() {
        let all = UnderWay::default();
        for stay in [0, 47, 48, 63, 64, 500] {
            let places = on_a_new_thread(|| {
                let _open: Vec<_> = (0..stay).map(|_| all.begin(&open(Moment::ZERO))).collect();
                for _ in 0..10_000 {
                    drop(all.begin(&open(Moment::ZERO)));
                }
                places_of_this_thread()
            });
            assert!(places <= PLACES.max(3 * (stay + 1)), "{places} for {stay}");
        }
    }

    #[test]
    fn a_place_is_free_once_another_thread_has_ended_its_request() {
        let all = UnderWay::default();
        let places = on_a_new_thread(|| {
            for _ in 0..10 * PLACES {
                let ticket = all.begin(&open(Moment::ZERO));
                on_a_new_thread(move || drop(ticket));
            }
            places_of_this_thread()
        });
        assert_eq!(places, PLACES);
    }

    /// Whatever is read while others begin and end is one request's, and whole.
    #[test]
    fn what_is_listed_is_whole() {
        let all = UnderWay::default();
        // All that a request has follows from its number, so that a mixture shows.
        let of = |n: u64| Open {
            began: Moment::from_nanos(n),
            key: (n.is_multiple_of(3)).then_some(n),
            client: Some(n),
            replica: n,
            beside: n as u32,
            prefix: (n.is_multiple_of(2)).then_some(n),
            arm: if n.is_multiple_of(5) { Arm::Candidate } else { Arm::Stable },
            ..open(Moment::ZERO)
        };
        let enough = AtomicBool::new(false);
        let write = |writer: u64| {
            let mut open = VecDeque::new();
            for n in (writer..).step_by(2).take_while(|_| !enough.load(Relaxed)) {
                open.push_back(all.begin(&of(n)));
                if open.len() > 5 {
                    open.pop_front();
                }
            }
        };
        thread::scope(|scope| {
            for writer in [0, 1] {
                scope.spawn(move || write(writer));
            }
            let mut seen = 0;
            let whole = |one: &Open| *one == Open { id: one.id, ..of(one.replica) };
            let torn = loop {
                let listed = all.list(Moment::ZERO);
                seen += listed.len();
                let torn = listed.into_iter().find(|one| !whole(one));
                if torn.is_some() || seen > 100_000 {
                    break torn;
                }
            };
            enough.store(true, Relaxed);
            assert_eq!(torn, None);
        });
        assert!(all.list(Moment::ZERO).is_empty());
    }
}
