//! The listeners of a plan: new ones bind first, then the old ones close.
use super::handover::Bequest;
use super::inherited::{Inherited, Sockets};
use crate::proxy::{Listener, Proxy, bind, inherit};
use crate::table::{ListenAddress, ListenerPlan};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// The bound listeners, with the plan each follows.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    bound: Vec<(ListenerPlan, Listener)>,
    /// Those whose files are ours once the process before is gone.
    promised: Vec<String>,
    /// Files of sockets that were not taken on. They go with the process before.
    orphans: Vec<PathBuf>,
}

/// What a plan needs, with every new socket bound already: putting it in force cannot fail for lack of a port.
#[derive(Debug)]
pub(super) struct Prepared {
    /// In the plan's order: a fresh socket, or the place of the listener that goes on.
    places: Vec<(ListenerPlan, Place)>,
    orphans: Vec<PathBuf>,
}

#[derive(Debug)]
enum Place {
    Fresh(OwnedFd),
    Inherited(Inherited),
    Kept(usize),
}

impl Listeners {
    /// Binds at the start what does not exist yet. All errors at once.
    pub(super) fn begin(
        plans: &[ListenerPlan],
        sockets: &mut Sockets,
    ) -> Result<Prepared, Vec<io::Error>> {
        let (mut places, mut errors) = (Vec::new(), Vec::new());
        let (shared, orphans) = sockets.share_out(plans);
        for (plan, inherited) in plans.iter().zip(shared) {
            let place = inherited.map_or_else(
                || bind(&plan.address).map(Place::Fresh),
                |inherited| Ok(Place::Inherited(inherited)),
            );
            match place {
                Ok(place) => places.push((plan.clone(), place)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Prepared { places, orphans }) } else { Err(errors) }
    }

    /// Binds what is new. All errors at once, each with its place in the plan.
    pub(super) fn prepare(
        &self,
        plans: &[ListenerPlan],
    ) -> Result<Prepared, Vec<(usize, io::Error)>> {
        let (mut places, mut errors) = (Vec::new(), Vec::new());
        for (i, plan) in plans.iter().enumerate() {
            if let Some(kept) = self.kept(plan, plans) {
                places.push((plan.clone(), Place::Kept(kept)));
                continue;
            }
            match bind(&plan.address) {
                Ok(socket) => places.push((plan.clone(), Place::Fresh(socket))),
                Err(error) => errors.push((i, error)),
            }
        }
        let orphans = Vec::new();
        if errors.is_empty() { Ok(Prepared { places, orphans }) } else { Err(errors) }
    }

    /// The listener that goes on under this plan: of the same name and address, or one that was only renamed.
    fn kept(&self, plan: &ListenerPlan, plans: &[ListenerPlan]) -> Option<usize> {
        let same_name = self.bound.iter().position(|(old, _)| old.name == plan.name);
        if let Some(i) = same_name {
            return (self.bound[i].0.address == plan.address).then_some(i);
        }
        self.bound.iter().position(|(old, _)| {
            old.address == plan.address && plans.iter().all(|other| other.name != old.name)
        })
    }

    /// Puts a prepared plan in force. What is not in it stops accepting; its requests finish.
    pub(super) fn commit(&mut self, proxy: &Arc<Proxy>, prepared: Prepared) -> io::Result<()> {
        self.orphans.extend(prepared.orphans);
        let mut old: Vec<_> = std::mem::take(&mut self.bound).into_iter().map(Some).collect();
        for (plan, place) in prepared.places {
            let listener = match place {
                Place::Fresh(socket) => inherit(proxy, &plan, socket, true)?,
                Place::Inherited(Inherited { socket, owns_file, .. }) => {
                    if owns_file {
                        self.promised.push(plan.name.clone());
                    }
                    inherit(proxy, &plan, socket, false)?
                }
                Place::Kept(i) => {
                    let kept = old.get_mut(i).and_then(Option::take);
                    let (_, listener) = kept.expect("each listener is kept at most once");
                    listener.configure(&plan);
                    listener
                }
            };
            self.bound.push((plan, listener));
        }
        proxy.meters.keep_listeners(|name| self.bound.iter().any(|(plan, _)| plan.name == name));
        Ok(())
    }

    /// Name and address of each, as bound.
    pub(super) fn addresses(&self) -> Vec<(String, ListenAddress)> {
        self.bound.iter().map(|(plan, l)| (plan.name.clone(), l.address.clone())).collect()
    }

    /// What a successor is offered.
    pub(super) fn bequests(&self) -> Vec<Bequest<'_>> {
        let listeners = self.bound.iter().map(|(plan, listener)| Bequest {
            name: plan.name.clone(),
            configured: plan.address.to_string(),
            owns_file: listener.owns_file(),
            socket: listener.socket(),
        });
        listeners.collect()
    }

    /// The files of unix sockets are a successor's now.
    pub(super) fn leave_files(&self) {
        for (_, listener) in &self.bound {
            listener.set_owns_file(false);
        }
    }

    /// The process before is gone: the files of its unix sockets are ours.
    pub(super) fn own_files(&mut self) {
        for path in self.orphans.drain(..) {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "the file of a dropped socket stays");
            }
        }
        let promised = std::mem::take(&mut self.promised);
        for (_, listener) in self.bound.iter().filter(|(plan, _)| promised.contains(&plan.name)) {
            listener.set_owns_file(true);
        }
    }

    /// Stops accepting.
    pub(super) fn close(&mut self) {
        self.bound.clear();
    }
}
