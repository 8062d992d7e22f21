//! What a client is told whose key has used up a limit.
use crate::access::{PerMinute, Shortage};
use crate::dialect::{Prompt, RefusalCode};
use crate::flow::Refusal;
use std::time::Duration;

/// No request is left.
pub(in crate::proxy) fn too_many(name: &str, limit: PerMinute, shortage: Shortage) -> Refusal {
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
pub(super) fn too_long(
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
pub(in crate::proxy) fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
}

/// As OpenAI writes durations: `0s`, `120ms`, `7s`, `6m0s`.
pub(super) fn in_words(duration: Duration) -> String {
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
}
