//! One request of the storm: all of it follows from the seed and its number, for its client and for its replica alike.
use crate::fault::{Fault, Good, Odd, Stream, http1, shake, stream};
use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt::Write as _;
use std::time::Duration;

/// Which replicas a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// By a plain path.
    Raw,
    /// By the model in a JSON body.
    Chat,
    /// Of HTTP/2, to a stream.
    Streams,
    /// Of HTTP/2 whose connections break with all their streams.
    Shaky,
    /// Replicas that cannot be reached.
    Closed,
}

impl Door {
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Streams | Self::Shaky)
    }
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Kept,
    Fresh,
    /// HTTP/1.0
    Old,
    Http2,
}

/// Where the client gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    InHead,
    InUpload,
    Sent,
    InAnswer,
    /// It sends no more, and reads on.
    HalfClose,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
pub(crate) struct Plan {
    pub(crate) token: u64,
    pub(crate) door: Door,
    pub(crate) wire: Wire,
    pub(crate) method: Method,
    /// Bytes of the request's body; `None`: it has none.
    pub(crate) upload: Option<usize>,
    pub(crate) chunked: bool,
    /// The body is JSON, which Evener keeps whole; others stream through.
    json: bool,
    /// May be sent twice although it is a POST on a plain path.
    pub(crate) keyed: bool,
    pub(crate) fault: Fault,
    /// Bytes of the answer's body, or so.
    answer: usize,
    pub(crate) abort: Option<Abort>,
    /// Leaves by RST, not by FIN.
    pub(crate) rude: bool,
    pub(crate) pause: Duration,
    /// Reads slowly.
    pub(crate) slow: bool,
}

impl Plan {
    #[expect(
        clippy::too_many_lines,
        reason = "one draw after the other: their order is the seed's"
    )]
    pub(crate) fn draw(seed: u64, token: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ token.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let door = match rng.random_range(0..100) {
            0..55 => Door::Raw,
            55..80 => Door::Chat,
            80..90 => Door::Streams,
            90..96 => Door::Shaky,
            _ => Door::Closed,
        };
        let wire = match rng.random_range(0..100) {
            0..45 => Wire::Kept,
            45..60 => Wire::Fresh,
            60..65 => Wire::Old,
            _ => Wire::Http2,
        };
        let mut fault = match door {
            Door::Raw | Door::Chat => http1(&mut rng),
            Door::Streams => stream(&mut rng),
            Door::Shaky => shake(&mut rng),
            Door::Closed => Fault::NoDoor,
        };
        let size = match rng.random_range(0..1000) {
            0..40 => 0,
            40..600 => rng.random_range(1..200),
            600..950 => rng.random_range(200..20_000),
            950..996 => rng.random_range(20_000..200_000),
            _ => 1 << 20,
        };
        let (mut method, mut upload, mut chunked, mut keyed) = (Method::GET, None, false, false);
        if door == Door::Chat {
            (method, upload) = (Method::POST, Some(size));
        } else {
            match rng.random_range(0..100) {
                0..40 => {}
                40..70 => (method, upload) = (Method::POST, Some(size)),
                70..80 => (method, upload, chunked) = (Method::POST, Some(size), true),
                80..85 => (method, upload, keyed) = (Method::POST, Some(size), true),
                85..95 => (method, upload) = (Method::PUT, Some(size)),
                _ => {
                    method = Method::HEAD;
                    fault = match fault {
                        Fault::Stream(_) => Fault::Stream(Stream::Good),
                        Fault::Good(_) => Fault::Head,
                        Fault::Odd(_) | Fault::Broken(..) => Fault::HeadWithBody,
                        Fault::Head | Fault::HeadWithBody | Fault::Shake(_) | Fault::NoDoor => {
                            fault
                        }
                    };
                }
            }
        }
        let json = door == Door::Chat || rng.random_bool(0.4);
        if json && upload.is_some() {
            upload = upload.map(|size| size.min(100_000));
            chunked |= rng.random_bool(0.2);
        }
        chunked &= wire != Wire::Old;
        let answer = match rng.random_range(0..1000) {
            0..700 => rng.random_range(2..500),
            700..980 => rng.random_range(500..40_000),
            _ => rng.random_range(40_000..400_000),
        };
        let abort = rng.random_bool(0.12).then(|| {
            let all =
                [Abort::InHead, Abort::InUpload, Abort::Sent, Abort::InAnswer, Abort::HalfClose];
            all[rng.random_range(0..all.len())]
        });
        let rude = rng.random_bool(0.5);
        let pause =
            Duration::from_millis(rng.random_range(0..60) * u64::from(rng.random_bool(0.5)));
        let slow = answer > 500 && rng.random_bool(0.02);
        Self {
            token,
            door,
            wire,
            method,
            upload,
            chunked,
            json,
            keyed,
            fault,
            answer,
            abort,
            rude,
            pause,
            slow,
        }
    }

    pub(crate) fn path(&self) -> String {
        let token = self.token;
        match self.door {
            Door::Raw => format!("/raw/{token}"),
            Door::Chat => format!("/v1/chat/completions?t={token}"),
            Door::Streams => format!("/streams/{token}"),
            Door::Shaky => format!("/shaky/{token}"),
            Door::Closed => format!("/closed/{token}"),
        }
    }

    /// Must reach a replica's handler once at most.
    pub(crate) fn once(&self) -> bool {
        self.method == Method::POST && self.door != Door::Chat && !self.keyed
    }

    /// Passes through Evener without being kept, so that it cannot be sent again.
    pub(crate) fn streams(&self) -> bool {
        self.upload.is_some() && !self.json
    }

    /// Headers beside the framing, in lines.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("x-token", self.token.to_string())];
        if self.upload.is_some() {
            let kind = if self.json { "application/json" } else { "application/octet-stream" };
            headers.push(("content-type", kind.to_owned()));
        }
        if self.upload.is_some() && self.token.is_multiple_of(16) {
            // The body does not wait for leave, as it may not.
            headers.push(("expect", "100-continue".to_owned()));
        }
        if self.keyed {
            headers.push(("idempotency-key", self.token.to_string()));
        }
        headers
    }

    /// The request's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        let Some(size) = self.upload else { return Vec::new() };
        if !self.json {
            return pattern(!self.token, size);
        }
        let mut json = br#"{"model":"m","messages":[],"pad":""#.to_vec();
        json.extend(pattern(!self.token, size));
        json.extend(br#""}"#);
        json
    }

    /// The body of a whole answer.
    pub(crate) fn answer(&self) -> Vec<u8> {
        if self.fault.is_events() {
            return self.events().concat().into_bytes();
        }
        if self.fault.is_bodiless() || self.method == Method::HEAD {
            return Vec::new();
        }
        self.full_answer()
    }

    /// The body that a replica has in mind, be it told to HEAD or in vain.
    pub(crate) fn full_answer(&self) -> Vec<u8> {
        let size = if self.fault == Fault::Good(Good::Slow) {
            self.answer.min(20)
        } else if self.fault == Fault::Odd(Odd::DripsBody) {
            // More than can drip within any limit.
            self.answer.max(1000)
        } else if self.fault.has_more() {
            self.answer.min(8000)
        } else {
            self.answer
        };
        pattern(self.token, size)
    }

    /// What may have been passed on of an answer that was cut.
    pub(crate) fn sent(&self) -> Vec<u8> {
        if self.fault.is_events() {
            return self.answer();
        }
        let mut sent = self.full_answer();
        if self.fault == Fault::Odd(Odd::ShortChunk) {
            sent.extend(AFTER_CHUNK);
        }
        sent
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let count = 2 + self.answer % 6;
        let mut events: Vec<_> = (0..count)
            .map(|i| format!("data: {{\"token\":{},\"i\":{i}}}\n\n", self.token))
            .collect();
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The head of the request on the wire of HTTP/1.
    pub(crate) fn head(&self, length: usize) -> String {
        let version = if self.wire == Wire::Old { "1.0" } else { "1.1" };
        let mut head =
            format!("{} {} HTTP/{version}\r\nhost: evener.test\r\n", self.method, self.path());
        for (name, value) in self.headers() {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if self.upload.is_some() {
            if self.chunked {
                head.push_str("transfer-encoding: chunked\r\n");
            } else {
                write!(head, "content-length: {length}\r\n").unwrap();
            }
        }
        head + "\r\n"
    }
}

/// What follows the last chunk of an answer, and is data where its size said more.
pub(crate) const AFTER_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Bytes of this length that no other token has.
fn pattern(token: u64, size: usize) -> Vec<u8> {
    let unit = format!("{token:016x}.");
    let mut bytes = unit.repeat(size / unit.len() + 1).into_bytes();
    bytes.truncate(size);
    // Short ones must differ too.
    if size < unit.len() {
        bytes.copy_from_slice(&unit.as_bytes()[16 - size.min(16)..][..size]);
    }
    bytes
}

/// A body in the chunks of HTTP/1.
pub(crate) fn chunks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    for part in body.chunks(8191) {
        chunk(&mut out, part);
    }
    out.extend(b"0\r\n\r\n");
    out
}

pub(crate) fn chunk(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(format!("{:x}\r\n", part.len()).into_bytes());
    out.extend(part);
    out.extend(b"\r\n");
}
