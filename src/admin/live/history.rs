//! The last quarter of an hour, kept for pages that open later.
use super::figures::{Counts, Figures};
use crate::stats::Moment;
use crate::table::{Model, Table};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Seconds that figures are of: fewer would jump about, more would come late.
pub(super) const WINDOW: usize = 5;
/// Points of a line, one each [`WINDOW`].
const POINTS: usize = 15 * 60 / WINDOW;
/// Models whose lines a page is sent that looks at all of them: those with the most traffic.
const LINES: usize = 60;

/// The recent counters of one model or version, and its line.
#[derive(Debug, Default)]
struct Track {
    /// A look each second, oldest first.
    looks: VecDeque<(Moment, Counts)>,
    line: VecDeque<Figures>,
    now: Figures,
}

#[derive(Debug, Default)]
struct ModelTracks {
    whole: Track,
    versions: BTreeMap<Arc<str>, Track>,
}

/// What was seen of all models.
#[derive(Debug, Default)]
pub(super) struct History {
    models: BTreeMap<Arc<str>, ModelTracks>,
    /// When the points of the lines were made, in Unix milliseconds.
    times: VecDeque<i64>,
    looks: usize,
}

impl Track {
    fn look(&mut self, counts: &Counts, now: Moment, point: bool) {
        self.looks.push_back((now, *counts));
        if self.looks.len() > WINDOW + 1 {
            self.looks.pop_front();
        }
        let (then, before) = self.looks.front().expect("one was just put in");
        self.now = counts.figures(before, now.since(*then));
        if point {
            push(&mut self.line, self.now);
        }
    }

    /// One list for each figure.
    fn columns(&self) -> Value {
        let column = |of: fn(&Figures) -> Option<f32>| -> Vec<Option<f32>> {
            self.line.iter().map(of).collect()
        };
        json!({
            "requests_per_second": column(|f| Some(f.requests_per_second)),
            "tokens_per_second": column(|f| Some(f.tokens_per_second)),
            "errors_percent": column(|f| f.errors_percent),
            "p50_ms": column(|f| f.p50_ms),
            "p95_ms": column(|f| f.p95_ms),
            "p99_ms": column(|f| f.p99_ms),
            "first_byte_p50_ms": column(|f| f.first_byte_p50_ms),
            "first_byte_p95_ms": column(|f| f.first_byte_p95_ms),
            "first_byte_p99_ms": column(|f| f.first_byte_p99_ms),
        })
    }

    /// Those of the cards.
    fn short_columns(&self) -> Value {
        let mut columns = self.columns();
        if let Some(columns) = columns.as_object_mut() {
            columns.retain(|name, _| CARD.contains(&name.as_str()));
        }
        columns
    }
}

const CARD: [&str; 3] = ["requests_per_second", "errors_percent", "p95_ms"];

fn push<T>(line: &mut VecDeque<T>, point: T) {
    if line.len() == POINTS {
        line.pop_front();
    }
    line.push_back(point);
}

impl History {
    /// A second has passed. What the table does not list any more is forgotten.
    pub(super) fn look(&mut self, table: &Table, now: Moment, unix_ms: i64) {
        let point = self.looks.is_multiple_of(WINDOW);
        self.looks += 1;
        if point {
            push(&mut self.times, unix_ms);
        }
        self.models.retain(|name, _| table.model(name).is_some_and(|model| model.name == *name));
        for model in &table.models {
            let tracks = self.models.entry(Arc::clone(&model.name)).or_default();
            tracks.look(model, now, point);
        }
    }

    /// How a model and each of its versions do now.
    pub(super) fn now(&self, model: &str) -> (Figures, impl Fn(&str) -> Figures) {
        let tracks = self.models.get(model);
        let whole = tracks.map(|tracks| tracks.whole.now).unwrap_or_default();
        (whole, move |version: &str| {
            let track = tracks.and_then(|tracks| tracks.versions.get(version));
            track.map(|track| track.now).unwrap_or_default()
        })
    }

    /// The lines of all models, or of one with its versions.
    pub(super) fn lines(&self, model: Option<&str>) -> Lines {
        let models = match model {
            Some(name) => self.models.get_key_value(name).into_iter().map(Self::whole).collect(),
            None => self.busiest().map(|(name, tracks)| tracks.short(name)).collect(),
        };
        Lines { step_seconds: WINDOW, times: self.times.iter().copied().collect(), models }
    }

    fn whole((name, tracks): (&Arc<str>, &ModelTracks)) -> Value {
        let versions = tracks.versions.iter();
        let versions: Vec<Value> = versions
            .map(|(name, track)| json!({"name": &**name, "line": track.columns()}))
            .collect();
        json!({"name": &**name, "line": tracks.whole.columns(), "versions": versions})
    }

    fn busiest(&self) -> impl Iterator<Item = (&Arc<str>, &ModelTracks)> {
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_by(|(_, a), (_, b)| {
            b.whole.now.requests_per_second.total_cmp(&a.whole.now.requests_per_second)
        });
        models.into_iter().take(LINES)
    }
}

impl ModelTracks {
    fn look(&mut self, model: &Model, now: Moment, point: bool) {
        self.versions.retain(|name, _| model.versions.iter().any(|version| version.name == *name));
        let mut whole = Counts::of_model(&model.state);
        for version in &model.versions {
            let counts = Counts::of_version(&version.state);
            whole.add(&counts);
            let track = self.versions.entry(Arc::clone(&version.name)).or_default();
            track.look(&counts, now, point);
        }
        self.whole.look(&whole, now, point);
    }

    fn short(&self, name: &Arc<str>) -> Value {
        json!({"name": &**name, "line": self.whole.short_columns()})
    }
}

/// What a page draws before the first second is over. Lines end at the last of `times`; one that began later is
/// shorter.
#[derive(Debug, Serialize)]
pub(super) struct Lines {
    step_seconds: usize,
    times: Vec<i64>,
    models: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::fleet::Fleet;
    use crate::health::Class;
    use crate::table::Overrides;

    fn table(fleet: &mut Fleet, versions: &str) -> Table {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\nmodels: {{m: {{versions: {versions}}}}}\n"
        );
        let plan = Arc::new(parse_text(text, "test", &|_| None).unwrap().plan);
        let over = Overrides::default();
        Table::build(1, &plan, &over, fleet, None, &mut || 0, Moment::ZERO).table
    }

    const ONE: &str = "{v1: ['http://a:1']}";

    fn after(history: &mut History, table: &Table, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let version = &table.models[0].versions[0].state;
            for _ in 0..10 {
                version.requests.add(200, Class::Success);
            }
            let unix_ms = i64::try_from(second * 1000).unwrap();
            history.look(table, Moment::from_millis(second * 1000), unix_ms);
        }
    }

    #[test]
    fn a_quarter_of_an_hour_is_kept_and_no_more() {
        let mut fleet = Fleet::default();
        let table = table(&mut fleet, ONE);
        let mut history = History::default();
        after(&mut history, &table, 0..2000);
        let (whole, version) = history.now("m");
        assert!((whole.requests_per_second - 10.0).abs() < 1e-6, "{whole:?}");
        assert_eq!(version("v1"), whole);
        let lines = history.lines(Some("m"));
        assert_eq!((lines.times.len(), lines.times.last()), (180, Some(&1_995_000)));
        let line = &lines.models[0]["versions"][0]["line"]["requests_per_second"];
        assert_eq!(line.as_array().map(Vec::len), Some(180));
    }

    #[test]
    fn who_looks_at_all_models_gets_the_lines_of_the_cards() {
        let mut fleet = Fleet::default();
        let table = table(&mut fleet, ONE);
        let mut history = History::default();
        after(&mut history, &table, 0..6);
        let lines = history.lines(None);
        let line = lines.models[0]["line"].as_object().unwrap();
        assert_eq!(
            line.keys().collect::<Vec<_>>(),
            ["errors_percent", "p95_ms", "requests_per_second"]
        );
        assert_eq!(line["requests_per_second"], json!([0.0, 10.0]));
    }

    #[test]
    fn what_left_the_table_is_forgotten() {
        let mut fleet = Fleet::default();
        let mut history = History::default();
        after(&mut history, &table(&mut fleet, ONE), 0..3);
        after(&mut history, &table(&mut fleet, "{v9: ['http://a:1']}"), 3..4);
        let names: Vec<_> = history.models["m"].versions.keys().map(|name| &**name).collect();
        assert_eq!(names, ["v9"]);
    }
}
