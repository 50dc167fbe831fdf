//! Ours against the `h2` crate: the table, and generated conversations of which every second has one
//! frame that was spoiled. Where they differ, the list of what is allowed says why.
//!
//! `SELVEDGE_SEEDS=100000` compares more conversations.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use selvedge_core::http2::Role;
use selvedge_proptests::choose::Seeded;
use selvedge_proptests::h2::oracle::{
    ALLOWED, Difference, compare, generate, is_allowed, ours, theirs,
};
use selvedge_proptests::h2::table::{Case, cases};

/// What differs and should not, with some of the cases in which it does.
type Differences = BTreeMap<String, Vec<String>>;

fn note(differences: &mut Differences, difference: &Difference, name: &str) {
    if !is_allowed(difference) {
        let names = differences.entry(format!("{difference:?}")).or_default();
        if names.len() < 5 {
            names.push(name.to_owned());
        }
    }
}

#[test]
fn the_table_means_the_same_to_h2() {
    let mut compared = 0;
    let mut differences = Differences::new();
    for case in cases() {
        // It is told of the default limits only.
        if !case.has_default_limits() {
            continue;
        }
        let Some(theirs) = theirs(&case) else { continue };
        compared += 1;
        if let Err(difference) = compare(&case.name, &ours(&case), &theirs) {
            note(&mut differences, &difference, &format!("{:?} {}", case.role, case.name));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(compared >= 300, "{compared} cases compared");
}

#[test]
fn generated_conversations_mean_the_same_to_h2() {
    let seeds: u64 = env::var("SELVEDGE_SEEDS").map_or(4000, |seeds| seeds.parse().unwrap());
    let mut differences = Differences::new();
    let (mut valid, mut accepted, mut broken) = (0, 0, 0);
    for seed in 0..seeds {
        let role = if seed % 2 == 0 { Role::Server } else { Role::Client };
        let (steps, name) = generate::script(&mut Seeded::new(seed), role);
        let case = Case::made_up(role, steps);
        let theirs = theirs(&case).expect("h2 can do what is generated");
        let ours = ours(&case);
        let whole = ours.labels.is_empty();
        assert!(name != "valid" || whole, "{seed}: {:?}", ours.labels);
        valid += u64::from(name == "valid");
        accepted += u64::from(name != "valid" && whole);
        broken += u64::from(!whole);
        if let Err(difference) = compare(name, &ours, &theirs) {
            note(&mut differences, &difference, &seed.to_string());
        }
    }
    println!("{valid} valid; spoiled: {accepted} accepted, {broken} refused");
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(valid > seeds / 3 && accepted > seeds / 10 && broken > seeds / 10);
}

#[test]
fn every_allowed_difference_says_why_once() {
    let mut seen = BTreeSet::new();
    for allowed in ALLOWED.iter().copied().flatten() {
        assert!(allowed.why.starts_with("RFC "), "{allowed:?}");
        assert_ne!(allowed.ours, allowed.theirs, "{allowed:?}");
        assert!(seen.insert((allowed.label, allowed.ours, allowed.theirs)), "{allowed:?} twice");
    }
}
