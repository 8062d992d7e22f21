//! May a replica serve? The answer, with the reasons it can have.

/// What is held of a replica at present.
///
/// Several can be true at once. Shown is what must change first: an operator's drain, then the health check, then an
/// ejection, which can only end once the check passes, then probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Never probed yet.
    Starting,
    Healthy,
    /// Failing its health check.
    Unhealthy,
    /// Taken out for a while, for cause or by an operator.
    Ejected,
    /// Back from an ejection: one request at a time, until it has proved itself.
    Probation,
    /// Taken out by an operator: no new exchanges, those that run finish.
    Draining,
}

impl Standing {
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::Healthy,
        Self::Unhealthy,
        Self::Ejected,
        Self::Probation,
        Self::Draining,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Probation => "probation",
            Self::Draining => "draining",
        }
    }
}
