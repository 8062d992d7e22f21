//! `evener status --watch`: the status again each second, with what happened in between.
use super::board::{Board, Look, board};
use super::problems;
use super::rates::Rates;
use super::remote::{Failure, Remote, finish};
use super::screen::{Screen, draw, size};
use super::status::{StatusArgs, StatusFormat, frame, read};
use super::terminal::{self, Paint, Tone, clean};
use crate::admin::Status;
use crate::dialect::nearest;
use crate::stats::{Clock as _, Moment, MonotonicClock};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

const EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer counts as lost: people wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn watch(args: &StatusArgs) -> ExitCode {
    let remote = match Remote::new(&args.remote) {
        Ok(remote) => remote,
        Err(failure) => return finish(Err(failure)),
    };
    let mut ends = match Ends::new() {
        Ok(ends) => ends,
        Err(error) => {
            return finish(Err(Failure::new(format!("cannot wait for signals: {error}"))));
        }
    };
    if args.format == StatusFormat::Json {
        return follow(args, &remote, &mut ends).await;
    }
    let mut watcher = Watcher::new(args, remote);
    // A server that was there may come back; one that never was is a mistake to tell at once.
    if let Err(failure) = watcher.look().await {
        return finish(Err(failure));
    }
    if std::io::stdout().is_terminal() {
        watcher.show(&mut ends).await;
    } else {
        watcher.repeat(&mut ends).await;
    }
    ExitCode::SUCCESS
}

/// One object a line.
async fn follow(args: &StatusArgs, remote: &Remote, ends: &mut Ends) -> ExitCode {
    let (mut tick, mut seen) = (ticks(), false);
    loop {
        tokio::select! {
            () = ends.come() => return ExitCode::SUCCESS,
            _ = tick.tick() => {}
        }
        match frame(args, remote).await {
            Ok(line) => terminal::out(&line),
            Err(failure) if !seen || failure.code != 1 => return finish(Err(failure)),
            Err(failure) => terminal::err(&failure.message),
        }
        seen = true;
    }
}

fn ticks() -> tokio::time::Interval {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// The signals that end it in good order, so that the terminal is left as it was.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok(Self([a?, b?, c?]))
    }

    async fn come(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

/// What was seen last, and since when nothing is.
struct Watcher<'a> {
    args: &'a StatusArgs,
    remote: Remote,
    clock: MonotonicClock,
    last: Option<Status>,
    /// None where two looks tell nothing together.
    rates: Rates,
    /// Since when, and why.
    lost: Option<(Moment, String)>,
}

impl<'a> Watcher<'a> {
    fn new(args: &'a StatusArgs, remote: Remote) -> Self {
        let clock = MonotonicClock::new();
        Self { args, remote, clock, last: None, rates: Rates::default(), lost: None }
    }

    /// Looks once more.
    async fn look(&mut self) -> Result<(), Failure> {
        let asked = timeout(PATIENCE, self.remote.get("/api/v1/status")).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure::new("Evener does not answer")));
        let looked = asked.and_then(|reply| read::<Status>(reply.good()?));
        match looked.and_then(|status| only(status, self.args.model.as_deref())) {
            Ok(status) => {
                let rates = self.last.as_ref().and_then(|last| Rates::between(last, &status));
                self.rates = rates.unwrap_or_default();
                (self.last, self.lost) = (Some(status), None);
                Ok(())
            }
            Err(failure) => {
                let since = self.lost.take().map_or_else(|| self.clock.now(), |(since, _)| since);
                let why = failure.message.trim_end().trim_start_matches("error: ").to_owned();
                self.lost = Some((since, why));
                Err(failure)
            }
        }
    }

    /// In place, until a key or a signal ends it.
    async fn show(&mut self, ends: &mut Ends) {
        let screen = Screen::open();
        let (mut keys, mut tick) = (screen.keys(), ticks());
        let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
        // The first look was just now.
        tick.tick().await;
        loop {
            draw(&self.page(size()));
            tokio::select! {
                () = ends.come() => return,
                () = asked_to_end(&mut keys) => return,
                _ = resized.recv() => {}
                // One that is interrupted, by the size of the terminal, is made again with the next tick.
                () = async { tick.tick().await; self.look().await.ok(); } => {}
            }
        }
    }

    /// One after the other, for pipes and files.
    async fn repeat(&mut self, ends: &mut Ends) {
        let mut tick = ticks();
        tick.tick().await;
        loop {
            match &self.lost {
                Some((_, why)) => terminal::err(&format!("error: {why}\n")),
                None => terminal::out(&(self.table(false, None) + "\n")),
            }
            tokio::select! {
                () = ends.come() => return,
                () = async { tick.tick().await; self.look().await.ok(); } => {}
            }
        }
    }

    /// What fits into so much room: healthy replicas are the first to be left out.
    fn page(&self, (columns, rows): (usize, usize)) -> String {
        let paint = Paint(terminal::wants_color());
        let mut head = String::new();
        if let Some((since, why)) = &self.lost {
            let seconds = self.clock.now().since(*since).as_secs();
            let said = format!("connection lost {seconds} s ago, trying again: {why}");
            head = paint.on(Tone::Bad, &said) + "\n";
        }
        let room = rows.saturating_sub(head.lines().count() + 1);
        let mut table = self.table(false, Some(columns));
        if table.lines().count() > room {
            table = self.table(true, Some(columns));
        }
        let more = table.lines().count().saturating_sub(room);
        let mut shown: String = table.lines().take(room).flat_map(|line| [line, "\n"]).collect();
        let foot = if more > 0 {
            format!(
                "{more} more lines do not fit; `evener status MODEL --watch` shows one model. q ends"
            )
        } else {
            "q ends".to_owned()
        };
        shown.push_str(&paint.on(Tone::Faint, &foot));
        head + &shown
    }

    fn table(&self, folded: bool, columns: Option<usize>) -> String {
        let Some(status) = &self.last else { return String::new() };
        let look = Look {
            paint: Paint(terminal::wants_color()),
            rates: Some(&self.rates),
            folded,
            columns,
        };
        board(&Board::All(status), &look)
    }
}

/// One model of it, by name or alias.
fn only(mut status: Status, model: Option<&str>) -> Result<Status, Failure> {
    let Some(name) = model else { return Ok(status) };
    let is = |model: &crate::admin::ModelStatus| {
        model.name == name || model.aliases.iter().any(|alias| alias == name)
    };
    if !status.models.iter().any(is) {
        let names: Vec<&str> = status.models.iter().map(|model| model.name.as_str()).collect();
        let near = nearest(name, names.iter().copied());
        let help = if near.is_empty() { names } else { near };
        let said = format!("there is no model `{}`; there is `{}`", clean(name), help.join("`, `"));
        return Err(Failure::new(said));
    }
    status.models.retain(is);
    problems::keep_model(&mut status);
    Ok(status)
}

/// `q`, Ctrl-D, or Ctrl-C where it comes as a key.
async fn asked_to_end(keys: &mut mpsc::Receiver<u8>) {
    loop {
        match keys.recv().await {
            Some(b'q' | b'Q' | 3 | 4) => return,
            Some(_) => {}
            // No keys: only signals end it.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::board::tests::status;

    #[test]
    fn one_model_is_found_by_name_or_alias() {
        assert_eq!(only(status(), Some("gpt")).unwrap().models.len(), 1);
        let said = only(status(), Some("chta")).unwrap_err().message;
        assert_eq!(said, "error: there is no model `chta`; there is `chat`\n");
    }
}
