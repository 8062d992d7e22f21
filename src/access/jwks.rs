//! The public keys that sign tokens, from a JWK set (RFC 7517).
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use std::fmt;

/// How a token may be signed. `none` and the symmetric ones are no members, so that no token can ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Es256,
    EdDsa,
}

impl Alg {
    pub const NAMES: [&str; 3] = ["RS256", "ES256", "EdDSA"];

    pub fn named(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::EdDsa].into_iter().find(|alg| alg.name() == name)
    }

    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// One key. What it is decides how it verifies, whatever a token says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    pub id: Option<String>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys of a file that can verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks(pub Vec<VerifyKey>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// There in private keys only.
    d: Option<serde::de::IgnoredAny>,
}

impl Jwks {
    /// Reads a set. Keys for other purposes are passed over; a set with none that serves is an error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let set: Set = serde_json::from_str(text).map_err(|error| {
            let text = error.to_string();
            if text.contains("missing field `keys`") {
                "it has no `keys`: a JWK set is `{\"keys\": [...]}`".to_owned()
            } else {
                format!("it is not a JWK set: {text}")
            }
        })?;
        let mut keys = Vec::new();
        for (index, value) in set.keys.into_iter().enumerate() {
            let jwk: Jwk = serde_json::from_value(value)
                .map_err(|error| format!("key {} of it is not a JWK: {error}", index + 1))?;
            if jwk.d.is_some() {
                return Err(format!(
                    "key {} of it is a private key, which belongs to the issuer alone",
                    index + 1
                ));
            }
            keys.extend(jwk.read().map_err(|why| format!("key {} of it {why}", index + 1))?);
        }
        if keys.is_empty() {
            let names = Alg::NAMES.join(", ");
            return Err(format!("it has no key that verifies signatures of {names}"));
        }
        Ok(Self(keys))
    }
}

impl Jwk {
    /// `None`: it is for something else.
    fn read(self) -> Result<Option<VerifyKey>, &'static str> {
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if self.r#use.as_deref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !verifies(ops))
        {
            return Ok(None);
        }
        let curve = self.crv.as_deref().unwrap_or_default();
        let material = match (self.kty.as_str(), curve) {
            ("RSA", _) => {
                let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
                if n.len() < 256 {
                    return Err("is an RSA key of fewer than 2048 bits");
                }
                Material::Rsa { n, e }
            }
            ("EC", "P-256") => {
                let (x, y) = (bytes(self.x.as_ref(), 32)?, bytes(self.y.as_ref(), 32)?);
                Material::P256([&[4], &*x, &*y].concat())
            }
            ("OKP", "Ed25519") => Material::Ed25519(bytes(self.x.as_ref(), 32)?),
            _ => return Ok(None),
        };
        let key = VerifyKey { id: self.kid, material };
        Ok(self.alg.is_none_or(|alg| alg == key.alg().name()).then_some(key))
    }
}

/// An unsigned number without zeros in front.
fn number(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn bytes(text: Option<&String>, length: usize) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(text)?;
    if bytes.len() == length { Ok(bytes) } else { Err("has a coordinate of a wrong length") }
}

fn decoded(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("lacks a part of its number")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "is not base64url")
}

impl VerifyKey {
    pub fn alg(&self) -> Alg {
        match self.material {
            Material::Rsa { .. } => Alg::Rs256,
            Material::P256(_) => Alg::Es256,
            Material::Ed25519(_) => Alg::EdDsa,
        }
    }

    /// How many bytes each of its signatures has.
    pub(super) fn signature_length(&self) -> usize {
        match &self.material {
            Material::Rsa { n, .. } => n.len(),
            Material::P256(_) | Material::Ed25519(_) => 64,
        }
    }

    /// What it costs to try it, in thirds of 0.1 ms: the work of an RSA key grows with the square of its length.
    pub(super) fn price(&self) -> u32 {
        match &self.material {
            Material::Rsa { n, .. } if n.len() > 512 => 6,
            Material::Rsa { n, .. } if n.len() > 384 => 3,
            Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_) => 2,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyKey({}, {:?})", self.alg().name(), self.id)
    }
}
