//! Single values: durations, sizes, percents, numbers; read and written.
use crate::access::MinRate;
use std::time::Duration;

/// Why a text is not the value it should be. The reader adds the key and the place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Complaint {
    pub(super) code: &'static str,
    /// Follows the key's name: "is `5x`, which is not a duration".
    pub(super) what: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl Complaint {
    pub(super) fn new(code: &'static str, what: impl Into<String>, label: &str) -> Self {
        Self { code, what: what.into(), label: label.to_owned(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

pub(super) type Read<T> = Result<T, Complaint>;

const LONGEST: Duration = Duration::from_hours(365 * 24);

/// `250ms`, `5s`, `10m`, `1h`, `1m30s`, `0`.
pub(super) fn duration(text: &str) -> Read<Duration> {
    let bad = || {
        let what = format!("is `{text}`, which is not a duration");
        let help = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            format!("add a unit: `{text}s` or `{text}ms`")
        } else {
            "write a number and a unit: `250ms`, `5s`, `10m`, `1h`".to_owned()
        };
        Complaint::new("bad-duration", what, "not a duration").help(help)
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let micros = match &rest[..letters] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3600e6,
            _ => return Err(bad()),
        };
        total += number * micros;
        rest = &rest[letters..];
    }
    if total > LONGEST.as_micros() as f64 {
        let what = format!("is `{text}`, which is longer than a year");
        return Err(Complaint::new("out-of-range", what, "too long"));
    }
    Ok(Duration::from_micros(total.round() as u64))
}

/// The shortest spelling that reads back as the same.
pub(super) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, each) in [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)] {
        if micros >= each && micros.is_multiple_of(each) {
            return format!("{}{unit}", micros / each);
        }
    }
    if micros == 0 { "0s".to_owned() } else { format!("{micros}us") }
}

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// `64KiB`, `10MiB`, `1GiB`, decimal `10MB`, or plain bytes.
pub(super) fn size(text: &str) -> Read<u64> {
    let letters = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(letters);
    let unit = unit.trim_start();
    let each = match unit {
        "" => Some(1),
        unit => SIZES.iter().find(|(name, _)| *name == unit).map(|(_, each)| *each),
    };
    let bytes = number.parse::<f64>().ok().zip(each).map(|(number, each)| number * each as f64);
    match bytes {
        Some(bytes) if bytes < (1_u64 << 53) as f64 => Ok(bytes.round() as u64),
        Some(_) => {
            let what = format!("is `{text}`, which is more than any machine has");
            Err(Complaint::new("out-of-range", what, "too large"))
        }
        None => {
            let what = format!("is `{text}`, which is not a size");
            Err(Complaint::new("bad-size", what, "not a size")
                .help("write bytes, or a number and a unit: `64KiB`, `10MiB`, `1GiB`"))
        }
    }
}

pub(super) fn show_size(bytes: u64) -> String {
    for (unit, each) in &SIZES[..3] {
        if bytes >= *each && bytes.is_multiple_of(*each) {
            return format!("{}{unit}", bytes / each);
        }
    }
    bytes.to_string()
}

/// `1KiB/s`, `500B/s`, `0`: bytes per second.
pub(super) fn rate(text: &str) -> Read<u64> {
    if text == "0" {
        return Ok(0);
    }
    let each = text.strip_suffix("/s").map(str::trim_end).filter(|size| !size.is_empty());
    each.and_then(|each| size(each).ok()).ok_or_else(|| {
        let what = format!("is `{text}`, which is not a size per second");
        Complaint::new("bad-rate", what, "not a rate")
            .help("write a size and `/s`: `1KiB/s`, `500B/s`; `null` for no minimum")
    })
}

pub(super) fn show_rate(rate: MinRate) -> String {
    format!("{}/s", show_size(rate.get()))
}

/// `5`, `0.5`, `5%`: percent, any number. Bounds are checked where the meaning is known.
pub(super) fn percent(text: &str) -> Read<f64> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    plain(number).ok_or_else(|| {
        let what = format!("is `{text}`, which is not a percentage");
        Complaint::new("bad-percent", what, "not a percentage")
            .help("write a number, with or without `%`: `5`, `0.5`, `\"5%\"`")
    })
}

/// A percentage from 0 to 100.
pub(super) fn part(text: &str) -> Read<f64> {
    let percent = percent(text)?;
    if (0.0..=100.0).contains(&percent) {
        return Ok(percent);
    }
    let what = format!("is `{text}`, which is not between 0 and 100");
    Err(Complaint::new("out-of-range", what, "not between 0 and 100"))
}

pub(super) fn number(text: &str) -> Read<f64> {
    plain(text).ok_or_else(|| {
        let what = format!("is `{text}`, which is not a number");
        Complaint::new("bad-number", what, "not a number")
    })
}

/// A finite decimal number, without what Rust alone reads (`inf`, `NaN`).
fn plain(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| decimal && number.is_finite())
}

/// A whole number in bounds.
pub(super) fn count(text: &str, least: u64, most: u64) -> Read<u64> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Err(_) if text.parse::<i128>().is_err() => {
            let what = format!("is `{text}`, which is not a whole number");
            Err(Complaint::new("bad-number", what, "not a whole number"))
        }
        _ => {
            let what = format!("is `{text}`; it must be between {least} and {most}");
            Err(Complaint::new("out-of-range", what, "out of range"))
        }
    }
}

pub(super) fn flag(text: &str) -> Read<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => {
            let what = format!("is `{text}`; it must be `true` or `false`");
            Err(Complaint::new("unknown-value", what, "neither `true` nor `false`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_take_one_unit_or_several() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5h").unwrap(), Duration::from_mins(90));
    }

    #[test]
    fn a_duration_without_a_unit_is_told_about_units() {
        assert_eq!(duration("5").unwrap_err().help.unwrap(), "add a unit: `5s` or `5ms`");
        for bad in ["", "s", "5x", "-1s", "1e3s", "5 s", "1..2s", "9999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(size("10MB").unwrap(), 10_000_000);
        assert_eq!(size("123").unwrap(), 123);
        for bad in ["", "KiB", "10Mi", "-5", "1e9999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_sizes_for_each_second() {
        assert_eq!(rate("1KiB/s").unwrap(), 1024);
        assert_eq!(rate("500 B/s").unwrap(), 500);
        assert_eq!(rate("0").unwrap(), 0);
        assert_eq!(show_rate(MinRate::new(1024).unwrap()), "1KiB/s");
        for bad in ["", "/s", "1KiB", "1KiB/m", "-1B/s", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percents_may_carry_their_sign() {
        assert!((percent("0.5").unwrap() - percent("0.5%").unwrap()).abs() < 1e-12);
        for bad in ["inf", "NaN", "%", "five"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(micros in 0_u64..31_000_000_000_000) {
            let value = Duration::from_micros(micros);
            prop_assert_eq!(duration(&show_duration(value)).unwrap(), value);
        }

        #[test]
        fn a_shown_size_reads_back(bytes in 0_u64..1 << 50) {
            prop_assert_eq!(size(&show_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_text_makes_them_panic(text in ".{0,12}") {
            let _ = (duration(&text).is_ok(), size(&text).is_ok(), percent(&text).is_ok());
        }
    }
}
