//! Who changes sides when one division of the points follows another.
use super::split::Segments;
use std::collections::BTreeMap;

/// The fraction of all points that goes from one version to another, for each pair where any does; exact to 2⁻³².
pub fn moves(before: &Segments, after: &Segments) -> BTreeMap<(String, String), f64> {
    let mut moved: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (from, (a, b)) in before.pieces() {
        for (to, (c, d)) in after.pieces() {
            let shared = b.min(d).saturating_sub(a.max(c));
            if shared > 0 && from != to {
                *moved.entry((from.to_owned(), to.to_owned())).or_default() += shared;
            }
        }
    }
    let fraction = |(pair, measure)| (pair, measure as f64 / (1_u64 << 32) as f64);
    moved.into_iter().map(fraction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_counted_in_each_direction() {
        let split = |v1: f64, v2: f64| [("v1", v1), ("v2", v2)];
        let old = Segments::new(&split(90.0, 10.0));
        let new = old.moved_to(&split(80.0, 20.0));
        let moved = moves(&old, &new);
        assert_eq!(moved.len(), 1);
        assert!((moved[&("v1".to_owned(), "v2".to_owned())] - 0.1).abs() < 1e-9);
        assert!(moves(&new, &new).is_empty());
        // Laid side by side anew, most of another order would move.
        let turned = moves(&new, &Segments::new(&[("v2", 20.0), ("v1", 80.0)]));
        assert!((turned[&("v1".to_owned(), "v2".to_owned())] - 0.2).abs() < 1e-9);
        assert!((turned[&("v2".to_owned(), "v1".to_owned())] - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_version_that_leaves_loses_all_it_had() {
        let old = Segments::new(&[("v1", 50.0), ("v2", 50.0)]);
        let moved = moves(&old, &old.moved_to(&[("v3", 25.0), ("v1", 75.0)]));
        let of = |from: &str, to: &str| moved[&(from.to_owned(), to.to_owned())];
        assert!((of("v2", "v1") - 0.25).abs() < 1e-9 && (of("v2", "v3") - 0.25).abs() < 1e-9);
    }
}
