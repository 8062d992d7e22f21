//! What the list of problems is made of, gathered from everywhere.
use super::figures::outcomes;
use super::served::{Served, wanted_names};
use crate::admin::office::{Office, Readiness};
use crate::control::Loaded;
use crate::fleet::{Answered, Mirrored, ModelState, Replica};
use crate::health::{Class, Reply, Stage, Standing};
use crate::observe::{CanaryReport, Task, Undelivered, UsedUp, log_lines_dropped};
use crate::problems::{
    AnswerFacts, CanaryFacts, CertificateFacts, ExhaustedFacts, Facts, FileFacts, MirrorFacts,
    ModelFacts, PanicFacts, ProcessFacts, RejectedFacts, Replies, Standings, VersionFacts,
    WebhookFacts,
};
use crate::stats::Clock as _;
use crate::table::{Jwt, Kind, Model, Table, Version};
use http::HeaderName;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn gather(
    office: &Office,
    table: &Table,
    served: &Served,
    descriptors: Option<(u64, u64)>,
) -> Facts {
    let now = office.clock.now();
    let canaries = office.meters.canaries.load();
    let jwt = table.access.as_ref().and_then(|access| access.jwt.as_ref());
    Facts {
        now,
        wall: office.wall(now),
        models: table.models.iter().map(|each| model(each, &canaries, served)).collect(),
        nameless: outcomes(&office.meters.nameless.requests),
        certificates: certificates(table),
        file: FileFacts {
            path: office.desk.file.display().to_string(),
            generation: table.generation,
            rejected: rejected(&office.desk.last()),
            keys_fault: jwt.and_then(Jwt::fault),
        },
        process: process(office, table, descriptors),
    }
}

fn model(model: &Model, canaries: &[CanaryReport], served: &Served) -> ModelFacts {
    let canary = canaries.iter().find(|report| report.model == *model.name);
    ModelFacts {
        name: Arc::clone(&model.name),
        fail_open: model.plan.fail_open,
        sticky: !model.plan.hash_on.is_empty(),
        unplaced: outcomes(&model.state.requests),
        versions: model.versions.iter().map(|each| version(model, each, served)).collect(),
        canary: canary
            .map(|report| CanaryFacts { candidate: report.candidate.clone(), state: report.state }),
        mirror: model.plan.mirror.as_ref().map(|plan| mirror(&plan.to, &model.state)),
        split_by: model.set.as_ref().map(|set| set.who.clone()),
    }
}

fn mirror(to: &str, state: &ModelState) -> MirrorFacts {
    let mut facts = MirrorFacts { to: to.to_owned(), answered: 0, failed: 0 };
    for (result, n) in state.mirror.results() {
        match result {
            Mirrored::Agreed | Mirrored::Differed | Mirrored::Incomparable | Mirrored::TooLarge => {
                facts.answered += n;
            }
            Mirrored::Failed | Mirrored::Timeout => facts.failed += n,
            Mirrored::Skipped | Mirrored::Abandoned => {}
        }
    }
    // They are among those that answered.
    let rejected = state.mirror.rejected().min(facts.answered);
    facts.answered -= rejected;
    facts.failed += rejected;
    facts
}

fn version(model: &Model, version: &Version, served: &Served) -> VersionFacts {
    let plan = model.plan_of(version);
    let members = || version.members.iter().map(|member| &member.replica);
    let mut standings = Standings::default();
    members().for_each(|replica| stand(&mut standings, replica));
    let sets_credentials = plan.headers.set.iter().any(|(name, _)| is_credential(name));
    let raw = (model.plan.kind == Kind::Raw).then_some(sets_credentials);
    let any_fruitless = || members().any(|replica| replies(&replica.answered, raw).fruitless() > 0);
    VersionFacts {
        name: Arc::clone(&version.name),
        share: version.share,
        outcomes: outcomes(&version.state.requests),
        standings,
        ejections_refused: u32::try_from(members().filter(|each| each.refused()).count())
            .unwrap_or(u32::MAX),
        wanted: wanted_names(model, version),
        replies: Replies {
            clients: version.state.answered.take_clients(),
            ..replies(&version.state.answered, raw)
        },
        sets_credentials,
        answers: if any_fruitless() {
            members().map(|replica| answers(replica, raw, served)).collect()
        } else {
            Vec::new()
        },
        tls_fault: plan.tls.as_ref().and_then(|tls| tls.fault()),
    }
}

/// `raw`: the model is raw, and whether Evener sends its credentials. Its paths are its own, so that most 4xx say nothing.
fn replies(answered: &Answered, raw: Option<bool>) -> Replies {
    let mut counts = answered.replies();
    if let Some(sets_credentials) = raw {
        for reply in Reply::ALL {
            let says = match reply {
                Reply::Good | Reply::Left => true,
                Reply::Unauthorized | Reply::Forbidden => sets_credentials,
                Reply::Redirect
                | Reply::BadRequest
                | Reply::NotFound
                | Reply::MethodNotAllowed
                | Reply::Unprocessable
                | Reply::OtherMistake => false,
            };
            if !says {
                counts[reply as usize] = 0;
            }
        }
    }
    Replies { counts, clients: 0 }
}

fn is_credential(header: &HeaderName) -> bool {
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"].contains(&header.as_str())
}

fn answers(replica: &Replica, raw: Option<bool>, served: &Served) -> AnswerFacts {
    AnswerFacts {
        url: Arc::clone(&replica.id.url),
        // Paths of a raw model name no model.
        not_found: if raw.is_some() { 0 } else { replica.answered.unknown_models() },
        good: replica.outcomes.of_class(Class::Success),
        replies: Replies {
            clients: replica.answered.take_clients(),
            ..replies(&replica.answered, raw)
        },
        serves: served.of(&replica.id),
    }
}

fn stand(standings: &mut Standings, replica: &Replica) {
    standings.all += 1;
    standings.usable += u32::from(replica.usable());
    match replica.standing() {
        Standing::Healthy => {}
        Standing::Starting => standings.unprobed += u32::from(!replica.usable()),
        Standing::Unhealthy => standings.unhealthy += 1,
        Standing::Probation => standings.probation += 1,
        Standing::Draining => standings.draining += 1,
        Standing::Ejected => match replica.stage() {
            Stage::Ejected { by_hand: true, .. } => standings.ejected_by_hand += 1,
            Stage::Free | Stage::Ejected { .. } | Stage::Probation { .. } => standings.ejected += 1,
        },
    }
}

fn certificates(table: &Table) -> Vec<CertificateFacts> {
    let listeners = table.plan.server_tls().flat_map(|(listener, tls)| {
        let owner = format!("listener `{listener}`");
        tls.states().into_iter().map(move |state| (owner.clone(), state))
    });
    let versions = table.plan.client_tls().filter_map(|(model, version, tls)| {
        Some((format!("version `{model}/{version}`"), tls.shown()?))
    });
    let facts = |(owner, state): (String, crate::tls::CertificateState)| CertificateFacts {
        owner,
        name: state.name,
        not_before: state.not_before,
        not_after: state.not_after,
        fault: state.fault,
    };
    listeners.chain(versions).map(facts).collect()
}

fn rejected(last: &Loaded) -> Option<RejectedFacts> {
    let all = last.rejected.as_ref()?.diagnostics.as_array()?;
    let errors: Vec<&Value> = all.iter().filter(|each| each["severity"] == "error").collect();
    let restart = |each: &&Value| each["code"] == "needs-restart";
    // The key stands in its message, between backticks.
    let key = |each: &&Value| Some(each["message"].as_str()?.split('`').nth(1)?.to_owned());
    let needs_restart = if errors.iter().all(restart) {
        errors.iter().filter_map(key).collect()
    } else {
        Vec::new()
    };
    Some(RejectedFacts { errors: errors.len(), needs_restart })
}

fn process(office: &Office, table: &Table, descriptors: Option<(u64, u64)>) -> ProcessFacts {
    let meters = &office.meters;
    let given_up = table.models.iter().map(|model| model.state.webhooks_failed.load(Relaxed)).sum();
    let webhook = |(receiver, undelivered): (String, Undelivered)| WebhookFacts {
        receiver,
        waiting: undelivered.waiting,
        why: undelivered.why,
    };
    let panic = |task: Task| PanicFacts {
        task: task.name(),
        count: task.panics(),
        what: task.last_panic(),
    };
    let exhausted = |used_up: UsedUp| {
        let UsedUp { name, words, remedy, count } = used_up;
        ExhaustedFacts { name, words, remedy, count }
    };
    ProcessFacts {
        ends: (office.readiness)() != Readiness::Serving,
        state_fault: meters.troubles.state_fault(),
        lost: vec![
            ("lines of the access log", meters.log_dropped.load(Relaxed)),
            ("lines of the decision log", meters.decisions_dropped.load(Relaxed)),
            ("lines of the process log", log_lines_dropped()),
            ("spans of traces", meters.spans_lost()),
            ("webhook messages", given_up),
        ],
        exhausted: meters.exhaustion.totals().map(exhausted).collect(),
        panics: Task::ALL.into_iter().filter(|task| task.panics() > 0).map(panic).collect(),
        webhooks: meters.troubles.webhooks().into_iter().map(webhook).collect(),
        descriptors,
    }
}
