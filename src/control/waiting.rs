//! What waits for the state to be written: answers to orders, and canaries that go on.
use super::canaries::Told;
use super::courier::Message;
use super::ejections::Ruling;
use super::order::Answer;
use super::replicas::Unable;
use crate::table::KeptCanary;
use tokio::sync::oneshot;

/// How an order was carried out.
#[derive(Debug)]
pub(super) enum Carried {
    Not(Unable),
    /// It was, and the state of this number has it.
    Saved(u64),
}

/// What is done once the state of this number is written.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    /// Whoever gave an order, which is carried out, is told so.
    Answer(oneshot::Sender<Answer>),
    /// Canaries that go on do so.
    Raise(Raised),
}

/// Canaries that go on, and splits that end by it, as soon as that is written.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) told: Vec<Told>,
    /// Kept with the state, and sent once that is written.
    pub(super) messages: Vec<Message>,
    pub(super) who: String,
    pub(super) reason: Option<String>,
    pub(super) ended: Vec<Ruling>,
    /// What is written of those that are taken back where this cannot be.
    pub(super) before: Vec<(String, KeptCanary)>,
}

/// What becomes of a step up that cannot be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unwritten {
    /// A canary took it by itself: a restart would not know of it.
    IsTakenBack,
    /// Somebody wants it so, and hears that it may be forgotten.
    Stands,
}

impl Raised {
    /// Is it of a model of which this tells?
    pub(super) fn tells_of_one_of(&self, others: &[Told]) -> bool {
        self.told.iter().any(|one| others.iter().any(|other| one.model == other.model))
    }
}
