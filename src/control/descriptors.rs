//! Whether the limit of file descriptors can hold what the file allows clients.
use crate::config::{Checked, Diagnostic};
use crate::table::Plan;

/// Of a request: the client's connection and the replica's.
const PER_CONNECTION: u64 = 2;
/// The admin port's connections, logs, the state and what libraries keep open.
const OTHERS: u64 = 350;

/// How many there are, and how many may be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    pub limit: u64,
    pub needed: u64,
}

impl Descriptors {
    /// Of a process with this limit that serves this plan.
    pub fn of(plan: &Plan, limit: u64) -> Self {
        let clients: u64 = plan.listeners.iter().map(|l| l.client.max_connections as u64).sum();
        let versions = plan.models.iter().flat_map(|model| &model.versions);
        // A health check each.
        let replicas: u64 = versions.map(|version| version.replicas.len() as u64).sum();
        let needed = clients.saturating_mul(PER_CONNECTION).saturating_add(replicas + OTHERS);
        Self { limit, needed }
    }

    pub fn suffice(self) -> bool {
        self.limit >= self.needed
    }
}

/// What `max_connections` may need beyond the limit, for a person.
pub fn few_descriptors(checked: &Checked, limit: u64) -> Option<Diagnostic> {
    let descriptors = Descriptors::of(&checked.plan, limit);
    if descriptors.suffice() {
        return None;
    }
    let needed = descriptors.needed;
    let message = format!(
        "a process here may open {limit} files, and as many clients as `max_connections` allows may need {needed}"
    );
    let span = checked.warnings.find("max_connections");
    let help = "raise the limit of open files (`ulimit -Hn`, LimitNOFILE= of the unit), or lower `client.max_connections` \
                of the listeners; without descriptors clients are turned away";
    Some(Diagnostic::warning("few-descriptors", span, message).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;

    #[test]
    fn two_for_each_client_and_one_for_each_replica() {
        let text = "listeners: [{address: '127.0.0.1:0', client: {max_connections: 100}}]\n\
                    models: {m: {versions: {v: ['http://a:1', 'http://b:1']}}}\n";
        let checked = parse_text(text.to_owned(), "x", &|_| None).unwrap();
        assert_eq!(few_descriptors(&checked, 552), None);
        let found = few_descriptors(&checked, 551).unwrap();
        assert!(found.message.contains("may open 551 files") && found.message.contains("need 552"));
        assert_eq!(&text[found.span], "max_connections");
    }
}
