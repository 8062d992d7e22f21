//! Reading a configuration back as it was shown, with its secrets masked.
use super::diagnostic::Diagnostics;
use super::load::{Checked, parse_text};
use super::render::MASKED_HASH;
use crate::access::Digest;

/// What `effective_yaml` wrote, read again. `file` is only its name. Secrets are as they are shown; a hash of a key, which
/// must be one, is made up of the line before it: its name.
pub fn read_back(shown: &str, file: &str) -> Result<Checked, Box<Diagnostics>> {
    let masked = format!("hash: \"{MASKED_HASH}\"");
    let (mut text, mut before) = (String::with_capacity(shown.len()), "");
    for line in shown.lines() {
        if line.trim() == masked {
            let indent = &line[..line.len() - masked.len()];
            text.extend([indent, "hash: \"", &Digest::of(before.as_bytes()).to_string(), "\"\n"]);
        } else {
            text.extend([line, "\n"]);
        }
        before = line;
    }
    // All is written out: nothing is left to expand.
    parse_text(text, file, &|_| None)
}
