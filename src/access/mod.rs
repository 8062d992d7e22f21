//! Who may ask and how much: secrets known by their digests, signed tokens, limits by the minute, shares of space, least rates.
mod carried;
mod digest;
mod jwks;
mod rate;
mod space;
mod token;
mod window;

pub use carried::{CARRIERS, secret_in};
pub use digest::Digest;
pub use jwks::{Alg, Jwks, VerifyKey};
pub use rate::MinRate;
pub use space::{Claim, Verdict};
pub use token::{TokenProblem, TokenTerms, named_by};
pub use window::{Level, PerMinute, Shortage, Taken, Window};
