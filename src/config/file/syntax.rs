//! Mistakes in the form of the file, in a person's words. The words of the crates that read it would repeat values, and
//! a value that stands in the wrong place or form may be a password: only keys, and what the crates expected, are
//! passed on.
//!
//! The toml crate hands on serde's errors as text alone: this file tells them apart by their words.

use std::ops::Range;

use super::{File, line_of, nearest};

/// The mistake, and the correction. An unknown key is told with the nearest known one; a value of another form with
/// its key and how it is written.
pub(super) fn explain(message: &str, text: &str, span: Option<Range<usize>>) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(rest);
    }
    if !SERDES.iter().any(|words| message.starts_with(words)) {
        // The grammar's own words, which name no value.
        return message.trim_end().replace('\n', "; ");
    }
    // A value may hold these words, too: what was expected stands behind it.
    let expected = message.rsplit_once(", expected ").map_or(message, |(_, expected)| expected);
    let advice = ADVICE.iter().find(|(word, _)| expected.contains(word)).map_or(OTHERWISE, |(_, advice)| advice);
    match span.and_then(|span| key_at(text, &span)) {
        Some(key) => format!("{key}: {advice}"),
        None => advice.to_owned(),
    }
}

/// ``KEY`, expected one of `KNOWN`, ...``
fn unknown_key(rest: &str) -> String {
    let Some((unknown, known)) = rest.split_once("`, expected ") else { return "unknown key".to_owned() };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    // A text that looks like none of our keys may be a misplaced value.
    let is_key = !unknown.is_empty() && unknown.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
    match nearest(unknown, known.iter().copied()) {
        Some(near) if is_key || is_almost(unknown, near) => format!("unknown key `{unknown}`; did you mean `{near}`?"),
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None if is_key => format!("unknown key `{unknown}`; known here are {}", known.join(", ")),
        None => format!("unknown key; known here are {}", known.join(", ")),
    }
}

/// A known key in other letters, or with something behind it.
fn is_almost(unknown: &str, known: &str) -> bool {
    let bare = unknown.to_ascii_lowercase().replace('-', "_");
    bare.trim_end_matches(|c: char| c.is_ascii_digit()) == known
}

/// The known key that a value belongs to: on its line, or above it where the value has several lines.
fn key_at<'t>(text: &'t str, span: &Range<usize>) -> Option<&'t str> {
    let known = known_keys();
    let lines: Vec<&str> = text.lines().take(line_of(text, span)).collect();
    let above = lines.into_iter().rev().take_while(|line| !line.trim_start().starts_with('['));
    above.filter_map(|line| Some(line.split_once('=')?.0.trim())).find(|key| known.iter().any(|known| known == key))
}

/// The keys that serde lists where it finds an unknown one.
fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    for section in SECTIONS {
        let Err(error) = toml::from_str::<File>(&format!("{section}\n? = 1").replace('?', UNKNOWN)) else { continue };
        keys.extend(error.message().split('`').skip(1).step_by(2).filter(|key| *key != UNKNOWN).map(str::to_owned));
    }
    keys
}

/// Messages of serde's, which repeat values. (`serde::de::Error`)
const SERDES: [&str; 8] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "data did not match",
];
/// Expected forms by serde's word for them, and the advice for each.
const ADVICE: [(&str, &str); 8] = [
    ("a sequence", "a list stands in brackets, as [\"...\"]; a listener in double ones: [[listener]]"),
    ("a string", "a text stands in quotes; a duration as \"30s\""),
    ("path string", "a path stands in quotes, as \"/etc/packetboat/NAME\""),
    ("a boolean", "it is true or false, without quotes"),
    ("i64", "it is a number, without quotes"),
    ("a map", SECTION),
    ("struct", SECTION),
    ("enum Day", "it is a day, written as \"2027-11-21\""),
];
const SECTION: &str = "write a section with a name, as [upstream.NAME]";
const OTHERWISE: &str = "it has another form than this key takes";
const SECTIONS: [&str; 12] = [
    "",
    "[log]",
    "[admin]",
    "[inventory]",
    "[limits]",
    "[certificate.x]",
    "[upstream.x]",
    "[upstream.x.imap]",
    "[[listener]]",
    "[[device]]",
    "[account.x]",
    "[identity.x]",
];
const UNKNOWN: &str = "no_such_key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_repeated_whatever_they_hold() {
        for (message, expected) in [
            ("invalid type: string \"a, expected i64\", expected a sequence", "a list stands in brackets"),
            ("invalid type: integer `9876543210`, expected a string", "a text stands in quotes"),
            ("invalid value: string \"hunter2\", expected something new", "it has another form"),
            ("unknown variant `hunter2`, expected `a` or `b`", "it has another form"),
            ("data did not match any variant of untagged enum Day", "it is a day"),
            (
                "unknown field `Tr0ub4dor&3`, expected one of `login`, `passwords`",
                "unknown key; known here are login, passwords",
            ),
            (
                "unknown field `pasword`, expected one of `login`, `passwords`",
                "unknown key `pasword`; did you mean `passwords`?",
            ),
            (
                "unknown field `Login`, expected one of `login`, `passwords`",
                "unknown key `Login`; did you mean `login`?",
            ),
            ("unclosed array, expected `]`", "unclosed array, expected `]`"),
        ] {
            let told = explain(message, "", None);
            assert!(told.starts_with(expected), "{message}: {told}");
        }
    }

    #[test]
    fn a_key_is_repeated_and_a_value_that_looks_like_one_is_not() {
        let text = "[[device]]\npasswords = [\n  \"login = x\",\n  5,\n]\n";
        let at = |what: &str| text.find(what).map(|at| at..at + 1);
        assert_eq!(at("5,").and_then(|span| key_at(text, &span)), Some("passwords"));
        assert_eq!(key_at("s3cret = 5\n", &(9..10)), None);
        assert_eq!(key_at("[log]\nlevel = 5\n", &(14..15)), Some("level"));
    }
}
