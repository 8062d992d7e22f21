//! Where a request would go, and why: without sending it, and without changing anything.
use super::explanation::{self, Explanation, Named, Question};
use super::outlook::Outlook;
use crate::access::Tries;
use crate::access::{CARRIERS, secret_in};
use crate::balance::fraction;
use crate::dialect::{PathFacts, nearest, read_path};
use crate::health::Repeatable;
use crate::proxy::Ask;
use crate::stats::Moment;
use crate::table::{AskedPath, Key, RouteUsed, Routed, Share, Table, Unrouted, Wish};

/// Follows a request through the table as it stands. `Err`: why no model answers it.
pub fn explain(table: &Table, question: &Question, now: Moment) -> Result<Explanation, String> {
    let asker = asker(table, question)?;
    let head = question.head()?;
    let asked = Ask::new(&head);
    let path = read_path(head.uri.path()).map_err(|problem| problem.to_string())?;
    let path = question.call().map_or(path, PathFacts::of_call);
    let route = table.find_route(&asked).map_err(|why| words(&why))?;
    let path = AskedPath::read(path, route, &question.path)?.facts;
    let body = question.read(&table.wanted_fields);
    let Routed { model, facts, .. } =
        table.route(route, &asked, &path, body).map_err(|why| words(&why))?;
    if let Some(key) = asker.filter(|key| !key.may_use(&model.name)) {
        return Err(format!("key `{}` may not use model `{}`", key.name, model.name));
    }
    let pinned = model.pinned(&asked, false).map_err(|none| none.to_string())?;
    let sticky = model.sticky_key(&asked, &facts, asker, question.client_ip);
    let key = sticky.map(|(_, point)| point);
    let wish = Wish {
        key,
        pinned,
        repeatable: model.repeatable(&asked, facts.repeats) == Repeatable::Always,
        is_call: path.call.is_some(),
        ..Wish::UNSPLIT
    };
    let outlook = Outlook::new(model, wish, now);
    Ok(Explanation {
        generation: table.generation,
        route: route.map(RouteUsed::of),
        model: model.name.to_string(),
        named: Named::of(&facts),
        api_key: asker.map(|key| key.name.to_string()),
        key: sticky.map(|(source, point)| explanation::Key {
            source: source.to_string(),
            hash: format!("{point:#018x}"),
            point: fraction(point),
            segment: model.segments.segment(point),
        }),
        shares: Share::all_of(model),
        version: outlook.version().map(|version| version.name.to_string()),
        reason: outlook.reason(),
        balance: model.plan.balance.name().to_owned(),
        replicas: outlook.candidates(now),
        picked: outlook.picked(now),
    })
}

/// The key that a request comes with. Nobody need tell a secret to ask: without one it goes on as if it had been let in.
fn asker<'a>(table: &'a Table, question: &Question) -> Result<Option<&'a Key>, String> {
    let Some(access) = &table.access else {
        return match &question.key {
            Some(name) => Err(format!("it comes with key `{name}`, and there are no `keys`")),
            None => Ok(None),
        };
    };
    if let Some(name) = &question.key {
        let key = access.named(name).ok_or_else(|| {
            let near = nearest(name, access.names());
            let near = near.first().map(|near| format!("; did you mean `{near}`?"));
            format!("there is no key `{name}`{}", near.unwrap_or_default())
        })?;
        return Ok(Some(key));
    }
    let carried = |name| Some((name, question.header(name)?.as_bytes()));
    let mut secrets =
        CARRIERS.into_iter().filter_map(carried).filter_map(|(name, value)| secret_in(name, value));
    let Some(secret) = secrets.next() else { return Ok(None) };
    let known = access.whose(secret, crate::observe::stamp().as_second(), &mut Tries::default());
    known.map(|key| Some(&**key)).map_err(|stranger| format!("it is refused: {stranger}"))
}

fn words(why: &Unrouted) -> String {
    match why {
        Unrouted::NoRoute => "it matches no route".to_owned(),
        Unrouted::ModelRequired => "it names no model, and there is no default".to_owned(),
        Unrouted::ModelNotFound { name, nearest } => {
            let near = if nearest.is_empty() {
                String::new()
            } else {
                format!("; did you mean `{}`?", nearest.join("` or `"))
            };
            format!("it names model `{name}`, which does not exist{near}")
        }
        Unrouted::Unidentified(problem) => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::explanation::post;
    use super::*;
    use crate::balance::hash_point;
    use crate::config::parse_text;
    use crate::control::Core;
    use crate::table::Overrides;
    use std::sync::Arc;

    fn ask(options: &str, question: &Question) -> Result<Explanation, String> {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nroutes:\n  - {{match: {{path: /v1/*}}}}\n  - {{match: {{path: /score, headers: {{x-team: a}}}}, model: m}}\nmodels:\n  m:\n    aliases: [gpt]\n    versions: {{v1: [http://a:1, {{url: http://a:2, weight: 2}}], v2: [http://b:1]}}\n    split: {{v1: 75, v2: 25}}\n{options}"
        );
        let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        explain(core.table(), question, Moment::ZERO)
    }

    fn chat(headers: &[(&str, &str)]) -> Question {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Question {
            method: post(),
            path: "/v1/chat/completions".into(),
            model: Some("gpt".into()),
            headers: headers.collect(),
            ..Question::default()
        }
    }

    #[test]
    fn a_drawn_version_is_not_made_up() {
        let found = ask("", &chat(&[])).unwrap();
        assert_eq!((found.version, found.picked, found.key), (None, None, None));
        assert_eq!(found.replicas.len(), 3);
        assert_eq!(found.route.unwrap().line, 3);
        let named = Named { name: "gpt".into(), found_in: "body".into() };
        assert_eq!((found.model.as_str(), found.named), ("m", Some(named)));
        let shares: Vec<_> = found.shares.iter().map(|share| share.share).collect();
        assert_eq!(shares, [75.0, 25.0]);
    }

    #[test]
    fn a_sticky_key_names_its_version_by_its_point() {
        let on = "    hash_on: [header:x-user-id]\n";
        for user in ["u1", "u5", "u9"] {
            let found = ask(on, &chat(&[("x-user-id", user)])).unwrap();
            let key = found.key.unwrap();
            assert_eq!(key.source, "header:x-user-id");
            let expected = if key.point < 0.75 { "v1" } else { "v2" };
            assert_eq!(found.version.as_deref(), Some(expected), "{user} {key:?}");
            assert_eq!(key.hash, format!("{:#018x}", hash_point("m", user.as_bytes())));
        }
    }

    #[test]
    fn the_least_load_is_picked_and_pins_are_kept() {
        let pinned = chat(&[("x-evener-version", "v2")]);
        let found = ask("    allow_pin: true\n", &pinned).unwrap();
        assert_eq!(found.version.as_deref(), Some("v2"));
        assert_eq!(found.picked.as_deref(), Some("http://b:1"));
        assert_eq!(ask("", &pinned).unwrap().version, None, "pins of anybody are not kept");
        let unknown = chat(&[("x-evener-version", "v9")]);
        assert!(ask("    allow_pin: true\n", &unknown).unwrap_err().contains("no version `v9`"));
    }

    #[test]
    fn what_goes_nowhere_says_why() {
        let mut lost = chat(&[]);
        lost.model = Some("gptt".into());
        assert!(ask("", &lost).unwrap_err().contains("did you mean `gpt`?"));
        let mut unrouted = chat(&[]);
        unrouted.path = "/score".into();
        assert_eq!(ask("", &unrouted).unwrap_err(), "it matches no route");
        unrouted.headers.insert("x-team".into(), "a".into());
        let found = ask("", &unrouted).unwrap();
        assert_eq!(found.route.unwrap().takes, "path /score, header x-team: a");
    }
}
