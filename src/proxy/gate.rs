//! Who is let in: before a body is read.
use super::exchange::Exchange;
use super::limits::too_many;
use super::pass::Pass;
use super::request::{bare_host, host_of};
use crate::access::{CARRIERS, Tries, secret_in};
use crate::dialect::RefusalCode;
use crate::flow::{Refusal, Stop};
use crate::table::{Access, Key, Stranger, Table};
use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;
use std::sync::Arc;

impl Exchange<'_> {
    /// Sees that the host of this request is guarded by the authority that let its connection in.
    pub(super) fn check_authority(&self) -> Result<(), Refusal> {
        let Some(tls) = self.listener.tls.as_ref().filter(|tls| tls.asks_for_certificates()) else {
            return Ok(());
        };
        let host = bare_host(host_of(self.session.req_header()));
        if tls.may_ask_for(&host, self.client.let_in.as_ref()) {
            return Ok(());
        }
        let message = "this host takes client certificates of another authority than the one that let this \
                       connection in: connect to it by its own name (SNI)";
        Err(Refusal::new(RefusalCode::MisdirectedRequest, message))
    }

    /// Lets the request in, if it brings a key that is known and has a request left. Nothing of its body was read.
    pub(super) fn admit(&mut self, table: &Table) -> Result<(), Stop> {
        let Some(access) = &table.access else { return Ok(()) };
        let (known, carried) = known_by(&self.session.req_header().headers, access);
        let key = match known {
            Some(Ok(key)) => key,
            // An operator's test has passed another guard; one that brings a key is to see what that is worth.
            None if self.record.is_test => return Ok(()),
            None | Some(Err(_)) if self.is_preflight() => return Ok(()),
            None => {
                let message = "this needs a key: send it as `authorization: Bearer KEY`, or as `x-api-key: KEY`";
                return Err(Refusal::new(RefusalCode::InvalidApiKey, message).into());
            }
            Some(Err(stranger)) => {
                return Err(Refusal::new(RefusalCode::InvalidApiKey, stranger.to_string()).into());
            }
        };
        let mut pass = Pass::of(key, carried);
        let taken = if self.record.is_test { Ok(()) } else { pass.take_request(self.proxy.now()) };
        let name = Arc::clone(&pass.key.name);
        self.record.pass = Some(Box::new(pass));
        taken.map_err(|(limit, shortage)| too_many(&name, limit, shortage).into())
    }

    /// A browser asks whether a page may send a request (the Fetch standard): it never sends a key with that.
    fn is_preflight(&mut self) -> bool {
        let head = self.session.req_header();
        head.method == Method::OPTIONS
            && head.headers.contains_key(header::ORIGIN)
            && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && self.session.is_body_empty()
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.record.pass.as_ref().map(|pass| &*pass.key)
    }

    /// Takes the client's key out of a head on its way to a replica.
    pub(super) fn remove_key(&self, head: &mut RequestHeader) {
        let Some(pass) = &self.record.pass else { return };
        for (name, _) in CARRIERS.into_iter().zip(pass.carried).filter(|(_, carried)| *carried) {
            head.remove_header(name);
        }
    }
}

type Known<'a> = Option<Result<&'a Arc<Key>, Stranger>>;

/// The first key that a head brings, else what is wrong with the first secret that is none; and which headers carry a key:
/// they are taken out, for a second key is a secret too. Of each header the first secret counts, and of all tokens together
/// few signatures are verified.
fn known_by<'a>(headers: &HeaderMap, access: &'a Access) -> (Known<'a>, [bool; 2]) {
    let now = crate::observe::stamp().as_second();
    let mut tries = Tries::default();
    let (mut known, mut carried): (Known<'a>, _) = (None, [false; 2]);
    for (place, name) in CARRIERS.into_iter().enumerate() {
        let values = headers.get_all(name).iter();
        let mut secrets = values.filter_map(|value| secret_in(name, value.as_bytes()));
        let Some(secret) = secrets.next() else { continue };
        let whose = access.whose(secret, now, &mut tries);
        // Another secret beside it may be a key, too.
        carried[place] = whose.is_ok() || secrets.next().is_some();
        if known.is_none() || (whose.is_ok() && matches!(known, Some(Err(_)))) {
            known = Some(whose);
        }
    }
    (known, carried)
}
