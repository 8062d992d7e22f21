//! Why requests went where they went: the last of them, and those to come.
use super::answer::{Answered, Fault};
use super::feed::{HEARTBEAT, is_wanted, stream};
use super::office::Office;
use super::orders::duration;
use super::read::own_name;
use crate::observe::Decision;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

const USAGE: &str = "ask for `/api/v1/decisions`, with any of `limit=N`, `model=NAME`, `errors=true`, \
                     `slower_than=2s` and `id=REQUEST_ID`";

/// Which of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Look {
    limit: Option<usize>,
    model: Option<String>,
    errors: bool,
    slower_than: Option<String>,
    id: Option<String>,
}

struct Filter {
    model: Option<String>,
    errors: bool,
    slower_than: Option<Duration>,
    id: Option<String>,
}

impl Filter {
    fn takes(&self, decision: &Decision) -> bool {
        self.model.as_ref().is_none_or(|name| decision.model.as_deref() == Some(&**name))
            && (!self.errors || decision.failed)
            && self.slower_than.is_none_or(|least| decision.took >= least)
            && self.id.as_ref().is_none_or(|id| decision.request_id == *id)
    }
}

/// The last, oldest first; as a stream of events, those to come.
pub(super) async fn decisions(
    State(office): State<Arc<Office>>,
    look: Result<Query<Look>, QueryRejection>,
    headers: HeaderMap,
) -> Answered {
    let Query(look) = look.map_err(|_| Fault::bad_request(USAGE))?;
    let least = look.slower_than.map(|text| duration("slower_than", &text));
    let table = office.current.load();
    let filter = Filter {
        model: look.model.map(|name| own_name(&table, name)),
        errors: look.errors,
        slower_than: least.transpose().map_err(Fault::bad_request)?,
        id: look.id,
    };
    if is_wanted(&headers) {
        return Ok(follow(office.logs.decisions.follow(), filter));
    }
    let decisions = &office.logs.decisions;
    let mut found = match filter.id {
        Some(_) => [decisions.failures(), decisions.recent()].concat(),
        None if filter.errors => decisions.failures(),
        None => decisions.recent(),
    };
    found.retain(|decision| filter.takes(decision));
    found.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let first = found.len().saturating_sub(look.limit.unwrap_or(usize::MAX));
    let lines: Vec<&str> = found[first..].iter().map(|decision| &*decision.json).collect();
    let json = format!("{{\"decisions\":[{}]}}", lines.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

fn follow(mut feed: Receiver<Arc<Decision>>, filter: Filter) -> Response {
    stream(16, |lines| async move {
        let mut text = ": following\n\n".to_owned();
        loop {
            if !text.is_empty() && lines.send(Bytes::from(std::mem::take(&mut text))).await.is_err()
            {
                return;
            }
            match tokio::time::timeout(HEARTBEAT, feed.recv()).await {
                Ok(Ok(decision)) if filter.takes(&decision) => {
                    text = format!("data: {}\n\n", decision.json);
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(missed))) => {
                    text = format!("event: missed\ndata: {missed}\n\n");
                }
                Ok(Err(RecvError::Closed)) => return,
                Err(_) => ": still here\n\n".clone_into(&mut text),
            }
        }
    })
}
