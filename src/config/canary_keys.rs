//! The keys of `canary`.
use super::keys::{Key, SPAN, SPAN_OR_ZERO, Shape, key};
use crate::canary::Metric;

#[rustfmt::skip]
pub(super) static CANARY: &[Key] = &[
    key("candidate", Shape::Text, "", "The version that is to take over. Required, but for `aa`."),
    key("start", Shape::Word(&["auto", "manual"]), "auto",
        "`auto`: when the file names a candidate that was not judged yet; `manual`: by `evener canary start`."),
    key("steps", Shape::OneOf(&[Shape::Word(&["auto"]), Shape::List(&Shape::Percent)]), "auto",
        "Percent of the candidate, rising to 100. `auto`: 1, 5, 25, 50, 100, from the first on which 100 of its requests fit into `hold`. Begins at the first that is not below its share in `split`."),
    key("hold", SPAN, "2m", "At least so long on a step, and 100 requests, and longer until the evidence is in."),
    key("warmup", SPAN_OR_ZERO, "30s", "After one of the candidate's replicas has passed its health check or served a request: not judged. For ten times as long slow answers keep it back, and roll nothing back."),
    key("confirm", Shape::Flag, "true",
        "Roll back only when the evidence stands without what may be one event (an outage of 30 s, a replica that is out for 75 s), or is many events on several replicas. `false`: at once."),
    key("checks", Shape::List(&Shape::Section(CHECK)), "[{metric: errors}, {metric: client_errors}, {metric: cancelled}, {metric: first_byte_p95}, {metric: chunk_gap_p99}, {metric: tokens_per_second}, {metric: bad_output}]",
        "What is compared with the other versions in the same minutes."),
    key("false_alarm", Shape::Percent, "1%", "The chance, over the whole roll-out, of rolling back a candidate that is as good."),
    key("proxies", Shape::Count { least: 1, most: 1000 }, "1",
        "Eveners that judge this candidate, each for itself: they share `false_alarm`, and the sentence says so."),
    key("on_failure", Shape::Word(&["rollback", "pause"]), "rollback", "What follows when a check fails; `pause` keeps it at the first step and waits for an operator."),
    key("on_undecided", Shape::Section(ON_UNDECIDED), "", "When a step takes too long."),
    key("notify", Shape::Section(NOTIFY), "", "Who is told of what happens."),
    key("aa", Shape::Flag, "false", "Judge a version against itself (the largest, unless `candidate` names one), change nothing, and report what the statistics say."),
];

#[rustfmt::skip]
pub(super) static CHECK: &[Key] = &[
    key("metric", Shape::Word(&Metric::NAMES), "", "What is measured. Required."),
    key("at_most", Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)]), "",
        "How much worse it may be: `+0.5%` percentage points, `1.5x` times; of several the widest. Default: `[+0.5%, 1.5x]` for `errors` and `client_errors`, `[+10%, 2x]` for `cancelled`, `+1%` for `bad_output`, `1.5x` for `chunk_gap_p99`, else `1.1x`."),
    key("at_least", Shape::Text, "", "For `tokens_per_second`, in the place of `at_most`: how many times what the others have. Default: `0.8x`."),
    key("when", Shape::Section(WHEN), "", "For `bad_output`: any of these makes an answer a bad one. Default: the first three."),
];

#[rustfmt::skip]
pub(super) static WHEN: &[Key] = &[
    key("empty", Shape::Flag, "false", "Nothing was said: no text, tool call, embedding or prediction; a page or an error in the place of an answer."),
    key("json_invalid", Shape::Flag, "false", "It says that it is JSON and is not; for streams, an event."),
    key("truncated", Shape::Flag, "false", "It ended at a limit of tokens that the request did not ask for, or a stream without its end."),
    key("matches", Shape::Text, "", "A regular expression that is in the text of no good answer."),
    key("json", Shape::Map(&Shape::Text), "{}", "JSON pointers with the value each must lead to; in a stream, in one event at least."),
];

#[rustfmt::skip]
pub(super) static ON_UNDECIDED: &[Key] = &[
    key("after", SPAN, "2h", "So long on one step."),
    key("do", Shape::Word(&["pause", "rollback"]), "pause", "What happens then."),
];

#[rustfmt::skip]
pub(super) static NOTIFY: &[Key] = &[
    key("webhook", Shape::Secret, "", "An http or https URL that gets JSON. Required. Never shown."),
    key("secret", Shape::OneOf(&[Shape::Secret, Shape::Null]), "null",
        "Signs what is sent (Standard Webhooks). Write `file:PATH` or `${VAR}`."),
];
