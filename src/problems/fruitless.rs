//! Models whose requests all end in client errors, redirects, or clients that leave: no failure of anybody, and no service.
//!
//! One client can do that alone, so it is critical only where several clients see it, or where what is wrong is Evener's
//! own. Of a version or replica it is told where its peers do well: so well that chance alone would show the like once in
//! a hundred million runs.
use super::facts::{AnswerFacts, Facts, ModelFacts, Replies, VersionFacts};
use super::found::{Code, Found, Severity};
use crate::health::Reply;
use crate::stats::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Requests in a row that are needed of a model, and of a part of one whose peers do well.
const OF_MODEL: u64 = 20;
const OF_PART: u64 = 10;
/// The chance at which a part is told.
const CHANCE: f64 = 1e-8;
/// More requests of a run need not be looked at.
const ENOUGH: u64 = 1000;
/// So many clients are no single client's doing.
const SEVERAL: u32 = 3;
/// A run whose last request is older says nothing of now.
const OLD: Duration = Duration::from_hours(1);

/// Model, version, and the replica's URL.
type Name = (Arc<str>, Option<Arc<str>>, Option<Arc<str>>);

/// Requests since the last good answer.
#[derive(Debug, Default)]
struct Run {
    before: Replies,
    peers_before: Replies,
    replies: Replies,
    /// The counts of its peers when the run began.
    peers: Replies,
    last: Moment,
}

impl Run {
    fn look(&mut self, now_is: &Replies, peers: &Replies, now: Moment) {
        let new = now_is.since(&self.before);
        if self.replies.fruitless() == 0 {
            self.peers = self.peers_before;
        }
        (self.before, self.peers_before) = (*now_is, *peers);
        if new.fruitless() > 0 {
            self.last = now;
        }
        // In which order they came is not known.
        if new.of(Reply::Good) > 0 || now.since(self.last) > OLD {
            self.replies = Replies::default();
        } else {
            self.replies.add(&new);
        }
    }

    /// Would what its peers gave hardly ever give such a run? By the rule of succession: of `good` and `bad` replies, the next
    /// one is bad with a chance of `(bad + 1) / (good + bad + 2)`, and so on.
    fn is_no_chance(&self) -> bool {
        let peers = self.peers_before.since(&self.peers);
        let (good, mut bad) = (peers.of(Reply::Good) as f64, peers.fruitless() as f64);
        let mut chance = 1.0;
        for _ in 0..self.replies.fruitless().min(ENOUGH) {
            chance *= (bad + 1.0) / (good + bad + 2.0);
            bad += 1.0;
        }
        good > 0.0 && chance <= CHANCE
    }
}

/// The runs of all that gets requests.
#[derive(Debug, Default)]
pub(super) struct Fruitless {
    runs: BTreeMap<Name, Run>,
    kept: BTreeMap<Name, Run>,
}

impl Fruitless {
    pub(super) fn look(&mut self, facts: &Facts, found: &mut Vec<Found>) {
        for model in &facts.models {
            self.model(model, facts.now, found);
        }
        self.runs = std::mem::take(&mut self.kept);
    }

    fn run(&mut self, name: Name, replies: &Replies, peers: &Replies, now: Moment) -> &Run {
        let mut run = self.runs.remove(&name).unwrap_or_default();
        run.look(replies, peers, now);
        self.kept.entry(name).or_insert(run)
    }

    fn model(&mut self, model: &ModelFacts, now: Moment, found: &mut Vec<Found>) {
        let of_versions = model.versions.iter().map(|version| version.replies);
        let all = of_versions.fold(Replies::default(), |all, one| all.plus(&one));
        let name = (Arc::clone(&model.name), None, None);
        let run = self.run(name, &all, &Replies::default(), now).replies;
        let is_whole = run.fruitless() >= OF_MODEL;
        // That says why.
        let explained = found.iter().any(|each| {
            each.code == Code::WrongModelName && each.model.as_ref() == Some(&model.name)
        });
        if is_whole && !explained {
            found.push(tell_model(model, &run));
        }
        for version in &model.versions {
            let peers = all.since(&version.replies);
            let name = (Arc::clone(&model.name), Some(Arc::clone(&version.name)), None);
            let run = self.run(name, &version.replies, &peers, now);
            let stands_out = is_part(model, run);
            let run = run.replies;
            if stands_out && !is_whole && !explained {
                found.push(tell_version(model, version, &run));
            }
            let told = is_whole || explained || stands_out;
            self.replicas(model, version, now, told, found);
        }
    }

    fn replicas(
        &mut self,
        model: &ModelFacts,
        version: &VersionFacts,
        now: Moment,
        told: bool,
        found: &mut Vec<Found>,
    ) {
        let all =
            version.answers.iter().fold(Replies::default(), |all, one| all.plus(&one.replies));
        for answers in &version.answers {
            let peers = all.since(&answers.replies);
            let (version_name, url) = (Arc::clone(&version.name), Arc::clone(&answers.url));
            let name = (Arc::clone(&model.name), Some(version_name), Some(url));
            let run = self.run(name, &answers.replies, &peers, now);
            if !told && is_part(model, run) {
                found.push(tell_replica(model, version, answers, &run.replies));
            }
        }
    }
}

/// A sticky client meets one version and one replica alone: its mistakes are not theirs.
fn is_part(model: &ModelFacts, run: &Run) -> bool {
    run.replies.fruitless() >= OF_PART
        && (!model.sticky || run.replies.clients() >= SEVERAL)
        && run.is_no_chance()
}

fn tell_model(model: &ModelFacts, run: &Replies) -> Found {
    let name = &model.name;
    let reply = run.commonest();
    let credentials = model.versions.iter().any(|version| version.sets_credentials);
    let denied = matches!(reply, Reply::Unauthorized | Reply::Forbidden);
    // Whoever scans the net without a key is denied, by right; whoever comes with Evener's is not.
    let is_critical = if denied { credentials } else { run.clients() >= SEVERAL };
    let severity = if is_critical { Severity::Critical } else { Severity::Warning };
    let clients = match run.clients() {
        0 | 1 => ", all from one client",
        2 => ", from two clients",
        _ => "",
    };
    let sentence =
        format!("{}{clients}", all_of(run, &format!("requests for {name}"), " by its replicas"));
    found(model, severity, name.to_string(), sentence, remedy(model, reply, credentials))
}

fn tell_version(model: &ModelFacts, version: &VersionFacts, run: &Replies) -> Found {
    let subject = format!("{}/{}", model.name, version.name);
    let whose = format!("requests for {subject}");
    let sentence =
        format!("{}, while other versions do well", all_of(run, &whose, " by its replicas"));
    let what = remedy(model, run.commonest(), version.sets_credentials);
    found(model, Severity::Warning, subject, sentence, what)
}

fn tell_replica(
    model: &ModelFacts,
    version: &VersionFacts,
    answers: &AnswerFacts,
    run: &Replies,
) -> Found {
    let subject = format!("{}/{}/{}", model.name, version.name, answers.url);
    let whose = format!("requests at {} of {}/{}", answers.url, model.name, version.name);
    let sentence = format!("{}, while its peers do well", all_of(run, &whose, ""));
    let what = format!(
        "see what is different at it, or take it out: `evener drain {}/{}/{}`",
        model.name, version.name, answers.url
    );
    found(model, Severity::Warning, subject, sentence, what)
}

fn found(
    model: &ModelFacts,
    severity: Severity,
    subject: String,
    sentence: String,
    what_to_do: String,
) -> Found {
    let is_critical = severity == Severity::Critical;
    Found {
        code: Code::NoGoodAnswer,
        severity,
        rank: if is_critical { 1 } else { 2 },
        model: Some(Arc::clone(&model.name)),
        sentence,
        what_to_do,
        dated: false,
        stage: u8::from(is_critical),
        again: format!("{subject} works again: a request got a good answer"),
        subject,
    }
}

/// "All of the last 40 requests for chat were answered 401 by its replicas".
fn all_of(run: &Replies, whose: &str, by: &str) -> String {
    let (all, reply) = (run.fruitless(), run.commonest());
    let most = run.of(reply);
    let how = match reply {
        Reply::Left => "ended with clients that left before an answer began".to_owned(),
        Reply::Redirect => format!("were answered with a redirect (3xx){by}"),
        Reply::OtherMistake => format!("were answered with a 4xx{by}"),
        Reply::Good => format!("were answered{by}"),
        Reply::BadRequest => format!("were answered 400{by}"),
        Reply::Unauthorized => format!("were answered 401{by}"),
        Reply::Forbidden => format!("were answered 403{by}"),
        Reply::NotFound => format!("were answered 404{by}"),
        Reply::MethodNotAllowed => format!("were answered 405{by}"),
        Reply::Unprocessable => format!("were answered 422{by}"),
    };
    if most == all {
        return format!("All of the last {all} {whose} {how}");
    }
    format!("None of the last {all} {whose} got a good answer ({most} {how})")
}

fn remedy(model: &ModelFacts, reply: Reply, sets_credentials: bool) -> String {
    let look = format!("look at `evener tap --model {}`", model.name);
    match reply {
        Reply::Unauthorized | Reply::Forbidden if sets_credentials => {
            "see that its replicas take the credentials that `headers.set` sends them".to_owned()
        }
        Reply::Unauthorized | Reply::Forbidden => {
            "see that clients send what its replicas ask for, or set it with `headers.set`"
                .to_owned()
        }
        Reply::NotFound | Reply::MethodNotAllowed => {
            format!("see that its replicas have the paths and names that clients ask for; {look}")
        }
        Reply::Redirect => {
            "write the address that its replicas redirect to as their URL".to_owned()
        }
        Reply::Left => {
            format!(
                "see whether its replicas hang: {look}, and let `timeouts.first_byte` end what clients do not wait for"
            )
        }
        Reply::Good | Reply::BadRequest | Reply::Unprocessable | Reply::OtherMistake => {
            format!("see what its replicas say of the requests; {look}")
        }
    }
}
