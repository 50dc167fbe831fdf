//! What is likely, of what is drawn by weight.

use std::time::Duration;

use selvedge_core::time::Time;

/// Whether one of so many is as likely as one may expect to see: further off less than once in
/// 10¹¹ times (Chernoff's bound). `least` and `most`: how many are to be expected.
pub(super) fn is_likely(count: u32, all: u32, [least, most]: [f64; 2]) -> bool {
    let (n, is) = (f64::from(all.max(1)), f64::from(count) / f64::from(all.max(1)));
    let expected = (is * n).clamp(least, most.max(least)) / n;
    let term = |is: f64, expected: f64| if is > 0.0 { is * (is / expected).ln() } else { 0.0 };
    let distance = term(is, expected) + term(1.0 - is, 1.0 - expected);
    (is - expected).abs() < 1e-9 || n * distance < 26.0
}

/// What a weight may count as, between two times: it grows from a tenth.
pub(super) fn effective(
    weight: u32,
    since: Time,
    slow_start: Duration,
    [from, to]: [Time; 2],
) -> [f64; 2] {
    let part = |at: Time| {
        if slow_start.is_zero() {
            return 1.0;
        }
        let age = at.saturating_since(since).as_secs_f64() / slow_start.as_secs_f64();
        age.clamp(0.0, 1.0).mul_add(0.9, 0.1)
    };
    // In steps.
    let step = (slow_start / 32).max(Duration::from_millis(2));
    let before = Time::from_nanos(from.as_nanos().saturating_sub(step.as_nanos() as u64));
    [before, to].map(|at| f64::from(weight) * part(at))
}

/// How likely it is at most that `at` is one of two that are drawn by weight: who is not drawn gets
/// nothing, however little it has to do. `zoned`: who else is in its zone.
pub(super) fn drawn_of_two(weights: &[[f64; 2]], zoned: &[usize], at: usize) -> f64 {
    let most = weights[at][1];
    let others = || zoned.iter().copied().filter(move |&other| other != at);
    let all: f64 = others().map(|other| weights[other][0]).sum();
    // Drawn first, or after another.
    let second = others().map(|first| {
        let [least, heaviest] = weights[first];
        let rest = all - least;
        let drawn = heaviest / (heaviest + rest + weights[at][0]).max(f64::MIN_POSITIVE);
        drawn * most / (most + rest)
    });
    (most / (most + all) + second.sum::<f64>()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::{drawn_of_two, is_likely};

    #[test]
    fn who_weighs_little_is_seldom_one_of_two() {
        let near = |is: f64, expected: f64| (is - expected).abs() < 1e-9;
        let all = [[1.0; 2]; 3];
        assert!(near(drawn_of_two(&all, &[0, 1, 2], 0), 2.0 / 3.0));
        assert!(
            near(drawn_of_two(&all, &[0, 1], 0), 1.0) && near(drawn_of_two(&all, &[0], 0), 1.0)
        );
        let slow = [[0.1; 2], [1.0; 2], [1.0; 2]];
        let expected = 0.1 / 2.1 + 2.0 * (1.0 / 2.1) * (0.1 / 1.1);
        assert!(near(drawn_of_two(&slow, &[0, 1, 2], 0), expected));
        // Where it is not known what the weights are, it may be more.
        let some = [[0.1, 0.2], [0.5, 1.0], [1.0; 2]];
        assert!(drawn_of_two(&some, &[0, 1, 2], 0) > expected);
    }

    #[test]
    fn what_is_far_off_is_not_likely() {
        assert!(is_likely(50, 100, [50.0; 2]) && is_likely(30, 100, [50.0; 2]));
        assert!(!is_likely(90, 100, [50.0; 2]) && !is_likely(10, 100, [50.0; 2]));
        assert!(!is_likely(1, 100, [0.0; 2]) && !is_likely(99, 100, [100.0; 2]));
        assert!(is_likely(0, 100, [0.0; 2]) && is_likely(100, 100, [100.0; 2]));
        assert!(is_likely(90, 100, [50.0, 95.0]) && is_likely(0, 0, [0.0; 2]));
    }
}
