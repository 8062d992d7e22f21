//! Replicas that cannot serve, and what that does to their version.
use super::facts::{ModelFacts, Standings, VersionFacts};
use super::found::{Code, Found, Severity};
use super::words::{count, each};
use std::sync::Arc;

/// All that is wrong with the replicas of a model.
pub(super) fn look(model: &ModelFacts, found: &mut Vec<Found>) {
    let taken_over = model.versions.iter().any(|v| v.share > 0.0 && v.standings.usable > 0);
    for version in &model.versions {
        let of = Of { model, version };
        let standings = &version.standings;
        let asked = version.share > 0.0 && standings.all > 0;
        if asked && standings.usable == 0 && standings.unprobed == 0 {
            found.push(if taken_over { of.without_replica() } else { of.no_usable_replica() });
        } else {
            found.extend(of.some_out());
        }
        found.extend(of.refused());
        found.extend(of.by_hand());
        found.extend(of.tls());
    }
    if let Some(who) = &model.split_by {
        found.push(split(model, who));
    }
}

#[derive(Clone, Copy)]
struct Of<'a> {
    model: &'a ModelFacts,
    version: &'a VersionFacts,
}

impl Of<'_> {
    fn subject(self) -> String {
        format!("{}/{}", self.model.name, self.version.name)
    }

    fn found(self, code: Code, severity: Severity, rank: u8, sentence: String) -> Found {
        Found {
            code,
            severity,
            rank,
            subject: self.subject(),
            model: Some(Arc::clone(&self.model.name)),
            sentence,
            what_to_do: format!("look at `evener status {}`", self.model.name),
            dated: false,
            stage: 0,
            again: format!("{} works again: a replica is usable", self.subject()),
        }
    }

    fn no_usable_replica(self) -> Found {
        let (name, standings) = (self.subject(), &self.version.standings);
        let how = how_they_stand(standings);
        let all_drain = standings.draining == standings.all;
        let sentence = if self.model.fail_open && !all_drain {
            format!("{name} has no usable replica and serves by those that fail ({how})")
        } else {
            format!("{name} has no usable replica and refuses its requests with 503 ({how})")
        };
        let mut found = self.found(Code::NoUsableReplica, Severity::Critical, 0, sentence);
        if all_drain {
            found.what_to_do = format!("`evener undrain {name}` lets them serve");
        }
        found
    }

    fn without_replica(self) -> Found {
        let (name, share) = (self.subject(), crate::canary::words::percent(self.version.share));
        let how = how_they_stand(&self.version.standings);
        let sentence = format!(
            "{name} has a share of {share} and no usable replica ({how}); other versions serve its requests"
        );
        self.found(Code::VersionWithoutReplica, Severity::Warning, 2, sentence)
    }

    /// Does nobody ask it? Then its replicas may be away.
    fn is_idle(self) -> bool {
        let mirrored = self.model.mirror.as_ref().is_some_and(|m| m.to == *self.version.name);
        self.version.share <= 0.0 && !mirrored
    }

    /// Some of its replicas are out.
    fn some_out(self) -> Vec<Found> {
        let Standings { all, unhealthy, ejected, probation, .. } = self.version.standings;
        let name = self.subject();
        let whose = |n: u32| format!("{n} of {} of {name}", count(u64::from(all), "replica"));
        // Most of them: the others carry more than twice their load.
        let (severity, rank) = match (self.is_idle(), 2 * (unhealthy + ejected) > all) {
            (true, _) => (Severity::Notice, 6),
            (false, true) => (Severity::Warning, 2),
            (false, false) => (Severity::Warning, 3),
        };
        let mut found = Vec::new();
        if unhealthy > 0 {
            let verb =
                if unhealthy == 1 { "fails its health check" } else { "fail their health check" };
            let sentence = format!("{} {verb}", whose(unhealthy));
            found.push(self.found(Code::ReplicasUnhealthy, severity, rank, sentence));
        }
        let out = ejected + probation;
        if out > 0 {
            let verb = if out == 1 { "is" } else { "are" };
            let how = match (ejected, probation) {
                (_, 0) => "ejected",
                (0, _) => "on probation after an ejection",
                _ => "ejected or on probation",
            };
            let sentence = format!("{} {verb} {how} for failing more than its peers", whose(out));
            found.push(self.found(Code::ReplicasEjected, severity, rank, sentence));
        }
        found
    }

    fn refused(self) -> Option<Found> {
        let n = self.version.ejections_refused;
        let stay = if n == 1 { "stays" } else { "stay" };
        let sentence = format!(
            "{} of {} {stay} in service, because too many are out already",
            count(u64::from(n), "failing replica"),
            self.subject()
        );
        (n > 0).then(|| self.found(Code::EjectionsRefused, Severity::Warning, 2, sentence))
    }

    fn by_hand(self) -> Option<Found> {
        let Standings { all, draining, ejected_by_hand, .. } = self.version.standings;
        let replicas = count(u64::from(all), "replica");
        let how = match (draining, ejected_by_hand) {
            (n, 0) => format!("{n} of {replicas} of {} {}", self.subject(), verb(n, "drain")),
            (0, n) => format!("{n} of {replicas} of {} {} ejected", self.subject(), be(n)),
            (n, m) => format!(
                "{n} of {replicas} of {} {} and {m} {} ejected",
                self.subject(),
                verb(n, "drain"),
                be(m)
            ),
        };
        let sentence = format!("{how} by an operator's order");
        let mut found = self.found(Code::ReplicasByHand, Severity::Notice, 6, sentence);
        let undo = if draining > 0 { "undrain" } else { "restore" };
        found.what_to_do = format!("`evener {undo} {}` takes it back", self.subject());
        (draining + ejected_by_hand > 0).then_some(found)
    }

    fn tls(self) -> Option<Found> {
        let why = self.version.tls_fault.as_ref()?;
        let sentence = format!(
            "{} keeps its old files of TLS, because the new ones are of no use ({why})",
            self.subject()
        );
        let mut found = self.found(Code::CertificateRejected, Severity::Warning, 2, sentence);
        "write the files again; they are read at once".clone_into(&mut found.what_to_do);
        Some(found)
    }
}

/// "drains", "drain".
fn verb(n: u32, verb: &str) -> String {
    if n == 1 { format!("{verb}s") } else { verb.to_owned() }
}

fn be(n: u32) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

fn how_they_stand(standings: &Standings) -> String {
    let Standings { all, unhealthy, ejected, ejected_by_hand, probation, draining, .. } =
        *standings;
    let parts = [
        (unhealthy, "fails its health check", "fail their health check"),
        (ejected, "is ejected", "are ejected"),
        (ejected_by_hand, "is ejected by hand", "are ejected by hand"),
        (probation, "is on probation", "are on probation"),
        (draining, "drains", "drain"),
    ];
    each(parts, all)
}

fn split(model: &ModelFacts, who: &str) -> Found {
    let name = &model.name;
    Found {
        code: Code::SplitByHand,
        severity: Severity::Notice,
        rank: 6,
        subject: name.to_string(),
        model: Some(Arc::clone(name)),
        sentence: format!("The split of {name} is set by {who}"),
        what_to_do: format!("`evener split {name} --reset` takes it back"),
        dated: false,
        stage: 0,
        again: String::new(),
    }
}
