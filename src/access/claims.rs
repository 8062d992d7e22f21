//! What a token says of itself: its header, and of its claims those that decide.
//!
//! Both are read before any signature is verified, so reading is cheap whatever a stranger wrote: nothing but the named
//! fields is kept, and what nests is passed over without recursion.
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The header.
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kid: Option<Cow<'a, str>>,
    pub(super) crit: Option<IgnoredAny>,
}

/// The claims that decide.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) issuer: Option<String>,
    pub(super) audience: Vec<String>,
    pub(super) ends: Option<f64>,
    pub(super) begins: Option<f64>,
    /// The text of the claim that names the key.
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Reads them; `claim` names the key. `None`: this is no set of claims, or one of them stands twice (RFC 7519 §4).
    pub(super) fn read(json: &[u8], claim: &str) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let claims = Wanted(claim).deserialize(&mut json).ok()?;
        json.end().ok().map(|()| claims)
    }
}

/// Reads a mapping with this claim as the name.
struct Wanted<'c>(&'c str);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Claims;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Claims, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Claims::default();
        let mut seen = Vec::with_capacity(5);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let registered = ["iss", "aud", "exp", "nbf"].into_iter().find(|known| *known == key);
            let wanted = registered.or((key == self.0).then_some("name"));
            if let Some(known) = wanted {
                if seen.contains(&known) {
                    return Err(A::Error::custom("a claim stands twice"));
                }
                seen.push(known);
            }
            match wanted {
                Some("iss") => claims.issuer = map.next_value()?,
                Some("aud") => {
                    claims.audience = match map.next_value::<Option<Audience>>()? {
                        None => Vec::new(),
                        Some(Audience::One(one)) => vec![one],
                        Some(Audience::Many(many)) => many,
                    };
                }
                Some("exp") => claims.ends = map.next_value()?,
                Some("nbf") => claims.begins = map.next_value()?,
                Some(_) => {
                    let value: &RawValue = map.next_value()?;
                    claims.name = serde_json::from_str(value.get()).ok();
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if self.0 == "iss" {
            claims.name.clone_from(&claims.issuer);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_that_decide_are_read_and_all_others_passed_over() {
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        let json = format!(
            r#"{{"x":{deep},"iss":"i","aud":["a","b"],"exp":2e3,"e\u006dail":"n","sub":{{"name":1}}}}"#
        );
        let claims = Claims::read(json.as_bytes(), "email").unwrap();
        assert_eq!(claims.issuer.as_deref(), Some("i"));
        assert_eq!(
            (claims.audience, claims.name.as_deref()),
            (vec!["a".into(), "b".into()], Some("n"))
        );
        assert_eq!((claims.ends, claims.begins), (Some(2000.0), None));
        assert_eq!(Claims::read(json.as_bytes(), "sub").unwrap().name, None, "it is no text");
        assert_eq!(Claims::read(json.as_bytes(), "iss").unwrap().name.as_deref(), Some("i"));
    }

    #[test]
    fn what_is_no_set_of_claims_or_says_one_twice_is_none() {
        for json in [
            "",
            "[]",
            "7",
            r#"{"exp":"2000"}"#,
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"exp":1,"exp":2}"#,
            r#"{"sub":"a"} x"#,
        ] {
            assert!(Claims::read(json.as_bytes(), "sub").is_none(), "{json}");
        }
        assert!(Claims::read(br#"{"other":1,"other":2}"#, "sub").is_some());
    }
}
