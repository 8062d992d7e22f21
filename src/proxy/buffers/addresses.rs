//! What each address holds of the buffers, for clients without a key.
use crate::fleet::Holder;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};

/// Locks, so that addresses rarely wait for each other.
const SHARDS: usize = 16;
/// A shard this full is looked through for addresses that left.
const FEW: usize = 64;

/// The holders that live, by address.
#[derive(Debug, Default)]
pub(super) struct Addresses([Mutex<Shard>; SHARDS]);

#[derive(Debug, Default)]
struct Shard {
    holders: HashMap<IpAddr, Weak<Holder>>,
    /// At this many, those that left are forgotten.
    sweep_at: usize,
}

impl Addresses {
    /// The holder of this address; it lives as long as somebody keeps it.
    pub(super) fn holder(&self, address: IpAddr) -> Arc<Holder> {
        let client = client_of(address);
        let shard = match client {
            IpAddr::V4(v4) => u32::from(v4) as usize,
            IpAddr::V6(v6) => usize::from(v6.segments()[3]),
        };
        let mut shard = self.0[shard % SHARDS].lock();
        if let Some(holder) = shard.holders.get(&client).and_then(Weak::upgrade) {
            return holder;
        }
        if shard.holders.len() >= shard.sweep_at.max(FEW) {
            shard.holders.retain(|_, holder| holder.strong_count() > 0);
            shard.sweep_at = shard.holders.len() * 2;
        }
        let holder = Arc::<Holder>::default();
        shard.holders.insert(client, Arc::downgrade(&holder));
        holder
    }
}

/// One client has a whole /64 of IPv6: that is what providers give to each (RFC 6177).
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_one_holder_and_so_is_a_network_of_ipv6() {
        let addresses = Addresses::default();
        let same = |a: &str, b: &str| {
            let (a, b) = (addresses.holder(address(a)), addresses.holder(address(b)));
            Arc::ptr_eq(&a, &b)
        };
        assert!(same("10.0.0.1", "10.0.0.1") && same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    }

    #[test]
    fn those_that_left_are_forgotten() {
        let addresses = Addresses::default();
        let kept = addresses.holder(address("9.9.9.9"));
        kept.add(5);
        for n in 0..100_000_u32 {
            drop(addresses.holder(IpAddr::V4(n.into())));
        }
        let known: usize = addresses.0.iter().map(|shard| shard.lock().holders.len()).sum();
        assert!(known < SHARDS * FEW * 2, "{known}");
        assert_eq!(addresses.holder(address("9.9.9.9")).bytes(), 5);
    }
}
