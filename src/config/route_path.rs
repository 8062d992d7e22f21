//! Paths of routes: patterns with captures, and rewrites that use them.
use super::hints;
use super::scalar::{Complaint, Read};
use crate::table::{PathPattern, PathSegment};

/// A path of a request without its query.
pub(super) fn path_of(text: &str) -> Read<String> {
    let what = if !text.starts_with('/') {
        "it does not begin with `/`"
    } else if text.contains(['?', '#'])
        || text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        "a path has no query and no spaces"
    } else {
        return Ok(text.to_owned());
    };
    Err(Complaint::new("bad-path", format!("is `{text}`: {what}"), "not a path"))
}

pub(super) fn path_pattern(text: &str) -> Read<PathPattern> {
    let path = path_of(text)?;
    let (base, open) = match path.strip_suffix("/*") {
        Some(base) => (base, true),
        None => (path.as_str(), false),
    };
    let what = if base.contains('*') {
        "`*` stands only at the end, as a whole segment"
    } else if base.split('/').any(|segment| segment == ".." || segment == ".") {
        "no request has a path with `..`"
    } else if base.contains(['{', '}']) {
        return captures(text, base, open);
    } else if open {
        return Ok(PathPattern::Prefix(format!("{base}/")));
    } else {
        return Ok(PathPattern::Exact(path));
    };
    let complaint = Complaint::new("bad-path", format!("is `{text}`: {what}"), "not a pattern");
    Err(complaint.help("write a whole path, `/v1/models`, or a prefix, `/v1/*`"))
}

fn captures(text: &str, base: &str, open: bool) -> Read<PathPattern> {
    let bad = |what: String| {
        let what = format!("is `{text}`: {what}");
        Err(Complaint::new("bad-path", what, "not a pattern")
            .help("write for example `/predictions/{model}/*`"))
    };
    let mut segments: Vec<PathSegment> = Vec::new();
    for segment in base.split('/').skip(1) {
        let inside = segment.strip_prefix('{').and_then(|inside| inside.strip_suffix('}'));
        let name = match inside {
            Some(name) => name,
            None if segment.contains(['{', '}']) => {
                return bad(format!("a capture is a whole segment, which `{segment}` is not"));
            }
            None => {
                segments.push(PathSegment::Literal(segment.to_owned()));
                continue;
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || !name.chars().all(plain) {
            return bad(format!("`{segment}` has no name of letters, digits, `_` and `-`"));
        }
        let capture = PathSegment::Capture(name.to_owned());
        if segments.contains(&capture) {
            return bad(format!("it captures `{name}` twice"));
        }
        segments.push(capture);
    }
    Ok(PathPattern::Segments { segments, open })
}

/// A capture that is used outside of the path that has it.
pub(super) fn capture_of(name: &str, captures: Option<&[&str]>) -> Read<String> {
    let Some(captures) = captures.filter(|captures| !captures.contains(&name)) else {
        return Ok(name.to_owned());
    };
    let what = format!("uses `{{{name}}}`, which `match.path` does not capture");
    let complaint = Complaint::new("unknown-capture", what, "no such capture");
    Err(match captures {
        [] => complaint
            .help(format!("write for example `match: {{path: \"/predictions/{{{name}}}/*\"}}`")),
        known => complaint.help(hints::choices(name, "captures", known)),
    })
}

/// A new path, whose captures must be those of the route's own path.
pub(super) fn rewrite_of(text: &str, captures: Option<&[&str]>) -> Read<String> {
    let path = path_of(text)?;
    for segment in path.split('/').filter(|segment| segment.contains(['{', '}'])) {
        match segment.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) {
            Some(name) if !name.contains(['{', '}']) => drop(capture_of(name, captures)?),
            _ => {
                let what =
                    format!("is `{text}`: a capture is a whole segment, which `{segment}` is not");
                return Err(Complaint::new("bad-path", what, "not a path"));
            }
        }
    }
    Ok(path)
}
