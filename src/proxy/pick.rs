//! Which version a request belongs to, and which replica serves it.
use crate::balance::{Policy, spread};
use crate::fleet::Replica;
use crate::health::Standing;
use crate::stats::Moment;
use crate::table::{Member, Model, Tier, Version};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

thread_local! {
    /// One generator a thread: drawing takes no lock.
    static CHANCE: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(seed()));
}

fn seed() -> u64 {
    // The standard library's hasher is keyed by the operating system.
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::thread::current().id())
}

/// Uniform in [0, 1).
pub(super) fn chance() -> f64 {
    (draw() >> 11) as f64 / (1_u64 << 53) as f64
}

pub(super) fn draw() -> u64 {
    CHANCE.with_borrow_mut(rand::Rng::next_u64)
}

/// A request that cannot be repeated tries a replica out only after nobody else did for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a request brings to the choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Where it lies in the split: from its sticky key, or the next of the sequence.
    pub(super) point: u64,
    /// The hash of its sticky key.
    pub(super) key: Option<u64>,
    /// The version that it asked for.
    pub(super) pinned: Option<usize>,
    /// Those that failed it: asked again only when nobody else is usable.
    pub(super) tried: &'a [Arc<Replica>],
    /// It can be sent again when its replica fails: it may try out one on probation.
    pub(super) repeatable: bool,
    /// It is gRPC.
    pub(super) is_call: bool,
}

impl Wish<'_> {
    /// Of what is sent to a version that is given.
    const UNSPLIT: Self =
        Self { point: 0, key: None, pinned: None, tried: &[], repeatable: true, is_call: false };

    pub(super) fn new(model: &Model, key: Option<u64>, pinned: Option<usize>) -> Self {
        let point = key.unwrap_or_else(|| {
            spread::point(model.state.turn.fetch_add(1, Relaxed), model.state.offset)
        });
        Self { point, key, pinned, ..Self::UNSPLIT }
    }
}

/// Who serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) version: &'a Version,
    pub(super) member: &'a Member,
    /// Nothing was usable; this serves all the same.
    pub(super) fail_open: bool,
}

/// Chooses version and replica (CONTRACT.md §2.6). `Err` names the version that should have served.
pub(super) fn choose<'m>(
    model: &'m Model,
    wish: Wish<'_>,
    now: Moment,
) -> Result<Choice<'m>, &'m Version> {
    let owner = wish.pinned.unwrap_or_else(|| model.segments.version(wish.point));
    let owner = &model.versions[owner];
    let untried = |version, tier| pick_in(model, version, tier, wish, now);
    let anew = Wish { tried: &[], ..wish };
    let any =
        |version, tier| untried(version, tier).or_else(|| pick_in(model, version, tier, anew, now));
    let again = !wish.tried.is_empty();
    // By its load alone, a replica on probation might never be asked. A second attempt is no time for trials.
    let trial = |patience| (!again).then(|| try_out(owner, wish, patience, now)).flatten();
    let turn = || (!again).then(|| take_turn(model, owner, wish)).flatten();
    let patience = if wish.repeatable { Duration::ZERO } else { PATIENCE };
    let served = trial(patience).or_else(turn).or_else(|| untried(owner, Tier::Usable));
    // With nothing else usable, whatever comes tries it out.
    if let Some(choice) = served.or_else(|| trial(Duration::ZERO)) {
        return Ok(choice);
    }
    if !again {
        owner.state.missed.fetch_add(1, Relaxed);
    }
    let other = |able: &dyn Fn(&Version) -> bool| {
        let free = wish.pinned.is_none();
        let able = |i: usize| free && able(&model.versions[i]);
        model.segments.without(wish.point, able).map(|i| &model.versions[i])
    };
    let able = |v: &Version| v.any_within(v.reach(wish.is_call), wish.tried);
    let elsewhere = other(&able).and_then(|v| untried(v, Tier::Usable));
    let same = || any(owner, Tier::Usable).filter(|_| again);
    let unprobed = || any(owner, Tier::Unprobed);
    let open = || {
        let stands = |v: &Version| !v.drained() && v.share > 0.0;
        let version = if owner.drained() { other(&stands)? } else { owner };
        model.plan.fail_open.then(|| any(version, Tier::FailOpen))?
    };
    elsewhere.or_else(same).or_else(unprobed).or_else(open).ok_or(owner)
}

fn try_out<'a>(
    version: &'a Version,
    wish: Wish<'_>,
    patience: Duration,
    now: Moment,
) -> Option<Choice<'a>> {
    let member = version.probation(version.reach(wish.is_call), patience, now)?;
    Some(Choice { version, member, fail_open: false })
}

/// A replica whose turn it is. A request that a key binds to a replica is only sent to one that is aside: without that,
/// nobody would learn when it works again.
fn take_turn<'a>(model: &Model, version: &'a Version, wish: Wish<'_>) -> Option<Choice<'a>> {
    let bound = binds(model, wish);
    let fit = |replica: &Replica| !bound || replica.is_aside();
    let member = version.turn(version.reach(wish.is_call), fit)?;
    Some(Choice { version, member, fail_open: false })
}

/// Does a key choose the replica of this request?
fn binds(model: &Model, wish: Wish<'_>) -> bool {
    model.plan.balance == Policy::Hash && wish.key.is_some()
}

fn pick_in<'a>(
    model: &Model,
    version: &'a Version,
    tier: Tier,
    wish: Wish<'_>,
    now: Moment,
) -> Option<Choice<'a>> {
    let reach = version.reach(wish.is_call);
    let view = version.view(&model.plan, tier, wish.tried, now).within(reach);
    let turn = version.state.turn.fetch_add(1, Relaxed);
    let picked =
        CHANCE.with_borrow_mut(|rng| model.plan.balance.pick(&view, turn, wish.key, rng))?;
    let fail_open = tier == Tier::FailOpen;
    if fail_open {
        version.state.fail_open.fetch_add(1, Relaxed);
    }
    Some(Choice { version, member: &version.members[picked], fail_open })
}

/// A usable replica of this version that has room, for what nobody waits for.
pub(super) fn spare<'m>(
    model: &'m Model,
    version: &'m Version,
    key: Option<u64>,
    is_call: bool,
    now: Moment,
) -> Option<Choice<'m>> {
    let wish = Wish { key, is_call, ..Wish::UNSPLIT };
    let choice = pick_in(model, version, Tier::Usable, wish, now)?;
    let Member { replica, slots, .. } = choice.member;
    slots.is_none_or(|slots| replica.in_flight() < slots).then_some(choice)
}

/// "4 replicas: 2 ejected, 1 draining, 1 failing its health check".
pub(super) fn why_none(version: &Version, is_call: bool) -> String {
    let reach = version.reach(is_call);
    if is_call && !version.speaks_http2() {
        return "gRPC needs one that speaks HTTP/2: write its address as `h2c://HOST:PORT`"
            .to_owned();
    }
    let reached = || version.members.iter().filter(|member| reach.takes(&member.replica));
    let count = |standing| reached().filter(|m| m.replica.standing() == standing).count();
    let unhealthy = count(Standing::Unhealthy);
    let check =
        if unhealthy == 1 { "failing its health check" } else { "failing their health check" };
    let reasons = [
        (count(Standing::Ejected), "ejected"),
        (count(Standing::Probation), "on probation"),
        (count(Standing::Draining), "draining"),
        (unhealthy, check),
        (count(Standing::Starting), "not probed yet"),
    ];
    let reasons: Vec<String> =
        reasons.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let n = reached().count();
    let s = if n == 1 { "" } else { "s" };
    format!("{n} replica{s}: {}", reasons.join(", "))
}

#[cfg(test)]
mod tests;
