//! What `/metrics` tells: the one list of names.
/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    Gauge,
    /// Durations in seconds, in buckets.
    Histogram,
}

/// One metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            help: $help,
            labels: &[$($label),*],
        };)*
        /// Every metric of Evener's own, in the order of the page. `process_*` stand beside them.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

metrics! {
    REQUESTS = Counter "evener_requests_total" ["model", "version", "code", "outcome"]
        "Requests, by what the client got. Without a model or version: they ended before they had one.";
    DURATION = Histogram "evener_request_duration_seconds" ["model", "version"]
        "From the first byte of a request to the last of its answer.";
    FIRST_BYTE = Histogram "evener_first_byte_seconds" ["model", "version"]
        "From the first byte of a request to the first byte of its answer's body.";
    INTER_CHUNK = Histogram "evener_inter_chunk_seconds" ["model", "version"]
        "Between two chunks of a streamed answer.";
    TOKENS = Counter "evener_tokens_total" ["model", "version", "kind"]
        "Tokens that answers in OpenAI's dialect took (`prompt`) and made (`completion`), as their `usage` tells; a stream without it counts an event as one.";
    IN_FLIGHT = Gauge "evener_in_flight" ["model", "version", "replica"]
        "Requests now at a replica, mirrored ones included.";
    REPLICA_REQUESTS = Counter "evener_replica_requests_total"
        ["model", "version", "replica", "class"]
        "Attempts at a replica, by how they ended.";
    REPLICA_STATE = Gauge "evener_replica_state" ["model", "version", "replica", "state"]
        "1 for the present state of a replica, 0 for the others.";
    EJECTIONS = Counter "evener_ejections_total" ["model", "version", "replica", "cause"]
        "Ejections of a replica, by what it was ejected for.";
    EJECTIONS_REFUSED = Counter "evener_ejections_refused_total" ["model", "version"]
        "Replicas that failed enough to be ejected and stayed, because too many were out.";
    FAIL_OPEN = Gauge "evener_fail_open" ["model", "version"]
        "1 while a version serves although none of its replicas is usable.";
    REFUSALS = Counter "evener_refusals_total" ["model", "code"]
        "Answers of Evener's own, by their code.";
    RETRIES = Counter "evener_retries_total" ["model", "reason"]
        "Attempts repeated elsewhere, by how the attempt before had failed.";
    RETRIES_REFUSED = Counter "evener_retry_budget_exhausted_total" ["model"]
        "Retries not made because the budget was spent.";
    HEDGES = Counter "evener_hedges_total" ["model", "result"]
        "Second attempts beside a slow first one: which of them won, and those that were due but skipped.";
    MIRRORED = Counter "evener_mirror_requests_total" ["model", "result"]
        "Requests that were to be mirrored, by what became of their copy.";
    CANARY_STATE = Gauge "evener_canary_state" ["model", "state"]
        "1 for the present state of a canary, 0 for the others.";
    CANARY_EVIDENCE = Gauge "evener_canary_evidence" ["model", "check"]
        "The logarithm of the evidence of a check against the candidate.";
    ROLLBACKS = Counter "evener_rollbacks_total" ["model", "check"]
        "Canaries that were rolled back, by the check that spoke loudest; `none`: by an operator or for want of a verdict.";
    PROMOTIONS = Counter "evener_promotions_total" ["model"]
        "Canaries whose candidate was promoted.";
    WEBHOOKS = Counter "evener_webhooks_total" ["model", "result"]
        "Messages about a model's canary, that arrived or were given up.";
    SPLIT_SHARE = Gauge "evener_split_share" ["model", "version"]
        "The share of a model's requests that a version shall get, 0 to 1.";
    SPLIT_OBSERVED = Gauge "evener_split_observed_share" ["model", "version"]
        "The share that it got since the shares last changed, 0 to 1.";
    RELOADS = Counter "evener_config_reloads_total" ["result"]
        "Attempts to load the configuration file again.";
    RELOAD_SUCCESSFUL = Gauge "evener_config_last_reload_successful" []
        "1 while the file that was read last is the one that serves.";
    RELOADED_AT = Gauge "evener_config_last_reload_success_timestamp_seconds" []
        "When a file was last read and found good, in Unix seconds.";
    GENERATION = Gauge "evener_config_generation" []
        "Counts the files applied since the start.";
    CONNECTIONS = Gauge "evener_connections" ["listener"]
        "Open connections of clients.";
    TLS_NOT_AFTER = Gauge "evener_tls_not_after_seconds" ["listener", "name"]
        "When a certificate that a listener shows ends, in Unix seconds.";
    TLS_RENEWED = Gauge "evener_tls_last_reload_successful" ["listener", "name"]
        "1 while the files of a certificate are what the listener shows, 0 while they are of no use and an older one serves.";
    PROBLEMS = Gauge "evener_problems" ["model", "code", "severity"]
        "Problems that are open, as `evener status` lists them; without a model: of Evener itself. Absent: there is none.";
    BUFFERED = Gauge "evener_buffered_bytes" []
        "Bytes of request bodies and of mirrored answers kept at present.";
    LOG_DROPPED = Counter "evener_access_log_dropped_total" []
        "Access log lines lost: the log could not be written, or not as fast as lines came.";
    DECISIONS_DROPPED = Counter "evener_decision_log_dropped_total" []
        "Decision log lines lost: the log could not be written, or not as fast as lines came.";
    STDERR_DROPPED = Counter "evener_log_dropped_total" []
        "Lines of the process log lost, because stderr was closed or full.";
    EXHAUSTED = Counter "evener_resource_exhausted_total" ["resource", "during"]
        "Times that Evener itself lacked something: connections not accepted or opened, health checks not made. No replica is blamed.";
    PANICS = Counter "evener_panics_total" ["task"]
        "Panics inside Evener, by what panicked. Each is a defect: the log says where.";
    SPANS = Counter "evener_spans_total" ["result"]
        "Spans of traces, by what became of them; all but `exported` are lost.";
    BUILD = Gauge "evener_build_info" ["version"]
        "Always 1; its label says which Evener this is.";
}
