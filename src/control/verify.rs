//! The file's own `tests`: each names a request and where it must go.
use super::core::Core;
use super::explain::explain;
use super::explanation::Question;
use crate::config::{Checked, Diagnostic};
use crate::stats::Moment;
use crate::table::{Overrides, Table, TestPlan};
use std::sync::Arc;

/// Runs the tests of a checked file; what fails is an error at its line.
pub fn verify(checked: &Checked) -> Vec<Diagnostic> {
    if checked.plan.tests.is_empty() {
        return Vec::new();
    }
    let plan = Arc::new(checked.plan.clone());
    let (core, _) = Core::start(&plan, Overrides::default(), 0, Moment::ZERO);
    let table = core.table();
    plan.tests
        .iter()
        .filter_map(|test| {
            let wrong = run(table, test).err()?;
            let span = checked.warnings.line_span(test.line);
            Some(Diagnostic::error("failed-test", span, wrong).label("this request"))
        })
        .collect()
}

fn run(table: &Table, test: &TestPlan) -> Result<(), String> {
    let host = test.host.iter().map(|host| ("host".to_owned(), host.clone()));
    let question = Question {
        method: test.method.clone(),
        path: test.path.clone(),
        model: test.model.clone(),
        key: test.key.clone(),
        headers: test.headers.iter().cloned().chain(host).collect(),
        ..Question::default()
    };
    let found = explain(table, &question, Moment::ZERO)
        .map_err(|why| format!("the test's request goes nowhere: {why}"))?;
    if let Some(expected) = test.expect_model.as_ref().filter(|expected| **expected != found.model)
    {
        return Err(format!(
            "the test expects model `{expected}`, the request goes to `{}`",
            found.model
        ));
    }
    let model = &found.model;
    match (&test.expect_version, &found.version) {
        (None, _) => Ok(()),
        (Some(expected), Some(chosen)) if expected == chosen => Ok(()),
        (Some(expected), Some(chosen)) => Err(format!(
            "the test expects version `{expected}` of `{model}`, the request goes to `{chosen}`"
        )),
        (Some(_), None) => Err(format!(
            "the test expects a version, but without a sticky key the request may go to any version of `{model}`"
        )),
    }
}
