//! From a run that failed to a short one that fails by the same invariant.

use super::invariant::{Invariant, Violation};
use super::{Outcome, Scope, play, seeded};
use crate::choose::{Recorder, Replay};

/// Choices that make something not hold.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The choices, for [`Replay`].
    pub choices: Vec<u32>,
    /// What does not hold.
    pub violation: Violation,
}

/// The choices of a seed that fails.
pub fn record(seed: u64, scope: &Scope) -> (Vec<u32>, Outcome) {
    let mut source = seeded(seed);
    let mut recorder = Recorder::new(&mut source);
    let outcome = play(&mut recorder, scope, false);
    (recorder.choices, outcome)
}

/// What does not hold with these choices, if it is this invariant.
fn fails(choices: &[u32], scope: &Scope, invariant: Invariant) -> Option<Violation> {
    let once = || play(&mut Replay::new(choices), scope, false);
    let outcome = once();
    let violation = match outcome.violation {
        None if invariant == Invariant::Determinism => super::differs(&outcome.report, &once()),
        violation => violation,
    };
    violation.filter(|violation| violation.invariant == invariant)
}

/// Makes a failing run shorter, in at most `runs` attempts: takes choices away, makes them 0 (the
/// dullest), halves them.
pub fn shrink(
    choices: Vec<u32>,
    scope: &Scope,
    invariant: Invariant,
    runs: usize,
) -> Option<Scenario> {
    let violation = fails(&choices, scope, invariant)?;
    let scenario = Scenario { choices, violation };
    let mut shrinker = Shrinker { scenario, scope, left: runs };
    shrinker.shorten();
    loop {
        let before = shrinker.scenario.choices.clone();
        // What is 0 keeps its place, so that what follows means what it did.
        shrinker.pass(|choices, from, to| choices[from..to].fill(0));
        shrinker.pass(|choices, from, to| drop(choices.drain(from..to)));
        if shrinker.scenario.choices.len() < shrinker.left {
            shrinker.halve();
        }
        if shrinker.scenario.choices == before || shrinker.left == 0 {
            return Some(shrinker.scenario);
        }
    }
}

struct Shrinker<'a> {
    scenario: Scenario,
    scope: &'a Scope,
    left: usize,
}

impl Shrinker<'_> {
    /// Keeps these choices if they fail, too.
    fn keeps(&mut self, choices: Vec<u32>) -> bool {
        if self.left == 0 || choices == self.scenario.choices {
            return false;
        }
        self.left -= 1;
        let invariant = self.scenario.violation.invariant;
        match fails(&choices, self.scope, invariant) {
            Some(violation) => {
                self.scenario = Scenario { choices, violation };
                true
            }
            None => false,
        }
    }

    /// Takes off the end what is not needed.
    fn shorten(&mut self) {
        let (mut needed, mut enough) = (0, self.scenario.choices.len());
        while needed < enough && self.left > 0 {
            let middle = usize::midpoint(needed, enough);
            if self.keeps(self.scenario.choices[..middle].to_vec()) {
                enough = middle;
            } else {
                needed = middle + 1;
            }
        }
    }

    /// Changes chunks, large ones first.
    fn pass(&mut self, change: impl Fn(&mut Vec<u32>, usize, usize)) {
        let mut size = (self.scenario.choices.len() / 2).max(1);
        loop {
            let mut from = 0;
            while from < self.scenario.choices.len() {
                let to = (from + size).min(self.scenario.choices.len());
                let mut choices = self.scenario.choices.clone();
                change(&mut choices, from, to);
                let shorter = choices.len() < self.scenario.choices.len();
                if !(self.keeps(choices) && shorter) {
                    from += size;
                }
            }
            size /= 2;
            // Smaller chunks are left for when there are fewer choices.
            if size == 0 || self.scenario.choices.len() / size > self.left / 2 {
                return;
            }
        }
    }

    /// Makes single choices smaller.
    fn halve(&mut self) {
        for at in 0..self.scenario.choices.len() {
            while self.scenario.choices.get(at).is_some_and(|&choice| choice > 1) {
                let mut choices = self.scenario.choices.clone();
                choices[at] /= 2;
                if !self.keeps(choices) {
                    break;
                }
            }
        }
    }
}

impl Scenario {
    /// As text, with what it is about.
    pub fn to_text(&self) -> String {
        let choices: Vec<String> = self.choices.iter().map(u32::to_string).collect();
        let lines: Vec<String> = choices.chunks(16).map(|line| line.join(" ")).collect();
        // What it is about may have several lines.
        let about = self.violation.to_string().replace('\n', "\n# ");
        format!("# {about}\n{}\n", lines.join("\n"))
    }

    /// The choices of a text: numbers, and lines that begin with `#`.
    ///
    /// # Errors
    /// What is no number.
    pub fn choices_of(text: &str) -> Result<Vec<u32>, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.flat_map(str::split_whitespace);
        words.map(|word| word.parse().map_err(|error| format!("{word:?}: {error}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Invariant;

    #[test]
    fn what_is_written_can_be_read() {
        let message = "fields sent:\n  Host: \"a\"\nfields that came:".to_owned();
        let violation = Violation { invariant: Invariant::Bodies, message, step: 7 };
        let choices: Vec<u32> = (0..40).collect();
        let text = Scenario { choices: choices.clone(), violation }.to_text();
        assert_eq!(Scenario::choices_of(&text), Ok(choices));
    }
}
