//! What was promised to each request, and what came of it.
use crate::fault::{Fault, May};
use crate::plan::{Abort, Plan};
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU64};

/// What a client saw of one request.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A whole answer.
    Answer(Answer),
    /// An answer that ended before its end, visibly.
    Cut(Answer),
    /// The end of the connection or stream, and no head of an answer.
    Nothing(String),
    /// It left before it saw the end.
    Left(Line),
    /// The time that everything must end within was over.
    Hung,
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `x-evener-error`
    pub(crate) error: String,
    /// The token that the replica answered.
    pub(crate) token: String,
    pub(crate) body: Vec<u8>,
}

/// Does the access log have a line of a request?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// No head was sent.
    None,
    /// The client left with what it had sent still on the way.
    Maybe,
    /// With any status.
    Any,
    Status(u16),
}

impl Line {
    const fn code(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Maybe => 1,
            Self::Any => 2,
            Self::Status(status) => status,
        }
    }
}

/// Limits of Evener's that a busy machine may reach without anybody's fault.
const LATE: [&str; 4] =
    ["first_byte_timeout", "stream_stalled", "total_timeout", "request_timeout"];
/// After so many complaints more of them say nothing new.
const ENOUGH: usize = 20;

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) seed: u64,
    /// The process is ended and started meanwhile: connections may end before a request was read.
    stops: bool,
    lines: Vec<AtomicU16>,
    /// How often a replica's handler saw a request that must not be repeated.
    handled: Vec<AtomicU8>,
    /// Requests that replicas work on.
    open: AtomicI64,
    wrongs: Mutex<Vec<String>>,
    /// The first of those that came too late.
    lates: Mutex<Vec<String>>,
    pub(crate) tally: Tally,
}

/// Outcomes that clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    whole: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    told: AtomicU64,
    left: AtomicU64,
    /// Of a connection that ended with the process.
    nothing: AtomicU64,
    /// Left a replica that hangs, which ended that exchange at once; or it went on to its limit.
    noticed: AtomicU64,
    unnoticed: AtomicU64,
    /// Refused because a kept connection had died.
    stale: AtomicU64,
    /// Good answers that a limit of Evener's cut short: the machine was busy.
    late: AtomicU64,
}

impl Tally {
    /// What may happen, but seldom: late, stale, noticed, unnoticed.
    pub(crate) fn rare(&self) -> [u64; 4] {
        [&self.late, &self.stale, &self.noticed, &self.unnoticed].map(|count| count.load(Relaxed))
    }
}

/// A request at a replica.
#[derive(Debug)]
pub(crate) struct Open(Arc<Ledger>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Ledger {
    pub(crate) fn new(seed: u64, requests: u64, stops: bool) -> Arc<Self> {
        let room = usize::try_from(requests).unwrap();
        Arc::new(Self {
            seed,
            stops,
            lines: std::iter::repeat_with(AtomicU16::default).take(room).collect(),
            handled: std::iter::repeat_with(AtomicU8::default).take(room).collect(),
            open: AtomicI64::new(0),
            wrongs: Mutex::default(),
            lates: Mutex::default(),
            tally: Tally::default(),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, SeqCst);
        Open(Arc::clone(self))
    }

    /// Requests that replicas work on at present.
    pub(crate) fn open(&self) -> i64 {
        self.open.load(SeqCst)
    }

    pub(crate) fn wrong(&self, what: String) {
        self.wrongs.lock().push(what);
    }

    fn late(&self, plan: &Plan, what: &str) {
        self.tally.late.fetch_add(1, Relaxed);
        let mut lates = self.lates.lock();
        if lates.len() < ENOUGH {
            lates.push(format!("{what}: {plan:?}"));
        }
    }

    /// Which good answers came too late, as far as noted.
    pub(crate) fn lates(&self) -> String {
        self.lates.lock().join("\n")
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.wrongs.lock().len() >= ENOUGH
    }

    /// A replica begins to work on a request.
    pub(crate) fn handle(&self, plan: &Plan) {
        let before = self.handled[plan.token as usize].fetch_add(1, SeqCst);
        if before > 0 && plan.once() {
            self.wrong(format!("handled {} times: {plan:?}", before + 1));
        }
    }

    /// Judges what the client of a request saw.
    pub(crate) fn settle(&self, plan: &Plan, seen: Seen) {
        let line = match self.judge(plan, seen) {
            Ok(line) => line,
            Err(what) => {
                self.wrong(format!("{what}: {plan:?}"));
                Line::Maybe
            }
        };
        self.lines[plan.token as usize].store(line.code(), SeqCst);
    }

    fn judge(&self, plan: &Plan, seen: Seen) -> Result<Line, String> {
        let may = plan.fault.may();
        // Who sends no more may be taken for gone.
        let gone = plan.abort == Some(Abort::HalfClose);
        let tally = &self.tally;
        match seen {
            Seen::Hung => Err("hung".to_owned()),
            Seen::Left(line) => {
                tally.left.fetch_add(1, Relaxed);
                Ok(if self.stops && line != Line::None { Line::Maybe } else { line })
            }
            // The process ended before it read the request; one that reached a replica must be answered.
            Seen::Nothing(_)
                if self.stops && self.handled[plan.token as usize].load(SeqCst) == 0 =>
            {
                tally.nothing.fetch_add(1, Relaxed);
                Ok(Line::Maybe)
            }
            Seen::Nothing(_) if gone => {
                tally.left.fetch_add(1, Relaxed);
                Ok(Line::Any)
            }
            // The head was passed on, and what cut the answer overtook it.
            Seen::Nothing(_) if may.cut => {
                tally.cut.fetch_add(1, Relaxed);
                Ok(Line::Any)
            }
            Seen::Nothing(why) => Err(format!("no answer ({why})")),
            Seen::Answer(answer) if !answer.error.is_empty() => {
                self.judge_refusal(plan, may, &answer)
            }
            Seen::Answer(answer) => {
                same_token(plan, &answer)?;
                if let Some(told) = told_error(plan, &answer.body) {
                    tally.told.fetch_add(1, Relaxed);
                    let late = !may.event && LATE.iter().any(|code| told.contains(code));
                    if late {
                        self.late(plan, told);
                    }
                    return if may.event || late || gone {
                        Ok(Line::Any)
                    } else {
                        Err(format!("told {told}"))
                    };
                }
                let whole = answer.body == plan.answer() && answer.status == plan.fault.status();
                if whole && may.whole {
                    tally.whole.fetch_add(1, Relaxed);
                    // To HEAD the head is all; what comes of a stream after it shows in the log alone.
                    let known = plan.method != Method::HEAD || !plan.door.is_http2();
                    return Ok(if known { Line::Status(answer.status) } else { Line::Any });
                }
                if may.part && plan.full_answer().starts_with(&answer.body) {
                    tally.cut.fetch_add(1, Relaxed);
                    return Ok(Line::Any);
                }
                Err(format!("passes for whole: {}", shown(&answer)))
            }
            Seen::Cut(answer) => {
                same_token(plan, &answer)?;
                let full = plan.sent();
                if !full.starts_with(&answer.body) {
                    return Err(format!("cut, and other bytes: {}", shown(&answer)));
                }
                tally.cut.fetch_add(1, Relaxed);
                if may.cut || gone {
                    return Ok(Line::Any);
                }
                if matches!(plan.fault, Fault::Good(_) | Fault::Stream(_)) && may.whole {
                    // The access log must tell of a limit that was reached.
                    self.late(plan, &format!("cut after {} bytes", answer.body.len()));
                    return Ok(Line::Status(504));
                }
                Err(format!("cut: {}", shown(&answer)))
            }
        }
    }

    /// A request that cannot be repeated may meet a kept connection at the moment that its replica closes it.
    fn judge_refusal(&self, plan: &Plan, may: May, answer: &Answer) -> Result<Line, String> {
        let code = &*answer.error;
        let line = Ok(Line::Status(answer.status));
        self.tally.refused.fetch_add(1, Relaxed);
        if !answer.token.is_empty() {
            return Err(format!("a refusal with a replica's head: {}", shown(answer)));
        }
        if may.codes.contains(&code) || (self.stops && code == "shutting_down") {
            return line;
        }
        if code == "upstream_failed" && (plan.once() || plan.streams()) {
            self.tally.stale.fetch_add(1, Relaxed);
            return line;
        }
        if LATE.contains(&code) {
            self.late(plan, code);
            return line;
        }
        Err(format!("refused: {}", shown(answer)))
    }

    /// Reads the access log: one line for each request that Evener had read, and none beside. Returns how many lines.
    pub(crate) fn read_log(&self, log: &Path) -> u64 {
        let mut seen = vec![0_u8; self.lines.len()];
        let mut count = 0;
        for line in BufReader::new(std::fs::File::open(log).unwrap()).split(b'\n') {
            let line: Value = serde_json::from_slice(&line.unwrap()).unwrap();
            count += 1;
            let target = line["query"].as_str().or(line["path"].as_str());
            let token = target.and_then(|target| target.rsplit(['/', '=']).next()?.parse().ok());
            let Some(token): Option<usize> = token else {
                self.wrong(format!("a line of no request: {line}"));
                continue;
            };
            seen[token] += 1;
            let plan = Plan::draw(self.seed, token as u64);
            if plan.abort == Some(Abort::Sent) && plan.fault.hangs() {
                let noticed = line["outcome"] == "cancelled";
                let tally = if noticed { &self.tally.noticed } else { &self.tally.unnoticed };
                tally.fetch_add(1, Relaxed);
            }
            let wanted = self.lines[token].load(SeqCst);
            if wanted >= 100 && line["status"] != wanted {
                self.wrong(format!("the client saw {wanted}, the log says {line}"));
            }
        }
        for (token, seen) in seen.into_iter().enumerate() {
            let fits = match self.lines[token].load(SeqCst) {
                0 => seen == 0,
                1 => seen <= 1,
                _ => seen == 1,
            };
            if !fits {
                let plan = Plan::draw(self.seed, token as u64);
                self.wrong(format!("{seen} lines in the access log: {plan:?}"));
            }
        }
        count
    }

    /// Ends the test if anything was wrong.
    pub(crate) fn assert_right(&self) {
        let wrongs = self.wrongs.lock();
        let shown = wrongs.iter().take(ENOUGH).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(
            wrongs.is_empty(),
            "EVENER_FAULT_SEED={}, {} wrong:\n{shown}",
            self.seed,
            wrongs.len()
        );
    }
}

/// No answer may reach a client that did not ask for it.
fn same_token(plan: &Plan, answer: &Answer) -> Result<(), String> {
    if answer.token == plan.token.to_string() {
        return Ok(());
    }
    Err(format!("an answer to another request: {}", shown(answer)))
}

/// The error that an event stream ended with, after whole events.
fn told_error<'a>(plan: &Plan, body: &'a [u8]) -> Option<&'a str> {
    let text = std::str::from_utf8(body).ok().filter(|_| plan.fault.is_events())?;
    let at = text.find("data: {\"error\"")?;
    let (before, told) = text.split_at(at);
    (plan.events().concat().starts_with(before) && !told.contains("[DONE]")).then_some(told)
}

fn shown(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(120)]);
    let Answer { status, error, token, .. } = answer;
    format!("{status} `{error}` token `{token}`, {} bytes {body:?}", answer.body.len())
}
