//! May a replica serve? The answer, with the reasons it can have.

/// What is held of a replica at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Never probed yet.
    Starting,
    Healthy,
    /// Failing its health check.
    Unhealthy,
    /// Taken out by an operator: no new exchanges, those that run finish.
    Draining,
}

impl Standing {
    pub const ALL: [Self; 4] = [Self::Starting, Self::Healthy, Self::Unhealthy, Self::Draining];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}
