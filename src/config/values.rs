//! Every value that is in effect, by its path: for comparing two files key by key.
use super::effective::effective_yaml;
use crate::table::Plan;
use serde_json::Value;
use std::collections::BTreeMap;

/// `models.chat.timeouts.total` to `30m`; items of lists by what they are known by, `listeners[public].address`.
/// Secrets are masked.
pub fn effective_values(plan: &Plan) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let tree = serde_yaml::from_str(&effective_yaml(plan));
    flatten(String::new(), &tree.expect("what is rendered reads back"), &mut values);
    values
}

/// The path of a key below another: a name that would read as several is in brackets, `models[llama-3.1]`.
pub fn path_below(path: &str, key: &str) -> String {
    match (path, key.contains(['.', '[', ']'])) {
        ("", _) => key.to_owned(),
        (_, true) => format!("{path}[{key}]"),
        (_, false) => format!("{path}.{key}"),
    }
}

fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                flatten(path_below(&path, key), value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                let known = ["name", "url", "metric"].iter().find_map(|key| item[*key].as_str());
                let known = known.map_or_else(|| i.to_string(), str::to_owned);
                flatten(format!("{path}[{known}]"), item, into);
            }
        }
        Value::Array(items) => {
            let each: Vec<String> = items.iter().map(shown).collect();
            into.insert(path, format!("[{}]", each.join(", ")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            into.insert(path, shown(value));
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;

    #[test]
    fn each_value_has_a_path_and_secrets_are_masked() {
        let text = "listeners: [{name: public, address: 127.0.0.1:0}]\nadmin: {token: hush-hush-hush-hush}\nmodels:\n  m:\n    \
                    versions: {v: [{url: http://a:1, weight: 2}]}\n    timeouts: {total: 10m}\n";
        let plan = parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan;
        let values = effective_values(&plan);
        assert_eq!(values["listeners[public].address"], "127.0.0.1:0");
        assert_eq!(values["models.m.timeouts.total"], "10m");
        assert_eq!(values["models.m.versions.v.replicas[http://a:1].weight"], "2");
        assert!(values.values().all(|value| !value.contains("hush")));
    }

    #[test]
    fn what_routes_and_tests_match_is_masked_by_its_name() {
        let text = "listeners: [{address: 127.0.0.1:0}]\nmodels: {m: {versions: {v: ['http://a:1']}}}\nroutes:\n  \
                    - match: {headers: {x-api-key: hush, x-lab: blue}, query: {token: hush}, cookies: {session: hush}}\n    \
                    model: m\ntests:\n  - request: {path: '/v1/x?sig=hush&a=b', headers: {authorization: hush}}\n    \
                    expect: {model: m}\n";
        let checked = parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap();
        let shown = effective_yaml(&checked.plan);
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("blue") && shown.contains("sig=***&a=b"), "{shown}");
        let source = checked.warnings.masked_source();
        assert!(!source.contains("api-key: hush") && !source.contains("session: hush"), "{source}");
    }
}
