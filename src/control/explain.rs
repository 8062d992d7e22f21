//! Where a request would go, and why: without sending it, and without changing anything.
use super::explanation::{self, Explanation, Named, Question};
use crate::access::Tries;
use crate::access::{CARRIERS, secret_in};
use crate::balance::{Policy, fraction};
use crate::dialect::{
    Facts, PathFacts, cookie_value, decoded_path, nearest, query_value, read_path,
};
use crate::health::Standing;
use crate::proxy::bare_host;
use crate::stats::Moment;
use crate::table::{
    Asked, Key, KeySource, Model, RouteUsed, Routed, Table, Tier, Unrouted, Version,
};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::borrow::Cow;

/// Follows a request through the table as it stands. `Err`: why no model answers it.
pub fn explain(table: &Table, question: &Question, now: Moment) -> Result<Explanation, String> {
    let asker = asker(table, question)?;
    let path = read_path(&question.path).map_err(|problem| problem.to_string())?;
    let path = question.call().map_or(path, PathFacts::of_call);
    let is_call = path.call.is_some();
    let asked = Ask {
        question,
        host: bare_host(question.header("host").unwrap_or_default()),
        path: decoded_path(question.path.split('?').next().unwrap_or_default()),
    };
    let route = table.find_route(&asked).map_err(|why| words(&why))?;
    let body = question.read(&table.wanted_fields);
    let Routed { model, facts, .. } =
        table.route(route, &asked, &path, body).map_err(|why| words(&why))?;
    if let Some(key) = asker.filter(|key| !key.may_use(&model.name)) {
        return Err(format!("key `{}` may not use model `{}`", key.name, model.name));
    }
    let sticky = sticky(model, question, &facts, asker);
    let point = sticky.as_ref().map(|(_, point)| *point);
    let (owner, mut reason) = match owner(model, question, point)? {
        Some((version, why)) => (Some(version), why),
        None => (None, "drawn anew for each request, in proportion to the shares".to_owned()),
    };
    let version = owner.and_then(|owner| {
        let serves = serves(model, owner, point, is_call);
        let (of, other) = (&owner.name, serves.filter(|serves| serves.index != owner.index));
        match other {
            Some(other) => {
                reason = format!("{reason}; {of} has no usable replica, so {} serves", other.name);
            }
            None if serves.is_none() => {
                reason = format!("{reason}; neither it nor another has a usable replica");
            }
            None => {}
        }
        serves.or(Some(owner))
    });
    if is_call && !model.versions.iter().any(Version::speaks_http2) {
        reason +=
            "; gRPC needs a replica that speaks HTTP/2: write its address as `h2c://HOST:PORT`";
    }
    if let Some(instead) = without_usable(model, version, is_call) {
        reason = format!("{reason}; {instead}");
    }
    let shown = |candidate: &&Version| match version {
        Some(version) => version.index == candidate.index,
        None => candidate.share > 0.0,
    };
    let replicas =
        model.versions.iter().filter(shown).flat_map(|v| {
            v.candidates(&model.plan, v.reach(is_call), &[], now, (usize::MAX, None))
        });
    Ok(Explanation {
        generation: table.generation,
        route: route.map(RouteUsed::of),
        model: model.name.to_string(),
        named: Named::of(&facts),
        api_key: asker.map(|key| key.name.to_string()),
        key: sticky.map(|(source, point)| explanation::Key {
            source,
            hash: format!("{point:#018x}"),
            point: fraction(point),
            segment: model.segments.segment(point),
        }),
        shares: model.shares(),
        version: version.map(|version| version.name.to_string()),
        reason,
        balance: model.plan.balance.name().to_owned(),
        replicas: replicas.collect(),
        picked: version.and_then(|version| picked(model, (version, is_call), point, now)),
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

/// The version that a request belongs to, and why; `None`: it is drawn.
fn owner<'a>(
    model: &'a Model,
    question: &Question,
    point: Option<u64>,
) -> Result<Option<(&'a Version, String)>, String> {
    let pin = question.header("x-evener-version").filter(|_| model.plan.allow_pin);
    if let Some(pin) = pin {
        let pinned = model.versions.iter().find(|version| *version.name == *pin);
        let pinned = pinned.ok_or_else(|| {
            format!(
                "model `{}` has no version `{pin}`, which `x-evener-version` asks for",
                model.name
            )
        })?;
        return Ok(Some((pinned, "`x-evener-version` asks for it".to_owned())));
    }
    if let Some(point) = point {
        let owner = &model.versions[model.segments.version(point)];
        return Ok(Some((owner, "the point of its key is in this version's part".to_owned())));
    }
    let mut served = model.versions.iter().filter(|version| version.share > 0.0);
    Ok(match (served.next(), served.next()) {
        (Some(only), None) => Some((only, "it has everything".to_owned())),
        _ => None,
    })
}

/// The version that serves what belongs to `owner`; `None`: none has a usable replica.
fn serves<'a>(
    model: &'a Model,
    owner: &'a Version,
    point: Option<u64>,
    is_call: bool,
) -> Option<&'a Version> {
    let any = |version: &Version| version.any_within(version.reach(is_call), &[]);
    if any(owner) {
        return Some(owner);
    }
    let usable = |i: usize| any(&model.versions[i]);
    model.segments.without(point?, usable).map(|i| &model.versions[i])
}

/// Who is asked although no replica is usable; `None`: one is, or will be tried first.
fn without_usable(model: &Model, version: Option<&Version>, is_call: bool) -> Option<String> {
    let mut serving = model.versions.iter().filter(|version| version.share > 0.0);
    if serving.any(|version| version.any_within(version.reach(is_call), &[])) {
        return None;
    }
    let asked = |candidate: &&Version| version.is_none_or(|v| v.index == candidate.index);
    let members = model.versions.iter().filter(asked).flat_map(|version| {
        let reach = version.reach(is_call);
        version.members.iter().filter(move |member| reach.takes(&member.replica))
    });
    let left = members.filter(|member| member.replica.standing() != Standing::Draining);
    let urls: Vec<String> = left.map(|member| format!("`{}`", member.replica.id.url)).collect();
    Some(if model.plan.fail_open && !urls.is_empty() {
        format!("as `fail_open` is on, it asks those that fail: {}", urls.join(", "))
    } else {
        "it is refused with 503 `no_replicas`".to_owned()
    })
}

/// The first sticky key that is there: where it stands, and its point.
fn sticky(
    model: &Model,
    question: &Question,
    facts: &Facts,
    asker: Option<&Key>,
) -> Option<(String, u64)> {
    model.plan.hash_on.iter().find_map(|source| {
        let key = match source {
            KeySource::Header(name) => question.header(name).map(str::to_owned),
            KeySource::Cookie(name) => {
                cookie_value(question.header("cookie").into_iter(), name).map(str::to_owned)
            }
            KeySource::Query(name) => query_value(&question.path, name).map(Cow::into_owned),
            KeySource::Json(field) => facts.field(field).map(str::to_owned),
            KeySource::ApiKey => asker.map(|key| key.name.to_string()),
            KeySource::ClientIp => question.client_ip.map(|ip| ip.to_string()),
        };
        let key = key.filter(|key| !key.trim_ascii().is_empty())?;
        Some((source.to_string(), model.plan.point_of(key.as_bytes())))
    })
}

/// The replica that would be asked. Of policies that draw, none can be told; of equals, any.
fn picked(
    model: &Model,
    (version, is_call): (&Version, bool),
    key: Option<u64>,
    now: Moment,
) -> Option<String> {
    let told = match model.plan.balance {
        Policy::LeastLoad | Policy::LeastRequest => true,
        Policy::Hash => key.is_some(),
        Policy::P2c | Policy::RoundRobin | Policy::Random => false,
    };
    let reach = version.reach(is_call);
    let view = version.view(&model.plan, Tier::Usable, &[], now).within(reach);
    let mut rng = SmallRng::seed_from_u64(now.as_nanos());
    let picked = told.then(|| model.plan.balance.pick(&view, 0, key, &mut rng)).flatten()?;
    Some(version.members[picked].replica.id.url.to_string())
}

/// A question as routes look at it.
struct Ask<'a> {
    question: &'a Question,
    host: String,
    path: Cow<'a, str>,
}

impl Asked for Ask<'_> {
    fn method(&self) -> &str {
        &self.question.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.question.header(name)
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        cookie_value(self.question.header("cookie").into_iter(), name)
    }

    fn target(&self) -> &str {
        &self.question.path
    }

    fn upgrades(&self) -> bool {
        self.question.headers.contains_key("upgrade")
    }
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
