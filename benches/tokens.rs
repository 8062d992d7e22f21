//! What it costs to refuse a token, whatever shape it has, and to know one that was verified before.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use evener::access::{Digest, Jwks, TokenTerms, Tries, Verified, named_by};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};
use std::hint::black_box;

const NOW: i64 = 1500;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let [header, claims] = [header, claims].map(|part| base64(part.to_string()));
    format!("{header}.{claims}.{}", base64(signature))
}

/// A hundred keys of each kind.
fn keys() -> Jwks {
    let random = SystemRandom::new();
    let mut keys = Vec::new();
    for n in 0..100_u8 {
        let ed = Ed25519KeyPair::from_seed_unchecked(&[n; 32]).expect("any seed makes a key");
        keys.push(json!({"kty": "OKP", "crv": "Ed25519", "kid": n.to_string(), "x": base64(ed.public_key())}));
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("there is randomness");
        let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).expect("its own key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        keys.push(json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)}));
        // No modulus of a key pair, and as much work as one.
        for bytes in [256, 512] {
            let n: Vec<u8> = (0..bytes).map(|at| n.wrapping_mul(31) ^ (at as u8) | 0x81).collect();
            keys.push(json!({"kty": "RSA", "n": base64(n), "e": "AQAB"}));
        }
    }
    Jwks::parse(&json!({"keys": keys}).to_string()).expect("a set of keys")
}

fn benches(c: &mut Criterion) {
    let keys = keys();
    let [issuer, audience, claim] = ["i", "a", "sub"].map(str::to_owned);
    let terms = TokenTerms { issuer, audience, claim };
    let good = json!({"iss": "i", "aud": "a", "sub": "alice", "exp": 2000});
    let mut padded = good.clone();
    padded["pad"] = "x".repeat(5000).into();
    let deep = format!(r#"{{"x":{}1{},"iss":"o"}}"#, "[".repeat(2900), "]".repeat(2900));
    let deep = format!("{}.{}.{}", base64(r#"{"alg":"EdDSA"}"#), base64(deep), base64([1; 64]));
    let mut group = c.benchmark_group("refuse");
    for (name, token) in [
        ("garbage", "x".repeat(8000)),
        ("another issuer", token(&json!({"alg": "EdDSA"}), &json!({"iss": "o"}), &[1; 64])),
        ("deep claims", deep),
        ("EdDSA, no kid", token(&json!({"alg": "EdDSA"}), &good, &[1; 64])),
        ("EdDSA, no kid, 8 KB", token(&json!({"alg": "EdDSA"}), &padded, &[1; 64])),
        ("EdDSA, kid", token(&json!({"alg": "EdDSA", "kid": "7"}), &good, &[1; 64])),
        ("ES256, no kid", token(&json!({"alg": "ES256"}), &good, &[1; 64])),
        ("RS256 of 2048 bits, no kid", token(&json!({"alg": "RS256"}), &good, &[1; 256])),
        ("RS256 of 4096 bits, no kid", token(&json!({"alg": "RS256"}), &good, &[1; 512])),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let digest = Digest::of(black_box(token.as_bytes()));
                let named = named_by(black_box(&token), &keys, &terms, NOW, &mut Tries::default());
                assert!(named.is_err());
                digest
            });
        });
    }
    group.finish();
    let mut verified = Verified::new(512);
    let known = token(&json!({"alg": "EdDSA"}), &good, &[1; 64]);
    verified.put(Digest::of(known.as_bytes()), 7, 2000);
    c.bench_function("know again", |b| {
        b.iter(|| verified.get(&Digest::of(black_box(known.as_bytes())), NOW));
    });
}

criterion_group!(tokens, benches);
criterion_main!(tokens);
