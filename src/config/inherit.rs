//! What a model takes over from `defaults`: mappings merge deeply, everything else is replaced.
use super::keys::INHERITED;
use super::tree::{Entry, Node, Value};

/// The model's own node, filled up from `defaults`.
pub(super) fn merged(defaults: Option<&Node>, own: &Node) -> Node {
    let Some(defaults) = defaults else { return own.clone() };
    let inheritable = |entry: &&Entry| INHERITED.iter().any(|key| key.name == entry.key);
    let base = defaults.entries().iter().filter(inheritable).cloned().collect();
    let base = Node { span: defaults.span.clone(), value: Value::Map(base) };
    merge(&base, own)
}

fn merge(base: &Node, own: &Node) -> Node {
    let (Value::Map(base_entries), Value::Map(own_entries)) = (&base.value, &own.value) else {
        let keep = own.is_null() && matches!(base.value, Value::Map(_));
        return if keep {
            Node { span: own.span.clone(), value: base.value.clone() }
        } else {
            own.clone()
        };
    };
    let mut entries = own_entries.clone();
    for inherited in base_entries {
        match entries.iter_mut().find(|entry| entry.key == inherited.key) {
            Some(entry) if entry.key == "health" => {
                entry.value =
                    merge(&without_question(&inherited.value, &entry.value), &entry.value);
            }
            Some(entry) => entry.value = merge(&inherited.value, &entry.value),
            None => entries.push(inherited.clone()),
        }
    }
    Node { span: own.span.clone(), value: Value::Map(entries) }
}

/// A model that asks its own question does not inherit half of another: `{tcp: true}` and
/// `{path: /health}` merged would be neither.
fn without_question(base: &Node, own: &Node) -> Node {
    const KINDS: [&str; 3] = ["tcp", "path", "post"];
    const QUESTION: [&str; 5] = ["tcp", "path", "post", "body", "expect"];
    let asks = own.entries().iter().any(|entry| KINDS.contains(&entry.key.as_str()));
    let mut base = base.clone();
    if let (true, Value::Map(entries)) = (asks, &mut base.value) {
        entries.retain(|entry| !QUESTION.contains(&entry.key.as_str()));
    }
    base
}
