//! The key `notify` of a canary: who is told of what happens.
use super::canary_keys;
use super::reader::{Reader, Section};
use super::scalar::Complaint;
use crate::canary::Notify;
use std::ops::Range;

impl Reader<'_> {
    pub(super) fn notify(&mut self, canary: &Section<'_>) -> Option<Notify> {
        if !canary.has("notify") {
            return None;
        }
        let section = self.inner(canary, "notify", canary_keys::NOTIFY);
        let secret = self.kept_secret(&section, "secret").map(|(secret, _)| secret);
        let Some((webhook, place)) = self.kept_secret(&section, "webhook") else {
            if !section.has("webhook") {
                self.missing(&section, "webhook", "webhook: \"${SLACK_URL}\"");
            }
            return None;
        };
        if !is_url(&webhook) {
            // Not repeated: it may be a secret.
            let complaint = Complaint::new("bad-url", "is not an http or https URL", "not a URL");
            let help =
                "as `https://hooks.example.com/evener`; better kept in `${VAR}` or `file:PATH`";
            self.complain(&section.path_of("webhook"), place, complaint.help(help));
            return None;
        }
        Some(Notify { webhook, secret })
    }

    /// A secret with its place. Where it is written out, that is warned about.
    pub(super) fn kept_secret(
        &mut self,
        section: &Section<'_>,
        name: &str,
    ) -> Option<(String, Range<usize>)> {
        let entry = section.get(name).filter(|entry| !entry.value.is_null())?;
        let (path, place) = (section.path_of(name), entry.place());
        let (value, elsewhere) = self.secret(&entry.value, place.clone(), &path)?;
        if value.is_empty() {
            let complaint = Complaint::new("bad-secret", "is empty", "empty");
            self.complain(&path, place, complaint.help("is the file or the variable empty?"));
            return None;
        }
        // The address of a chat's webhook lets whoever knows it write there.
        if !elsewhere && (name != "webhook" || value.starts_with("https://")) {
            self.warn_of_literal(place.clone(), &path);
        }
        Some((value, place))
    }
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    })
}
