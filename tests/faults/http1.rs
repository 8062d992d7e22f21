//! A client of HTTP/1 that tells a whole answer from a cut one, byte by byte.
use crate::ledger::{Answer, Line, Seen};
use crate::plan::{Abort, Plan, Wire, chunks};
use crate::replica::reset_on_close;
use http::Method;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that its client keeps.
#[derive(Debug)]
pub(crate) struct Conn(TcpStream);

/// Sends the request of a plan and reads what comes.
pub(crate) async fn ask(kept: &mut Option<Conn>, address: SocketAddr, plan: &Plan) -> Seen {
    let ready = kept.take().filter(|_| plan.wire == Wire::Kept);
    let mut tcp = match ready {
        Some(Conn(tcp)) => tcp,
        None => match TcpStream::connect(address).await {
            Ok(tcp) => tcp,
            Err(error) => return Seen::Nothing(error.to_string()),
        },
    };
    tcp.set_nodelay(true).ok();
    let body = plan.body();
    let mut message = plan.head(body.len()).into_bytes();
    let head = message.len();
    if plan.chunked {
        message.extend(chunks(&body));
    } else {
        message.extend(&body);
    }
    let left = match plan.abort {
        Some(Abort::InHead) => Some((head / 2, Line::None)),
        Some(Abort::InUpload) => Some((head + (message.len() - head) / 2, Line::Any)),
        Some(Abort::Sent) => Some((message.len(), Line::Any)),
        Some(Abort::InAnswer | Abort::HalfClose) | None => None,
    };
    if let Some((sent, line)) = left {
        // What does not fit the socket's buffers is not waited for.
        tokio::time::timeout(plan.pause, tcp.write_all(&message[..sent])).await.ok();
        tokio::time::sleep(plan.pause).await;
        if plan.rude {
            reset_on_close(&tcp);
        }
        let known = line == Line::None || (!plan.rude && !plan.pause.is_zero());
        return Seen::Left(if known { line } else { Line::Maybe });
    }
    let (seen, keep) = converse(&mut tcp, plan, &message, head + body.len() / 2).await;
    if plan.abort == Some(Abort::InAnswer) && plan.rude {
        reset_on_close(&tcp);
    }
    if keep && plan.wire == Wire::Kept && plan.abort.is_none() {
        *kept = Some(Conn(tcp));
    }
    seen
}

/// Writes and reads at once: the answer may come before the request is written. Returns whether the connection may
/// be kept.
async fn converse(tcp: &mut TcpStream, plan: &Plan, message: &[u8], pause: usize) -> (Seen, bool) {
    let (mut read, mut write) = tcp.split();
    let (first, rest) = message.split_at(pause);
    let sending = async {
        write.write_all(first).await?;
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
        write.write_all(rest).await?;
        if plan.abort == Some(Abort::HalfClose) {
            write.shutdown().await?;
        }
        std::io::Result::Ok(())
    };
    let mut reader = Reader { read: &mut read, left: Vec::new(), slow: plan.slow };
    let reading = async {
        if plan.abort == Some(Abort::InAnswer) {
            let began = reader.more().await.is_some();
            return (Seen::Left(if began { Line::Any } else { Line::Maybe }), false);
        }
        reader.answer(plan).await
    };
    tokio::pin!(sending, reading);
    let mut sent = false;
    loop {
        tokio::select! { biased;
            (seen, keep) = &mut reading => return (seen, keep && sent),
            done = &mut sending, if !sent => {
                sent = true;
                if done.is_err() {
                    // Whoever takes no more may have said why.
                    return (reading.await.0, false);
                }
            }
        }
    }
}

struct Reader<'a, R> {
    read: &'a mut R,
    left: Vec<u8>,
    slow: bool,
}

/// The head of an answer.
struct Head {
    answer: Answer,
    length: Option<usize>,
    chunked: bool,
    keep: bool,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// `None`: the connection ended; `Some(0)` never comes.
    async fn more(&mut self) -> Option<usize> {
        let n = if self.slow {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let mut few = [0; 1024];
            let n = self.read.read(&mut few).await.ok()?;
            self.left.extend(&few[..n]);
            n
        } else {
            self.read.read_buf(&mut self.left).await.ok()?
        };
        (n > 0).then_some(n)
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.left.len() < n {
            self.more().await?;
        }
        let rest = self.left.split_off(n);
        Some(std::mem::replace(&mut self.left, rest))
    }

    async fn line_to(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.left.windows(end.len()).position(|window| window == end) {
                let line = self.take(at + end.len()).await?;
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.more().await?;
        }
    }

    /// Reads one answer. The connection may be kept if the second part says so.
    async fn answer(&mut self, plan: &Plan) -> (Seen, bool) {
        let head = loop {
            let Some(text) = self.line_to(b"\r\n\r\n").await else {
                let so_far = String::from_utf8_lossy(&self.left).into_owned();
                return (Seen::Nothing(format!("after {so_far:?}")), false);
            };
            let head = parse(&text);
            if !(100..200).contains(&head.answer.status) || head.answer.status == 101 {
                break head;
            }
        };
        let Head { mut answer, length, chunked, keep } = head;
        let mut body = Vec::new();
        let bodiless = plan.method == Method::HEAD || [204, 304].contains(&answer.status);
        let (whole, framed) = if bodiless {
            (true, true)
        } else if chunked {
            (self.chunks(&mut body).await.is_some(), true)
        } else if let Some(length) = length {
            (self.exactly(length, &mut body).await.is_some(), true)
        } else {
            (self.open_ended(&mut body).await, false)
        };
        answer.body = body;
        if whole && !self.left.is_empty() {
            answer.body.extend(b" and after its end: ");
            answer.body.append(&mut self.left);
        }
        // Where the answer could end before the request, or with an error, the connection ends without having said so.
        let keep = keep && framed && !plan.fault.is_early() && !plan.fault.may().event;
        if whole { (Seen::Answer(answer), keep) } else { (Seen::Cut(answer), false) }
    }

    async fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Option<()> {
        while self.left.len() < length {
            if self.more().await.is_none() {
                body.append(&mut self.left);
                return None;
            }
        }
        *body = self.take(length).await?;
        Some(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line_to(b"\r\n").await?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            while self.left.len() < size + 2 {
                if self.more().await.is_none() {
                    self.left.truncate(size);
                    body.append(&mut self.left);
                    return None;
                }
            }
            let chunk = self.take(size + 2).await?;
            if !chunk.ends_with(b"\r\n") {
                body.extend(b" a chunk without its end");
                return Some(());
            }
            body.extend(&chunk[..size]);
            if size == 0 {
                return Some(());
            }
        }
    }

    /// Without a length, an orderly close is the end, and a reset is a cut.
    async fn open_ended(&mut self, body: &mut Vec<u8>) -> bool {
        let whole = loop {
            match self.read.read_buf(&mut self.left).await {
                Ok(0) => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        body.append(&mut self.left);
        whole
    }
}

fn parse(text: &str) -> Head {
    let mut answer = Answer::default();
    let (mut length, mut chunked, mut keep) = (None, false, true);
    answer.status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "x-token" => value.clone_into(&mut answer.token),
            "x-evener-error" => value.clone_into(&mut answer.error),
            "content-length" => length = value.parse().ok(),
            "transfer-encoding" => chunked = true,
            "connection" => keep = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Head { answer, length, chunked, keep }
}
