//! What a request takes of its key's limits: reserved before it is sent, settled once when it is over, whatever ends it.
use super::answer::Refusal;
use super::exchange::{Exchange, Stop};
use super::placed::Placed;
use super::record::Record;
use crate::access::{Level, PerMinute, Shortage, Taken};
use crate::dialect::{PathKind, Prompt, RefusalCode, Usage, generates, prompt};
use crate::fleet::Good;
use crate::health::Class;
use crate::stats::Moment;
use crate::table::{Key, Kind, Limits};
use http::Method;
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;

/// Leave to proceed: whose key it is, and what was taken of it.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) key: Arc<Key>,
    /// Which of the headers that may carry a key do.
    pub(super) carried: [bool; 2],
    request: Option<Taken>,
    tokens: Option<Reserved>,
}

/// Tokens that were set aside.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    taken: Taken,
    amount: u64,
    /// The part of it that the prompt was taken for.
    prompt: u64,
    /// Does it ask for a text?
    generates: bool,
    /// Its answer ends where the model ends it.
    unbounded: bool,
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

    /// The limits as they stand, by the name that their headers have.
    fn levels(&self, now: Moment) -> impl Iterator<Item = (&'static str, Level)> + '_ {
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

impl Exchange<'_> {
    /// Sets aside what this request may take of its key's tokens.
    pub(super) fn reserve_tokens(&mut self, placed: &Placed<'_>) -> Result<(), Stop> {
        let (now, is_test) = (self.proxy.now(), self.record.is_test);
        let Some(pass) = self.record.pass.as_mut().filter(|_| !is_test) else { return Ok(()) };
        let Some(limit) = pass.key.limits.tokens else { return Ok(()) };
        let posts = self.session.req_header().method == Method::POST;
        if !posts || placed.upgrading || !speaks(placed.model.plan.kind, placed.facts.kind) {
            return Ok(());
        }
        let read = prompt(placed.body.read_so_far());
        let generates = generates(&self.record.path);
        let answer = match read.most {
            _ if !generates => 0,
            Some(most) => most,
            // Of a limit that is lower than what answers may take, all that is left.
            None => {
                let expected = placed.model.state.foresight.tokens().saturating_mul(read.choices);
                expected.min(limit.get().saturating_sub(read.tokens))
            }
        };
        let amount = read.tokens.saturating_add(answer);
        let taken = pass.key.allowance.take(Good::Tokens, amount, limit, now);
        let taken =
            taken.map_err(|shortage| too_long(&pass.key.name, limit, shortage, &read, amount))?;
        let unbounded = generates && read.most.is_none() && read.choices == 1;
        pass.tokens = Some(Reserved { taken, amount, prompt: read.tokens, generates, unbounded });
        Ok(())
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
    /// Settles what was taken of a key. What Evener refused or no replica answered is given back.
    pub(super) fn settle_limits(&mut self, now: Moment) {
        let Some(pass) = &mut self.pass else { return };
        let (request, tokens) = (pass.request.take(), pass.tokens.take());
        let allowance = Arc::clone(&pass.key.allowance);
        let began = self.usage.is_some();
        let failed = self.refusal.is_some() || self.class == Class::Cancelled && self.attempts == 0;
        if let Some(taken) = request.filter(|_| failed && !began) {
            allowance.settle(Good::Requests, taken, 0, now);
        }
        let Some(reserved) = tokens else { return };
        let usage = self.usage.as_ref().map(crate::dialect::UsageScan::usage);
        let whole = self.class == Class::Success && self.refusal.is_none();
        let actual = match usage {
            Some(usage) => reserved.actual(usage, self.bytes_out),
            // An answer that cannot be read takes what was expected of it.
            None if whole => reserved.amount,
            // The replica has read the prompt by now, or is about to.
            None if self.class == Class::Cancelled && self.attempts > 0 => reserved.prompt,
            None => 0,
        };
        allowance.settle(Good::Tokens, reserved.taken, actual, now);
        if let (Some(Usage { completion: Some(length), .. }), true, Some(model)) =
            (usage, whole && reserved.unbounded, &self.model)
        {
            model.state.foresight.learn(length);
        }
    }
}

impl Reserved {
    /// What the answer says it took, else what is seen of it.
    fn actual(&self, usage: Usage, bytes: u64) -> u64 {
        let answer = match usage {
            Usage { completion: Some(completion), .. } => completion,
            Usage { prompt: None, .. } if self.generates => bytes.div_ceil(4),
            Usage { .. } => 0,
        };
        usage.prompt.unwrap_or(self.prompt).saturating_add(answer)
    }
}

/// Does a request to such a model take tokens? Where nothing is known it does: another path must be no way around.
fn speaks(kind: Kind, path: PathKind) -> bool {
    match kind {
        Kind::Llm => true,
        Kind::Predict | Kind::Raw => false,
        Kind::Auto => path != PathKind::Predict,
    }
}

/// No request is left.
pub(super) fn too_many(name: &str, limit: PerMinute, shortage: Shortage) -> Refusal {
    let limit = limit.get();
    let s = if limit == 1 { "" } else { "s" };
    let said = format!("key `{name}` may send {limit} request{s} a minute");
    match shortage {
        Shortage::For(wait) => {
            let message = format!("{said}: try again in {} s", whole_seconds(wait));
            Refusal::new(RefusalCode::RateLimited, message).until(wait)
        }
        Shortage::Ever => Refusal::new(RefusalCode::RateLimited, said),
    }
}

/// Not enough tokens are left.
fn too_long(
    name: &str,
    limit: PerMinute,
    shortage: Shortage,
    read: &Prompt,
    amount: u64,
) -> Refusal {
    let (limit, own) = (limit.get(), read.tokens);
    let takes = format!("this request may take {amount} tokens ({own} of them its own text)");
    match shortage {
        Shortage::For(wait) => {
            let wait_s = whole_seconds(wait);
            let message = format!(
                "key `{name}` may use {limit} tokens a minute; {takes}: try again in {wait_s} s"
            );
            Refusal::new(RefusalCode::TokensLimited, message).until(wait)
        }
        // Whoever waited for that would wait for ever.
        Shortage::Ever => {
            let bounded = own <= limit;
            let lower = if bounded { "a lower `max_tokens`" } else { "a shorter text" };
            let message =
                format!("{takes}, and key `{name}` may use {limit} a minute: send {lower}");
            let param = bounded.then_some("max_tokens");
            Refusal::new(RefusalCode::ExceedsTokenLimit, message).about(param)
        }
    }
}

/// Not a moment too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
}

/// As OpenAI writes durations: `0s`, `120ms`, `7s`, `6m0s`.
fn in_words(duration: Duration) -> String {
    if duration < Duration::from_secs(1) && !duration.is_zero() {
        return format!("{}ms", duration.as_nanos().div_ceil(1_000_000));
    }
    let seconds = duration.as_nanos().div_ceil(1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Window;

    #[test]
    fn durations_are_written_as_openai_does_and_never_too_short() {
        for (nanos, words) in [
            (0, "0s"),
            (1, "1ms"),
            (120_000_000, "120ms"),
            (999_000_001, "1000ms"),
            (1_000_000_000, "1s"),
            (1_000_000_001, "2s"),
            (60_000_000_000, "1m0s"),
            (360_000_000_000, "6m0s"),
            (3_661_000_000_000, "1h1m1s"),
        ] {
            assert_eq!(in_words(Duration::from_nanos(nanos)), words);
        }
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(7)), 7);
        assert_eq!(whole_seconds(Duration::from_nanos(7_000_000_001)), 8);
    }

    #[test]
    fn an_answer_takes_what_it_says_else_what_is_seen_of_it() {
        let limit = PerMinute::new(100).unwrap();
        let taken = Window::default().take(50, limit, Moment::ZERO).unwrap();
        let reserved = Reserved { taken, amount: 50, prompt: 10, generates: true, unbounded: true };
        let usage = |prompt, completion| Usage { prompt, completion };
        assert_eq!(reserved.actual(usage(Some(12), Some(7)), 900), 19);
        assert_eq!(reserved.actual(usage(None, Some(7)), 900), 17);
        assert_eq!(reserved.actual(usage(None, None), 401), 111);
        assert_eq!(reserved.actual(usage(Some(12), None), 900), 12);
        assert_eq!(Reserved { generates: false, ..reserved }.actual(usage(None, None), 900), 10);
    }

    #[test]
    fn a_prediction_takes_no_tokens_and_an_unknown_path_may() {
        assert!(speaks(Kind::Auto, PathKind::Llm) && speaks(Kind::Auto, PathKind::Raw));
        assert!(!speaks(Kind::Auto, PathKind::Predict) && !speaks(Kind::Raw, PathKind::Llm));
        assert!(speaks(Kind::Llm, PathKind::Predict));
    }
}
