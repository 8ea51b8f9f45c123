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
    let line = span.as_ref().and_then(|span| text.lines().nth(line_of(text, span).saturating_sub(1)));
    let line = line.unwrap_or_default().trim();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return port_of_listener(rest, line).unwrap_or_else(|| unknown_key(rest));
    }
    if let Some(kind) = single_brackets(line) {
        return format!("write [[{kind}]], in double brackets, above every {kind}");
    }
    if !SERDES.iter().any(|words| message.starts_with(words)) {
        // The grammar's own words, which name no value.
        return slip(line).unwrap_or_else(|| message.trim_end().replace('\n', "; "));
    }
    // A value may hold these words, too: what was expected stands behind it.
    let expected = message.rsplit_once(", expected ").map_or(message, |(_, expected)| expected);
    let key = span.and_then(|span| key_at(text, &span));
    let advice = match of_number(message, expected, key) {
        Some(advice) => advice,
        None => ADVICE.iter().find(|(word, _)| expected.contains(word)).map_or(OTHERWISE, |(_, advice)| advice),
    };
    match key {
        Some(key) => format!("{key}: {advice}"),
        None => advice.to_owned(),
    }
}

/// The advice where a number was expected. Quotes are one mistake of several.
fn of_number(message: &str, expected: &str, key: Option<&str>) -> Option<&'static str> {
    if message.starts_with(OVERFLOW) {
        return Some(TOO_LARGE);
    }
    if !expected.contains("i64") {
        return None;
    }
    let is = |kind: &str| {
        ["invalid type: ", "invalid value: "]
            .iter()
            .any(|begin| message.strip_prefix(begin).is_some_and(|rest| rest.starts_with(kind)))
    };
    Some(match key {
        _ if is("integer") => TOO_LARGE,
        _ if is("floating point") => "it is a whole number, without a decimal point",
        Some(key) if SIZES.contains(&key) => SIZE,
        _ => "it is a number, without quotes",
    })
}

/// A number with a unit behind it and no quotes.
fn with_unit(key: &str, value: &str) -> Option<&'static str> {
    let rest = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_' || c == '.');
    let unit = rest.trim_start();
    let is_unit = !unit.is_empty() && unit.len() <= 7 && unit.chars().all(|c| c.is_ascii_alphabetic());
    if rest.len() == value.len() || !is_unit {
        return None;
    }
    Some(if SIZES.contains(&key) { SIZE } else { "a number has no unit; a duration stands in quotes, as \"30s\"" })
}

/// The slip in a line that is no TOML, in words.
fn slip(line: &str) -> Option<String> {
    let code = line.split('#').next().unwrap_or_default().trim();
    if code.contains(TYPOGRAPHIC) {
        return Some("has typographic quotation marks: replace them by the plain ones, as \"...\"".to_owned());
    }
    if let Some(heading) = code.strip_prefix('[') {
        let (kind, name) = heading.trim_start_matches('[').split_once('.')?;
        let name = name.trim_end_matches(']');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.\"'".contains(c);
        let is_named = NAMED.contains(&kind) && !name.contains(['"', '\'']) && !name.chars().all(is_plain);
        return is_named.then(|| {
            format!("a name is made of letters, digits, - and _, without spaces or umlauts, as [{kind}.second-floor]")
        });
    }
    let (key, value) = code.split_once('=')?;
    let key = key.trim();
    let shown = if known_keys().iter().any(|known| known == key) { format!("`{key}`") } else { "the key".to_owned() };
    if value.trim().is_empty() {
        return Some(format!("{shown} has no value: write one behind the =, or put # in front of the line"));
    }
    if let Some(advice) = with_unit(key, value.trim()) {
        return Some(format!("{shown}: {advice}"));
    }
    let begins_as_text = |c: char| c.is_alphabetic() || c == '/';
    let is_bare = value.trim().starts_with(begins_as_text) && !value.contains(['"', '\'']);
    is_bare.then(|| format!("{shown}: a text stands in quotes, as \"...\""))
}

/// The kind of section whose heading has single brackets and needs double ones.
fn single_brackets(line: &str) -> Option<&'static str> {
    let heading = line.split('#').next().unwrap_or_default().trim();
    let kind = heading.strip_prefix('[')?.strip_suffix(']')?.trim();
    ["device", "listener"].into_iter().find(|one| *one == kind)
}

/// A port that stands in a key of its own at a listener.
fn port_of_listener(rest: &str, line: &str) -> Option<String> {
    let (unknown, known) = rest.split_once("`, expected ")?;
    let has = |key: &str| known.contains(&format!("`{key}`"));
    let is_listener = has("listen") && has("protocol");
    if !is_listener || !["port", "ports", "address"].contains(&unknown) {
        return None;
    }
    let value = line.split('#').next().and_then(|code| code.split_once('=')).map_or("", |(_, value)| value.trim());
    let port = value.parse::<u16>().unwrap_or(993);
    Some(format!("unknown key `{unknown}`; address and port stand in one key: listen = [\"0.0.0.0:{port}\"]"))
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
const SERDES: [&str; 10] = [
    OVERFLOW,
    "floating-point number overflowed",
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
const ADVICE: [(&str, &str); 7] = [
    ("a sequence", "a list stands in brackets, as [\"...\"]; a listener in double ones: [[listener]]"),
    ("a string", "a text stands in quotes; a duration as \"30s\""),
    ("path string", "a path stands in quotes, as \"/etc/packetboat/NAME\""),
    ("a boolean", "it is true or false, without quotes"),
    ("a map", SECTION),
    ("struct", SECTION),
    ("enum Day", "it is a day, written as \"2027-11-21\""),
];
/// The words of the toml crate for an integer with more digits than it reads.
const OVERFLOW: &str = "integer number overflowed";
const TOO_LARGE: &str = "the number is too large for this key";
/// The keys whose number is one of octets.
const SIZES: [&str; 5] = ["max_message_size", "max_size", "line", "sasl_line", "literal"];
const SIZE: &str = "it is a number, without quotes and without a unit: a size is in octets, and 150 MiB is 157286400";
const SECTION: &str = "write a section with a name, as [upstream.NAME]";
const OTHERWISE: &str = "it has another form than this key takes";
const SECTIONS: [&str; 14] = [
    "",
    "[log]",
    "[admin]",
    "[inventory]",
    "[limits]",
    "[submission]",
    "[spool]",
    "[certificate.x]",
    "[upstream.x]",
    "[upstream.x.imap]",
    "[[listener]]",
    "[[device]]",
    "[account.x]",
    "[identity.x]",
];
const UNKNOWN: &str = "no_such_key";
/// Sections that have a name.
const NAMED: [&str; 4] = ["account", "certificate", "identity", "upstream"];
/// Quotation marks that text programs put in place of the plain ones.
const TYPOGRAPHIC: [char; 9] =
    ['\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}'];

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
