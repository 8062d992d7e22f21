//! How much of a shared space one client may hold: all of it while nobody else wants any, a quarter while others do.
//!
//! Whoever holds most gives way first. The space is never waited for, so a client that fills it cannot make others wait.

/// While others want space, nobody may grow beyond one part of so many.
const PARTS: u64 = 4;

/// One client wants to hold more; and how things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The whole space, in bytes.
    pub limit: u64,
    /// What all clients hold, with this claim.
    pub used: u64,
    /// What this client holds, with this claim.
    pub own: u64,
    /// Another client was refused lately, or had to give something up.
    pub contended: bool,
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// This client holds more than its part while others want space.
    Greedy,
    /// There is no room, unless another client gives something up.
    Full,
}

impl Claim {
    pub fn verdict(self) -> Verdict {
        if self.contended && self.is_large() {
            Verdict::Greedy
        } else if self.used > self.limit {
            Verdict::Full
        } else {
            Verdict::Granted
        }
    }

    /// Would this client hold more than its part?
    pub fn is_large(self) -> bool {
        self.own > self.limit / PARTS
    }

    /// Must a client that holds `held` give something up for this one?
    pub fn outranks(self, held: u64) -> bool {
        held > self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Claim = Claim { limit: 100, used: 100, own: 100, contended: false };

    #[test]
    fn one_client_may_hold_all_while_nobody_else_wants_any() {
        assert_eq!(CALM.verdict(), Verdict::Granted);
        assert_eq!(Claim { used: 101, ..CALM }.verdict(), Verdict::Full);
    }

    #[test]
    fn a_quarter_is_the_most_while_others_want_space() {
        let claim = |own| Claim { own, used: 60, contended: true, ..CALM }.verdict();
        assert_eq!(claim(25), Verdict::Granted);
        assert_eq!(claim(26), Verdict::Greedy);
    }

    #[test]
    fn only_those_who_hold_more_give_way() {
        let claim = Claim { own: 10, ..CALM };
        assert!(claim.outranks(11) && !claim.outranks(10));
    }
}
