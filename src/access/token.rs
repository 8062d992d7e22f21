//! Signed tokens (JWT, RFC 7519) that name a key: verified as RFC 8725 asks, with nothing left to the token's choice.
//!
//! Written on ring, which is here anyway: the kept libraries bring aws-lc or four crates of curves and RSA for the three
//! algorithms that are used.
use super::claims::{Claims, Header};
use super::jwks::{Alg, Jwks};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Seconds by which clocks may differ.
const LEEWAY: i64 = 60;
/// Letters of a header; it has an algorithm, a type and the id of a key.
const LONGEST_HEADER: usize = 1024;

/// What a token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    pub issuer: String,
    pub audience: String,
    /// The claim that names the key.
    pub claim: String,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    #[error("it is not a signed token of three parts")]
    Malformed,
    #[error("it is signed with `{0}`; {names} are accepted", names = Alg::NAMES.join(", "))]
    Alg(String),
    #[error("it has extensions that must be understood, and are not")]
    Critical,
    #[error("no key of the issuer that is known here signed it")]
    Signature,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it says no time at which it ends (`exp`)")]
    Endless,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it has no text in its claim `{0}`")]
    Nameless(String),
}

/// A token that can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What its claim says.
    pub name: String,
    /// Until when, in Unix seconds.
    pub until: i64,
}

/// How many signatures may still be verified, in units of `VerifyKey::price`: each costs as much as ten small requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries(u32);

impl Default for Tries {
    /// Three signatures of the usual keys, two of RSA keys of 4096 bits: at most 0.2 ms.
    fn default() -> Self {
        Self(6)
    }
}

/// The name that a token gives, if all that it says can be relied on. `now` is in Unix seconds. What is cheap is looked at
/// first, so that a signature is verified only for a token that would be good with it.
pub fn named_by(
    token: &str,
    keys: &Jwks,
    terms: &TokenTerms,
    now: i64,
    tries: &mut Tries,
) -> Result<Named, TokenProblem> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenProblem::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenProblem::Malformed)?;
    if payload.contains('.') || header.len() > LONGEST_HEADER {
        return Err(TokenProblem::Malformed);
    }
    let header = decoded(header)?;
    let header: Header<'_> =
        serde_json::from_slice(&header).map_err(|_| TokenProblem::Malformed)?;
    let alg = Alg::named(&header.alg).ok_or_else(|| TokenProblem::Alg(shown(&header.alg)))?;
    if header.crit.is_some() {
        return Err(TokenProblem::Critical);
    }
    // A key verifies as what it is: a token that says otherwise finds none.
    let fits = |id: Option<&str>| header.kid.as_deref().is_none_or(|kid| id == Some(kid));
    let signature = decoded(signature)?;
    let fitting = keys.0.iter().filter(|key| {
        key.alg() == alg && fits(key.id.as_deref()) && key.signature_length() == signature.len()
    });
    let mut fitting = fitting.peekable();
    if fitting.peek().is_none() {
        return Err(TokenProblem::Signature);
    }
    let claims = Claims::read(&decoded(payload)?, &terms.claim).ok_or(TokenProblem::Malformed)?;
    let until = check(&claims, terms, now as f64)?;
    let name = claims.name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| TokenProblem::Nameless(terms.claim.clone()))?;
    for key in fitting {
        tries.0 = tries.0.checked_sub(key.price()).ok_or(TokenProblem::Signature)?;
        if key.verifies(message.as_bytes(), &signature) {
            return Ok(Named { name, until });
        }
    }
    Err(TokenProblem::Signature)
}

/// Until when do these claims hold, if they do?
fn check(claims: &Claims, terms: &TokenTerms, now: f64) -> Result<i64, TokenProblem> {
    if claims.issuer.as_ref() != Some(&terms.issuer) {
        return Err(TokenProblem::Issuer);
    }
    if !claims.audience.contains(&terms.audience) {
        return Err(TokenProblem::Audience);
    }
    let leeway = LEEWAY as f64;
    let ends = claims.ends.ok_or(TokenProblem::Endless)? + leeway;
    if now >= ends {
        return Err(TokenProblem::Expired);
    }
    let begins = claims.begins.unwrap_or(f64::NEG_INFINITY);
    // Rounded down: a token is never kept longer than it holds.
    if now + leeway >= begins { Ok(ends.floor() as i64) } else { Err(TokenProblem::Early) }
}

fn decoded(text: &str) -> Result<Vec<u8>, TokenProblem> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenProblem::Malformed)
}

/// What a client wrote, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use serde_json::{Value, json};

    const NOW: i64 = 1500;
    /// Made by `openssl genrsa 2048`, whose private part is gone.
    const N: &str = "tBMWenmUKHpGhNfuBC_EvzSrTHSKPLZAbq3pzWakRxpUR5NR4kHOgRQYJgmIxs0NMKYObdQAt4Wv588JMyoM7Ooz\
        ODEl3VjNS8Q_OH8iG0USiC5TfQDO2nWNJAiDOCGWsSn3KW5OgHZyAFfW1Lf7S0aqEj6bHlXyN6oAOMUIpcZZnOU1\
        Xn6ibJ6MlRGQPHRVkuEhO-zla94glgGx3jp7lFP9BIlkT-ty2MXFloJwMBQkPPRtcpCWPGTtItX9xi2_ECg_DxRX\
        I7zzycPAC0Sb_l16IMId8tGdSyZ3eJ5BC5gfpXvqd1hvE1CKgzvlHvEr_hErWRUBfTTdzIhzzWkYqQ";
    /// Signed by it: `aud` is `["other", "evener"]`, `sub` alice, and it holds from 1000 to 2000.
    const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY\
        29tIiwiYXVkIjpbIm90aGVyIiwiZXZlbmVyIl0sInN1YiI6ImFsaWNlIiwiZXhwIjoyMDAwLCJuYmYiOjEwMDB9.\
        iwNb1f_PJkGSQonQ0KaKqu5frI8HtDcWF6ohe2QXM48qikG7i6xT33okcZJo5FYZ-21t0NqWP7V7CVJzpMPMRQEK\
        6yKQ_dd30pycbND-XsfnGKgnjRUjOVB7ZyHHQsfSjq4eQ9oy4DSemFCzseFbJJhaJ-gYGwgqGv6paEvj3uKKPBnY\
        AkuJQlDaYcptLEiX-Y1xvhxiSDDE34-chFRTjEZMulZ-1ycy4vsEk_5Bm97_9W2R_zFR0lCpBDQfU2_jy8kU15CB\
        fwnzaeOe2nV7H3vgIm1cTUJIswLF0W8YgjEF-3b3PeQxzfg9vNU6Oe60B-YJ8VnpK5-IWaGwTNF2qQ";

    fn terms() -> TokenTerms {
        let (issuer, audience, claim) = ("https://id.example.com", "evener", "sub");
        TokenTerms { issuer: issuer.into(), audience: audience.into(), claim: claim.into() }
    }

    fn base64(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn ed25519() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn jwks(keys: &[Value]) -> Jwks {
        Jwks::parse(&json!({"keys": keys}).to_string()).unwrap()
    }

    fn ed25519_jwk(id: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64(ed25519().public_key())})
    }

    fn message(header: &Value, claims: &Value) -> String {
        format!("{}.{}", base64(header.to_string()), base64(claims.to_string()))
    }

    fn eddsa(header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = ed25519().sign(message.as_bytes());
        format!("{message}.{}", base64(signature))
    }

    fn claims() -> Value {
        json!({"iss": "https://id.example.com", "aud": "evener", "sub": "alice", "exp": 2000})
    }

    fn named(token: &str, keys: &Jwks) -> Result<String, TokenProblem> {
        let named = named_by(token, keys, &terms(), NOW, &mut Tries::default());
        named.map(|named| named.name)
    }

    #[test]
    fn each_algorithm_is_verified() {
        let rsa =
            json!({"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": N, "e": "AQAB"});
        assert_eq!(named(RS256, &jwks(std::slice::from_ref(&rsa))).as_deref(), Ok("alice"));
        let token = eddsa(&json!({"alg": "EdDSA", "kid": "e"}), &claims());
        assert_eq!(named(&token, &jwks(&[rsa, ed25519_jwk("e")])).as_deref(), Ok("alice"));
        let (random, signing) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
        let message = message(&json!({"alg": "ES256"}), &claims());
        let signature = pair.sign(&random, message.as_bytes()).unwrap();
        let token = format!("{message}.{}", base64(signature));
        assert_eq!(named(&token, &jwks(&[jwk])).as_deref(), Ok("alice"));
    }

    #[test]
    fn a_token_cannot_choose_how_it_is_verified() {
        let keys = jwks(&[ed25519_jwk("e")]);
        for alg in ["none", "None", "HS256", "HS384", "RS512", "ES384", "PS256", ""] {
            let message = message(&json!({"alg": alg}), &claims());
            // As if the public key were a shared secret.
            let secret =
                ring::hmac::Key::new(ring::hmac::HMAC_SHA256, ed25519().public_key().as_ref());
            for signature in [String::new(), base64(ring::hmac::sign(&secret, message.as_bytes()))]
            {
                let found = named(&format!("{message}.{signature}"), &keys);
                assert_eq!(found, Err(TokenProblem::Alg(alg.to_owned())));
            }
        }
        // A good signature under another algorithm's name, another key's id, or extensions.
        let all = claims();
        for (header, problem) in [
            (json!({"alg": "RS256"}), TokenProblem::Signature),
            (json!({"alg": "ES256"}), TokenProblem::Signature),
            (json!({"alg": "EdDSA", "kid": "other"}), TokenProblem::Signature),
            (json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}), TokenProblem::Critical),
            (json!({"kid": "e"}), TokenProblem::Malformed),
        ] {
            assert_eq!(named(&eddsa(&header, &all), &keys), Err(problem), "{header}");
        }
    }

    #[test]
    fn claims_count_only_as_they_must_be() {
        let keys = jwks(&[ed25519_jwk("e")]);
        let with = |change: &Value| {
            let mut all = claims();
            for (name, value) in change.as_object().unwrap() {
                all[name] = value.clone();
            }
            named(&eddsa(&json!({"alg": "EdDSA"}), &all), &keys)
        };
        for good in [json!({}), json!({"exp": 1441}), json!({"nbf": 1560}), json!({"exp": 2000.5})]
        {
            assert_eq!(with(&good).as_deref(), Ok("alice"), "{good}");
        }
        for (bad, problem) in [
            (json!({"iss": "https://id.example.com/"}), TokenProblem::Issuer),
            (json!({"iss": null}), TokenProblem::Issuer),
            (json!({"aud": "evener2"}), TokenProblem::Audience),
            (json!({"aud": []}), TokenProblem::Audience),
            (json!({"aud": null}), TokenProblem::Audience),
            (json!({"exp": null}), TokenProblem::Endless),
            (json!({"exp": 1440}), TokenProblem::Expired),
            (json!({"nbf": 1561}), TokenProblem::Early),
            (json!({"exp": "2000"}), TokenProblem::Malformed),
            (json!({"sub": 7}), TokenProblem::Nameless("sub".into())),
            (json!({"sub": ""}), TokenProblem::Nameless("sub".into())),
        ] {
            assert_eq!(with(&bad), Err(problem), "{bad}");
        }
    }

    #[test]
    fn a_token_holds_until_it_ends_and_not_a_second_longer() {
        let keys = jwks(&[ed25519_jwk("e")]);
        for (exp, until) in [(json!(2000), 2060), (json!(2000.7), 2060), (json!(1e300), i64::MAX)] {
            let mut all = claims();
            all["exp"] = exp;
            let token = eddsa(&json!({"alg": "EdDSA"}), &all);
            let named = named_by(&token, &keys, &terms(), NOW, &mut Tries::default()).unwrap();
            assert_eq!(named.until, until);
            let later = until.saturating_add(1);
            let late = named_by(&token, &keys, &terms(), later, &mut Tries::default());
            assert_eq!(late, if later == until { Ok(named) } else { Err(TokenProblem::Expired) });
        }
    }

    #[test]
    fn three_signatures_are_verified_at_most_and_none_of_what_would_be_refused_anyway() {
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let other = |n: usize| {
            let x = base64(other.public_key());
            json!({"kty": "OKP", "crv": "Ed25519", "kid": format!("o{n}"), "x": x})
        };
        let place = |at: usize| {
            let mut all: Vec<Value> = (0..at).map(other).collect();
            all.push(ed25519_jwk("e"));
            jwks(&all)
        };
        let tried = |token: &str, keys: &Jwks| {
            let mut tries = Tries::default();
            let named = named_by(token, keys, &terms(), NOW, &mut tries);
            (named.is_ok(), (6 - tries.0) / 2)
        };
        let without = eddsa(&json!({"alg": "EdDSA"}), &claims());
        assert_eq!(tried(&without, &place(2)), (true, 3));
        assert_eq!(tried(&without, &place(3)), (false, 3));
        // The id of a key tells which one.
        let with = eddsa(&json!({"alg": "EdDSA", "kid": "e"}), &claims());
        assert_eq!(tried(&with, &place(100)), (true, 1));
        for change in
            [json!({"iss": "x"}), json!({"aud": "x"}), json!({"exp": 1}), json!({"sub": 1})]
        {
            let mut all = claims();
            for (name, value) in change.as_object().unwrap() {
                all[name] = value.clone();
            }
            let token = eddsa(&json!({"alg": "EdDSA"}), &all);
            assert_eq!(tried(&token, &place(2)), (false, 0), "{change}");
        }
        let short = without.trim_end_matches(|letter| letter != '.').to_owned() + "AAAA";
        assert_eq!(tried(&short, &place(2)), (false, 0), "no signature has three bytes");
    }

    #[test]
    fn long_keys_are_tried_less_often() {
        let rsa = |bytes: usize| json!({"kty": "RSA", "n": base64(vec![0x81; bytes]), "e": "AQAB"});
        for (bytes, most) in [(256, 3), (384, 3), (512, 2), (1024, 1)] {
            let keys = jwks(&vec![rsa(bytes); 5]);
            assert_eq!(6 / keys.0[0].price(), most);
            let header = base64(json!({"alg": "RS256"}).to_string());
            let token =
                format!("{header}.{}.{}", base64(claims().to_string()), base64(vec![1; bytes]));
            let mut tries = Tries::default();
            let refused = named_by(&token, &keys, &terms(), NOW, &mut tries);
            assert_eq!((refused, tries.0), (Err(TokenProblem::Signature), 0), "{bytes}");
        }
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = jwks(&[ed25519_jwk("e")]);
        let token = eddsa(&json!({"alg": "EdDSA"}), &claims());
        let parts: Vec<&str> = token.split('.').collect();
        let mut other = claims();
        other["sub"] = json!("root");
        let forged = format!("{}.{}.{}", parts[0], base64(other.to_string()), parts[2]);
        assert_eq!(named(&forged, &keys), Err(TokenProblem::Signature));
        for broken in
            ["", ".", "..", "a.b.c", &token[1..], &format!("{token}."), &format!("{token}.x")]
        {
            assert!(named(broken, &keys).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_set_is_read_with_what_serves_and_refused_without() {
        let encrypts = json!({"kty": "RSA", "use": "enc", "n": N, "e": "AQAB"});
        let symmetric = json!({"kty": "oct", "k": "c2VjcmV0"});
        let rs512 = json!({"kty": "RSA", "alg": "RS512", "n": N, "e": "AQAB"});
        let others = [encrypts, symmetric, rs512];
        let set = jwks(&[&others[..], &[ed25519_jwk("e")]].concat());
        assert_eq!(format!("{set:?}"), "Jwks([VerifyKey(EdDSA, Some(\"e\"))])");
        let parse = |keys: &[Value]| Jwks::parse(&json!({"keys": keys}).to_string()).unwrap_err();
        assert!(parse(&others).contains("no key that verifies"), "{}", parse(&others));
        let mut private = ed25519_jwk("e");
        private["d"] = json!("AAAA");
        assert!(parse(&[private]).contains("private key"));
        let short = json!({"kty": "RSA", "n": base64([0xff; 128]), "e": "AQAB"});
        assert!(parse(&[short]).contains("2048"));
        for text in ["", "[]", "{}", r#"{"keys": 1}"#, r#"{"keys": [1]}"#] {
            assert!(Jwks::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_passes_or_panics(text in "[A-Za-z0-9_.{}\":-]{0,80}", cut in 0_usize..200, with: u8) {
            let keys = jwks(&[ed25519_jwk("e")]);
            prop_assert!(named(&text, &keys).is_err());
            let token = eddsa(&json!({"alg": "EdDSA"}), &claims());
            let mut bytes = token.clone().into_bytes();
            let at = cut % bytes.len();
            bytes[at] = with & 0x7f;
            let changed = String::from_utf8(bytes).unwrap();
            // The last letter of a signature has bits that mean nothing, and must be zero.
            prop_assert!(changed == token || named(&changed, &keys).is_err());
        }
    }
}
