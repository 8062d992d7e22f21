//! A model in the table: its versions, their replicas, and the division among them.
use super::plan::{ModelPlan, VersionPlan};
use super::set_split::SetSplit;
use crate::balance::{Pool, Segments, ramp, score, silent};
use crate::dialect::OutputWish;
use crate::fleet::{ModelState, Replica, VersionState};
use crate::health::Stage;
use crate::stats::Moment;
use std::sync::Arc;
use std::time::Duration;

/// One model of this generation.
#[derive(Debug)]
pub struct Model {
    pub name: Arc<str>,
    pub plan: Arc<ModelPlan>,
    pub state: Arc<ModelState>,
    /// In the file's order.
    pub versions: Box<[Version]>,
    pub segments: Segments,
    /// The split that an operator set instead of the file's.
    pub set: Option<Arc<SetSplit>>,
    /// What its canary looks for in answers, if it looks into them.
    pub output: Option<Arc<OutputWish>>,
    /// The least weight of its replicas: how much any of them may carry is told in multiples of it.
    pub lightest: f32,
    /// What each version had served when the present shares began.
    pub baseline: Box<[u64]>,
}

/// One version of a model.
#[derive(Clone, Debug)]
pub struct Version {
    pub name: Arc<str>,
    /// Its place in the plan's list, and in the model's.
    pub index: usize,
    pub state: Arc<VersionState>,
    /// Fraction of the model's requests; zero means exactly none.
    pub share: f64,
    pub members: Box<[Member]>,
    /// Some speak nothing but HTTP/2, and some do not: both ports of the same servers, of which one is for gRPC.
    pub mixed: bool,
}

/// A replica with what this generation says of it.
#[derive(Clone, Debug)]
pub struct Member {
    pub replica: Arc<Replica>,
    pub weight: f32,
    pub slots: Option<u32>,
}

/// Which replicas a request can be sent to, by what they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    /// What gRPC needs: HTTP/2.
    Calls,
    /// Where some speak nothing but HTTP/2: the others.
    Others,
}

impl Reach {
    pub fn takes(self, replica: &Replica) -> bool {
        match self {
            Self::All => true,
            Self::Others => !replica.upstream.only_http2(),
            Self::Calls => replica.upstream.takes_calls(),
        }
    }
}

/// Which replicas may be picked. Each takes in those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Those in good standing.
    Usable,
    /// Also those never probed yet.
    Unprobed,
    /// All that are not draining.
    FailOpen,
}

/// A version's replicas at one moment, as a policy sees them.
#[derive(Debug)]
pub struct PoolView<'a> {
    members: &'a [Member],
    tier: Tier,
    reach: Reach,
    /// Those that are aside are left out, because there are others.
    without_aside: bool,
    slow_start: Duration,
    phantom_time: Duration,
    learned: bool,
    /// The median time to the first byte; while that is unknown, the typical time to the last.
    usual: Option<Duration>,
    /// Not to be asked again.
    tried: &'a [Arc<Replica>],
    now: Moment,
}

impl Member {
    /// Has it a free slot, or no limit of slots?
    pub fn has_room(&self) -> bool {
        self.slots.is_none_or(|slots| self.replica.in_flight() < slots)
    }
}

impl Model {
    /// What the file says of a version.
    pub fn plan_of(&self, version: &Version) -> &VersionPlan {
        &self.plan.versions[version.index]
    }
}

impl Version {
    /// Tells picks whether anybody is on probation.
    pub fn count_probation(&self) {
        let on_probation = |stage| matches!(stage, Stage::Probation { .. });
        let members = self.members.iter();
        self.state.set_on_probation(members.filter(|m| on_probation(m.replica.stage())).count());
    }

    /// Its replicas but those in `tried`.
    pub fn view<'a>(
        &'a self,
        model: &ModelPlan,
        tier: Tier,
        tried: &'a [Arc<Replica>],
        now: Moment,
    ) -> PoolView<'a> {
        let speed = self.state.speed();
        PoolView {
            members: &self.members,
            tier,
            reach: Reach::All,
            without_aside: tier == Tier::Usable && any_in_line(&self.members, Reach::All, tried),
            slow_start: model.slow_start,
            phantom_time: speed.phantom_time(),
            learned: model.balance != crate::balance::Policy::LeastRequest,
            usual: self.state.pace.usual_first_byte().or_else(|| speed.typical()),
            tried,
            now,
        }
    }

    /// Requests now at its replicas.
    pub fn in_flight(&self) -> u32 {
        self.members.iter().map(|member| member.replica.in_flight()).sum()
    }

    /// Which of its replicas a request can be sent to, or a call of gRPC.
    pub fn reach(&self, is_call: bool) -> Reach {
        match (is_call, self.mixed) {
            (true, _) => Reach::Calls,
            (false, true) => Reach::Others,
            (false, false) => Reach::All,
        }
    }

    /// Is there a replica that gRPC can be sent to, whatever its state?
    pub fn speaks_http2(&self) -> bool {
        self.members.iter().any(|member| Reach::Calls.takes(&member.replica))
    }

    /// Is one within reach usable that is not in `tried`?
    pub fn any_within(&self, reach: Reach, tried: &[Arc<Replica>]) -> bool {
        let untried = |member: &&Member| !tried.iter().any(|t| Arc::ptr_eq(t, &member.replica));
        let reached = |member: &&Member| reach.takes(&member.replica);
        self.members.iter().filter(untried).filter(reached).any(|member| member.replica.usable())
    }

    /// Is one usable that is not in `tried`?
    pub fn any_usable(&self, tried: &[Arc<Replica>]) -> bool {
        self.any_within(Reach::All, tried)
    }

    /// Those that a request can be sent to, whatever their state.
    pub fn reached(&self, is_call: bool) -> impl Iterator<Item = &Member> {
        let reach = self.reach(is_call);
        self.members.iter().filter(move |member| reach.takes(&member.replica))
    }

    /// Draining by hand, all of it?
    pub fn drained(&self) -> bool {
        !self.members.is_empty()
            && self
                .members
                .iter()
                .all(|m| m.replica.standing() == crate::health::Standing::Draining)
    }
}

/// Is one within reach usable that is not in `tried`, nor aside?
fn any_in_line(members: &[Member], reach: Reach, tried: &[Arc<Replica>]) -> bool {
    let untried = |replica: &Arc<Replica>| !tried.iter().any(|t| Arc::ptr_eq(t, replica));
    let in_line = |replica: &Arc<Replica>| replica.usable() && !replica.is_aside();
    // Nearly always the first.
    let mut replicas = members.iter().map(|member| &member.replica);
    replicas.any(|replica| in_line(replica) && reach.takes(replica) && untried(replica))
}

impl PoolView<'_> {
    /// Only those that speak so.
    #[must_use]
    pub fn within(self, reach: Reach) -> Self {
        let others = || any_in_line(self.members, reach, self.tried);
        let without_aside = self.without_aside && (reach == self.reach || others());
        Self { reach, without_aside, ..self }
    }

    /// Is there one that may be picked?
    pub fn any(&self) -> bool {
        (0..self.len()).any(|i| self.usable(i))
    }
}

impl Pool for PoolView<'_> {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn usable(&self, i: usize) -> bool {
        use crate::health::Standing;
        let replica = &self.members[i].replica;
        // Nearly always empty.
        if self.tried.iter().any(|tried| Arc::ptr_eq(tried, replica)) || !self.reach.takes(replica)
        {
            return false;
        }
        match self.tier {
            Tier::Usable => replica.usable() && !(self.without_aside && replica.is_aside()),
            Tier::Unprobed => replica.usable() || replica.standing() == Standing::Starting,
            Tier::FailOpen => replica.standing() != Standing::Draining,
        }
    }

    fn has_room(&self, i: usize) -> bool {
        self.members[i].has_room()
    }

    fn load(&self, i: usize) -> f32 {
        let Member { replica, weight, .. } = &self.members[i];
        let in_flight = replica.in_flight();
        let slow = if self.learned { replica.slowness().at(in_flight) } else { 1.0 };
        let slow = slow * silent(replica.silence(self.now), self.usual);
        let started = replica.ready_at();
        let ramped = started.map_or(1.0, |at| ramp(self.now.since(at), self.slow_start));
        let phantom = replica.phantom(self.now, self.phantom_time);
        score(in_flight, phantom, slow, *weight, ramped)
    }

    fn weight(&self, i: usize) -> f32 {
        self.members[i].weight
    }

    fn identity(&self, i: usize) -> u64 {
        self.members[i].replica.identity
    }
}
