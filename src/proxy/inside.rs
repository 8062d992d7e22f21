//! Requests from inside the process: an operator's test passes the data path as a client's request does, and counts
//! for nobody.
use super::accept::serve;
use super::client::Door;
use super::exchange::Exchange;
use super::request::text;
use super::shared::Proxy;
use crate::dialect::RefusalCode;
use crate::flow::{Refusal, Stop};
use crate::observe::{ListenerMeter, Task};
use crate::table::{Choice, ClientLimits, ListenAddress, ListenerPlan, Model};
use crate::wire::Raw;
use arc_swap::ArcSwap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;

/// What the access log calls the listener.
const NAME: &str = "test";
/// Names the replica that shall serve. Heard from inside alone.
const REPLICA: &str = "x-evener-replica";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A connection to the data path, for tests. It is trusted as `trusted_proxies` are, and told what served.
pub fn connect(proxy: &Arc<Proxy>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let settings = ListenerPlan {
        name: NAME.to_owned(),
        address: ListenAddress::Unix(PathBuf::new()),
        trusted_proxies: vec![HERE.into()],
        proxy_protocol: false,
        tls: None,
        debug_headers: true,
        client: ClientLimits::default(),
    };
    let door = Door {
        settings: Arc::new(ArcSwap::from_pointee(settings)),
        meter: Arc::<ListenerMeter>::default(),
        inside: true,
    };
    let (proxy, connected) = (Arc::clone(proxy), proxy.connection());
    Task::Exchange.spawn(async move {
        serve(&proxy, &Arc::new(door), Raw::Unix(theirs), HERE).await;
        drop(connected);
    });
    Ok(ours)
}

impl Exchange<'_> {
    /// The replica that a test asks for: that one serves, or nobody.
    fn wanted_replica(&self) -> Option<&str> {
        let head = self.session.req_header();
        text(&head.headers, REPLICA).filter(|_| self.record.is_test)
    }

    pub(super) fn wants_one_replica(&self) -> bool {
        self.wanted_replica().is_some()
    }

    /// The replica that a test asks for, however it stands.
    pub(super) fn named_replica<'m>(
        &self,
        model: &'m Model,
        pinned: Option<usize>,
    ) -> Result<Option<Choice<'m>>, Stop> {
        let Some(url) = self.wanted_replica() else { return Ok(None) };
        let versions = model.versions.iter().filter(|v| pinned.is_none_or(|i| v.index == i));
        let members = versions.flat_map(|v| v.members.iter().map(move |member| (v, member)));
        let mut named = members.filter(|(_, member)| *member.replica.id.url == *url);
        let (version, member) = named.next().ok_or_else(|| {
            let message = format!("model `{}` has no replica `{url}`", model.name);
            Refusal::new(RefusalCode::NoReplicas, message)
        })?;
        Ok(Some(Choice { version, member, fail_open: false }))
    }
}
