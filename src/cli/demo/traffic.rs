//! The demo's clients: requests that arrive when they arrive, however slow the answers are.
use super::stage::MODEL;
use crate::stats::{Clock as _, MonotonicClock};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Requests a second, on average.
pub(super) const RATE: f64 = 100.0;
/// Of them, so many ask for a stream.
const STREAMED: f64 = 0.3;
/// Requests under way at once, at most: a machine that cannot keep up is not to be buried.
const AT_ONCE: usize = 256;
/// A client's patience.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// Not sent, because too many were running.
    pub(super) held_back: u64,
    /// What the last failure looked like.
    pub(super) last_failure: Option<String>,
    /// Milliseconds of the answers since they were last taken.
    latencies: Vec<f64>,
}

/// The clients, and the connections they keep.
#[derive(Debug)]
pub(super) struct Traffic {
    proxy: SocketAddr,
    clock: MonotonicClock,
    kept: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    seen: Mutex<Seen>,
    at_once: Arc<Semaphore>,
}

impl Traffic {
    pub(super) fn new(proxy: SocketAddr, clock: MonotonicClock) -> Arc<Self> {
        Arc::new(Self {
            proxy,
            clock,
            kept: Mutex::default(),
            seen: Mutex::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Median and 99th percentile, in milliseconds, of the answers since the last call.
    pub(super) fn take_percentiles(&self) -> Option<(f64, f64)> {
        let mut latencies = std::mem::take(&mut self.seen.lock().latencies);
        latencies.sort_by(f64::total_cmp);
        let at = |q: f64| latencies.get((latencies.len() as f64 * q) as usize).copied();
        Some((at(0.5)?, at(0.99)?))
    }

    /// Sends until dropped. Arrivals are a Poisson process: open loop, as the clients of a service are.
    pub(super) async fn flow(self: Arc<Self>) {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut requests = JoinSet::new();
        let mut next = self.clock.now();
        loop {
            next = next + Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / RATE);
            sleep(next.since(self.clock.now())).await;
            while requests.try_join_next().is_some() {}
            let stream = rng.random::<f64>() < STREAMED;
            let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned() else {
                self.seen.lock().held_back += 1;
                continue;
            };
            let client = Arc::clone(&self);
            requests.spawn(async move {
                client.request(stream).await;
                drop(permit);
            });
        }
    }

    async fn request(&self, stream: bool) {
        let began = self.clock.now();
        let asked = timeout(PATIENCE, self.ask(stream)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let mut seen = self.seen.lock();
        match asked {
            Ok(()) => {
                seen.answered += 1;
                seen.latencies.push(self.clock.now().since(began).as_secs_f64() * 1e3);
            }
            Err(why) => {
                seen.failed += 1;
                seen.last_failure = Some(why);
            }
        }
    }

    async fn ask(&self, stream: bool) -> Result<(), String> {
        let mut sender = self.connection().await.map_err(|error| error.to_string())?;
        let words = |error: hyper::Error| error.to_string();
        let body = json!({
            "model": MODEL, "stream": stream,
            "messages": [{"role": "user", "content": "What does a fox jump over?"}],
        });
        let request = Request::post("/v1/chat/completions")
            .header(HOST, self.proxy.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("an address is a host");
        let response = sender.send_request(request).await.map_err(words)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(words)?.to_bytes();
        if sender.ready().await.is_ok() {
            self.kept.lock().push(sender);
        }
        if status != StatusCode::OK {
            return Err(format!("{}: {}", status.as_u16(), message(&body)));
        }
        if stream && !body.ends_with(b"data: [DONE]\n\n") {
            return Err("the stream broke".to_owned());
        }
        Ok(())
    }

    /// A kept connection, or a new one.
    async fn connection(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        loop {
            let Some(kept) = self.kept.lock().pop() else { break };
            if kept.is_ready() {
                return Ok(kept);
            }
        }
        let tcp = TcpStream::connect(self.proxy).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(tcp)).await?;
        // Ends when the sender is dropped; errors show in the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What an error in OpenAI's form says, else the body as it is.
fn message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|error| error["error"]["message"].as_str());
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_by_its_message() {
        assert_eq!(message(br#"{"error":{"message":"nobody serves"}}"#), "nobody serves");
        assert_eq!(message(b"upstream died"), "upstream died");
    }
}
