//! The division of a model's requests among its versions.
//!
//! Points of [0, 2³²) belong to versions in segments. A request brings its point, from its sticky
//! key ([`hash_point`](super::hash_point)) or from the counter ([`spread`](super::spread)), and the
//! same mapping serves both. When shares change, the versions that grow take from those that
//! shrink and nobody else moves: what moved measures ½ Σ |Δ share|, the least possible.
use super::rendezvous;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The measure of all points.
const WHOLE: u64 = 1 << 32;

/// A point from 0 to 1, as people read it.
pub fn fraction(point: u64) -> f64 {
    point as f64 / 2_f64.powi(64)
}

/// Who owns which points. Kept in the state file, so that a restart moves nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Segments {
    /// Name and half-open segments [a, b), for each version in the order of its indices; the order
    /// of the segments is that in which they are given back, last first.
    versions: Vec<(String, Vec<(u64, u64)>)>,
}

/// Segments that overlap, leave a gap, are empty, or name a version twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segments of a split do not cover every point exactly once")]
pub struct MalformedSegments;

#[derive(Deserialize)]
struct Unchecked {
    versions: Vec<(String, Vec<(u64, u64)>)>,
}

impl TryFrom<Unchecked> for Segments {
    type Error = MalformedSegments;

    fn try_from(unchecked: Unchecked) -> Result<Self, MalformedSegments> {
        let segments = Self { versions: unchecked.versions };
        if segments.valid() { Ok(segments) } else { Err(MalformedSegments) }
    }
}

impl Segments {
    /// Lays the versions side by side, in order. Shares are relative and need not sum to 1.
    pub fn new(shares: &[(impl AsRef<str>, f64)]) -> Self {
        let mut start = 0;
        let versions = shares.iter().zip(measures(shares)).map(|((name, _), measure)| {
            let segment = (start, start + measure);
            start += measure;
            (name.as_ref().to_owned(), if measure > 0 { vec![segment] } else { Vec::new() })
        });
        Self { versions: versions.collect() }
    }

    /// The index of the version that owns `point`, a fraction of 2⁶⁴ of which the top 32 bits count.
    pub fn version(&self, point: u64) -> usize {
        let point = point >> 32;
        let owns = |segments: &[(u64, u64)]| segments.iter().any(|&(a, b)| a <= point && point < b);
        self.versions.iter().position(|(_, segments)| owns(segments)).unwrap_or(0)
    }

    /// A point that a version owns; `None`: it owns none.
    pub fn some_point(&self, version: usize) -> Option<u64> {
        self.versions.get(version)?.1.first().map(|&(start, _)| start << 32)
    }

    /// The segment that holds `point`, as fractions of all points.
    pub fn segment(&self, point: u64) -> [f64; 2] {
        let holds = |&(a, b): &(u64, u64)| a <= point >> 32 && point >> 32 < b;
        let (a, b) = self.pieces().map(|(_, piece)| piece).find(holds).unwrap_or((0, WHOLE));
        [a, b].map(|end| end as f64 / WHOLE as f64)
    }

    /// The version that serves `point` while some, perhaps its owner, have nothing usable.
    ///
    /// The owner if it is usable; else the others that have a share divide its points in proportion
    /// to theirs, each point always going to the same one (weighted rendezvous).
    pub fn without(&self, point: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let owner = self.version(point);
        if usable(owner) {
            return Some(owner);
        }
        let others = self.versions.iter().enumerate().map(|(i, (name, segments))| {
            (i, measure_of(segments) as f64, point ^ xxh3_64(name.as_bytes()))
        });
        rendezvous::winner(others.filter(|&(i, measure, _)| measure > 0.0 && usable(i)))
    }

    /// The same versions, or others, with other shares: those that grow take only from those that
    /// shrink, from the end of their last segment. The result is in the order of `shares`.
    #[must_use]
    pub fn moved_to(&self, shares: &[(impl AsRef<str>, f64)]) -> Self {
        let targets = measures(shares);
        let mut kept = self.clone();
        let mut free = Vec::new();
        for (name, own) in &mut kept.versions {
            let target = shares.iter().zip(&targets).find(|((n, _), _)| n.as_ref() == name);
            let surplus = measure_of(own).saturating_sub(target.map_or(0, |(_, &target)| target));
            cut(own, surplus, &mut free);
        }
        let mut free = free.into_iter();
        let mut next = free.next();
        let versions = shares.iter().zip(&targets).map(|((name, _), &target)| {
            let mut own = kept.segments_of(name.as_ref()).to_vec();
            let mut wanted = target - measure_of(&own);
            while wanted > 0
                && let Some((a, b)) = next
            {
                let end = b.min(a + wanted);
                give(&mut own, (a, end));
                wanted -= end - a;
                next = if end < b { Some((end, b)) } else { free.next() };
            }
            (name.as_ref().to_owned(), own)
        });
        Self { versions: versions.collect() }
    }

    /// The fraction of all points that version `name` owns; 0 if there is no such version.
    pub fn share_of(&self, name: &str) -> f64 {
        measure_of(self.segments_of(name)) as f64 / WHOLE as f64
    }

    /// The names of the versions, in the order of their indices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|(name, _)| name.as_str())
    }

    /// Every segment with its version.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&str, (u64, u64))> {
        let all = self.versions.iter().map(|(name, own)| own.iter().map(move |s| (&**name, *s)));
        all.flatten()
    }

    /// Does every point belong to exactly one version, and every name to one?
    pub fn valid(&self) -> bool {
        let mut all: Vec<_> = self.versions.iter().flat_map(|(_, s)| s.iter().copied()).collect();
        all.sort_unstable();
        let reached =
            all.into_iter().try_fold(0, |reached, (a, b)| (a == reached && a < b).then_some(b));
        let mut names: Vec<_> = self.names().collect();
        names.sort_unstable();
        reached == Some(WHOLE) && names.windows(2).all(|pair| pair[0] != pair[1])
    }

    fn segments_of(&self, name: &str) -> &[(u64, u64)] {
        self.versions.iter().find(|(n, _)| n == name).map_or(&[], |(_, segments)| segments)
    }
}

/// Takes `surplus` off the end of the last segments, and puts it into `free`.
fn cut(segments: &mut Vec<(u64, u64)>, mut surplus: u64, free: &mut Vec<(u64, u64)>) {
    while surplus > 0
        && let Some((a, b)) = segments.pop()
    {
        let start = a.max(b.saturating_sub(surplus));
        free.push((start, b));
        surplus -= b - start;
        if a < start {
            segments.push((a, start));
        }
    }
}

/// Adds a segment, merged with those it touches.
fn give(own: &mut Vec<(u64, u64)>, (mut a, mut b): (u64, u64)) {
    if let Some(i) = own.iter().position(|&(_, end)| end == a) {
        a = own.remove(i).0;
    }
    if let Some(i) = own.iter().position(|&(start, _)| start == b) {
        b = own.remove(i).1;
    }
    own.push((a, b));
}

fn measure_of(segments: &[(u64, u64)]) -> u64 {
    segments.iter().map(|(a, b)| b - a).sum()
}

/// Shares as measures that sum to the whole exactly: rounded down, and what is missing goes to the
/// largest remainders (Hamilton's method). A share of 0 stays 0; if all are, all are taken as equal.
fn measures(shares: &[(impl AsRef<str>, f64)]) -> Vec<u64> {
    let clean = |share: f64| if share.is_finite() { share.max(0.0) } else { 0.0 };
    let total: f64 = shares.iter().map(|&(_, share)| clean(share)).sum();
    let exact: Vec<f64> = shares
        .iter()
        .map(
            |&(_, share)| {
                if total > 0.0 { clean(share) / total } else { 1.0 / shares.len() as f64 }
            },
        )
        .map(|fraction| fraction * WHOLE as f64)
        .collect();
    let mut measures: Vec<u64> = exact.iter().map(|e| e.floor() as u64).collect();
    let mut by_remainder: Vec<usize> = (0..exact.len()).filter(|&i| exact[i] > 0.0).collect();
    by_remainder.sort_by(|&i, &j| exact[j].fract().total_cmp(&exact[i].fract()));
    let missing = WHOLE - measures.iter().sum::<u64>().min(WHOLE);
    for &i in by_remainder.iter().take(missing as usize) {
        measures[i] += 1;
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::super::{hash_point, spread};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Shares = Vec<(&'static str, f64)>;

    /// Some of four versions, with shares of which some are 0 and not all.
    fn any_shares() -> impl Strategy<Value = Shares> {
        let share = prop_oneof![Just(0.0), Just(50.0), 0.0..100.0];
        let named = move |names: Vec<&'static str>| {
            let n = names.len();
            (Just(names), prop::collection::vec(share.clone(), n))
        };
        prop::sample::subsequence(vec!["a", "b", "c", "d"], 1..=4)
            .prop_shuffle()
            .prop_flat_map(named)
            .prop_map(|(names, shares)| names.into_iter().zip(shares).collect::<Shares>())
            .prop_filter("all are 0", |shares| shares.iter().any(|&(_, share)| share > 0.0))
    }

    fn owner(segments: &Segments, point: u64) -> &str {
        segments.names().nth(segments.version(point)).unwrap()
    }

    /// The measure of the points whose owner differs, and whether any of them left a version that
    /// did not shrink, or came to one that did not grow.
    fn compare(old: &Segments, new: &Segments) -> (u64, bool) {
        let edges = |s: &Segments| s.versions.iter().flat_map(|v| v.1.clone()).collect::<Vec<_>>();
        let edges = edges(old).into_iter().chain(edges(new)).flat_map(|(a, b)| [a, b]);
        let edges: Vec<u64> = edges.collect::<BTreeSet<_>>().into_iter().collect();
        let (mut moved, mut fair) = (0, true);
        for pair in edges.windows(2) {
            let (from, to) = (owner(old, pair[0] << 32), owner(new, pair[0] << 32));
            if from != to {
                moved += pair[1] - pair[0];
                fair &= new.share_of(from) < old.share_of(from);
                fair &= new.share_of(to) > old.share_of(to);
            }
        }
        (moved, fair)
    }

    fn small_side_of(turns: std::ops::Range<u64>, segments: &Segments, offset: u64) -> usize {
        turns.filter(|&turn| segments.version(spread::point(turn, offset)) == 1).count()
    }

    proptest! {
        #[test]
        fn however_shares_change_no_more_moves_than_must(
            first in any_shares(), later in prop::collection::vec(any_shares(), 1..8),
        ) {
            let mut old = Segments::new(&first);
            prop_assert!(old.valid());
            for shares in later {
                let new = old.moved_to(&shares);
                prop_assert!(new.valid(), "{new:?}");
                prop_assert!(new.names().eq(shares.iter().map(|s| s.0)));
                let total: f64 = shares.iter().map(|s| s.1).sum();
                for &(name, share) in &shares {
                    prop_assert!((new.share_of(name) - share / total).abs() < 1e-9);
                    prop_assert_eq!(share > 0.0, new.share_of(name) > 0.0);
                }
                let change = |name| (new.share_of(name) - old.share_of(name)).abs();
                let least = ["a", "b", "c", "d"].map(change).iter().sum::<f64>() / 2.0;
                let (moved, fair) = compare(&old, &new);
                prop_assert!(fair);
                prop_assert_eq!(moved, (least * WHOLE as f64) as u64);
                old = new;
            }
        }

        #[test]
        fn a_split_survives_its_file(shares in any_shares(), later in any_shares()) {
            let segments = Segments::new(&shares).moved_to(&later);
            let text = serde_json::to_string(&segments).unwrap();
            prop_assert_eq!(serde_json::from_str::<Segments>(&text).unwrap(), segments);
        }

        #[test]
        fn a_version_with_nothing_usable_is_avoided(shares in any_shares(), point: u64, usable: [bool; 4]) {
            let segments = Segments::new(&shares);
            let serving = |i: usize| usable[i] && shares[i].1 > 0.0;
            let chosen = segments.without(point, |i| usable[i]);
            prop_assert_eq!(chosen.is_some(), (0..shares.len()).any(serving));
            prop_assert!(chosen.is_none_or(serving));
        }
    }

    #[test]
    fn a_split_reads_plainly_in_its_file() {
        let segments = Segments::new(&[("v1", 3.0), ("v2", 1.0), ("v3", 0.0)]);
        let text =
            r#"{"versions":[["v1",[[0,3221225472]]],["v2",[[3221225472,4294967296]]],["v3",[]]]}"#;
        assert_eq!(serde_json::to_string(&segments).unwrap(), text);
    }

    #[test]
    fn a_malformed_file_is_refused() {
        for versions in [
            r#"[["a",[[0,4294967295]]]]"#,
            r#"[["a",[[0,4294967296]]],["a",[]]]"#,
            r#"[["a",[[0,2000]]],["b",[[1999,4294967296]]]]"#,
            r#"[["a",[[0,4294967296],[4294967296,4294967296]]]]"#,
            r#"[["a",[[0,4294967297]]]]"#,
            r#"[["a",[[9,0],[0,4294967296]]]]"#,
            "[]",
        ] {
            let text = format!(r#"{{"versions":{versions}}}"#);
            assert!(serde_json::from_str::<Segments>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn thirds_are_exact_to_the_last_point() {
        let segments = Segments::new(&[("a", 1.0), ("b", 1.0), ("c", 1.0)]);
        let measures: Vec<u64> = segments.versions.iter().map(|v| measure_of(&v.1)).collect();
        assert_eq!(measures, [1_431_655_766, 1_431_655_765, 1_431_655_765]);
    }

    #[test]
    fn a_canary_that_comes_and_goes_leaves_no_crumbs() {
        let mut segments = Segments::new(&[("stable", 1.0)]);
        for share in [0.01, 0.05, 0.25, 0.5, 0.05, 0.3, 1.0, 0.9, 0.2] {
            segments = segments.moved_to(&[("stable", 1.0 - share), ("canary", share)]);
            let pieces = segments.versions.iter().map(|v| v.1.len()).max();
            assert!(pieces <= Some(2), "{segments:?}");
        }
    }

    #[test]
    fn two_thousand_requests_meet_a_twentieth_within_eight() {
        let segments = Segments::new(&[("stable", 0.95), ("canary", 0.05)]);
        for offset in (0..50).map(|i| xxh3_64(&[i])) {
            let (mut count, mut worst) = (0, 0.0_f64);
            for turn in 0..2_000 {
                count += usize::from(segments.version(spread::point(turn, offset)) == 1);
                worst = worst.max((count as f64 - (turn + 1) as f64 * 0.05).abs());
            }
            assert!(count.abs_diff(100) <= 8, "{count} of 100");
            assert!(worst <= 9.0, "{worst} off");
        }
    }

    #[test]
    fn any_thousand_requests_meet_a_twentieth_within_twenty() {
        let segments = Segments::new(&[("stable", 0.95), ("canary", 0.05)]);
        for start in (0..20_000).step_by(97) {
            assert!(small_side_of(start..start + 1_000, &segments, 5).abs_diff(50) <= 20);
        }
    }

    #[test]
    fn a_share_of_nothing_meets_nobody() {
        let segments = Segments::new(&[("stable", 1.0), ("canary", 0.0)]);
        assert_eq!(small_side_of(0..20_000, &segments, 1), 0);
        assert_eq!(segments.version(0), 0);
        assert_eq!(segments.version(u64::MAX), 0);
    }

    #[test]
    fn nobody_leaves_a_growing_canary() {
        let old = Segments::new(&[("stable", 0.95), ("canary", 0.05)]);
        let new = old.moved_to(&[("stable", 0.8), ("canary", 0.2)]);
        let points = || (0..1_500).map(|i| hash_point("chat", format!("user-{i}").as_bytes()));
        let on = |s: &Segments| points().filter(|&p| s.version(p) == 1).count();
        assert!(points().all(|p| old.version(p) == 0 || new.version(p) == 1));
        assert!(on(&old).abs_diff(75) < 35 && on(&new).abs_diff(300) < 65);
    }

    #[test]
    fn the_points_of_a_dead_version_are_divided_in_proportion() {
        let segments = Segments::new(&[("a", 0.5), ("b", 0.1), ("c", 0.4), ("d", 0.0)]);
        let points = (0..40_000).map(|turn| spread::point(turn, 3));
        let orphans: Vec<u64> = points.filter(|&p| segments.version(p) == 0).collect();
        let to =
            |i| orphans.iter().filter(|&&p| segments.without(p, |i| i != 0) == Some(i)).count();
        assert!(to(1).abs_diff(4_000) < 300, "{}", to(1));
        assert!(to(2).abs_diff(16_000) < 300, "{}", to(2));
        assert_eq!(to(3), 0);
    }
}
