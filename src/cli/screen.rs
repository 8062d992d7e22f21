//! A terminal that is drawn in place: the other screen while it lives, and everything as it was afterwards.
use super::terminal;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{IsTerminal as _, Read as _, stdin, stdout};
use tokio::sync::mpsc;

/// The other screen, no cursor, and lines cut where the terminal ends.
const BEGIN: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const END: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// Where a terminal does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

#[derive(Debug)]
pub(super) struct Screen {
    /// What keys did before.
    before: Option<Termios>,
}

impl Screen {
    pub(super) fn open() -> Self {
        let before = stdin().is_terminal().then(|| tcgetattr(stdin()).ok()).flatten();
        if let Some(before) = &before {
            // Keys come one by one and are not shown; Ctrl-C stays a signal. One that is stopped would leave the other
            // screen behind.
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &keys).ok();
        }
        terminal::out(BEGIN);
        Self { before }
    }

    /// Keys as they are pressed. Nothing comes where stdin is no terminal.
    pub(super) fn keys(&self) -> mpsc::Receiver<u8> {
        let (sender, keys) = mpsc::channel(1);
        if self.before.is_some() {
            // It ends with the process: nothing else ends a read of a terminal.
            std::thread::spawn(move || {
                for key in stdin().lock().bytes().map_while(Result::ok) {
                    if sender.blocking_send(key).is_err() {
                        break;
                    }
                }
            });
        }
        keys
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        terminal::out(END);
        if let Some(before) = &self.before {
            tcsetattr(stdin(), OptionalActions::Now, before).ok();
        }
    }
}

/// Draws over what stands there, without the flicker of clearing it first.
pub(super) fn draw(text: &str) {
    let (columns, rows) = size();
    terminal::out(&drawn(text, columns, rows));
}

/// Columns and rows.
pub(super) fn size() -> (usize, usize) {
    let size = tcgetwinsize(stdout()).map(|s| (usize::from(s.ws_col), usize::from(s.ws_row)));
    size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL)
}

fn drawn(text: &str, columns: usize, rows: usize) -> String {
    let mut out = "\u{1b}[H".to_owned();
    for (i, line) in text.lines().take(rows).enumerate() {
        if i > 0 {
            // The last line has no end: that would scroll.
            out.push('\n');
        }
        out.push_str(&cut(line, columns));
        out.push_str("\u{1b}[K");
    }
    out.push_str("\u{1b}[J");
    out
}

/// At most so many characters; colors take no room. What is cut off shows as `…`.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut shown, mut in_escape) = (String::with_capacity(line.len()), 0, false);
    let visible = terminal::width(line);
    for c in line.chars() {
        if in_escape || c == '\u{1b}' {
            in_escape = c != 'm';
            out.push(c);
            continue;
        }
        shown += 1;
        if shown == columns && visible > columns {
            out.push_str("…\u{1b}[0m");
            return out;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_colors_end_with_it() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…\u{1b}[0m");
        assert_eq!(cut("\u{1b}[31mabc\u{1b}[0m", 3), "\u{1b}[31mabc\u{1b}[0m");
        assert_eq!(cut("\u{1b}[31mabcd\u{1b}[0m", 3), "\u{1b}[31mab…\u{1b}[0m");
    }

    #[test]
    fn what_is_drawn_fills_the_screen_and_scrolls_nothing() {
        assert_eq!(drawn("a\nb\nc\n", 9, 2), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\u{1b}[J");
    }
}
