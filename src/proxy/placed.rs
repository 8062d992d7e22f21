//! A request that knows its model, made ready for one replica after the other.
use super::body::Body;
use crate::dialect::grpc::{Messages, NameAt, rename_in_messages};
use crate::dialect::{Edit, Facts, FoundIn, NameSpot, OtherName, edited};
use crate::table::{Choice, Model, RoutePlan};
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
    /// Where the name of the model is written, and the name where the version has none of its own: the replica is to read
    /// nothing but what was understood here.
    spot: Option<NameSpot>,
    /// Fields beside it that name the same model.
    others: Vec<OtherName>,
    writes: Option<String>,
    /// What reads the rest of a stream of messages, each of which names the model.
    pub(super) messages: Option<Messages>,
    /// The name that the messages of a stream must not leave, where they did not choose the model.
    watched: Option<(NameAt, String)>,
    /// The path that names the model is the one that its route makes.
    pub(super) named_where_rewritten: bool,
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
            spot: None,
            others: Vec::new(),
            writes: None,
            messages: None,
            watched: None,
            named_where_rewritten: false,
            upgrade,
            upgrading: upgrade,
        }
    }

    /// Lets no message to come name another model.
    pub(super) fn watch(&mut self, at: NameAt, name: &str) {
        self.watched = Some((at, name.to_owned()));
    }

    /// Has the name of the model written back as it was understood: at this place of the body, or in each message of a
    /// call.
    pub(super) fn writes_name(&mut self, spot: Option<NameSpot>, others: Vec<OtherName>) {
        let in_body = match &self.facts.found_in {
            Some(FoundIn::Body(_) | FoundIn::Form(_) | FoundIn::Messages(_)) => true,
            Some(FoundIn::Path(_) | FoundIn::Header(_) | FoundIn::Query { .. }) | None => false,
        };
        let named = self.facts.model.clone().filter(|_| in_body);
        self.writes = Some(named.unwrap_or_else(|| self.model.name.to_string()));
        (self.spot, self.others) = (spot, others);
    }

    /// Makes it ready for this replica.
    pub(super) fn prepare(&mut self, choice: Choice<'_>) {
        // HTTP/2 has no `Upgrade`: the replica is asked without it, and says what it thinks of that.
        self.upgrading = self.upgrade && !choice.member.replica.upstream.only_http2();
        // Path and query are renamed with the head.
        let name = self.model.plan_of(choice.version).upstream_model.as_ref();
        let name = name.or(self.writes.as_ref());
        let held_to = match (&self.facts.found_in, &self.facts.model, &self.watched) {
            (Some(FoundIn::Messages(at)), Some(named), _) => Some((*at, named, name)),
            (_, _, Some((at, named))) => Some((*at, named, name.filter(|_| self.writes.is_some()))),
            (_, _, None) => None,
        };
        match (held_to, &self.body) {
            (Some((at, named, name)), Body::Stream(first, _)) => {
                let limit = self.model.plan.max_buffered_body;
                let name = name.map(String::as_str);
                // Where the name is written back, a replica may read no message without one.
                let strict = self.writes.is_some();
                let mut messages = Messages::new(at, named, name, limit).strict(strict);
                // What is here was read when the model was found.
                self.renamed = messages.take(first).ok();
                self.messages = Some(messages);
            }
            (Some((at, _, Some(name))), Body::Whole(bytes, _)) => {
                self.renamed = Some(rename_in_messages(bytes, at, name));
            }
            _ => {
                let mut edits = self.edits.clone();
                edits.extend(name.and_then(|name| self.edit_that_names(name)));
                edits.extend(
                    name.into_iter().flat_map(|name| self.others.iter().map(|o| o.edit(name))),
                );
                let body = self.body.read_so_far();
                self.renamed = (!edits.is_empty()).then(|| edited(body, edits));
            }
        }
    }

    /// What writes this name into the body, if it stands there.
    fn edit_that_names(&self, name: &str) -> Option<Edit> {
        match (&self.spot, &self.facts.found_in) {
            (Some(spot), _) => Some(spot.edit(name)),
            (None, Some(FoundIn::Body(range))) => Some(Edit::json(range.clone(), name)),
            (None, Some(FoundIn::Form(range))) => Some(Edit::bare(range.clone(), name)),
            (
                None,
                Some(
                    FoundIn::Messages(_)
                    | FoundIn::Path(_)
                    | FoundIn::Header(_)
                    | FoundIn::Query { .. },
                )
                | None,
            ) => None,
        }
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
