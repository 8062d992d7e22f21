//! What stands above the models: how Evener is, where it listens, and what is wrong with its files.
use super::board::line;
use super::terminal::{Paint, Tone, clean};
use crate::admin::{CertificateStatus, DescriptorStatus, Status};

pub(super) fn heading(out: &mut String, status: &Status, paint: Paint) {
    let (tone, word) = match (status.draining, status.ready) {
        (true, _) => (Tone::Warn, "draining"),
        (false, true) => (Tone::Good, "ready"),
        (false, false) => (Tone::Warn, "not ready"),
    };
    let up = uptime(status.uptime_seconds);
    line(
        out,
        &format!(
            "evener {}  {}  generation {}  up {up}  {}",
            clean(&status.version),
            paint.on(tone, word),
            status.generation,
            clean(&status.config.file),
        ),
    );
    for listener in &status.listeners {
        let scheme = if listener.scheme == "https" { "https://" } else { "" };
        let (name, address) = (clean(&listener.name), clean(&listener.address));
        line(out, &format!("listening {name} {scheme}{address}"));
        for certificate in &listener.certificates {
            line(out, &in_words(certificate, paint));
        }
    }
    if let Some(DescriptorStatus { limit, needed }) = &status.descriptors
        && limit < needed
    {
        let said = format!(
            "it may open {limit} files, and as many clients as `max_connections` allows may need {needed}: raise \
             the limit of open files, or lower `client.max_connections`"
        );
        line(out, &paint.on(Tone::Warn, &said));
    }
    if status.predecessor_drains {
        line(out, "the process before this one still finishes what it runs");
    }
    let last = &status.config.last_reload;
    if last.result != "rejected" {
        return;
    }
    line(out, &paint.on(Tone::Bad, &format!("the file was rejected at {:.0}:", last.at)));
    for diagnostic in &last.diagnostics {
        let text = |key: &str| clean(diagnostic[key].as_str().unwrap_or_default());
        let place = diagnostic["line"].as_u64().zip(diagnostic["column"].as_u64());
        let place = place.map_or_else(String::new, |(line, column)| format!("{line}:{column} "));
        let said = format!("  {place}{}[{}]: {}", text("severity"), text("code"), text("message"));
        line(out, &said);
    }
}

fn in_words(certificate: &CertificateStatus, paint: Paint) -> String {
    let (name, until) = (clean(&certificate.name), certificate.not_after.strftime("%Y-%m-%d"));
    let until = if certificate.not_after <= jiff::Timestamp::now() {
        paint.on(Tone::Bad, &format!("ended on {until}"))
    } else {
        format!("lasts until {until}")
    };
    let fault = certificate
        .fault
        .as_ref()
        .map(|why| paint.on(Tone::Bad, &format!("; its files are of no use: {}", clean(why))));
    format!("  certificate {name} {until}{}", fault.unwrap_or_default())
}

fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}
