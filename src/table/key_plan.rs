//! `keys` and `jwt` as the file has them.
use crate::access::{Digest, Jwks, PerMinute, TokenTerms};
use std::path::PathBuf;
use std::sync::Arc;

/// One entry of `keys`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyPlan {
    /// Identity across reloads.
    pub name: String,
    /// `None`: only tokens name it.
    pub hash: Option<Digest>,
    /// Names of models that exist; `None`: all.
    pub models: Option<Vec<String>>,
    pub limits: Limits,
}

/// What a key may use; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests: Option<PerMinute>,
    pub tokens: Option<PerMinute>,
}

/// Signed tokens that name a key.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtPlan {
    /// The file of the keys that verify.
    pub file: PathBuf,
    /// Its text, as it was read with the plan.
    pub keys: Arc<Jwks>,
    pub terms: TokenTerms,
}
