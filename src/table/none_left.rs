//! Why no replica of a version may serve, in words.
use super::model::Version;
use crate::health::Standing;

/// "4 replicas: 2 ejected, 1 draining, 1 failing its health check".
pub fn why_none(version: &Version, is_call: bool) -> String {
    if is_call && !version.speaks_http2() {
        return "gRPC needs one that speaks HTTP/2: write its address as `h2c://HOST:PORT`"
            .to_owned();
    }
    let reached = || version.reached(is_call);
    let count = |standing| reached().filter(|m| m.replica.standing() == standing).count();
    let unhealthy = count(Standing::Unhealthy);
    let check =
        if unhealthy == 1 { "failing its health check" } else { "failing their health check" };
    let reasons = [
        (count(Standing::Ejected), "ejected"),
        (count(Standing::Probation), "on probation"),
        (count(Standing::Draining), "draining"),
        (unhealthy, check),
        (count(Standing::Starting), "not probed yet"),
    ];
    let reasons: Vec<String> =
        reasons.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let n = reached().count();
    let s = if n == 1 { "" } else { "s" };
    format!("{n} replica{s}: {}", reasons.join(", "))
}
