//! A line in front of a limited number of slots, first come first served; the limit may change meanwhile.
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Lets as many in as there are slots.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Line>);

#[derive(Debug)]
struct Line {
    slots: Option<u32>,
    running: u32,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

impl Line {
    fn has_room(&self) -> bool {
        self.slots.is_none_or(|slots| self.running < slots)
    }
}

/// Leave to run; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Gate>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.lock().running -= 1;
        self.0.admit();
    }
}

impl Gate {
    pub(super) fn new(slots: Option<u32>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Line { slots, running: 0, waiting: VecDeque::new() })))
    }

    /// Waits in line; whoever stops waiting leaves it.
    pub(super) async fn enter(self: &Arc<Self>) -> Slot {
        let turn = {
            let mut line = self.0.lock();
            line.waiting.retain(|waiting| !waiting.is_closed());
            if line.waiting.is_empty() && line.has_room() {
                line.running += 1;
                return Slot(Arc::clone(self));
            }
            let (sender, turn) = oneshot::channel();
            line.waiting.push_back(sender);
            turn
        };
        turn.await.expect("the gate that is borrowed here keeps the line")
    }

    pub(super) fn resize(self: &Arc<Self>, slots: Option<u32>) {
        self.0.lock().slots = slots;
        self.admit();
    }

    /// How many run, and how many wait.
    pub(super) fn counts(&self) -> (u32, usize) {
        let line = self.0.lock();
        (line.running, line.waiting.iter().filter(|waiting| !waiting.is_closed()).count())
    }

    fn admit(self: &Arc<Self>) {
        loop {
            let next = {
                let mut line = self.0.lock();
                if !line.has_room() {
                    return;
                }
                let Some(next) = line.waiting.pop_front() else { return };
                if next.is_closed() {
                    continue;
                }
                line.running += 1;
                next
            };
            // To one that left just now the slot cannot be sent: it comes back and is dropped, which admits the next.
            drop(next.send(Slot(Arc::clone(self))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_is_first_come_first_served() {
        let gate = Gate::new(Some(1));
        let first = gate.enter().await;
        let mut second = Box::pin(gate.enter());
        let mut third = Box::pin(gate.enter());
        tokio::select! { biased; _ = &mut second => panic!("no slot is free"), _ = &mut third => panic!("no slot is free"), () = async {} => {} }
        assert_eq!(gate.counts(), (1, 2));
        drop(first);
        let slot = second.await;
        assert_eq!(gate.counts(), (1, 1));
        drop(slot);
        drop(third.await);
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test]
    async fn whoever_stops_waiting_holds_nobody_up() {
        let gate = Gate::new(Some(1));
        let first = gate.enter().await;
        let mut second = Box::pin(gate.enter());
        tokio::select! { biased; _ = &mut second => panic!("no slot is free"), () = async {} => {} }
        drop(first);
        drop(second);
        assert_eq!(gate.counts(), (0, 0));
        drop(gate.enter().await);
    }

    #[tokio::test]
    async fn more_slots_let_more_in_at_once() {
        let gate = Gate::new(Some(0));
        let mut waiting = Box::pin(gate.enter());
        tokio::select! { biased; _ = &mut waiting => panic!("no slot is free"), () = async {} => {} }
        gate.resize(None);
        let slot = waiting.await;
        assert_eq!(gate.counts(), (1, 0));
        drop(slot);
    }
}
