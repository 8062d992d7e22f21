//! How alike two texts are, by their words.
use std::collections::HashMap;

/// F1 of the words two texts share, 0 to 1, as question answering is scored (Rajpurkar et al., `SQuAD`, 2016): letter
/// case and punctuation do not count, nor does order. Two texts without words are the same.
pub(super) fn similarity(left: &str, right: &str) -> f64 {
    let (left, right) = (words(left), words(right));
    if left.is_empty() && right.is_empty() {
        return 1.0;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &left {
        *counts.entry(word).or_default() += 1;
    }
    let mut shared = 0_usize;
    for word in &right {
        if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    2.0 * shared as f64 / (left.len() + right.len()) as f64
}

/// Runs of letters and digits. Scripts without spaces have a word for each character.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_alphanumeric() && !stands_alone(letter) {
            word.extend(letter.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            words.push(letter.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Thai, kana, Han and Hangul.
fn stands_alone(letter: char) -> bool {
    matches!(letter, '\u{0e00}'..='\u{0eff}' | '\u{3040}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shared_words_count() {
        let near = |a: &str, b: &str, wanted: f64| {
            assert!((similarity(a, b) - wanted).abs() < 1e-9, "{a} {b}: {}", similarity(a, b));
        };
        near("The quick brown fox.", "the quick, brown fox", 1.0);
        near("a b c d", "a b x y", 0.5);
        near("yes", "no", 0.0);
        near("a a a", "a", 0.5);
        near("", "!?", 1.0);
        near("", "word", 0.0);
        near("今日は晴れ", "今日は雨", 6.0 / 9.0);
    }

    proptest! {
        #[test]
        fn likeness_is_symmetric_and_a_part_of_one(a in ".{0,40}", b in ".{0,40}") {
            let alike = similarity(&a, &b);
            prop_assert!((0.0..=1.0).contains(&alike));
            prop_assert_eq!(alike.to_bits(), similarity(&b, &a).to_bits());
            prop_assert_eq!(similarity(&a, &a).to_bits(), 1.0_f64.to_bits());
        }
    }
}
