//! The real binary on real sockets: what clients, replicas and operators see of it.
#![expect(clippy::unwrap_used, reason = "what starts and asks a proxy is test code too")]
#![expect(clippy::panic, reason = "a condition that never comes ends its test")]

mod activation;
mod admin;
mod adversity;
mod backpressure;
mod bodies;
mod canary;
mod chaos;
mod client;
mod deadlines;
mod decisions;
mod diff;
mod ejection;
mod explain;
mod floods;
mod grpc;
mod grpc_client;
mod grpc_health;
mod h2c;
mod health;
mod hedging;
mod http;
mod http2;
mod hygiene;
mod journal;
mod key_models;
mod keys;
mod latencies;
mod limits;
mod live;
mod mirror;
mod mirror_harm;
mod outputs;
mod proxy_protocol;
mod regression;
mod reload;
mod retries;
mod routing;
mod secure;
mod set_split;
mod site;
mod split;
mod start;
mod streaming;
mod succession;
mod takeover;
mod test_request;
mod tls;
mod tls_files;
mod tls_replicas;
mod tokens;
#[cfg(feature = "otlp")]
mod traces;
mod upstream;
mod webhook;
