//! Keys of request bodies: those of users' own content, and those of settings.
use crate::dialect::naming::flat;

/// Users' own content in a request, as [`flat`] has its keys.
pub(super) const CONTENT: [&str; 32] = [
    "messages",
    "content",
    "contents",
    "input",
    "inputs",
    "instances",
    "prompt",
    "prompts",
    "query",
    "queries",
    "items",
    "documents",
    "texts",
    "text1",
    "text2",
    "data",
    "data1",
    "data2",
    "examples",
    "system",
    "systeminstruction",
    "instructions",
    "suffix",
    "stop",
    "dataframerecords",
    "dataframesplit",
    "promptvariables",
    "prediction",
    "labels",
    "context",
    "images",
    "textinput",
];
/// Users' own content wherever it stands: schemas of theirs, and what servers only keep or count.
pub(super) const ANYWHERE: [&str; 18] = [
    "metadata",
    "requestmetadata",
    "responseformat",
    "responseschema",
    "responsejsonschema",
    "jsonschema",
    "schema",
    "guidedjson",
    "structuredoutputs",
    "format",
    "inputschema",
    "outputschema",
    "functions",
    "functiondeclarations",
    "toolspec",
    "logitbias",
    "chattemplatekwargs",
    "headers",
];
/// The same in a tool, whose own fields may name a model (OpenAI's `image_generation`, Anthropic's `advisor`).
pub(super) const OF_TOOLS: [&str; 3] = ["function", "parameters", "custom"];
/// Lists of whole requests, and requests within one.
pub(super) const REQUESTS: [&str; 4] = ["requests", "request", "body", "generatecontentrequest"];
/// Settings that some servers take as a text of JSON, too.
pub(super) const SETTINGS: [&str; 13] = [
    "parameters",
    "params",
    "options",
    "extrabody",
    "extraparams",
    "extraargs",
    "samplingparams",
    "samplingparameters",
    "generationconfig",
    "config",
    "session",
    "litellmparams",
    "vllmxargs",
];
/// May a text under this key be read as JSON by some server?
pub(in crate::dialect) fn holds_settings(key: &str) -> bool {
    SETTINGS.contains(&&*flat(key))
}

/// Is what stands under this key in a request a user's own content?
pub(in crate::dialect) fn holds_content(key: &str) -> bool {
    let flat = flat(key);
    CONTENT.contains(&&*flat) || ANYWHERE.contains(&&*flat)
}

/// The keys that a key of a form is made of: `a[b].c` is a mapping to some.
pub(in crate::dialect) fn parts_of_key(key: &str) -> impl Iterator<Item = &str> {
    key.split(['[', ']', '.']).filter(|part| !part.trim().is_empty())
}
