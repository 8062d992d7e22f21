//! The page `/metrics`: where each number comes from.
use super::exhaustion::During;
use super::exposition::Page;
use super::meters::{Meters, ReloadResult, SpanFate};
use super::metrics::{
    BUFFERED, BUILD, CONNECTIONS, DECISIONS_DROPPED, EXHAUSTED, FAIL_OPEN, GENERATION, HEDGES,
    LOG_DROPPED, PANICS, RELOAD_SUCCESSFUL, RELOADED_AT, RELOADS, RETRIES, RETRIES_REFUSED, SPANS,
    SPLIT_OBSERVED, SPLIT_SHARE, STDERR_DROPPED, TLS_NOT_AFTER, TLS_RENEWED,
};
use super::panics::Task;
use super::shares::{fails_open, observed_shares};
use super::stderr::log_lines_dropped;
use super::walk::versions;
use crate::table::Table;
use crate::wire::Resource;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// The whole page, in the text format 0.0.4.
pub fn expose(table: &Table, meters: &Meters) -> String {
    let mut page = Page::default();
    super::requests::expose(&mut page, table, meters);
    attempts(&mut page, table);
    super::mirrors::expose(&mut page, table);
    super::canaries::expose(&mut page, table, meters);
    super::replicas::expose(&mut page, table);
    splits(&mut page, table);
    process(&mut page, table, meters);
    meters.troubles.expose(&mut page);
    page.render()
}

fn attempts(page: &mut Page, table: &Table) {
    let family = page.family(&RETRIES);
    for model in &table.models {
        // What may happen stands there from the start, so that a rate has a zero to rise from.
        let may = |reason: &str| model.plan.retries.when.iter().any(|on| on.word() == reason);
        for (reason, n) in model.state.retries().filter(|(reason, n)| *n > 0 || may(reason)) {
            family.count(&[&model.name, reason], n);
        }
    }
    let family = page.family(&RETRIES_REFUSED);
    for model in &table.models {
        family.count(&[&model.name], model.state.retries_refused.load(Relaxed));
    }
    let family = page.family(&HEDGES);
    for model in &table.models {
        for (result, n) in model.state.hedges() {
            family.count(&[&model.name, result.name()], n);
        }
    }
}

fn splits(page: &mut Page, table: &Table) {
    let family = page.family(&FAIL_OPEN);
    for (model, version) in versions(table) {
        let open = fails_open(model, version);
        family.gauge(&[&model.name, &version.name], f64::from(u8::from(open)));
    }
    let family = page.family(&SPLIT_SHARE);
    for (model, version) in versions(table) {
        family.gauge(&[&model.name, &version.name], version.share);
    }
    let family = page.family(&SPLIT_OBSERVED);
    for model in &table.models {
        for (version, share) in
            model.versions.iter().zip(observed_shares(model).into_iter().flatten())
        {
            family.gauge(&[&model.name, &version.name], share);
        }
    }
}

fn process(page: &mut Page, table: &Table, meters: &Meters) {
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
    certificates(page, table);
    page.family(&LOG_DROPPED).count(&[], meters.log_dropped.load(Relaxed));
    page.family(&DECISIONS_DROPPED).count(&[], meters.decisions_dropped.load(Relaxed));
    page.family(&STDERR_DROPPED).count(&[], log_lines_dropped());
    let family = page.family(&EXHAUSTED);
    for resource in Resource::ALL {
        for during in During::ALL {
            let n = meters.exhaustion.count(resource, during);
            family.count(&[resource.name(), during.name()], n);
        }
    }
    let family = page.family(&PANICS);
    for task in Task::ALL {
        family.count(&[task.name()], task.panics());
    }
    let family = page.family(&SPANS);
    for fate in SpanFate::ALL {
        family.count(&[fate.name()], meters.spans(fate));
    }
    page.family(&BUILD).gauge(&[env!("CARGO_PKG_VERSION")], 1.0);
    super::process::add(page);
}

/// Two of one name, as of two kinds of key, are told as one: the one that ends first.
fn certificates(page: &mut Page, table: &Table) {
    let mut named = BTreeMap::new();
    for (listener, tls) in table.plan.server_tls() {
        for state in tls.states() {
            let (ends, good) = named.entry((listener, state.name)).or_insert((i64::MAX, true));
            *ends = state.not_after.min(*ends);
            *good &= state.fault.is_none();
        }
    }
    let family = page.family(&TLS_NOT_AFTER);
    for ((listener, name), (ends, _)) in &named {
        family.gauge(&[listener, name], *ends as f64);
    }
    let family = page.family(&TLS_RENEWED);
    for ((listener, name), (_, good)) in &named {
        family.gauge(&[listener, name], f64::from(u8::from(*good)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::METRICS;
    use super::*;
    use crate::canary::{CanaryPlan, Judged, RollOut};
    use crate::config::parse_text;
    use crate::dialect::RefusalCode;
    use crate::fleet::{Fleet, Mirrored};
    use crate::health::Class;
    use crate::observe::CanaryReport;
    use crate::stats::Moment;
    use crate::table::Overrides;
    use std::sync::Arc;
    use std::time::Duration;

    fn table(text: &str) -> Table {
        let plan = Arc::new(parse_text(text.to_owned(), "test", &|_| None).unwrap().plan);
        let (over, fleet) = (Overrides::default(), Fleet::default());
        Table::build(1, &plan, &over, &fleet, None, &mut || 0, Moment::ZERO)
    }

    fn chat() -> Table {
        table(
            "listeners: [{address: '127.0.0.1:0', tls: {cert: tests/golden/tls/good.crt, key: tests/golden/tls/good.key}}]\n\
             models:\n  'ch\"a\\t':\n    versions: {v1: ['http://a:1', 'http://b:1'], v2: ['http://c:1']}\n    \
             split: {v1: 75, v2: 25}\n",
        )
    }

    #[test]
    fn every_metric_of_the_list_is_on_the_page_once_something_happened() {
        let (table, meters) = (chat(), Meters::default());
        meters.listener("public");
        let model = &table.models[0];
        model.versions[0].state.requests.add(200, Class::Success);
        model.versions[0].state.served.fetch_add(1, Relaxed);
        model.versions[0].state.duration.observe(Duration::from_millis(1));
        model.versions[0].state.first_byte.observe(Duration::from_millis(1));
        model.versions[0].state.inter_chunk.observe(Duration::from_millis(1));
        model.state.refusals.add(RefusalCode::NoReplicas);
        model.state.mirror.note(Mirrored::Skipped);
        model.state.rolled_back(None);
        let replica = &model.versions[0].members[0].replica;
        replica.hold(&model.versions[0].state, None, "by hand".into(), Moment::ZERO);
        meters.canaries.store(Arc::new(vec![canary()]));
        let problem = ["ch\"a\\t", "requests_fail", "critical"].map(str::to_owned);
        meters.troubles.list_is([problem.clone(), problem].into_iter());
        let page = expose(&table, &meters);
        for metric in METRICS {
            assert!(page.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        }
        assert!(page.contains(r#"code="requests_fail",severity="critical"} 2"#), "{page}");
        assert!(page.contains("process_resident_memory_bytes"));
    }

    fn canary() -> CanaryReport {
        let plan = CanaryPlan { candidate: "v2".into(), ..CanaryPlan::default() };
        let judged = Judged { model: "m".into(), candidate: "v2".into(), upstream_model: None };
        let idle = RollOut::idle(plan, judged, "v1".into(), Moment::ZERO);
        CanaryReport::of(&idle, Moment::ZERO)
    }

    #[test]
    fn names_of_models_are_escaped_in_labels() {
        let page = expose(&chat(), &Meters::default());
        let line = r#"evener_split_share{model="ch\"a\\t",version="v2"} 0.25"#;
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn requests_count_by_code_and_outcome_and_without_a_version() {
        let (table, meters) = (table(ONE), Meters::default());
        let model = &table.models[0];
        model.versions[0].state.requests.add(502, Class::Reset);
        model.state.requests.add(413, Class::Refused);
        meters.nameless.requests.add(404, Class::Refused);
        let page = expose(&table, &meters);
        for line in [
            r#"evener_requests_total{model="m",version="default",code="502",outcome="reset"} 1"#,
            r#"evener_requests_total{model="m",version="",code="413",outcome="refused"} 1"#,
            r#"evener_requests_total{model="",version="",code="404",outcome="refused"} 1"#,
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }

    const ONE: &str = "listeners: [{address: '127.0.0.1:0'}]\n\
        models: {m: {versions: {default: ['http://a:1']}}}\n";

    #[test]
    fn a_replica_is_in_one_state_and_zero_in_the_others() {
        let table = table(ONE);
        table.models[0].versions[0].members[0].replica.probed(false, Some("refused"), Moment::ZERO);
        let page = expose(&table, &Meters::default());
        let state = |state, n| {
            format!(
                r#"evener_replica_state{{model="m",version="default",replica="http://a:1",state="{state}"}} {n}"#
            )
        };
        for (name, n) in [("unhealthy", 1), ("healthy", 0), ("starting", 0), ("draining", 0)] {
            assert!(page.contains(&state(name, n)), "{name}\n{page}");
        }
        assert!(page.contains(r#"evener_fail_open{model="m",version="default"} 1"#), "{page}");
    }

    #[test]
    fn a_version_whose_requests_another_takes_does_not_fail_open() {
        let table = chat();
        for member in &table.models[0].versions[1].members {
            member.replica.probed(false, Some("refused"), Moment::ZERO);
        }
        let page = expose(&table, &Meters::default());
        assert!(page.contains(r#"evener_fail_open{model="ch\"a\\t",version="v2"} 0"#), "{page}");
    }

    #[test]
    fn durations_are_cumulative_and_end_in_infinity() {
        let table = table(ONE);
        table.models[0].versions[0].state.duration.observe(Duration::from_millis(3));
        let page = expose(&table, &Meters::default());
        for line in [
            r#"evener_request_duration_seconds_bucket{model="m",version="default",le="0.0025"} 0"#,
            r#"evener_request_duration_seconds_bucket{model="m",version="default",le="0.005"} 1"#,
            r#"evener_request_duration_seconds_bucket{model="m",version="default",le="+Inf"} 1"#,
            r#"evener_request_duration_seconds_sum{model="m",version="default"} 0.003"#,
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
