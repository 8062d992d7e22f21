//! What was seen of both sides, in words: counts, of how many clients they are, and how sure they make.
use super::count::Count;
use super::loud::Whose;
use super::metric::Metric;
use super::observation::Finding;
use super::rollout::RollOut;
use super::view::loudest;
use super::words::{capital, chance, decimal, grouped, percent, span};

/// Clients that left are spoken of from so many on, and from this part of all.
const MANY: u64 = 10;
const PART: f64 = 0.05;
/// Failures that retries hid are spoken of from so many on.
const HIDDEN: u64 = 5;
/// This part of the hits is nearly all of them.
const NEARLY: f64 = 0.8;
/// By so much replicas must differ to be spoken of, in times.
const DIFFER: f64 = 1.05;

impl RollOut {
    pub(super) fn counted(&self) -> Count {
        self.memory.proofs.first().map_or(Count::default(), |proof| proof.counts().0)
    }

    /// The check that tells most while nothing is wrong.
    pub(super) fn main_check(&self) -> usize {
        self.plan.checks.iter().position(|check| check.metric == Metric::Errors).unwrap_or(0)
    }

    /// The check that speaks loudest against it, with how sure that is.
    pub(super) fn seen_against(&self, age: f64) -> String {
        let memory = &self.memory;
        let check = loudest(&memory.proofs, &self.weights, &memory.clients).unwrap_or(0);
        let odds = chance(self.evidence());
        format!("{}; would be seen by chance {odds}", self.seen(check, age))
    }

    /// Both counts, both rates, whose they are, and the time.
    pub(super) fn seen(&self, check: usize, age: f64) -> String {
        let proof = &self.memory.proofs[check];
        let (candidate, stable) = proof.counts();
        let metric = &self.plan.checks[check].metric;
        let rate = |count: Count| {
            count.rate().map_or(String::new(), |rate| format!(" ({})", percent(rate)))
        };
        let of = |count: Count| format!("{} of {}", grouped(count.hits), grouped(count.requests));
        let other = if self.plan.aa { "the other half" } else { &self.stable };
        let own = format!("{} requests", of(candidate));
        let rated = match (rate(candidate), flaw_words(proof.flaws())) {
            (rated, None) => rated,
            (_, Some(flaws)) => {
                format!(" ({}: {flaws})", percent(candidate.rate().unwrap_or_default()))
            }
        };
        let rated = match proof.hung() {
            hung if hung > 0 && *metric == Metric::Errors => {
                format!("{rated}, {} of them waits until the client left", grouped(hung))
            }
            _ => rated,
        };
        let whose = proof.loud.whose(&self.memory.clients).filter(|_| candidate.hits > 0);
        let rated = rated + &whose.map(of_clients).unwrap_or_default();
        let theirs = format!("{}{}", of(stable), rate(stable));
        let from = self.memory.evidence_since.max(self.judged_from().unwrap_or(age));
        let took = span(age - from);
        let what = match metric {
            Metric::Errors => "errors in",
            Metric::ClientErrors => "client errors in",
            Metric::Cancelled => "clients left before the end in",
            Metric::BadOutput(_) => "bad output in",
            Metric::Latency(_)
            | Metric::FirstByte(_)
            | Metric::ChunkGap(_)
            | Metric::TokensPerSecond
            | Metric::OutputTokens => {
                let bound = self.bound(check);
                let below = if metric.is_better_above() { "below" } else { "above" };
                let alone = metric.is_speed() && proof.amounts.replicas.of_candidate() == 1;
                let alone = if alone { ", on one replica" } else { "" };
                return format!(
                    "{own} {below} {bound} of {other}{rated}{alone}, whose own are {below} it in {theirs}, in {took}"
                );
            }
        };
        format!("{what} {own}{rated}, {other} in {theirs}, in {took}")
    }

    /// "1.1 times the `first_byte_p95`".
    fn bound(&self, check: usize) -> String {
        let (proof, check) = (&self.memory.proofs[check], &self.plan.checks[check]);
        let name = check.metric.name();
        let allowance = proof.amounts.replicas.allowance();
        let times = check.at_most.times * allowance;
        let shown = if check.metric.is_better_above() { 1.0 / times } else { times };
        let differ = if check.metric.is_speed() && allowance > DIFFER {
            " (which is more than their replicas differ)"
        } else {
            ""
        };
        format!("{} times the {name}{differ}", decimal(shown))
    }

    /// What one client, retries and others hide or explain; each a sentence with a space before it.
    pub(super) fn notes(&self) -> String {
        let at = self.at();
        let (candidate, stable) = (&self.judged.candidate, &self.stable);
        let mut notes = if self.plan.checks.iter().any(|check| at.is_unfair_to(check)) {
            format!(
                " Latency is not comparable: {candidate} has too few replicas, each is given more than those of {stable}."
            )
        } else {
            String::new()
        };
        if !self.memory.usable {
            notes += " It has no usable replica now: what it misses counts as errors.";
        }
        notes += &self.of_one_client();
        notes += &self.behind_a_proxy();
        notes += &self.cold_prefixes();
        notes += &self.cancelled();
        notes += &self.hidden_by_retries();
        notes += &self.unread();
        notes + &self.apart()
    }

    /// Where nearly all hits of a check are of one client or key.
    pub(super) fn of_one_client(&self) -> String {
        let each = self.memory.proofs.iter().zip(&self.plan.checks);
        let mut each = each.filter(|(_, check)| !check.metric.compares_amounts());
        let alone = each.find_map(|(proof, check)| {
            let (hits, most) = (proof.counts().0.hits, proof.loud.most_hits(&self.memory.clients));
            (hits >= MANY && most as f64 >= NEARLY * hits as f64).then_some((hits, most, check))
        });
        let Some((hits, most, check)) = alone else { return String::new() };
        let (name, all) = (check.metric.name(), capital(&grouped(hits)));
        let whose = if most == hits {
            format!("{all} hits of {name} are all of one client")
        } else {
            format!("{} of {} hits of {name} are of one client", grouped(most), grouped(hits))
        };
        format!(" {whose}: that is not counted as the version's.")
    }

    /// Where sticky keys come from one address, mostly, nobody is held to its part of a side.
    fn behind_a_proxy(&self) -> String {
        let sticky = self.memory.proofs.iter().any(|proof| proof.loud.has_keys());
        if !sticky || !self.memory.clients.has_proxy() {
            return String::new();
        }
        " One address sends more than a fifth of the requests, and is taken for a proxy with many clients: what each of \
         its clients does is not limited."
            .to_owned()
    }

    fn cold_prefixes(&self) -> String {
        let cold = |i: &usize| {
            let proof = &self.memory.proofs[*i];
            proof.amounts.cold >= MANY && proof.amounts.cold as f64 >= PART * proof.on_step as f64
        };
        let Some(i) = (0..self.plan.checks.len()).find(cold) else { return String::new() };
        format!(
            " {} is not comparable for {} requests: the prefix caches of {} hold their prompts, those of {} do not, as far as is known.",
            capital(self.plan.checks[i].metric.name()),
            grouped(self.memory.proofs[i].amounts.cold),
            self.stable,
            self.judged.candidate
        )
    }

    /// Where clients leave the candidate much more often than the others, it is slow or hangs.
    fn cancelled(&self) -> String {
        let count = |side: usize| {
            let (hits, requests) = (self.memory.cancelled[side], self.memory.requests[side]);
            Count { hits, requests }
        };
        let (own, theirs) = (count(0), count(1));
        let (rate, usual) = (own.rate().unwrap_or_default(), theirs.rate().unwrap_or_default());
        if own.hits < MANY || rate < PART || rate < 2.0 * usual {
            return String::new();
        }
        format!(
            " Clients left {} of its {} requests before their end, and {} of {} of {}.",
            grouped(own.hits),
            grouped(own.requests),
            grouped(theirs.hits),
            grouped(theirs.requests),
            self.stable
        )
    }

    /// "First attempts fail 20 %, clients saw 0 %."
    pub(super) fn hidden_by_retries(&self) -> String {
        let memory = &self.memory;
        let (failed, hidden) = (memory.failures[0], memory.rescued[0]);
        if hidden < HIDDEN || hidden * 2 < failed {
            return String::new();
        }
        let of = |hits| percent(hits as f64 / memory.requests[0].max(1) as f64);
        let seen = of(failed.saturating_sub(hidden));
        format!(" Retries hide it: its first attempts fail {}, clients saw {seen}.", of(failed))
    }

    pub(super) fn unread(&self) -> String {
        let mut each = self.memory.proofs.iter().zip(&self.plan.checks);
        let Some((proof, check)) = each
            .find(|(proof, check)| check.metric.rules().is_some() && self.is_unread(proof, check))
        else {
            return String::new();
        };
        if proof.lacks_room(check) {
            return " Nearly all answers of both sides are bad output: bad_output is not checked."
                .to_owned();
        }
        " No answer can be read (binary or compressed): bad_output is not checked.".to_owned()
    }

    /// Several Eveners do not share what they see.
    pub(super) fn apart(&self) -> String {
        match self.plan.proxies {
            0 | 1 => String::new(),
            n => format!(" {n} Eveners judge {}, each for itself.", self.judged.candidate),
        }
    }

    /// What so many requests would have found at least, or so many sticky keys: "errors of 1 %".
    pub(super) fn would_have_found(&self) -> Option<String> {
        let i = self.plan.checks.iter().position(|check| check.metric == Metric::Errors)?;
        let (proof, check) = (&self.memory.proofs[i], &self.plan.checks[i]);
        let keys = proof.arrivals.keys();
        let n = keys.unwrap_or(proof.counts().0.requests) as f64;
        let usual = proof.overall(check).clamp(1e-4, 0.9);
        let allowed = usual + check.margin(usual);
        let needed = self.bar() - self.weights[i].ln() + 1.0;
        // Of keys it takes three times as much to be found nine times in ten: they are few on either side.
        let needed = if keys.is_some() { 3.0 * needed } else { needed };
        // What each request tells of a rate, at best: the Kullback-Leibler divergence from what is allowed.
        let tells = |rate: f64| {
            rate * (rate / allowed).ln() + (1.0 - rate) * ((1.0 - rate) / (1.0 - allowed)).ln()
        };
        let found = (1..=200).map(|step| allowed + (1.0 - allowed) * f64::from(step) / 200.0);
        let fine = (1..=200).map(|step| allowed * (1.0 + f64::from(step) / 20.0));
        let found = fine.chain(found).filter(|rate| *rate < 0.999 && n * tells(*rate) >= needed);
        let least = found.fold(f64::INFINITY, f64::min);
        let least = least.is_finite().then(|| percent((least * 1000.0).ceil() / 1000.0))?;
        Some(match keys {
            None => format!("errors of {least} or more"),
            Some(keys) => {
                format!("that it fails for {least} or more of {} sticky keys", grouped(keys))
            }
        })
    }
}

fn flaw_words(flaws: impl Iterator<Item = (Finding, u64)>) -> Option<String> {
    let words: Vec<String> =
        flaws.map(|(found, count)| format!("{} {}", grouped(count), found.words())).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// " of 41 clients".
fn of_clients(Whose { count, more }: Whose) -> String {
    match (count, more) {
        (1, false) => ", all of one client".to_owned(),
        (count, false) => format!(" of {} clients", grouped(count)),
        (count, true) => format!(" of more than {} clients", grouped(count)),
    }
}
