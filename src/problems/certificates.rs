//! Certificates that end, that are not valid yet, or whose new files are of no use.
use super::facts::CertificateFacts;
use super::found::{Code, Found, Severity};
use super::words::count;

const DAY: i64 = 86_400;
/// It is told when it ends in less than so many days; then it is said to be urgent.
const SOON: i64 = 14;
const URGENT: i64 = 3;
/// Days before its end at which it is told anew.
const TOLD: [i64; 4] = [SOON, 7, URGENT, 1];

/// `wall`: the time now, in Unix seconds.
pub(super) fn look(certificate: &CertificateFacts, wall: i64, found: &mut Vec<Found>) {
    let CertificateFacts { owner, name, not_before, not_after, fault } = certificate;
    let make = |code, severity, rank, sentence: String, what_to_do: &str, stage| Found {
        code,
        severity,
        rank,
        subject: format!("{owner}, {name}"),
        model: None,
        sentence,
        what_to_do: what_to_do.to_owned(),
        dated: true,
        stage,
        again: format!("The certificate `{name}` of {owner} works again"),
    };
    let left = not_after - wall;
    let renew = "put a new certificate and its key into its files; they are read at once";
    if left <= 0 {
        let ended = day(*not_after);
        let sentence =
            format!("The certificate `{name}` of {owner} ended on {ended}, and clients refuse it");
        found.push(make(Code::CertificateEnds, Severity::Critical, 0, sentence, renew, u8::MAX));
    } else if left < SOON * DAY {
        let when = in_words(left);
        let sentence =
            format!("The certificate `{name}` of {owner} ends in {when}, on {}", day(*not_after));
        let urgent = left < URGENT * DAY;
        let (severity, rank) =
            if urgent { (Severity::Critical, 1) } else { (Severity::Warning, 3) };
        let stage = TOLD.iter().filter(|days| left < *days * DAY).count();
        found.push(make(Code::CertificateEnds, severity, rank, sentence, renew, stage as u8));
    }
    if *not_before > wall {
        let sentence =
            format!("The certificate `{name}` of {owner} is not valid before {}", day(*not_before));
        let what = "see that this machine's clock is right, or use another certificate";
        found.push(make(Code::CertificateNotYetValid, Severity::Critical, 1, sentence, what, 0));
    }
    if let Some(why) = fault {
        let sentence = format!(
            "The certificate `{name}` of {owner} stays, because its new files are of no use ({why})"
        );
        let what = "write both files again; they are read at once";
        found.push(make(Code::CertificateRejected, Severity::Warning, 2, sentence, what, 0));
    }
}

/// "13 days", "5 hours".
fn in_words(seconds: i64) -> String {
    let n = |unit: i64| (seconds / unit).unsigned_abs();
    if seconds >= 2 * DAY {
        count(n(DAY), "day")
    } else if seconds >= 2 * 3600 {
        count(n(3600), "hour")
    } else {
        count(n(60), "minute")
    }
}

/// "2026-11-30 14:02 UTC".
fn day(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(
        |_| format!("second {unix_seconds}"),
        |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(not_after: i64) -> Vec<Found> {
        let owner = "listener `edge`".to_owned();
        let (name, fault) = ("a.example".to_owned(), None);
        let certificate = CertificateFacts {
            owner,
            name,
            not_before: 0,
            not_after: 1_000_000 + not_after,
            fault,
        };
        let mut found = Vec::new();
        look(&certificate, 1_000_000, &mut found);
        found
    }

    #[test]
    fn the_nearer_the_end_the_worse() {
        assert!(found(14 * DAY).is_empty());
        let one = |left| found(left).pop().map(|found| (found.severity, found.rank, found.stage));
        assert_eq!(one(14 * DAY - 1), Some((Severity::Warning, 3, 1)));
        assert_eq!(one(7 * DAY - 1), Some((Severity::Warning, 3, 2)));
        assert_eq!(one(3 * DAY - 1), Some((Severity::Critical, 1, 3)));
        assert_eq!(one(DAY - 1), Some((Severity::Critical, 1, 4)));
        assert_eq!(one(0), Some((Severity::Critical, 0, u8::MAX)));
        assert!(found(5 * DAY)[0].sentence.contains("ends in 5 days, on 1970-01-17"));
        assert!(
            found(-1)[0].sentence.contains("`a.example` of listener `edge` ended on 1970-01-12")
        );
    }

    #[test]
    fn one_of_tomorrow_and_one_whose_files_are_broken_are_told() {
        let mut found = Vec::new();
        let certificate = CertificateFacts {
            owner: "version `m/v`".to_owned(),
            name: "b".to_owned(),
            not_before: 1_000_000 + DAY,
            not_after: 1_000_000 + 100 * DAY,
            fault: Some("`b.crt` is empty".to_owned()),
        };
        look(&certificate, 1_000_000, &mut found);
        let codes: Vec<Code> = found.iter().map(|found| found.code).collect();
        assert_eq!(codes, [Code::CertificateNotYetValid, Code::CertificateRejected]);
        assert!(found[1].sentence.ends_with("(`b.crt` is empty)"), "{}", found[1].sentence);
    }
}
