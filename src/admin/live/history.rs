//! The last quarter of an hour, kept for pages that open later.
use super::figures::{Counts, Figures};
use super::latencies::{Recent, SLOTS, Window};
use crate::fleet::VersionState;
use crate::stats::Moment;
use crate::table::{Model, Table};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Seconds that rates, and the points of lines, are of: fewer would jump about, more would come late.
const STEP: usize = 5;
/// Points of a line, one each [`STEP`].
const POINTS: usize = 15 * 60 / STEP;
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

#[derive(Debug)]
struct VersionTrack {
    track: Track,
    whole: Recent,
    first_byte: Recent,
}

#[derive(Debug, Default)]
struct ModelTracks {
    track: Track,
    versions: BTreeMap<Arc<str>, VersionTrack>,
}

/// How a model or version does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Present {
    /// Requests until the last look: those that the figures know of.
    pub(super) requests: u64,
    pub(super) now: Figures,
    /// What its line just got; `None`: nothing in this second.
    pub(super) point: Option<Figures>,
}

/// What was seen of all models.
#[derive(Debug, Default)]
pub(super) struct History {
    models: BTreeMap<Arc<str>, ModelTracks>,
    /// When the points of the lines were made, in Unix milliseconds.
    times: VecDeque<i64>,
    /// When the slots of percentiles were closed, oldest first.
    closed: VecDeque<Moment>,
    looks: usize,
    /// The last look made points.
    pointed: bool,
}

/// When a look is, and when the slots before it were closed.
#[derive(Clone, Copy, Debug)]
struct At<'a> {
    now: Moment,
    point: bool,
    closed: &'a VecDeque<Moment>,
}

impl At<'_> {
    /// How long ago the window began: at the end of the slot before its first.
    fn span(&self, window: &Window) -> Duration {
        let begin = self.closed.iter().nth_back(window.slots).or(self.closed.front());
        begin.map_or(Duration::ZERO, |begin| self.now.since(*begin))
    }
}

impl VersionTrack {
    /// Begins with what comes from now on: the version may have been listed before.
    fn begin(version: &VersionState) -> Self {
        let [whole, first_byte] =
            [&version.duration, &version.first_byte].map(|of| Recent::begin(of.sketch()));
        Self { track: Track::default(), whole, first_byte }
    }

    fn look(&mut self, version: &VersionState, counts: &Counts, at: &At<'_>) {
        self.whole.look(version.duration.sketch(), at.point);
        self.first_byte.look(version.first_byte.sketch(), at.point);
        self.track.look(counts, (&[&self.whole], &[&self.first_byte]), at);
    }
}

impl Track {
    fn look(&mut self, counts: &Counts, recent: (&[&Recent], &[&Recent]), at: &At<'_>) {
        self.looks.push_back((at.now, *counts));
        if self.looks.len() > STEP + 1 {
            self.looks.pop_front();
        }
        let (then, before) = self.looks.front().expect("one was just put in");
        let passed = at.now.since(*then);
        let rates = counts.figures(before, passed);
        let window = Window::of(recent.0);
        let first_byte = Window::of(recent.1).percentiles();
        self.now = rates.with(window.percentiles(), first_byte, at.span(&window));
        if at.point {
            let last = |of: &[&Recent]| Window::of_last_slots(of).percentiles();
            push(&mut self.line, rates.with(last(recent.0), last(recent.1), passed), POINTS);
        }
    }

    fn present(&self, pointed: bool) -> Present {
        let requests = self.looks.back().map(|(_, counts)| counts.requests()).unwrap_or_default();
        let point = self.line.back().copied().filter(|_| pointed);
        Present { requests, now: self.now, point }
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

fn push<T>(line: &mut VecDeque<T>, point: T, most: usize) {
    if line.len() == most {
        line.pop_front();
    }
    line.push_back(point);
}

impl History {
    /// A second has passed. What the table does not list any more is forgotten.
    pub(super) fn look(&mut self, table: &Table, now: Moment, unix_ms: i64) {
        let point = self.looks.is_multiple_of(STEP);
        self.looks += 1;
        self.pointed = point;
        if point {
            push(&mut self.times, unix_ms, POINTS);
            // One more than slots: each has a beginning and an end.
            push(&mut self.closed, now, SLOTS + 1);
        }
        let Self { models, closed, .. } = self;
        let at = At { now, point, closed };
        models.retain(|name, _| table.model(name).is_some_and(|model| model.name == *name));
        for model in &table.models {
            let tracks = models.entry(Arc::clone(&model.name)).or_default();
            tracks.look(model, &at);
        }
    }

    /// How a model and each of its versions do now.
    pub(super) fn now(&self, model: &str) -> (Present, impl Fn(&str) -> Present) {
        let tracks = self.models.get(model);
        let whole = tracks.map(|tracks| tracks.track.present(self.pointed)).unwrap_or_default();
        (whole, move |version: &str| {
            let version = tracks.and_then(|tracks| tracks.versions.get(version));
            version.map(|version| version.track.present(self.pointed)).unwrap_or_default()
        })
    }

    /// When the points were made that this second brought, in Unix milliseconds.
    pub(super) fn pointed_at(&self) -> Option<i64> {
        self.times.back().copied().filter(|_| self.pointed)
    }

    /// What a version's requests took lately, and to their first byte.
    pub(super) fn windows(&self, model: &str, version: &str) -> Option<[Window; 2]> {
        let version = self.models.get(model)?.versions.get(version)?;
        Some([&version.whole, &version.first_byte].map(|recent| Window::of(&[recent])))
    }

    /// The lines of all models, or of one with its versions.
    pub(super) fn lines(&self, model: Option<&str>) -> Lines {
        let models = match model {
            Some(name) => self.models.get_key_value(name).into_iter().map(Self::whole).collect(),
            None => self.busiest().map(|(name, tracks)| tracks.short(name)).collect(),
        };
        Lines { step_seconds: STEP, times: self.times.iter().copied().collect(), models }
    }

    fn whole((name, tracks): (&Arc<str>, &ModelTracks)) -> Value {
        let versions = tracks.versions.iter();
        let versions: Vec<Value> = versions
            .map(|(name, version)| json!({"name": &**name, "line": version.track.columns()}))
            .collect();
        json!({"name": &**name, "line": tracks.track.columns(), "versions": versions})
    }

    fn busiest(&self) -> impl Iterator<Item = (&Arc<str>, &ModelTracks)> {
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_by(|(_, a), (_, b)| {
            b.track.now.requests_per_second.total_cmp(&a.track.now.requests_per_second)
        });
        models.into_iter().take(LINES)
    }
}

impl ModelTracks {
    fn look(&mut self, model: &Model, at: &At<'_>) {
        self.versions.retain(|name, _| model.versions.iter().any(|version| version.name == *name));
        let mut counts = Counts::of_model(&model.state);
        for version in &model.versions {
            let own = Counts::of_version(&version.state);
            counts.add(&own);
            let track = self.versions.entry(Arc::clone(&version.name));
            let track = track.or_insert_with(|| VersionTrack::begin(&version.state));
            track.look(&version.state, &own, at);
        }
        let recents = |of: fn(&VersionTrack) -> &Recent| self.versions.values().map(of).collect();
        let (whole, first_byte): (Vec<_>, Vec<_>) =
            (recents(|version| &version.whole), recents(|version| &version.first_byte));
        self.track.look(&counts, (&whole, &first_byte), at);
    }

    fn short(&self, name: &Arc<str>) -> Value {
        json!({"name": &**name, "line": self.track.short_columns()})
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
    use crate::control::Core;
    use crate::health::Class;
    use crate::table::{Overrides, Plan};

    fn plan(versions: &str) -> Arc<Plan> {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\nmodels: {{m: {{versions: {versions}}}}}\n"
        );
        Arc::new(parse_text(text, "test", &|_| None).unwrap().plan)
    }

    fn start(versions: &str) -> Core {
        Core::start(&plan(versions), Overrides::default(), 0, Moment::ZERO).0
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
        let core = start(ONE);
        let mut history = History::default();
        after(&mut history, core.table(), 0..2000);
        let (whole, version) = history.now("m");
        assert!((whole.now.requests_per_second - 10.0).abs() < 1e-6, "{whole:?}");
        assert_eq!(version("v1"), whole);
        let lines = history.lines(Some("m"));
        assert_eq!((lines.times.len(), lines.times.last()), (180, Some(&1_995_000)));
        let line = &lines.models[0]["versions"][0]["line"]["requests_per_second"];
        assert_eq!(line.as_array().map(Vec::len), Some(180));
    }

    #[test]
    fn who_looks_at_all_models_gets_the_lines_of_the_cards() {
        let core = start(ONE);
        let mut history = History::default();
        after(&mut history, core.table(), 0..6);
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
        let (mut core, mut history) = (start(ONE), History::default());
        after(&mut history, core.table(), 0..3);
        core.apply(&plan("{v9: ['http://a:1']}"), Moment::from_millis(3000));
        after(&mut history, core.table(), 3..4);
        let names: Vec<_> = history.models["m"].versions.keys().map(|name| &**name).collect();
        assert_eq!(names, ["v9"]);
    }
}
