//! The point of a sticky key: the same key, the same version.
use xxhash_rust::xxh3::Xxh3;

/// Where the key lies in the split of the model, as a fraction of 2⁶⁴: `xxh3_64(model ‖ 0x00 ‖ key)`.
///
/// Nothing else goes in, so that two Eveners agree without talking, and anyone can check.
///
/// | model | key | point | of 1 |
/// | --- | --- | --- | --- |
/// | chat | u1 | `0xf62f23763d4f342d` | 0.961657 |
/// | chat | u42 | `0xaac07345aa3d5e66` | 0.666999 |
/// | chat | alice | `0x1e3995cd031b1bbf` | 0.118066 |
/// | iris | u1 | `0x881960b79cd8d5a0` | 0.531637 |
/// | iris | u42 | `0x4f1d48d9c68b25df` | 0.309041 |
/// | iris | alice | `0x2ea8dbb4915d0cfb` | 0.182264 |
pub fn hash_point(model: &str, key: &[u8]) -> u64 {
    keyed_point(None, model, key)
}

/// The same with a secret: `xxh3_64(secret ‖ 0x00 ‖ model ‖ 0x00 ‖ key)`. Whoever does not know it cannot choose keys for
/// the side on which they lie.
pub fn keyed_point(secret: Option<&str>, model: &str, key: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    if let Some(secret) = secret {
        hasher.update(secret.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(model.as_bytes());
    hasher.update(&[0]);
    hasher.update(key);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    /// Computed with the reference implementation (python-xxhash), not with this one.
    const VECTORS: [(&str, &str, u64); 6] = [
        ("chat", "u1", 0xF62F_2376_3D4F_342D),
        ("chat", "u42", 0xAAC0_7345_AA3D_5E66),
        ("chat", "alice", 0x1E39_95CD_031B_1BBF),
        ("iris", "u1", 0x8819_60B7_9CD8_D5A0),
        ("iris", "u42", 0x4F1D_48D9_C68B_25DF),
        ("iris", "alice", 0x2EA8_DBB4_915D_0CFB),
    ];

    #[test]
    fn the_published_vectors_hold() {
        for (model, key, point) in VECTORS {
            assert_eq!(hash_point(model, key.as_bytes()), point, "{model} {key}");
        }
    }

    #[test]
    fn a_secret_stands_before_the_name_and_moves_every_key() {
        let keyed = keyed_point(Some("s3cret"), "chat", b"u1");
        assert_eq!(keyed, xxh3_64(b"s3cret\0chat\0u1"));
        let same = |n: u32| {
            let key = n.to_string();
            let upper = |point: u64| point >> 63;
            let keyed = keyed_point(Some("s3cret"), "chat", key.as_bytes());
            upper(keyed) == upper(hash_point("chat", key.as_bytes()))
        };
        let kept = (0..1000).filter(|n| same(*n)).count();
        assert!((430..570).contains(&kept), "{kept} of 1000 stay on their half, by chance");
    }

    #[test]
    fn a_long_key_is_hashed_like_a_short_one() {
        let key = vec![b'k'; 5_000];
        let whole = [b"chat\0".as_slice(), &key].concat();
        assert_eq!(hash_point("chat", &key), xxh3_64(&whole));
    }
}
