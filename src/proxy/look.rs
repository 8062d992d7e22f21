//! Looks at an answer as it passes, for a canary: after each chunk left for the client, and within a part of the thread's
//! time. Nothing is held up for it, and what there is no time for is not looked at.
use super::exchange::Exchange;
use super::meaning::form_of;
use super::placed::Placed;
use super::shared::Proxy;
use crate::dialect::{Dialect, Output, OutputBudget, OutputForm, OutputScan, Reserved};
use crate::stats::Moment;
use crate::table::Answers;
use http::{Method, StatusCode};
use pingora_http::ResponseHeader;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// Of the time of each thread.
const PART: f64 = 0.02;

thread_local! {
    /// One budget a thread: asking takes no lock.
    static BUDGET: RefCell<Option<OutputBudget>> = const { RefCell::new(None) };
}

/// One answer that is looked at.
#[derive(Debug)]
pub(super) struct Look {
    proxy: Arc<Proxy>,
    /// Until it is over.
    scan: Option<OutputScan>,
    reserved: Option<Reserved>,
    spent: Duration,
}

impl Exchange<'_> {
    /// The dialect in which a replica is asked, where something is read of its answers.
    pub(super) fn asked_in(&self, placed: &Placed<'_>) -> Dialect {
        let read = self.witness.is_some() || placed.model.plan.answers == Answers::Client;
        if read { self.asked_as(placed).dialect } else { self.dialect() }
    }

    /// Begins to look at an answer of a good status, where a canary learns from this attempt and its checks ask for it.
    pub(super) fn look(&self, head: &ResponseHeader) -> Option<Box<Look>> {
        let model = self.record.model.as_ref().filter(|_| self.witness.is_some())?;
        let wish = model.output.as_ref()?;
        // Only what was sent to be worked on has an output: a page of metadata is none.
        let worked = self.session.req_header().method == Method::POST
            && head.status.is_success()
            && head.status != StatusCode::NO_CONTENT;
        let form = form_of(head);
        if !worked || form == OutputForm::Opaque {
            return None;
        }
        let now = self.proxy.now().since(Moment::ZERO);
        let reserved = BUDGET.with_borrow_mut(|budget| {
            budget.get_or_insert_with(|| OutputBudget::new(PART, now)).reserve(now)
        })?;
        Some(Box::new(Look {
            proxy: Arc::clone(self.proxy),
            scan: Some(OutputScan::new(self.answers_in, form, Arc::clone(wish))),
            reserved: Some(reserved),
            spent: Duration::ZERO,
        }))
    }
}

impl Look {
    /// Takes the next bytes of the body.
    pub(super) fn chunk(&mut self, bytes: &[u8]) {
        let before = self.proxy.now();
        if let Some(scan) = &mut self.scan {
            scan.chunk(bytes);
        }
        self.spent += self.proxy.now().since(before);
    }

    /// The answer ended as its framing said it would.
    pub(super) fn finish(mut self) -> Option<Output> {
        let before = self.proxy.now();
        let output = self.scan.take().map(|scan| scan.finish(true));
        self.spent += self.proxy.now().since(before);
        output
    }
}

impl Drop for Look {
    /// Gives back what was set aside, for answers that broke off too.
    fn drop(&mut self) {
        let Some(reserved) = self.reserved.take() else { return };
        // A thread that ends has no budget any more.
        let _ended = BUDGET.try_with(|budget| {
            if let Some(budget) = &mut *budget.borrow_mut() {
                budget.settle(reserved, self.spent);
            }
        });
    }
}
