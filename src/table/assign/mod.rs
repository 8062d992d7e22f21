//! Which version a request belongs to, and which replica serves it. One order of choice, for the proxy, which claims what it
//! finds, and for whoever only asks, who changes nothing.
use super::model::{Member, Model, Tier, Version};
use super::wish::Wish;
use crate::fleet::Replica;
use crate::stats::Moment;
use rand::Rng;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A request that cannot be repeated tries a replica out only after nobody else did for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a replica is found, in the order in which that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is on probation, and its one place is free.
    Trial,
    /// It was not asked for long: each fourth request may be sent there.
    Turn,
    /// It is usable, and of the version that the request belongs to.
    Usable,
    /// It is on probation, and nothing else of its version is usable.
    LastTrial,
    /// It is usable, and of another version.
    Elsewhere,
    /// It has failed this request before, and nothing else is usable.
    Again,
    /// It was never probed yet.
    Unprobed,
    /// It is not usable, and `fail_open` is on.
    FailOpen,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::Trial,
        Self::Turn,
        Self::Usable,
        Self::LastTrial,
        Self::Elsewhere,
        Self::Again,
        Self::Unprobed,
        Self::FailOpen,
    ];

    /// Which replicas the policy chooses among on this way; `None`: the policy is not asked.
    pub fn tier(self) -> Option<Tier> {
        match self {
            Self::Trial | Self::Turn | Self::LastTrial => None,
            Self::Usable | Self::Elsewhere | Self::Again => Some(Tier::Usable),
            Self::Unprobed => Some(Tier::Unprobed),
            Self::FailOpen => Some(Tier::FailOpen),
        }
    }

    /// Had the version that the request belongs to nothing usable?
    fn is_miss(self) -> bool {
        match self {
            Self::Trial | Self::Turn | Self::Usable | Self::LastTrial => false,
            Self::Elsewhere | Self::Again | Self::Unprobed | Self::FailOpen => true,
        }
    }

    /// May failed replicas be asked again, if there are no others?
    fn asks_again(self) -> bool {
        matches!(self, Self::Again | Self::Unprobed | Self::FailOpen)
    }
}

/// Who serves.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub version: &'a Version,
    pub member: &'a Member,
    /// Nothing was usable; this serves all the same.
    pub fail_open: bool,
}

/// Who would serve now.
#[derive(Clone, Copy, Debug)]
pub struct Prospect<'a> {
    pub version: &'a Version,
    pub way: Way,
    /// The one replica that is asked; `None`: the policy chooses, among those of [`Way::tier`].
    pub member: Option<&'a Member>,
    /// A replica that each fourth request is sent to instead.
    pub turn: Option<&'a Member>,
}

impl Model {
    /// The version that a request belongs to.
    pub fn owner(&self, wish: Wish<'_>) -> &Version {
        &self.versions[wish.pinned.unwrap_or_else(|| self.segments.version(wish.point))]
    }

    /// Chooses version and replica, and claims what only one request may have. `Err` names the version that should have
    /// served.
    pub fn choose<'m>(
        &'m self,
        wish: Wish<'_>,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Result<Choice<'m>, &'m Version> {
        let owner = self.owner(wish);
        let found = self.first(wish, |way, version| {
            let member = match way {
                Way::Trial | Way::LastTrial => claim_trial(version, wish, way, now),
                Way::Turn => self.take_turn(version, wish),
                Way::Usable | Way::Elsewhere | Way::Again | Way::Unprobed | Way::FailOpen => {
                    self.pick(version, way, wish, now, rng)
                }
            };
            member.map(|member| (way, version, member))
        });
        let missed = found.as_ref().is_none_or(|(way, ..)| way.is_miss());
        if missed && wish.tried.is_empty() {
            owner.state.missed.fetch_add(1, Relaxed);
        }
        let (way, version, member) = found.ok_or(owner)?;
        let fail_open = way == Way::FailOpen;
        if fail_open {
            version.state.fail_open.fetch_add(1, Relaxed);
        }
        Ok(Choice { version, member, fail_open })
    }

    /// Who would serve, without claiming or counting anything. `Err`: nobody, and which version should.
    pub fn prospect<'m>(
        &'m self,
        wish: Wish<'_>,
        now: Moment,
    ) -> Result<Prospect<'m>, &'m Version> {
        let mut turn = None;
        let found = self.first(wish, |way, version| {
            let member = match way {
                Way::Trial | Way::LastTrial => {
                    Some(in_line_for_trial(version, wish, way, now).next()?)
                }
                Way::Turn => {
                    turn = self.in_line_for_turn(version, wish).next();
                    return None;
                }
                Way::Usable | Way::Elsewhere | Way::Again | Way::Unprobed | Way::FailOpen => {
                    let tier = way.tier()?;
                    let tried = if way.asks_again() { &[] } else { wish.tried };
                    let view = version.view(&self.plan, tier, tried, now);
                    view.within(version.reach(wish.is_call)).any().then_some(None)?
                }
            };
            Some((way, version, member))
        });
        let (way, version, member) = found.ok_or_else(|| self.owner(wish))?;
        Ok(Prospect { version, way, member, turn })
    }

    /// Goes through all ways that are open to a request, with the version that each leads to, until `take` finds somebody.
    fn first<'m, T>(
        &'m self,
        wish: Wish<'_>,
        mut take: impl FnMut(Way, &'m Version) -> Option<T>,
    ) -> Option<T> {
        let owner = self.owner(wish);
        let again = !wish.tried.is_empty();
        Way::ALL.into_iter().find_map(|way| {
            let version = match way {
                // By its load alone, a replica on probation might never be asked. A second attempt is no time for trials.
                Way::Trial | Way::Turn | Way::LastTrial => (!again).then_some(owner),
                Way::Elsewhere => self.other(wish, way),
                Way::Again => again.then_some(owner),
                Way::FailOpen if !self.plan.fail_open => None,
                Way::FailOpen if owner.drained() => self.other(wish, way),
                Way::Usable | Way::Unprobed | Way::FailOpen => Some(owner),
            };
            take(way, version?)
        })
    }

    /// The version that serves instead of the owner, of all that can.
    fn other(&self, wish: Wish<'_>, way: Way) -> Option<&Version> {
        let able = |i: usize| stands_in(&self.versions[i], wish, way);
        self.segments.without(wish.point, able).map(|i| &self.versions[i])
    }

    /// All versions that may serve instead of the owner, each some of its requests.
    pub fn others(&self, wish: Wish<'_>, way: Way) -> impl Iterator<Item = &Version> {
        let able = move |version: &&Version| stands_in(version, wish, way);
        self.versions.iter().filter(|version| version.share > 0.0).filter(able)
    }

    fn pick<'m>(
        &self,
        version: &'m Version,
        way: Way,
        wish: Wish<'_>,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<&'m Member> {
        let (tier, reach) = (way.tier()?, version.reach(wish.is_call));
        let turn = version.state.turn.fetch_add(1, Relaxed);
        let mut among = |tried| {
            let view = version.view(&self.plan, tier, tried, now).within(reach);
            self.plan.balance.pick(&view, turn, wish.key, rng)
        };
        let mut picked = among(wish.tried);
        if picked.is_none() && way.asks_again() {
            picked = among(&[]);
        }
        picked.map(|i| &version.members[i])
    }

    /// A usable replica of this version that has room, for what nobody waits for.
    pub fn spare<'m>(
        &self,
        version: &'m Version,
        wish: Wish<'_>,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Choice<'m>> {
        let member = self.pick(version, Way::Usable, wish, now, rng)?;
        member.has_room().then_some(Choice { version, member, fail_open: false })
    }

    /// Those whose turn it is. A request that a key binds to a replica is only sent to one that is aside: without that,
    /// nobody would learn when it works again.
    fn in_line_for_turn<'m>(
        &self,
        version: &'m Version,
        wish: Wish<'_>,
    ) -> impl Iterator<Item = &'m Member> {
        let bound = wish.is_bound(self);
        let fit = move |replica: &Replica| !bound || replica.is_aside();
        let some = version.state.has_turns().then(|| version.reached(wish.is_call));
        let some = some.into_iter().flatten();
        some.filter(move |m| fit(&m.replica) && m.has_room() && m.replica.has_turn())
    }

    fn take_turn<'m>(&self, version: &'m Version, wish: Wish<'_>) -> Option<&'m Member> {
        if !version.state.draws_turn() {
            return None;
        }
        let member = self.in_line_for_turn(version, wish).find(|m| m.replica.take_turn())?;
        version.state.turn_taken();
        Some(member)
    }
}

/// Can this version serve what belongs to another one?
fn stands_in(version: &Version, wish: Wish<'_>, way: Way) -> bool {
    if wish.pinned.is_some() {
        return false;
    }
    match way {
        Way::Elsewhere => version.any_within(version.reach(wish.is_call), wish.tried),
        Way::FailOpen => !version.drained() && version.share > 0.0,
        Way::Trial | Way::Turn | Way::Usable | Way::LastTrial | Way::Again | Way::Unprobed => false,
    }
}

/// Those on probation whose one place is free.
fn in_line_for_trial<'m>(
    version: &'m Version,
    wish: Wish<'_>,
    way: Way,
    now: Moment,
) -> impl Iterator<Item = &'m Member> {
    let patience = patience(wish, way);
    let some = version.state.on_probation().then(|| version.reached(wish.is_call));
    some.into_iter().flatten().filter(move |m| m.replica.awaits_trial(patience, now))
}

fn claim_trial<'m>(
    version: &'m Version,
    wish: Wish<'_>,
    way: Way,
    now: Moment,
) -> Option<&'m Member> {
    let patience = patience(wish, way);
    in_line_for_trial(version, wish, way, now).find(|m| m.replica.try_trial(patience, now))
}

/// How long the place of a replica on probation must have been free for this request.
fn patience(wish: Wish<'_>, way: Way) -> Duration {
    let waits = way == Way::Trial && !wish.repeatable;
    if waits { PATIENCE } else { Duration::ZERO }
}

#[cfg(test)]
mod tests;
