//! A copy of a request goes to another version once its client has the answer, and the two answers are compared.
//!
//! So the copy never competes with its own original, and costs the client nothing: the answer is kept as it passes, up
//! to a length, and only of requests that are mirrored. The copy runs in a task of its own that no drain waits for.
use super::asking::{Begun, First, Whole, open};
use super::body::Body;
use super::chance::{chance, spare};
use super::exchange::Exchange;
use super::forward::upstream;
use super::kept_answer::{Kept, Original, STEP};
use super::meaning::{Meaning, grpc_status};
use super::placed::Placed;
use super::request::Ask;
use super::shared::{Phase, Proxy, draining};
use crate::dialect::{DeadlineHeader, Dialect};
use crate::fleet::{Burden, Mirrored, Mirroring, Replica};
use crate::flow::Trouble;
use crate::health::Class;
use crate::mirror::{CompareSpec, Pair, compare};
use crate::observe::Task;
use crate::table::{Choice, Model, Timeouts, Version, Wish};
use http::HeaderValue;
use pingora_http::RequestHeader;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Redirects and errors begin here.
const FIRST_BAD: u16 = 300;
/// Parsed answers take many times their length, and a core each: of all models so many pairs are compared at once.
static COMPARING: Semaphore = Semaphore::const_new(2);
/// What tells a replica that nobody will read its answer.
const MARK: &str = "x-evener-mirror";

/// A copy on its way.
struct Copy {
    replica: Arc<Replica>,
    burden: Burden,
    request: Whole,
    #[cfg(feature = "otlp")]
    trace: Option<super::span::CopyTrace>,
}

/// What the answer to a copy is compared with.
struct Case {
    model: Arc<Model>,
    mirroring: Mirroring,
    dialect: Dialect,
    request_id: String,
    /// As the client sent it, with its space.
    request: Body,
    /// The version that served the client.
    from: Arc<str>,
    original: Kept,
}

impl Exchange<'_> {
    /// Decides whether this request is mirrored, and keeps its answer from now on if it is. `serves`: the version that
    /// is asked first.
    pub(super) fn overhear(&mut self, placed: &Placed<'_>, serves: &Version) {
        let model = placed.model;
        let Some(plan) = &model.plan.mirror else { return };
        let head = self.session.req_header();
        let whole = matches!(&placed.body, Body::Whole(bytes, _) if !bytes.is_empty());
        if !whole
            || *serves.name == *plan.to
            || !model.is_asked(&Ask::new(head), placed.facts.repeats)
            || chance() * 100.0 >= plan.percent
            || self.proxy.phase() >= Phase::Draining
        {
            return;
        }
        let mut space = self.proxy.buffers.reservation(None);
        if !self.proxy.buffers.grow_spare(&mut space, STEP) {
            model.state.mirror.note(Mirrored::Skipped);
            return;
        }
        let mirroring = Mirroring::begin(&model.state, plan.concurrency);
        self.original =
            mirroring.map(|mirroring| Box::new(Original { mirroring, answer: Kept::empty(space) }));
    }

    /// Sends the copy, now that the client has its answer.
    pub(super) fn mirror(&mut self, mut placed: Placed<'_>, key: Option<u64>) {
        let Some(original) = self.original.take() else { return };
        let Original { mirroring, answer } = *original;
        let model = Arc::clone(placed.model);
        let Some(plan) = &model.plan.mirror else { return };
        let from = self.record.course.version().map(|(name, _)| Arc::clone(name));
        let Some(from) = from.filter(|from| **from != *plan.to) else { return };
        // A failure of the version that serves, and what its client did not wait for, say nothing about the other.
        if !self.record.course.went_well() {
            return;
        }
        if let Some(lost) = answer.lost {
            return mirroring.ended(lost);
        }
        let to = model.versions.iter().find(|version| *version.name == *plan.to);
        let wish = Wish { key, is_call: self.is_call(), ..Wish::UNSPLIT };
        let Some(choice) = to.and_then(|to| spare(&model, to, wish, self.proxy.now())) else {
            return mirroring.ended(Mirrored::Skipped);
        };
        let replica = &choice.member.replica;
        placed.prepare(choice);
        let Ok(head) = self.copied_head(&placed, &model, choice) else {
            return mirroring.ended(Mirrored::Failed);
        };
        #[cfg(feature = "otlp")]
        let trace = self.trace_of_copy(choice);
        let copy = Copy {
            replica: Arc::clone(replica),
            burden: Burden::on(replica),
            request: Whole { head, body: placed.outgoing().clone(), call: self.is_call() },
            #[cfg(feature = "otlp")]
            trace,
        };
        placed.body.disown();
        let case = Case {
            mirroring,
            dialect: self.dialect(),
            request_id: self.record.request_id.clone(),
            request: placed.body,
            from,
            original: answer,
            model,
        };
        Task::Mirror.spawn(run(Arc::clone(self.proxy), copy, case));
    }

    fn copied_head(
        &self,
        placed: &Placed<'_>,
        model: &Model,
        choice: Choice<'_>,
    ) -> pingora_error::Result<Box<RequestHeader>> {
        let to = upstream(model.plan_of(choice.version), &choice.member.replica, true);
        let mut head = self.request_head(placed, &to)?;
        // Nobody waits any more.
        for deadline in DeadlineHeader::ALL {
            head.remove_header(deadline.name());
        }
        head.insert_header(MARK, HeaderValue::from_static("1"))?;
        #[cfg(feature = "otlp")]
        self.set_trace_of_copy(&mut head)?;
        Ok(head)
    }
}

async fn run(proxy: Arc<Proxy>, copy: Copy, case: Case) {
    let Some(plan) = &case.model.plan.mirror else { return };
    let mut phase = proxy.watch_phase();
    let Copy { replica, burden, request, .. } = copy;
    let asking = Box::pin(answer_of(&proxy, &case.model.plan.timeouts, &replica, request));
    let asked = tokio::select! { biased;
        // The process is on its way out, and does not wait for this.
        () = draining(&mut phase) => return,
        asked = timeout(plan.timeout, asking) => asked.unwrap_or(Err(Mirrored::Timeout)),
    };
    drop(burden);
    #[cfg(feature = "otlp")]
    if let Some(trace) = copy.trace {
        trace.ended(&proxy, asked.as_ref().map(|kept| kept.status).map_err(|lost| *lost));
    }
    let copied = match asked {
        Ok(copied) => copied,
        Err(result) => return case.mirroring.ended(result),
    };
    let Ok(turn) = COMPARING.acquire().await else { return };
    // A megabyte of JSON would hold up the clients of this thread.
    drop(tokio::task::spawn_blocking(move || {
        Task::Mirror.run(|| case.close(&copied));
        drop(turn);
    }));
}

/// Asks the replica, and reads its whole answer.
async fn answer_of(
    proxy: &Arc<Proxy>,
    timeouts: &Timeouts,
    replica: &Arc<Replica>,
    request: Whole,
) -> Result<Kept, Mirrored> {
    let call = request.call;
    let opened =
        open(Arc::clone(proxy), Arc::clone(replica), request, timeouts, Arc::default()).await;
    let Begun { mut session, first, keep, .. } = opened.map_err(|trouble| {
        tracing::debug!(replica = %replica.id, %trouble, "a copy failed");
        result_of(&trouble)
    })?;
    let mut answer = Kept::empty(proxy.buffers.reservation(None));
    let head = session.head().ok_or(Mirrored::Failed)?;
    let meaning = Meaning::of(head, call);
    if meaning.class == Class::Overloaded {
        return Err(Mirrored::Failed);
    }
    answer.begin(head, meaning);
    let mut next = match first {
        First::Chunk(bytes) => Some(bytes),
        First::Nothing | First::End => None,
    };
    while let Some(chunk) = next {
        answer.take(&chunk, &proxy.buffers);
        if let Some(lost) = answer.lost {
            return Err(lost);
        }
        next = session.read_body().await.map_err(|error| result_of(&error.into()))?;
    }
    if call
        && let Ok(Some(trailers)) = session.trailers().await
        && let Some(status) = grpc_status(&trailers)
    {
        answer.ends_as(status);
    }
    if keep && session.is_done() {
        replica.upstream.park(session, proxy.now()).await;
    }
    Ok(answer)
}

/// What a copy is counted as that got no whole answer. The model's own limits hold for it too.
fn result_of(trouble: &Trouble) -> Mirrored {
    if matches!(trouble, Trouble::Exhausted(_)) {
        return Mirrored::Skipped;
    }
    let late = trouble.class() == Class::Timeout;
    if late { Mirrored::Timeout } else { Mirrored::Failed }
}

impl Case {
    /// Compares the two answers, and takes down what was found.
    fn close(self, copied: &Kept) {
        let Self { model, mirroring, dialect, request_id, request, from, original } = self;
        let (Some(plan), Some(terms)) = (&model.plan.mirror, model.plan.mirror_terms()) else {
            return;
        };
        let spec = CompareSpec { dialect, facets: &plan.compare, tolerance: plan.tolerance };
        let (stable, candidate) = (original.answer(), copied.answer());
        if stable.status < FIRST_BAD && candidate.status >= FIRST_BAD {
            model.state.mirror.note_rejected();
        }
        let found = compare(&stable, &candidate, &spec);
        let (request_id, request) = (&*request_id, &**request.read_so_far());
        let pair = Pair { request_id, from: &from, request, stable, candidate };
        let taken = model.state.mirror.compared(&terms, &found, &pair);
        mirroring.ended(taken.unwrap_or(Mirrored::Abandoned));
    }
}
