//! The key `telemetry.otlp`: the collector that gets traces.
use super::diagnostic::Diagnostic;
use super::effective::{Page, quoted, text};
use super::header::{editable, name};
use super::keys;
use super::reader::{Reader, Section};
use super::render::MASK;
use super::scalar::{self, Complaint, Read, show_duration};
use crate::table::OtlpPlan;
use http::{HeaderName, Uri};

/// Where collectors expect OTLP over gRPC.
const GRPC_PORT: u16 = 4317;

impl Reader<'_> {
    pub(super) fn otlp(&mut self, telemetry: &Section<'_>) -> Option<OtlpPlan> {
        if !telemetry.has("otlp") {
            return None;
        }
        let section = self.inner(telemetry, "otlp", keys::OTLP);
        if cfg!(not(feature = "otlp")) {
            let message = "`telemetry.otlp` is not in this build of Evener";
            let missing = Diagnostic::error("not-available", section.span.clone(), message);
            self.report(missing.label("no traces here").help("build it with `--features otlp`"));
        }
        let mut headers = self.header_values(&section, "headers", sendable);
        for (_, value) in &mut headers {
            value.set_sensitive(true);
        }
        let resource = self.resource(&section);
        let sample = self.parsed_or_default(&section, "sample", scalar::part) / 100.0;
        let timeout = self.duration(&section, "timeout");
        if !section.has("endpoint") {
            self.missing(&section, "endpoint", "endpoint: \"http://127.0.0.1:4318\"");
        }
        let endpoint = self.optional(&section, "endpoint", endpoint)?;
        let port = endpoint.parse::<Uri>().ok().and_then(|uri| uri.port_u16());
        if port == Some(GRPC_PORT) {
            let message = format!("`{endpoint}` is where collectors expect gRPC");
            let odd = Diagnostic::warning("grpc-port", section.place_of("endpoint"), message);
            let help = "Evener speaks OTLP over HTTP, for which the port is 4318";
            self.report(odd.label("the port of OTLP over gRPC").help(help));
        }
        Some(OtlpPlan { endpoint, headers, sample, timeout, resource })
    }

    fn resource(&mut self, otlp: &Section<'_>) -> Vec<(String, String)> {
        let path = otlp.path_of("resource");
        let mut all = Vec::new();
        for entry in self.map(otlp, "resource") {
            let path = format!("{path}.{}", entry.key);
            let read = |text: &str| Ok(text.to_owned());
            let value = self.parse(&entry.value, entry.place(), &path, "text", read);
            all.extend(value.map(|value| (entry.key.clone(), value)));
        }
        all
    }
}

/// As it is in effect.
pub(super) fn show(out: &mut Page, plan: Option<&OtlpPlan>) {
    let Some(plan) = plan else { return out.line("otlp", "null") };
    out.open("otlp");
    out.line("endpoint", text(&plan.endpoint));
    // Whatever it is called: a collector's key has many names.
    out.pairs("headers", plan.headers.iter().map(|(name, _)| (name.as_str(), quoted(MASK))));
    out.line("sample", plan.sample * 100.0);
    out.line("timeout", show_duration(plan.timeout));
    out.pairs("resource", plan.resource.iter().map(|(name, value)| (name.as_str(), text(value))));
    out.close();
}

/// A header that a collector may want. What the body is, Evener says itself.
fn sendable(text: &str) -> Read<HeaderName> {
    if name(text)? == http::header::CONTENT_TYPE {
        let what = "holds `content-type`, which Evener sets itself";
        return Err(Complaint::new("bad-header", what, "not for editing"));
    }
    editable(text)
}

fn endpoint(text: &str) -> Read<String> {
    let help = "as `http://127.0.0.1:4318`";
    let complain = |what: String, label: &str| Complaint::new("bad-url", what, label);
    let uri = text.parse::<Uri>().ok();
    if uri.as_ref().and_then(Uri::authority).is_some_and(|who| who.as_str().contains('@')) {
        // Not repeated: it is a secret.
        return Err(complain("holds a user or a password".to_owned(), "no user here")
            .help("write it into `headers`, as `authorization: \"file:PATH\"`"));
    }
    let is_url = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    if !is_url {
        let what = format!("is `{text}`, which is not an http or https URL");
        return Err(complain(what, "not a URL").help(help));
    }
    let base = text.trim_end_matches('/');
    Ok(base.strip_suffix("/v1/traces").unwrap_or(base).trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_build_without_traces_says_so_at_the_key() {
        let text = "listeners: [{address: '127.0.0.1:0'}]\nmodels: {m: {versions: {v: ['http://a:1']}}}\n\
                    telemetry: {otlp: {endpoint: 'http://a:4318'}}\n";
        let found = crate::config::parse_text(text.to_owned(), "a.yaml", &|_| None).unwrap_err();
        let said = found.render_text(false);
        assert!(said.contains("a.yaml:3:13") && said.contains("--features otlp"), "{said}");
    }

    #[test]
    fn an_endpoint_may_be_written_with_its_path() {
        for text in ["http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"] {
            assert_eq!(endpoint(text).unwrap(), "http://a:4318");
        }
        assert_eq!(endpoint("https://a/otlp/v1/traces/").unwrap(), "https://a/otlp");
    }
}
