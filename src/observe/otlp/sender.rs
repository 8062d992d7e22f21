//! Sends spans to a collector in batches, by OTLP over HTTP with JSON.
//!
//! JSON is one of the two encodings that a collector must take (OTLP 1.0), and asks for nothing that Evener does not
//! have: `ureq` already tells webhooks. `opentelemetry-otlp` would bring protobuf, a second HTTP client and a
//! second kind of span, to be filled from the same record.
use super::span::{Attribute, Span, export_body};
use crate::observe::meters::{Meters, SpanFate};
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::OtlpPlan;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::park_timeout;
use std::time::Duration;
use ureq::tls::{RootCerts, TlsConfig};

/// A batch is sent when it has so many spans, or its first request waited so long.
const FULL: usize = 512;
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often the queue is looked at: that spares the data path a system call for each request.
const LOOK: Duration = Duration::from_millis(50);
/// A batch that the collector does not take is tried again for so long, with pauses that double.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long the collector may take when nothing more is coming.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two lines in the log that say how many spans are lost.
const BETWEEN_COMPLAINTS: Duration = Duration::from_mins(1);
/// No answer is read further.
const LONGEST_ANSWER: u64 = 64 << 10;

/// The thread's own.
pub(super) struct Sender {
    url: String,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    timeout: Duration,
    resource: Vec<Attribute>,
    agent: ureq::Agent,
    waiting: Receiver<Vec<Span>>,
    leaving: Arc<AtomicBool>,
    meters: Arc<Meters>,
    clock: MonotonicClock,
    /// Did the collector refuse or fail when it was last asked?
    failing: bool,
    complained: Option<Moment>,
    /// Lost spans that were told of.
    told: u64,
}

/// What became of one attempt to send a batch.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// But for so many spans that the collector does not want, and why.
    Taken {
        rejected: u64,
        why: String,
    },
    /// May pass, after so long if the collector says it.
    Later {
        why: String,
        after: Option<Duration>,
    },
    Never {
        why: String,
    },
}

impl Sender {
    pub(super) fn new(
        plan: &OtlpPlan,
        waiting: Receiver<Vec<Span>>,
        leaving: Arc<AtomicBool>,
        meters: Arc<Meters>,
    ) -> Self {
        // The system's certificates: a company's own authority counts here as elsewhere.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("evener/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        let told = meters.spans_lost();
        Self {
            url: format!("{}/v1/traces", plan.endpoint),
            headers: plan.headers.clone(),
            timeout: plan.timeout,
            resource: resource(&plan.resource),
            agent: config.build().new_agent(),
            waiting,
            leaving,
            meters,
            clock: MonotonicClock::new(),
            failing: false,
            complained: None,
            told,
        }
    }

    /// Sends until nothing more can come.
    pub(super) fn run(&mut self) {
        loop {
            let (batch, ended) = self.gather();
            if !batch.is_empty() {
                self.deliver(&batch);
            }
            if ended {
                return;
            }
        }
    }

    /// The next batch, and whether it is the last.
    fn gather(&self) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let mut since = None;
        while batch.len() < FULL {
            match self.waiting.try_recv() {
                Ok(spans) => {
                    since.get_or_insert_with(|| self.clock.now());
                    batch.extend(spans);
                }
                Err(TryRecvError::Disconnected) => return (batch, true),
                Err(TryRecvError::Empty) => {
                    let now = self.clock.now();
                    if since.is_some_and(|since| now.since(since) >= LONGEST_WAIT) {
                        break;
                    }
                    park_timeout(LOOK);
                }
            }
        }
        (batch, false)
    }

    fn deliver(&mut self, batch: &[Span]) {
        let body = export_body(&self.resource, batch);
        let (began, mut pause) = (self.clock.now(), FIRST_PAUSE);
        let why = loop {
            // One more attempt is made after this was seen, and no other.
            let leaving = self.leaving.load(Relaxed);
            match self.post(&body, leaving) {
                Sent::Taken { rejected, why } => {
                    let rejected = rejected.min(batch.len() as u64) as usize;
                    self.meters.add_spans(SpanFate::Exported, batch.len() - rejected);
                    self.meters.add_spans(SpanFate::Rejected, rejected);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the collector takes spans again");
                    }
                    return self.complain(&why);
                }
                Sent::Never { why } => break why,
                Sent::Later { why, after } => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(why, "the collector takes no spans; they are sent again");
                    }
                    let now = self.clock.now();
                    let wait = after.unwrap_or_else(|| spread(pause, now));
                    if leaving || now.since(began) + wait > PATIENCE {
                        break why;
                    }
                    self.rest(wait);
                    pause *= 2;
                }
            }
        };
        self.meters.add_spans(SpanFate::Unsent, batch.len());
        self.complain(&why);
    }

    /// Waits, unless nothing more is coming.
    fn rest(&self, wait: Duration) {
        let until = self.clock.now() + wait;
        while !self.leaving.load(Relaxed) {
            match until.since(self.clock.now()) {
                Duration::ZERO => return,
                left => park_timeout(left),
            }
        }
    }

    fn post(&self, body: &str, leaving: bool) -> Sent {
        let timeout = if leaving { self.timeout.min(LAST_TIMEOUT) } else { self.timeout };
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match request.config().timeout_global(Some(timeout)).build().send(body) {
            Ok(mut answer) => {
                let after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok());
                let after = after.and_then(|text| text.trim().parse().ok());
                let said = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
                judge(answer.status().as_u16(), after, &said.unwrap_or_default())
            }
            // Quotes the address.
            Err(ureq::Error::BadUri(_)) => {
                Sent::Never { why: "its address cannot be used".to_owned() }
            }
            Err(error) => Sent::Later { why: error.to_string(), after: None },
        }
    }

    /// Says once in a while what is lost. `why`: as the collector was last heard of.
    fn complain(&mut self, why: &str) {
        let (lost, now) = (self.meters.spans_lost(), self.clock.now());
        let soon = self.complained.is_some_and(|at| now.since(at) < BETWEEN_COMPLAINTS);
        if lost == self.told || soon {
            return;
        }
        let spans = lost - self.told;
        let why = if why.is_empty() { "more came than could be sent" } else { why };
        tracing::warn!(spans, why, "spans are lost");
        (self.told, self.complained) = (lost, Some(now));
    }
}

/// What an answer means (OTLP 1.0, "OTLP/HTTP Response"). `after`: the seconds of `retry-after`.
fn judge(status: u16, after: Option<u64>, body: &str) -> Sent {
    let why = format!("it answered {status}");
    match status {
        200..=299 => {
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            let partial = &body["partialSuccess"];
            // A 64-bit number, which JSON may write as text.
            let rejected = &partial["rejectedSpans"];
            let rejected =
                rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
            let why = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
            Sent::Taken { rejected, why }
        }
        429 | 502 | 503 | 504 => Sent::Later { why, after: after.map(Duration::from_secs) },
        300..=399 => Sent::Never { why: format!("{why}, and redirects are not followed") },
        _ => Sent::Never { why },
    }
}

/// Half of it to one and a half: several Eveners do not come back at once.
fn spread(pause: Duration, now: Moment) -> Duration {
    pause.mul_f64(0.5 + (now.as_nanos() % 1024) as f64 / 1024.0)
}

/// Who speaks: what the file says of it comes before what is known anyhow.
fn resource(given: &[(String, String)]) -> Vec<Attribute> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let known = [
        ("service.name", "evener".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", host.trim().to_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    let missing = known
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && given.iter().all(|(known, _)| known != name));
    let given = given.iter().map(|(name, value)| Attribute::text(name.clone(), value));
    given.chain(missing.map(|(name, value)| Attribute::text(name, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_sent_again_and_nothing_else() {
        for status in [429, 502, 503, 504] {
            assert!(matches!(judge(status, None, ""), Sent::Later { after: None, .. }), "{status}");
        }
        for status in [301, 400, 401, 404, 413, 500] {
            assert!(matches!(judge(status, None, ""), Sent::Never { .. }), "{status}");
        }
        let after = Some(Duration::from_secs(7));
        assert_eq!(judge(503, Some(7), ""), Sent::Later { why: "it answered 503".into(), after });
    }

    #[test]
    fn a_collector_may_take_a_part() {
        let taken = |body| judge(200, None, body);
        let none = Sent::Taken { rejected: 0, why: String::new() };
        assert_eq!(
            [taken(""), taken("{}"), taken("{\"partialSuccess\":{}}")],
            [0; 3].map(|_| { Sent::Taken { rejected: 0, why: String::new() } })
        );
        assert_ne!(taken(r#"{"partialSuccess":{"rejectedSpans":"3"}}"#), none);
        let said = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        assert_eq!(taken(said), Sent::Taken { rejected: 3, why: "too old".into() });
    }

    #[test]
    fn what_the_file_says_of_the_resource_comes_first() {
        let named = resource(&[("service.name".to_owned(), "edge".to_owned())]);
        let names = named.iter().filter(|attribute| attribute.key == "service.name");
        assert_eq!(names.collect::<Vec<_>>(), [&Attribute::text("service.name", "edge")]);
        assert!(named.iter().any(|attribute| attribute.key == "service.version"));
    }
}
