//! Numbers as people read them.

/// "12 160".
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A fraction with two digits that tell something: "4.8 %", "0.42 %", "25 %".
pub fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let places = if percent >= 9.95 || percent <= 0.0 {
        0
    } else {
        (1.0 - percent.log10().floor()).clamp(1.0, 4.0) as usize
    };
    let text = format!("{percent:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// "45 s", "12 min", "2 h 5 min".
pub fn span(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    if whole < 100 {
        return format!("{whole} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// How seldom evidence so strong comes by chance; `log`: its logarithm. Rounded down to one digit, as it is a bound.
pub(super) fn chance(log: f64) -> String {
    if log >= 1e9_f64.ln() {
        return "less than once in a billion roll-outs".to_owned();
    }
    let odds = log.exp().max(1.0);
    let unit = 10_f64.powf((odds.log10() + 1e-9).floor());
    let rounded = ((odds / unit + 1e-9).floor() * unit).round() as u64;
    format!("less than once in {} roll-outs", grouped(rounded))
}

/// "1.1", "0.8", "48", "2".
pub(super) fn decimal(value: f64) -> String {
    let places = usize::from(value < 10.0);
    let places = if value < 1.0 { 2 } else { places };
    let text = format!("{value:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// "once", "twice", "3 times".
pub(super) fn times(n: usize) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// With its first letter in upper case.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// "some 240": two digits, rounded up.
pub(super) fn some(n: u64) -> String {
    let mut unit = 1;
    while n / unit >= 100 {
        unit *= 10;
    }
    let rounded = n.div_ceil(unit) * unit;
    if unit == 1 { grouped(n) } else { format!("some {}", grouped(rounded)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_plain() {
        assert_eq!(
            [7, 640, 8_000, 12_160, 1_234_567].map(grouped).join("|"),
            "7|640|8 000|12 160|1 234 567"
        );
        let fractions = [0.0, 0.000_12, 0.004_2, 0.01, 0.0484, 0.05, 0.25, 0.333, 1.0];
        assert_eq!(
            fractions.map(percent).join("|"),
            "0 %|0.012 %|0.42 %|1 %|4.8 %|5 %|25 %|33 %|100 %"
        );
        assert_eq!(
            [0.4, 45.0, 99.0, 720.0, 7_500.0, 7_200.0].map(span).join("|"),
            "0 s|45 s|99 s|12 min|2 h 5 min|2 h"
        );
        assert_eq!([9, 99, 233, 2_401].map(some).join("|"), "9|99|some 240|some 2 500");
    }

    #[test]
    fn chances_are_bounds() {
        assert_eq!(chance(8_999_f64.ln()), "less than once in 8 000 roll-outs");
        assert_eq!(chance(100_f64.ln()), "less than once in 100 roll-outs");
        assert_eq!(chance(30.0), "less than once in a billion roll-outs");
    }
}
