//! Finds the row of a path, segment by segment, in a tree that is built once from the table.
//!
//! Literal segments win over captures, longer patterns over shorter ones. Finding allocates nothing.
use super::{GROUPS, Row};
use std::sync::LazyLock;

static ROOT: LazyLock<Node> = LazyLock::new(build);

/// The row of a path, and where in the path its model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Found {
    pub(in crate::dialect) row: &'static Row,
    pub(in crate::dialect) model: Option<Captured>,
}

/// Where the model's name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Captured {
    /// Number of its first segment, from 0.
    pub(in crate::dialect) segment: usize,
    /// All further segments belong to it.
    pub(in crate::dialect) to_end: bool,
    /// Bytes of a `:verb` behind it.
    pub(in crate::dialect) verb: usize,
}

/// The row of a decoded path without its leading slash.
pub(in crate::dialect) fn find(path: &str) -> Option<Found> {
    ROOT.find(Some(path))
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by length, then by text.
    literals: Vec<(&'static str, Node)>,
    capture: Option<Box<Node>>,
    /// Patterns that end here.
    end: Option<Found>,
    /// The last segment with this `:verb`.
    verbs: Vec<(&'static str, Found)>,
    /// One or more segments, the last with this `:verb` or, at the end of the list, with none.
    rest: Vec<(&'static str, Found)>,
}

impl Node {
    /// `None`: the path ended.
    fn find(&self, path: Option<&str>) -> Option<Found> {
        let Some(path) = path else { return self.end };
        // Segments are short: a plain loop beats a search by vectors.
        let (segment, after) = match path.bytes().position(|byte| byte == b'/') {
            Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
            None => (path, None),
        };
        if let Ok(at) = self.place_of(segment)
            && let Some(found) = self.literals[at].1.find(after)
        {
            return Some(found);
        }
        let verb = |(verb, _): &&(&str, Found)| path.ends_with(verb);
        if after.is_none()
            && let Some((_, found)) = self.verbs.iter().find(verb)
        {
            return Some(*found);
        }
        let deeper = self.capture.as_ref().and_then(|capture| capture.find(after));
        deeper.or_else(|| self.rest.iter().find(verb).map(|(_, found)| *found))
    }

    fn place_of(&self, segment: &str) -> Result<usize, usize> {
        self.literals.binary_search_by(|(known, _)| {
            known.len().cmp(&segment.len()).then_with(|| known.as_bytes().cmp(segment.as_bytes()))
        })
    }

    fn literal(&mut self, text: &'static str) -> &mut Self {
        let at = match self.place_of(text) {
            Ok(at) => at,
            Err(at) => {
                self.literals.insert(at, (text, Self::default()));
                at
            }
        };
        &mut self.literals[at].1
    }
}

fn build() -> Node {
    let mut root = Node::default();
    for group in GROUPS {
        for base in group.bases {
            for row in group.rows {
                insert(&mut root, base, row);
            }
        }
    }
    root
}

/// Adds a row; of two rows with one shape the first stays (a test sees that there are none).
fn insert(root: &mut Node, base: &'static str, row: &'static Row) {
    let segments = base.split('/').chain(row.path.split('/')).filter(|segment| !segment.is_empty());
    let mut node = root;
    let mut model = None;
    let count = segments.clone().count();
    for (number, segment) in segments.enumerate() {
        let last = number + 1 == count;
        let capture = Captured { segment: number, to_end: false, verb: 0 };
        if segment == "*" {
            let found = Found { row, model };
            node.end.get_or_insert(found);
            node.rest.push(("", found));
            return;
        }
        if let Some(verb) = segment.strip_prefix("{model+}") {
            let model = Some(Captured { to_end: true, verb: verb.len(), ..capture });
            let at = node.rest.iter().position(|(known, _)| known.is_empty());
            let at = at.filter(|_| !verb.is_empty()).unwrap_or(node.rest.len());
            node.rest.insert(at, (verb, Found { row, model }));
            return;
        }
        let Some(end) = segment.strip_prefix('{').and_then(|_| segment.find('}')) else {
            node = node.literal(segment);
            continue;
        };
        let verb = &segment[end + 1..];
        if segment.starts_with("{model}") {
            model = Some(Captured { verb: verb.len(), ..capture });
        }
        if last && !verb.is_empty() {
            node.verbs.push((verb, Found { row, model }));
            return;
        }
        node = node.capture.get_or_insert_default();
    }
    node.end.get_or_insert(Found { row, model });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::rows::ModelAt;
    use std::collections::BTreeSet;

    /// Each row under each base, as a path.
    fn shapes() -> Vec<(String, &'static Row)> {
        let each = GROUPS.iter().flat_map(|group| {
            let rows = move |base: &&str| {
                let base = (*base).to_owned();
                group.rows.iter().map(move |row| (format!("{base}{}", row.path), row))
            };
            group.bases.iter().flat_map(rows)
        });
        each.collect()
    }

    #[test]
    fn each_row_is_found_by_its_own_path() {
        for (shape, row) in shapes() {
            let path = shape
                .replace("{model+}", "org/m")
                .replace("{model}", "m")
                .replace("{}", "7")
                .replace('*', "far/below");
            let found = find(path.trim_start_matches('/')).unwrap_or_else(|| panic!("{shape}"));
            assert_eq!(found.row, row, "{path} of {shape}");
            assert_eq!(found.model.is_some(), row.path.contains("{model"), "{shape}");
            assert_eq!(row.model == ModelAt::Path, row.path.contains("{model"), "{shape}");
            if let Some(base) = path.strip_suffix("/far/below") {
                let found = find(base.trim_start_matches('/'));
                assert!(found.is_some(), "{base} of {shape}");
            }
        }
    }

    #[test]
    fn no_two_rows_have_one_shape() {
        let mut seen = BTreeSet::new();
        for (shape, _) in shapes() {
            let shape = shape.replace("{model}", "{}");
            assert!(seen.insert(shape.clone()), "{shape}");
        }
    }

    #[test]
    fn what_no_row_has_is_not_found() {
        for path in ["", "v1", "v1/", "v1//chat/completions", "v1/chat", "V1/chat/completions", "*"]
        {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn a_literal_wins_and_a_capture_is_tried_after_it() {
        let model = |path| find(path).unwrap().model.map(|model: Captured| model.segment);
        assert_eq!(model("v2/models/stats"), None);
        assert_eq!(model("v2/models/stats/infer"), Some(2));
        assert_eq!(model("v2/models/m/stats"), Some(2));
    }
}
