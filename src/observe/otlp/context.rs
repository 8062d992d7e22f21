//! The header `traceparent` (W3C Trace Context, level 2): in which trace a request is, and who asked.
use crate::stats::Moment;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};

const SAMPLED: u8 = 1;
/// The last 56 bits of the trace's id are random.
const RANDOM: u8 = 2;
/// Of version 00; later ones may only be longer.
const LENGTH: usize = 55;

/// A trace, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// A span within its trace, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From its first byte until a replica is asked.
    Route,
    /// An attempt is known by when it began.
    Attempt(Moment),
    /// From the answer's first byte to the end.
    Relay,
    /// The request is mirrored.
    Copy,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: bool,
    pub random: bool,
}

impl TraceId {
    /// The id of a new trace, of random bits.
    pub fn new(bits: u128) -> Self {
        Self(bits.max(1))
    }

    /// Is a trace that begins here among this fraction? The same for all who ask it of the same id, as
    /// OpenTelemetry's consistent sampling has it.
    pub fn is_among(self, fraction: f64) -> bool {
        const RANDOM_BITS: u32 = 56;
        let random = self.0 as u64 & ((1 << RANDOM_BITS) - 1);
        random as f64 / (1_u64 << RANDOM_BITS) as f64 >= 1.0 - fraction
    }
}

impl SpanId {
    /// The id of a span, of random bits.
    pub fn new(bits: u64) -> Self {
        Self(bits.max(1))
    }

    /// The id of a span of the request whose own this is.
    #[must_use]
    pub fn of(self, part: Part) -> Self {
        let which = match part {
            Part::Attempt(began) => began.as_nanos(),
            Part::Route => u64::MAX,
            Part::Relay => u64::MAX - 1,
            Part::Copy => u64::MAX - 2,
        };
        // The mixing of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection, so siblings differ.
        let mut bits =
            self.0.wrapping_add(which.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::new(bits ^ (bits >> 31))
    }
}

impl Parent {
    /// Reads the header's value. `None`: it says nothing, and a new trace begins.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = text.trim_matches([' ', '\t']).as_bytes();
        let fixed = bytes.get(..LENGTH)?;
        let dashed = [2, 35, 52].iter().all(|at| fixed[*at] == b'-');
        let version = hex(&fixed[..2])?;
        let whole = match bytes.get(LENGTH) {
            None => version != 0xff,
            // What a later version adds is not ours to read.
            Some(next) => version != 0 && version != 0xff && *next == b'-',
        };
        let (trace, span) = (hex(&fixed[3..35])?, hex(&fixed[36..52])? as u64);
        let flags = hex(&fixed[53..])? as u8;
        (dashed && whole && trace != 0 && span != 0).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
        })
    }

    /// As the lowest byte of a span's flags in OTLP.
    pub(super) fn flags(sampled: bool, random: bool) -> u8 {
        (u8::from(sampled) * SAMPLED) | (u8::from(random) * RANDOM)
    }
}

/// The header's value for whoever is asked on behalf of this span.
pub fn traceparent(parent: &Parent) -> String {
    let Parent { trace, span, sampled, random } = parent;
    format!("00-{trace}-{span}-{:02x}", Parent::flags(*sampled, *random))
}

/// Lower case only, as the specification has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_specification_allows_is_read() {
        let parent = Parent::read(GOOD).unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span.to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled && !parent.random);
        for (text, sampled, random) in [
            (GOOD.replace("-01", "-00"), false, false),
            (GOOD.replace("-01", "-03"), true, true),
            (GOOD.replace("-01", "-fe"), false, true),
            (format!(" \t{GOOD}\t"), true, false),
            (GOOD.replacen("00", "cc", 1), true, false),
            (format!("{}-what.the.future.holds", GOOD.replacen("00", "cc", 1)), true, false),
        ] {
            let read = Parent::read(&text);
            assert_eq!(read, Some(Parent { sampled, random, ..parent }), "{text}");
        }
    }

    #[test]
    fn what_the_specification_forbids_begins_a_new_trace() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        for text in [
            "",
            "00",
            "not a traceparent, although it is as long as one would be, or longer",
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0", 1),
            &GOOD.replacen("00-", "00_", 1),
            &GOOD.replace("-01", "_01"),
            &GOOD.replace("-01", "-0"),
            &GOOD.replace("-01", "-0G"),
            &GOOD.to_uppercase(),
            &zero_trace,
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("4bf9", "4bf."),
            &format!("{GOOD}-more"),
            &format!("{}.more", GOOD.replacen("00", "cc", 1)),
            &format!("{GOOD},{GOOD}"),
            &GOOD.replace('f', "é"),
        ] {
            assert_eq!(Parent::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_fraction_of_the_traces_is_sampled() {
        let among = |fraction| {
            let ids = (0..1000_u64).map(|i| {
                TraceId::new(u128::from(SpanId::new(7).of(Part::Attempt(Moment::from_nanos(i))).0))
            });
            ids.filter(|id| id.is_among(fraction)).count()
        };
        assert_eq!((among(0.0), among(1.0)), (0, 1000));
        assert!((200..300).contains(&among(0.25)), "{}", among(0.25));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,70}", ascii in "[0-9a-f-]{50,60}") {
            Parent::read(&text);
            Parent::read(&ascii);
        }

        #[test]
        fn what_is_written_reads_back(
            trace in 1_u128.., span in 1_u64.., sampled: bool, random: bool
        ) {
            let parent = Parent { trace: TraceId(trace), span: SpanId(span), sampled, random };
            prop_assert_eq!(Parent::read(&traceparent(&parent)), Some(parent));
        }
    }
}
