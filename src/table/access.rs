//! Whose request is it, which models may it ask for, and how much: `keys` and `jwt` of a plan, and the table's part of them.
use super::generation::Table;
use super::jwt::Jwt;
use super::plan::{ModelPlan, Plan};
use crate::access::{
    Digest, Jwks, LONGEST_SECRET, PerMinute, TokenProblem, TokenTerms, Tries, named_by,
};
use crate::fleet::{Allowance, Fleet};
use std::collections::HashMap;
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

/// A key that requests come with.
#[derive(Debug)]
pub struct Key {
    pub name: Arc<str>,
    models: Option<Vec<String>>,
    pub limits: Limits,
    pub allowance: Arc<Allowance>,
}

impl Key {
    /// Is it kept from some models?
    pub fn is_restricted(&self) -> bool {
        self.models.is_some()
    }

    /// May it use the model of this name (not an alias)?
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|name| name == model))
    }
}

/// Who is let in. Where a table has none, everybody is.
#[derive(Debug)]
pub struct Access {
    keys: Box<[Arc<Key>]>,
    by_digest: HashMap<Digest, usize>,
    by_name: HashMap<Arc<str>, usize>,
    /// What replicas may take for the name of a model: its names here, and those sent upstream.
    spoken: HashMap<Box<str>, Vec<Box<str>>>,
    /// Is one address a replica of several models?
    shares_replicas: bool,
    pub jwt: Option<Jwt>,
}

/// Why nobody is known by a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    NoSuchKey,
    /// No key and no token that is taken is as long.
    TooLong,
    Token(TokenProblem),
    /// The token is good, and no key has its name.
    NoKeyOf(String),
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchKey => f.write_str(
                "the key is not known here: see that it is whole, and was not taken back",
            ),
            Self::TooLong => write!(
                f,
                "the key or token is longer than {LONGEST_SECRET} bytes, and none that is known here is"
            ),
            Self::Token(problem) => write!(f, "the token is not accepted: {problem}"),
            Self::NoKeyOf(name) => {
                let shown: String = name.chars().take(200).collect();
                write!(f, "the token is good, but no key here is called `{shown}`")
            }
        }
    }
}

impl Access {
    pub(super) fn build(plan: &Plan, fleet: &mut Fleet) -> Option<Arc<Self>> {
        if plan.keys.is_empty() {
            return None;
        }
        let living = |plan: &KeyPlan| {
            let name: Arc<str> = plan.name.as_str().into();
            let allowance = fleet.allowance(&name);
            Key { name, models: plan.models.clone(), limits: plan.limits, allowance }.into()
        };
        let keys: Box<[Arc<Key>]> = plan.keys.iter().map(living).collect();
        let digests = plan.keys.iter().enumerate().filter_map(|(i, key)| Some((key.hash?, i)));
        let names = keys.iter().enumerate().map(|(i, key)| (Arc::clone(&key.name), i));
        let jwt = plan.jwt.as_ref().map(Jwt::of);
        Some(Arc::new(Self {
            by_digest: digests.collect(),
            by_name: names.collect(),
            spoken: spoken(&plan.models),
            shares_replicas: shares_replicas(&plan.models),
            keys,
            jwt,
        }))
    }

    /// Whose secret is this? `now` is in Unix seconds; `tries` is shared by all secrets of one request.
    pub fn whose(&self, secret: &[u8], now: i64, tries: &mut Tries) -> Result<&Arc<Key>, Stranger> {
        if secret.len() > LONGEST_SECRET {
            return Err(Stranger::TooLong);
        }
        let digest = Digest::of(secret);
        let verified = || self.jwt.as_ref().and_then(|jwt| jwt.verified(&digest, now));
        if let Some(index) = self.by_digest.get(&digest).copied().or_else(verified) {
            return Ok(&self.keys[index]);
        }
        let token = std::str::from_utf8(secret).ok().filter(|text| text.contains('.'));
        let (Some(jwt), Some(token)) = (&self.jwt, token) else { return Err(Stranger::NoSuchKey) };
        let keys = jwt.keys.load();
        let named = named_by(token, &keys.jwks, &jwt.terms, now, tries).map_err(Stranger::Token)?;
        let Some(index) = self.by_name.get(&*named.name).copied() else {
            return Err(Stranger::NoKeyOf(named.name));
        };
        keys.keep(digest, index, named.until);
        Ok(&self.keys[index])
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.name)
    }

    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.by_name.get(name).map(|index| &self.keys[*index])
    }

    pub fn shares_replicas(&self) -> bool {
        self.shares_replicas
    }

    /// Could a replica take this name for a model that the key may not use?
    pub fn speaks_of_another(&self, key: &Key, name: &str) -> bool {
        let models = self.spoken.get(name).map_or(&[][..], Vec::as_slice);
        !models.is_empty() && !models.iter().any(|model| key.may_use(model))
    }
}

fn spoken(models: &[Arc<ModelPlan>]) -> HashMap<Box<str>, Vec<Box<str>>> {
    let mut spoken: HashMap<Box<str>, Vec<Box<str>>> = HashMap::new();
    for model in models {
        let upstream = model.versions.iter().filter_map(|version| version.upstream_model.as_ref());
        for name in std::iter::once(&model.name).chain(&model.aliases).chain(upstream) {
            spoken.entry(name.as_str().into()).or_default().push(model.name.as_str().into());
        }
    }
    spoken
}

fn shares_replicas(models: &[Arc<ModelPlan>]) -> bool {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    let versions = models.iter().flat_map(|model| model.versions.iter().map(move |v| (model, v)));
    let mut replicas = versions.flat_map(|(model, v)| v.replicas.iter().map(move |r| (model, r)));
    replicas.any(|(model, replica)| {
        *owners.entry(&replica.url.address).or_insert(&model.name) != model.name
    })
}

impl Table {
    /// The names that a key may use, models first, each with its aliases behind it.
    pub fn names_for(&self, key: Option<&Key>) -> impl Iterator<Item = &str> {
        let usable = move |name: &&str| {
            key.is_none_or(|key| self.model(name).is_some_and(|model| key.may_use(&model.name)))
        };
        self.names().filter(usable)
    }
}
