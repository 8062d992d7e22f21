//! A difference in words, for a terminal.
use super::difference::{Changed, Difference, ModelDifference, Moved};
use crate::cli::terminal::{Paint, Tone, clean};
use crate::control::CanaryFate;
use crate::table::{in_percent, shares_in_words};

impl Difference {
    pub(super) fn in_words(&self, paint: Paint) -> String {
        if self.is_empty() {
            return "nothing changes\n".to_owned();
        }
        let mut out = Vec::new();
        for key in &self.needs_restart {
            let said =
                format!("`{key}` needs a restart: a reload of this file is rejected as a whole");
            out.push(paint.on(Tone::Bad, &said));
        }
        for model in &self.models {
            model.in_words(paint, &mut out);
        }
        out.extend(self.keys.iter().map(|one| in_words(one, paint)));
        out.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
    }
}

impl ModelDifference {
    fn in_words(&self, paint: Paint, out: &mut Vec<String>) {
        let name = paint.on(Tone::Strong, &clean(&self.name));
        let [before, after] = self.shares.each_ref().map(|shares| {
            clean(&shares_in_words(shares.iter().map(|(name, share)| (name.as_str(), *share))))
        });
        match self.change {
            "added" => return out.push(format!("{} {name}  {after}", paint.on(Tone::Good, "+"))),
            "removed" => {
                let rest = "  requests for it find another route or get 404";
                return out.push(format!("{} {name}{rest}", paint.on(Tone::Bad, "-")));
            }
            _ => out.push(name),
        }
        if before != after {
            out.push(format!("  split  {before} → {after}"));
        }
        out.extend(self.moved.iter().map(|one| format!("  {}", self.moved_in_words(one, paint))));
        if self.rekeyed {
            let said = "`hash_on` or `split_secret` changes: keys get other points, so any client may move";
            out.push(format!("  {}", paint.on(Tone::Warn, said)));
        }
        if self.ends_set_split {
            let said = "the split that an operator set is over";
            out.push(format!("  {}", paint.on(Tone::Warn, said)));
        }
        match self.canary {
            CanaryFate::BeginsAnew => {
                let said = "its canary begins anew: the evidence so far is forgotten";
                out.push(format!("  {}", paint.on(Tone::Warn, said)));
            }
            CanaryFate::Waits => {
                out.push("  its canary waits for `evener canary start`".to_owned());
            }
            CanaryFate::GoesOn => out.push("  its canary goes on".to_owned()),
            CanaryFate::Promoted => {
                let said = "its candidate was promoted and keeps its share until `split` changes";
                out.push(format!("  {said}"));
            }
            CanaryFate::Unseated => {
                let said = "its candidate was promoted: the new `split` takes its share away";
                out.push(format!("  {}", paint.on(Tone::Warn, said)));
            }
            CanaryFate::None => {}
        }
        for (version, [join, leave]) in &self.replicas {
            let version = clean(version);
            let joins = join.iter().map(|url| (Tone::Good, "+", url));
            let leaves = leave.iter().map(|url| (Tone::Bad, "-", url));
            out.extend(joins.chain(leaves).map(|(tone, sign, url)| {
                format!("  {version}  {} {}", paint.on(tone, sign), clean(url))
            }));
        }
        out.extend(self.keys.iter().map(|one| format!("  {}", in_words(one, paint))));
        if self.moved.is_empty() && self.replicas.is_empty() && self.keys.is_empty() {
            out.push("  a secret, or the order of something, changes".to_owned());
        }
    }

    fn moved_in_words(&self, moved: &Moved, paint: Paint) -> String {
        let what = if self.sticky { "of keys" } else { "of requests" };
        let tone = if moved.share > 0.0 { Tone::Warn } else { Tone::Faint };
        let (from, to) = (clean(&moved.from), clean(&moved.to));
        paint.on(tone, &format!("{} {what} move {from} → {to}", percent(moved.share)))
    }
}

fn in_words(one: &Changed, paint: Paint) -> String {
    let shown =
        |value: &Option<String>| value.as_ref().map_or("(not there)".to_owned(), |v| clean(v));
    let (old, new) =
        (paint.on(Tone::Bad, &shown(&one.old)), paint.on(Tone::Good, &shown(&one.new)));
    format!("{}  {old} → {new}", clean(&one.key))
}

/// "10.0%", "0%", "0.0015%".
fn percent(share: f64) -> String {
    let percent = in_percent(share);
    let tenths = (percent * 10.0).round() / 10.0;
    match percent {
        0.0 => "0%".to_owned(),
        _ if (percent - tenths).abs() < 1e-9 => format!("{percent:.1}%"),
        _ => format!("{percent}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::difference::Side;
    use super::*;
    use crate::config::parse_text;
    use crate::control::Running;
    use crate::table::Plan;

    fn plan(rest: &str) -> Plan {
        let text = format!("listeners: [{{name: public, address: 127.0.0.1:0}}]\n{rest}");
        parse_text(text, "test.yaml", &|_| None).unwrap().plan
    }

    fn difference(old: &str, new: &str) -> Difference {
        let old = plan(old);
        Difference::between(&Side { running: Running::started(&old), plan: old }, &plan(new))
    }

    const OLD: &str = "\
threads: 2
models:
  chat: {versions: {v1: [http://a:1], v2: [http://b:1]}, split: {v1: 90, v2: 10}, hash_on: [client_ip]}
  gone: {versions: {v: [http://c:1]}}
";

    #[test]
    fn a_reload_is_foretold_for_keys_replicas_and_values() {
        let new = "\
threads: 4
models:
  chat:
    versions: {v1: [http://a:1, http://d:1], v2: [{url: http://b:1, weight: 2}]}
    split: {v1: 80, v2: 20}
    hash_on: [client_ip]
    timeouts: {total: 10m}
  iris: {versions: {v: [http://e:1]}}
";
        let difference = difference(OLD, new);
        let expected = "\
`threads` needs a restart: a reload of this file is rejected as a whole
chat
  split  v1=90 v2=10 → v1=80 v2=20
  10.0% of keys move v1 → v2
  0% of keys move v2 → v1
  v1  + http://d:1
  timeouts.total  30m → 10m
  versions.v2.replicas[http://b:1].weight  1 → 2
+ iris  v=100
- gone  requests for it find another route or get 404
threads  2 → 4
";
        assert_eq!(difference.in_words(Paint(false)), expected);
        let json = difference.to_json();
        assert_eq!(json["applies"], false);
        let moves = serde_json::json!([{"from": "v1", "to": "v2", "percent": 10.0}, {"from": "v2", "to": "v1", "percent": 0.0}]);
        assert_eq!(json["models"][0]["moves"], moves);
    }

    #[test]
    fn a_section_that_comes_or_goes_is_one_line_and_secrets_stay_secret() {
        let new = "\
admin: {token: hush-hush-hush-hush}
routes: [{match: {path: /x}, model: gone}]
models:
  chat:
    versions: {v1: [http://a:1], v2: [http://b:1]}
    split: {v1: 90, v2: 10}
    hash_on: [client_ip]
    ejection: false
    canary: {candidate: v2, start: manual}
  gone: {versions: {v: [http://c:1]}}
threads: 2
";
        let expected = "\
chat
  its canary waits for `evener canary start`
  canary  null → {…}
  ejection  {…} → false
routes  [] → {…}
admin.token  (not there) → ***
";
        assert_eq!(difference(OLD, new).in_words(Paint(false)), expected);
    }

    #[test]
    fn names_with_dots_are_names() {
        let old = "models: {llama-3.1: {versions: {v1: [http://a:1]}}}\n";
        let new = "\
models:
  llama-3.1:
    versions: {v1: [http://a:1], v1.5: [http://10.0.0.1:8000]}
    split: {v1: 100, v1.5: 0}
    ejection: false
  llama-3: {versions: {v: [http://b:1]}}
";
        let expected = "\
llama-3.1
  split  v1=100 → v1=100 v1.5=0
  v1.5  + http://10.0.0.1:8000
  ejection  {…} → false
+ llama-3  v=100
default_model  llama-3.1 → null
";
        assert_eq!(difference(old, new).in_words(Paint(false)), expected);
    }

    #[test]
    fn what_stays_is_said_too() {
        let text = difference(OLD, OLD).in_words(Paint(false));
        assert_eq!(text, "nothing changes\n");
    }

    #[test]
    fn a_canary_that_begins_anew_is_named_with_what_it_moves() {
        let with = |steps: &str| {
            format!(
                "models:\n  chat: {{versions: {{v1: [http://a:1], v2: [http://b:1]}}, split: {{v1: 100, v2: 0}}, \
                 canary: {{candidate: v2, steps: {steps}}}}}\n"
            )
        };
        let text = difference(&with("[1, 100]"), &with("[5, 100]")).in_words(Paint(false));
        let expected = "\
chat
  split  v1=99 v2=1 → v1=95 v2=5
  4.0% of requests move v1 → v2
  0% of requests move v2 → v1
  its canary begins anew: the evidence so far is forgotten
  canary.steps  [1, 100] → [5, 100]
";
        assert_eq!(text, expected);
    }
}
