//! The file's own `tests`: each names a request and where it must go.
use super::core::Core;
use crate::balance::hash_point;
use crate::config::{Checked, Diagnostic};
use crate::dialect::{BodyRead, read_path};
use crate::stats::Moment;
use crate::table::{Asked, KeySource, Model, Overrides, Routed, Table, TestPlan, Unrouted};
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
    let path = read_path(&test.path).map_err(|problem| problem.to_string())?;
    let asked = TestAsk { test, host: test.host.clone().unwrap_or_default() };
    let body = test.model.as_ref().map_or(BodyRead::Absent, |model| {
        let text = serde_json::json!({ "model": model }).to_string();
        BodyRead::whole(Some("application/json"), None, text.as_bytes(), &[] as &[&str])
    });
    let route = table.find_route(&asked).map_err(|why| words(&why))?;
    let Routed { model, .. } =
        table.route(route, &asked, &path, body).map_err(|why| words(&why))?;
    if let Some(expected) = test.expect_model.as_ref().filter(|e| **e != *model.name) {
        return Err(format!(
            "the test expects model `{expected}`, the request goes to `{}`",
            model.name
        ));
    }
    let Some(expected) = &test.expect_version else { return Ok(()) };
    let chosen = version(model, test)?;
    if *expected == chosen {
        return Ok(());
    }
    Err(format!(
        "the test expects version `{expected}` of `{}`, the request goes to `{chosen}`",
        model.name
    ))
}

/// The version that a request of this kind always goes to.
fn version(model: &Model, test: &TestPlan) -> Result<String, String> {
    let named = |i: usize| model.versions[i].name.to_string();
    let sticky = model.plan.hash_on.iter().find_map(|source| match source {
        KeySource::Header(name) => header(test, name),
        KeySource::Json(_) | KeySource::ClientIp => None,
    });
    if let Some(key) = sticky {
        return Ok(named(model.segments.version(hash_point(&model.name, key.as_bytes()))));
    }
    let mut served = model.versions.iter().filter(|version| version.share > 0.0);
    match (served.next(), served.next()) {
        (Some(only), None) => Ok(only.name.to_string()),
        _ => Err(format!(
            "the test expects a version, but without a sticky key the request may go to any version of `{}`",
            model.name
        )),
    }
}

fn header<'a>(test: &'a TestPlan, name: &str) -> Option<&'a str> {
    test.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn words(why: &Unrouted) -> String {
    match why {
        Unrouted::NoRoute => "the test's request matches no route".to_owned(),
        Unrouted::ModelRequired => {
            "the test's request names no model, and there is no default".to_owned()
        }
        Unrouted::ModelNotFound { name, .. } => {
            format!("the test's request names model `{name}`, which does not exist")
        }
        Unrouted::Unidentified(problem) => problem.to_string(),
    }
}

struct TestAsk<'a> {
    test: &'a TestPlan,
    host: String,
}

impl Asked for TestAsk<'_> {
    fn method(&self) -> &str {
        &self.test.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        self.test.path.split('?').next().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(self.test, name)
    }
}
