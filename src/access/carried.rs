//! Where a request carries its secret.

/// The headers that may carry one, in this order.
pub const CARRIERS: [&str; 2] = ["authorization", "x-api-key"];

/// No secret is longer: hashing what a stranger sends must cost little.
pub const LONGEST_SECRET: usize = 8 << 10;

/// The secret in the value of one of [`CARRIERS`]; `None` where there is none, or another scheme's.
pub fn secret_in<'v>(carrier: &str, value: &'v [u8]) -> Option<&'v [u8]> {
    let value = value.trim_ascii();
    let secret = if carrier == CARRIERS[0] {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, secret) = value.split_at(space);
        scheme.eq_ignore_ascii_case(b"bearer").then(|| secret.trim_ascii())?
    } else {
        value
    };
    (!secret.is_empty()).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_follows_bearer_or_the_whole_of_x_api_key() {
        let found = |carrier, value: &str| {
            secret_in(carrier, value.as_bytes()).map(|s| String::from_utf8_lossy(s).into_owned())
        };
        assert_eq!(found("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(found("authorization", " bEARER   abc ").as_deref(), Some("abc"));
        for none in ["Basic abc", "Bearer", "Bearer  ", "abc", "", "Bearerabc"] {
            assert_eq!(found("authorization", none), None, "{none}");
        }
        assert_eq!(found("x-api-key", " abc ").as_deref(), Some("abc"));
        assert_eq!(found("x-api-key", " "), None);
    }
}
