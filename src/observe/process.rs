//! What `/metrics` tells of the process as a whole.
use super::exposition::Page;
use super::meters::{Meters, ReloadResult, SpanFate};
use super::metrics::{
    BUFFERED, BUILD, CONNECTIONS, GENERATION, LOG_DROPPED, RELOAD_SUCCESSFUL, RELOADED_AT, RELOADS,
    SPANS,
};
use crate::table::Table;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn expose(page: &mut Page, table: &Table, meters: &Meters) {
    let family = page.family(&RELOADS);
    for result in ReloadResult::ALL {
        family.count(&[result.name()], meters.reloads[result as usize].load(Relaxed));
    }
    let gauges = [
        (&RELOAD_SUCCESSFUL, meters.reload_successful.load(Relaxed) as f64),
        (&RELOADED_AT, meters.reloaded_at.load(Relaxed) as f64),
        (&GENERATION, table.generation as f64),
        (&BUFFERED, meters.buffered.load(Relaxed) as f64),
    ];
    for (metric, value) in gauges {
        page.family(metric).gauge(&[], value);
    }
    let family = page.family(&CONNECTIONS);
    for (listener, n) in meters.connections() {
        family.gauge(&[&listener], n as f64);
    }
    page.family(&LOG_DROPPED).count(&[], meters.log_dropped.load(Relaxed));
    let family = page.family(&SPANS);
    for fate in SpanFate::ALL {
        family.count(&[fate.name()], meters.spans(fate));
    }
    page.family(&BUILD).gauge(&[env!("CARGO_PKG_VERSION")], 1.0);
    page.process();
}
