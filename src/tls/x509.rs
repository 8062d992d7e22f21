//! The little of a certificate that is shown to people: whose it is, and how long it lasts.
//!
//! What decides whether to trust one is webpki's; this walks over the DER (X.690) without judging it.
use jiff::civil::date;
use jiff::tz::Offset;

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The version of a certificate that says one.
const VERSION: u8 = 0xa0;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Unix seconds.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) common_name: Option<String>,
}

/// `None`: it is no certificate.
pub(super) fn summary(der: &[u8]) -> Option<Summary> {
    let certificate = Walk(der).enter(SEQUENCE)?;
    let mut walk = Walk(Walk(certificate).enter(SEQUENCE)?);
    if walk.0.first() == Some(&VERSION) {
        walk.enter(VERSION)?;
    }
    walk.enter(INTEGER)?;
    walk.enter(SEQUENCE)?; // the signature's algorithm
    walk.enter(SEQUENCE)?; // the issuer
    let mut validity = Walk(walk.enter(SEQUENCE)?);
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let common_name = common_name(walk.enter(SEQUENCE)?);
    Some(Summary { not_before, not_after, common_name })
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut subject = Walk(subject);
    while let Some(set) = subject.enter(SET) {
        let mut pair = Walk(Walk(set).enter(SEQUENCE)?);
        if pair.enter(OBJECT)? == COMMON_NAME {
            let (_, text) = pair.next()?;
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }
    None
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5), as Unix seconds.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let (month, day) = (two(0)?, two(2)?);
    let (hour, minute, second) = (two(4)?, two(6)?, two(8)?);
    let known = (1..=9999).contains(&year) && (1..=12).contains(&month);
    let days = if known { date(year, month, 1).days_in_month() } else { 0 };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let at = date(year, month, day).at(hour, minute, second, 0);
    Some(Offset::UTC.to_timestamp(at).ok()?.as_second())
}

/// Goes over elements that follow each other.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn enter(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, body) = self.next()?;
        (tag == wanted).then_some(body)
    }

    /// The tag and the body of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (body, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn made() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Models");
        params.distinguished_name.push(DnType::CommonName, "Ä name");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn name_and_dates_are_found() {
        let found = summary(&made()).unwrap();
        assert_eq!(found.not_before, 1_709_164_800);
        assert_eq!(found.not_after, 2_556_230_400); // in the other form of time
        assert_eq!(found.common_name.as_deref(), Some("Ä name"));
    }

    #[test]
    fn days_that_are_not_in_the_calendar_are_no_time() {
        for text in ["20230229000000Z", "20231301000000Z", "20230101240000Z", "2023010100000Z", "x"]
        {
            assert_eq!(time((GENERALIZED_TIME, text.as_bytes())), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_nothing_panics(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut der = made();
            let end = der.len();
            der[at % end] = byte;
            summary(&der[..end - cut % end]);
        }
    }
}
