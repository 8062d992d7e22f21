//! Where requests of one kind would go: for each version that they may belong to, who serves it.
use crate::balance::Policy;
use crate::health::Standing;
use crate::stats::Moment;
use crate::table::{Candidate, Model, Prospect, Telling, Tier, Version, Way, Wish, why_none};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

/// What the table says of a request.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    model: &'a Model,
    wish: Wish<'a>,
    /// Its version is drawn anew for each such request.
    drawn: bool,
    roads: Vec<Road<'a>>,
}

/// Where requests go that belong to one version.
#[derive(Debug)]
struct Road<'a> {
    owner: &'a Version,
    /// `None`: nobody serves them.
    prospect: Option<Prospect<'a>>,
    /// Each serves some of them.
    serving: Vec<&'a Version>,
}

impl<'a> Outlook<'a> {
    /// `wish`: without its point, which follows from its key.
    pub(super) fn new(model: &'a Model, wish: Wish<'a>, now: Moment) -> Self {
        let of_point = |point| Wish { point, ..wish };
        let drawn = wish.key.is_none() && wish.pinned.is_none();
        let points: Vec<u64> = if drawn {
            let served = model.versions.iter().filter(|version| version.share > 0.0);
            served.filter_map(|version| model.segments.some_point(version.index)).collect()
        } else {
            vec![wish.key.unwrap_or_default()]
        };
        let roads = points.into_iter().map(|point| Road::new(model, of_point(point), drawn, now));
        let roads: Vec<_> = roads.collect();
        // With one version there is nothing to draw.
        Self { model, wish, drawn: drawn && roads.len() != 1, roads }
    }

    /// Every version that serves some of them, once.
    fn serving(&self) -> Vec<&'a Version> {
        let mut serving: Vec<_> =
            self.roads.iter().flat_map(|road| &road.serving).copied().collect();
        serving.sort_by_key(|version| version.index);
        serving.dedup_by_key(|version| version.index);
        serving
    }

    /// The version of all of them; `None`: it is drawn.
    pub(super) fn version(&self) -> Option<&'a Version> {
        let serving = self.serving();
        match (&serving[..], &self.roads[..]) {
            ([one], roads) if roads.iter().all(|road| road.prospect.is_some()) => Some(one),
            ([], [road]) => Some(road.owner),
            _ => None,
        }
    }

    /// Why it is this version, and why no other.
    pub(super) fn reason(&self) -> String {
        let mut reason = match (self.wish.pinned, self.wish.key) {
            (Some(_), _) => "`x-evener-version` asks for it",
            (None, Some(_)) => "the point of its key is in this version's part",
            (None, None) if self.drawn => {
                "drawn anew for each request, in proportion to the shares"
            }
            (None, None) => "it has everything",
        }
        .to_owned();
        let is_call = self.wish.is_call;
        if is_call && !self.model.versions.iter().any(Version::speaks_http2) {
            reason +=
                "; gRPC needs a replica that speaks HTTP/2: write its address as `h2c://HOST:PORT`";
        }
        let refused = |road: &Road<'_>| road.prospect.is_none();
        if self.roads.iter().all(refused) {
            let why = self.roads.first().map(|road| why_none(road.owner, is_call));
            let why = why.filter(|_| self.roads.len() == 1).map(|why| format!(" ({why})"));
            let why = why.unwrap_or_default();
            return reason + "; it is refused with 503 `no_replicas`" + &why;
        }
        for road in &self.roads {
            let subject = self.drawn.then(|| format!("of {}: ", road.owner.name));
            let subject = subject.unwrap_or_default();
            for words in road.words(is_call) {
                reason += "; ";
                reason += &subject;
                reason += &words;
            }
        }
        reason
    }

    /// The replicas of all versions that serve, or of the one that should.
    pub(super) fn candidates(&self, now: Moment) -> Vec<Candidate> {
        let is_call = self.wish.is_call;
        let of = |(version, tier): (&Version, Tier)| {
            let telling = Telling { tier, is_call, tried: &[], most: usize::MAX, picked: None };
            version.candidates(&self.model.plan, telling, now)
        };
        let mut shown: Vec<(&Version, Tier)> = Vec::new();
        for road in &self.roads {
            let tier =
                road.prospect.and_then(|prospect| prospect.way.tier()).unwrap_or(Tier::Usable);
            let none = road.serving.is_empty().then_some(road.owner);
            for version in road.serving.iter().copied().chain(none) {
                // Where some requests have a wider choice than others, that is shown.
                match shown.iter_mut().find(|(other, _)| other.index == version.index) {
                    Some((_, known)) => *known = tier.max(*known),
                    None => shown.push((version, tier)),
                }
            }
        }
        shown.sort_by_key(|(version, _)| version.index);
        shown.into_iter().flat_map(of).collect()
    }

    /// The replica that would be asked. Of policies that draw, none can be told; of equals, any.
    pub(super) fn picked(&self, now: Moment) -> Option<String> {
        let [Road { prospect: Some(prospect), serving, .. }] = &self.roads[..] else { return None };
        let [version] = serving[..] else { return None };
        if let Some(member) = prospect.member {
            return Some(member.replica.id.url.to_string());
        }
        let told = match self.model.plan.balance {
            Policy::LeastLoad | Policy::LeastRequest => true,
            Policy::Hash => self.wish.key.is_some(),
            Policy::P2c | Policy::RoundRobin | Policy::Random => false,
        };
        let tier = prospect.way.tier().filter(|_| told && prospect.turn.is_none())?;
        let view = version.view(&self.model.plan, tier, &[], now);
        let view = view.within(version.reach(self.wish.is_call));
        let mut rng = SmallRng::seed_from_u64(now.as_nanos());
        let picked = self.model.plan.balance.pick(&view, 0, self.wish.key, &mut rng)?;
        Some(version.members[picked].replica.id.url.to_string())
    }
}

impl<'a> Road<'a> {
    fn new(model: &'a Model, wish: Wish<'a>, drawn: bool, now: Moment) -> Self {
        let owner = model.owner(wish);
        let prospect = model.prospect(wish, now).ok();
        let serving = match prospect {
            Some(found) if drawn && found.version.index != owner.index => {
                model.others(wish, found.way).collect()
            }
            found => found.iter().map(|found| found.version).collect(),
        };
        Self { owner, prospect, serving }
    }

    /// What there is to say beside that the version serves what belongs to it.
    fn words(&self, is_call: bool) -> Vec<String> {
        let owner = &self.owner.name;
        let Some(prospect) = self.prospect else {
            let why = why_none(self.owner, is_call);
            return vec![format!("it is refused with 503 `no_replicas` ({why})")];
        };
        let url = |member: &crate::table::Member| format!("`{}`", member.replica.id.url);
        let asked = prospect.member.map(url).unwrap_or_default();
        let others = self.serving.iter().map(|version| version.name.to_string());
        let others = others.collect::<Vec<_>>().join(" or ");
        let serves = if self.serving.len() > 1 { "serve" } else { "serves" };
        let way = match prospect.way {
            Way::Usable | Way::Again | Way::Turn => None,
            Way::Trial => {
                Some(format!("{asked} is on probation, and the next request tries it out"))
            }
            Way::LastTrial => Some(format!(
                "{owner} has no usable replica, so the next request tries out {asked}, which is on probation"
            )),
            Way::Elsewhere => Some(format!("{owner} has no usable replica, so {others} {serves}")),
            Way::Unprobed => Some("neither it nor another has a usable replica, so it asks those that no health check has asked yet".to_owned()),
            Way::FailOpen => {
                let failing = self.serving.iter().flat_map(|version| version.reached(is_call));
                let failing = failing.filter(|m| m.replica.standing() != Standing::Draining);
                let failing = failing.map(url).collect::<Vec<_>>().join(", ");
                Some(format!(
                    "neither it nor another has a usable replica; as `fail_open` is on, it asks those that fail: {failing}"
                ))
            }
        };
        let turn = prospect.turn.map(|member| {
            format!("each fourth request goes to {}, which was not asked for long", url(member))
        });
        way.into_iter().chain(turn).collect()
    }
}
