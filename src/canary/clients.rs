//! Who the clients are, by API key or address. They are not drawn: a client chooses its sticky keys, and may choose them
//! so that all lie on one side. So none may have much more of one side than it has of the other.
use super::observation::Arm;

/// Sets of the table, and entries of each.
const SETS: usize = 128;
const WAYS: usize = 4;
/// The memory, as a time constant in seconds.
const FADES: f64 = 600.0;
/// An address with more than this part of all requests is a proxy with many clients behind it, or all there is.
const PROXY: f64 = 0.2;
/// An API key with more than this part is of nearly all there is.
const MOST_OF_ALL: f64 = 0.4;
/// The bit of a client's number, and of its tag, that tells addresses from API keys.
const ADDRESS: u64 = 1 << 33;
const ADDRESS_TAG: u32 = 1 << 1;
/// From so many requests on that can be told.
const ENOUGH: f64 = 50.0;
/// How many times its part of the other side a client may have of one, and what each has beside that.
const TIMES: f64 = 2.0;
const FREE: f64 = 12.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Client {
    /// 0: nobody.
    tag: u32,
    /// When the rest faded last, in seconds.
    faded: f64,
    requests: f64,
    /// Readings of sticky keys that were counted, of the candidate and of the stable side.
    counted: [f64; 2],
    /// How many it should have there for what it has on the other side.
    due: [f64; 2],
}

/// A table of bounded size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Clients {
    table: Vec<Client>,
    /// All requests, faded at.
    total: f64,
    faded: f64,
}

/// The number of a client that is known by its address, out of a hash of that.
pub const fn client_of_address(hash: u64) -> u64 {
    hash | ADDRESS
}

/// The number of a client that is known by its API key, out of a hash of that.
pub const fn client_of_key(hash: u64) -> u64 {
    hash & !ADDRESS
}

pub(super) fn tag(client: u64) -> u32 {
    (client >> 32) as u32 | 1
}

impl Client {
    fn fade(&mut self, age: f64) {
        let keeps = (-(age - self.faded) / FADES).exp();
        self.requests *= keeps;
        self.counted = self.counted.map(|n| n * keeps);
        self.due = self.due.map(|n| n * keeps);
        self.faded = age;
    }
}

impl Clients {
    fn set_of(tag: u32) -> std::ops::Range<usize> {
        let set = (tag as usize >> 1) % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    fn get(&self, tag: u32) -> Option<&Client> {
        self.table.get(Self::set_of(tag))?.iter().find(|client| client.tag == tag)
    }

    /// Counts a request of a client. `age`: seconds.
    pub(super) fn note(&mut self, client: u64, age: f64) {
        if self.table.is_empty() {
            self.table = vec![Client::default(); SETS * WAYS];
        }
        if age - self.faded > FADES / 60.0 {
            self.total *= (-(age - self.faded) / FADES).exp();
            self.faded = age;
        }
        self.total += 1.0;
        let tag = tag(client);
        let set = &mut self.table[Self::set_of(tag)];
        let least = |a: &&mut Client, b: &&mut Client| a.requests.total_cmp(&b.requests);
        let place = if let Some(known) = set.iter().position(|client| client.tag == tag) {
            &mut set[known]
        } else {
            let place = set.iter_mut().min_by(least).expect("a set has ways");
            *place = Client { tag, faded: age, ..Client::default() };
            place
        };
        place.fade(age);
        place.requests += 1.0;
    }

    /// Does so much come from it that it must be many? `sticky`: it chooses its keys, and thereby its side.
    pub(super) fn is_proxy(&self, tag: u32, sticky: bool) -> bool {
        let requests = self.get(tag).map_or(0.0, |client| client.requests);
        let part = if sticky && tag & ADDRESS_TAG == 0 { MOST_OF_ALL } else { PROXY };
        self.total >= ENOUGH && requests > part * self.total
    }

    /// Is there one of those?
    pub(super) fn has_proxy(&self) -> bool {
        self.table.iter().any(|client| client.tag != 0 && self.is_proxy(client.tag, true))
    }

    /// Is a reading of one of its sticky keys counted on this side? `share`: of the candidate.
    pub(super) fn admits(&mut self, client: u64, arm: Arm, share: f64) -> bool {
        let tag = tag(client);
        let proxy = self.is_proxy(tag, true);
        let Some(set) = self.table.get_mut(Self::set_of(tag)) else { return true };
        let Some(known) = set.iter_mut().find(|client| client.tag == tag) else { return true };
        let share = share.clamp(1e-3, 0.999);
        let odds = share / (1.0 - share);
        let (side, other, odds) = match arm {
            Arm::Candidate => (0, 1, odds),
            Arm::Stable => (1, 0, 1.0 / odds),
        };
        let most = FREE * odds.max(1.0) + TIMES * known.due[side];
        let admitted = proxy || known.counted[side] < most;
        if admitted {
            known.counted[side] += 1.0;
            known.due[other] += 1.0 / odds;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: u64 = client_of_address(6 << 33);
    const MALLORY: u64 = client_of_address(8 << 33);

    /// Readings of a client that are counted on each side, of so many that it sends there among 50 others a second.
    fn counted(candidate: u32, stable: u32, share: f64) -> [u32; 2] {
        let mut clients = Clients::default();
        let mut counted = [0; 2];
        for second in 0..60_u32 {
            let age = f64::from(second);
            for other in 0..50_u64 {
                clients.note((1000 + other) << 33, age);
            }
            let mut ask = |arm, n: u32, side: usize| {
                for _ in 0..(n * (second + 1) / 60 - n * second / 60) {
                    clients.note(MALLORY, age);
                    counted[side] += u32::from(clients.admits(MALLORY, arm, share));
                }
            };
            ask(Arm::Candidate, candidate, 0);
            ask(Arm::Stable, stable, 1);
        }
        counted
    }

    #[test]
    fn whoever_sends_to_one_side_alone_has_little_of_it() {
        let [candidate, _] = counted(150, 0, 0.01);
        assert!(candidate <= 15, "{candidate}");
        let [candidate, _] = counted(150, 0, 0.5);
        assert!(candidate <= 15, "{candidate}");
        let [_, stable] = counted(0, 150, 0.5);
        assert!(stable <= 15, "{stable}");
    }

    #[test]
    fn whoever_is_spread_as_the_split_is_has_all() {
        assert_eq!(counted(3, 297, 0.01), [3, 297]);
        assert_eq!(counted(150, 150, 0.5), [150, 150]);
        assert_eq!(counted(75, 225, 0.25), [75, 225]);
    }

    #[test]
    fn an_address_with_a_fifth_of_all_is_a_proxy() {
        let mut clients = Clients::default();
        for n in 0..1000_u64 {
            clients.note(if n % 3 == 0 { ANA } else { (100 + n) << 33 }, n as f64 / 50.0);
        }
        assert!(clients.is_proxy(tag(ANA), true) && !clients.is_proxy(tag(MALLORY), true));
        assert!((0..500).all(|_| clients.admits(ANA, Arm::Candidate, 0.01)));
        assert!(!Clients::default().is_proxy(tag(ANA), true), "of few requests nothing is told");
    }

    #[test]
    fn an_api_key_with_a_third_of_all_is_one_client_that_chooses_its_keys() {
        let key = client_of_key(u64::MAX);
        let mut clients = Clients::default();
        for n in 0..1000_u64 {
            clients.note(if n % 3 == 0 { key } else { (100 + n) << 34 }, n as f64 / 50.0);
        }
        assert!(!clients.is_proxy(tag(key), true) && clients.is_proxy(tag(key), false));
        let admitted = (0..500).filter(|_| clients.admits(key, Arm::Candidate, 0.01)).count();
        assert!(admitted < 20, "{admitted}");
    }
}
