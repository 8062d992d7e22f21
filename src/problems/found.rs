//! One problem: what it is, how bad it is, and what it says.
use super::words::since_when;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Requests fail, or will.
    Critical,
    /// Somebody should look.
    Warning,
    /// An operator made it so: it is shown, and nothing is wrong.
    Notice,
}

impl Severity {
    /// The name in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    NoUsableReplica,
    VersionWithoutReplica,
    RequestsFail,
    NoGoodAnswer,
    WrongModelName,
    ReplicasUnhealthy,
    ReplicasEjected,
    EjectionsRefused,
    CertificateEnds,
    CertificateNotYetValid,
    CertificateRejected,
    KeysRejected,
    FileRejected,
    RestartNeeded,
    StateUnwritable,
    LinesLost,
    Panicked,
    Exhausted,
    Descriptors,
    WebhooksUndelivered,
    CanaryFailing,
    CanaryPaused,
    CanaryUndecided,
    CanaryRolledBack,
    MirrorFails,
    ReplicasByHand,
    SplitByHand,
    ShuttingDown,
}

impl Code {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoUsableReplica => "no_usable_replica",
            Self::VersionWithoutReplica => "version_without_replica",
            Self::RequestsFail => "requests_fail",
            Self::NoGoodAnswer => "no_good_answer",
            Self::WrongModelName => "wrong_model_name",
            Self::ReplicasUnhealthy => "replicas_unhealthy",
            Self::ReplicasEjected => "replicas_ejected",
            Self::EjectionsRefused => "ejections_refused",
            Self::CertificateEnds => "certificate_ends",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateRejected => "certificate_rejected",
            Self::KeysRejected => "keys_rejected",
            Self::FileRejected => "file_rejected",
            Self::RestartNeeded => "restart_needed",
            Self::StateUnwritable => "state_unwritable",
            Self::LinesLost => "lines_lost",
            Self::Panicked => "panicked",
            Self::Exhausted => "exhausted",
            Self::Descriptors => "descriptors",
            Self::WebhooksUndelivered => "webhooks_undelivered",
            Self::CanaryFailing => "canary_failing",
            Self::CanaryPaused => "canary_paused",
            Self::CanaryUndecided => "canary_undecided",
            Self::CanaryRolledBack => "canary_rolled_back",
            Self::MirrorFails => "mirror_fails",
            Self::ReplicasByHand => "replicas_by_hand",
            Self::SplitByHand => "split_by_hand",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// How long it is still listed once nothing shows it: what wavers does not flicker.
    pub(super) const fn lingers(self) -> Duration {
        match self {
            Self::NoUsableReplica | Self::VersionWithoutReplica => Duration::from_secs(5),
            Self::ReplicasUnhealthy | Self::ReplicasEjected | Self::EjectionsRefused => {
                Duration::from_secs(3)
            }
            Self::RequestsFail
            | Self::NoGoodAnswer
            | Self::WrongModelName
            | Self::CertificateEnds
            | Self::CertificateNotYetValid
            | Self::CertificateRejected
            | Self::KeysRejected
            | Self::FileRejected
            | Self::RestartNeeded
            | Self::StateUnwritable
            | Self::LinesLost
            | Self::Panicked
            | Self::Exhausted
            | Self::Descriptors
            | Self::WebhooksUndelivered
            | Self::CanaryFailing
            | Self::CanaryPaused
            | Self::CanaryUndecided
            | Self::CanaryRolledBack
            | Self::MirrorFails
            | Self::ReplicasByHand
            | Self::SplitByHand
            | Self::ShuttingDown => Duration::ZERO,
        }
    }

    /// Is it told by whoever makes it so, with an event of its own?
    pub(super) const fn is_told_elsewhere(self) -> bool {
        match self {
            Self::ReplicasUnhealthy
            | Self::ReplicasEjected
            | Self::EjectionsRefused
            | Self::CertificateRejected
            | Self::KeysRejected
            | Self::FileRejected
            | Self::RestartNeeded
            | Self::StateUnwritable
            | Self::Panicked
            | Self::CanaryFailing
            | Self::CanaryPaused
            | Self::CanaryUndecided
            | Self::CanaryRolledBack
            | Self::ReplicasByHand
            | Self::SplitByHand
            | Self::ShuttingDown => true,
            Self::NoUsableReplica
            | Self::VersionWithoutReplica
            | Self::RequestsFail
            | Self::NoGoodAnswer
            | Self::WrongModelName
            | Self::CertificateEnds
            | Self::CertificateNotYetValid
            | Self::LinesLost
            | Self::Exhausted
            | Self::Descriptors
            | Self::WebhooksUndelivered
            | Self::MirrorFails => false,
        }
    }
}

/// What a finder sees at one moment.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) code: Code,
    pub(super) severity: Severity,
    /// 0 is the worst.
    pub(super) rank: u8,
    /// What it is about: "chat", "chat/v1", "edge/example.com".
    pub(super) subject: String,
    pub(super) model: Option<Arc<str>>,
    /// Without its end: since when and what to do follow.
    pub(super) sentence: String,
    pub(super) what_to_do: String,
    /// The sentence says when, so that nothing need be said of since when.
    pub(super) dated: bool,
    /// It is told anew when this rises.
    pub(super) stage: u8,
    /// What is said when it is over.
    pub(super) again: String,
}

/// One problem, for people and for programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// 0 is the worst.
    pub rank: u8,
    pub severity: Severity,
    pub code: String,
    pub subject: String,
    /// Of which model; `None`: of Evener itself.
    pub model: Option<String>,
    /// What is wrong, without a full stop.
    pub sentence: String,
    pub since: jiff::Timestamp,
    pub what_to_do: String,
    /// All of it in one sentence.
    pub text: String,
}

impl Problem {
    pub(super) fn of(found: &Found, since: jiff::Timestamp, now: jiff::Timestamp) -> Self {
        let Found { sentence, what_to_do, .. } = found;
        let when =
            if found.dated { String::new() } else { format!(" since {}", since_when(since, now)) };
        let text = format!("{sentence}{when}: {what_to_do}");
        Self {
            rank: found.rank,
            severity: found.severity,
            code: found.code.name().to_owned(),
            subject: found.subject.clone(),
            model: found.model.as_ref().map(ToString::to_string),
            sentence: found.sentence.clone(),
            since,
            what_to_do: found.what_to_do.clone(),
            text,
        }
    }

    /// Is something wrong, rather than made so by an operator?
    pub fn is_wrong(&self) -> bool {
        self.severity != Severity::Notice
    }
}
