//! Reading the file again: what is good of it serves, what is not changes nothing.
use super::Runner;
use crate::canary::By;
use crate::config::{self, Checked, Diagnostic, Diagnostics};
use crate::control::core::Trigger;
use crate::control::desk::{Loaded, Rejected};
use crate::control::heritage::told_if_shut;
use crate::control::listeners::Prepared;
use crate::control::order::{Answer, Reload};
use crate::control::reading::{FileRead, NewState, Opened, Read, read_file};
use crate::control::scribe::Scribe;
use crate::control::waiting::Unwritten;
use crate::observe::{Level, ReloadResult, Task, stamp};
use crate::stats::Clock as _;
use crate::table::{Changes, ListenAddress};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

/// Somebody wants the file read again.
#[derive(Debug)]
pub(super) struct Asked {
    /// Also where the text is the one already seen.
    pub(super) always: bool,
    pub(super) who: String,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The file while it is read, for the first who asked, and those who asked since: its text may be another by now.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    reading: Option<(Asked, JoinHandle<Read>)>,
    asked: VecDeque<Asked>,
}

impl Reloads {
    /// Waits until the file was read. Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Read, JoinError> {
        match &mut self.reading {
            Some((_, reading)) => reading.await,
            None => std::future::pending().await,
        }
    }
}

impl Runner {
    /// Has the file read again. A disk or a pipe may take its time with that; nobody waits for it but who asked.
    pub(super) fn read_again(&mut self, mut asked: Asked) {
        // Who left meanwhile is served by whoever comes later: what waits is bounded by those who do.
        self.reloads.asked.retain(|earlier| {
            let left = earlier.reply.is_closed();
            asked.always |= left && earlier.always;
            !left
        });
        self.reloads.asked.push_back(asked);
        self.read_next();
    }

    fn read_next(&mut self) {
        if self.reloads.reading.is_none()
            && let Some(asked) = self.reloads.asked.pop_front()
        {
            let (file, env) = (self.started.desk.file.clone(), self.env);
            // No other is applied before this one was.
            let serving = Arc::clone(&self.core.table().plan);
            let mut seen = vec![self.started.desk.running().0];
            if !asked.always {
                seen.push(self.seen.clone());
            }
            let proxy = Arc::clone(&self.started.proxy);
            let read = move || read_file(&file, &env, &serving, &proxy.logs, &seen);
            let read = move || Task::Control.run(read);
            self.reloads.reading = Some((asked, tokio::task::spawn_blocking(read)));
        }
    }

    /// Does what follows from the file that was read, answers who asked, and reads for the next.
    pub(super) fn take_up(&mut self, read: Result<Read, JoinError>) {
        let Some((Asked { always, who, reply }, _)) = self.reloads.reading.take() else { return };
        let read = read.unwrap_or_else(|_| {
            let file = &self.started.desk.file;
            Err(config::unreadable(file, "Evener panicked while it read it; the log says where"))
        });
        let reload = self.reload(read, always, &who);
        // Whoever asked may have left.
        reply.send(reload.map_or(Answer::Done, Answer::Reloaded)).ok();
        self.read_next();
    }

    /// `None`: nobody asked for this look, and the text is the one already seen.
    fn reload(&mut self, read: Read, always: bool, who: &str) -> Option<Reload> {
        let FileRead { checked, mut diagnostics, opened } = match read {
            Ok(read) => read,
            Err(diagnostics) => {
                let hash = diagnostics_hash(&diagnostics);
                let seen = std::mem::replace(&mut self.seen, hash.clone()) == hash;
                return (always || !seen).then(|| self.reject(&diagnostics, who));
            }
        };
        let same = self.seen == checked.text_hash;
        self.seen.clone_from(&checked.text_hash);
        if same && !always {
            return None;
        }
        if checked.text_hash == self.started.desk.running().0 {
            return Some(self.unchanged(checked, who));
        }
        let prepared = if diagnostics.has_errors() {
            Err(Vec::new())
        } else {
            self.listeners.prepare(&checked.plan.listeners)
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(errors) => {
                for (i, error) in errors {
                    let address = &checked.plan.listeners[i].address;
                    diagnostics.push(cannot_listen(&diagnostics, address, &error));
                }
                return Some(self.reject(&diagnostics, who));
            }
        };
        // The last that can fail: what was opened before is let go by its drop.
        if let Err(error) = self.take_opened(opened) {
            let span = diagnostics.find("state:");
            diagnostics.push(Diagnostic::error("unusable-file", span, error.to_string()));
            return Some(self.reject(&diagnostics, who));
        }
        Some(self.apply(checked, prepared, who))
    }

    /// Writes to what was opened from now on. An error says why nobody can write the state.
    fn take_opened(&mut self, Opened { state, logs }: Opened) -> io::Result<()> {
        if let Some(NewState { dir, gate }) = state {
            self.scribe = Scribe::start(dir, Some(&self.scribe))?;
            let old = std::mem::replace(&mut self.gate, told_if_shut(gate));
            // It removes its file, and the disk that it is on may be why the state moves.
            tokio::task::spawn_blocking(move || drop(old));
        }
        self.started.proxy.logs.commit(logs);
        Ok(())
    }

    fn apply(&mut self, checked: Checked, prepared: Prepared, who: &str) -> Reload {
        let plan = Arc::new(checked.plan);
        let began = self.clock.now();
        let Changes(changes) = Changes::between(&self.core.table().plan, &plan);
        let actions = self.core.handle(Trigger::Plan(&plan), began);
        self.perform(actions, By { who: "file", reason: None }, Unwritten::Stands);
        tracing::debug!(took = ?self.clock.now().since(began), "built and swapped the table");
        let proxy = Arc::clone(&self.started.proxy);
        proxy.follow(&plan);
        if let Err(error) = self.listeners.commit(&proxy, prepared) {
            tracing::error!(%error, "a bound socket cannot be served");
        }
        self.started.addresses.store(Arc::new(self.listeners.addresses()));
        let table = Arc::clone(self.core.table());
        self.prober.follow(&table);
        let generation = table.generation;
        let text = checked.warnings.masked_source();
        self.note(ReloadResult::Applied, checked.text_hash, who, changes.clone(), None, text);
        let what =
            if changes.is_empty() { "nothing that routes".to_owned() } else { changes.join("; ") };
        let message = format!("generation {generation} serves: {what}");
        self.started.events.announce("reload", message, who, None);
        Reload::Applied { generation, changes }
    }

    fn unchanged(&mut self, checked: Checked, who: &str) -> Reload {
        let text = checked.warnings.masked_source();
        self.note(ReloadResult::Unchanged, checked.text_hash, who, Vec::new(), None, text);
        Reload::Unchanged
    }

    fn reject(&mut self, diagnostics: &Diagnostics, who: &str) -> Reload {
        let text = diagnostics.render_text(false);
        let json = diagnostics.to_json();
        let errors = diagnostics.errors();
        let rejected = Rejected { text: text.clone(), diagnostics: json.clone() };
        let (hash, on_disk) = (self.seen.clone(), diagnostics.masked_source());
        self.note(ReloadResult::Rejected, hash, who, Vec::new(), Some(rejected), on_disk);
        tracing::warn!("the new configuration is rejected, the old one serves on:\n{text}");
        let s = if errors == 1 { "" } else { "s" };
        let message = format!(
            "configuration rejected: the file on disk has {errors} error{s}; generation {} keeps serving",
            self.core.table().generation
        );
        self.started.events.tell(Level::Warning, "reload", message, who, None);
        Reload::Rejected { text, diagnostics: json }
    }

    fn note(
        &self,
        result: ReloadResult,
        hash: String,
        who: &str,
        changes: Vec<String>,
        rejected: Option<Rejected>,
        text: String,
    ) {
        let at = stamp();
        let generation = self.core.table().generation;
        self.started.proxy.meters.reloaded(result, at);
        let who = who.to_owned();
        let loaded = Loaded { at, result, generation, hash, who, changes, rejected };
        self.started.desk.note(loaded, text);
    }
}

/// Tells one file with errors from the next.
fn diagnostics_hash(diagnostics: &Diagnostics) -> String {
    let all = diagnostics.render_text(false) + &diagnostics.masked_source();
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.as_bytes()))
}

fn cannot_listen(
    diagnostics: &Diagnostics,
    address: &ListenAddress,
    error: &io::Error,
) -> Diagnostic {
    let span = diagnostics.find(&address.to_string());
    Diagnostic::error("cannot-listen", span, error.to_string())
        .help("another program may use this address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Heritage, Order};
    use crate::observe::watch_panics_in_tests;
    use std::os::fd::OwnedFd;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_makes_evener_panic_is_rejected_and_the_next_one_is_read() {
        watch_panics_in_tests();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.yaml");
        let text = |replica: &str| {
            format!(
                "listeners: [{{address: '127.0.0.1:0'}}]\nstate: {{dir: {}/state}}\n\
                 telemetry: {{access_log: null}}\n\
                 models: {{m: {{versions: {{v: ['{replica}']}}, health: false}}}}\n",
                dir.path().display()
            )
        };
        std::fs::write(&file, text("http://127.0.0.1:1")).unwrap();
        let env = |name: &str| {
            assert_ne!(name, "EVENER_TEST_PANIC", "as asked");
            None
        };
        let checked = config::load(&file, &env).unwrap();
        let state = checked.plan.state_dir.clone();
        let mut heritage = Heritage::claim(&state, false, Vec::new()).await.unwrap();
        let admin = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let runner = Runner::start(file.clone(), checked, env, &mut heritage, admin).await.unwrap();
        let (started, before) = (runner.started(), Task::Control.panics());
        let running = tokio::spawn(runner.run());
        let reload = || started.orders.give(Order::Reload { always: true }, "test", None);
        std::fs::write(&file, text("${EVENER_TEST_PANIC}")).unwrap();
        let Answer::Reloaded(Reload::Rejected { text: said, .. }) = reload().await else {
            panic!("it was not rejected");
        };
        assert!(said.contains("Evener panicked while it read it"), "{said}");
        assert!(Task::Control.panics() > before);
        std::fs::write(&file, text("http://127.0.0.1:2")).unwrap();
        // The watch of the file may be first.
        assert!(!matches!(reload().await, Answer::Reloaded(Reload::Rejected { .. })));
        assert_eq!(
            &*started.proxy.current.load().models[0].versions[0].members[0].replica.id.url,
            "http://127.0.0.1:2"
        );
        started.orders.give(Order::Stop { drain: None }, "test", None).await;
        running.await.unwrap();
    }
}
