//! Places of admin connections: whoever else is connected, health is answered and an operator gets in.
//!
//! A connection is busy while it has a request, and idle otherwise. When all places are taken, the connection that has
//! been idle longest is closed. When all of them are busy, further places serve health, readiness and metrics alone.
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// Connections at once that may ask for everything.
const GENERAL: usize = 256;
/// Further connections, for health, readiness and metrics.
const RESERVED: usize = 16;
/// Streams of events at once: they are busy for as long as a page is open, and must leave places for orders.
const STREAMS: usize = 192;
/// Pages of metrics being read at once. Each may have megabytes, so the one that was begun first is cut beyond.
const SCRAPES: usize = 8;

/// What a request takes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Soon over.
    Short,
    Scrape,
    Stream,
}

/// Which requests a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    General,
    /// Health, readiness and metrics.
    Reserved,
}

/// All admin connections.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Book<AbortHandle>>);

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    pub(super) id: u64,
    pub(super) place: Place,
}

/// A request that is being answered; its connection is idle again when this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    seats: Arc<Seats>,
    id: u64,
}

impl Seats {
    /// A place for a new connection, which may cost another one its own.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        let (id, place, closed) = self.0.lock().take();
        close(closed);
        Seat { seats: Arc::clone(self), id, place }
    }

    /// Notes what ends the connection of a place, should it have to make room.
    pub(super) fn bind(&self, id: u64, connection: AbortHandle) {
        if let Some(taken) = self.0.lock().taken.get_mut(&id) {
            taken.connection = Some(connection);
        }
    }
}

impl Seat {
    /// A request begins.
    pub(super) fn begin(&self, work: Work) -> Busy {
        let closed = self.seats.0.lock().begin(self.id, work);
        close(closed);
        Busy { seats: Arc::clone(&self.seats), id: self.id }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.0.lock().taken.remove(&self.id);
    }
}

impl Busy {
    /// The answer turns out to be a stream of events. Returns whether there is room for one more.
    pub(super) fn streams(&self) -> bool {
        self.seats.0.lock().stream(self.id)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.seats.0.lock().set(self.id, None);
    }
}

fn close(closed: Option<AbortHandle>) {
    if let Some(connection) = closed {
        connection.abort();
    }
}

/// Who has which place. All numbers rise, so a smaller one is older.
#[derive(Debug)]
struct Book<C> {
    last: u64,
    taken: BTreeMap<u64, Taken<C>>,
}

#[derive(Debug)]
struct Taken<C> {
    place: Place,
    /// What it does; `None`: it is idle.
    work: Option<Work>,
    /// Since when.
    since: u64,
    connection: Option<C>,
}

impl<C> Default for Book<C> {
    fn default() -> Self {
        Self { last: 0, taken: BTreeMap::new() }
    }
}

impl<C> Book<C> {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn take(&mut self) -> (u64, Place, Option<C>) {
        use Place::{General, Reserved};
        let (id, mut closed, mut place) = (self.next(), None, General);
        if self.count(|taken| taken.place == General) >= GENERAL {
            closed = self.remove_oldest(|taken| taken.place == General && taken.work.is_none());
            if closed.is_none() {
                place = Reserved;
            }
        }
        if place == Reserved && self.count(|taken| taken.place == Reserved) >= RESERVED {
            let idle = self.remove_oldest(|taken| taken.place == Reserved && taken.work.is_none());
            closed = idle.or_else(|| self.remove_oldest(|taken| taken.place == Reserved));
        }
        self.taken.insert(id, Taken { place, work: None, since: id, connection: None });
        (id, place, closed.and_then(|taken| taken.connection))
    }

    fn begin(&mut self, id: u64, work: Work) -> Option<C> {
        let scrapes = |taken: &Taken<C>| taken.work == Some(Work::Scrape);
        let full = work == Work::Scrape && self.count(scrapes) >= SCRAPES;
        let closed = full.then(|| self.remove_oldest(scrapes)).flatten();
        self.set(id, Some(work));
        closed.and_then(|taken| taken.connection)
    }

    fn stream(&mut self, id: u64) -> bool {
        let room = self.count(|taken| taken.work == Some(Work::Stream)) < STREAMS;
        if room {
            self.set(id, Some(Work::Stream));
        }
        room
    }

    fn set(&mut self, id: u64, work: Option<Work>) {
        let since = self.next();
        if let Some(taken) = self.taken.get_mut(&id) {
            (taken.work, taken.since) = (work, since);
        }
    }

    fn count(&self, which: impl Fn(&Taken<C>) -> bool) -> usize {
        self.taken.values().filter(|taken| which(taken)).count()
    }

    /// Frees the place that has been as it is for the longest time. `None`: there is none such.
    fn remove_oldest(&mut self, which: impl Fn(&Taken<C>) -> bool) -> Option<Taken<C>> {
        let such = self.taken.iter().filter(|(_, taken)| which(taken));
        let oldest = such.min_by_key(|(_, taken)| taken.since).map(|(id, _)| *id)?;
        self.taken.remove(&oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Book<u64> {
        /// Takes a place, and returns its number, which place it is and who was closed for it.
        fn enter(&mut self) -> (u64, Place, Option<u64>) {
            let (id, place, closed) = self.take();
            self.taken.get_mut(&id).unwrap().connection = Some(id);
            (id, place, closed)
        }
    }

    #[test]
    fn when_all_places_are_taken_the_longest_idle_connection_makes_room() {
        let mut book = Book::default();
        let ids: Vec<_> = (0..GENERAL).map(|_| book.enter().0).collect();
        // The first has just been used, the second is in use.
        book.begin(ids[0], Work::Short);
        book.set(ids[0], None);
        book.begin(ids[1], Work::Short);
        for id in &ids[2..] {
            assert_eq!(book.enter().2, Some(*id));
        }
        let (_, place, closed) = book.enter();
        assert_eq!((place, closed), (Place::General, Some(ids[0])));
        assert_eq!(book.taken.len(), GENERAL);
        assert!(book.taken.contains_key(&ids[1]));
    }

    #[test]
    fn when_all_are_busy_the_reserved_places_are_taken_and_never_run_out() {
        let mut book = Book::default();
        for _ in 0..GENERAL {
            let id = book.enter().0;
            book.begin(id, Work::Short);
        }
        let reserved: Vec<_> = (0..RESERVED).map(|_| book.enter()).collect();
        assert!(
            reserved.iter().all(|(_, place, closed)| *place == Place::Reserved && closed.is_none())
        );
        book.begin(reserved[0].0, Work::Scrape);
        assert_eq!(book.enter(), (book.last, Place::Reserved, Some(reserved[1].0)));
        for id in book.taken.keys().copied().collect::<Vec<_>>() {
            book.set(id, Some(Work::Short));
        }
        assert_eq!(book.enter().1, Place::Reserved, "the oldest of the busy ones makes room");
        assert_eq!(book.taken.len(), GENERAL + RESERVED);
    }

    #[test]
    fn scrapes_and_streams_are_bounded() {
        let mut book = Book::default();
        let ids: Vec<_> = (0..=SCRAPES).map(|_| book.enter().0).collect();
        let closed: Vec<_> = ids.iter().map(|id| book.begin(*id, Work::Scrape)).collect();
        assert_eq!(closed.iter().flatten().collect::<Vec<_>>(), [&ids[0]]);
        let mut book = Book::<u64>::default();
        let streams: Vec<_> = (0..=STREAMS).map(|_| book.enter().0).collect();
        assert_eq!(streams.iter().filter(|id| book.stream(**id)).count(), STREAMS);
        book.set(streams[0], None);
        assert!(book.stream(streams[STREAMS]));
    }
}
