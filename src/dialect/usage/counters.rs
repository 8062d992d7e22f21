//! Finds counters of tokens in JSON as it passes, in whatever pieces: by the keys that lead there, so that nothing in a
//! text or an argument of a tool counts. Nothing is kept but a key and a number.
use memchr::{memchr2, memchr3};

/// No key that counts is longer.
const LONGEST_KEY: usize = 32;
/// Objects nest this deep at most where counters stand: `{"response": {"usage": {…}}}`.
const DEPTH: usize = 3;

/// What one JSON value says of its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    prompt: Option<u64>,
    /// Parts of the prompt that stand beside it: Anthropic counts cached tokens apart.
    cached: u64,
    completion: Option<u64>,
    /// Parts of the answer that stand beside it: Gemini counts thoughts apart.
    thoughts: u64,
    /// Both together.
    total: Option<u64>,
    /// It is the answer to one of several prompts, which stand side by side.
    one_of_many: bool,
    /// The answer is only that the work has begun, or waits.
    pending: bool,
}

impl Told {
    pub(super) fn prompt(&self) -> Option<u64> {
        let cached = self.prompt.map(|prompt| prompt.saturating_add(self.cached));
        cached.or_else(|| self.total.filter(|_| self.completion.is_none()))
    }

    pub(super) fn completion(&self) -> Option<u64> {
        self.completion.map(|completion| completion.saturating_add(self.thoughts))
    }

    /// Does the work go on behind this answer? (`status` of OpenAI's Responses with `background`.)
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Does it stand beside others whose tokens come on top of its own?
    pub(super) fn is_one_of_many(&self) -> bool {
        self.one_of_many
    }
}

/// What an object is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Zone {
    /// The whole value, or an item of a list of them.
    Root,
    /// It holds the whole answer: `response` of OpenAI's Responses, `message` of Anthropic.
    Wrapper,
    /// Its numbers are counters.
    Usage,
    /// `meta_info` of `SGLang`, whose lists of prompts are answered by lists.
    Meta,
    #[default]
    Other,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Anything.
    #[default]
    Between,
    /// More of a string. `escaped`: its next byte means nothing.
    Text {
        escaped: bool,
    },
    /// More of the text that is the value of `status`.
    Status,
    /// A colon, if the string was a key.
    Colon,
    /// The value of a key that counts.
    Value,
    Number(u64),
}

/// Reads one JSON value after the other.
#[derive(Debug, Default)]
pub(super) struct Counters {
    state: State,
    depth: usize,
    zones: [Zone; DEPTH],
    key: [u8; LONGEST_KEY],
    /// Longer than there is room: it is none that counts.
    key_length: usize,
    told: Told,
}

impl Counters {
    /// Is a value complete, or not begun?
    pub(super) fn at_rest(&self) -> bool {
        self.depth == 0
    }

    /// What the value says that is being read.
    pub(super) fn told(&self) -> Told {
        let mut told = self.told;
        if let State::Number(number) = self.state {
            self.put(&mut told, number);
        }
        told
    }

    /// Takes bytes of JSON. `ended` gets what each value said that ended in them.
    #[expect(
        clippy::too_many_lines,
        reason = "a state machine: each state beside what leads out of it"
    )]
    pub(super) fn take(&mut self, mut bytes: &[u8], mut ended: impl FnMut(Told)) {
        while let Some(&byte) = bytes.first() {
            match self.state {
                State::Between => {
                    let Some(at) = memchr3(b'"', b'{', b'}', bytes) else { return };
                    match bytes[at] {
                        b'"' => {
                            self.key_length = 0;
                            self.state = State::Text { escaped: false };
                        }
                        b'{' => self.open(if self.depth == 0 { Zone::Root } else { Zone::Other }),
                        _ => self.close(&mut ended),
                    }
                    bytes = &bytes[at + 1..];
                }
                State::Text { escaped: true } => {
                    // A key with an escape is none that counts.
                    self.key_length = LONGEST_KEY + 1;
                    self.state = State::Text { escaped: false };
                    bytes = &bytes[1..];
                }
                State::Text { escaped: false } => {
                    let Some(at) = memchr2(b'"', b'\\', bytes) else {
                        return self.keep(bytes);
                    };
                    self.keep(&bytes[..at]);
                    self.state = match bytes[at] {
                        b'\\' => State::Text { escaped: true },
                        _ if self.zone() == Zone::Other => State::Between,
                        _ => State::Colon,
                    };
                    bytes = &bytes[at + 1..];
                }
                State::Status => {
                    let Some(at) = memchr2(b'"', b'\\', bytes) else {
                        return self.keep(bytes);
                    };
                    self.keep(&bytes[..at]);
                    self.state = if bytes[at] == b'\\' {
                        State::Text { escaped: true }
                    } else {
                        self.told.pending |= matches!(self.key(), b"queued" | b"in_progress");
                        State::Between
                    };
                    bytes = &bytes[at + 1..];
                }
                State::Colon | State::Value if byte.is_ascii_whitespace() => bytes = &bytes[1..],
                State::Colon if byte == b':' => {
                    self.state = State::Value;
                    bytes = &bytes[1..];
                }
                State::Value if byte == b'{' => {
                    self.open(self.zone_of_key());
                    self.state = State::Between;
                    bytes = &bytes[1..];
                }
                State::Value
                    if byte == b'"' && self.zone() == Zone::Root && self.key() == b"status" =>
                {
                    self.key_length = 0;
                    self.state = State::Status;
                    bytes = &bytes[1..];
                }
                State::Value if byte.is_ascii_digit() => self.state = State::Number(0),
                State::Number(number) if byte.is_ascii_digit() => {
                    let digit = u64::from(byte - b'0');
                    self.state = State::Number(number.saturating_mul(10).saturating_add(digit));
                    bytes = &bytes[1..];
                }
                State::Number(number) => {
                    let mut told = self.told;
                    self.put(&mut told, number);
                    self.told = told;
                    self.state = State::Between;
                }
                State::Colon | State::Value => self.state = State::Between,
            }
        }
    }

    fn zone(&self) -> Zone {
        let open = self.depth.checked_sub(1).and_then(|at| self.zones.get(at));
        open.copied().unwrap_or_default()
    }

    fn open(&mut self, zone: Zone) {
        if self.depth == 0 {
            self.told = Told::default();
        }
        if let Some(place) = self.zones.get_mut(self.depth) {
            *place = zone;
        }
        if zone == Zone::Meta {
            self.told.one_of_many = true;
        }
        self.depth += 1;
    }

    fn close(&mut self, ended: &mut impl FnMut(Told)) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            ended(std::mem::take(&mut self.told));
        }
    }

    /// Keeps a part of what may be a key.
    fn keep(&mut self, part: &[u8]) {
        if self.zone() == Zone::Other {
            return;
        }
        let from = self.key_length.min(LONGEST_KEY);
        let room = &mut self.key[from..];
        let n = part.len().min(room.len());
        room[..n].copy_from_slice(&part[..n]);
        self.key_length = self.key_length.saturating_add(part.len());
    }

    fn key(&self) -> &[u8] {
        self.key.get(..self.key_length).unwrap_or_default()
    }

    /// What the object behind the present key is for.
    fn zone_of_key(&self) -> Zone {
        match (self.zone(), self.key()) {
            (Zone::Root, b"meta_info") => Zone::Meta,
            (Zone::Root, b"response" | b"message") => Zone::Wrapper,
            // `details` is TGI's, `usageMetadata` Gemini's.
            (Zone::Root, b"details")
            | (Zone::Root | Zone::Wrapper, b"usage" | b"usageMetadata") => Zone::Usage,
            _ => Zone::Other,
        }
    }

    /// Takes the number behind the present key.
    fn put(&self, told: &mut Told, number: u64) {
        match (self.zone(), self.key()) {
            // OpenAI, Anthropic, Gemini, Bedrock, TGI.
            (
                Zone::Usage | Zone::Meta,
                b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" | b"inputTokens"
                | b"input_length",
            )
            // Ollama, llama.cpp, and models on Bedrock.
            | (
                Zone::Root,
                b"prompt_eval_count" | b"tokens_evaluated" | b"prompt_token_count"
                | b"inputTextTokenCount",
            ) => told.prompt = Some(number),
            (
                Zone::Usage | Zone::Meta,
                b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" | b"outputTokens"
                | b"generated_tokens",
            )
            | (Zone::Root, b"eval_count" | b"tokens_predicted" | b"generation_token_count") => {
                told.completion = Some(number);
            }
            (
                Zone::Usage,
                b"cache_creation_input_tokens" | b"cache_read_input_tokens"
                | b"cacheReadInputTokens" | b"cacheWriteInputTokens",
            ) => told.cached = told.cached.saturating_add(number),
            (Zone::Usage, b"thoughtsTokenCount") => told.thoughts = number,
            (Zone::Usage, b"total_tokens" | b"totalTokenCount" | b"totalTokens") => {
                told.total = Some(number);
            }
            _ => {}
        }
    }
}
