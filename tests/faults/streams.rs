//! Replicas of HTTP/2 that do to each stream, or to its whole connection, what the plan says.
use crate::fault::{Fault, Shake, Stream};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::replica::Faulty;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Does what the plans say.
pub(crate) async fn http2(ledger: &Arc<Ledger>) -> Faulty {
    let ledger = Arc::clone(ledger);
    Faulty::start(move |tcp| serve(tcp, Arc::clone(&ledger))).await
}

async fn serve(tcp: TcpStream, ledger: Arc<Ledger>) {
    // A stream that gets no window must not take that of its neighbors.
    let mut settings = h2::server::Builder::new();
    settings.initial_connection_window_size(64 << 20);
    let Ok(mut connection) = settings.handshake(tcp).await else { return };
    let (shakes, mut shaken): (UnboundedSender<Shake>, UnboundedReceiver<Shake>) =
        unbounded_channel();
    let mut streams = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(shake) = shaken.recv() => match shake {
                Shake::GoesAway => {
                    connection.graceful_shutdown();
                    continue;
                }
                Shake::Breaks => {
                    connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
                    continue;
                }
                Shake::Good | Shake::Drops => return,
            },
        };
        let Some(Ok((request, respond))) = accepted else { return };
        streams.spawn(answer(request, respond, Arc::clone(&ledger), shakes.clone()));
        while streams.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    ledger: Arc<Ledger>,
    shakes: UnboundedSender<Shake>,
) {
    let (head, body) = request.into_parts();
    let token = head.headers.get("x-token").and_then(|token| token.to_str().ok()?.parse().ok());
    let Some(token) = token else {
        return ledger.wrong(format!("a request that no client sent: {head:?}"));
    };
    let plan = Plan::draw(ledger.seed, token);
    let _open = ledger.enter();
    if plan.fault == Fault::Stream(Stream::Refuses) {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    if plan.fault == Fault::Stream(Stream::NoWindow) {
        ledger.handle(&plan);
        return until_reset(&mut respond).await;
    }
    let Some(read) = read(body).await else { return };
    if read != plan.body() {
        ledger.wrong(format!("a replica got {} bytes of another body: {plan:?}", read.len()));
    }
    ledger.handle(&plan);
    match plan.fault {
        Fault::Stream(stream) => play(stream, &plan, respond).await,
        Fault::Shake(shake) => {
            let Some(mut out) = begin(&plan, &mut respond, None) else { return };
            let full = plan.answer();
            let (first, rest) = full.split_at(full.len() / 2);
            write(&mut out, first, false).await;
            if shake != Shake::Good {
                shakes.send(shake).ok();
                tokio::task::yield_now().await;
            }
            write(&mut out, rest, true).await;
        }
        Fault::Good(_)
        | Fault::Head
        | Fault::HeadWithBody
        | Fault::Broken(..)
        | Fault::Odd(_)
        | Fault::NoDoor => {
            ledger.wrong(format!("at the wrong replica: {plan:?}"));
        }
    }
}

/// `None`: it never came to its end.
async fn read(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        read.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).ok();
    }
    Some(read)
}

fn begin(
    plan: &Plan,
    respond: &mut SendResponse<Bytes>,
    header: Option<(&'static str, String)>,
) -> Option<SendStream<Bytes>> {
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(plan.fault.status()).unwrap();
    head.headers_mut().insert("x-token", HeaderValue::from(plan.token));
    if plan.fault.is_events() {
        head.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    }
    if let Some((name, value)) = header {
        head.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
    }
    respond.send_response(head, false).ok()
}

/// Writes as fast as the other side takes it.
async fn write(out: &mut SendStream<Bytes>, bytes: &[u8], end: bool) {
    let mut bytes = Bytes::copy_from_slice(bytes);
    while !bytes.is_empty() {
        out.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return };
        let part = bytes.split_to(room.min(bytes.len()));
        if out.send_data(part, false).is_err() {
            return;
        }
    }
    if end {
        out.send_data(Bytes::new(), true).ok();
    }
}

async fn until_reset(respond: &mut SendResponse<Bytes>) {
    std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok();
}

async fn play(stream: Stream, plan: &Plan, mut respond: SendResponse<Bytes>) {
    if stream == Stream::Resets {
        return respond.send_reset(Reason::INTERNAL_ERROR);
    }
    if stream == Stream::Cancels {
        return respond.send_reset(Reason::CANCEL);
    }
    if stream == Stream::Hangs {
        return until_reset(&mut respond).await;
    }
    let full = plan.answer();
    let lie =
        (stream == Stream::LyingLength).then(|| ("content-length", (full.len() + 9).to_string()));
    let Some(mut out) = begin(plan, &mut respond, lie) else { return };
    let half = &full[..full.len() / 2];
    match stream {
        Stream::Good => write(&mut out, &full, true).await,
        Stream::LyingLength => write(&mut out, half, true).await,
        Stream::Trailers => {
            write(&mut out, &full, false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-status", HeaderValue::from_static("0"));
            out.send_trailers(trailers).ok();
        }
        Stream::Events | Stream::ResetsAfterEvent => {
            for event in plan.events() {
                write(&mut out, event.as_bytes(), false).await;
                if stream == Stream::ResetsAfterEvent {
                    return out.send_reset(Reason::INTERNAL_ERROR);
                }
            }
            write(&mut out, b"", true).await;
        }
        Stream::ResetsAfterHead => out.send_reset(Reason::INTERNAL_ERROR),
        Stream::ResetsInBody => {
            write(&mut out, half, false).await;
            out.send_reset(Reason::INTERNAL_ERROR);
        }
        Stream::HangsInBody => {
            write(&mut out, half, false).await;
            std::future::poll_fn(|cx| out.poll_reset(cx)).await.ok();
        }
        Stream::HangsAfterHead | Stream::HangsAfterEventsHead => {
            std::future::poll_fn(|cx| out.poll_reset(cx)).await.ok();
        }
        Stream::Resets | Stream::Cancels | Stream::Hangs | Stream::Refuses | Stream::NoWindow => {}
    }
}
