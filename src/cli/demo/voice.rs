//! How the demo speaks: whole lines on stdout, colored only for a terminal.
use crate::cli::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes lines. A reader that went away is an error, which ends the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    color: bool,
}

impl Voice {
    pub(super) fn new() -> Self {
        let wanted = env("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { color: wanted && io::stdout().is_terminal() }
    }

    /// A sentence of the story.
    pub(super) fn say(self, text: impl Display) -> io::Result<()> {
        self.line("", &text)
    }

    /// What is about to be shown.
    pub(super) fn headline(self, text: impl Display) -> io::Result<()> {
        self.line("", &"")?;
        self.line("1", &text)
    }

    /// The numbers of a second.
    pub(super) fn murmur(self, text: impl Display) -> io::Result<()> {
        self.line("2", &text)
    }

    fn line(self, style: &str, text: &dyn Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.color && !style.is_empty() {
            writeln!(out, "\x1b[{style}m{text}\x1b[0m")?;
        } else {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }
}
