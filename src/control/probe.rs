//! One health check: over TCP or HTTP here, over gRPC in `grpc_probe`. The caller limits its time.
use super::ask::{NotAnswered, ask, dial};
use super::grpc_probe::ask_grpc;
use crate::fleet::Replica;
use crate::health::{ProbeKind, ProbePlan};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;

/// Bytes read of an answer's body. A longer one is not read to its end: its status has said all.
pub(super) const LONGEST: usize = 64 << 10;

/// Asks a replica as its plan says.
pub(super) async fn probe(replica: &Replica, plan: &ProbePlan) -> Result<(), NotAnswered> {
    let only = replica.upstream.only_http2();
    let by_grpc = only || (plan.ask == ProbeKind::Tcp && replica.upstream.takes_calls());
    if let Some(name) = plan.grpc.as_ref().filter(|_| by_grpc) {
        return ask_grpc(replica, plan.timeout, name).await;
    }
    let (method, path, body, expect) = match &plan.ask {
        ProbeKind::Tcp => return dial(replica, plan.timeout).await.map(drop),
        ProbeKind::Get { path, expect } => (Method::GET, path, String::new(), expect),
        ProbeKind::Post { path, body, expect } => (Method::POST, path, body.clone(), expect),
    };
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION"), " (health check)"));
    if method == Method::POST {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let (status, _) = ask(replica, plan.timeout, request, LONGEST).await?;
    if expect.iter().any(|range| range.contains(&status.as_u16())) {
        Ok(())
    } else {
        Err(format!("{method} {path} answered {status}").into())
    }
}
