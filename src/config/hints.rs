//! What was probably meant: the nearest name, and the words of other proxies.
use super::reference;

/// The nearest of `names`, if it is near enough to be a slip of the finger.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let word = plain(word);
    // Of two that are equally near, `v2` is nearer to `v3` than `v1` is.
    let apart = |name: &str| -> u32 {
        word.chars().zip(name.chars()).map(|(a, b)| u32::from(a).abs_diff(u32::from(b))).sum()
    };
    let distance = |name: &'a str| {
        let known = plain(name);
        ((strsim::damerau_levenshtein(&word, &known), apart(&known)), name)
    };
    let ((steps, _), name) = names.into_iter().map(distance).min_by_key(|(far, _)| *far)?;
    let allowed = (name.chars().count().max(word.chars().count()) / 3).max(1);
    (steps <= allowed && steps < name.chars().count()).then_some(name)
}

/// "did you mean `x`? versions of `chat`: a, b".
pub(super) fn choices<'a>(word: &str, title: &str, names: &[&'a str]) -> String {
    const SHOWN: usize = 20;
    let mut list = names.iter().take(SHOWN).copied().collect::<Vec<&'a str>>().join(", ");
    if names.len() > SHOWN {
        list = format!("{list}, and {} more", names.len() - SHOWN);
    }
    if list.is_empty() {
        "none".clone_into(&mut list);
    }
    match nearest(word, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`? {title}: {list}"),
        None => format!("{title}: {list}"),
    }
}

/// What another proxy calls a thing, and what it is called here.
const WORDS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "servers",
            "server",
            "endpoints",
            "endpoint",
            "backends",
            "backend",
            "workers",
            "worker",
            "upstreams",
            "upstream",
            "targets",
            "target",
            "hosts",
            "nodes",
            "pods",
            "instances",
            "addresses",
            "urls",
            "members",
            "lb_endpoints",
            "replica",
        ],
        "replicas",
        "called `replicas` here",
    ),
    (
        &[
            "weights",
            "traffic",
            "traffic_split",
            "traffic_percent",
            "shares",
            "percent",
            "canary_traffic_percent",
        ],
        "split",
        "called `split` here: percent by version, `split: {v1: 95, v2: 5}`",
    ),
    (
        &[
            "lb_policy",
            "load_balancing",
            "load_balancer",
            "lb",
            "policy",
            "strategy",
            "algorithm",
            "balancer",
            "load_balancing_policy",
            "lb_algorithm",
        ],
        "balance",
        "called `balance` here",
    ),
    (
        &[
            "health_check",
            "healthcheck",
            "health_checks",
            "healthchecks",
            "probe",
            "probes",
            "readiness_probe",
            "liveness_probe",
            "active_health_checks",
            "check",
        ],
        "health",
        "called `health` here",
    ),
    (
        &["services", "service", "clusters", "cluster", "deployments", "model_list", "apps"],
        "models",
        "called `models` here",
    ),
    (
        &[
            "listen",
            "bind",
            "binds",
            "frontends",
            "frontend",
            "entrypoints",
            "entry_points",
            "ports",
        ],
        "listeners",
        "called `listeners` here: a list, each with an `address`",
    ),
    (
        &["shadow", "shadowing", "mirroring", "request_mirror", "traffic_mirror", "tee"],
        "mirror",
        "called `mirror` here: `mirror: {to: v2, percent: 2}`",
    ),
    (&["port", "listen", "bind"], "address", "called `address` here: `host:port`"),
    (
        &["subsets", "variants", "revisions", "deployments", "arms", "predictors"],
        "versions",
        "called `versions` here",
    ),
    (
        &["rules", "locations", "paths", "virtual_hosts", "ingress"],
        "routes",
        "called `routes` here",
    ),
    (&["matches", "when", "if", "matcher"], "match", "called `match` here"),
    (&["names", "alias", "model_names"], "aliases", "called `aliases` here: a list"),
    (
        &[
            "session_affinity",
            "sticky",
            "sticky_session",
            "hash_policy",
            "hash_key",
            "hash_by",
            "affinity",
        ],
        "hash_on",
        "called `hash_on` here: for example `hash_on: [\"header:x-user-id\"]`",
    ),
    (
        &[
            "outlier_detection",
            "outlier_ejection",
            "circuit_breaker",
            "circuit_breakers",
            "breaker",
        ],
        "ejection",
        "called `ejection` here",
    ),
    (
        &["base_ejection_time", "ejection_time", "fail_timeout", "duration"],
        "for",
        "called `for` here: the first ejection; each further one lasts twice as long",
    ),
    (&["max_ejection_time"], "at_most", "called `at_most` here"),
    (
        &["max_ejection_percent", "max_ejected", "max_ejection"],
        "max_percent",
        "called `max_percent` here",
    ),
    (
        &["consecutive_5xx", "consecutive_errors", "consecutive_gateway_failure", "errors"],
        "failure_codes",
        "there is no count to set: replicas are compared with their peers. `failure_codes` says what a failure is",
    ),
    (&["interval", "period", "period_seconds", "inter"], "every", "called `every` here"),
    (&["unhealthy_threshold", "failure_threshold", "max_fails"], "fall", "called `fall` here"),
    (&["healthy_threshold", "success_threshold"], "rise", "called `rise` here"),
    (&["uri", "http_path", "health_path"], "path", "called `path` here"),
    (
        &["expected_statuses", "expect_status", "status", "statuses"],
        "expect",
        "called `expect` here",
    ),
    (
        &["timeout", "request_timeout"],
        "timeouts",
        "called `timeouts` here: for example `timeouts: {total: 30s}`",
    ),
    (&["timeout", "request_timeout", "overall"], "total", "called `total` here"),
    (&["connect_timeout"], "connect", "called `connect` here"),
    (&["response_timeout", "read_timeout", "ttfb"], "first_byte", "called `first_byte` here"),
    (
        &["stream_idle_timeout", "idle_timeout", "idle"],
        "between_chunks",
        "called `between_chunks` here",
    ),
    (
        &[
            "max_concurrency",
            "max_concurrent_requests",
            "maxconn",
            "max_conns",
            "capacity",
            "concurrency",
        ],
        "slots",
        "called `slots` here",
    ),
    (&["uri", "address", "host", "endpoint", "base_url", "api_base"], "url", "called `url` here"),
    (&["model_name", "upstream_name", "model"], "upstream_model", "called `upstream_model` here"),
    (&["add", "append", "request_headers"], "set", "called `set` here"),
    (&["delete", "del", "unset"], "remove", "called `remove` here"),
    (
        &["logging", "logs", "log", "observability", "metrics", "tracing"],
        "telemetry",
        "called `telemetry` here",
    ),
    (&["access_logs", "accesslog"], "access_log", "called `access_log` here"),
    (&["opentelemetry", "otel", "traces", "tracing"], "otlp", "called `otlp` here"),
    (
        &["workers", "worker_threads", "worker_processes", "num_threads", "nbthread"],
        "threads",
        "called `threads` here",
    ),
    (
        &["api_keys", "apikeys", "auth", "authentication", "consumers", "tenants", "virtual_keys"],
        "keys",
        "called `keys` here: a list, each with a `name` and a `hash`",
    ),
    (
        &["key", "api_key", "secret", "token", "value", "sha256", "digest", "key_hash"],
        "hash",
        "called `hash` here, and never the key itself: `evener key new NAME` prints both",
    ),
    (&["allow", "allowed_models", "model"], "models", "called `models` here: a list"),
    (
        &["rpm", "rpm_limit", "requests", "rate_limit", "rate"],
        "requests_per_minute",
        "called `requests_per_minute` here",
    ),
    (&["tpm", "tpm_limit", "tokens"], "tokens_per_minute", "called `tokens_per_minute` here"),
    (&["rpm", "tpm", "rate_limit", "quota"], "limits", "its place is `limits`"),
    (
        &["jwks", "jwks_file", "jwks_uri", "jwks_url"],
        "keys",
        "called `keys` here: the path of a file",
    ),
    (&["iss", "issuers"], "issuer", "called `issuer` here"),
    (&["aud", "audiences"], "audience", "called `audience` here"),
    (&["fallback_model"], "default_model", "called `default_model` here"),
    (&["global", "globals", "common", "base"], "defaults", "called `defaults` here"),
    (&["slowstart", "warmup", "ramp_up"], "slow_start", "called `slow_start` here"),
    (
        &["max_request_size", "client_max_body_size", "max_body_size"],
        "max_body",
        "called `max_body` here",
    ),
    (
        &["graceful_shutdown", "drain_timeout", "termination_grace_period"],
        "shutdown",
        "called `shutdown` here: `{notice: 1s, drain: 10m}`",
    ),
];

/// Help for an unknown key among `known` ones.
pub(super) fn unknown_key(word: &str, path: &str, known: &[&str]) -> String {
    let snake = snake_case(word);
    if known.contains(&snake.as_str()) {
        return if snake.eq_ignore_ascii_case(&word.replace(['-', ' '], "_")) {
            format!("did you mean `{snake}`?")
        } else {
            format!("did you mean `{snake}`? keys are written in snake_case")
        };
    }
    if word == "<<" {
        return "merge keys are not read; write what models share under `defaults`".to_owned();
    }
    let translated = WORDS
        .iter()
        .find(|(foreign, ours, _)| foreign.contains(&snake.as_str()) && known.contains(ours));
    if let Some((_, _, help)) = translated {
        return (*help).to_owned();
    }
    let replicas = WORDS[0].0.contains(&snake.as_str()) || snake == "replicas";
    if replicas && known.contains(&"versions") {
        let called = if snake == "replicas" { "" } else { "called `replicas` here; " };
        return format!(
            "{called}they belong to a version: `versions: {{v1: [http://10.0.0.1:8000]}}`"
        );
    }
    if nearest(word, known.iter().copied()).is_none()
        && let Some(help) = elsewhere(&snake)
    {
        return help;
    }
    let title = if path.is_empty() { "keys here" } else { "its keys" };
    choices(word, title, known)
}

/// A key that exists, but in another place.
fn elsewhere(word: &str) -> Option<String> {
    let rows = reference::rows();
    let at = |path: &&String| path.rsplit('.').next() == Some(word);
    let paths: Vec<String> =
        rows.iter().map(|(path, _)| path).filter(at).map(|path| format!("`{path}`")).collect();
    let shown = paths.get(..paths.len().min(3)).filter(|paths| !paths.is_empty())?;
    Some(format!("its place is {}", shown.join(" or ")))
}

/// The words other proxies use for a value.
pub(super) fn foreign_value(word: &str) -> Option<&'static str> {
    match snake_case(word).as_str() {
        "least_conn" | "leastconn" | "least_connections" | "least_requests" => {
            Some("least_request")
        }
        "roundrobin" | "rr" | "weighted_round_robin" | "wrr" => Some("round_robin"),
        "ring_hash" | "ringhash" | "maglev" | "consistent_hash" | "ip_hash" | "source" | "uri" => {
            Some("hash")
        }
        "power_of_two" | "power_of_two_choices" => Some("p2c"),
        "ewma" | "peak_ewma" | "least_time" => Some("least_load"),
        "openai" | "chat" | "generate" => Some("llm"),
        "kserve" | "v2" | "predictor" => Some("predict"),
        _ => None,
    }
}

fn snake_case(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        if c.is_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        match c {
            '-' | ' ' => out.push('_'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        assert_eq!(nearest("ballance", ["balance", "health"]), Some("balance"));
        assert_eq!(nearest("v3", ["v1", "v2"]), Some("v2"));
        assert_eq!(nearest("ejection", ["balance", "health"]), None);
    }

    #[test]
    fn other_proxies_words_are_translated_where_they_fit() {
        assert!(unknown_key("servers", "x", &["replicas"]).contains("called `replicas` here"));
        assert!(unknown_key("workers", "", &["threads"]).contains("called `threads` here"));
        assert!(unknown_key("backends", "x", &["versions"]).contains("called `replicas` here"));
        assert!(unknown_key("lbPolicy", "x", &["balance"]).contains("called `balance` here"));
    }

    #[test]
    fn camel_case_is_explained() {
        assert!(unknown_key("slowStart", "x", &["slow_start"]).contains("snake_case"));
    }
}
