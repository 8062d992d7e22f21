//! Queries as logs may show them: clients send keys and signatures there.
use super::escape::{Slash, decode};
use std::borrow::Cow;

/// Stands where a secret was.
const MASK: &str = "***";

/// Parameters that are secrets by these names, in lower case and with `_` between words.
const NAMES: [&str; 18] = [
    "auth",
    "authorization",
    "bearer",
    "client_assertion",
    // Azure Functions.
    "code",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "pass",
    "passwd",
    "pwd",
    "sas",
    "session",
    "sessionid",
    "sid",
    "sig",
];
/// Or by how their names end: `access_token`, `x-api-key`, `clientSecret`. Not `max_tokens`.
const ENDS: [&str; 19] = [
    "_auth",
    "_bearer",
    "_cookie",
    "_credential",
    "_credentials",
    "_jwt",
    "_key",
    "_key_id",
    "_sig",
    "accesskey",
    "apikey",
    "passphrase",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "signature",
    "subscriptionkey",
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
    (!value.is_empty() && is_secret_name(name)).then_some(name)
}

/// May a parameter, header or cookie of this name, perhaps with escapes, hold a secret? `token`, `x-api-key`, `secretKey`,
/// `api_key[]`, `password1`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.replace('+', " ");
    let name = decode(&name, Slash::Decoded).0;
    let name = name.split('[').next().unwrap_or_default().trim();
    let words = in_words(name.trim_end_matches(|c: char| c.is_ascii_digit()));
    NAMES.contains(&words.trim_matches('_'))
        || ENDS.iter().any(|end| words.ends_with(end))
        || BEGINNINGS.iter().any(|beginning| words.starts_with(beginning))
}

/// In lower case, with `_` between words: `secretKey` and `AWSAccessKeyId` are `secret_key` and `awsaccess_key_id`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut small = false;
    for c in name.chars() {
        if small && c.is_ascii_uppercase() {
            words.push('_');
        }
        small = c.is_ascii_lowercase();
        words.push(if matches!(c, '-' | '.' | ' ') { '_' } else { c.to_ascii_lowercase() });
    }
    words
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
            "code",
            "secretKey",
            "accessKey",
            "subscriptionKey",
            "privateKey",
            "AWSAccessKeyId",
            "api_key[]",
            "credentials[0]",
            "passphrase",
            "bearer",
            "sas",
            "password1",
            "auth_token2",
            "api+key",
            "token%20",
            "+token",
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
            "zipcode=1",
            "decode=1",
            "keys=1",
            "KeyCount=2",
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
