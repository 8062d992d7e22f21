//! Text to a small tree of nodes that know where they were written.
//!
//! Scalars keep their spelling (`1.10` stays `1.10`): only the reader of a key knows its type.
use super::diagnostic::Diagnostic;
use super::secrets;
use super::variables::{self, Fault};
use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, Span, StrInput, StructureStyle};
use std::collections::HashMap;
use std::ops::Range;

/// Nodes that aliases may copy in one file: more is an attack on memory.
const MAX_COPIED: usize = 100_000;
/// Duplicate keys reported of one file.
const ENOUGH: usize = 1000;
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    /// With variables expanded.
    pub(super) text: String,
    /// Not quoted: only then can it mean null.
    pub(super) plain: bool,
    /// Did a variable fail to expand? That was said already; nothing else is worth saying.
    pub(super) broken: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Entry {
    /// Where to point when the value is wrong.
    pub(super) fn place(&self) -> Range<usize> {
        if self.value.span.is_empty() { self.key_span.clone() } else { self.value.span.clone() }
    }
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar)
            if scalar.plain && matches!(scalar.text.as_str(), "" | "null" | "~" | "Null" | "NULL"))
    }

    /// The text of a single value.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// What it is, with an article.
    pub(super) fn noun(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_) if self.is_null() => "empty",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.value.count()).sum::<usize>(),
        }
    }
}

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// None when it cannot be parsed.
    pub(super) root: Option<Node>,
    pub(super) secrets: Vec<Range<usize>>,
    pub(super) found: Vec<Diagnostic>,
}

pub(super) fn parse(source: &str, env: &dyn Fn(&str) -> Option<String>) -> Tree {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        source,
        env,
        events: Parser::new_from_str_with_options(source, options),
        anchors: HashMap::new(),
        copied: 0,
        tree: Tree::default(),
    };
    match builder.document() {
        Ok(root) => builder.tree.root = Some(root),
        Err(fault) => {
            builder.tree.secrets = secrets::of_text(source);
            // The rest was read from half a file: it would only distract.
            builder.tree.found = vec![*fault];
        }
    }
    builder.tree
}

struct Builder<'a> {
    source: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    tree: Tree,
}

type Fatal = Box<Diagnostic>;

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Fatal> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            if event == Event::StreamEnd {
                break;
            }
            if matches!(event, Event::DocumentStart(..)) && root.is_some() {
                return Err(self
                    .syntax(&span, "a second document begins here")
                    .help("write one document in a file, without `---` between its parts")
                    .into());
            }
            let frame =
                matches!(event, Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd);
            if !frame {
                root = Some(self.node(event, &span)?);
            }
        }
        let empty = Scalar { text: String::new(), plain: true, broken: false };
        Ok(root.unwrap_or(Node { span: 0..0, value: Value::Scalar(empty) }))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fatal> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(0).min(self.source.len());
                // At the end of the file there is nothing to point at.
                let at = if at == self.source.len() { self.source.trim_end().len() } else { at };
                let at = (0..=at).rev().find(|&at| self.source.is_char_boundary(at)).unwrap_or(0);
                let message = format!("this is not YAML: {}", error.info());
                let fault = Diagnostic::error("yaml-syntax", at..at, message).label("here");
                let line = self.source[..at].rfind('\n').map_or(0, |newline| newline + 1);
                let end = self.source[at..].find('\n').map_or(self.source.len(), |to| at + to);
                let bare = self.source[line..end].contains("${");
                let help = "inside `[…]` and `{…}` a value with `${VAR}` needs quotes";
                Err(if bare { fault.help(help) } else { fault }.into())
            }
            None => Err(Diagnostic::error("yaml-syntax", 0..0, "the file ends too early").into()),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, Fatal> {
        let bytes = self.bytes(span);
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (self.scalar(&text, style == ScalarStyle::Plain, bytes), anchor)
            }
            Event::SequenceStart(style, anchor, _) => (self.list(style, bytes)?, anchor),
            Event::MappingStart(style, anchor, _) => (self.map(style, bytes)?, anchor),
            Event::Alias(id) => (self.alias(id, span)?, 0),
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | Event::UnresolvedAlias(_)
            | Event::SequenceEnd
            | Event::MappingEnd
            | _ => return Err(self.syntax(span, "a value is missing here").into()),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, style: StructureStyle, start: Range<usize>) -> Result<Node, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                let first = items.first().map(|item: &Node| item.span.clone());
                let span = self.extent(style, start, first, &span);
                return Ok(Node { span, value: Value::List(items) });
            }
            items.push(self.node(event, &span)?);
        }
    }

    fn map(&mut self, style: StructureStyle, start: Range<usize>) -> Result<Node, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        // Large files have large mappings: keys are found by hash, not by looking through all.
        let mut seen: HashMap<String, Range<usize>> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                let first = entries.first().map(|entry| entry.key_span.clone());
                let span = self.extent(style, start, first, &span);
                return Ok(Node { span, value: Value::Map(entries) });
            }
            let key = self.node(event, &span)?;
            let Value::Scalar(scalar) = key.value else {
                return Err(self.syntax(&span, "a key must be plain text").into());
            };
            let (event, span) = self.next()?;
            let value = self.node(event, &span)?;
            let entry = Entry { key: scalar.text, key_span: key.span, value };
            secrets::of_entry(&entry, self.source, &mut self.tree.secrets);
            if let Some(first) = seen.get(&entry.key) {
                if self.tree.found.len() >= ENOUGH {
                    continue;
                }
                let line = 1 + self.source[..first.start].matches('\n').count();
                let message = format!("key `{}` is written twice", entry.key);
                let twice = Diagnostic::error("duplicate-key", entry.key_span, message)
                    .label("written again")
                    .help(format!("it was first written on line {line}; keep one of the two"));
                self.tree.found.push(twice);
            } else {
                seen.insert(entry.key.clone(), entry.key_span.clone());
                entries.push(entry);
            }
        }
    }

    fn alias(&mut self, id: usize, span: &Span) -> Result<Node, Fatal> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(self.syntax(span, "this alias names a value that contains it").into());
        };
        let node = node.clone();
        self.copied += node.count();
        if self.copied > MAX_COPIED {
            let message = format!("aliases copy more than {MAX_COPIED} values");
            return Err(Diagnostic::error("too-many-aliases", self.bytes(span), message)
                .label("this one is too much")
                .help("write what is shared once, under `defaults`")
                .into());
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, plain: bool, span: Range<usize>) -> Node {
        if let Some(secret) = secrets::of_url(&span, self.source) {
            self.tree.secrets.push(secret);
        }
        self.tree.secrets.extend(secrets::of_lines(&span, self.source));
        let (text, broken) = match variables::expand(text, self.env) {
            Ok(expanded) => (expanded, false),
            Err(fault) => {
                let fault = self.unexpanded(&fault, &span);
                self.tree.found.push(fault);
                (text.to_owned(), true)
            }
        };
        Node { span, value: Value::Scalar(Scalar { text, plain, broken }) }
    }

    fn unexpanded(&self, fault: &Fault, span: &Range<usize>) -> Diagnostic {
        let point = |text: &str| {
            let at = self.source[span.clone()].find(text).map(|at| span.start + at);
            at.map_or(span.clone(), |at| at..at + text.len())
        };
        match fault {
            Fault::Unset(name) => {
                let message = format!("variable `{name}` is not set");
                Diagnostic::error("unset-variable", point(&format!("${{{name}}}")), message)
                    .label("not set")
                    .help(format!("set it, or give a default: `${{{name}:-default}}`"))
            }
            Fault::Malformed(_) => {
                let message = "`${` begins a variable, but none follows";
                Diagnostic::error("bad-variable", point("${"), message)
                    .label("not a variable")
                    .help("write `${NAME}` or `${NAME:-default}`; for the characters themselves `$${`")
            }
        }
    }

    /// Where to point when a whole list or mapping is meant.
    fn extent(
        &self,
        style: StructureStyle,
        start: Range<usize>,
        first: Option<Range<usize>>,
        end: &Span,
    ) -> Range<usize> {
        match style {
            StructureStyle::Flow => start.start..self.bytes(end).end.max(start.end),
            StructureStyle::Block => first.unwrap_or(start),
        }
    }

    fn bytes(&self, span: &Span) -> Range<usize> {
        let bytes = span.byte_range().unwrap_or(0..0);
        let end = bytes.end.min(self.source.len());
        let start = bytes.start.min(end);
        // The ends of block scalars lie behind their last line.
        let text = &self.source[start..end];
        start..start + text.trim_end().len()
    }

    fn syntax(&self, span: &Span, message: &str) -> Diagnostic {
        Diagnostic::error("yaml-syntax", self.bytes(span), message).label("here")
    }
}
