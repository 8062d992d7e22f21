//! Whose failures they are: where a key chooses the replica, one client must not be able to speak for all.
//!
//! A policy that goes by load or chance spreads each client's requests over all replicas, so that a client whose
//! requests always fail makes all of them look alike. A key binds its client to one replica (`balance: hash`): there, 2 % of the
//! traffic can be a fifth of what one replica gets. So a failure of a client counts once a minute against one replica,
//! and again only where others fail there too, or where there are no others.
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

/// A failure of one client counts this often.
const ONCE_IN: Duration = Duration::from_mins(1);
/// Failed clients remembered. With more in a minute, the replica is to blame.
const KEPT: usize = 16;
/// Others are heard of, if one was among so many last endings, or within [`ONCE_IN`].
const LAST: u32 = 16;
/// Failures without any success that say enough, be they of few clients.
const IN_A_ROW: u32 = 5;
/// Failures that are made up for at most, once others fail too.
const MADE_UP: u32 = 4;

/// What is known of the senders of one replica's requests.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    /// Made at the first failure.
    failed: Option<Box<Failed>>,
    total: Total,
    keys: LastTwo,
    origins: LastTwo,
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

/// A client that failed.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    id: u64,
    /// When its failure counted; zero: the place is free.
    at: Moment,
    last: Moment,
    /// What had ended at the replica by then, and what it ended since.
    then: Total,
    own: Total,
    /// Failures since that did not count.
    held: u32,
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
                && (total.requests.wrapping_sub(s.number) <= LAST || now.since(s.at) < ONCE_IN)
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
        let key = sender.key.unwrap_or(u64::from(self.total.requests));
        self.total.requests = self.total.requests.wrapping_add(1);
        self.total.failures = self.total.failures.wrapping_add(u32::from(failed));
        self.vote(sender.origin);
        if let Some(known) = &mut self.failed {
            for (entries, id) in [(&mut known.keys, key), (&mut known.origins, sender.origin)] {
                if let Some(entry) = find(entries, id, now) {
                    entry.own.requests += 1;
                    entry.own.failures += u32::from(failed);
                }
            }
        }
        if !failed {
            let number = self.total.requests;
            self.keys.note(Success { id: key, at: now, number });
            self.origins.note(Success { id: sender.origin, at: now, number });
            return 0;
        }
        let (many, total) = (self.majority.1 >= 8 && self.majority.0 == sender.origin, self.total);
        let known = self.failed.get_or_insert_default();
        let by_key = sender
            .key
            .map_or(Some(0), |key| admit(&mut known.keys, key, &self.keys, total, usual, now));
        let by_origin = if many {
            Some(0)
        } else {
            admit(&mut known.origins, sender.origin, &self.origins, total, usual, now)
        };
        if let (Some(a), Some(b)) = (by_key, by_origin) {
            for (entries, id) in [(&mut known.keys, key), (&mut known.origins, sender.origin)] {
                if let Some(entry) = find(entries, id, now) {
                    entry.held = 0;
                }
            }
            1 + a.max(b).min(MADE_UP)
        } else {
            for (entries, id) in [(&mut known.keys, key), (&mut known.origins, sender.origin)] {
                if let Some(entry) = find(entries, id, now) {
                    entry.held = entry.held.saturating_add(1);
                }
            }
            0
        }
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

fn find(entries: &mut [Entry; KEPT], id: u64, now: Moment) -> Option<&mut Entry> {
    entries.iter_mut().find(|e| e.id == id && e.at > Moment::ZERO && now.since(e.at) < ONCE_IN)
}

/// May a failure of this client count? Then how many that were held back count with it.
fn admit(
    entries: &mut [Entry; KEPT],
    id: u64,
    successes: &LastTwo,
    total: Total,
    usual: f64,
    now: Moment,
) -> Option<u32> {
    let Some(entry) = find(entries, id, now) else {
        // The longest ago makes room.
        let place = entries.iter_mut().min_by_key(|entry| entry.at)?;
        let at = now.max(Moment::from_nanos(1));
        let own = Total { requests: 1, failures: 1 };
        *place = Entry { id, at, last: at, then: total, own, held: 0 };
        return Some(0);
    };
    entry.last = now;
    let entry = *entry;
    let others = Total {
        requests: total.requests.wrapping_sub(entry.then.requests) - (entry.own.requests - 1),
        failures: total.failures.wrapping_sub(entry.then.failures) - (entry.own.failures - 1),
    };
    let alone = others.requests == 0 && !successes.other(id, total, now);
    let all_fail = others.requests == others.failures && entry.own.requests == entry.own.failures;
    let all_fail =
        all_fail && others.failures > 0 && others.failures + entry.own.failures >= IN_A_ROW;
    let also = entries.iter().filter(|e| e.id != id && e.last >= entry.at).count();
    let like_it = also >= 2 && like(entry.own, others, usual);
    (alone || all_fail || like_it).then_some(entry.held)
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
    fn one_client_that_always_fails_counts_once_a_minute() {
        let mut senders = Senders::default();
        let endings = (0..1_200).map(|i| if i % 8 == 0 { (of(0), true) } else { (of(i), false) });
        assert_eq!(counted(&mut senders, endings), 2);
    }

    #[test]
    fn two_and_three_of_them_count_once_a_minute_each() {
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
