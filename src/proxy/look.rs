//! Looks at an answer as it passes, for a canary: after each chunk left for the client, and within a part of the thread's
//! time. Nothing is held up for it, and what there is no time for is not looked at.
use super::shared::Proxy;
use crate::dialect::{Dialect, Output, OutputBudget, OutputForm, OutputScan, OutputWish, Reserved};
use crate::stats::Moment;
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

impl Look {
    /// Begins to look at an answer whose body can be read in this form, if there is time for it.
    pub(super) fn begin(
        proxy: &Arc<Proxy>,
        dialect: Dialect,
        form: OutputForm,
        wish: &Arc<OutputWish>,
    ) -> Option<Box<Self>> {
        let now = proxy.now().since(Moment::ZERO);
        let reserved = BUDGET.with_borrow_mut(|budget| {
            budget.get_or_insert_with(|| OutputBudget::new(PART, now)).reserve(now)
        })?;
        Some(Box::new(Self {
            proxy: Arc::clone(proxy),
            scan: Some(OutputScan::new(dialect, form, Arc::clone(wish))),
            reserved: Some(reserved),
            spent: Duration::ZERO,
        }))
    }

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
