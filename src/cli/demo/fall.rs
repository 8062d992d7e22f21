//! The other story: a canary that starts well, breaks, and is rolled back by itself.
use super::story::Story;
use crate::canary::State;
use crate::observe::CanaryReport;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// How long the first step may take, and the verdict.
const CLIMB: Duration = Duration::from_secs(45);
const VERDICT: Duration = Duration::from_secs(75);
/// Everything together, until it is rolled back.
const ALL: Duration = Duration::from_secs(90);
/// How long the end is looked at.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How often it fails once it is broken.
const BROKEN: &str = "20%";

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fall {
    /// Until its share was raised.
    climbed: Option<Duration>,
    /// From the break until its share was cut.
    cut: Option<Duration>,
    /// From the break until it was rolled back.
    rolled_back: Option<Duration>,
    /// From the beginning until it was rolled back.
    all: Duration,
    sentence: String,
    /// Requests that v2 served afterwards.
    served_afterwards: u64,
    held_back: u64,
}

impl Story<'_> {
    /// Returns the promises that were broken.
    pub(super) async fn fall(&mut self) -> anyhow::Result<Vec<String>> {
        let began = self.stage.now();
        let mut fall = Fall::default();
        self.voice
            .headline("1. A good start. v2 is the candidate of a canary: it gets 10 % first.")?;
        fall.climbed = self.canary_comes_to(CLIMB, |canary| canary.step > 0).await?;
        if fall.climbed.is_some() {
            self.voice.say("It was no worse than v1, so it gets 25 %.")?;
            sleep(AFTERWARDS).await;
        }
        self.voice.headline(format!(
            "2. It breaks. From now on v2 answers {BROKEN} of its requests with 503."
        ))?;
        let failed_before = self.traffic.seen().failed;
        for replica in self.stage.replicas.iter().filter(|replica| replica.version == "v2") {
            replica.turn(&json!({"error": BROKEN, "error_status": 503})).await?;
        }
        let broke = self.stage.now();
        let failing = |state| matches!(state, State::Failing | State::RolledBack);
        fall.cut = self.canary_comes_to(VERDICT, |canary| failing(canary.state)).await?;
        if let Some(after) = fall.cut {
            self.voice.say(format!(
                "After {:.0} s its share is cut to 10 %. One burst is no verdict, so it is watched on:",
                after.as_secs_f64()
            ))?;
        }
        let left = VERDICT.saturating_sub(self.stage.now().since(broke));
        let rolled_back = |canary: &CanaryReport| canary.state == State::RolledBack;
        let ended = self.canary_comes_to(left, rolled_back).await?;
        let now = self.stage.now();
        fall.rolled_back = ended.map(|_| now.since(broke));
        fall.all = now.since(began);
        fall.sentence = self.stage.canary().map(|canary| canary.sentence).unwrap_or_default();
        self.voice.headline("3. The end.")?;
        let failed = self.traffic.seen().failed - failed_before;
        self.voice.say(format!(
            "Of all requests since it broke {failed} failed: what v2 answered with 503 was asked again elsewhere."
        ))?;
        let before = self.stage.counts();
        sleep(AFTERWARDS).await;
        let counts = self.stage.counts().since(&before);
        fall.served_afterwards = counts.0.iter().filter(|v| v.name == "v2").map(|v| v.served).sum();
        self.voice.say(format!(
            "Now v1 serves all: {} requests, v2 {}.",
            counts.served() - fall.served_afterwards,
            fall.served_afterwards
        ))?;
        fall.held_back = self.traffic.seen().held_back;
        Ok(broken(&fall))
    }

    /// Says each new sentence of the canary until `there`. Returns how long that took; `None`: not in time.
    async fn canary_comes_to(
        &self,
        patience: Duration,
        there: impl Fn(&CanaryReport) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let began = self.stage.now();
        let mut told = None;
        loop {
            let passed = self.stage.now().since(began);
            if let Some(canary) = self.stage.canary() {
                let news = Some((canary.state, canary.step));
                if told != news {
                    self.voice.say(format!("  [{}] {}", canary.state.name(), canary.sentence))?;
                    told = news;
                }
                if there(&canary) {
                    return Ok(Some(passed));
                }
            }
            if passed > patience {
                return Ok(None);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The promises that were not kept, a sentence each.
fn broken(fall: &Fall) -> Vec<String> {
    let Fall { climbed, cut, rolled_back, all, sentence, served_afterwards, held_back } = fall;
    let claims = [
        (climbed.is_some(), format!("v2 was good, and was not given more within {CLIMB:?}")),
        (cut.is_some(), "v2 broke, and its share was not cut".to_owned()),
        (rolled_back.is_some(), format!("v2 was not rolled back within {VERDICT:?}")),
        (*all <= ALL, format!("it took {:.0} s until v2 was rolled back", all.as_secs_f64())),
        (
            sentence.contains("v2") && sentence.contains("v1"),
            format!("the verdict does not compare both versions: {sentence}"),
        ),
        (
            *served_afterwards == 0,
            format!("v2 served {served_afterwards} requests after it was rolled back"),
        ),
        (*held_back == 0, format!("{held_back} requests were not sent: this machine is too busy")),
    ];
    claims.into_iter().filter(|(kept, _)| !kept).map(|(_, sentence)| sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_can_be_broken_alone() {
        let second = Some(Duration::from_secs(1));
        let good = Fall {
            climbed: second,
            cut: second,
            rolled_back: second,
            all: Duration::from_mins(1),
            sentence: "v2 fails more than v1".to_owned(),
            ..Fall::default()
        };
        assert_eq!(broken(&good), Vec::<String>::new());
        let only = |spoil: &dyn Fn(&mut Fall)| {
            let mut fall = good.clone();
            spoil(&mut fall);
            let said = broken(&fall);
            assert_eq!(said.len(), 1, "{said:?}");
        };
        only(&|fall| fall.climbed = None);
        only(&|fall| fall.cut = None);
        only(&|fall| fall.rolled_back = None);
        only(&|fall| fall.all = Duration::from_secs(91));
        only(&|fall| fall.sentence = "it fails".to_owned());
        only(&|fall| fall.served_afterwards = 1);
        only(&|fall| fall.held_back = 1);
    }
}
