//! The identifier of a request: the one that a trusted peer gave it, or a new one.

/// The client's id when a trusted peer sent a sane one, else a new UUID of version 7 (RFC 9562).
pub(super) fn request_id(sent: Option<&str>, trusted: bool) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    if let Some(id) = sent.filter(|_| trusted).filter(sane) {
        return id.to_owned();
    }
    let millis = u64::try_from(crate::observe::stamp().as_millisecond()).unwrap_or(0);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&super::chance::draw().to_le_bytes());
    random[8..].copy_from_slice(&super::chance::draw().to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_and_sane_request_id_is_kept() {
        assert_eq!(request_id(Some("abc-1"), true), "abc-1");
        for (sent, trusted) in [(Some("abc-1"), false), (Some("a\tb"), true), (Some(""), true)] {
            let id = request_id(sent, trusted);
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        }
    }
}
