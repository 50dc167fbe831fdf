//! Regular expressions that match a whole value.
//!
//! Each is one deterministic automaton, built once: matching reads every byte once, allocates
//! nothing, and takes as long for hostile input as for any other.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::Error;
use regex_syntax::hir::{Hir, HirKind, Look};

/// A regular expression in the syntax of the `regex` crate, without Unicode classes: what it is
/// matched against are bytes. It matches a whole value, never a part of one.
#[derive(Clone)]
pub struct Pattern {
    source: Box<str>,
    dfa: Arc<dense::DFA<Vec<u32>>>,
    /// What every match begins with, as far as that is plain text.
    prefix: Box<[u8]>,
}

impl Pattern {
    /// Bytes that an automaton may take. Patterns of paths need a few KiB; what needs more is a
    /// mistake, like a large repetition of anything in the middle.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Builds a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it: its syntax, or that it would take more than [`Pattern::MAX_BYTES`].
    pub fn new(source: &str) -> Result<Self, String> {
        let config = syntax::Config::new().unicode(false).utf8(false);
        let hir = syntax::parse_with(source, &config).map_err(|error| cause(&error))?;
        let prefix = literal_prefix(&hir).into();
        let whole = Hir::concat([hir, Hir::look(Look::End)].into());
        let too_large = |()| format!("its automaton is larger than {} bytes", Self::MAX_BYTES);
        let nfa = thompson::Compiler::new()
            .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(Self::MAX_BYTES)))
            .build_from_hir(&whole)
            .map_err(|_| too_large(()))?;
        let limits = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(Self::MAX_BYTES))
            .determinize_size_limit(Some(Self::MAX_BYTES));
        let dfa = dense::Builder::new()
            .configure(limits)
            .build_from_nfa(&nfa)
            .map_err(|_| too_large(()))?;
        Ok(Pattern { source: source.into(), dfa: Arc::new(dfa), prefix })
    }

    /// Does it match all of `value`?
    pub fn is_match(&self, value: &[u8]) -> bool {
        let input = Input::new(value).anchored(Anchored::Yes);
        // A search gives up on bytes that were declared special, and none were.
        matches!(self.dfa.try_search_fwd(&input), Ok(Some(_)))
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What everything that it matches begins with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

/// What is wrong, without the drawing of where.
fn cause(error: &Error) -> String {
    match error {
        Error::Parse(error) => error.kind().to_string(),
        Error::Translate(error) => error.kind().to_string(),
        _ => "it is none".to_string(),
    }
}

/// The plain text at the front.
fn literal_prefix(hir: &Hir) -> Vec<u8> {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.to_vec(),
        HirKind::Capture(capture) => literal_prefix(&capture.sub),
        HirKind::Concat(parts) => {
            let mut prefix = Vec::new();
            for part in parts {
                match part.kind() {
                    HirKind::Literal(literal) => prefix.extend_from_slice(&literal.0),
                    HirKind::Look(Look::Start) => {}
                    _ => break,
                }
            }
            prefix
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str) -> Pattern {
        Pattern::new(source).expect(source)
    }

    #[test]
    fn a_pattern_matches_the_whole_value() {
        for (source, yes, no) in [
            ("/a+", &["/a", "/aaa"][..], &["", "/", "/ab", "x/a", "/a\n"][..]),
            ("/a|/b", &["/a", "/b"], &["/a/b", "/ab", "//b"]),
            ("^/a$", &["/a"], &["/a/", "//a"]),
            ("", &[""], &["a"]),
            ("/users/[0-9]+(/.*)?", &["/users/1", "/users/22/x/y"], &["/users/", "/users/1x"]),
            (r"/\w+", &["/abc_1"], &["/a-b", "/\u{e9}"]),
            ("(?i)/api", &["/API", "/api"], &["/ap"]),
            ("(?x) /a # with a comment", &["/a"], &["/a "]),
            ("/a*?", &["/", "/aaa"], &["/b"]),
            ("(?-u).*", &["/\u{e9}", ""], &["a\nb"]),
        ] {
            let pattern = pattern(source);
            for value in yes {
                assert!(pattern.is_match(value.as_bytes()), "{source} matches {value:?}");
            }
            for value in no {
                assert!(!pattern.is_match(value.as_bytes()), "{source} does not match {value:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for (source, said) in [
            ("/(a", "unclosed group"),
            ("[b-a]", "invalid character class range"),
            ("a{3,2}", "invalid repetition count range"),
            (r"\pL", "Unicode not allowed here"),
            ("[a-z]*x.{40}", "its automaton is larger than 1048576 bytes"),
        ] {
            let error = Pattern::new(source).expect_err(source);
            assert!(error.contains(said) && !error.contains('\n'), "{source}: {error}");
        }
    }

    #[test]
    fn the_prefix_is_what_every_match_begins_with() {
        for (source, prefix) in [
            ("/a/b[0-9]", "/a/b"),
            ("^/a", "/a"),
            ("(/a)", "/a"),
            ("/a|/b", ""),
            ("/ab?", "/a"),
            ("(?i)/A", "/"),
            (".*", ""),
        ] {
            assert_eq!(pattern(source).prefix(), prefix.as_bytes(), "{source}");
        }
    }
}
