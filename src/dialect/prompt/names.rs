//! The fields of request bodies that say how much is asked for, by the names that servers have for them.
use std::borrow::Cow;

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The longest answer, in tokens; its name as servers spell it.
    Most(&'static str),
    /// As [`Self::Most`]; a negative number says that there is no bound.
    MostOrNone(&'static str),
    /// As [`Self::MostOrNone`]; so does zero.
    MostOrZero(&'static str),
    /// How many answers are made of one prompt.
    Answers(&'static str),
    /// One prompt, or a list of them.
    Prompts,
    /// A list in which each object is a prompt, too.
    Instances,
    /// It holds fields of this kind.
    Options,
    /// A list of whole requests.
    Requests,
    /// The server works on without its client.
    Background,
    /// Its text is none of the prompt.
    Name,
    Other,
}

/// Longer keys are none of these.
const LONGEST: usize = 32;

/// What the field of this key is for. Some servers (those in Go) tell keys apart without their case.
pub(super) fn field(key: &str) -> Field {
    use Field::{
        Answers, Background, Instances, Most, MostOrNone, MostOrZero, Name, Options, Other,
        Prompts, Requests,
    };
    if key.len() > LONGEST {
        return Other;
    }
    match &*folded(key) {
        // OpenAI, Anthropic, vLLM, SGLang.
        "max_tokens" => Most("max_tokens"),
        "max_completion_tokens" => Most("max_completion_tokens"),
        "max_output_tokens" => Most("max_output_tokens"),
        "max_tokens_to_sample" => Most("max_tokens_to_sample"),
        // TGI, Transformers, TensorRT-LLM.
        "max_new_tokens" => Most("max_new_tokens"),
        "max_output_len" => Most("max_output_len"),
        "request_output_len" => Most("request_output_len"),
        // Gemini, and models on Bedrock.
        "maxoutputtokens" => Most("maxOutputTokens"),
        "maxtokens" => Most("maxTokens"),
        "maxtokencount" => Most("maxTokenCount"),
        "max_gen_len" => Most("max_gen_len"),
        // Ollama (`numPredict > 0` in its runner), llama.cpp.
        "num_predict" => MostOrZero("num_predict"),
        "n_predict" => MostOrNone("n_predict"),
        "n" => Answers("n"),
        "best_of" => Answers("best_of"),
        "num_return_sequences" => Answers("num_return_sequences"),
        "candidatecount" => Answers("candidateCount"),
        "candidate_count" => Answers("candidate_count"),
        "prompt" | "prompts" | "input" | "inputs" | "input_ids" | "messages" | "text" | "texts"
        | "text_input" => Prompts,
        "instances" => Instances,
        "parameters"
        | "params"
        | "options"
        | "sampling_params"
        | "sampling_parameters"
        | "generationconfig"
        | "generation_config"
        | "inferenceconfig"
        | "textgenerationconfig"
        | "body" => Options,
        "requests" => Requests,
        "background" => Background,
        "model" | "user" => Name,
        _ => Other,
    }
}

/// The key as `encoding/json` of Go compares it: without case, and by Unicode's simple folding two letters beyond ASCII are
/// `k` and `s`.
pub(in crate::dialect) fn folded(key: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    if key.bytes().all(plain) {
        return Cow::Borrowed(key);
    }
    let fold = |letter: char| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    Cow::Owned(key.chars().map(fold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_in_any_case() {
        for key in ["max_tokens", "Max_Tokens", "MAX_TOKENS", "max_to\u{212a}en\u{17f}"] {
            assert_eq!(field(key), Field::Most("max_tokens"), "{key}");
        }
        assert_eq!(field("maxOutputTokens"), Field::Most("maxOutputTokens"));
        for key in ["max-tokens", "", "max_tokenß", &"n".repeat(100)] {
            assert_eq!(field(key), Field::Other, "{key}");
        }
    }
}
