//! What a replica of HTTP/1 writes: whole answers, parts of answers, and what is no answer at all.
use crate::fault::{Ending, Fault, Good, Odd, Point};
use crate::ledger::Ledger;
use crate::plan::{AFTER_CHUNK, Plan, chunk, chunks};
use crate::replica::{Gone, Talk, Then};
use std::time::Duration;

/// What must never be read as an answer to the next request.
const POISON: &str = "HTTP/1.1 200 OK\r\nx-token: 666\r\ncontent-length: 6\r\n\r\npoison";
/// A head that is still taken after so many bytes is not bounded.
const FAR: usize = 32 << 20;
/// Between two bytes of an answer that drips: below every limit on silence.
const DRIP: Duration = Duration::from_millis(50);

impl Talk {
    pub(crate) async fn play(&mut self, plan: &Plan, ledger: &Ledger) -> Result<Then, Gone> {
        match plan.fault {
            Fault::Good(good) => self.good(good, plan).await,
            Fault::Head => {
                let length = plan.full_answer().len();
                self.write(head(plan, &format!("content-length: {length}"))).await?;
                Ok(Then::Next)
            }
            Fault::HeadWithBody => {
                self.write(sized(plan)).await?;
                Ok(Then::Next)
            }
            Fault::Broken(point, ending) => {
                self.part(point, plan).await?;
                Ok(match ending {
                    Ending::Reset => Then::Reset,
                    Ending::Close => Then::Close,
                    Ending::Hang => Then::Hang,
                })
            }
            Fault::Odd(odd) => self.odd(odd, plan, ledger).await,
            Fault::Stream(_) | Fault::Shake(_) | Fault::NoDoor => {
                ledger.wrong(format!("at the wrong replica: {plan:?}"));
                Ok(Then::Close)
            }
        }
    }

    async fn good(&mut self, good: Good, plan: &Plan) -> Result<Then, Gone> {
        let full = plan.full_answer();
        let mut answer = match good {
            Good::Sized | Good::Failing | Good::Early | Good::ThenCloses | Good::ThenPoison => {
                sized(plan)
            }
            Good::Chunked => joined(head(plan, "transfer-encoding: chunked"), &chunks(&full)),
            Good::ToClose => joined(head(plan, "x-open: 1"), &full),
            Good::Empty | Good::EmptyThenPoison => head(plan, "content-length: 0"),
            Good::NoContent
            | Good::NotModified
            | Good::NoContentWithBody
            | Good::NotModifiedWithBody => head(plan, "x-empty: 1"),
            Good::Old => old(sized(plan)),
            Good::OldToClose => old(joined(head(plan, "x-open: 1"), &full)),
            Good::Overlong => joined(sized(plan), POISON.as_bytes()),
            Good::Hints => joined(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
                    .to_vec(),
                &sized(plan),
            ),
            Good::Events => head(plan, EVENTS),
            Good::Slow => Vec::new(),
        };
        let poisoned = [
            Good::ThenPoison,
            Good::EmptyThenPoison,
            Good::NoContentWithBody,
            Good::NotModifiedWithBody,
        ];
        if poisoned.contains(&good) {
            answer.extend(POISON.as_bytes());
        }
        self.write(answer).await?;
        if good == Good::Events {
            for event in plan.events() {
                let mut framed = Vec::new();
                chunk(&mut framed, event.as_bytes());
                self.write(framed).await?;
            }
            self.write("0\r\n\r\n").await?;
        }
        if good == Good::Slow {
            let answer = sized(plan);
            let (start, rest) = answer.split_at(answer.len().saturating_sub(20));
            for piece in start.chunks(start.len() / 3 + 1).chain(rest.chunks(3)) {
                self.write(piece).await?;
                tokio::time::sleep(DRIP / 10).await;
            }
        }
        let closes = [Good::ToClose, Good::OldToClose, Good::Old, Good::ThenCloses];
        Ok(if closes.contains(&good) { Then::Close } else { Then::Next })
    }

    /// Writes an answer up to a point.
    async fn part(&mut self, point: Point, plan: &Plan) -> Result<(), Gone> {
        let full = plan.full_answer();
        let half = &full[..full.len() / 2];
        let length = format!("content-length: {}", full.len());
        let events = plan.events();
        let chunked = "transfer-encoding: chunked";
        let framed = |part: &[u8]| {
            let mut out = Vec::new();
            chunk(&mut out, part);
            out
        };
        match point {
            Point::BeforeHead => Ok(()),
            Point::InHead => {
                let head = head(plan, &length);
                self.write(&head[..head.len() - 9]).await
            }
            Point::AfterHead => self.write(head(plan, &length)).await,
            Point::InBody => self.write(joined(head(plan, &length), half)).await,
            Point::AfterChunkedHead => self.write(head(plan, chunked)).await,
            Point::AfterChunk => self.write(joined(head(plan, chunked), &framed(half))).await,
            Point::InChunk => {
                let mut body = format!("{:x}\r\n", full.len()).into_bytes();
                body.extend_from_slice(half);
                self.write(joined(head(plan, chunked), &body)).await
            }
            Point::InOpenBody => self.write(joined(head(plan, "x-open: 1"), half)).await,
            Point::AfterEventsHead => self.write(head(plan, EVENTS)).await,
            Point::AfterEvent => {
                self.write(joined(head(plan, EVENTS), &framed(events[0].as_bytes()))).await
            }
            Point::InEvent => {
                let half = &events[1].as_bytes()[..9];
                let body = [framed(events[0].as_bytes()), framed(half)].concat();
                self.write(joined(head(plan, EVENTS), &body)).await
            }
        }
    }

    async fn odd(&mut self, odd: Odd, plan: &Plan, ledger: &Ledger) -> Result<Then, Gone> {
        let full = plan.full_answer();
        let chunked = head(plan, "transfer-encoding: chunked");
        match odd {
            Odd::Nonsense => self.write("\u{1}\u{2}SSH-2.0-nonsense\r\n\r\n\r\n").await?,
            Odd::BadStatus => {
                self.write("HTTP/1.1 2000 Very OK\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Odd::BadVersion => self.write("HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n").await?,
            Odd::BadChunkSize => {
                let mut body = Vec::new();
                chunk(&mut body, &full);
                body.extend(b"zz\r\nzz\r\n0\r\n\r\n");
                self.write(joined(chunked, &body)).await?;
            }
            Odd::ShortChunk | Odd::LongChunk => {
                let size = if odd == Odd::LongChunk { full.len() - 1 } else { full.len() + 40 };
                let body = [format!("{size:x}\r\n").as_bytes(), &full, AFTER_CHUNK].concat();
                self.write(joined(chunked, &body)).await?;
            }
            Odd::TwoLengths => {
                let lengths = format!("content-length: {}\r\ncontent-length: 1", full.len());
                self.write(joined(head(plan, &lengths), &full)).await?;
            }
            Odd::LengthAndChunks => {
                let both = head(plan, "content-length: 1\r\ntransfer-encoding: chunked");
                self.write(joined(both, &chunks(&full))).await?;
                return Ok(Then::Next);
            }
            Odd::EndlessHead => {
                let fields = "x-more: and more of it, without an end\r\n".repeat(400);
                self.endless(plan, ledger, fields.as_bytes()).await?;
            }
            Odd::HugeField => {
                let field = "x".repeat(60_000);
                self.endless(plan, ledger, field.as_bytes()).await?;
            }
            Odd::ManyFields => {
                let fields = "x-many: of them\r\n".repeat(300);
                let length = format!("{fields}content-length: {}", full.len());
                self.write(joined(head(plan, &length), &full)).await?;
            }
            Odd::EndlessHints => loop {
                self.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await?;
                tokio::time::sleep(DRIP / 20).await;
            },
            Odd::Switches => {
                let switching =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
                self.write(format!("{switching}\r\nx-token: {}\r\n\r\nframes", plan.token)).await?;
                return Ok(Then::Hang);
            }
            Odd::DripsHead => {
                self.write("HTTP/1.1 200 OK\r\nx-slow: ").await?;
                self.drip().await?;
            }
            Odd::DripsBody => {
                self.write(head(plan, &format!("content-length: {}", full.len()))).await?;
                for byte in full.chunks(1) {
                    self.write(byte).await?;
                    tokio::time::sleep(DRIP).await;
                }
            }
            Odd::LeavesEarly => {
                self.write(sized(plan)).await?;
                return Ok(Then::Close);
            }
        }
        Ok(if plan.rude { Then::Hang } else { Then::Close })
    }

    async fn drip(&mut self) -> Result<(), Gone> {
        loop {
            self.write("y").await?;
            tokio::time::sleep(DRIP).await;
        }
    }

    /// A head that goes on until nobody reads it.
    async fn endless(&mut self, plan: &Plan, ledger: &Ledger, part: &[u8]) -> Result<(), Gone> {
        self.write("HTTP/1.1 200 OK\r\nx-long: ").await?;
        for _ in 0..FAR / part.len() {
            self.write(part).await?;
        }
        ledger.wrong(format!("{FAR} bytes of a head were read: {plan:?}"));
        Err(Gone)
    }
}

const EVENTS: &str = "content-type: text/event-stream\r\ntransfer-encoding: chunked";

fn head(plan: &Plan, framing: &str) -> Vec<u8> {
    let status = plan.fault.status();
    format!("HTTP/1.1 {status} Said\r\nx-token: {}\r\n{framing}\r\n\r\n", plan.token).into_bytes()
}

fn sized(plan: &Plan) -> Vec<u8> {
    let full = plan.full_answer();
    joined(head(plan, &format!("content-length: {}", full.len())), &full)
}

/// The same in HTTP/1.0.
fn old(mut answer: Vec<u8>) -> Vec<u8> {
    answer[7] = b'0';
    answer
}

fn joined(mut head: Vec<u8>, body: &[u8]) -> Vec<u8> {
    head.extend_from_slice(body);
    head
}
