//! Webhooks: what happens to a canary is told to a chat, a pager or a pipeline.
//!
//! Each is a POST after the Standard Webhooks specification (version 1), so that receivers verify the signature with
//! the libraries that exist: `webhook-id` stays the same when it is sent again, `webhook-signature` is an HMAC-SHA256
//! over id, time and body. `text` in the body is what Slack, Mattermost and Google Chat show.
use super::action::CanaryNews;
use crate::canary::Notify;
use crate::fleet::ModelState;
use crate::observe::{Events, Level, Meters, Task, stamp};
use crate::table::{KeptWebhook, Table};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use ring::hmac;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use ureq::tls::{RootCerts, TlsConfig};

/// How long a receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The first pause before it is told again; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// After so many attempts, some 50 minutes, a message is given up.
const MOST_ATTEMPTS: u32 = 18;
/// From this attempt on a receiver is a problem.
const DOUBTED: u32 = 2;
/// What waits when the process ends gets so much longer.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Messages that wait for one receiver at most: one that is away must not fill the memory, and takes no room of others.
const MOST_WAITING: usize = 64;

/// Delivers messages: to one receiver in the order in which things happened, to others meanwhile.
#[derive(Debug)]
pub(super) struct Courier {
    agent: ureq::Agent,
    events: Arc<Events>,
    /// Where receivers are named that do not take their messages.
    meters: Arc<Meters>,
    /// By receiver, what waits for it; the first is on its way. A line without messages is not there.
    lines: Mutex<BTreeMap<String, Line>>,
    line_ended: sync::Notify,
    /// A message left its line since somebody asked.
    moved: AtomicBool,
    sent: AtomicU64,
}

/// Of whom a message tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) candidate: &'a str,
    pub(super) state: &'a Arc<ModelState>,
    pub(super) who: &'a str,
    pub(super) reason: Option<&'a str>,
}

/// What is sent.
#[derive(Debug, Serialize)]
struct Body<'a> {
    /// For chats.
    text: String,
    event: &'a str,
    model: &'a str,
    candidate: &'a str,
    sentence: &'a str,
    /// When it happened.
    time: jiff::Timestamp,
    who: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A message, to whom, and of which model it tells.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kept: KeptWebhook,
    to: Notify,
    state: Arc<ModelState>,
}

/// What waits for a receiver, and the task that sends it, which ends with the line.
#[derive(Debug)]
struct Line {
    waiting: VecDeque<Arc<Message>>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    why: String,
    /// It may work later.
    passing: bool,
}

impl Courier {
    pub(super) fn new(events: Arc<Events>, meters: Arc<Meters>) -> Arc<Self> {
        // The system's certificates: a company's own authority counts here as elsewhere.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("evener/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        Arc::new(Self {
            agent: config.build().new_agent(),
            events,
            meters,
            lines: Mutex::default(),
            line_ended: sync::Notify::new(),
            moved: AtomicBool::default(),
            sent: AtomicU64::default(),
        })
    }

    /// A message of what happened.
    pub(super) fn message(&self, to: &Notify, news: &CanaryNews, about: Subject<'_>) -> Message {
        let CanaryNews { model, occasion, sentence } = news;
        let (event, time) = (occasion.name(), stamp());
        let Subject { candidate, state, who, reason } = about;
        let text = format!("{model}: {sentence}");
        let body = Body { text, event, model, candidate, sentence, time, who, reason };
        let body = serde_json::to_string(&body).expect("text and times are JSON");
        let id = format!("msg_{:x}_{}", time.as_nanosecond(), self.sent.fetch_add(1, Relaxed));
        let kept = KeptWebhook { model: model.clone(), event: event.to_owned(), id, body };
        Message { kept, to: to.clone(), state: Arc::clone(state) }
    }

    /// Goes on with what the last process could not tell, to whom the file now names.
    pub(super) fn resume(self: &Arc<Self>, left: Vec<KeptWebhook>, table: &Table) {
        for kept in left {
            let model = table.model(&kept.model);
            let notify = model.and_then(|model| model.plan.canary.as_ref()?.notify.as_ref());
            let state = model.map(|model| Arc::clone(&model.state));
            if let (Some(to), Some(state)) = (notify.cloned(), state.clone()) {
                self.send(Message { kept, to, state });
            } else {
                self.give_up(&kept, state.as_deref(), "the file names no receiver any more");
            }
        }
    }

    /// Sends it off, and does not wait.
    pub(super) fn send(self: &Arc<Self>, message: Message) {
        let mut lines = self.lines.lock();
        let line = lines.entry(message.to.webhook.clone()).or_insert_with_key(|receiver| {
            let (courier, receiver) = (Arc::clone(self), receiver.clone());
            let serving = move || Arc::clone(&courier).serve(receiver.clone());
            let task = tokio::spawn(Task::Webhook.keep_running(serving)).abort_handle();
            Line { waiting: VecDeque::new(), task }
        });
        line.waiting.push_back(Arc::new(message));
        // What happened last counts most. The first is on its way.
        let full = line.waiting.len() > MOST_WAITING;
        let given_up = full.then(|| line.waiting.remove(1)).flatten();
        drop(lines);
        if let Some(given_up) = given_up {
            let why = format!("{MOST_WAITING} later messages wait for its receiver");
            self.note(&given_up, Err(why));
        }
    }

    /// A receiver's line: one message after the other, until none waits.
    async fn serve(self: Arc<Self>, receiver: String) {
        while let Some(message) = self.first(&receiver) {
            let delivered = self.deliver(&message).await;
            if delivered.is_ok() {
                self.meters.troubles.delivered(&host_of(&message.to.webhook));
            }
            self.note(&message, delivered);
            self.lines.lock().get_mut(&receiver).and_then(|line| line.waiting.pop_front());
            self.moved.store(true, Relaxed);
        }
        self.meters.troubles.delivered(&host_of(&receiver));
        self.line_ended.notify_one();
    }

    /// The next message to a receiver. When there is none, its line is no more.
    fn first(&self, receiver: &str) -> Option<Arc<Message>> {
        let mut lines = self.lines.lock();
        let first = lines.get(receiver).and_then(|line| line.waiting.front().cloned());
        if first.is_none() {
            lines.remove(receiver);
        }
        first
    }

    /// All that was not told yet.
    pub(super) fn waiting(&self) -> Vec<KeptWebhook> {
        let lines = self.lines.lock();
        lines.values().flat_map(|line| &line.waiting).map(|message| message.kept.clone()).collect()
    }

    /// Is less waiting than when this was asked before?
    pub(super) fn moved(&self) -> bool {
        self.moved.swap(false, Relaxed)
    }

    /// Sends nothing more: another process does. What is just being sent may arrive twice.
    pub(super) fn leave(&self) {
        self.lines.lock().clear();
    }

    /// Waits a moment for what is on its way: the process ends.
    pub(super) async fn last_words(&self) {
        let told = async {
            while !self.lines.lock().is_empty() {
                self.line_ended.notified().await;
            }
        };
        // What is left is kept.
        timeout(LAST_WORDS, told).await.ok();
    }

    /// Sends a message until it arrives. `Err`: why it was given up.
    async fn deliver(&self, message: &Arc<Message>) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let (agent, one) = (self.agent.clone(), Arc::clone(message));
            let posted = spawn_blocking(move || Task::Webhook.run(|| post(&agent, &one))).await;
            let failed = match posted.map_err(|error| error.to_string())? {
                Ok(()) => break,
                Err(failed) => failed,
            };
            if !failed.passing {
                return Err(failed.why);
            }
            if attempt == MOST_ATTEMPTS {
                return Err(format!("{} (attempt {attempt})", failed.why));
            }
            tracing::warn!(attempt, why = failed.why, ?pause, "a webhook failed and is sent again");
            if attempt >= DOUBTED {
                let waiting =
                    self.lines.lock().get(&message.to.webhook).map_or(1, |l| l.waiting.len());
                let host = host_of(&message.to.webhook);
                self.meters.troubles.undelivered(&host, waiting, &failed.why);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    fn note(&self, message: &Message, delivered: Result<(), String>) {
        let Message { kept, state, .. } = message;
        match delivered {
            Ok(()) => {
                state.webhooks_delivered.fetch_add(1, Relaxed);
            }
            Err(why) => self.give_up(kept, Some(state), &why),
        }
    }

    fn give_up(&self, kept: &KeptWebhook, state: Option<&ModelState>, why: &str) {
        if let Some(state) = state {
            state.webhooks_failed.fetch_add(1, Relaxed);
        }
        let message = format!("the webhook was not told of `{kept}`: {why}");
        self.events.tell(Level::Warning, "webhook", message, "evener", None);
    }
}

/// The part of a receiver's address that is no secret.
fn host_of(receiver: &str) -> String {
    let address: Option<http::Uri> = receiver.parse().ok();
    let host = address.as_ref().and_then(http::Uri::host);
    host.unwrap_or("of `notify`").to_owned()
}

/// One attempt.
fn post(agent: &ureq::Agent, message: &Message) -> Result<(), Failed> {
    let Message { to, kept: KeptWebhook { id, body, .. }, .. } = message;
    let time = stamp().as_second().to_string();
    let mut request = agent
        .post(&to.webhook)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", &time);
    if let Some(secret) = &to.secret {
        request = request.header("webhook-signature", signature(secret, id, &time, body));
    }
    match request.send(body) {
        Ok(answer) => judge(answer.status().as_u16()),
        // The one error that quotes the address, which may be a secret.
        Err(ureq::Error::BadUri(_)) => {
            Err(Failed { why: "its address cannot be used".to_owned(), passing: false })
        }
        Err(error) => Err(Failed { why: error.to_string(), passing: true }),
    }
}

fn judge(status: u16) -> Result<(), Failed> {
    match status {
        200..=299 => Ok(()),
        300..=399 => {
            let why = format!("it answered {status}, and redirects are not followed");
            Err(Failed { why, passing: false })
        }
        408 | 425 | 429 | 500.. => {
            Err(Failed { why: format!("it answered {status}"), passing: true })
        }
        _ => Err(Failed { why: format!("it answered {status}"), passing: false }),
    }
}

/// `v1,` and the base64 of the HMAC. A secret that begins with `whsec_` is base64 itself, as the libraries want it.
fn signature(secret: &str, id: &str, time: &str, body: &str) -> String {
    let decoded =
        secret.strip_prefix("whsec_").and_then(|coded| BASE64_STANDARD.decode(coded).ok());
    let key = decoded.unwrap_or_else(|| secret.as_bytes().to_vec());
    let signed = format!("{id}.{time}.{body}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = "whsec_plJ3nmyCDGBKInavdOK15jsl";
        let body = r#"{"event_type":"ping","data":{"success":true}}"#;
        let signed = signature(secret, "msg_loFOjxBNrRLzqYUf", "1731705121", body);
        assert_eq!(signed, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        let again = |status| judge(status).map_err(|failed| failed.passing);
        assert_eq!([200, 204].map(again), [Ok(()); 2]);
        assert_eq!([301, 400, 401, 404, 410].map(again), [Err(false); 5]);
        assert_eq!([408, 429, 500, 503].map(again), [Err(true); 4]);
    }
}
