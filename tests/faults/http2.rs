//! A client of HTTP/2 whose connection several workers share.
use crate::ledger::{Answer, Line, Seen};
use crate::plan::{Abort, Plan};
use crate::replica::reset_on_close;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// A connection that may be opened anew.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Option<SendRequest<Bytes>>>);

impl Shared {
    async fn ready(&self, address: SocketAddr) -> Result<SendRequest<Bytes>, String> {
        let kept = self.0.lock().clone();
        if let Some(sender) = kept
            && let Ok(sender) = sender.ready().await
        {
            return Ok(sender);
        }
        let (sender, _) = connect(address).await?;
        *self.0.lock() = Some(sender.clone());
        sender.ready().await.map_err(|error| error.to_string())
    }

    /// Closes the connection when its last stream ends.
    pub(crate) fn close(&self) {
        *self.0.lock() = None;
    }
}

async fn connect(address: SocketAddr) -> Result<(SendRequest<Bytes>, AbortHandle), String> {
    let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).ok();
    let greeted = h2::client::handshake(tcp).await;
    let (sender, connection) = greeted.map_err(|error| error.to_string())?;
    Ok((sender, tokio::spawn(async move { connection.await.ok() }).abort_handle()))
}

/// Sends the request of a plan and reads what comes.
pub(crate) async fn ask(shared: &Shared, address: SocketAddr, plan: &Plan) -> Seen {
    match plan.abort {
        Some(Abort::InHead) => leave_in_preface(address, plan).await,
        Some(_) if plan.rude => {
            // The whole connection goes, so it is this request's own.
            let Ok((sender, connection)) = connect(address).await else {
                return Seen::Left(Line::None);
            };
            let seen = on(sender, plan).await;
            connection.abort();
            seen
        }
        Some(_) | None => match shared.ready(address).await {
            Ok(sender) => on(sender, plan).await,
            Err(error) => Seen::Nothing(error),
        },
    }
}

async fn leave_in_preface(address: SocketAddr, plan: &Plan) -> Seen {
    if let Ok(mut tcp) = TcpStream::connect(address).await {
        tcp.write_all(
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"[..10 + plan.token as usize % 18],
        )
        .await
        .ok();
        tokio::time::sleep(plan.pause).await;
        if plan.rude {
            reset_on_close(&tcp);
        }
    }
    Seen::Left(Line::None)
}

async fn on(mut sender: SendRequest<Bytes>, plan: &Plan) -> Seen {
    let mut request = http::Request::builder()
        .method(plan.method.clone())
        .uri(format!("http://evener.test{}", plan.path()));
    for (name, value) in plan.headers() {
        request = request.header(name, value);
    }
    let body = Bytes::from(plan.body());
    if plan.upload.is_some() && !plan.chunked {
        request = request.header("content-length", body.len());
    }
    let request = request.body(()).unwrap();
    let sent = sender.send_request(request, plan.upload.is_none());
    let (answering, mut out) = match sent {
        Ok(sent) => sent,
        Err(error) => return Seen::Nothing(error.to_string()),
    };
    drop(sender);
    let answering = async {
        let (head, body) = match answering.await {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Seen::Nothing(error.to_string()),
        };
        if plan.abort == Some(Abort::InAnswer) {
            return Seen::Left(Line::Any);
        }
        let text = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
        let answer = Answer {
            status: head.status.as_u16(),
            error: text("x-evener-error").to_owned(),
            token: text("x-token").to_owned(),
            body: Vec::new(),
        };
        let length = text("content-length").parse().ok().filter(|_| plan.method != Method::HEAD);
        read(answer, length, body, plan.slow).await
    };
    let sending = send(&mut out, plan, body);
    tokio::pin!(answering);
    let seen = tokio::select! { biased;
        seen = &mut answering => seen,
        left = sending => match left {
            Some(line) => Seen::Left(line),
            None => answering.await,
        }
    };
    if matches!(seen, Seen::Left(_)) {
        out.send_reset(Reason::CANCEL);
    }
    seen
}

/// Sends the body, or leaves on the way.
async fn send(out: &mut SendStream<Bytes>, plan: &Plan, mut body: Bytes) -> Option<Line> {
    if plan.upload.is_some() {
        let first = body.split_to(body.len() / 2);
        out.send_data(first, false).ok();
        tokio::time::sleep(plan.pause).await;
        if plan.abort == Some(Abort::InUpload) {
            return Some(Line::Maybe);
        }
        out.send_data(body, true).ok();
    }
    match plan.abort {
        Some(Abort::Sent | Abort::InUpload | Abort::InHead) => {
            tokio::time::sleep(plan.pause).await;
            Some(Line::Maybe)
        }
        // HTTP/2 has no half that could be closed but the stream's, which every request closes.
        Some(Abort::InAnswer | Abort::HalfClose) | None => None,
    }
}

async fn read(mut answer: Answer, length: Option<usize>, mut body: RecvStream, slow: bool) -> Seen {
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return Seen::Cut(answer) };
        answer.body.extend_from_slice(&data);
        if slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        body.flow_control().release_capacity(data.len()).ok();
    }
    let trailers: Result<Option<HeaderMap>, _> = body.trailers().await;
    if trailers.is_err() || length.is_some_and(|length| length != answer.body.len()) {
        return Seen::Cut(answer);
    }
    Seen::Answer(answer)
}
