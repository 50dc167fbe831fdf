//! The table keeps its promises.

use std::collections::BTreeSet;

use super::*;

fn all() -> Vec<Case> {
    let mut cases = requests();
    cases.extend(responses());
    cases
}

/// Rows, before `each` multiplies them.
fn rows() -> Vec<Row> {
    let files = REQUEST_FILES.iter().chain(RESPONSE_FILES);
    let tables = files.map(|(_, text)| toml::from_str::<BTreeMap<String, Row>>(text).unwrap());
    tables.flat_map(|table| table.into_values()).collect()
}

#[test]
fn there_are_as_many_as_promised() {
    let honest = |row: &Row| row.expect == "forward";
    let rows = rows();
    assert!(rows.iter().filter(|row| !honest(row)).count() >= 170);
    assert!(rows.iter().filter(|row| honest(row)).count() >= 50);
    let refused = |cases: &[Case]| cases.iter().filter(|c| c.expect != Expect::Forward).count();
    assert!(refused(&requests()) >= 150);
    assert!(refused(&responses()) >= 50);
}

#[test]
fn names_are_unique_and_messages_differ() {
    let mut names = BTreeSet::new();
    let mut messages = BTreeSet::new();
    for case in all() {
        assert!(names.insert(case.name.clone()), "{} twice", case.name);
        let kind = format!("{:?} {:?} {}", case.kind, case.then, case.after_good);
        assert!(
            messages.insert((kind, case.bytes.clone())),
            "{} sends what another case sends",
            case.name
        );
    }
}

#[test]
fn every_clause_names_a_section() {
    for case in all() {
        let rest = case.clause.strip_prefix("RFC ");
        let (rfc, section) = rest.and_then(|rest| rest.split_once(" §")).unwrap_or_default();
        assert!(
            rfc.len() == 4 && rfc.bytes().all(|b| b.is_ascii_digit()),
            "{}: {}",
            case.name,
            case.clause
        );
        assert!(
            section.split('.').all(|n| n.parse::<u8>().is_ok()),
            "{}: {}",
            case.name,
            case.clause
        );
    }
}

#[test]
fn what_is_expected_fits_who_sends_it() {
    for case in all() {
        let response = matches!(case.kind, Kind::Response(_));
        match case.expect {
            Expect::Refused { status, .. } => {
                assert_eq!(response, status == 502, "{}", case.name);
                assert!(
                    case.forwarded.is_none() && case.tunnel.is_none(),
                    "{}: refused, yet forwarded",
                    case.name
                );
                assert!(
                    case.keeps.is_none() && case.reused.is_none(),
                    "{}: a refusal closes",
                    case.name
                );
            }
            Expect::Closed => assert!(!response, "{}", case.name),
            Expect::Forward => {
                assert!(
                    case.forwarded.is_some() || case.tunnel.is_some(),
                    "{}: says nothing about what is forwarded",
                    case.name
                );
                assert_eq!(case.reached, Reached::Nothing, "{}", case.name);
            }
        }
        assert!(!(response && case.after_good), "{}", case.name);
    }
}

#[test]
fn every_refusal_of_a_request_has_a_case() {
    let cases = all();
    let covered = |wanted: Reason| {
        cases.iter().any(
            |case| matches!(case.expect, Expect::Refused { reason, .. } if reason == Some(wanted)),
        )
    };
    // The reasons that speak of the form and the size of a message; a bad field value that is no
    // control character, a method and a request line are refused under more than one name.
    let form = Reason::ALL.iter().take_while(|reason| **reason != Reason::InFlight);
    let missing: Vec<_> =
        form.filter(|reason| !covered(**reason)).map(|reason| reason.label()).collect();
    assert_eq!(missing, ["request_line", "method", "field_value", "trailers"]);
}

#[test]
fn bytes_are_decoded() {
    let decode = |text| bytes::unescape(text).unwrap();
    assert_eq!(decode(r"a\r\n\t\0\\\x7fé"), b"a\r\n\t\0\\\x7f\xc3\xa9");
    assert_eq!(decode(r#"<{"a\r"*3}>{}{x}"#), b"<a\ra\ra\r>{}{x}");
    assert_eq!(decode(r#"{"a"*0}"{"bc"*1}""#), b"\"bc\"");
    for bad in [
        r"\q",
        r"\x1",
        r"\xg0",
        r"\",
        r"\x+1",
        r#"{"a"}"#,
        r#"{"a"*}"#,
        r#"{"a"*x}"#,
        r#"{"a"*2"#,
        r#"{"a"*9999999}"#,
    ] {
        assert!(bytes::unescape(bad).is_err(), "{bad}");
    }
}

#[test]
fn wrong_rows_are_found() {
    let load_one = |text: &str| load(&[("file", text)], |_| Ok(Kind::Request));
    let good =
        "[a]\nclause = \"RFC 9112 §5\"\nbytes = 'x{each}'\nexpect = \"400 nul\"\neach = 'ab'";
    let cases = load_one(good).unwrap();
    assert_eq!(cases.iter().map(|case| &case.name[..]).collect::<Vec<_>>(), ["a_61", "a_62"]);
    assert_eq!(cases[1].bytes, b"xb");
    for (from, to) in [
        ("nul", "null"),
        ("400 nul", "431 nul"),
        ("400 nul", "nul"),
        ("x{each}", "x"),
        ("'ab'", "'ab'\nsurprise = 1"),
        ("clause", "clauses"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(load_one(&bad).is_err(), "{bad}");
    }
}
