//! The bodies that are being read: what can be given up when another client needs the space.
use crate::access::Claim;
use crate::fleet::Holder;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use tokio::sync::Notify;

/// This bit of a ticket's bytes says that its body was given up.
const GIVEN_UP: u64 = 1 << 63;

/// All bodies whose end is still to come, and that took more than one read. The lock is taken at the second read of a
/// body, at its end, and when the space is full.
#[derive(Debug, Default)]
pub(super) struct Reading(Mutex<Tickets>);

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    all: BTreeMap<u64, Arc<Ticket>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    holder: Arc<Holder>,
    /// What it holds.
    bytes: AtomicU64,
    ended: Notify,
}

impl Ticket {
    /// Takes note that its body grew. `false`: it was given up, and these bytes are not its own.
    pub(super) fn grew(&self, more: u64) -> bool {
        self.bytes.fetch_add(more, AcqRel) & GIVEN_UP == 0
    }

    /// What it holds, if it was not given up.
    pub(super) fn bytes(&self) -> Option<u64> {
        let bytes = self.bytes.load(Acquire);
        (bytes & GIVEN_UP == 0).then_some(bytes)
    }

    /// Ends its account: what is left in it, to be given back by the caller.
    pub(super) fn close(&self) -> Option<u64> {
        let bytes = self.bytes.swap(GIVEN_UP, AcqRel);
        (bytes & GIVEN_UP == 0).then_some(bytes)
    }

    /// Returns when it was given up.
    pub(super) async fn given_up(&self) {
        self.ended.notified().await;
    }
}

impl Reading {
    pub(super) fn enter(&self, holder: Arc<Holder>, bytes: u64) -> Arc<Ticket> {
        let mut tickets = self.0.lock();
        let number = tickets.next;
        tickets.next += 1;
        let bytes = AtomicU64::new(bytes);
        let ticket = Arc::new(Ticket { number, holder, bytes, ended: Notify::new() });
        tickets.all.insert(number, Arc::clone(&ticket));
        ticket
    }

    pub(super) fn leave(&self, ticket: &Ticket) {
        self.0.lock().all.remove(&ticket.number);
    }

    /// Gives up bodies of those who hold more than the claim's client, the greatest holder first and its largest body
    /// first, until `needed` bytes are there. `released` gives back each one's bytes. `false`, and nothing is given up,
    /// where they are too few.
    pub(super) fn make_room(
        &self,
        claim: Claim,
        needed: u64,
        released: impl Fn(&Holder, u64),
    ) -> bool {
        let mut tickets = self.0.lock();
        let Some(given_up) = tickets.to_give_up(claim, needed) else { return false };
        for ticket in given_up {
            tickets.all.remove(&ticket.number);
            if let Some(bytes) = ticket.close() {
                released(&ticket.holder, bytes);
                ticket.ended.notify_one();
            }
        }
        true
    }
}

/// A client that holds more than the one that claims space.
struct Greater {
    held: u64,
    /// Its bodies, the largest last.
    bodies: Vec<(u64, Arc<Ticket>)>,
}

impl Tickets {
    /// Which bodies give way for this claim; `None` where they are too few.
    fn to_give_up(&self, claim: Claim, needed: u64) -> Option<Vec<Arc<Ticket>>> {
        let mut holders: HashMap<*const Holder, Greater> = HashMap::new();
        for ticket in self.all.values().filter(|ticket| claim.outranks(ticket.holder.bytes())) {
            let Some(bytes) = ticket.bytes() else { continue };
            let held = ticket.holder.bytes();
            let holder = holders.entry(Arc::as_ptr(&ticket.holder));
            let holder = holder.or_insert_with(|| Greater { held, bodies: Vec::new() });
            holder.bodies.push((bytes, Arc::clone(ticket)));
        }
        let mut holders: Vec<Greater> = holders.into_values().collect();
        for holder in &mut holders {
            holder.bodies.sort_by_key(|(bytes, ticket)| (*bytes, ticket.number));
        }
        let (mut chosen, mut freed) = (Vec::new(), 0_u64);
        while freed < needed {
            let has_more =
                |holder: &&mut Greater| claim.outranks(holder.held) && !holder.bodies.is_empty();
            let greatest = holders.iter_mut().filter(has_more).max_by_key(|holder| holder.held)?;
            let (bytes, ticket) = greatest.bodies.pop()?;
            greatest.held = greatest.held.saturating_sub(bytes);
            freed = freed.saturating_add(bytes);
            chosen.push(ticket);
        }
        Some(chosen)
    }
}
