//! A secret as it is kept: its SHA-256, from which it cannot be had back.
use std::fmt;
use std::hash::{Hash, Hasher};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "sha256:";

/// The SHA-256 of a secret.
///
/// Two are compared in a time that does not depend on where they differ. Finding one in a hash map says nothing either:
/// its buckets are drawn by a key of the process (std's `RandomState`), and whoever tries secrets cannot choose their
/// digests.
#[derive(Clone, Copy, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(secret: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret);
        Self(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// A number that is spread evenly over all digests.
    pub fn spread(&self) -> usize {
        usize::from(self.0[0])
    }

    /// From `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(PREFIX)?.as_bytes();
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

impl fmt::Display for Digest {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum`
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_read_and_written_as_sha256sum_has_it() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::parse(ABC), Some(Digest::of(b"abc")));
        let upper = ABC.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(Digest::parse(&upper), Some(Digest::of(b"abc")));
        assert_ne!(Digest::parse(ABC), Some(Digest::of(b"abd")));
    }

    #[test]
    fn what_is_no_digest_is_none() {
        for text in ["", "sha256:", "sk-evener-abc", &ABC[..70], &ABC.replace('b', "g"), &ABC[7..]]
        {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
        assert_eq!(Digest::parse(&format!("{ABC}0")), None);
        assert_eq!(Digest::parse(&format!("sha256:{}", "é".repeat(32))), None);
    }
}
