//! What operators laid over the fleet by hand: drains and ejections, for a while or until they are taken back.
use super::plan::Plan;
use crate::stats::Moment;
use std::collections::BTreeMap;

/// One order that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// `None`: until it is taken back.
    pub ends: Option<Ends>,
    pub reason: Option<String>,
}

impl Hold {
    /// "drained by an operator: upgrade".
    pub fn why(&self, what: &str) -> String {
        match &self.reason {
            Some(reason) => format!("{what} by an operator: {reason}"),
            None => format!("{what} by an operator"),
        }
    }
}

/// When a hold ends: on the clock of this process, and on the wall, for the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub at: Moment,
    pub wall: jiff::Timestamp,
}

/// Model, version, and the replica's URL or `None` for the whole version.
pub type Held = (String, String, Option<String>);

/// All orders of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds(pub BTreeMap<Held, Hold>);

impl Holds {
    /// The order that holds this replica. Its own comes before that of its version.
    pub fn on(&self, model: &str, version: &str, url: &str) -> Option<&Hold> {
        // Few are ever held: looking through them allocates nothing.
        let holding =
            |(m, v, u): &&Held| m == model && v == version && u.as_deref().is_none_or(|u| u == url);
        let all = self.0.iter().filter(|(held, _)| holding(held));
        all.max_by_key(|((_, _, url), _)| url.is_some()).map(|(_, hold)| hold)
    }

    /// Takes orders back. Of a version that is held as a whole, the other replicas (`urls`) stay held.
    pub fn release<'a>(&mut self, released: &Held, urls: impl Iterator<Item = &'a str>) {
        let (model, version, url) = released;
        let Some(url) = url else {
            return self.0.retain(|(m, v, _), _| m != model || v != version);
        };
        self.0.remove(released);
        let Some(hold) = self.0.remove(&(model.clone(), version.clone(), None)) else { return };
        for other in urls.filter(|other| other != url) {
            let held = (model.clone(), version.clone(), Some(other.to_owned()));
            self.0.entry(held).or_insert_with(|| hold.clone());
        }
    }

    /// Removes and returns those whose time is over.
    pub fn take_over(&mut self, now: Moment) -> Vec<Held> {
        let over = |hold: &Hold| hold.ends.is_some_and(|ends| ends.at <= now);
        self.0.extract_if(.., |_, hold| over(hold)).map(|(held, _)| held).collect()
    }

    /// A hold ends with what it names: a version that returns under the same name serves.
    pub fn forget_gone(&mut self, plan: &Plan) {
        self.0.retain(|(model, version, url), _| {
            let model = plan.models.iter().find(|m| m.name == *model);
            let version = model.and_then(|m| m.versions.iter().find(|v| v.name == *version));
            version.is_some_and(|version| {
                let mut urls = version.replicas.iter().map(|replica| &replica.url.text);
                url.as_ref().is_none_or(|url| urls.any(|known| known == url))
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(url: Option<&str>) -> Held {
        ("chat".to_owned(), "v1".to_owned(), url.map(str::to_owned))
    }

    fn because(reason: &str) -> Hold {
        Hold { ends: None, reason: Some(reason.to_owned()) }
    }

    #[test]
    fn releasing_one_replica_of_a_held_version_leaves_the_others_held() {
        let mut holds = Holds::default();
        holds.0.insert(held(None), because("all"));
        holds.0.insert(held(Some("b")), because("itself"));
        holds.release(&held(Some("a")), ["a", "b", "c"].into_iter());
        let why = |url| holds.on("chat", "v1", url).and_then(|hold| hold.reason.as_deref());
        assert_eq!([why("a"), why("b"), why("c")], [None, Some("itself"), Some("all")]);
        holds.release(&held(None), std::iter::empty());
        assert!(holds.0.is_empty());
    }

    #[test]
    fn a_hold_with_an_end_is_over_then() {
        let mut holds = Holds::default();
        let at = Moment::from_millis(1000);
        let ends = Some(Ends { at, wall: jiff::Timestamp::UNIX_EPOCH });
        holds.0.insert(held(Some("a")), Hold { ends, reason: None });
        holds.0.insert(held(Some("b")), Hold::default());
        assert!(holds.take_over(Moment::from_millis(999)).is_empty());
        assert_eq!(holds.take_over(at), [held(Some("a"))]);
        assert_eq!(holds.0.len(), 1);
    }
}
