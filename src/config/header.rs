//! Header names and values, and the edits a version makes.
use super::keys;
use super::reader::{Reader, Section, join};
use super::scalar::{Complaint, Read};
use super::secrets;
use crate::table::HeaderEdits;
use http::{HeaderName, HeaderValue};

/// What frames a message on one connection is Evener's own business.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-evener-error",
];

/// A header name, lower case.
pub(super) fn name(text: &str) -> Read<HeaderName> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        let what = format!("holds `{text}`, which is not the name of a header");
        Complaint::new("bad-header", what, "not a header name")
            .help("use letters, digits and `-`, without a colon")
    })
}

/// The name of a cookie (RFC 6265: a token, as the name of a header, but its case matters).
pub(super) fn cookie_name(text: &str) -> Read<String> {
    name(text).map(|_| text.to_owned()).map_err(|_| {
        let what = format!("holds `{text}`, which is not the name of a cookie");
        Complaint::new("bad-cookie", what, "not a cookie name")
            .help("use letters, digits, `-` and `_`")
    })
}

pub(super) fn editable(text: &str) -> Read<HeaderName> {
    let name = name(text)?;
    if OURS.contains(&name.as_str()) {
        let what = format!("holds `{name}`, which belongs to one connection");
        return Err(Complaint::new("bad-header", what, "not for editing"));
    }
    Ok(name)
}

impl Reader<'_> {
    pub(super) fn header_edits(&mut self, version: &Section<'_>) -> HeaderEdits {
        let section = self.inner(version, "headers", keys::HEADERS);
        let set = self.header_values(&section, "set", editable);
        let removed = self.items(&section, "remove", "the name of a header", editable);
        HeaderEdits { set, remove: removed.into_iter().map(|(name, _)| name).collect() }
    }

    /// Names with values, which may be secrets. `name` says which names may be written.
    pub(super) fn header_values(
        &mut self,
        section: &Section<'_>,
        key: &str,
        name: impl Fn(&str) -> Read<HeaderName>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let path = section.path_of(key);
        let mut all = Vec::new();
        for entry in self.map(section, key) {
            let path = join(&path, &entry.key);
            let name = match name(&entry.key) {
                Ok(name) => name,
                Err(complaint) => {
                    self.complain(&path, entry.key_span.clone(), complaint);
                    continue;
                }
            };
            let place = entry.place();
            let Some((value, kept_elsewhere)) = self.secret(&entry.value, place.clone(), &path)
            else {
                continue;
            };
            let Ok(mut value) = HeaderValue::from_str(&value) else {
                // Not repeated: it may be a secret.
                let what = "holds characters that no header can carry";
                let complaint = Complaint::new("bad-header", what, "not a header value");
                self.complain(&path, place, complaint);
                continue;
            };
            if secrets::is_secret_name(name.as_str()) && !kept_elsewhere {
                self.warn_of_literal(place, &path);
            }
            // Nothing shows it, and HTTP/2 keeps it out of its tables.
            value.set_sensitive(true);
            all.push((name, value));
        }
        all
    }

    /// Names with exact values, as routes and tests have them. Names in lower case.
    pub(super) fn header_pairs(
        &mut self,
        section: &Section<'_>,
        key: &str,
    ) -> Vec<(String, String)> {
        self.pairs(
            section,
            key,
            |text| name(text).map(|name| name.as_str().to_owned()),
            |text| {
                HeaderValue::from_str(text).map(|_| text.to_owned()).map_err(|_| {
                    let what = "holds characters that no header can carry";
                    Complaint::new("bad-header", what, "not a header value")
                })
            },
        )
    }

    /// Names with values.
    pub(super) fn pairs(
        &mut self,
        section: &Section<'_>,
        key: &str,
        name: impl Fn(&str) -> Read<String>,
        value: impl Fn(&str) -> Read<String>,
    ) -> Vec<(String, String)> {
        let path = section.path_of(key);
        let mut pairs = Vec::new();
        for entry in self.map(section, key) {
            let path = join(&path, &entry.key);
            match name(&entry.key) {
                Ok(name) => {
                    let value = self.parse(&entry.value, entry.place(), &path, "text", &value);
                    pairs.extend(value.map(|value| (name, value)));
                }
                Err(complaint) => self.complain(&path, entry.key_span.clone(), complaint),
            }
        }
        pairs
    }
}
