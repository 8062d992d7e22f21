//! What reaches a terminal: colors where they are wanted, and no control characters of other people's.
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

/// Escapes whatever could move the cursor, ring, recolor or reorder text. One line stays one line.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The same for a text of several lines.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

/// JSON that a terminal may show: what JSON itself leaves as it is becomes an escape of JSON.
pub(super) fn clean_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // All of them are in the first plane; a newline only stands between values.
        if is_dangerous(c) && c != '\n' {
            write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            out.push(c);
        }
    }
    out
}

fn is_dangerous(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || reorders || breaks
}

/// Exit code of a command whose reader left: what a shell reports of a tool that SIGPIPE ended.
const READER_LEFT: i32 = 128 + 13;

/// Writes the data of a command. When its reader left, such as `head`, the command ends without a word, as tools do that
/// SIGPIPE ends; when the data cannot be written, it ends with an error.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else {
        return;
    };
    drop(stdout);
    let code = if error.kind() == ErrorKind::BrokenPipe {
        READER_LEFT
    } else {
        err(&format!("error: cannot write to stdout: {error}\n"));
        1
    };
    #[expect(clippy::exit, reason = "nobody reads what else the command would say")]
    std::process::exit(code);
}

/// Writes a line of a process that serves, for whoever started it. That nobody reads it is no reason to end.
pub(super) fn announce(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).ok();
}

/// Writes a complaint.
pub(super) fn err(text: &str) {
    std::io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Is stdout a terminal whose user did not ask for plain text?
pub(super) fn wants_color() -> bool {
    let unset = super::env("NO_COLOR").is_none_or(|value| value.is_empty());
    unset && std::io::stdout().is_terminal()
}

/// So many characters are seen of it: colors take no room.
pub(super) fn width(text: &str) -> usize {
    let mut in_escape = false;
    let seen = |c: &char| {
        let hidden = in_escape || *c == '\u{1b}';
        in_escape = hidden && *c != 'm';
        !hidden
    };
    text.chars().filter(seen).count()
}

/// Meanings, not colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

/// Colors text, or leaves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Strong => 1,
            Tone::Faint => 2,
            Tone::Good => 32,
            Tone::Warn => 33,
            Tone::Bad => 31,
            Tone::Plain => return text.to_owned(),
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n\r\u{9b}\u{202e}é"), "a\\u{1b}[2Jb\\n\\r\\u{9b}\\u{202e}é");
        assert_eq!(clean_lines("a\u{7}\nb"), "a\\u{7}\nb\n");
    }

    #[test]
    fn cleaned_json_still_reads_as_the_same_value() {
        let value = serde_json::json!({"a": "\u{9b}31m\u{7f}\u{202e}\u{1b}"});
        let text = clean_json(&format!("{value:#}"));
        assert!(!text.chars().any(|c| is_dangerous(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
