//! A client that counts what it is answered: what Evener says of two versions is held to its counts.
use crate::canary::{ASK, check};
use crate::client::{Client, Request};
use crate::site::Site;
use evener::canary::words::grouped;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::task::JoinHandle;

/// Who answered a request, and whether it failed. What `v1` does not sign is the candidate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) by_v1: bool,
    pub(crate) failed: bool,
}

/// Hits and requests of the candidate, hits and requests of the other side.
pub(crate) type Counts = [u64; 4];

/// One client that asks again and again on one connection, each time when it has its answer.
pub(crate) struct Counting {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    client: JoinHandle<()>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.client.abort();
    }
}

impl Counting {
    pub(crate) async fn on(site: &Site, body: &'static str) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Answer>>>::default());
        let mut client = Client::connect(site.address, false).await.unwrap();
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&answers));
        let asking = async move {
            while !stopped.load(SeqCst) {
                let reply = client.send(Request::post(ASK, body)).await.unwrap();
                let answer = Answer { by_v1: reply.version() == "v1", failed: reply.status != 200 };
                noted.lock().push(answer);
            }
        };
        Self { stop, answers, client: tokio::spawn(asking) }
    }

    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().clone()
    }

    /// Waits for the answer that is under way, asks no more, and returns all.
    pub(crate) async fn end(mut self) -> Vec<Answer> {
        self.stop.store(true, SeqCst);
        (&mut self.client).await.expect("every request is answered");
        self.answers()
    }
}

pub(crate) fn counts(answers: &[Answer]) -> Counts {
    let of = |by_v1: bool| answers.iter().filter(move |answer| answer.by_v1 == by_v1);
    let failed = |by_v1| of(by_v1).filter(|answer| answer.failed).count() as u64;
    [failed(false), of(false).count() as u64, failed(true), of(true).count() as u64]
}

/// What Evener says of errors.
pub(crate) fn said_of_errors(canary: &Value) -> Counts {
    let found = check(canary, "errors");
    ["candidate_hits", "candidate_requests", "stable_hits", "stable_requests"]
        .map(|name| found[name].as_u64().unwrap_or_else(|| panic!("{canary}")))
}

/// Has the sentence the numbers of the API, with both counts?
pub(crate) fn sentence_has(canary: &Value, counts: Counts) -> bool {
    let [hits, requests, stable_hits, stable] = counts.map(grouped);
    let sentence = canary["sentence"].as_str().unwrap();
    sentence.contains(&format!("errors in {hits} of {requests} requests"))
        && sentence.contains(&format!(", v1 in {stable_hits} of {stable}"))
}

/// Were answers in a row exactly those that Evener counted? It begins with one of the first `begins`, and ends when it has
/// decided.
pub(crate) fn is_a_run_of(answers: &[Answer], begins: usize, counted: Counts) -> bool {
    let length = (counted[1] + counted[3]) as usize;
    (0..begins)
        .any(|from| answers.get(from..from + length).is_some_and(|run| counts(run) == counted))
}
