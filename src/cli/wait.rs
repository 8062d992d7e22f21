//! Waiting until an order about replicas is done, saying what it waits for.
use super::remote::{Failure, Remote};
use super::terminal::{self, clean};
use crate::admin::ReplicaStatus;
use crate::control::{Act, Target};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// What it waits for.
    Waits(String),
    /// It will not be done by waiting.
    Never(String),
}

/// How long a command shall wait, as it was written.
pub(super) fn limit_of(text: &str) -> Result<Duration, Failure> {
    let limit = text.parse::<jiff::SignedDuration>().ok();
    limit.and_then(|limit| Duration::try_from(limit).ok()).ok_or_else(|| {
        let message = format!("`{text}` is not a duration such as `30m`");
        Failure { code: 2, ..Failure::new(message) }
    })
}

/// Looks again and again until every target is where it was sent; one that left the file is there.
#[expect(clippy::disallowed_methods, reason = "a command counts the time that it waits itself")]
pub(super) async fn wait(
    remote: &Remote,
    target: &Target,
    act: Act,
    limit: Duration,
) -> Result<Vec<ReplicaStatus>, Failure> {
    let ends = Instant::now() + limit;
    let mut said = String::new();
    loop {
        let model = remote.model(&target.model).await?;
        let version = model.versions.into_iter().find(|version| version.name == target.version);
        let replicas = version.map(|version| version.replicas).unwrap_or_default();
        let wanted = |r: &ReplicaStatus| target.replica.as_ref().is_none_or(|url| *url == r.url);
        let targets: Vec<_> = replicas.into_iter().filter(wanted).collect();
        let why = match progress(act, &targets) {
            Progress::Never(why) => return Err(Failure::new(why)),
            Progress::Waits(why) => why,
            Progress::Done if takes_out(act) && predecessor_drains(remote).await? => {
                "the process before this one still finishes what it runs".to_owned()
            }
            Progress::Done => return Ok(targets),
        };
        if Instant::now() >= ends {
            let message = format!("not done within {limit:?}: {why}");
            return Err(Failure { code: 3, ..Failure::new(message) });
        }
        if why != said {
            terminal::err(&format!("waiting: {}\n", clean(&why)));
            said = why;
        }
        sleep(POLL).await;
    }
}

fn takes_out(act: Act) -> bool {
    matches!(act, Act::Drain | Act::Eject)
}

/// After a takeover requests may still run there that this process does not count.
async fn predecessor_drains(remote: &Remote) -> Result<bool, Failure> {
    let status: Value = remote.get("/api/v1/status").await?.good()?;
    Ok(status["predecessor_drains"] == true)
}

fn progress(act: Act, targets: &[ReplicaStatus]) -> Progress {
    let each = targets.iter().map(|replica| {
        if takes_out(act) { goes_out(act, replica) } else { comes_back(act, replica) }
    });
    let (mut waits, mut never) = (None, None);
    for one in each {
        match one {
            Progress::Done => {}
            Progress::Waits(why) => waits = waits.or(Some(why)),
            Progress::Never(why) => never = never.or(Some(why)),
        }
    }
    never.map(Progress::Never).or(waits.map(Progress::Waits)).unwrap_or(Progress::Done)
}

fn goes_out(act: Act, replica: &ReplicaStatus) -> Progress {
    let ReplicaStatus { url, state, in_flight, .. } = replica;
    // What stands first hides the rest: one that fails its check, or that is drained, may be ejected as well.
    let out: &[&str] =
        if act == Act::Drain { &["draining"] } else { &["ejected", "unhealthy", "draining"] };
    if !out.contains(&state.as_str()) {
        return Progress::Never(format!(
            "{url} is {state} again before the {} was done",
            act.name()
        ));
    }
    if *in_flight == 0 {
        Progress::Done
    } else {
        Progress::Waits(format!("{url} runs {in_flight}"))
    }
}

fn comes_back(act: Act, replica: &ReplicaStatus) -> Progress {
    let ReplicaStatus { url, state, reason, ejection, .. } = replica;
    let by_hand = ejection.as_ref().is_some_and(|e| e.until.is_none() && e.refused.is_none());
    match state.as_str() {
        "healthy" => Progress::Done,
        "draining" => Progress::Never(format!("{url} is draining: `evener undrain` ends that")),
        "ejected" if by_hand && act != Act::Restore => {
            Progress::Never(format!("{url} is ejected by hand: `evener restore` ends that"))
        }
        _ => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Progress::Waits(format!("{url} is {state}{reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replica(state: &str, in_flight: u32, ejection: &Value) -> ReplicaStatus {
        let replica = json!({
            "url": "http://a:1", "state": state, "reason": "refused", "since": "2026-01-01T00:00:00Z",
            "in_flight": in_flight, "slots": null, "weight": 1.0, "slowness": 1.0,
            "requests_total": 0, "failures_total": 0, "ejection": ejection,
        });
        serde_json::from_value(replica).unwrap()
    }

    #[test]
    fn what_waiting_cannot_bring_is_said_at_once() {
        let by_hand = json!({"until": null, "seconds_left": null, "count": 0, "cause": "operator",
            "refused": null, "evidence": null});
        let none = Value::Null;
        let of = |act, state, in_flight, ejection: &Value| match progress(
            act,
            &[replica("healthy", 0, &none), replica(state, in_flight, ejection)],
        ) {
            Progress::Done => "done".to_owned(),
            Progress::Waits(why) => format!("waits: {why}"),
            Progress::Never(why) => format!("never: {why}"),
        };
        assert_eq!(of(Act::Undrain, "healthy", 3, &none), "done");
        assert_eq!(
            of(Act::Undrain, "unhealthy", 0, &none),
            "waits: http://a:1 is unhealthy: refused"
        );
        let stays = of(Act::Undrain, "ejected", 0, &by_hand);
        assert_eq!(stays, "never: http://a:1 is ejected by hand: `evener restore` ends that");
        let stays = of(Act::Restore, "draining", 0, &none);
        assert_eq!(stays, "never: http://a:1 is draining: `evener undrain` ends that");
        let out = |act, in_flight| progress(act, &[replica("draining", in_flight, &none)]);
        assert_eq!(out(Act::Drain, 2), Progress::Waits("http://a:1 runs 2".to_owned()));
        assert_eq!((out(Act::Drain, 0), out(Act::Eject, 0)), (Progress::Done, Progress::Done));
        let back = progress(Act::Drain, &[replica("healthy", 0, &none)]);
        assert!(matches!(back, Progress::Never(why) if why.contains("before the drain was done")));
    }
}
