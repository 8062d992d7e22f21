//! Why a handshake failed, in words for operators.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has more kinds each year; unknown ones speak for themselves"
)]
use super::identity::day;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// The reason, without rustls's own vocabulary where there is a plainer one. `peer` is a noun: `the replica`.
pub fn in_words(error: &io::Error, peer: &str) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("{peer} closed the connection in the TLS handshake")
            }
            io::ErrorKind::ConnectionReset => {
                format!("{peer} reset the connection in the TLS handshake")
            }
            _ => error.to_string(),
        };
    };
    match error {
        Error::InvalidCertificate(why) => format!("its certificate {}", of_certificate(why)),
        Error::InvalidMessage(_) => format!("{peer} does not speak TLS"),
        Error::AlertReceived(alert) => of_alert(*alert, peer),
        Error::NoCertificatesPresented => format!("{peer} showed no certificate"),
        Error::NoApplicationProtocol => format!("{peer} speaks none of the protocols offered"),
        Error::PeerIncompatible(why) => {
            format!("{peer} and Evener share no way of speaking TLS: {why:?}")
        }
        other => other.to_string(),
    }
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| format!("`{}`", bare(name))).collect();
            let is_for = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("is for {is_for}, not `{}`", expected.to_str())
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired on {}", day(seconds(*not_after)))
        }
        CertificateError::Expired => "expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", day(seconds(*not_before)))
        }
        CertificateError::UnknownIssuer => "has an unknown issuer".to_owned(),
        CertificateError::Revoked => "is revoked".to_owned(),
        CertificateError::BadSignature => "has a bad signature".to_owned(),
        other => format!("is of no use: {other}"),
    }
}

fn of_alert(alert: AlertDescription, peer: &str) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => format!("{peer} wants a client certificate"),
        Alert::UnknownCA => format!("{peer} does not know the issuer of our certificate"),
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired => {
            format!("{peer} does not accept our certificate ({alert:?})")
        }
        Alert::HandshakeFailure => format!("{peer} refused the TLS handshake"),
        Alert::ProtocolVersion => format!("{peer} speaks another version of TLS"),
        Alert::UnrecognisedName => format!("{peer} does not know the name that it was asked for"),
        Alert::NoApplicationProtocol => format!("{peer} speaks none of the protocols offered"),
        alert => format!("{peer} ended the TLS handshake: {alert:?}"),
    }
}

/// `DnsName("a.example")` is `a.example`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(error: Error) -> String {
        in_words(&io::Error::new(io::ErrorKind::InvalidData, error), "the replica")
    }

    #[test]
    fn a_wrong_name_says_both() {
        let why = CertificateError::NotValidForNameContext {
            expected: "y.example".try_into().unwrap(),
            presented: vec![r#"DnsName("x.example")"#.to_owned(), "IpAddress(10.0.0.1)".to_owned()],
        };
        let told = told(why.into());
        assert_eq!(told, "its certificate is for `x.example`, `10.0.0.1`, not `y.example`");
    }

    #[test]
    fn an_expired_certificate_says_since_when() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let why = CertificateError::ExpiredContext { time: at(99), not_after: at(86_400) };
        assert_eq!(told(why.into()), "its certificate expired on 1970-01-02");
        assert_eq!(
            told(CertificateError::UnknownIssuer.into()),
            "its certificate has an unknown issuer"
        );
    }
}
