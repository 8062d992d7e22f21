//! The pretended work of a request: its turn in the line, its time, its chance to fail.
use super::gate::{Gate, Slot};
use super::knobs::{Knobs, Patch};
use crate::dialect::{Dialect, ErrorBody, ErrorText, error_body};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::SmallRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One mock, shared by its connections.
#[derive(Debug)]
pub(super) struct Mock {
    knobs: Mutex<Knobs>,
    rng: Mutex<SmallRng>,
    gate: Arc<Gate>,
    requests_total: AtomicU64,
    in_flight: AtomicU64,
}

impl Mock {
    pub(super) fn new(knobs: Knobs) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(SmallRng::seed_from_u64(knobs.seed)),
            gate: Gate::new(knobs.slots),
            knobs: Mutex::new(knobs),
            requests_total: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        })
    }

    pub(super) fn knobs(&self) -> Knobs {
        self.knobs.lock().clone()
    }

    pub(super) fn turn(&self, patch: Patch) {
        let slots = {
            let mut knobs = self.knobs.lock();
            knobs.turn(patch);
            knobs.slots
        };
        self.gate.resize(slots);
    }

    pub(super) fn requests_total(&self) -> u64 {
        self.requests_total.load(Relaxed)
    }

    /// Requests begun and not answered in full: running and waiting.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// How many run, and how many wait for a slot.
    pub(super) fn counts(&self) -> (u32, usize) {
        self.gate.counts()
    }

    /// Does what a model server does before its first token. `tokens`: wait for all of them as well.
    pub(super) async fn work(self: &Arc<Self>, tokens: Tokens) -> Result<Work, Fault> {
        let serial = self.requests_total.fetch_add(1, Relaxed) + 1;
        self.in_flight.fetch_add(1, Relaxed);
        let begun = Begun(Arc::clone(self));
        let knobs = self.knobs();
        let (reset, hang, error, cut, stall, latency) = {
            let mut rng = self.rng.lock();
            let chances = [knobs.reset, knobs.hang, knobs.error, knobs.cut, knobs.stall];
            let [reset, hang, error, cut, stall] = chances.map(|chance| chance.draw(&mut *rng));
            (reset, hang, error, cut, stall, knobs.latency.sample(&mut *rng))
        };
        if reset {
            return Err(Fault::Reset);
        }
        let slot = self.gate.enter().await;
        if hang {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(latency).await;
        if error {
            return Err(Fault::Error { status: knobs.error_status, version: knobs.version });
        }
        let of = |at_most: Option<u32>| at_most.map_or(knobs.tokens, |most| most.min(knobs.tokens));
        let tokens = match tokens {
            Tokens::None => 0,
            Tokens::Stream { at_most } => of(at_most),
            Tokens::Whole { at_most } => {
                tokio::time::sleep(knobs.token_interval * of(at_most)).await;
                of(at_most)
            }
        };
        Ok(Work { serial, tokens, cut, stall, knobs, _slot: slot, _begun: begun })
    }
}

/// How a request wants its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tokens {
    /// It has none.
    None,
    /// In one piece.
    Whole { at_most: Option<u32> },
    /// One after the other.
    Stream { at_most: Option<u32> },
}

/// A request that runs; its slot is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) serial: u64,
    pub(super) tokens: u32,
    /// The stream is to break in the middle.
    pub(super) cut: bool,
    /// It is to fall silent there.
    pub(super) stall: bool,
    pub(super) knobs: Knobs,
    _slot: Slot,
    _begun: Begun,
}

#[derive(Debug)]
struct Begun(Arc<Mock>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// How a request fails on purpose.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is reset before the head.
    Reset,
    Error {
        status: u16,
        version: String,
    },
}

/// Marks a response that must not be sent: its connection is reset instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResetMark;

impl Fault {
    pub(super) fn response(self, dialect: Dialect) -> Response {
        match self {
            Self::Reset => {
                let mut response = StatusCode::BAD_GATEWAY.into_response();
                response.extensions_mut().insert(ResetMark);
                response
            }
            Self::Error { status, version } => {
                refuse(dialect, status, &format!("mock {version} fails as it was told to"))
            }
        }
    }
}

/// An error in the dialect of the request.
pub(super) fn refuse(dialect: Dialect, status: u16, message: &str) -> Response {
    let code = if status < 500 { "invalid_request" } else { "mock_error" };
    let error = ErrorText { code, status, message, param: None, request_id: "" };
    let ErrorBody { content_type, body, .. } = error_body(dialect, true, &error);
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    response.body(Body::from(body)).expect("the status is between 400 and 599")
}
