//! What waits for the state to be written: answers to orders, and canaries that go on.
use super::action::Action;
use super::courier::Message;
use super::order::Answer;
use crate::table::KeptCanary;
use tokio::sync::oneshot;

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
    pub(super) actions: Vec<Action>,
    /// Kept with the state, and sent once that is written.
    pub(super) messages: Vec<Message>,
    pub(super) who: String,
    pub(super) reason: Option<String>,
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
    /// Does it move the split of one of these models?
    pub(super) fn moves_one_of(&self, models: &[&str]) -> bool {
        self.actions.iter().filter_map(Action::moves).any(|model| models.contains(&model))
    }
}
