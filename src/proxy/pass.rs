//! Leave to proceed: whose key a request came with, and what was taken of its limits.
use crate::access::{Level, PerMinute, Shortage, Taken};
use crate::dialect::{Usage, UsageScan};
use crate::fleet::Good;
use crate::stats::Moment;
use crate::table::Key;
use std::sync::Arc;

/// What both sides of a tunnel send is taken for tokens of so many bytes.
pub(super) const BYTES_PER_TOKEN: u64 = 4;
/// As long as it flows, it is taken in steps of so many tokens.
const FLOW_STEP: u64 = 1000;

/// Leave to proceed: whose key it is, and what was taken of it.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) key: Arc<Key>,
    /// Which of the headers that may carry a key do.
    pub(super) carried: [bool; 2],
    pub(super) request: Option<Taken>,
    pub(super) tokens: Option<Reserved>,
}

/// Tokens that were set aside.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Reserved {
    pub(super) taken: Taken,
    pub(super) amount: u64,
    /// The part of it that the prompt was taken for.
    pub(super) prompt: u64,
    /// Does it ask for a text?
    pub(super) generates: bool,
    /// What its answers may take together; `None`: it bounds none, or not all of them.
    pub(super) bound: Option<u64>,
    /// Its one answer ends where the model ends it.
    pub(super) unbounded: bool,
    /// The replica works on after the client has left.
    pub(super) background: bool,
    /// Both sides send as long as they like: so many tokens of that were taken on the way.
    pub(super) flowed: u64,
    /// Evener asked for the usage of a stream, and the client did not.
    pub(super) asks_usage: bool,
}

impl Pass {
    pub(super) fn of(key: &Arc<Key>, carried: [bool; 2]) -> Self {
        Self { key: Arc::clone(key), carried, request: None, tokens: None }
    }

    pub(super) fn take_request(&mut self, now: Moment) -> Result<(), (PerMinute, Shortage)> {
        let Some(limit) = self.key.limits.requests else { return Ok(()) };
        let taken = self.key.allowance.take(Good::Requests, 1, limit, now);
        self.request = Some(taken.map_err(|shortage| (limit, shortage))?);
        Ok(())
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Is there usage in the answer that the client did not ask for?
    pub(super) fn asks_usage(&self) -> bool {
        self.tokens.is_some_and(|tokens| tokens.asks_usage)
    }

    /// Client and replica have sent each other so many bytes: what is not taken of that yet is taken now, in steps.
    pub(super) fn flow(&mut self, bytes: u64, now: Moment) {
        let Some(tokens) = &mut self.tokens else { return };
        let all = bytes / BYTES_PER_TOKEN;
        if all >= tokens.flowed + FLOW_STEP {
            self.key.allowance.spend(Good::Tokens, all - tokens.flowed, now);
            tokens.flowed = all;
        }
    }

    /// The limits as they stand, by the name that their headers have.
    pub(super) fn levels(&self, now: Moment) -> impl Iterator<Item = (&'static str, Level)> + '_ {
        let limits = self.key.limits;
        let kinds = [
            ("requests", Good::Requests, limits.requests),
            ("tokens", Good::Tokens, limits.tokens),
        ];
        kinds.into_iter().filter_map(move |(name, good, limit)| {
            Some((name, self.key.allowance.level(good, limit?, now)))
        })
    }
}

impl Reserved {
    /// What the answer says it took, else what is seen of it. `whole`: it came to its end.
    pub(super) fn actual(&self, scan: &UsageScan, whole: bool) -> u64 {
        let usage = scan.usage();
        let bounded = |estimate: u64| estimate.min(self.bound.unwrap_or(u64::MAX));
        let answer = match usage {
            // What was told while the answer went on is the least of it.
            Usage { completion: Some(told), .. } if !whole && self.generates => {
                told.max(bounded(scan.events().unwrap_or(0)))
            }
            Usage { completion: Some(completion), .. } => completion,
            _ if !self.generates => 0,
            // It tells that there is no answer.
            Usage { prompt: Some(_), .. } => 0,
            // An answer of one piece is made before its first byte leaves.
            _ if !(whole || scan.form().is_stream()) => {
                bounded(scan.estimate()).max(self.amount - self.prompt)
            }
            _ => bounded(scan.estimate()),
        };
        let taken = usage.prompt.unwrap_or(self.prompt).saturating_add(answer);
        // The work goes on, and nobody tells what it comes to.
        let goes_on = scan.is_pending() || (self.background && !whole);
        if goes_on { taken.max(self.amount) } else { taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Window;
    use crate::dialect::UsageForm;

    #[test]
    fn an_answer_takes_what_it_says_else_what_is_seen_of_it() {
        let limit = PerMinute::new(100).unwrap();
        let taken = Window::default().take(50, limit, Moment::ZERO).unwrap();
        let reserved = Reserved {
            taken,
            amount: 50,
            prompt: 10,
            generates: true,
            bound: None,
            unbounded: true,
            background: false,
            flowed: 0,
            asks_usage: false,
        };
        let takes = |reserved: Reserved, form, text: &str, whole| {
            let mut scan = UsageScan::new(form);
            scan.chunk(text.as_bytes());
            reserved.actual(&scan, whole)
        };
        let json = |text, whole| takes(reserved, UsageForm::Json, text, whole);
        assert_eq!(json(r#"{"usage":{"prompt_tokens":12,"completion_tokens":7}}"#, true), 19);
        assert_eq!(json(r#"{"usage":{"completion_tokens":7}}"#, false), 17);
        assert_eq!(json(r#"{"usage":{"prompt_tokens":12}}"#, true), 12);
        let untold = format!("{{\"text\":\"{}\"}}", "x".repeat(389));
        assert_eq!(json(&untold, true), 10 + 100);
        assert_eq!(json("{", false), 50, "all of it was made before it was cut");
        let stream = |text, whole| takes(reserved, UsageForm::Events, text, whole);
        assert_eq!(stream("data: a\n\ndata: b\n\n", false), 12);
        let reads = Reserved { generates: false, ..reserved };
        assert_eq!(takes(reads, UsageForm::Json, &untold, true), 10);
        // What the request bounds, no estimate exceeds.
        let short = Reserved { amount: 40, bound: Some(30), unbounded: false, ..reserved };
        let whole = |reserved, form, text| takes(reserved, form, text, true);
        assert_eq!(whole(short, UsageForm::Json, &untold), 10 + 30);
        assert_eq!(whole(short, UsageForm::Compressed, &untold), 10 + 30);
        let told = r#"{"usage":{"completion_tokens":70}}"#;
        assert_eq!(whole(short, UsageForm::Json, told), 10 + 70, "the server knows better");
        // A beginning of a stream says how it began.
        let begun = "data: {\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
        let few = format!("{begun}{}", "data: {}\n\n".repeat(2));
        assert_eq!(stream(&few, false), 5 + 3);
        assert_eq!(stream(&few, true), 5 + 1);
        let many = format!("{begun}{}", "data: {}\n\n".repeat(39));
        assert_eq!((stream(&many, false), stream(&many, true)), (5 + 40, 5 + 40));
        // Work that goes on behind the answer keeps what was reserved for it.
        let queued = r#"{"id":"resp_1","status":"queued","usage":null}"#;
        assert_eq!((json(queued, true), json(queued, false)), (50, 50));
        assert_eq!(json(r#"{"status":"completed","usage":{"completion_tokens":3}}"#, true), 13);
        let background = Reserved { background: true, ..reserved };
        assert_eq!(takes(background, UsageForm::Events, "data: a\n\n", false), 50);
        assert_eq!(takes(background, UsageForm::Events, "data: a\n\n", true), 11);
        let sealed = |form, whole| takes(reserved, form, &"x".repeat(40), whole);
        assert_eq!(sealed(UsageForm::Compressed, true), 10 + 20);
        assert_eq!(sealed(UsageForm::Compressed, false), 50);
        assert_eq!(sealed(UsageForm::CompressedStream, false), 10 + 20);
    }
}
