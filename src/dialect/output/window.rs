//! Searches text that comes in pieces for a pattern, keeping only its end.
use regex::Regex;

/// Searched when so much is there, so that each byte is looked at little more than once.
const FULL: usize = 16 << 10;
/// Kept after a search: no match longer than this is missed.
const KEPT: usize = 4 << 10;

/// The end of a text, and where in it the next search begins.
#[derive(Debug, Default)]
pub(super) struct Window {
    text: String,
    /// What is before it was searched; it tells whether a line or word begins here.
    from: usize,
}

impl Window {
    /// Takes the next piece. `true`: the pattern is in the text.
    pub(super) fn add(&mut self, piece: &str, pattern: &Regex) -> bool {
        let mut rest = piece;
        let mut found = false;
        while self.text.len() + rest.len() > FULL {
            let room = FULL.saturating_sub(self.text.len());
            let (now, later) = rest.split_at(rest.floor_char_boundary(room));
            self.text.push_str(now);
            rest = later;
            found |= self.search(pattern);
            self.shrink();
        }
        self.text.push_str(rest);
        found
    }

    /// The text is over.
    pub(super) fn finish(&mut self, pattern: &Regex) -> bool {
        !self.text.is_empty() && pattern.is_match_at(&self.text, self.from)
    }

    /// A match that touches the end waits for what follows, which might deny it (`$`, `\b`).
    fn search(&self, pattern: &Regex) -> bool {
        let found = pattern.find_at(&self.text, self.from);
        found.is_some_and(|found| found.end() < self.text.len())
    }

    fn shrink(&mut self) {
        let cut = self.text.floor_char_boundary(self.text.len() - KEPT);
        self.text.drain(..cut);
        self.from = self.text.chars().next().map_or(0, char::len_utf8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, pieces: &[&str]) -> bool {
        let pattern = Regex::new(pattern).unwrap();
        let mut window = Window::default();
        let during = pieces.iter().fold(false, |found, piece| window.add(piece, &pattern) | found);
        during | window.finish(&pattern)
    }

    #[test]
    fn a_match_across_pieces_and_searches_is_found() {
        assert!(found("I cannot help", &["I can", "not he", "lp you"]));
        let filler = "x".repeat(FULL - 3);
        assert!(found("needle", &[&filler, "nee", "dle", &filler]));
        assert!(found("needle", &[&format!("{filler}needle{filler}")]));
        assert!(!found("needle", &[&filler, "nee", &filler, "dle"]));
    }

    #[test]
    fn anchors_mean_the_text_and_not_the_window() {
        let filler = "ab ".repeat(FULL);
        assert!(!found("^b", &[&filler]));
        assert!(!found("x$", &[&format!("{}x", "a".repeat(FULL - 1)), "y"]));
        assert!(found("z$", &[&filler, "z"]));
        assert!(found("^ab", &[&filler]));
        assert!(!found(r"\bb", &["ab".repeat(FULL).as_str()]));
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let pattern = Regex::new("never").unwrap();
        let mut window = Window::default();
        for _ in 0..200 {
            window.add(&"é".repeat(3000), &pattern);
            assert!(window.text.len() <= FULL + 4);
        }
    }
}
