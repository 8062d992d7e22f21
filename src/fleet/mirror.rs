//! Mirrored requests of a model: how many run, what became of them, how often the two answers agree.
use crate::mirror::{Agreement, Comparison, MirrorPlan, Pair, Rate, Report, Terms, WorstPairs};
use crate::stats::Moment;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What became of a request that was to be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    Agreed,
    Differed,
    /// Both answered, and nothing in the answers could be compared: compressed or binary ones.
    Incomparable,
    /// An answer is too long to be kept.
    TooLarge,
    /// The copy got no whole answer, or one that only says that the replica is full.
    Failed,
    Timeout,
    /// No copy was made: enough of them ran, no space was left to keep answers, or no replica could take it.
    Skipped,
    /// The client did not get a good answer, or the process was on its way out.
    Abandoned,
}

impl Mirrored {
    pub const ALL: [Self; 8] = [
        Self::Agreed,
        Self::Differed,
        Self::Incomparable,
        Self::TooLarge,
        Self::Failed,
        Self::Timeout,
        Self::Skipped,
        Self::Abandoned,
    ];

    /// The name in metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::Incomparable => "incomparable",
            Self::TooLarge => "too_large",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
            Self::Abandoned => "abandoned",
        }
    }
}

type Counts = [u64; Mirrored::ALL.len()];

/// The living side of one model's mirror.
#[derive(Debug, Default)]
pub struct Mirror {
    pub(super) running: AtomicU32,
    results: [AtomicU64; Mirrored::ALL.len()],
    /// Copies that were answered with an error or a redirect where the client got a good answer.
    rejected: AtomicU64,
    /// Only those that mirror come here, and never on the way of a client.
    book: Mutex<Option<Book>>,
}

/// What was found so far on the terms that hold.
#[derive(Debug)]
struct Book {
    plan: MirrorPlan,
    terms: Terms,
    agreement: Agreement,
    began: Moment,
    /// What had become of requests before.
    before: Counts,
}

/// How a mirror stands.
#[derive(Clone, Debug)]
pub struct MirrorView {
    /// On the present terms.
    pub since: Moment,
    pub running: u32,
    /// Since then.
    pub results: Vec<(Mirrored, u64)>,
    pub rate: Rate,
}

impl Mirror {
    /// Follows the plan of a new table. Other terms begin anew.
    pub fn follow(&self, plan: Option<(&MirrorPlan, Terms)>, now: Moment) {
        let mut book = self.book.lock();
        let Some((plan, terms)) = plan else { return *book = None };
        let worst = || WorstPairs::new(plan.keep_worst, &plan.redact);
        match &mut *book {
            Some(book) if book.terms == terms => {
                if (book.plan.keep_worst, &book.plan.redact) != (plan.keep_worst, &plan.redact) {
                    book.agreement.keep(worst());
                }
                book.plan = plan.clone();
            }
            other => {
                *other = Some(Book {
                    plan: plan.clone(),
                    terms,
                    agreement: Agreement::new(worst()),
                    began: now,
                    before: self.counts(),
                });
            }
        }
    }

    fn counts(&self) -> Counts {
        std::array::from_fn(|i| self.results[i].load(Relaxed))
    }

    /// Since the process began, by what became of them.
    pub fn results(&self) -> impl Iterator<Item = (Mirrored, u64)> + '_ {
        Mirrored::ALL.into_iter().zip(self.counts())
    }

    /// The copy of a request that was answered well was not.
    pub fn note_rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    pub fn note(&self, result: Mirrored) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }

    /// Takes down a comparison. `None`: it was made on terms that do not hold any more.
    pub fn compared(&self, terms: &Terms, found: &Comparison, pair: &Pair<'_>) -> Option<Mirrored> {
        let wanted = self.held(terms, |book| book.agreement.wants(found))?;
        // Whoever asks for the status does not wait for this.
        let shown = wanted.map(|redaction| redaction.show(found, pair));
        self.held(terms, |book| book.agreement.add(found, pair.from, shown))?;
        Some(match found.agrees() {
            Some(true) => Mirrored::Agreed,
            Some(false) => Mirrored::Differed,
            None => Mirrored::Incomparable,
        })
    }

    fn held<T>(&self, terms: &Terms, look: impl FnOnce(&mut Book) -> T) -> Option<T> {
        self.book.lock().as_mut().filter(|book| book.terms == *terms).map(look)
    }

    /// `None`: nothing is mirrored.
    pub fn view(&self) -> Option<MirrorView> {
        self.book.lock().as_ref().map(|book| self.view_of(book))
    }

    /// The same, and all that was found.
    pub fn report(&self) -> Option<(MirrorView, Report)> {
        self.book.lock().as_ref().map(|book| (self.view_of(book), book.agreement.report()))
    }

    fn view_of(&self, book: &Book) -> MirrorView {
        let since = |((result, now), before): ((Mirrored, u64), u64)| (result, now - before);
        MirrorView {
            since: book.began,
            running: self.running.load(Relaxed),
            results: self.results().zip(book.before).map(since).collect(),
            rate: book.agreement.rate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mirroring::Mirroring;
    use super::super::model_state::ModelState;
    use super::*;
    use crate::dialect::OutputForm;
    use crate::mirror::{Answer, Facet};
    use std::sync::Arc;
    use std::time::Duration;

    fn plan(to: &str) -> MirrorPlan {
        MirrorPlan {
            to: to.to_owned(),
            percent: 100.0,
            compare: vec![Facet::Status],
            tolerance: 0.0,
            concurrency: 2,
            timeout: Duration::from_secs(1),
            keep_worst: 2,
            redact: Vec::new(),
        }
    }

    fn follow(mirror: &Mirror, plan: &MirrorPlan, upstream_model: Option<&str>, millis: u64) {
        let terms = plan.terms(upstream_model);
        mirror.follow(Some((plan, terms)), Moment::from_millis(millis));
    }

    fn differ(mirror: &Mirror, terms: &Terms) -> Option<Mirrored> {
        let by = vec![(Facet::Status, false)];
        let found = Comparison { by, distance: 1.0, difference: None };
        let answer = Answer { status: 200, form: OutputForm::Json, body: b"{}" };
        let (stable, candidate) = (answer, answer);
        let pair = Pair { request_id: "r", from: "v1", request: b"", stable, candidate };
        mirror.compared(terms, &found, &pair)
    }

    /// Comparisons, and the pairs that are shown.
    fn kept(mirror: &Mirror) -> (u64, usize) {
        let (view, report) = mirror.report().unwrap();
        (view.rate.compared, report.worst.len())
    }

    #[test]
    fn what_was_found_lasts_as_long_as_its_terms() {
        let mirror = Mirror::default();
        follow(&mirror, &plan("v2"), None, 0);
        let terms = plan("v2").terms(None);
        assert_eq!(differ(&mirror, &terms), Some(Mirrored::Differed));
        mirror.note(Mirrored::Differed);
        // Other numbers of it change nothing of what was found.
        let wider = MirrorPlan { concurrency: 9, percent: 1.0, ..plan("v2") };
        follow(&mirror, &wider, None, 5);
        assert_eq!(kept(&mirror), (1, 1));
        // What is to be hidden from now on is not shown from before either.
        let secret = MirrorPlan { redact: vec!["card".to_owned()], ..plan("v2") };
        follow(&mirror, &secret, None, 5);
        assert_eq!(kept(&mirror), (1, 0));
        // Another version, or another model behind the same name, is another question.
        follow(&mirror, &plan("v2"), Some("llama"), 6);
        assert_eq!(kept(&mirror), (0, 0));
        assert_eq!(differ(&mirror, &terms), None, "a copy that began on other terms");
        let view = mirror.view().unwrap();
        assert_eq!(view.since, Moment::from_millis(6));
        assert!(view.results.iter().all(|(_, n)| *n == 0), "{view:?}");
        assert_eq!(mirror.results().map(|(_, n)| n).sum::<u64>(), 1, "metrics never fall");
        mirror.follow(None, Moment::from_millis(7));
        assert!(mirror.view().is_none());
    }

    #[test]
    fn no_more_run_than_may_and_each_is_counted_once() {
        let model = Arc::<ModelState>::default();
        let count =
            |wanted| model.mirror.results().find(|(result, _)| *result == wanted).unwrap().1;
        let one = Mirroring::begin(&model, 2).unwrap();
        let two = Mirroring::begin(&model, 2).unwrap();
        assert!(Mirroring::begin(&model, 2).is_none());
        assert_eq!(count(Mirrored::Skipped), 1);
        one.ended(Mirrored::Agreed);
        drop(two);
        assert_eq!((count(Mirrored::Agreed), count(Mirrored::Abandoned)), (1, 1));
        assert!(Mirroring::begin(&model, 1).is_some(), "both places are free again");
        assert_eq!(model.mirror.running.load(Relaxed), 0);
    }
}
