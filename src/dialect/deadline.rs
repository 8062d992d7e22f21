//! How long a client is willing to wait, and how that is told to a replica.
use std::time::Duration;

/// A header by which a client sets a deadline, and how its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineHeader {
    /// `x-request-timeout-ms`: whole milliseconds.
    Millis,
    /// `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
    Grpc,
}

impl DeadlineHeader {
    pub const ALL: [Self; 2] = [Self::Millis, Self::Grpc];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Millis => "x-request-timeout-ms",
            Self::Grpc => "grpc-timeout",
        }
    }

    /// What a client wrote; `None` for what cannot be understood.
    pub fn read(self, text: &str) -> Option<Duration> {
        match self {
            Self::Millis => whole(text.trim(), 12).map(Duration::from_millis),
            Self::Grpc => {
                let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
                let n = whole(digits, 8)?;
                Some(match unit {
                    "H" => Duration::from_hours(n),
                    "M" => Duration::from_mins(n),
                    "S" => Duration::from_secs(n),
                    "m" => Duration::from_millis(n),
                    "u" => Duration::from_micros(n),
                    "n" => Duration::from_nanos(n),
                    _ => return None,
                })
            }
        }
    }

    /// What is left, for the replica; never zero, which some would read as none.
    pub fn write(self, left: Duration) -> String {
        match self {
            Self::Millis => left.as_millis().max(1).to_string(),
            Self::Grpc => {
                const MOST: u128 = 99_999_999;
                let units = [(left.as_micros(), 'u'), (left.as_millis(), 'm')];
                let fits = units.into_iter().find(|(n, _)| *n <= MOST);
                let (n, unit) = fits.unwrap_or((u128::from(left.as_secs()).min(MOST), 'S'));
                format!("{}{unit}", n.max(1))
            }
        }
    }
}

/// Digits alone, and not too many of them.
fn whole(text: &str, most: usize) -> Option<u64> {
    let digits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grpc_timeouts_have_a_unit() {
        for (text, read) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("5", None),
            ("S", None),
            ("", None),
            ("123456789m", None),
            ("-5S", None),
            ("5é", None),
        ] {
            assert_eq!(DeadlineHeader::Grpc.read(text), read, "{text}");
        }
        assert_eq!(DeadlineHeader::Millis.read("250"), Some(Duration::from_millis(250)));
        assert_eq!(DeadlineHeader::Millis.read("2.5"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_shortened_at_most_by_its_unit(micros in 1000_u64..4_000_000_000_000) {
            let left = Duration::from_micros(micros);
            for header in DeadlineHeader::ALL {
                let back = header.read(&header.write(left)).unwrap();
                prop_assert!(back <= left);
                prop_assert!(left.saturating_sub(back) < left / 1000 + Duration::from_millis(1));
            }
        }
    }
}
