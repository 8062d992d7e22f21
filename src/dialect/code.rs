//! The answers that Evener gives itself, by name and status.

macro_rules! codes {
    ($($variant:ident $name:literal $status:literal),* $(,)?) => {
        /// Why Evener answered itself instead of forwarding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RefusalCode { $($variant),* }

        impl RefusalCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name in bodies, headers, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" 400,
    InvalidJson "invalid_json" 400,
    ModelRequired "model_required" 400,
    BadProxyHeader "bad_proxy_header" 400,
    TlsExpected "tls_expected" 400,
    TlsUnexpected "tls_unexpected" 400,
    TlsHandshakeFailed "tls_handshake_failed" 400,
    ExceedsTokenLimit "exceeds_token_limit" 400,
    InvalidApiKey "invalid_api_key" 401,
    ModelNotAllowed "model_not_allowed" 403,
    MethodNotAllowed "method_not_allowed" 405,
    ModelNotFound "model_not_found" 404,
    VersionNotFound "version_not_found" 404,
    NoRoute "no_route" 404,
    RequestTimeout "request_timeout" 408,
    BodyTooLarge "body_too_large" 413,
    MisdirectedRequest "misdirected_request" 421,
    HeadTooLarge "head_too_large" 431,
    RateLimited "rate_limited" 429,
    TokensLimited "tokens_limited" 429,
    ModelUnreadable "model_unreadable" 415,
    UnsupportedEncoding "unsupported_transfer_encoding" 501,
    UpstreamFailed "upstream_failed" 502,
    NoReplicas "no_replicas" 503,
    ShuttingDown "shutting_down" 503,
    OutOfBuffers "out_of_buffers" 503,
    OutOfResources "out_of_resources" 503,
    TooManyConnections "too_many_connections" 503,
    FirstByteTimeout "first_byte_timeout" 504,
    StreamStalled "stream_stalled" 504,
    TotalTimeout "total_timeout" 504,
    LoopDetected "loop_detected" 508,
    InternalError "internal_error" 500,
}

impl RefusalCode {
    /// Seconds for `retry-after`: on every 503 of ours.
    pub const fn retry_after(self) -> Option<u32> {
        match self.status() {
            503 => Some(1),
            _ => None,
        }
    }
}
