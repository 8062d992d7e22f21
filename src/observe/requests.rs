//! What became of requests, for `/metrics`.
use super::exposition::Page;
use super::meters::Meters;
use super::metrics::{DURATION, FIRST_BYTE, INTER_CHUNK, REFUSALS, REQUESTS, TOKENS};
use super::walk::versions;
use crate::dialect::RefusalCode;
use crate::dialect::grpc::code_word;
use crate::fleet::{Histogram, ModelState, Tally};
use crate::table::{Limits, Table, Version};
use std::sync::atomic::Ordering::Relaxed;

/// What a request may be refused for once its model is known.
const OF_MODELS: &[RefusalCode] = {
    use RefusalCode::{FirstByteTimeout, NoReplicas, OutOfBuffers, OutOfResources};
    use RefusalCode::{StreamStalled, TotalTimeout, UpstreamFailed};
    &[
        UpstreamFailed,
        NoReplicas,
        OutOfBuffers,
        OutOfResources,
        FirstByteTimeout,
        StreamStalled,
        TotalTimeout,
    ]
};
/// And where keys have limits.
const OF_LIMITS: &[RefusalCode] = &[RefusalCode::RateLimited, RefusalCode::TokensLimited];
/// What a request may be refused for before.
const NAMELESS: &[RefusalCode] = {
    use RefusalCode::{BadRequest, HeadTooLarge, InternalError, ModelNotFound, ModelRequired};
    use RefusalCode::{NoRoute, OutOfBuffers, RequestTimeout, TooManyConnections};
    &[
        BadRequest,
        ModelRequired,
        ModelNotFound,
        NoRoute,
        RequestTimeout,
        HeadTooLarge,
        OutOfBuffers,
        TooManyConnections,
        InternalError,
    ]
};
/// And where there are keys.
const OF_KEYS: &[RefusalCode] = &[RefusalCode::InvalidApiKey];

/// Every model's state with its name; that of requests without a model comes last, without one.
fn states<'a>(
    table: &'a Table,
    meters: &'a Meters,
) -> impl Iterator<Item = (&'a str, &'a ModelState)> {
    let named = table.models.iter().map(|model| (&*model.name, &*model.state));
    named.chain([("", &meters.nameless)])
}

pub(super) fn expose(page: &mut Page, table: &Table, meters: &Meters) {
    let family = page.family(&REQUESTS);
    let mut add = |model: &str, version: &str, tally: &Tally| {
        for (code, class, n) in tally.counts() {
            family.count(&[model, version, &code_word(code), class.name()], n);
        }
    };
    for (model, version) in versions(table) {
        add(&model.name, &version.name, &version.state.requests);
    }
    for (model, state) in states(table, meters) {
        add(model, "", &state.requests);
    }
    for (metric, of) in [
        (&DURATION, (|v| &v.state.duration) as fn(&Version) -> &Histogram),
        (&FIRST_BYTE, |v| &v.state.first_byte),
        (&INTER_CHUNK, |v| &v.state.inter_chunk),
    ] {
        let family = page.family(metric);
        // Rows of nothing but zeros are thousands in a file of many models. Where one version of a model has some, the
        // others have theirs: a version that gets nothing is one to compare with.
        for model in &table.models {
            let seen = model.versions.iter().any(|version| !of(version).is_empty());
            for version in model.versions.iter().filter(|_| seen) {
                family.durations(&[&model.name, &version.name], of(version));
            }
        }
    }
    let family = page.family(&TOKENS);
    for (model, version) in versions(table) {
        let tokens = &version.state.tokens;
        for (kind, n) in [("prompt", &tokens.prompt), ("completion", &tokens.completion)] {
            family.count(&[&model.name, &version.name, kind], n.load(Relaxed));
        }
    }
    refusals(page, table, meters);
}

/// What may happen stands there from the start, so that `increase` sees the first time.
fn refusals(page: &mut Page, table: &Table, meters: &Meters) {
    let limits = table.plan.keys.iter().any(|key| key.limits != Limits::default());
    let (keys, limits) = (table.access.is_some(), if limits { OF_LIMITS } else { &[] });
    let family = page.family(&REFUSALS);
    for (model, state) in states(table, meters) {
        let (by, of_keys) = if model.is_empty() { (NAMELESS, keys) } else { (OF_MODELS, false) };
        let of_keys = if of_keys { OF_KEYS } else { &[] };
        for code in RefusalCode::ALL {
            let n = state.refusals.of(*code);
            if n > 0 || [by, of_keys, limits].iter().any(|codes| codes.contains(code)) {
                family.count(&[model, code.name()], n);
            }
        }
    }
}
