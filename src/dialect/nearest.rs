//! Finds the names a client probably meant, for "did you mean".

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.75;

/// Longer names are no typing errors, and comparing them would be work for an attacker to ask for.
const LONGEST: usize = 200;

/// Up to three of `names`, the nearest first. Letter case does not count, nor does an organization
/// in front (`Llama-3` finds `meta-llama/Llama-3`).
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if wanted.is_empty() || wanted.len() > LONGEST {
        return Vec::new();
    }
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (likeness(&wanted, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by_key(|(_, name)| *name);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Jaro-Winkler rewards a common beginning, Damerau-Levenshtein a swapped or missing letter anywhere.
fn likeness(a: &str, b: &str) -> f64 {
    let whole = strsim::jaro_winkler(a, b).max(strsim::normalized_damerau_levenshtein(a, b));
    let bare = strsim::jaro_winkler(bare(a), bare(b));
    whole.max(bare * 0.99)
}

fn bare(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] =
        ["chat", "chat-large", "embed", "fraud", "meta-llama/Llama-3.1-8B", "gpt-4o-mini"];

    fn near(wanted: &str) -> Vec<&'static str> {
        nearest(wanted, NAMES.into_iter())
    }

    #[test]
    fn a_typing_error_finds_its_name() {
        assert_eq!(near("chta")[0], "chat");
        assert_eq!(near("gpt4o-mini"), ["gpt-4o-mini"]);
        assert_eq!(near("FRAUD"), ["fraud"]);
        assert_eq!(near("llama-3.1-8b"), ["meta-llama/Llama-3.1-8B"]);
    }

    #[test]
    fn a_foreign_name_finds_nothing() {
        assert_eq!(near("whisper"), Vec::<&str>::new());
        assert_eq!(near(""), Vec::<&str>::new());
        assert_eq!(near(&"chat".repeat(100)), Vec::<&str>::new());
    }

    #[test]
    fn at_most_three_are_named() {
        let names = ["m1", "m2", "m3", "m4", "m1"];
        assert_eq!(nearest("m", names.into_iter()).len(), 3);
    }
}
