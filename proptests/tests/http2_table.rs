//! Every case of the table of HTTP/2, in one piece, byte by byte and cut in two at every byte. However
//! it is cut, it must mean the same.
//!
//! Deep inside a long payload one cut is as good as another: there, every 509th byte is tried, and
//! every byte with `SELVEDGE_FULL` set.

use std::collections::BTreeSet;
use std::env;

use selvedge_core::http2::{Role, Violation};
use selvedge_proptests::h2::notation::Step;
use selvedge_proptests::h2::table::{Case, Outcome, cases};

#[test]
fn every_case_ends_as_the_table_says_however_it_is_cut() {
    let mut failures = Vec::new();
    for case in cases() {
        let whole = case.run(&|_, _| Vec::new());
        if let Err(problem) = check(&case, &whole) {
            failures.push(format!("{} ({}): {problem}", case.name, case.clause));
            continue;
        }
        let bytes = case.run(&|_, bytes| (1..bytes.len()).collect());
        if bytes != whole {
            failures.push(format!("{}: byte by byte: {bytes:#?}", case.name));
        }
        for (index, step) in case.script().iter().enumerate() {
            let Step::Bytes(bytes) = step else { continue };
            for cut in places(bytes) {
                let pieces = case.run(&|at, _| if at == index { vec![cut] } else { Vec::new() });
                if pieces != whole {
                    failures.push(format!("{}: cut at {index}:{cut}: {pieces:#?}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// What is expected, against what came.
fn check(case: &Case, outcome: &Outcome) -> Result<(), String> {
    if outcome.verdict != case.expect {
        return Err(format!("{outcome:#?} instead of {:?}", case.expect));
    }
    for (wanted, got) in [(&case.events, &outcome.events), (&case.sends, &outcome.sends)] {
        if let Some(wanted) = wanted
            && wanted != got
        {
            return Err(format!("{got:#?} instead of {wanted:#?}"));
        }
    }
    Ok(())
}

/// Where bytes are cut in two.
fn places(bytes: &[u8]) -> BTreeSet<usize> {
    if bytes.len() <= 2048 || env::var_os("SELVEDGE_FULL").is_some() {
        return (1..bytes.len()).collect();
    }
    let mut places: BTreeSet<usize> = (1..bytes.len()).step_by(509).collect();
    // Around what is no run of equal bytes: heads of frames, lengths.
    for at in 1..bytes.len() - 1 {
        let around = &bytes[at.saturating_sub(12)..(at + 12).min(bytes.len())];
        if around.iter().any(|byte| *byte != bytes[at]) {
            places.insert(at);
        }
    }
    places
}

#[test]
fn the_table_is_as_large_as_promised_and_cites_what_it_claims() {
    let cases = cases();
    let of = |role| cases.iter().filter(|case| case.role == role).count();
    assert!(of(Role::Server) >= 140, "{} of servers", of(Role::Server));
    assert!(of(Role::Client) >= 60, "{} of clients", of(Role::Client));
    let mut names = BTreeSet::new();
    let mut scripts = BTreeSet::new();
    for case in &cases {
        assert!(names.insert((case.role == Role::Client, &case.name)), "{} twice", case.name);
        let script = format!("{:?} {:?} {:?}", case.role, case.script(), case.config_key());
        assert!(scripts.insert(script), "{} does what another case does", case.name);
        let rest = case.clause.strip_prefix("RFC ");
        let (rfc, section) = rest.and_then(|rest| rest.split_once(" §")).unwrap_or_default();
        let numbers = |text: &str| text.split('.').all(|n| n.parse::<u16>().is_ok());
        assert!(numbers(rfc) && numbers(section), "{}: {}", case.name, case.clause);
    }
}

#[test]
fn every_rule_has_a_case() {
    let cases = cases();
    for violation in Violation::ALL {
        // These take more frames than a table is for: see `http2_attacks`.
        if matches!(violation, Violation::Overhead | Violation::RapidReset) {
            continue;
        }
        let ends = format!(" {:?} {}", violation.code(), violation.label());
        let has = cases.iter().flat_map(|case| &case.expect).any(|line| line.ends_with(&ends));
        assert!(has, "no case for{ends}");
    }
}
