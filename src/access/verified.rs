//! Tokens that were verified, so that a client that comes again with the same one is known at once.
//!
//! Good ones alone are kept: whoever tries tokens that are not good cannot push others out. There are so many at most, and
//! each takes the same memory however long it is.
use super::digest::Digest;
use std::collections::{HashMap, VecDeque};

/// Verified tokens, by their digests.
#[derive(Debug)]
pub struct Verified {
    most: usize,
    tokens: HashMap<Digest, Entry>,
    /// The earliest first.
    order: VecDeque<Digest>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: usize,
    /// Unix seconds.
    until: i64,
}

impl Verified {
    pub fn new(most: usize) -> Self {
        Self { most, tokens: HashMap::new(), order: VecDeque::new() }
    }

    /// The number of the key that this token names. `now` is in Unix seconds.
    pub fn get(&self, token: &Digest, now: i64) -> Option<usize> {
        self.tokens.get(token).filter(|entry| now < entry.until).map(|entry| entry.key)
    }

    /// Keeps a token that names this key and holds until then; where there is no room the earliest makes some.
    pub fn put(&mut self, token: Digest, key: usize, until: i64) {
        if self.tokens.insert(token, Entry { key, until }).is_some() {
            return;
        }
        self.order.push_back(token);
        if self.order.len() > self.most
            && let Some(earliest) = self.order.pop_front()
        {
            self.tokens.remove(&earliest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn a_token_is_known_until_it_ends() {
        let mut verified = Verified::new(2);
        verified.put(digest(1), 7, 100);
        assert_eq!(verified.get(&digest(1), 99), Some(7));
        assert_eq!(verified.get(&digest(1), 100), None);
        assert_eq!(verified.get(&digest(2), 0), None);
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for() {
        let mut verified = Verified::new(3);
        for n in 0..1000 {
            verified.put(digest(n), n, 100);
            verified.put(digest(n), n, 200);
        }
        assert_eq!((verified.tokens.len(), verified.order.len()), (3, 3));
        assert_eq!(
            (997..1000).map(|n| verified.get(&digest(n), 150)).collect::<Vec<_>>(),
            [Some(997), Some(998), Some(999)]
        );
        assert_eq!(verified.get(&digest(996), 0), None);
    }
}
