//! Whose request is it, which models may it ask for, and how much: `keys` and `jwt` of a plan, and the table's part of them.
use super::jwt::Jwt;
use super::key_plan::{KeyPlan, Limits};
use super::place::place_of;
use super::plan::{ModelPlan, Plan};
use crate::access::{Digest, LONGEST_SECRET, TokenProblem, Tries, named_by};
use crate::fleet::{Allowance, Fleet};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A key that requests come with.
#[derive(Debug)]
pub struct Key {
    pub name: Arc<str>,
    models: Option<Vec<String>>,
    /// Of these, the models that share a replica with one that it may not use.
    crowded: Vec<String>,
    pub limits: Limits,
    pub allowance: Arc<Allowance>,
}

impl Key {
    /// Is it kept from some models?
    pub fn is_restricted(&self) -> bool {
        self.models.is_some()
    }

    /// Could a replica of this model serve it another one, which it may not use?
    pub fn is_crowded(&self, model: &str) -> bool {
        self.crowded.iter().any(|name| name == model)
    }

    /// Is that so for some model?
    pub fn is_crowded_anywhere(&self) -> bool {
        !self.crowded.is_empty()
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
    pub(super) spoken: HashMap<Box<str>, Vec<Box<str>>>,
    /// The same, as [`bare_name`] has them.
    bare: HashMap<Box<str>, Vec<Box<str>>>,
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
    pub(super) fn build(plan: &Plan, fleet: &Fleet) -> Option<Arc<Self>> {
        if plan.keys.is_empty() {
            return None;
        }
        let neighbors = neighbors(&plan.models);
        let living = |plan: &KeyPlan| {
            let name: Arc<str> = plan.name.as_str().into();
            let (allowance, limits) =
                (fleet.allowance(&name).map(Arc::clone).unwrap_or_default(), plan.limits);
            let crowded = crowded(plan.models.as_deref(), &neighbors);
            Key { name, models: plan.models.clone(), crowded, limits, allowance }.into()
        };
        let keys: Box<[Arc<Key>]> = plan.keys.iter().map(living).collect();
        let digests = plan.keys.iter().enumerate().filter_map(|(i, key)| Some((key.hash?, i)));
        let names = keys.iter().enumerate().map(|(i, key)| (Arc::clone(&key.name), i));
        let jwt = plan.jwt.as_ref().map(Jwt::of);
        let spoken = spoken(&plan.models);
        Some(Arc::new(Self {
            by_digest: digests.collect(),
            by_name: names.collect(),
            bare: bare(&spoken),
            spoken,
            keys,
            jwt,
        }))
    }

    /// Everybody who is let in, in the order of the file.
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
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

    /// Could a replica take this name for a model that the key may not use?
    pub fn speaks_of_another(&self, key: &Key, name: &str) -> bool {
        let models = self.spoken.get(name).map_or(&[][..], Vec::as_slice);
        !models.is_empty() && !models.iter().any(|model| key.may_use(model))
    }
}

impl Access {
    /// Could a replica that is not strict about names read that of a model in it that the key may not use?
    pub fn resembles_another(&self, key: &Key, name: &str) -> bool {
        let name = bare_name(name);
        let bare = self.bare.get(&*name).map_or(&[][..], Vec::as_slice);
        bare.iter().any(|model| !key.may_use(model))
    }
}

/// A name as the most lenient server compares it: without case and blanks, registry (`registry.ollama.ai/library/`), digest
/// (`@sha256:…`) and tag.
fn bare_name(name: &str) -> String {
    let skipped = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || ('\u{200b}'..='\u{200f}').contains(&c)
            || c == '\u{feff}'
    };
    let name = name.trim_matches(skipped);
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    name.trim_matches(skipped).to_lowercase()
}

/// By their names as the most lenient server compares them.
fn bare(spoken: &HashMap<Box<str>, Vec<Box<str>>>) -> HashMap<Box<str>, Vec<Box<str>>> {
    let mut bare: BTreeMap<Box<str>, BTreeSet<&str>> = BTreeMap::new();
    #[expect(clippy::iter_over_hash_type, reason = "what is collected is sorted")]
    for (name, models) in spoken {
        let models = models.iter().map(|model| &**model);
        bare.entry(bare_name(name).into()).or_default().extend(models);
    }
    let owned = |models: BTreeSet<&str>| models.into_iter().map(Box::from).collect();
    bare.into_iter().map(|(name, models)| (name, owned(models))).collect()
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

/// Pairs of models that have a replica at one address.
fn neighbors(models: &[Arc<ModelPlan>]) -> HashSet<(&str, &str)> {
    let mut owners: BTreeMap<Cow<'_, str>, BTreeSet<&str>> = BTreeMap::new();
    for model in models {
        for replica in model.versions.iter().flat_map(|version| &version.replicas) {
            owners.entry(place_of(&replica.url)).or_default().insert(&model.name);
        }
    }
    let mut pairs = HashSet::new();
    for there in owners.values().filter(|there| there.len() > 1) {
        for one in there {
            pairs.extend(there.iter().filter(|other| *other != one).map(|other| (*one, *other)));
        }
    }
    pairs
}

/// The models of a key that share a replica with one that it may not use.
fn crowded(models: Option<&[String]>, neighbors: &HashSet<(&str, &str)>) -> Vec<String> {
    let Some(models) = models else { return Vec::new() };
    let own = |name: &str| models.iter().any(|model| model == name);
    let near = |model: &String| neighbors.iter().any(|(a, b)| a == model && !own(b));
    models.iter().filter(|model| near(model)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_the_same_in_every_spelling() {
        for name in [
            "vip",
            "VIP",
            "Vip:latest",
            "library/vip",
            "registry.ollama.ai/library/vip:latest",
            "localhost:5000/a/vip@sha256:1",
            " vip\n",
            "vip\u{200b}",
            "vip :x",
        ] {
            assert_eq!(bare_name(name), "vip", "{name:?}");
        }
        assert_eq!(bare_name("org/"), "");
        assert_ne!(bare_name("vip2"), "vip");
    }
}
