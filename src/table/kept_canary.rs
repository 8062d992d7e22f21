//! A canary as the state keeps it, and under which files it still counts.
use super::plan::ModelPlan;
use crate::canary::{Ending, Judged, Snapshot};
use serde::{Deserialize, Serialize};

/// A canary at rest in the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptCanary {
    /// The file's split that it began with.
    pub split: Vec<(String, f64)>,
    /// The shares that it began with, where they were not the file's: another candidate was promoted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Vec<(String, f64)>>,
    /// How it ended, if it did: known whatever else of it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// `None`: of another version of Evener.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
}

/// A verdict that was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub ending: Ending,
    pub judged: Judged,
    /// What the canary said of it.
    pub because: String,
}

impl KeptCanary {
    /// Reads one; where another version wrote it, what can be understood. `Err`: why that is nothing.
    pub fn read(value: &serde_json::Value) -> Result<Self, String> {
        let why = match Self::deserialize(value) {
            Ok(kept) if kept.snapshot.is_some() || kept.ended.is_some() => return Ok(kept),
            Ok(_) => "it lacks `snapshot`".to_owned(),
            Err(error) => error.to_string(),
        };
        let split = Vec::deserialize(&value["split"]).map_err(|_| why.clone())?;
        if let Ok(ended) = Ended::deserialize(&value["ended"]) {
            return Ok(Self { split, base: None, ended: Some(ended), snapshot: None });
        }
        // Up to format 2 of the snapshot only that said how it ended.
        let (snapshot, memory) = (&value["snapshot"], &value["snapshot"]["memory"]);
        let ending = Ending::deserialize(&memory["stage"]).map_err(|_| why.clone())?;
        let judged = Judged::deserialize(&snapshot["judged"]).map_err(|_| why)?;
        let because = memory["because"].as_str().unwrap_or_default().to_owned();
        let ended = Some(Ended { ending, judged, because });
        Ok(Self { split, base: None, ended, snapshot: None })
    }
}

/// Does the file give its versions these shares? Those who get nothing may come and go.
pub fn is_split_of(split: &[(String, f64)], plan: &ModelPlan) -> bool {
    let given = |split: &[(String, f64)]| {
        let mut given: Vec<_> = split.iter().filter(|(_, share)| *share > 0.0).cloned().collect();
        given.sort_by(|a, b| a.0.cmp(&b.0));
        given
    };
    let (one, other) = (given(split), given(&plan.split_by_name()));
    one.len() == other.len()
        && one.iter().zip(&other).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_is_known_whoever_wrote_it() {
        let judged = json!({"model": "chat", "candidate": "v2", "upstream_model": null});
        let memory = json!({"stage": "Promoted", "because": "v2 was promoted.", "unknown": 7});
        let snapshot = json!({"version": 2, "judged": judged, "memory": memory});
        let split = json!([["v1", 1.0], ["v2", 0.0]]);
        let kept = KeptCanary::read(&json!({"split": split, "snapshot": snapshot})).unwrap();
        let ended = kept.ended.unwrap();
        assert_eq!((ended.ending, &*ended.because), (Ending::Promoted, "v2 was promoted."));
        assert_eq!(ended.judged.candidate, "v2");
        let again = json!({"split": split, "ended": ended, "snapshot": {"version": 99}});
        assert_eq!(KeptCanary::read(&again).unwrap().ended, Some(ended));
        let running = json!({"split": split, "snapshot": {"memory": {"stage": "Running"}}});
        assert!(KeptCanary::read(&running).is_err());
    }
}
