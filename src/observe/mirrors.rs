//! What mirrored requests came to, for `/metrics`.
use super::exposition::Page;
use super::metrics::MIRRORED;
use crate::table::Table;

pub(super) fn expose(page: &mut Page, table: &Table) {
    let family = page.family(&MIRRORED);
    for model in &table.models {
        for (result, n) in model.state.mirror.results() {
            // What may happen stands there from the start, so that a rate has a zero to rise from.
            if n > 0 || model.plan.mirror.is_some() {
                family.count(&[&model.name, result.name()], n);
            }
        }
    }
}
