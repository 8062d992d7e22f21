//! Queries as logs may show them: clients send keys and signatures there.
use super::escape::{Slash, decode};
use std::borrow::Cow;

/// Stands where a secret was.
const MASK: &str = "***";

/// Parameters that are secrets by these names, in lower case and with `_` for `-` and `.`.
const NAMES: [&str; 15] = [
    "auth",
    "authorization",
    "client_assertion",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "pass",
    "passwd",
    "pwd",
    "session",
    "sessionid",
    "sid",
    "sig",
];
/// Or by how their names end: `access_token`, `x-api-key`, `clientSecret`. Not `max_tokens`.
const ENDS: [&str; 12] = [
    "_auth",
    "_cookie",
    "_credential",
    "_credentials",
    "_jwt",
    "_key",
    "_sig",
    "apikey",
    "password",
    "secret",
    "signature",
    "token",
];
/// Or by how their names begin: signed URLs of AWS and of Google Cloud.
const BEGINNINGS: [&str; 2] = ["x_amz_", "x_goog_"];

/// A query without the values of its secrets; the rest stays as it was sent.
pub fn masked_query(query: &str) -> Cow<'_, str> {
    // Some servers also take `;` between parameters.
    let is_border = |c: char| c == '&' || c == ';';
    if !query.split(is_border).any(|pair| secret(pair).is_some()) {
        return Cow::Borrowed(query);
    }
    let mut masked = String::with_capacity(query.len());
    for pair in query.split_inclusive(is_border) {
        let bare = pair.trim_end_matches(is_border);
        match secret(bare) {
            Some(name) => masked.extend([name, "=", MASK, &pair[bare.len()..]]),
            None => masked.push_str(pair),
        }
    }
    Cow::Owned(masked)
}

/// The name of a parameter that has a secret.
fn secret(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    (!value.is_empty() && is_secret(name)).then_some(name)
}

/// Is a parameter of this name, perhaps with escapes, a secret?
fn is_secret(name: &str) -> bool {
    let name = decode(name, Slash::Decoded).0.to_ascii_lowercase().replace(['-', '.'], "_");
    NAMES.contains(&&*name)
        || ENDS.iter().any(|end| name.ends_with(end))
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked_by_their_names() {
        for name in [
            "key",
            "KEY",
            "api_key",
            "api-key",
            "apikey",
            "apiKey",
            "x-api-key",
            "subscription-key",
            "token",
            "access_token",
            "sig",
            "signature",
            "password",
            "auth",
            "Authorization",
            "client_secret",
            "X-Amz-Signature",
            "X-Amz-Security-Token",
            "X-Goog-Credential",
            "session",
            "a%70i_key",
            "%6Bey",
        ] {
            assert_eq!(masked_query(&format!("{name}=s3cret")), format!("{name}=***"), "{name}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_was_sent() {
        for query in [
            "",
            "model=chat&stream=true",
            "max_tokens=5",
            "monkey=1",
            "api-version=2024-06-01",
            "key",
            "key=",
            "q=%20a%zz",
            "author=me",
            "design=1",
        ] {
            assert!(matches!(masked_query(query), Cow::Borrowed(same) if same == query), "{query}");
        }
    }

    #[test]
    fn each_parameter_is_masked_by_itself() {
        let masked = masked_query("a=1&key=x=y&b=2;token=z&c");
        assert_eq!(masked, "a=1&key=***&b=2;token=***&c");
    }

    proptest! {
        #[test]
        fn no_value_of_a_secret_is_shown(
            before in "[a-z&;=%]{0,20}",
            name in prop_oneof!["key", "api[-_.]key", "access_token", "x-amz-[a-z]{1,5}", "sig"],
            value in "[A-Z0-9]{4,12}",
            after in "(&[a-z&;=%]{0,20})?",
        ) {
            let query = format!("{before}&{name}={value}{after}");
            prop_assert!(!masked_query(&query).contains(&value), "{query}");
        }
    }
}
