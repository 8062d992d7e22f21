//! Values of secret keys: read from `file:PATH`, and warned about when written out.
use super::diagnostic::Diagnostic;
use super::pipe;
use super::reader::Reader;
use super::scalar::{Complaint, Read};
use super::secrets;
use super::tree::Node;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

/// No secret is longer.
const LONGEST: u64 = 64 << 10;

impl Reader<'_> {
    /// A secret, and whether it came from elsewhere than the text itself.
    pub(super) fn secret(
        &mut self,
        node: &Node,
        place: Range<usize>,
        path: &str,
    ) -> Option<(String, bool)> {
        let wanted = "text, or `file:PATH`";
        let value = self.parse(node, place, path, wanted, resolve)?;
        let raw = self.source.get(node.span.clone()).unwrap_or("");
        Some((value, !secrets::literal(raw)))
    }

    pub(super) fn warn_of_literal(&mut self, place: Range<usize>, path: &str) {
        let message = format!("`{path}` is a secret written into the file");
        self.report(
            Diagnostic::warning("literal-secret", place, message)
                .label("anyone who reads the file knows it")
                .help("write `file:PATH` or `${VAR}`"),
        );
    }
}

fn resolve(text: &str) -> Read<String> {
    let Some(path) = text.strip_prefix("file:") else { return Ok(text.to_owned()) };
    let complain = |why: String| {
        Complaint::new(
            "unreadable-secret",
            format!("cannot be read from `{path}`: {why}"),
            "unreadable",
        )
    };
    let secret = pipe::read(Path::new(path), LONGEST + 1)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData.into()))
        .map_err(|error| complain(io_reason(&error)))?;
    if secret.len() as u64 > LONGEST {
        return Err(complain(format!("it is longer than {LONGEST} bytes")));
    }
    if secret.trim().is_empty() {
        return Err(complain("it is empty".to_owned()));
    }
    let trimmed = secret.strip_suffix('\n').unwrap_or(&secret);
    Ok(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned())
}

/// Why a file cannot be read, without the number of the error.
pub(super) fn io_reason(error: &std::io::Error) -> String {
    let known = [
        (ErrorKind::NotFound, "there is no such file"),
        (ErrorKind::PermissionDenied, "permission denied"),
        (ErrorKind::IsADirectory, "it is a directory"),
        (ErrorKind::InvalidData, "it is not UTF-8"),
    ];
    let plain = known.iter().find(|(kind, _)| *kind == error.kind());
    plain.map_or_else(|| error.to_string(), |(_, why)| (*why).to_owned())
}
