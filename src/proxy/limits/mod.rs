//! What a request takes of its key's limits: reserved before it is sent, settled once when it is over, whatever ends it.
mod words;

pub(super) use words::{too_many, whole_seconds};

use super::body::Body;
use super::exchange::Exchange;
use super::pass::{BYTES_PER_TOKEN, Reserved};
use super::placed::Placed;
use super::record::Record;
use super::request::text;
use crate::dialect::{
    Edit, PathFacts, PathKind, Prompt, ask_for_usage, asks_language_model, prompt,
};
use crate::fleet::Good;
use crate::flow::{Refusal, Stop};
use crate::health::Class;
use crate::stats::Moment;
use crate::table::{Kind, Limits};
use http::Method;
use pingora_http::ResponseHeader;
use std::sync::Arc;
use words::{in_words, too_long};

impl Exchange<'_> {
    /// Must the whole body be here before this request may be sent, so that its tokens can be counted?
    pub(super) fn is_counted(&self, path: &PathFacts) -> bool {
        let limited = self.key().is_some_and(|key| key.limits.tokens.is_some());
        limited && (speaks(Kind::Auto, path.kind()) || path.row.or_llm)
    }

    /// Sets aside what this request may take of its key's tokens.
    pub(super) fn reserve_tokens(&mut self, placed: &mut Placed<'_>) -> Result<(), Stop> {
        let Some(pass) = self.record.pass.as_ref().filter(|_| !self.record.is_test) else {
            return Ok(());
        };
        let Some(limit) = pass.key.limits.tokens else { return Ok(()) };
        // Some servers take a PUT as a POST: whatever has a body may ask a model.
        let asks = self.session.req_header().method == Method::POST || has_body(&placed.body);
        if !self.speaks(placed) || !(asks || placed.upgrading) {
            return Ok(());
        }
        // What a tunnel will take nobody knows: it is taken as it flows, and begins only while there is something left.
        let read = if placed.upgrading {
            Prompt { tokens: 1, ..Prompt::default() }
        } else {
            self.prompt(&placed.body)?
        };
        let generates = self.generates() && !placed.upgrading;
        // Of a limit that is lower than what answers may take, all that is left.
        let expected = placed.model.state.foresight.tokens().saturating_mul(read.unbounded);
        let left = limit.get().saturating_sub(read.tokens.saturating_add(read.bounded));
        let answer = read.bounded.saturating_add(expected.min(left));
        let amount = read.tokens.saturating_add(if generates { answer } else { 0 });
        let taken = pass.key.allowance.take(Good::Tokens, amount, limit, self.proxy.now());
        let taken =
            taken.map_err(|shortage| too_long(&pass.key.name, limit, shortage, &read, amount))?;
        let edit = self.edit_that_asks(placed);
        let tokens = Reserved {
            taken,
            amount,
            prompt: read.tokens,
            generates,
            bound: (read.unbounded == 0).then_some(read.bounded),
            unbounded: generates && (read.bounded, read.unbounded) == (0, 1),
            background: read.background,
            flowed: 0,
            asks_usage: edit.is_some(),
        };
        placed.edits.extend(edit);
        if let Some(pass) = &mut self.record.pass {
            pass.tokens = Some(tokens);
        }
        Ok(())
    }

    /// Does this request take tokens?
    fn speaks(&self, placed: &Placed<'_>) -> bool {
        let kind = placed.model.plan.kind;
        if kind == Kind::Auto && self.row.or_llm && !placed.upgrading {
            return self.asks_language_model(&placed.body);
        }
        speaks(kind, placed.facts.kind)
    }

    /// Is this the body of a request to a language model?
    pub(in crate::proxy) fn asks_language_model(&self, body: &Body) -> bool {
        let headers = &self.session.req_header().headers;
        let (kind, encoding) = (text(headers, "content-type"), text(headers, "content-encoding"));
        asks_language_model(kind, encoding, body.read_so_far(), matches!(body, Body::Whole(..)))
    }

    /// What the body asks for.
    fn prompt(&self, body: &Body) -> Result<Prompt, Refusal> {
        let headers = &self.session.req_header().headers;
        let length = text(headers, "content-length").and_then(|length| length.parse::<u64>().ok());
        let most = length.unwrap_or(self.listener.client.max_body);
        let rest = match body {
            // What follows in a call that lasts is taken as it flows.
            Body::Stream(..) if !self.record.course.converses() => {
                most.saturating_sub(body.read_so_far().len() as u64)
            }
            Body::Whole(..) | Body::Stream(..) => 0,
        };
        let kind = text(headers, "content-type");
        let encoding = text(headers, "content-encoding");
        prompt(kind, encoding, body.read_so_far(), rest).map_err(|problem| {
            Refusal::new(problem.code(), problem.to_string()).about(problem.param())
        })
    }

    /// What makes a stream of OpenAI's tell its usage, where its client did not ask for that.
    fn edit_that_asks(&self, placed: &Placed<'_>) -> Option<Edit> {
        let path = self.asked_path().trim_end_matches('/');
        let whole = matches!(placed.body, Body::Whole(..));
        // Behind the others OpenAI's API is one of several: the body tells.
        let any = path.ends_with("/completions");
        let asks = placed.facts.streaming && whole && (any || path.ends_with("/invocations"));
        asks.then(|| ask_for_usage(placed.body.read_so_far(), !any))?
    }

    /// Takes what flows in a tunnel, or in a call that lasts, while it flows.
    pub(super) fn take_flow(&mut self) {
        let (bytes, now) = (self.record.course.bytes(), self.proxy.now());
        if let Some(pass) = &mut self.record.pass {
            pass.flow(bytes, now);
        }
    }

    /// Tells a client with limits where it stands, as OpenAI does. What a replica says of its own limits is no matter
    /// of this client's.
    pub(super) fn add_limits(&self, head: &mut ResponseHeader) -> pingora_error::Result<()> {
        let Some(pass) = &self.record.pass else { return Ok(()) };
        if pass.key.limits != Limits::default() {
            let foreign =
                head.headers.keys().filter(|name| name.as_str().starts_with("x-ratelimit-"));
            for name in foreign.cloned().collect::<Vec<_>>() {
                head.remove_header(&name);
            }
        }
        for (kind, level) in pass.levels(self.proxy.now()) {
            head.insert_header(format!("x-ratelimit-limit-{kind}"), level.limit.to_string())?;
            head.insert_header(format!("x-ratelimit-remaining-{kind}"), level.left.to_string())?;
            head.insert_header(format!("x-ratelimit-reset-{kind}"), in_words(level.full_in))?;
        }
        Ok(())
    }
}

impl Record {
    /// Settles what was taken of a key. What Evener refused or no replica worked on is given back; what a replica worked on
    /// is not, whoever ended it.
    pub(super) fn settle_limits(&mut self, now: Moment) {
        let course = &self.course;
        let (flows, bytes) = (course.tunnels() || course.converses(), course.bytes());
        let worked = course.worked() || course.tunnels() || course.first_byte().is_some();
        let Some(pass) = &mut self.pass else { return };
        let (request, tokens) = (pass.request.take(), pass.tokens.take());
        let allowance = Arc::clone(&pass.key.allowance);
        let failed = course.error().is_some() || course.class() == Class::Cancelled;
        if let Some(taken) = request.filter(|_| failed && !worked) {
            allowance.settle(Good::Requests, taken, 0, now);
        }
        let Some(reserved) = tokens else { return };
        let whole = course.class() == Class::Success && course.error().is_none();
        let actual = match &self.usage {
            _ if flows && worked => (bytes / BYTES_PER_TOKEN).saturating_sub(reserved.flowed),
            Some(scan) => reserved.actual(scan, whole),
            // Nothing tells how far the replica got.
            None if worked && !is_answered_by_an_error(course.class()) => reserved.amount,
            None => 0,
        };
        allowance.settle(Good::Tokens, reserved.taken, actual, now);
        let length = self.usage.as_ref().and_then(|scan| scan.usage().completion);
        if let (Some(length), true, Some(model)) =
            (length, whole && reserved.unbounded, &self.model)
        {
            model.state.foresight.learn(length);
        }
    }
}

/// Is that the whole answer, and no work of the model's?
fn is_answered_by_an_error(class: Class) -> bool {
    match class {
        Class::ClientError
        | Class::ServerError
        | Class::Overloaded
        | Class::ConnectFailure
        | Class::Reset => true,
        Class::Success | Class::Timeout | Class::Cancelled | Class::Refused => false,
    }
}

fn has_body(body: &Body) -> bool {
    matches!(body, Body::Stream(..)) || !body.read_so_far().is_empty()
}

/// Does a request to such a model take tokens? Where nothing is known it does: another path must be no way around.
fn speaks(kind: Kind, path: PathKind) -> bool {
    match kind {
        Kind::Llm => true,
        Kind::Predict | Kind::Raw => false,
        Kind::Auto => path != PathKind::Predict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_takes_no_tokens_and_an_unknown_path_may() {
        assert!(speaks(Kind::Auto, PathKind::Llm) && speaks(Kind::Auto, PathKind::Raw));
        assert!(!speaks(Kind::Auto, PathKind::Predict) && !speaks(Kind::Raw, PathKind::Llm));
        assert!(speaks(Kind::Llm, PathKind::Predict));
    }
}
