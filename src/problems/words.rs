//! Numbers and times as sentences have them.
use super::failing::Part;
use crate::canary::words::{grouped, percent, span};
use std::time::Duration;

/// "14:02 UTC", or with the date when that is another day.
pub(super) fn since_when(since: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d").to_string();
    let form = if day(since) == day(now) { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    since.strftime(form).to_string()
}

/// "1 replica", "3 replicas".
pub(super) fn count(n: u64, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(n))
}

/// "3 min".
pub(super) fn lasted(time: Duration) -> String {
    span(time.as_secs_f64())
}

/// "100 %".
pub(super) fn rate(part: &Part) -> String {
    percent(part.rate())
}

/// "20 of 20 in the last 5 min", "3 of the last 3".
pub(super) fn counts(part: &Part) -> String {
    let (failed, all) = (grouped(part.failed), grouped(part.all()));
    match part.span {
        Some(span) => format!("{failed} of {all} in the last {}", lasted(span)),
        None => format!("{failed} of the last {all}"),
    }
}

/// "3 of 3 fail their health check, 1 is ejected".
pub(super) fn each<'a>(
    parts: impl IntoIterator<Item = (u32, &'a str, &'a str)>,
    all: u32,
) -> String {
    let some = parts.into_iter().filter(|(n, ..)| *n > 0);
    let words =
        some.map(|(n, one, more)| format!("{n} of {all} {}", if n == 1 { one } else { more }));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let now = at("2026-11-30T14:10:00Z");
        assert_eq!(since_when(at("2026-11-30T14:02:59Z"), now), "14:02 UTC");
        assert_eq!(since_when(at("2026-11-29T23:59:00Z"), now), "2026-11-29 23:59 UTC");
    }

    #[test]
    fn counts_say_of_what_they_are() {
        let part = |span| Part { good: 1, failed: 1_239, span };
        assert_eq!(counts(&part(Some(Duration::from_mins(5)))), "1 239 of 1 240 in the last 5 min");
        assert_eq!(counts(&part(None)), "1 239 of the last 1 240");
        assert_eq!([1, 2].map(|n| count(n, "line")), ["1 line", "2 lines"]);
        let parts = [(3, "fails", "fail"), (0, "is", "are"), (1, "drains", "drain")];
        assert_eq!(each(parts, 4), "3 of 4 fail, 1 of 4 drains");
    }
}
