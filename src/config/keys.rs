//! The one table of every key: the reader, the JSON schema and conf/README.md are made from it.
use super::access::{JWT, KEY};
use super::canary_keys::CANARY;
use super::tls::{CLIENT_TLS, SERVER_TLS};

/// A key of the file.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// As one would write it; empty: there is none.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
    /// Does a reload apply it?
    pub(super) hot: bool,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) enum Shape {
    Flag,
    Count {
        least: u64,
        most: u64,
    },
    Number,
    Percent,
    Duration {
        zero: bool,
    },
    Size {
        least: u64,
    },
    /// A size for each second.
    Rate,
    Text,
    /// May be read from `file:PATH`, and is never shown.
    Secret,
    Word(&'static [&'static str]),
    /// Written as `null`.
    Null,
    /// Written as `false`.
    Off,
    List(&'static Shape),
    /// Keys are free: names of models, versions, headers.
    Map(&'static Shape),
    Section(&'static [Key]),
    OneOf(&'static [Shape]),
}

pub(super) const fn key(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, shape, default, doc, hot: true }
}

const fn restart(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, shape, default, doc, hot: false }
}

const MANY: u64 = 1_000_000;
pub(super) const SPAN: Shape = Shape::Duration { zero: false };
pub(super) const SPAN_OR_ZERO: Shape = Shape::Duration { zero: true };

#[rustfmt::skip]
pub(super) static TOP: &[Key] = &[
    key("listeners", Shape::List(&Shape::Section(LISTENER)), "", "Where clients connect."),
    key("admin", Shape::Section(ADMIN), "", "The admin API, its page and the metrics."),
    restart("threads", Shape::OneOf(&[Shape::Word(&["auto"]), Shape::Count { least: 1, most: 1024 }]), "auto",
        "Worker threads; `auto`: one for each core."),
    key("buffers", Shape::Size { least: 1 << 16 }, "512MiB",
        "All buffered request bodies together, as far as they have arrived; beyond it requests are answered 503 `out_of_buffers`, those of the client that holds most first. Mirrored answers take what is free of one half."),
    key("routes", Shape::List(&Shape::Section(ROUTE)), "[]",
        "The first that matches wins. Without routes every path is served, and the model is found in body, path or header."),
    key("default_model", Shape::OneOf(&[Shape::Text, Shape::Null]), "null",
        "For requests that name none. With exactly one model it is that one."),
    key("defaults", Shape::Section(INHERITED), "{}",
        "Keys of a model, inherited by all: mappings merge deeply, lists are replaced. Not `aliases`, `versions`, `split`, `canary`."),
    key("models", Shape::Map(&Shape::Section(MODEL)), "", "What clients name."),
    key("keys", Shape::List(&Shape::Section(KEY)), "",
        "Present: every request needs one of these, as `authorization: Bearer KEY` or `x-api-key: KEY`. Absent: everybody is let in."),
    key("jwt", Shape::Section(JWT), "", "A second way to name a key: a signed token in the place of its secret."),
    key("telemetry", Shape::Section(TELEMETRY), "", "What Evener writes about its work."),
    key("state", Shape::Section(STATE), "", "What outlives the process."),
    key("shutdown", Shape::Section(SHUTDOWN), "", "How a stop goes."),
    key("tests", Shape::List(&Shape::Section(TEST)), "[]", "Expectations that `evener check` verifies."),
];

#[rustfmt::skip]
pub(super) static LISTENER: &[Key] = &[
    key("address", Shape::Text, "", "`host:port`, `[::]:port` or `unix:/run/evener.sock`; port 0 picks one. Required."),
    key("name", Shape::Text, "", "Its identity across reloads; two listeners may not share one. Default: the address."),
    key("tls", Shape::OneOf(&[Shape::Section(SERVER_TLS), Shape::List(&Shape::Section(SERVER_TLS)), Shape::Null]), "null",
        "Serve HTTPS: one certificate, or a list of them, chosen by the name that a client asks for; the first serves all other names."),
    key("proxy_protocol", Shape::Flag, "false",
        "`trusted_proxies` begin each connection with a PROXY header, version 1 or 2, that names the client; from others none is taken."),
    key("trusted_proxies", Shape::List(&Shape::Text), "[]",
        "CIDRs whose `x-forwarded-*`, `x-request-id` and `x-evener-version` headers are believed."),
    key("debug_headers", Shape::Flag, "false", "Answer with `x-evener-*` headers that tell what was decided."),
    key("client", Shape::Section(CLIENT), "", "What a client may do."),
];

#[rustfmt::skip]
pub(super) static CLIENT: &[Key] = &[
    key("header_timeout", SPAN, "10s", "From the first byte to the end of the head."),
    key("body_timeout", SPAN, "60s", "Between two reads of a request body."),
    key("min_rate", Shape::OneOf(&[Shape::Rate, Shape::Null]), "1KiB/s",
        "Of a request body, after its first 10 s of waiting for the client; 408 below. `null`: any. Calls of gRPC that last and WebSockets may be as slow as they like."),
    key("write_timeout", SPAN, "60s", "A client that reads nothing for so long is dropped."),
    key("half_close", Shape::Flag, "false", "`true`: a client that ends its sending is answered all the same; `false`: it has left."),
    key("idle_timeout", SPAN, "75s", "Between two requests on one connection."),
    key("max_header_bytes", Shape::Size { least: 256 }, "64KiB", "The whole head; 431 above."),
    key("max_headers", Shape::Count { least: 1, most: 256 }, "100", "Header lines; 431 above."),
    key("max_body", Shape::Size { least: 0 }, "64MiB", "A request body; 413 above."),
    key("max_connections", Shape::Count { least: 1, most: MANY }, "20000", "Open at once on this listener."),
];

#[rustfmt::skip]
pub(super) static ADMIN: &[Key] = &[
    restart("address", Shape::Text, "127.0.0.1:9900", "Where it listens. An address that is not loopback needs a token."),
    key("token", Shape::OneOf(&[Shape::Secret, Shape::Null]), "null",
        "What `Authorization: Bearer` must carry. Write `file:PATH` or `${VAR}`, not the secret itself."),
    key("open", Shape::List(&Shape::Word(&["health", "metrics"])), "[health, metrics]", "What needs no token."),
];

#[rustfmt::skip]
pub(super) static ROUTE: &[Key] = &[
    key("match", Shape::Section(MATCH), "{}", "Which requests it takes; all that is written must hold."),
    key("model", Shape::Text, "", "Always this model; `\"{NAME}\"`: the model that this capture of `match.path` names."),
    key("model_from", Shape::List(&Shape::Text), "[body, path]",
        "Or where to look for its name, in this order: `body`, `path`, `header:NAME`, `query:NAME`."),
    key("rewrite", Shape::Section(REWRITE), "", "What the replica sees instead."),
];

#[rustfmt::skip]
pub(super) static MATCH: &[Key] = &[
    key("host", Shape::Text, "", "Without a port; `*.example.com` takes every name under it."),
    key("path", Shape::Text, "", "The whole path, or a prefix that ends in `/*`; `{NAME}` captures a segment: `/predictions/{model}/*`."),
    key("method", Shape::Text, "", "As `POST`."),
    key("headers", Shape::Map(&Shape::Text), "{}", "Names with their exact values."),
    key("query", Shape::Map(&Shape::Text), "{}", "Parameters of the query with their exact values, decoded."),
    key("cookies", Shape::Map(&Shape::Text), "{}", "Names with their exact values."),
];

#[rustfmt::skip]
pub(super) static REWRITE: &[Key] = &[
    key("path", Shape::Text, "", "The new path. For a route whose path ends in `/*`, a path ending in `/*` keeps the rest; `{NAME}` stands for a capture of `match.path`."),
    key("host", Shape::Text, "", "The new `host` header; `upstream`: the replica's own."),
];

/// Keys that `defaults` may not hold come first: see [`INHERITED`].
#[rustfmt::skip]
pub(super) static MODEL: &[Key] = &[
    key("aliases", Shape::List(&Shape::Text), "[]", "Further names; `*` catches every unknown name."),
    key("versions", Shape::Map(&Shape::OneOf(&[Shape::List(REPLICA_SHAPE), Shape::Section(VERSION)])), "",
        "Its deployed variants: each a list of replicas, or a mapping. Required."),
    key("split", Shape::Map(&Shape::Percent), "",
        "Percent of the requests by version; the sum is 100, and 0 means exactly 0. With one version it may be left out."),
    key("canary", Shape::OneOf(&[Shape::Section(CANARY), Shape::Null]), "null",
        "Moves the split towards a candidate as the evidence of live traffic allows, or back."),
    key("kind", Shape::Word(&["auto", "llm", "predict", "raw"]), "auto", "How its requests read; `auto`: by the path of each."),
    key("answers", Shape::Word(&["upstream", "client"]), "upstream", "Which name answers give as `model`: the replica's own, every byte as it came, or the one the client used."),
    key("hash_on", Shape::List(&Shape::Text), "[]",
        "`header:NAME`, `cookie:NAME`, `query:NAME`, `json:FIELD`, `api_key` (the name of the request's key), `client_ip`: the first that is present and not empty keeps its requests on one version."),
    key("split_secret", Shape::OneOf(&[Shape::Secret, Shape::Null]), "null",
        "Keys the points of `hash_on`, so that clients cannot choose keys for a side; the same on all Eveners. Write `file:PATH` or `${VAR}`. A change moves keys."),
    key("allow_pin", Shape::Flag, "false", "Honor `x-evener-version` from any client; from `trusted_proxies` it always is."),
    key("balance", Shape::Word(&["least_load", "least_request", "p2c", "round_robin", "random", "hash"]), "least_load",
        "How a replica is chosen."),
    key("health", Shape::OneOf(&[Shape::Section(HEALTH), Shape::Off]), "{tcp: true}", "How replicas are probed; `false`: not at all."),
    key("ejection", Shape::OneOf(&[Shape::Section(EJECTION), Shape::Off]), "",
        "Taking out replicas that fail more than their peers; `false`: never."),
    key("fail_open", Shape::Flag, "true",
        "With nothing usable, serve by all that are not draining, and say so; `false`: 503 `no_replicas`."),
    key("slow_start", SPAN_OR_ZERO, "30s", "A replica that came back gets its full load only after so long; `0s`: at once."),
    key("timeouts", Shape::Section(TIMEOUTS), "", "The phases of an exchange. A default that is longer than a written `total` ends with it."),
    key("retries", Shape::OneOf(&[Shape::Section(RETRIES), Shape::Off]), "",
        "What failed before a byte of it was passed on is asked again elsewhere; `false`: never."),
    key("hedge", Shape::OneOf(&[Shape::Section(HEDGE), Shape::Off]), "false", "A second attempt elsewhere when the first is slow to its first byte."),
    key("stream_heartbeat", Shape::OneOf(&[SPAN, Shape::Off]), "false",
        "An SSE comment each time an event stream was silent for so long; `15s` keeps most proxies from closing."),
    key("max_buffered_body", Shape::Size { least: 0 }, "8MiB",
        "Bodies up to this are kept for routing and retries; longer ones stream through."),
    key("mirror", Shape::OneOf(&[Shape::Section(MIRROR), Shape::Off]), "false",
        "Copies of a share of the requests go to another version, whose answers are compared and dropped."),
];

/// What `defaults` may hold: a model's keys without its `aliases`, `versions`, `split` and `canary`.
pub(super) static INHERITED: &[Key] = MODEL.split_at(4).1;

static REPLICA_SHAPE: &Shape = &Shape::OneOf(&[Shape::Text, Shape::Section(REPLICA)]);

#[rustfmt::skip]
pub(super) static VERSION: &[Key] = &[
    key("replicas", Shape::List(REPLICA_SHAPE), "", "Its addresses. Required."),
    key("upstream_model", Shape::Text, "", "The name sent upstream, in body or path. Default: as the client sent it. Answers give the replica's name, unless `answers` says `client`."),
    key("tls", Shape::Section(CLIENT_TLS), "", "For replicas with `https` URLs."),
    key("headers", Shape::Section(HEADERS), "", "Changes to the head on the way to the replicas."),
];

#[rustfmt::skip]
pub(super) static REPLICA: &[Key] = &[
    key("url", Shape::Text, "", "`http://host:port`, `https://host:port`, `h2c://host:port` (`grpc` is a synonym), `grpcs://host:port` (https with HTTP/2 alone) or `unix:/path`. Required."),
    key("weight", Shape::Number, "1", "Its capacity, relative to the others."),
    key("slots", Shape::OneOf(&[Shape::Count { least: 1, most: MANY }, Shape::Null]), "null", "Requests it runs at once."),
];

#[rustfmt::skip]
pub(super) static HEADERS: &[Key] = &[
    key("set", Shape::Map(&Shape::Secret), "{}", "Names with values; `file:PATH` reads one from a file."),
    key("remove", Shape::List(&Shape::Text), "[]", "Names."),
];

#[rustfmt::skip]
pub(super) static HEALTH: &[Key] = &[
    key("tcp", Shape::Flag, "true", "Only connect."),
    key("path", Shape::Text, "", "`GET` this path."),
    key("post", Shape::Text, "", "`POST` to this path, for probes that run the model."),
    key("body", Shape::Text, "{}", "What `post` sends: JSON, in quotes."),
    key("grpc", Shape::Text, "", "Replicas that speak HTTP/2 are asked over gRPC whether they serve this; `\"\"`: the server as a whole."),
    key("expect", Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)]), "200-399",
        "The good answers: `200`, `200-399`, `2xx`, or a list of them."),
    key("every", SPAN, "5s", "Between two probes of one replica."),
    key("timeout", SPAN, "2s", "For one probe; shorter than `every`. The default is at most half of `every`."),
    key("fall", Shape::Count { least: 1, most: 1000 }, "3", "Failures in a row that take a replica out."),
    key("rise", Shape::Count { least: 1, most: 1000 }, "2", "Successes in a row that bring it back."),
];

#[rustfmt::skip]
pub(super) static EJECTION: &[Key] = &[
    key("for", SPAN, "1s",
        "The shortest ejection. The first lasts as long as the replica had been failing, 10 s at most (or `for`, if that is more); each further one twice as long, spread by ±20 %."),
    key("at_most", SPAN, "5m", "No ejection is longer. The default is never shorter than `for`."),
    key("max_percent", Shape::Percent, "50", "Of a version's replicas, rounded down; and never the last usable one."),
    key("failure_codes", Shape::List(&Shape::Text), "[5xx]",
        "Answers that count as failures: codes and ranges from 500 to 599; `5xx`: all but 501."),
];

#[rustfmt::skip]
pub(super) static TIMEOUTS: &[Key] = &[
    key("connect", SPAN, "1s", "To open a connection to a replica."),
    key("first_byte", SPAN, "2m", "From the request sent to the first byte of the answer's body."),
    key("between_chunks", SPAN, "1m", "Between two parts of a streaming answer."),
    key("total", SPAN, "30m", "The whole exchange."),
    key("tunnel", SPAN, "1h", "An idle WebSocket, bidirectional stream of gRPC or other tunnel."),
];

/// Statuses are numbers to YAML.
static FAILURE: &Shape = &Shape::OneOf(&[
    Shape::Word(&["connect", "reset", "first_byte"]),
    Shape::Count { least: 429, most: 504 },
]);

#[rustfmt::skip]
pub(super) static RETRIES: &[Key] = &[
    key("max", Shape::Count { least: 0, most: 10 }, "2", "Attempts beyond the first."),
    key("when", Shape::List(FAILURE), "[connect, reset, 502, 503]",
        "The failures that are repeated: `connect`, `reset`, `first_byte`, or a status."),
    key("budget", Shape::Percent, "20%", "Retries in percent of the requests; 3 a second are free besides."),
];

#[rustfmt::skip]
pub(super) static HEDGE: &[Key] = &[
    key("after", Shape::Text, "p95", "A quantile of the learned times to the first byte, or a duration."),
    key("budget", Shape::Percent, "5%", "Hedges in percent of the requests."),
];

#[rustfmt::skip]
pub(super) static MIRROR: &[Key] = &[
    key("to", Shape::Text, "", "The version that gets the copies. Required."),
    key("percent", Shape::Percent, "2", "Of the requests."),
    key("compare", Shape::List(&Shape::Word(&["status", "json_shape", "numeric", "text_similarity"])),
        "[status, json_shape, numeric, text_similarity]", "In what two answers must agree, as far as they have it."),
    key("tolerance", Shape::Number, "1e-6", "How far numbers may be apart: absolutely below 1, in proportion above."),
    key("concurrency", Shape::Count { least: 1, most: 10_000 }, "16", "Requests that are mirrored at once, from their own beginning to the comparison; beyond it no copy is made."),
    key("timeout", SPAN, "60s", "From a copy sent to the end of its answer."),
    key("keep_worst", Shape::Count { least: 0, most: 100 }, "0", "Pairs of answers that are kept for the report, those that differ most."),
    key("redact", Shape::List(&Shape::Text), "[]",
        "Fields that kept pairs do not show, as `inputs.card_number`; `*` is every key, and lists are passed through."),
];

#[rustfmt::skip]
pub(super) static TELEMETRY: &[Key] = &[
    key("access_log", Shape::OneOf(&[Shape::Section(ACCESS_LOG), Shape::Null]), "", "One line for each request; `null` switches it off."),
    key("decision_log", Shape::OneOf(&[Shape::Section(DECISION_LOG), Shape::Null]), "", "One line for each request with why it went where it went: route, point, version, and the replicas with their loads. Off by default."),
    key("otlp", Shape::OneOf(&[Shape::Section(OTLP), Shape::Null]), "null", "Traces for a collector that speaks OTLP."),
];

#[rustfmt::skip]
pub(super) static OTLP: &[Key] = &[
    key("endpoint", Shape::Text, "", "Where it takes OTLP over HTTP; `/v1/traces` is added. Required."),
    key("headers", Shape::Map(&Shape::Secret), "{}", "Names with values, for collectors that want a key; `file:PATH` reads one from a file. Never shown."),
    key("sample", Shape::Percent, "100%", "Percent of the traces that begin here; of those that a client began, what the client says."),
    key("timeout", SPAN, "10s", "For one batch of spans."),
    key("resource", Shape::Map(&Shape::Text), "{}", "Attributes that say which Evener this is, as `service.name` (`evener`) or `deployment.environment.name`."),
];

#[rustfmt::skip]
pub(super) static ACCESS_LOG: &[Key] = &[
    key("file", Shape::Text, "stdout", "`stdout`, `stderr` or a path."),
    key("format", Shape::Word(&["json"]), "json", "Of each line."),
    key("sample", Shape::Percent, "100%", "Percent of the requests that are written."),
];

#[rustfmt::skip]
pub(super) static DECISION_LOG: &[Key] = &[
    key("file", Shape::Text, "", "A path, or `stdout`, `stderr`. Required."),
    key("sample", Shape::Percent, "100%", "Percent of the requests that are written."),
    key("rotate", Shape::Size { least: 1 << 16 }, "1GiB", "Before it grows above this, the file is put aside as `FILE.1`, what was `FILE.1` becomes `FILE.2`, and so on."),
    key("keep", Shape::Count { least: 0, most: 1000 }, "5", "Files put aside that are kept."),
];

#[rustfmt::skip]
pub(super) static STATE: &[Key] = &[
    key("dir", Shape::Text, "", "A folder. Default: `$STATE_DIRECTORY`, else `./.evener`."),
];

#[rustfmt::skip]
pub(super) static SHUTDOWN: &[Key] = &[
    key("notice", SPAN_OR_ZERO, "1s", "`/readyz` fails, connections are still accepted."),
    key("drain", SPAN_OR_ZERO, "10m", "After which running requests are cut."),
];

#[rustfmt::skip]
pub(super) static TEST: &[Key] = &[
    key("request", Shape::Section(TEST_REQUEST), "", "What a client might send. Required."),
    key("expect", Shape::Section(TEST_EXPECT), "", "Where it must go. Required."),
];

#[rustfmt::skip]
pub(super) static TEST_REQUEST: &[Key] = &[
    key("method", Shape::Text, "", "Default: `POST` with a `model`, else `GET`."),
    key("host", Shape::Text, "", "The `host` header."),
    key("path", Shape::Text, "", "Begins with `/`. Required."),
    key("model", Shape::Text, "", "What its body names."),
    key("key", Shape::Text, "", "The name of the key that it comes with."),
    key("headers", Shape::Map(&Shape::Text), "{}", "Names with values."),
];

#[rustfmt::skip]
pub(super) static TEST_EXPECT: &[Key] = &[
    key("model", Shape::Text, "", "The model that serves."),
    key("version", Shape::Text, "", "Its version."),
];
