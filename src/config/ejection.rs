//! The key `ejection`: how replicas that fail more than their peers are taken out.
use super::keys;
use super::reader::{Reader, Section};
use super::scalar::{Complaint, Read, part, show_duration};
use crate::health::{EjectionPlan, FailureCodes};

impl Reader<'_> {
    pub(super) fn ejection(&mut self, model: &Section<'_>) -> Option<EjectionPlan> {
        if self.switched_off(model, "ejection") {
            return None;
        }
        let section = self.inner(model, "ejection", keys::EJECTION);
        let least = self.duration(&section, "for");
        let at_most = self.duration(&section, "at_most");
        if section.has("at_most") && at_most < least {
            let place = section.place_of("at_most");
            let (shown, limit) = (show_duration(least), show_duration(at_most));
            let what = format!("is {limit}, shorter than `for`, {shown}");
            let complaint = Complaint::new("contradicting-times", what, "too short");
            let help = format!("raise it to at least {shown}, or shorten `for`");
            self.complain(&section.path_of("at_most"), place, complaint.help(help));
        }
        let max_percent = self.parsed_or_default(&section, "max_percent", part);
        let written = self.items(&section, "failure_codes", "a status", failure_codes);
        let listed = section.has("failure_codes");
        let failure_codes = if listed {
            written.into_iter().fold(FailureCodes::NONE, |all, (codes, _)| all.and(codes))
        } else {
            FailureCodes::ALL
        };
        Some(EjectionPlan { least, at_most: at_most.max(least), max_percent, failure_codes })
    }
}

/// `5xx`, `503`, `502-504`.
fn failure_codes(text: &str) -> Read<FailureCodes> {
    if text == "5xx" {
        return Ok(FailureCodes::ALL);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let range = from.trim().parse::<u16>().ok().zip(to.trim().parse::<u16>().ok());
    match range {
        Some((from, to)) if (500..600).contains(&from) && (from..600).contains(&to) => {
            Ok(FailureCodes::NONE.with(from..=to))
        }
        _ => {
            let what = format!("holds `{text}`, which is no failure of a server");
            let help =
                "write `5xx` (all but 501), `503` or `502-504`: only 500 to 599 blame a replica";
            Err(Complaint::new("bad-status", what, "not from 500 to 599").help(help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_codes_are_those_that_blame_a_server() {
        assert_eq!(failure_codes("5xx").unwrap(), FailureCodes::ALL);
        assert_eq!(failure_codes("503").unwrap().ranges(), [503..=503]);
        assert_eq!(failure_codes("502-504").unwrap().ranges(), [502..=504]);
        for bad in ["4xx", "429", "499-503", "504-502", "500-600", "5x", ""] {
            assert!(failure_codes(bad).is_err(), "{bad}");
        }
    }
}
