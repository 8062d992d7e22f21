//! What differs between two texts, line by line, as `diff -u` writes it.
use std::fmt::Write as _;
use std::ops::Range;

/// Lines shown around what differs.
const CONTEXT: usize = 3;
/// Texts that differ in more lines are shown as wholly replaced.
const MOST: usize = 1000;

/// One line on the way from the old text to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Same,
    Gone,
    New,
}

/// The difference with a head that names both sides; empty where there is none.
pub fn unified(old: (&str, &str), new: (&str, &str)) -> String {
    let [before, after] = [old.1, new.1].map(|text| text.lines().collect::<Vec<_>>());
    let steps = shortest(&before, &after).unwrap_or_else(|| {
        let gone = before.iter().map(|_| Step::Gone);
        gone.chain(after.iter().map(|_| Step::New)).collect()
    });
    let hunks = hunks(&steps);
    if hunks.is_empty() {
        return String::new();
    }
    let mut out = format!("--- {}\n+++ {}\n", old.0, new.0);
    let (mut a, mut b, mut done) = (0, 0, 0);
    for hunk in hunks {
        // Between two hunks all is the same.
        let skipped = hunk.start - done;
        (a, b, done) = (a + skipped, b + skipped, hunk.end);
        let steps = &steps[hunk];
        let lines = |left_out| steps.iter().filter(|step| **step != left_out).count();
        let (of_old, of_new) = (lines(Step::New), lines(Step::Gone));
        let first = |at, count| if count == 0 { at } else { at + 1 };
        let (from, to) = (first(a, of_old), first(b, of_new));
        writeln!(out, "@@ -{from},{of_old} +{to},{of_new} @@").expect("a string takes all");
        for step in steps {
            let (sign, line) = match step {
                Step::Same => (' ', before[a]),
                Step::Gone => ('-', before[a]),
                Step::New => ('+', after[b]),
            };
            out.extend([sign]);
            out.push_str(line);
            out.push('\n');
            a += usize::from(*step != Step::New);
            b += usize::from(*step != Step::Gone);
        }
    }
    out
}

/// The steps to show: what differs with its context, in one piece where that would touch.
fn hunks(steps: &[Step]) -> Vec<Range<usize>> {
    let mut hunks: Vec<Range<usize>> = Vec::new();
    for (at, _) in steps.iter().enumerate().filter(|(_, step)| **step != Step::Same) {
        let around = at.saturating_sub(CONTEXT)..(at + 1 + CONTEXT).min(steps.len());
        match hunks.last_mut() {
            Some(last) if last.end >= around.start => last.end = around.end,
            Some(_) | None => hunks.push(around),
        }
    }
    hunks
}

/// The shortest way (E. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986). `None`: it has more than
/// [`MOST`] steps. A diagonal is kept as its place in `reach`: `x + MIDDLE - y`.
fn shortest(a: &[&str], b: &[&str]) -> Option<Vec<Step>> {
    const MIDDLE: usize = MOST + 1;
    let down = |reach: &[usize], d: usize, k: usize| {
        k == MIDDLE - d || (k != MIDDLE + d && reach[k - 1] < reach[k + 1])
    };
    let mut reach = vec![0; 2 * MIDDLE + 1];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    for d in 0..=MOST {
        trace.push(reach[MIDDLE - d..=MIDDLE + d].to_vec());
        for k in (MIDDLE - d..=MIDDLE + d).step_by(2) {
            let mut x = if down(&reach, d, k) { reach[k + 1] } else { reach[k - 1] + 1 };
            let mut y = x + MIDDLE - k;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            reach[k] = x;
            if x >= a.len() && y >= b.len() {
                return Some(back(&trace, a.len(), b.len()));
            }
        }
    }
    None
}

/// The way that `trace` found, from its end. What it kept for `d` is what was reached with `d - 1` steps.
fn back(trace: &[Vec<usize>], mut x: usize, mut y: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for (d, reach) in trace.iter().enumerate().rev() {
        // Diagonals from here on count from the lowest that was kept.
        let k = x + d - y;
        let same_until = if d == 0 {
            0
        } else {
            let down = k == 0 || (k != 2 * d && reach[k - 1] < reach[k + 1]);
            if down { reach[k + 1] } else { reach[k - 1] + 1 }
        };
        while x > same_until {
            steps.push(Step::Same);
            (x, y) = (x - 1, y - 1);
        }
        if d > 0 {
            let down = k == 0 || (k != 2 * d && reach[k - 1] < reach[k + 1]);
            steps.push(if down { Step::New } else { Step::Gone });
            if down { y -= 1 } else { x -= 1 }
        }
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn diff(old: &str, new: &str) -> String {
        unified(("old", old), ("new", new))
    }

    #[test]
    fn it_is_written_as_diff_does() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nc\nD\ne\nf\ng\nh\ni\nj\nk\nl\n";
        assert_eq!(
            diff(old, new),
            "--- old\n+++ new\n@@ -1,7 +1,7 @@\n a\n b\n c\n-d\n+D\n e\n f\n g\n@@ -9,3 +9,4 @@\n i\n j\n k\n+l\n"
        );
        assert_eq!(diff("", "a\n"), "--- old\n+++ new\n@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(diff(old, old), "");
    }

    #[test]
    fn texts_that_have_little_in_common_are_replaced() {
        let text = |word: &str| {
            let lines: Vec<String> = (0..2000).map(|i| format!("{word}{i}\n")).collect();
            lines.concat()
        };
        let found = diff(&text("a"), &text("b"));
        assert_eq!(found.lines().count(), 3 + 4000);
        // One line of many is one line.
        let changed = text("a").replace("a1000\n", "x\n");
        assert_eq!(diff(&text("a"), &changed).lines().count(), 3 + 8);
    }

    proptest! {
        #[test]
        fn the_steps_lead_from_one_to_the_other(a in "[ab\n]{0,40}", b in "[ab\n]{0,40}") {
            let [before, after] = [&a, &b].map(|text| text.lines().collect::<Vec<_>>());
            let steps = shortest(&before, &after).unwrap();
            let (mut x, mut y) = (0, 0);
            for step in steps {
                if step == Step::Same {
                    prop_assert_eq!(before[x], after[y]);
                }
                x += usize::from(step != Step::New);
                y += usize::from(step != Step::Gone);
            }
            prop_assert_eq!((x, y), (before.len(), after.len()));
        }
    }
}
