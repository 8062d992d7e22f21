//! Who may ask: secrets known by their digests, signed tokens, and limits by the minute.
mod bucket;
mod carried;
mod digest;
mod jwks;
mod token;

pub use bucket::{Bucket, Level, PerMinute, Shortage};
pub use carried::{CARRIERS, secret_in};
pub use digest::Digest;
pub use jwks::{Alg, Jwks, VerifyKey};
pub use token::{TokenProblem, TokenTerms, named_by};
