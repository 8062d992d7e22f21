//! Requests that come round: one that has passed this process before would pass it again and again.
//!
//! `Via` names Evener by a pseudonym, which several of them in a row share. `CDN-Loop` (RFC 8586) tells them apart: each
//! process adds an identifier that nobody can guess, so that a client cannot make another Evener refuse its requests.
use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const LOOP: HeaderName = HeaderName::from_static("cdn-loop");
pub(super) const PSEUDONYM: &str = "evener";

/// What this process adds to `CDN-Loop`.
#[derive(Debug)]
pub(super) struct Instance {
    id: String,
    header: HeaderValue,
}

impl Instance {
    /// By two random numbers.
    pub(super) fn new(random: [u64; 2]) -> Self {
        let id = format!("{:016x}{:016x}", random[0], random[1]);
        let header = format!("{PSEUDONYM}; id={id}");
        let header = HeaderValue::try_from(header).expect("hexadecimal digits are plain text");
        Self { id, header }
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Did a request with these headers pass this process before? Where something on its way removes `CDN-Loop`, a
    /// second `via: 1.1 evener` that no other Evener accounts for says so.
    pub(super) fn saw(&self, headers: &HeaderMap) -> bool {
        let vias = members(headers, &VIA).filter(|via| is_ours(via)).count();
        let (mut own, mut others) = (false, 0);
        for id in members(headers, &LOOP).filter_map(id_of) {
            own |= id == self.id;
            others += 1;
        }
        own || vias >= others + 2
    }
}

/// The members of a header that is a list.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).map(str::trim)
}

/// `1.1 evener`, maybe with a comment.
fn is_ours(via: &str) -> bool {
    via.split_ascii_whitespace().nth(1).is_some_and(|by| by.eq_ignore_ascii_case(PSEUDONYM))
}

/// The identifier in `evener; id=…`.
fn id_of(info: &str) -> Option<&str> {
    let mut parts = info.split(';').map(str::trim);
    let ours = parts.next()?.eq_ignore_ascii_case(PSEUDONYM);
    parts.filter(|_| ours).find_map(|part| part.strip_prefix("id="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// What is added on the way through these.
    fn through(chain: &[&Instance]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for instance in chain {
            headers.append(VIA, HeaderValue::from_static("1.1 evener"));
            headers.append(LOOP, instance.header().clone());
        }
        headers
    }

    #[test]
    fn a_request_that_passed_this_process_is_known() {
        let (one, two, three) =
            (Instance::new([1, 1]), Instance::new([2, 2]), Instance::new([3, 3]));
        assert!(one.saw(&through(&[&one])));
        assert!(one.saw(&through(&[&one, &two])));
        for legal in [&[][..], &[&one], &[&one, &two], &[&two, &one]] {
            assert!(!three.saw(&through(legal)), "a chain of {}", legal.len() + 1);
        }
    }

    #[test]
    fn without_identifiers_the_second_pseudonym_counts() {
        let one = Instance::new([1, 1]);
        for (vias, round) in [
            (&[][..], false),
            (&["1.1 evener"], false),
            (&["1.1 evener, 1.1 evener"], true),
            (&["1.1 evener", "1.0 nginx", "HTTP/2.0 Evener (a comment)"], true),
            (&["1.1 evener.example, 1.1 evener"], false),
            (&["evener evener-2, 1.1 nginx"], false),
        ] {
            let all: Vec<_> = vias.iter().map(|via| ("via", *via)).collect();
            assert_eq!(one.saw(&headers(&all)), round, "{vias:?}");
        }
    }

    #[test]
    fn other_members_of_the_list_say_nothing() {
        let one = Instance::new([1, 1]);
        for other in [
            "cloudflare; subreqs=1",
            "fastly; id=00000000000000010000000000000001",
            "evener",
            "evener; id=7",
            "",
        ] {
            assert!(!one.saw(&headers(&[("cdn-loop", other)])), "{other}");
        }
        let own = one.header().to_str().unwrap().to_owned();
        assert!(one.saw(&headers(&[("cdn-loop", &format!("cloudflare, {own} ; x=y, fastly"))])));
    }
}
