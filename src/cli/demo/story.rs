//! The story: what is done, in which order, and the sentences that tell it.
use super::counts::Counts;
use super::promises::{Death, Observed, Reloaded, SLOW_SHARE, broken};
use super::stage::{MODEL, Plot, SLOWER, Stage};
use super::traffic::{RATE, Seen, Traffic};
use super::voice::Voice;
use super::watch::Watch;
use crate::health::Standing;
use crate::stats::Moment;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Until latencies are learned.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long shares are counted.
const COUNTED: Duration = Duration::from_secs(6);
/// How long to wait for something promised.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells it, and returns whether every promise was kept.
pub(super) async fn tell(
    stage: &mut Stage,
    voice: &Voice,
    plot: Plot,
    headless: bool,
) -> anyhow::Result<bool> {
    let traffic = Traffic::new(stage.proxy, stage.started.proxy.clock);
    let watch = Watch::new(stage, Arc::clone(&traffic));
    introduce(stage, *voice, headless)?;
    let mut story = Story { stage, voice: *voice, traffic: Arc::clone(&traffic) };
    let telling = async {
        let broken = match plot {
            Plot::Death => Box::pin(story.death_and_reload()).await?,
            Plot::Fall => Box::pin(story.fall()).await?,
        };
        story.conclude(&broken, headless)?;
        if !headless {
            std::future::pending::<()>().await;
        }
        Ok(broken.is_empty())
    };
    tokio::select! {
        kept = telling => kept,
        () = traffic.flow() => Ok(false),
        silenced = watch.murmur(*voice) => Err(silenced.into()),
    }
}

fn introduce(stage: &Stage, voice: Voice, headless: bool) -> io::Result<()> {
    let Stage { proxy, admin, file, .. } = stage;
    voice.headline("Evener serves the model `chat`: versions v1 and v2, three replicas each.")?;
    voice.say(format!("  proxy       http://{proxy}"))?;
    voice.say(format!("  admin page  http://{admin}"))?;
    voice.say(format!("  its file    {}", file.display()))?;
    voice.say("  try it      (the answer's x-evener-* headers tell where it came from)")?;
    voice.say(format!(
        "    curl -i http://{proxy}/v1/chat/completions -H 'content-type: application/json' \\\n      \
         -d '{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'"
    ))?;
    let end = if headless { "It ends by itself." } else { "Ctrl-C ends it." };
    voice.say(format!(
        "About {RATE} requests a second begin now, a third of them streams. {end} Once a second:"
    ))
}

pub(super) struct Story<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) voice: Voice,
    pub(super) traffic: Arc<Traffic>,
}

impl Story<'_> {
    /// Returns the promises that were broken.
    async fn death_and_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let (slow_share, share_before) = self.shares().await?;
        let death = self.death().await?;
        let (reload, share_after) = self.reload().await?;
        let seen = self.traffic.seen();
        let failed_otherwise = seen.failed.saturating_sub(death.failed + reload.failed);
        let held_back = seen.held_back;
        let observed = Observed {
            slow_share,
            share_before,
            share_after,
            death,
            reload,
            failed_otherwise,
            held_back,
        };
        Ok(broken(&observed))
    }

    /// The slow replica's share of v1, and v2's share of all.
    async fn shares(&self) -> anyhow::Result<(f64, f64)> {
        let slow = &self.stage.replicas[0];
        sleep(WARM_UP).await;
        self.voice.headline(format!(
            "1. A slow replica. {} of v1 takes {SLOWER} times as long as the others.",
            slow.url
        ))?;
        let before = self.stage.counts();
        sleep(COUNTED).await;
        let counts = self.stage.counts().since(&before);
        let slow_share = counts.share_in_version(&slow.url);
        self.voice.say(format!(
            "It got {} of v1's requests, where turn by turn would give it 33.3 % (promised: below {:.0} %).",
            percent(slow_share),
            SLOW_SHARE * 100.0
        ))?;
        self.voice.headline("2. The split. The file says v1 90, v2 10.")?;
        self.voice.say(observed(&counts))?;
        Ok((slow_share, counts.share("v2")))
    }

    async fn death(&mut self) -> anyhow::Result<Death> {
        let url = self.stage.replicas[1].url.clone();
        self.voice
            .headline(format!("3. A death. {url} of v1 is killed, its connections are cut."))?;
        let (before, failed_before) = (self.stage.counts(), self.traffic.seen().failed);
        let cut = u64::from(before.replica(&url).in_flight);
        let killed = self.stage.now();
        self.stage.replicas[1].kill().await;
        let out = self.until(|stage| stage.standing(&url) == Some(Standing::Unhealthy)).await;
        let out_after = out.map(|at| at.since(killed));
        match out_after {
            Some(after) => self
                .voice
                .say(format!("Its health check took it out after {:.1} s.", after.as_secs_f64()))?,
            None => self.voice.say("Its health check did not take it out.")?,
        }
        sleep(Duration::from_millis(1500)).await;
        // In this order: a replica counts its failure before the client sees it.
        let seen = self.traffic.seen();
        let counts = self.stage.counts().since(&before);
        let failed = seen.failed - failed_before;
        let elsewhere = counts.replicas().filter(|replica| replica.url != url);
        let elsewhere: u64 = elsewhere.map(|replica| replica.failed).sum();
        // The clients must not have seen more failures than the dying replica had either.
        let unexplained = failed.saturating_sub(counts.replica(&url).failed);
        let failed_elsewhere = elsewhere.max(unexplained);
        let served = counts.served();
        self.voice.say(format!(
            "{failed} of {served} requests failed; {cut} were running there when it died, and {failed_elsewhere} \
             failed elsewhere. The others serve on."
        ))?;
        if let Some(example) = &seen.last_failure {
            self.voice.say(format!("One of them read: {}", example.escape_debug()))?;
        }
        let (back_after, served_again) = self.revival(&url).await?;
        Ok(Death { cut, failed, failed_elsewhere, served, out_after, back_after, served_again })
    }

    async fn revival(&mut self, url: &str) -> anyhow::Result<(Option<Duration>, u64)> {
        self.voice.say("Now it is revived on the same port.")?;
        let revived = self.stage.now();
        self.stage.replicas[1].revive().await?;
        let back = self.until(|stage| stage.standing(url) == Some(Standing::Healthy)).await;
        let before = self.stage.counts();
        let after = back.map(|at| at.since(revived));
        match after {
            Some(after) => self.voice.say(format!(
                "It passes its health check again after {:.1} s, and starts slowly.",
                after.as_secs_f64()
            ))?,
            None => self.voice.say("It did not come back.")?,
        }
        sleep(Duration::from_secs(3)).await;
        let counts = self.stage.counts().since(&before);
        let replica = counts.replica(url);
        let good = replica.ended.saturating_sub(replica.failed);
        self.voice.say(format!(
            "Since then it has served {good} requests, {} of v1's.",
            percent(counts.share_in_version(url))
        ))?;
        Ok((after, good))
    }

    async fn reload(&self) -> anyhow::Result<(Reloaded, f64)> {
        self.voice
            .headline("4. A reload. The file is rewritten while requests run: v1 50, v2 50.")?;
        let (generation, failed_before) = (self.stage.generation(), self.traffic.seen().failed);
        let rewritten = self.stage.now();
        self.stage.rewrite(50, 50)?;
        let applied = self.until(|stage| stage.generation() > generation).await;
        let after = applied.map(|at| at.since(rewritten));
        match after {
            Some(after) => self.voice.say(format!(
                "Generation {} serves after {:.1} s, in place of generation {generation}.",
                self.stage.generation(),
                after.as_secs_f64()
            ))?,
            None => self.voice.say("The new file was not applied.")?,
        }
        let before = self.stage.counts();
        sleep(COUNTED).await;
        let counts = self.stage.counts().since(&before);
        let failed = self.traffic.seen().failed - failed_before;
        self.voice.say(format!("{failed} requests failed meanwhile. {}", observed(&counts)))?;
        Ok((Reloaded { after, failed }, counts.share("v2")))
    }

    fn conclude(&self, broken: &[String], headless: bool) -> io::Result<()> {
        let voice = self.voice;
        if broken.is_empty() {
            voice.headline("Everything that was promised happened.")?;
        } else {
            voice.headline("Not everything that was promised happened:")?;
            broken.iter().try_for_each(|sentence| voice.say(format!("  - {sentence}")))?;
        }
        let Seen { answered, failed, .. } = self.traffic.seen();
        voice.say(format!("{answered} requests were answered, {failed} failed."))?;
        voice.say("Where to look next:")?;
        voice.say("  README.md                     what it is, and how to begin")?;
        voice.say("  conf/evener.yaml              every key of the file, explained")?;
        voice.say("  evener check FILE             what is wrong with a file, before it serves")?;
        if headless {
            return voice.say(
                "  evener demo                   the same, going on; with an admin page to look at",
            );
        }
        voice.say(format!("  {:<29} the admin page", format!("http://{}", self.stage.admin)))?;
        voice.say("Traffic goes on until Ctrl-C.")
    }

    /// When `happened` came true; `None`: not in time.
    async fn until(&self, happened: impl Fn(&Stage) -> bool) -> Option<Moment> {
        let began = self.stage.now();
        while !happened(self.stage) {
            if self.stage.now().since(began) > PATIENCE {
                return None;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Some(self.stage.now())
    }
}

fn observed(counts: &Counts) -> String {
    let each: Vec<_> = counts
        .0
        .iter()
        .map(|v| format!("{} served {} ({})", v.name, v.served, percent(counts.share(&v.name))))
        .collect();
    format!("Of {} requests {}.", counts.served(), each.join(" and "))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
