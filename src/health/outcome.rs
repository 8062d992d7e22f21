//! How an exchange ended, and whom it speaks against.
use std::time::Duration;

/// The kind of an ending. Only upstream faults blame a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// 1xx–3xx, whole.
    Success,
    /// 4xx but 429.
    ClientError,
    /// 5xx, but a 503 with `Retry-After`; a gRPC status that blames the server; an error event inside a stream.
    ServerError,
    /// 429, or 503 with `Retry-After`, or gRPC's `RESOURCE_EXHAUSTED`: alive and full.
    Overloaded,
    /// No first byte, a gap, or the total, beyond its timeout.
    Timeout,
    /// No connection could be made.
    ConnectFailure,
    /// The connection broke, or what came was not HTTP.
    Reset,
    /// The client left.
    Cancelled,
    /// Evener answered itself and asked no replica.
    Refused,
}

impl Class {
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::ClientError,
        Self::ServerError,
        Self::Overloaded,
        Self::Timeout,
        Self::ConnectFailure,
        Self::Reset,
        Self::Cancelled,
        Self::Refused,
    ];

    /// The name in metrics, logs and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }

    /// What a complete answer with this status is.
    pub const fn of_status(status: u16, retry_after: bool) -> Self {
        match status {
            429 => Self::Overloaded,
            503 if retry_after => Self::Overloaded,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// What a gRPC answer with this status is. A client's deadline that the replica noticed is no fault of its own.
    pub const fn of_grpc(status: u16) -> Self {
        match status {
            0 => Self::Success,
            // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS
            2 | 13 | 14 | 15 => Self::ServerError,
            // RESOURCE_EXHAUSTED
            8 => Self::Overloaded,
            _ => Self::ClientError,
        }
    }

    /// Does this ending speak against the replica that was asked?
    pub const fn blames_replica(self) -> bool {
        match self {
            Self::ServerError | Self::Timeout | Self::ConnectFailure | Self::Reset => true,
            Self::Success
            | Self::ClientError
            | Self::Overloaded
            | Self::Cancelled
            | Self::Refused => false,
        }
    }
}

/// How one attempt at a replica ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub class: Class,
    /// From the pick to the last byte, without time spent waiting for a slow client.
    pub latency: Duration,
    /// From the pick to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// WebSockets and other tunnels say nothing of a replica's speed.
    pub tunnel: bool,
}
