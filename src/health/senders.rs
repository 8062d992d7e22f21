//! Whose failures they are: where a key chooses the replica, one client must not be able to speak for all.
//!
//! A policy that goes by load or chance spreads each client's requests over all replicas, so that a client whose
//! requests always fail makes all of them look alike. A key binds its client to one replica (`balance: hash`): there, 2 % of the
//! traffic can be a fifth of what one replica gets. So the failures of a client count once against one replica, and
//! again only where others fail there as well, or where there are no others.
use crate::stats::Moment;
use std::time::Duration;

/// Who sent a request, as far as a key chose its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The hash of its sticky key; `None`: it had none, and its replica was chosen by load.
    pub key: Option<u64>,
    /// The hash of its API key, else of its client's address: keys are chosen by clients, so many of them may be one.
    pub origin: u64,
}

/// A client that failed is known for so long.
const KNOWN: Duration = Duration::from_hours(1);
/// So many of them are.
const KEPT: usize = 16;
/// What others do is looked at for so long before and after.
const WINDOW: Duration = Duration::from_mins(1);
/// Others are heard of, if one of them was among so many last endings, or in a [`WINDOW`].
const LAST: u32 = 16;
/// Failures of different clients, and none that went well, say enough.
const IN_A_ROW: u32 = 5;
/// If so many of them are of others than the client that has most: one that fails now and then among those of one who
/// always does says nothing.
const OF_OTHERS: u32 = 2;

/// What is known of the senders of one replica's requests.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    /// Made at the first failure.
    failed: Option<Box<Failed>>,
    total: Total,
    keys: LastTwo,
    origins: LastTwo,
    run: Run,
    /// The origin of most requests, if there is one (Boyer and Moore's majority vote): a proxy in front of many clients.
    majority: (u64, u8),
}

#[derive(Clone, Debug, Default)]
struct Failed {
    keys: [Entry; KEPT],
    origins: [Entry; KEPT],
}

/// Endings at the replica, whether counted or not.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    requests: u32,
    failures: u32,
}

/// Failures since the last success.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    failures: u32,
    /// Those that counted.
    counted: u32,
    keys: Lead,
    origins: Lead,
}

/// By how much the client with more than half of the failures leads, if there is one (Boyer and Moore's majority vote).
#[derive(Clone, Copy, Debug, Default)]
struct Lead {
    id: u64,
    votes: u32,
}

impl Lead {
    fn note(&mut self, id: u64) {
        if self.id == id && self.votes > 0 {
            self.votes = self.votes.saturating_add(1);
        } else if self.votes == 0 {
            *self = Self { id, votes: 1 };
        } else {
            self.votes -= 1;
        }
    }

    /// Of so many, are enough of others?
    fn is_of_many(&self, all: u32) -> bool {
        self.votes.saturating_add(2 * OF_OTHERS) <= all
    }
}

/// A client that failed.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    id: u64,
    /// When it failed last; zero: the place is free.
    last: Moment,
    /// Since when others are looked at, what had ended by then, and what it ended since.
    from: Moment,
    then: Total,
    own: Total,
}

/// The last success of each of two clients.
#[derive(Clone, Copy, Debug, Default)]
struct LastTwo([Success; 2]);

#[derive(Clone, Copy, Debug, Default)]
struct Success {
    id: u64,
    at: Moment,
    /// [`Total::requests`] with it.
    number: u32,
}

impl LastTwo {
    fn note(&mut self, success: Success) {
        if self.0[0].id != success.id {
            self.0[1] = self.0[0];
        }
        self.0[0] = success;
    }

    /// Did anybody else succeed lately?
    fn other(&self, id: u64, total: Total, now: Moment) -> bool {
        let lately = |s: &&Success| {
            s.number > 0
                && (total.requests.wrapping_sub(s.number) <= LAST || now.since(s.at) < WINDOW)
        };
        self.0.iter().filter(lately).any(|s| s.id != id)
    }
}

impl Senders {
    /// Takes in one ending. Returns how many failures it counts for: none where they say more of the client than of the
    /// replica, more than one where earlier ones were held back and turn out to count. A success counts for none.
    /// `usual`: the rate at which the replica's peers fail.
    pub fn weigh(&mut self, sender: Sender, failed: bool, usual: f64, now: Moment) -> u32 {
        // Without a key it is nobody else's request.
        let key = sender.key.unwrap_or_else(|| u64::from(self.total.requests));
        self.total.requests = self.total.requests.wrapping_add(1);
        self.total.failures = self.total.failures.wrapping_add(u32::from(failed));
        self.vote(sender.origin);
        if let Some(known) = &mut self.failed {
            known.note(key, sender.origin, failed, now);
        }
        if !failed {
            let number = self.total.requests;
            self.keys.note(Success { id: key, at: now, number });
            self.origins.note(Success { id: sender.origin, at: now, number });
            self.run = Run::default();
            return 0;
        }
        let proxied = self.majority.1 >= 8 && self.majority.0 == sender.origin;
        let known = self.failed.get_or_insert_default();
        let by_key = admits(&mut known.keys, key, &self.keys, self.total, usual, now);
        let by_origin =
            admits(&mut known.origins, sender.origin, &self.origins, self.total, usual, now);
        let counts = (by_key || sender.key.is_none()) && (by_origin || proxied);
        self.run.add(key, sender.origin, counts, proxied)
    }

    fn vote(&mut self, origin: u64) {
        let (candidate, votes) = &mut self.majority;
        if *candidate == origin {
            *votes = (*votes + 1).min(64);
        } else if *votes == 0 {
            (*candidate, *votes) = (origin, 1);
        } else {
            *votes -= 1;
        }
    }
}

impl Run {
    /// One more failed. Returns how many count with it.
    fn add(&mut self, key: u64, origin: u64, counts: bool, proxied: bool) -> u32 {
        self.keys.note(key);
        self.origins.note(origin);
        self.failures = self.failures.saturating_add(1);
        let of_many = self.keys.is_of_many(self.failures)
            && (proxied || self.origins.is_of_many(self.failures));
        let ill = self.failures >= IN_A_ROW && of_many;
        let counted = if ill { self.failures - self.counted } else { u32::from(counts) };
        self.counted += counted;
        counted
    }
}

impl Failed {
    /// One of these ended a request.
    fn note(&mut self, key: u64, origin: u64, failed: bool, now: Moment) {
        for (entries, id) in [(&mut self.keys, key), (&mut self.origins, origin)] {
            if let Some(entry) = find(entries, id, now) {
                entry.own.requests = entry.own.requests.saturating_add(1);
                entry.own.failures = entry.own.failures.saturating_add(u32::from(failed));
            }
        }
    }
}

fn find(entries: &mut [Entry; KEPT], id: u64, now: Moment) -> Option<&mut Entry> {
    let known = |e: &&mut Entry| e.id == id && e.last > Moment::ZERO && now.since(e.last) < KNOWN;
    entries.iter_mut().find(known)
}

/// May a failure of this client count?
fn admits(
    entries: &mut [Entry; KEPT],
    id: u64,
    successes: &LastTwo,
    total: Total,
    usual: f64,
    now: Moment,
) -> bool {
    let last = now.max(Moment::from_nanos(1));
    let fresh = Entry { id, last, from: now, then: total, own: Total { requests: 1, failures: 1 } };
    let Some(entry) = find(entries, id, now) else {
        // Who failed the longest ago makes room.
        if let Some(place) = entries.iter_mut().min_by_key(|entry| entry.last) {
            *place = fresh;
        }
        return true;
    };
    entry.last = last;
    let window = *entry;
    if now.since(window.from) >= WINDOW {
        *entry = fresh;
    }
    let others = Total {
        requests: (total.requests.wrapping_sub(window.then.requests) + 1)
            .saturating_sub(window.own.requests),
        failures: (total.failures.wrapping_sub(window.then.failures) + 1)
            .saturating_sub(window.own.failures),
    };
    let alone = others.requests == 0 && !successes.other(id, total, now);
    let also = entries.iter().filter(|e| e.id != id && e.last > window.from).count();
    alone || (also >= 2 && like(window.own, others, usual))
}

/// Do the others fail as often as this client does, rather than as usual? By the likelihoods of both.
fn like(own: Total, others: Total, usual: f64) -> bool {
    let rate = f64::from(own.failures) / f64::from(own.requests);
    let rate = rate.clamp((2.0 * usual).min(0.9), 0.99);
    let (failures, requests) = (f64::from(others.failures), f64::from(others.requests));
    failures * (rate / usual).ln() + (requests - failures) * ((1.0 - rate) / (1.0 - usual)).ln()
        > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: u64) -> Sender {
        Sender { key: Some(key), origin: 7 }
    }

    fn at(seconds: f64) -> Moment {
        Moment::ZERO + Duration::from_secs_f64(seconds + 1.0)
    }

    /// Failures that count, of endings at ten a second.
    fn counted(senders: &mut Senders, endings: impl IntoIterator<Item = (Sender, bool)>) -> u32 {
        let ends = endings.into_iter().enumerate();
        ends.map(|(i, (who, failed))| senders.weigh(who, failed, 0.01, at(i as f64 / 10.0))).sum()
    }

    #[test]
    fn one_client_that_always_fails_counts_once() {
        let mut senders = Senders::default();
        let endings = (0..1_200).map(|i| if i % 8 == 0 { (of(0), true) } else { (of(i), false) });
        assert_eq!(counted(&mut senders, endings), 1);
    }

    #[test]
    fn one_failure_of_another_among_those_of_one_client_says_nothing() {
        for odd in 0..6 {
            let mut senders = Senders::default();
            counted(&mut senders, (0..100).map(|i| (of(i % 20), false)));
            let ends = (0..6).map(|i| (of(if i == odd { 7 } else { 0 }), true));
            assert_eq!(counted(&mut senders, ends), 2, "{odd}");
        }
    }

    #[test]
    fn two_and_three_of_them_count_once_each() {
        for n in [2, 3] {
            let mut senders = Senders::default();
            let endings = (0..600).map(|i| (of(i % 20), i % 20 < n));
            assert_eq!(counted(&mut senders, endings), u32::try_from(n).unwrap());
        }
    }

    #[test]
    fn failures_of_all_clients_count_from_the_first() {
        let mut senders = Senders::default();
        counted(&mut senders, (0..100).map(|i| (of(i % 20), false)));
        assert_eq!(counted(&mut senders, (0..6).map(|i| (of(i), true))), 6);
    }

    #[test]
    fn where_two_clients_always_fail_the_sixth_failure_is_enough() {
        let mut senders = Senders::default();
        counted(&mut senders, (0..100).map(|i| (of(i % 2), false)));
        let ends = [0, 0, 1, 0, 1, 0].map(|key| (of(key), true));
        assert!(counted(&mut senders, ends) >= 5, "as many as eject");
    }

    #[test]
    fn a_client_without_others_counts_always() {
        let mut senders = Senders::default();
        counted(&mut senders, (0..100).map(|_| (of(3), false)));
        assert_eq!(counted(&mut senders, (0..6).map(|_| (of(3), true))), 6);
    }

    #[test]
    fn where_all_clients_fail_now_and_then_each_failure_counts() {
        let mut senders = Senders::default();
        // Each third request of ten clients.
        let endings = (0..300).map(|i| (of(i % 10), i % 3 == 0));
        let counted = counted(&mut senders, endings);
        assert!(counted >= 85, "{counted}");
    }

    #[test]
    fn many_keys_of_one_origin_are_one_client() {
        let attacker = |i: u64| Sender { key: Some(1_000 + i), origin: 66 };
        let endings = |n: u64| {
            (0..n).map(move |i| {
                if i % 10 == 0 {
                    (attacker(i), true)
                } else {
                    (Sender { key: Some(i), origin: i % 5 }, false)
                }
            })
        };
        assert_eq!(counted(&mut Senders::default(), endings(600)), 1);
        // Behind a proxy all clients have its origin, which says nothing of them.
        let proxied = endings(600).map(|(sender, failed)| (Sender { origin: 7, ..sender }, failed));
        assert_eq!(counted(&mut Senders::default(), proxied), 60);
    }

    #[test]
    fn what_has_no_key_is_nobodys() {
        let mut senders = Senders::default();
        let unkeyed = |i: u64| Sender { key: None, origin: i };
        assert_eq!(counted(&mut senders, (0..6).map(|i| (unkeyed(i), true))), 6);
    }
}
