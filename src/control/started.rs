//! What others have of an Evener that runs.
use super::desk::Desk;
use super::order::Orders;
use crate::observe::Events;
use crate::proxy::Proxy;
use crate::table::ListenAddress;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What a started Evener consists of, for those who serve it.
#[derive(Clone, Debug)]
pub struct Started {
    pub proxy: Arc<Proxy>,
    pub orders: Orders,
    pub desk: Arc<Desk>,
    pub events: Arc<Events>,
    pub addresses: Arc<ArcSwap<Vec<(String, ListenAddress)>>>,
}
