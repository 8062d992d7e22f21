//! A request that knows its model, made ready for one replica after the other.
use super::body::Body;
use super::pick::Choice;
use crate::dialect::grpc::{Messages, NameAt, rename_in_messages};
use crate::dialect::{Edit, Facts, FoundIn, edited};
use crate::table::{Model, RoutePlan};
use bytes::Bytes;
use std::sync::Arc;

/// A request that knows its model.
pub(super) struct Placed<'a> {
    pub(super) model: &'a Arc<Model>,
    pub(super) route: Option<&'a RoutePlan>,
    pub(super) facts: Facts,
    /// As the client sent it.
    pub(super) body: Body,
    /// What was read of the body as the replica gets it, where that is another: with the version's own name for the model,
    /// and the edits below.
    renamed: Option<Bytes>,
    /// Changes of the body, whatever replica is asked.
    pub(super) edits: Vec<Edit>,
    /// What reads the rest of a stream of messages, each of which names the model.
    pub(super) messages: Option<Messages>,
    /// The name that the messages of a stream must not leave, where they did not choose the model.
    watched: Option<(NameAt, String)>,
    /// The client asks for `Upgrade: websocket`.
    upgrade: bool,
    /// And the replica is asked for it.
    pub(super) upgrading: bool,
}

impl<'a> Placed<'a> {
    pub(super) fn new(
        model: &'a Arc<Model>,
        route: Option<&'a RoutePlan>,
        facts: Facts,
        body: Body,
        upgrade: bool,
    ) -> Self {
        Self {
            model,
            route,
            facts,
            body,
            renamed: None,
            edits: Vec::new(),
            messages: None,
            watched: None,
            upgrade,
            upgrading: upgrade,
        }
    }

    /// Lets no message to come name another model.
    pub(super) fn watch(&mut self, at: NameAt, name: &str) {
        self.watched = Some((at, name.to_owned()));
    }

    /// Makes it ready for this replica.
    pub(super) fn prepare(&mut self, choice: Choice<'_>) {
        // HTTP/2 has no `Upgrade`: the replica is asked without it, and says what it thinks of that.
        self.upgrading = self.upgrade && !choice.member.replica.upstream.only_http2();
        // Path and query are renamed with the head.
        let name = self.model.plan_of(choice.version).upstream_model.as_ref();
        let held_to = match (&self.facts.found_in, &self.facts.model, &self.watched) {
            (Some(FoundIn::Messages(at)), Some(named), _) => Some((*at, named, name)),
            (_, _, Some((at, named))) => Some((*at, named, None)),
            (_, _, None) => None,
        };
        if let (Some((at, named, name)), Body::Stream(first, _)) = (held_to, &self.body) {
            let limit = self.model.plan.max_buffered_body;
            let mut messages = Messages::new(at, named, name.map(String::as_str), limit);
            // What is here was read when the model was found.
            self.renamed = messages.take(first).ok();
            self.messages = Some(messages);
            return;
        }
        let mut edits = self.edits.clone();
        edits.extend(name.and_then(|name| match &self.facts.found_in {
            Some(FoundIn::Body(range)) => Some(Edit::json(range.clone(), name)),
            Some(FoundIn::Form(range)) => Some(Edit::bare(range.clone(), name)),
            Some(
                FoundIn::Messages(_)
                | FoundIn::Path(_)
                | FoundIn::Header(_)
                | FoundIn::Query { .. },
            )
            | None => None,
        }));
        self.renamed = match (&self.facts.found_in, name) {
            (Some(FoundIn::Messages(at)), Some(name)) => {
                Some(rename_in_messages(self.body.read_so_far(), at, name))
            }
            _ if edits.is_empty() => None,
            _ => Some(edited(self.body.read_so_far(), edits)),
        };
    }

    /// What was read of the body, as the replica gets it.
    pub(super) fn outgoing(&self) -> &Bytes {
        self.renamed.as_ref().unwrap_or_else(|| self.body.read_so_far())
    }

    /// By how many bytes renaming changed the body.
    pub(super) fn length_change(&self) -> i64 {
        // Names are short: the difference always fits.
        let of = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        of(self.outgoing().len()) - of(self.body.read_so_far().len())
    }
}
