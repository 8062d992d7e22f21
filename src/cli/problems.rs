//! What is wrong, as lines: above the board of `evener status`, and alone for `--check`.
use super::terminal::{Paint, Tone, clean};
use crate::admin::{ModelStatus, Status};
use crate::problems::{Problem, Severity};

/// A line for each, worst first.
pub(super) fn lines<'a>(problems: impl IntoIterator<Item = &'a Problem>, paint: Paint) -> String {
    let line = |problem: &Problem| {
        let tone = match problem.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Notice => Tone::Faint,
        };
        paint.on(tone, &clean(&problem.text)) + "\n"
    };
    problems.into_iter().map(line).collect()
}

/// What `--check` says, and whether all is well. What an operator made so is no fault.
pub(super) fn verdict(
    problems: &[Problem],
    models: &[ModelStatus],
    paint: Paint,
) -> (String, bool) {
    let wrong: Vec<&Problem> = problems.iter().filter(|problem| problem.is_wrong()).collect();
    if !wrong.is_empty() {
        return (lines(wrong, paint), false);
    }
    let replicas = models.iter().flat_map(|model| &model.versions);
    let replicas: usize = replicas.map(|version| version.replicas.len()).sum();
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let (n, each) = (models.len(), s(models.len()));
    (format!("all is well: {n} model{each}, {replicas} replica{}\n", s(replicas)), true)
}

/// Only those of this model.
pub(super) fn keep_model(status: &mut Status) {
    let names: Vec<String> = status.models.iter().map(|model| model.name.clone()).collect();
    let is = |name: &String| names.contains(name);
    status.problems.retain(|problem| problem.model.as_ref().is_some_and(is));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::board::tests::status;
    use serde_json::json;

    fn problem(rank: u8, severity: &str, model: Option<&str>) -> Problem {
        serde_json::from_value(json!({"rank": rank, "severity": severity, "code": "requests_fail",
            "subject": "chat", "model": model, "sentence": "s", "since": "2026-01-01T00:00:00Z",
            "what_to_do": "look", "text": format!("rank {rank}\u{1b}[2J: look")}))
        .unwrap()
    }

    #[test]
    fn a_check_names_what_is_wrong_and_passes_over_what_an_operator_did() {
        let models = status().models;
        let (text, well) = verdict(&[problem(6, "notice", None)], &models, Paint(false));
        assert_eq!((text.as_str(), well), ("all is well: 1 model, 2 replicas\n", true));
        let all =
            [problem(0, "critical", None), problem(3, "warning", None), problem(6, "notice", None)];
        let (text, well) = verdict(&all, &models, Paint(false));
        assert_eq!(text, "rank 0\\u{1b}[2J: look\nrank 3\\u{1b}[2J: look\n");
        assert!(!well);
    }

    #[test]
    fn of_one_model_only_its_own_are_shown() {
        let mut status = status();
        status.problems =
            [Some("chat"), Some("other"), None].map(|m| problem(1, "warning", m)).into();
        keep_model(&mut status);
        assert_eq!(status.problems.len(), 1);
    }
}
