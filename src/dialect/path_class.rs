//! The class of a request's path: what requests of one kind share, whichever model, version or object they name.

/// Parts of a path that are kept; what follows is left out.
const KEPT: usize = 4;
/// A longer part is taken for an id.
const LONGEST: usize = 32;

/// `/v2/models/m/versions/3/infer` is `/v2/models/*/versions/*/infer`, `/v1/models/m:predict` is `/v1/models/*:predict`,
/// `/users/17/files?x=1` is `/users/*/files`; a method of gRPC keeps its name. For people to read, not for routing.
pub fn path_class(raw_path: &str) -> String {
    let path = raw_path.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let named = |i: usize| {
        i > 0
            && matches!(parts[i - 1], "models" | "versions" | "labels")
            && parts[0].starts_with('v')
    };
    let kept = if parts.first() == Some(&"v2") { KEPT + 2 } else { KEPT };
    let mut class = String::new();
    for (i, part) in parts.iter().take(kept).enumerate() {
        class.push('/');
        if named(i) {
            let verb = part.rsplit_once(':').map(|(_, verb)| verb);
            class.push('*');
            if let Some(verb) = verb.filter(|verb| is_name(verb)) {
                class.push(':');
                class.push_str(verb);
            }
        } else if is_name(part) || (i < 2 && parts.len() == 2 && parts[0].contains('.')) {
            class.push_str(part);
        } else {
            class.push('*');
        }
    }
    if class.is_empty() { "/".to_owned() } else { class }
}

/// Does a developer name an operation so? Ids have digits, and escapes spell what somebody typed.
fn is_name(part: &str) -> bool {
    let version = part.len() < 4 && part.starts_with('v');
    part.len() <= LONGEST
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        && (version || !part.bytes().any(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_kind_have_one_class() {
        for (path, class) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/embeddings?x=/y", "/v1/embeddings"),
            ("/v2/models/m/infer", "/v2/models/*/infer"),
            ("/v2/models/m%20x/versions/3/infer", "/v2/models/*/versions/*/infer"),
            ("/v1/models/llama3:8b:predict", "/v1/models/*:predict"),
            ("/v1/models/llama3:8b", "/v1/models/*"),
            ("/users/17/files/a/b/c", "/users/*/files/a"),
            ("/run/0f8fad5b-d9cb-469f-a165-70867728950e", "/run/*"),
            (
                "/inference.GRPCInferenceService/ModelInfer",
                "/inference.GRPCInferenceService/ModelInfer",
            ),
            ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"),
            ("/predict/", "/predict"),
            ("", "/"),
        ] {
            assert_eq!(path_class(path), class, "{path}");
        }
    }
}
