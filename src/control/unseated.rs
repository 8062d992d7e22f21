//! Which candidate was promoted here and would lose its requests by a file: what `evener check` finds in the state.
use super::canary_shares::candidate_share;
use super::own_dir::OwnDir;
use super::state::{FILE, LONGEST};
use crate::canary::Ending;
use crate::canary::words::percent;
use crate::config::{Checked, Diagnostic};
use crate::table::{KeptCanary, ModelPlan, is_split_of};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is read of the state.
#[derive(Default, Deserialize)]
struct Kept {
    #[serde(default)]
    canaries: BTreeMap<String, Value>,
}

/// A warning for each model whose promoted candidate gets less by this file than it has. A state that cannot be read from
/// here warns of nothing: a check needs none.
pub fn unseated(checked: &Checked) -> Vec<Diagnostic> {
    let kept = canaries_in(&checked.plan.state_dir);
    let each = checked.plan.models.iter().filter_map(|model| {
        let canary = KeptCanary::read(kept.get(&model.name)?).ok()?;
        let (candidate, gets) = loses(&canary, model)?;
        let name = &model.name;
        let message = format!(
            "`{candidate}` was promoted and serves all of `{name}`; by this file, whose split is another, {gets}"
        );
        let help = format!(
            "a reload moves requests away from `{candidate}`, `evener diff --live` says how many; `split: {{{candidate}: \
             100}}` leaves them where they are"
        );
        let span = checked.warnings.find(&format!("{name}:"));
        Some(Diagnostic::warning("promoted-split", span, message).help(help))
    });
    each.collect()
}

fn canaries_in(dir: &Path) -> BTreeMap<String, Value> {
    let read = OwnDir::open(dir).ok().and_then(|dir| dir.read(FILE, LONGEST).ok()?);
    let kept: Option<Kept> = read.and_then(|text| serde_json::from_slice(&text).ok());
    kept.unwrap_or_default().canaries
}

/// Who was promoted and gets less, and how much that is.
fn loses(canary: &KeptCanary, model: &ModelPlan) -> Option<(String, String)> {
    let ended = canary.ended.as_ref().filter(|ended| ended.ending == Ending::Promoted)?;
    let candidate = &ended.judged.candidate;
    let exists = model.versions.iter().any(|version| version.name == *candidate);
    if exists && is_split_of(&canary.split, model) {
        return None;
    }
    let share = candidate_share(model, candidate);
    let gets = if exists {
        format!("it gets {}", percent(share))
    } else {
        "there is no such version".to_owned()
    };
    (share < 1.0 - 1e-9).then(|| (candidate.clone(), gets))
}
