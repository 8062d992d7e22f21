//! Whose failures the evidence is made of: it must stand without its loudest client and without its loudest key, and must
//! come of more than a few of them.
//!
//! A request that was drawn for itself fails before its client can know who was to answer it: whatever clients do, each
//! side has its part of such failures, and the bets on them need no protection. One of each client counts. The others do
//! not: a client who asks for what the candidate alone cannot do is one client.
use super::clients::Clients;
use super::evidence::Harm;
use serde::{Deserialize, Serialize};

/// Those whose part is followed; of more than that, the quietest gives way.
const FOLLOWED: usize = 64;
/// Those who are told apart when they are counted.
const COUNTED: usize = 100;
/// Of so many clients, and of so many keys, hits must be.
pub(super) const FEW: u64 = 3;

/// A hit of the candidate, by whom. `None`: of one who is not known, or a request that was drawn for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hit {
    pub(super) client: Option<u32>,
    pub(super) key: Option<u32>,
    /// Its client may have aimed it at the candidate: it chose its side by a key, or ended it when it knew who answers.
    pub(super) aimed: bool,
}

/// What those of one kind did: clients, or keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    /// What each added to the logarithm of the capital.
    gains: Vec<(u32, f64)>,
    /// What the first hit of each of those added, where it was not aimed: that one counts.
    #[serde(default)]
    firsts: Vec<f64>,
    /// Who had a hit, sorted; up to [`COUNTED`].
    known: Vec<u32>,
    /// How many hits each of those had.
    #[serde(default)]
    counts: Vec<u32>,
    more: bool,
    /// Hits of unknown ones: each is taken for one of its own.
    unknown: u64,
}

impl Tally {
    fn gain(&mut self, who: Option<u32>, gain: f64, aimed: bool) {
        let Some(who) = who else { return };
        self.firsts.resize(self.gains.len(), 0.0);
        let first = if aimed { 0.0 } else { gain };
        if let Some((_, sum)) = self.gains.iter_mut().find(|(known, _)| *known == who) {
            *sum += gain;
        } else if self.gains.len() < FOLLOWED {
            self.gains.push((who, gain));
            self.firsts.push(first);
        } else {
            let each = self.gains.iter_mut().zip(&mut self.firsts);
            let quietest = each.min_by(|(a, _), (b, _)| a.1.total_cmp(&b.1));
            if let Some((quietest, of_first)) = quietest.filter(|(one, _)| one.1 < gain) {
                *quietest = (who, gain);
                *of_first = first;
            }
        }
    }

    fn note(&mut self, who: Option<u32>) {
        self.counts.resize(self.known.len(), 0);
        match who.map(|who| (who, self.known.binary_search(&who))) {
            None => self.unknown += 1,
            Some((_, Ok(place))) => self.counts[place] = self.counts[place].saturating_add(1),
            Some((_, Err(_))) if self.known.len() >= COUNTED => self.more = true,
            Some((who, Err(place))) => {
                self.known.insert(place, who);
                self.counts.insert(place, 1);
            }
        }
    }

    fn count(&self) -> u64 {
        self.known.len() as u64 + self.unknown
    }

    /// The most hits that one of them had.
    fn most_hits(&self, counts: impl Fn(u32) -> bool) -> u64 {
        let counted = self.known.iter().zip(&self.counts).filter(|(who, _)| counts(**who));
        counted.map(|(_, hits)| u64::from(*hits)).max().unwrap_or(0)
    }

    /// The most that one of them added, but for a first hit that was not aimed.
    fn most(&self, counts: impl Fn(u32) -> bool) -> f64 {
        let firsts = self.firsts.iter().copied().chain(std::iter::repeat(0.0));
        let counted = self.gains.iter().zip(firsts).filter(|((who, _), _)| counts(*who));
        counted.map(|((_, gain), first)| gain - first).fold(0.0, f64::max)
    }
}

/// Clients and keys of one check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Loud {
    clients: Tally,
    keys: Tally,
}

/// Who had hits, for sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub count: u64,
    /// There are more of them than that.
    pub more: bool,
}

impl Loud {
    /// Takes note of a hit of the candidate, whether it is counted as evidence or not.
    pub(super) fn note(&mut self, hit: Hit) {
        self.clients.note(hit.client);
        self.keys.note(hit.key);
    }

    /// Each of these hits added so much.
    pub(super) fn gain(&mut self, hits: &[Hit], each: f64) {
        for hit in hits {
            self.clients.gain(hit.client, each, hit.aimed);
            self.keys.gain(hit.key, each, true);
        }
    }

    /// What the loudest of them added. Behind a proxy are many.
    fn most(&self, clients: &Clients) -> f64 {
        let of_client = self.clients.most(|who| !clients.is_proxy(who, self.is_sticky()));
        of_client.max(self.keys.most(|_| true))
    }

    /// The logarithm of what is left of the evidence that these hits made, without the loudest of them.
    pub(super) fn left_of(&self, harm: &Harm, clients: &Clients) -> f64 {
        (harm.log() - self.most(clients)).max(harm.log_reserve())
    }

    /// The most hits that one client had, or one key where a proxy is in front. What was forgiven counts.
    pub(super) fn most_hits(&self, clients: &Clients) -> u64 {
        let sticky = self.is_sticky();
        let of_client = self.clients.most_hits(|who| !clients.is_proxy(who, sticky));
        of_client.max(self.keys.most_hits(|_| true))
    }

    /// Are the hits of enough clients, and of enough keys?
    pub(super) fn is_spread(&self, clients: &Clients) -> bool {
        let sticky = self.is_sticky();
        let proxy = || self.clients.known.iter().any(|who| clients.is_proxy(*who, sticky));
        self.keys.count() >= FEW && (self.clients.count() >= FEW || proxy())
    }

    /// Of how many keys, or requests that were drawn for themselves.
    pub(super) fn units(&self) -> u64 {
        self.keys.count()
    }

    /// Do most hits belong to sticky keys, which their clients choose?
    fn is_sticky(&self) -> bool {
        self.keys.known.len() as u64 > self.keys.unknown
    }

    /// Has a sticky key had a hit?
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.known.is_empty()
    }

    /// Of how many clients the hits are: keys, where keys are drawn. `None`: nobody can tell.
    pub(super) fn whose(&self, clients: &Clients) -> Option<Whose> {
        if self.keys.unknown == 0 && !self.keys.known.is_empty() {
            return Some(Whose { count: self.keys.count(), more: self.keys.more });
        }
        let sticky = self.is_sticky();
        let proxy = self.clients.known.iter().any(|who| clients.is_proxy(*who, sticky));
        let known = self.clients.unknown == 0 && !self.clients.known.is_empty() && !proxy;
        known.then_some(Whose { count: self.clients.count(), more: self.clients.more })
    }

    /// What they added is forgiven.
    pub(super) fn forgive(&mut self) {
        for tally in [&mut self.clients, &mut self.keys] {
            tally.gains.clear();
            tally.firsts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_is_followed_however_many_others_there_are() {
        let mut loud = Loud::default();
        for n in 0..10_000_u32 {
            let client = if n % 10 == 0 { 7 } else { 1000 + n };
            let hit = Hit { client: Some(client), key: None, aimed: true };
            loud.note(hit);
            loud.gain(&[hit], 0.5);
        }
        assert!((loud.most(&Clients::default()) - 500.0).abs() < 1e-9);
        assert_eq!(loud.whose(&Clients::default()), Some(Whose { count: 100, more: true }));
        assert_eq!(loud.units(), 10_000);
    }

    #[test]
    fn of_a_client_one_hit_that_was_not_aimed_counts_and_no_other() {
        let most = |hits: &[(u32, bool)]| {
            let mut loud = Loud::default();
            for (client, aimed) in hits {
                loud.gain(&[Hit { client: Some(*client), key: None, aimed: *aimed }], 2.0);
            }
            loud.most(&Clients::default()).round() as u32
        };
        assert_eq!([most(&[(1, false), (2, false)]), most(&[(1, true), (2, false)])], [0, 2]);
        assert_eq!([most(&[(1, false); 5]), most(&[(1, true); 5])], [8, 10]);
        assert_eq!(most(&[(1, false), (1, true), (2, false)]), 2);
    }

    #[test]
    fn hits_of_two_keys_or_of_two_clients_are_not_enough() {
        let hits = |clients: u32, keys: u32| {
            let mut loud = Loud::default();
            for n in 0..30 {
                loud.note(Hit { client: Some(n % clients), key: Some(n % keys), aimed: true });
            }
            loud.is_spread(&Clients::default())
        };
        assert!(!hits(2, 30) && !hits(30, 2) && hits(3, 3));
    }
}
