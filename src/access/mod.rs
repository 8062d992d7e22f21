//! Who may ask: secrets known by their digests, signed tokens, and limits by the minute.
mod carried;
mod digest;
mod jwks;
mod token;
mod window;

pub use carried::{CARRIERS, secret_in};
pub use digest::Digest;
pub use jwks::{Alg, Jwks, VerifyKey};
pub use token::{TokenProblem, TokenTerms, named_by};
pub use window::{Level, PerMinute, Shortage, Taken, Window};
