//! Parameters of a query (WHATWG URL, `application/x-www-form-urlencoded`), and cookies (RFC 6265).
use super::escape::{Slash, decode};
use super::name::Named;
use super::naming::{flat, reads_as_model};
use super::prompt::names::folded;
use std::borrow::Cow;
use std::ops::Range;

/// A query that names two models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query has two parameters `{0}` that differ: send one")]
pub struct TwoInQuery(pub String);

/// The value of a parameter in a target (path and query, as sent), decoded. Of several the first that is not empty counts.
pub fn query_value<'a>(target: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let all = values(target, name).map(|range| decoded(&target[range]));
    first_of(all, |value| value.trim().is_empty())
}

/// The first value that is not empty, else the first.
pub fn first_of<T>(
    mut values: impl Iterator<Item = T>,
    is_empty: impl Fn(&T) -> bool,
) -> Option<T> {
    let first = values.next()?;
    let later = if is_empty(&first) { values.find(|value| !is_empty(value)) } else { None };
    Some(later.unwrap_or(first))
}

/// The model that a parameter names; nothing where it is absent or empty.
pub fn model_in_query(target: &str, name: &str) -> Result<Option<Named>, TwoInQuery> {
    let mut found: Option<Named> = None;
    for range in values(target, name) {
        let named = Named { name: decoded(&target[range.clone()]).into_owned(), range };
        match &found {
            _ if named.name.is_empty() => {}
            Some(first) if first.name != named.name => return Err(TwoInQuery(name.to_owned())),
            Some(_) => {}
            None => found = Some(named),
        }
    }
    Ok(found)
}

/// Every parameter that some server may take for a model's name, in lower case, with its value: those that read so, and
/// those in `more`. Some servers tell parameters apart neither by case nor by what follows in brackets.
pub fn models_in_query(target: &str, more: &[&str]) -> Vec<(String, String)> {
    let target = target.split('#').next().unwrap_or_default();
    let Some((_, query)) = target.split_once('?') else { return Vec::new() };
    // Some servers take `;` for `&`, as HTML 4 asked for.
    let pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let spelled = |name: &str| {
        let text = decoded(name);
        let stem = text.split(['[', '.', '\0']).next().unwrap_or_default();
        folded(stem.trim()).into_owned()
    };
    let names = |name: &String| {
        reads_as_model(&flat(name)) || more.iter().any(|known| folded(known) == name.as_str())
    };
    pairs
        .map(|(name, value)| (spelled(name), value))
        .filter(|(name, _)| names(name))
        .map(|(name, value)| (name, decoded(value).into_owned()))
        .collect()
}

/// The value of a cookie among the values of all `cookie` headers, without the quotes around it. Of several the first that
/// is not empty counts.
pub fn cookie_value<'a>(headers: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let pairs = headers.flat_map(|header| header.split(';')).filter_map(|one| one.split_once('='));
    let values = pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| {
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        quoted.unwrap_or(value)
    });
    first_of(values, |value| value.trim().is_empty())
}

/// Where the values of a parameter stand.
fn values<'a>(target: &'a str, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let target = target.split('#').next().unwrap_or_default();
    let mut at = target.find('?').map_or(target.len(), |mark| mark + 1);
    let query = &target[at..];
    query.split('&').filter_map(move |pair| {
        let start = at;
        at += pair.len() + 1;
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        let end = start + pair.len();
        (decoded(known) == name).then_some(end - value.len()..end)
    })
}

fn decoded(raw: &str) -> Cow<'_, str> {
    if raw.contains('+') {
        let spaced = raw.replace('+', " ");
        return Cow::Owned(decode(&spaced, Slash::Decoded).0.into_owned());
    }
    decode(raw, Slash::Decoded).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parameter_is_found_and_decoded() {
        let target = "/v1/realtime?intent=x&mod%65l=meta%2Fllama+3&flag#model=no";
        assert_eq!(query_value(target, "model").as_deref(), Some("meta/llama 3"));
        assert_eq!(query_value(target, "flag").as_deref(), Some(""));
        assert_eq!(query_value(target, "Model"), None);
        assert_eq!(query_value("/model=x", "model"), None);
        let named = model_in_query(target, "model").unwrap().unwrap();
        assert_eq!(&target[named.range], "meta%2Fllama+3");
    }

    #[test]
    fn two_models_in_a_query_are_an_error_unless_they_are_one() {
        assert_eq!(model_in_query("/?m=a&m=b", "m"), Err(TwoInQuery("m".to_owned())));
        assert!(model_in_query("/?m=a&m=%61&m=", "m").unwrap().is_some());
        assert_eq!(model_in_query("/?m=", "m"), Ok(None));
    }

    #[test]
    fn every_model_of_a_query_is_found() {
        let target = "/x?a=1&Model=b;mod%65l=%63&models=d&model#model=e";
        let found = |target, more: &[&str]| -> Vec<String> {
            let pairs = models_in_query(target, more).into_iter();
            pairs.map(|(name, value)| format!("{name}={value}")).collect()
        };
        assert_eq!(found(target, &[]), ["model=b", "model=c", "models=d", "model="]);
        let target = "/x?MODEL[]=b&deployment=c&Model_Name=d&X-Model=e&model.x=f";
        let first = ["model=b", "deployment=c", "model_name=d"];
        assert_eq!(found(target, &[])[..3], first);
        assert_eq!(found(target, &[]), [&first[..], &["x-model=e", "model=f"]].concat());
        assert_eq!(found("/x?engine=a&lora-id=b&m=c", &["m"]), ["engine=a", "lora-id=b", "m=c"]);
        assert!(found("/x?model-version=1&m=c&search_engine=d", &[]).is_empty());
        assert!(found("/model=x", &[]).is_empty());
    }

    #[test]
    fn a_cookie_is_found_in_any_of_its_headers() {
        let headers = ["a=1; session=\"x y\"", "session=later;b", "c = 3"];
        let value = |name| cookie_value(headers.into_iter(), name);
        assert_eq!((value("session"), value("a"), value("c")), (Some("x y"), Some("1"), Some("3")));
        assert_eq!((value("b"), value("ession")), (None, None));
    }

    #[test]
    fn an_empty_value_gives_way_to_a_later_one() {
        for (target, value) in [
            ("/?u=&u=a&u=b", Some("a")),
            ("/?u=b&u=", Some("b")),
            ("/?u=%20&u=c", Some("c")),
            ("/?u&u=", Some("")),
            ("/?x=1", None),
        ] {
            assert_eq!(query_value(target, "u").as_deref(), value, "{target}");
        }
        let value = |headers: [&'static str; 2]| cookie_value(headers.into_iter(), "u");
        assert_eq!(value(["u=; x=1", "u=a; u=b"]), Some("a"));
        assert_eq!(value(["u=\"\"", "u=c"]), Some("c"));
        assert_eq!(value(["u=", "x=1"]), Some(""));
    }

    proptest! {
        #[test]
        fn any_target_is_read_without_panic(target in ".*", name in "[a-z]{1,3}", query in "[a-c=&+%20#?]*") {
            for target in [target, format!("/?{query}")] {
                drop(query_value(&target, &name));
                if let Ok(Some(named)) = model_in_query(&target, &name) {
                    prop_assert_eq!(decoded(&target[named.range]), named.name);
                }
            }
            cookie_value([query.as_str()].into_iter(), &name);
        }
    }
}
