//! The figures of a model or version as text: rates, errors and percentiles.
use super::rates;
use super::terminal::{Paint, Tone};
use crate::admin::Figures;

/// "12.3 req/s, 4% errors".
pub(super) fn traffic(now: &Figures, paint: Paint) -> String {
    let rate = rates::figure(f64::from(now.requests_per_second));
    let percent = now.errors_percent.unwrap_or_default();
    let tone = if percent > 0.0 { Tone::Bad } else { Tone::Faint };
    let percent = (f64::from(percent) * 100.0).round() / 100.0;
    format!("{rate} req/s, {}", paint.on(tone, &format!("{percent}% errors")))
}

/// "p50 145 ms, p95 181 ms, p99 206 ms, first byte p95 61 ms (last 5 min)". `None`: nothing ended lately.
pub(super) fn latencies(now: &Figures) -> Option<String> {
    let each = [("p50", now.p50_ms), ("p95", now.p95_ms), ("p99", now.p99_ms)];
    let first_byte = [("first byte p95", now.first_byte_p95_ms)];
    let known = each.into_iter().chain(first_byte).filter_map(|(name, ms)| Some((name, ms?)));
    let words: Vec<String> = known.map(|(name, ms)| format!("{name} {}", time(ms))).collect();
    let span = span(now.window_seconds);
    (!words.is_empty()).then(|| format!("{} (last {span})", words.join(", ")))
}

/// "0.42 ms", "8.3 ms", "145 ms", "1.81 s", "75 s".
fn time(ms: f32) -> String {
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        1.0..10.0 => format!("{ms:.1} ms"),
        10.0..1e3 => format!("{ms:.0} ms"),
        1e3..1e4 => format!("{:.2} s", ms / 1e3),
        _ => format!("{:.0} s", ms / 1e3),
    }
}

fn span(seconds: u32) -> String {
    if seconds < 100 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_said_with_the_time_they_are_of() {
        let now = Figures {
            requests_per_second: 12.34,
            errors_percent: Some(0.456),
            p50_ms: Some(145.3),
            p95_ms: Some(1_806.0),
            p99_ms: Some(75_400.0),
            window_seconds: 303,
            ..Figures::default()
        };
        assert_eq!(traffic(&now, Paint(false)), "12.3 req/s, 0.46% errors");
        assert_eq!(latencies(&now).unwrap(), "p50 145 ms, p95 1.81 s, p99 75 s (last 5 min)");
        assert_eq!([0.42_f32, 8.31].map(time), ["0.42 ms", "8.3 ms"]);
        assert_eq!(latencies(&Figures::default()), None);
    }
}
