//! What is wrong with a configuration file, where, and what to do about it.
use super::render;
use std::collections::HashSet;
use std::ops::Range;

/// Does it stop the file from being used?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Every code a diagnostic may carry. They are stable: people grep for them.
pub const CODES: &[&str] = &[
    "alias-is-model",
    "bad-address",
    "bad-certificate",
    "bad-cidr",
    "bad-duration",
    "bad-hash",
    "bad-cookie",
    "bad-header",
    "bad-host",
    "bad-jwks",
    "bad-margin",
    "bad-method",
    "bad-name",
    "bad-number",
    "bad-path",
    "bad-pattern",
    "bad-percent",
    "bad-rate",
    "bad-secret",
    "bad-size",
    "bad-status",
    "bad-url",
    "bad-variable",
    "cannot-listen",
    "conflicting-keys",
    "contradicting-timeouts",
    "contradicting-times",
    "duplicate-address",
    "duplicate-alias",
    "duplicate-check",
    "duplicate-hash",
    "duplicate-key",
    "duplicate-listener",
    "duplicate-name",
    "duplicate-replica",
    "failed-test",
    "few-descriptors",
    "file-too-large",
    "grpc-port",
    "idle-mirror",
    "idle-tls",
    "impossible-steps",
    "insecure-tls",
    "literal-secret",
    "lone-candidate",
    "missing-key",
    "missing-split",
    "mixed-client-ca",
    "needs-restart",
    "negative-share",
    "no-checks",
    "no-keys",
    "no-listeners",
    "no-models",
    "no-replicas",
    "not-available",
    "not-inheritable",
    "not-utf8",
    "open-admin",
    "out-of-range",
    "own-address",
    "probe-timeout",
    "promoted-split",
    "same-file",
    "split-sum",
    "too-many-aliases",
    "unknown-capture",
    "unknown-key",
    "unknown-model",
    "unknown-value",
    "unknown-version",
    "unreadable-file",
    "unreadable-secret",
    "unset-variable",
    "untimely-certificate",
    "unusable-file",
    "unverifiable-name",
    "wrong-type",
    "yaml-syntax",
];

/// One thing found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// One of [`CODES`].
    pub code: &'static str,
    pub message: String,
    /// Bytes of the text it is about.
    pub span: Range<usize>,
    /// Said under the quoted line.
    pub label: String,
    pub help: Option<String>,
    /// 1-based; known once it is in [`Diagnostics`].
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
}

impl Diagnostic {
    pub fn error(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message.into())
    }

    pub fn warning(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message.into())
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn new(severity: Severity, code: &'static str, span: Range<usize>, message: String) -> Self {
        debug_assert!(CODES.contains(&code), "`{code}` is not in CODES");
        Self { severity, code, message, span, label: String::new(), help: None, line: 1, column: 1 }
    }
}

/// All that was found in one file, in the order of its lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// As it is shown to people.
    pub file: String,
    pub(super) source: String,
    /// Bytes of `source` that are never quoted.
    pub(super) secrets: Vec<Range<usize>>,
    /// Where each line begins.
    lines: Vec<usize>,
    items: Vec<Diagnostic>,
}

/// Beyond this many, more help nobody.
const MOST: usize = 1000;

impl Diagnostics {
    pub(super) fn new(
        file: &str,
        source: String,
        secrets: Vec<Range<usize>>,
        found: Vec<Diagnostic>,
    ) -> Self {
        let ends = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        let mut all = Self { file: file.to_owned(), source, secrets, lines, items: Vec::new() };
        let mut seen = HashSet::new();
        for mut diagnostic in found {
            // A value inherited by ten models is one mistake.
            if seen.insert((diagnostic.code, diagnostic.span.clone())) {
                (diagnostic.line, diagnostic.column) = all.place(diagnostic.span.start);
                all.hush(&mut diagnostic);
                all.items.push(diagnostic);
            }
        }
        all.items.sort_by_key(|item| item.span.start);
        all.items.truncate(MOST);
        all
    }

    /// Adds one at its place.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        (diagnostic.line, diagnostic.column) = self.place(diagnostic.span.start);
        self.hush(&mut diagnostic);
        let start = diagnostic.span.start;
        let index = self.items.partition_point(|item| item.span.start <= start);
        self.items.insert(index, diagnostic);
    }

    /// Masks what it says of a value in which a secret stands.
    fn hush(&self, diagnostic: &mut Diagnostic) {
        let help = diagnostic.help.iter_mut();
        for text in [&mut diagnostic.message, &mut diagnostic.label].into_iter().chain(help) {
            render::mask_values(self, text);
        }
    }

    /// Line and column of a byte, both 1-based.
    fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= byte).max(1);
        let before = self.source.get(self.lines[line - 1]..byte).unwrap_or("");
        (line, 1 + before.trim_start_matches('\u{feff}').chars().count())
    }

    /// The bytes of a line (1-based) without its indentation, for diagnostics that know no better place.
    pub fn line_span(&self, line: usize) -> Range<usize> {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return self.source.len()..self.source.len();
        };
        let text = self.source[start..].lines().next().unwrap_or("");
        let indent = text.len() - text.trim_start_matches([' ', '-']).len();
        start + indent..start + text.trim_end().len().max(indent)
    }

    /// The first place where a text stands, for what is found wrong after the file was read; else its beginning.
    pub fn find(&self, text: &str) -> Range<usize> {
        self.source.find(text).map_or(0..0, |at| at..at + text.len())
    }

    /// The whole text with its secrets masked.
    pub fn masked_source(&self) -> String {
        render::masked(self)
    }

    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.items.iter().filter(|item| item.severity == Severity::Error).count()
    }

    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// As a compiler would print them, one after the other.
    pub fn render_text(&self, color: bool) -> String {
        render::text(self, color)
    }

    /// `[{code, severity, message, file, line, column, help}]`.
    pub fn to_json(&self) -> serde_json::Value {
        render::json(self)
    }
}

impl std::fmt::Debug for Diagnostics {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diagnostics")
            .field("file", &self.file)
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render_text(false))
    }
}

impl std::error::Error for Diagnostics {}
