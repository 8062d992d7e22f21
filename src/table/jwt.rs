//! How signed tokens are verified for a table: the keys of the issuer, which change with their file, and what they have
//! verified.
use super::key_plan::JwtPlan;
use crate::access::{Digest, Jwks, TokenTerms, Verified};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Tokens that are kept: each takes some 120 bytes.
const VERIFIED: usize = 8192;
/// Locks, so that requests rarely wait for each other.
const SHARDS: usize = 16;

/// How tokens are verified. The keys change with their file, without a new table.
#[derive(Debug)]
pub struct Jwt {
    pub file: PathBuf,
    pub(super) keys: ArcSwap<Trusted>,
    pub terms: TokenTerms,
    trouble: Mutex<Trouble>,
}

/// The keys that verify, and the tokens that they have verified: these go with the keys.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) jwks: Arc<Jwks>,
    verified: [Mutex<Verified>; SHARDS],
}

/// What was last wrong with the file of keys.
#[derive(Debug, Default)]
struct Trouble {
    why: Option<String>,
    told: bool,
}

/// What a look at the file of keys brought to light.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    AsBefore,
    /// It cannot be used, twice in a row: whoever writes it is not just at it.
    Broken(String),
    /// What was told to be broken can be used again.
    Mended,
}

impl Trusted {
    fn new(jwks: Arc<Jwks>) -> Self {
        let verified = std::array::from_fn(|_| Mutex::new(Verified::new(VERIFIED / SHARDS)));
        Self { jwks, verified }
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Verified> {
        &self.verified[digest.spread() % SHARDS]
    }

    /// Keeps a token that names this key and holds until then, in Unix seconds.
    pub(super) fn keep(&self, digest: Digest, key: usize, until: i64) {
        self.shard(&digest).lock().put(digest, key, until);
    }
}

impl Jwt {
    pub(super) fn of(plan: &JwtPlan) -> Self {
        Self {
            file: plan.file.clone(),
            keys: ArcSwap::from_pointee(Trusted::new(Arc::clone(&plan.keys))),
            terms: plan.terms.clone(),
            trouble: Mutex::default(),
        }
    }

    /// The keys that verify at present.
    pub fn jwks(&self) -> Arc<Jwks> {
        Arc::clone(&self.keys.load().jwks)
    }

    /// From now on these keys verify, and no token that others have verified is taken unseen.
    pub fn trust(&self, jwks: Jwks) {
        self.keys.store(Arc::new(Trusted::new(Arc::new(jwks))));
    }

    /// The number of the key that a token names which was verified before. `now` is in Unix seconds.
    pub(super) fn verified(&self, digest: &Digest, now: i64) -> Option<usize> {
        let keys = self.keys.load();
        let shard = keys.shard(digest).lock();
        shard.get(digest, now)
    }

    /// Why the keys are not those of the file; `None`: they are.
    pub fn fault(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.why.clone().filter(|_| trouble.told)
    }

    /// Takes note of a look at the file: what is wrong with it.
    pub fn seen(&self, wrong: Option<&str>) -> Sight {
        let mut trouble = self.trouble.lock();
        let told = trouble.told;
        match wrong {
            None => {
                *trouble = Trouble::default();
                if told { Sight::Mended } else { Sight::AsBefore }
            }
            Some(why) if trouble.why.is_none() => {
                trouble.why = Some(why.to_owned());
                Sight::AsBefore
            }
            Some(why) if !told => {
                trouble.told = true;
                Sight::Broken(why.to_owned())
            }
            Some(_) => Sight::AsBefore,
        }
    }
}
