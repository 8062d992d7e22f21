//! Who may ask and how much: secrets known by their digests, signed tokens, limits by the minute, shares of space, least rates.
mod carried;
mod claims;
mod digest;
mod jwks;
mod rate;
mod space;
mod token;
mod verified;
mod window;

pub use carried::{CARRIERS, LONGEST_SECRET, secret_in};
pub use digest::Digest;
pub use jwks::{Alg, Jwks, VerifyKey};
pub use rate::MinRate;
pub use space::{Claim, Verdict};
pub use token::{Named, TokenProblem, TokenTerms, Tries, named_by};
pub use verified::Verified;
pub use window::{Level, PerMinute, Shortage, Taken, Window};
