//! The rest of a request on its way to a replica that is listened to meanwhile: it may answer before it has read all.
use super::buffers::{Buffers, Reservation};
use super::write::{finish_body, write_body};
use crate::access::MinRate;
use crate::dialect::RefusalCode;
use crate::dialect::grpc::{MessageProblem, Messages};
use crate::flow::{Refusal, Stop, Trouble};
use crate::stats::Moment;
use crate::wire::{Reins, ReplicaSession};
use bytes::Bytes;
use std::sync::Arc;

/// Bodies longer than this are fed while the replica is listened to; also the piece by which that is done.
pub(super) const FEED: usize = 64 * 1024;

/// How much of a request a replica has.
pub(super) struct Upload {
    /// All of it.
    pub(super) sent: bool,
    /// What is left to send of a body that is here as a whole.
    pub(super) rest: Bytes,
    /// What reads the messages of a stream as they pass.
    pub(super) passing: Option<Passing>,
}

impl Upload {
    pub(super) const SENT: Self = Self { sent: true, rest: Bytes::new(), passing: None };

    /// Nothing more is expected of the client.
    pub(super) fn client_done(&self) -> bool {
        self.sent || !self.rest.is_empty()
    }

    /// Is a part of a message here, and the rest awaited? It is held meanwhile, so that it may not take as long as the
    /// call.
    pub(super) fn awaits_message(&self) -> bool {
        self.passing.as_ref().is_some_and(|passing| passing.since.is_some())
    }

    /// Gives the replica as much of a long body as it takes.
    pub(super) async fn feed(
        &mut self,
        upstream: &mut ReplicaSession,
        reins: Option<&Arc<Reins>>,
    ) -> Result<(), Trouble> {
        while !self.rest.is_empty() && !reins.is_some_and(|reins| reins.full()) {
            let next = self.rest.split_to(FEED.min(self.rest.len()));
            write_body(upstream, next, false).await?;
            if self.rest.is_empty() {
                self.finish(upstream).await?;
            }
        }
        Ok(())
    }

    /// The client sent its last.
    pub(super) async fn finish(&mut self, upstream: &mut ReplicaSession) -> Result<(), Trouble> {
        self.sent = true;
        finish_body(upstream).await
    }
}

/// What reads the messages of a stream, and the space for the one that is not whole yet.
pub(super) struct Passing {
    messages: Messages,
    space: Reservation,
    /// When the message began that is not whole yet.
    since: Option<Moment>,
}

impl Passing {
    pub(super) fn new(messages: Messages, space: Reservation) -> Self {
        Self { messages, space, since: None }
    }

    /// What the replica gets of what the client sent at `now`; `None`: it was the last. `rate`: the least at which a
    /// message may come.
    pub(super) fn take(
        &mut self,
        read: Option<Bytes>,
        buffers: &Buffers,
        rate: Option<MinRate>,
        now: Moment,
    ) -> Result<Option<Bytes>, Trouble> {
        let Some(bytes) = read else {
            let cut = self.messages.held() > 0;
            return if cut { Err(refused(&MessageProblem::Malformed)) } else { Ok(None) };
        };
        let passed = self.messages.take(&bytes).map_err(|problem| refused(&problem))?;
        let held = self.messages.held() as u64;
        buffers.grow(&mut self.space, held, now).map_err(|why| Trouble::Client(why.into()))?;
        self.since = if held > 0 { Some(self.since.unwrap_or(now)) } else { None };
        if let Some((rate, began)) = rate.zip(self.since)
            && now.since(began) > rate.allows(held)
        {
            return Err(Trouble::Client(slow_message(rate)));
        }
        Ok(Some(passed))
    }
}

fn refused(problem: &MessageProblem) -> Trouble {
    Trouble::Client(Refusal::new(problem.code(), problem.to_string()).into())
}

/// A message of a call that comes too slowly.
fn slow_message(rate: MinRate) -> Stop {
    let rate = rate.get();
    let message = format!(
        "a message came at less than {rate} bytes a second, the `min_rate` of this listener"
    );
    Refusal::new(RefusalCode::RequestTimeout, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::grpc::{frame, put_bytes};
    use std::time::Duration;

    fn message(name: &str) -> Bytes {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, name.as_bytes());
        frame(&out).into()
    }

    fn passing(buffers: &Buffers) -> Passing {
        Passing::new(Messages::new(&[1], "m", None, 1000), buffers.reservation(None))
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_message_that_is_not_whole_is_kept_and_counted() {
        let (buffers, rate) = (Buffers::new(100, Arc::default()), MinRate::new(1));
        let (mut passing, whole) = (passing(&buffers), message("m"));
        let (first, rest) = (whole.slice(..4), whole.slice(4..));
        let passed = passing.take(Some(first), &buffers, rate, at(0)).unwrap();
        assert_eq!(passed, Some(Bytes::new()));
        let mut upload = Upload { sent: false, rest: Bytes::new(), passing: Some(passing) };
        assert!(upload.awaits_message() && !upload.client_done());
        let passing = upload.passing.as_mut().unwrap();
        let passed = passing.take(Some(rest), &buffers, rate, at(1)).unwrap();
        assert_eq!(passed, Some(whole));
        assert!(!upload.awaits_message());
        // The end comes between two messages.
        let passing = upload.passing.as_mut().unwrap();
        assert_eq!(passing.take(None, &buffers, rate, at(2)).unwrap(), None);
    }

    #[test]
    fn a_message_may_be_cut_off_by_nothing() {
        let buffers = Buffers::new(100, Arc::default());
        let refused = |trouble| {
            let Err(Trouble::Client(Stop::Refused(refusal))) = trouble else { panic!("it passed") };
            refusal.code
        };
        let (mut cut, part) = (passing(&buffers), message("m").slice(..4));
        cut.take(Some(part.clone()), &buffers, None, at(0)).unwrap();
        let end = cut.take(None, &buffers, None, at(1));
        assert_eq!(refused(end), RefusalCode::BadRequest);
        // Each byte buys a second, after ten of grace.
        let (mut slow, rate) = (passing(&buffers), MinRate::new(1));
        slow.take(Some(part.slice(..1)), &buffers, rate, at(0)).unwrap();
        slow.take(Some(part.slice(1..2)), &buffers, rate, at(12)).unwrap();
        let late = slow.take(Some(part.slice(2..3)), &buffers, rate, at(14));
        assert_eq!(refused(late), RefusalCode::RequestTimeout);
        // No space is left for it.
        let none = Buffers::new(1, Arc::default());
        let mut greedy = passing(&none);
        let full = greedy.take(Some(part), &none, None, at(0));
        assert_eq!(refused(full), RefusalCode::OutOfBuffers);
    }
}
