//! These tests prove that no message repeats a value: a password in the wrong place, form or quotes stays secret under
//! every key.

use std::path::Path;

use packetboat::config::{Config, Environment};

use super::DOCUMENTED;

const SECRET: &str = "Tr0ub4dor&3xyz";
const NUMBER: &str = "9876543210";

/// Every key of the documented file, with the heading of its section.
fn keys() -> Vec<(String, String)> {
    let (mut heading, mut keys) = (String::new(), Vec::new());
    for line in DOCUMENTED.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') && line.split('#').next().unwrap().trim_end().ends_with(']') {
            heading = line.split('#').next().unwrap().trim().to_owned();
        } else {
            let is_key =
                |key: &&str| key.bytes().all(|octet| octet.is_ascii_lowercase() || b"_0123456789".contains(&octet));
            // A comment may begin like a key, and goes on with words.
            let is_line = line.ends_with(" = [") || line.parse::<toml::Table>().is_ok();
            let key = line.split_once(" = ").map(|(key, _)| key).filter(is_key).filter(|_| is_line);
            keys.extend(key.map(|key| (heading.clone(), key.to_owned())));
        }
    }
    assert!(keys.len() > 80, "{}", keys.len());
    keys
}

/// The fuzzer begins with a file that has every key.
#[test]
fn the_fuzzers_seed_has_every_key() {
    let seed: toml::Table = include_str!("../fuzz/seeds/configuration/every-key").parse().unwrap();
    for (heading, key) in keys() {
        let mut section = &toml::Value::Table(seed.clone());
        for name in heading.trim_matches(['[', ']']).split('.').filter(|name| !name.is_empty()) {
            section = section.get(name).unwrap_or_else(|| panic!("the seed lacks {heading}"));
            // The first of several has all keys.
            section = section.get(0).unwrap_or(section);
        }
        assert!(section.get(&key).is_some(), "the seed lacks {key} in {heading}");
    }
}

/// All messages about this file, and whether the file is refused.
fn told(text: &str, environment: &[(&'static str, String)]) -> (String, bool) {
    let told = Config::parse_with(text, Path::new("test.toml"), &Environment(environment.to_vec()));
    let is_refused = told.is_err();
    let problems = told.map_or_else(|problems| problems, |proven| proven.warnings);
    (problems.iter().map(|problem| format!("{problem}\n")).collect(), is_refused)
}

#[track_caller]
fn is_kept(text: &str) -> (String, bool) {
    let (told, is_refused) = told(text, &[]);
    for part in ["Tr0ub", "tr0ub", "4dor", "98765", "43210"] {
        assert!(!told.contains(part), "{text}\n{told}");
    }
    (told, is_refused)
}

#[test]
fn a_value_of_another_form() {
    for (heading, key) in keys() {
        for value in [
            format!("\"{SECRET}\""),
            format!("'{SECRET}'"),
            format!("\"\"\"\n{SECRET}\"\"\""),
            format!("[\"{SECRET}\"]"),
            format!("[\n  \"{SECRET}\",\n  \"login = {SECRET}\"\n]"),
            format!("[[\"{SECRET}\"]]"),
            format!("{{ a = \"{SECRET}\" }}"),
            format!("{{ {key} = \"{SECRET}\" }}"),
            format!("\"$argon2id$v=19$m=1,t=1,p=1${SECRET}\""),
            format!("\"x@y.example {SECRET}\""),
            format!("\"https://{SECRET}/\""),
            NUMBER.to_owned(),
            format!("-{NUMBER}"),
            format!("[{NUMBER}]"),
            format!("{NUMBER}{NUMBER}"),
            format!("{NUMBER}.5"),
        ] {
            let (told, is_refused) = is_kept(&format!("{heading}\n{key} = {value}\n"));
            // A message without the value still names the place.
            assert!(
                !is_refused || told.contains("test.toml:") || told.contains("is missing"),
                "{key} = {value}\n{told}"
            );
        }
    }
}

#[test]
fn a_value_without_its_quotes_or_brackets() {
    for (heading, key) in keys() {
        for line in [
            format!("{key} = {SECRET}"),
            format!("{key} = \"{SECRET}"),
            format!("{key} = {SECRET}\""),
            format!("{key} = '{SECRET}"),
            format!("{key} = [\"{SECRET}\""),
            format!("{key} = [\"{SECRET}"),
            format!("{key} = [{SECRET}]"),
            format!("{key} = \"{SECRET}\"]"),
            format!("{key} = \"\"\"{SECRET}\n"),
            format!("{key} = \"{SECRET}\" {SECRET}"),
            format!("{key} = \"\\{SECRET}\""),
            format!("{key} = \"{SECRET}\u{1}\""),
            format!("{key} = {NUMBER}x"),
            format!("{key} = {{ {SECRET}"),
            format!("{key} \"{SECRET}\""),
            format!("{key}: \"{SECRET}\""),
            format!("{key} == \"{SECRET}\""),
            format!("\"{SECRET}\""),
            SECRET.to_owned(),
            format!("{key} = \"{SECRET}\"\n{key} = \"{SECRET}\""),
        ] {
            let (told, is_refused) = is_kept(&format!("{heading}\n{line}\n"));
            assert!(is_refused && told.starts_with("test.toml:"), "{line}\n{told}");
        }
    }
}

#[test]
fn a_value_in_the_wrong_place() {
    let keys = keys();
    let mut headings: Vec<&str> = keys.iter().map(|(heading, _)| heading.as_str()).collect();
    headings.dedup();
    for heading in headings {
        for (_, key) in &keys {
            is_kept(&format!("{heading}\n{key} = \"{SECRET}\"\n"));
            is_kept(&format!("{heading}\n{} = \"{SECRET}\"\n", key.to_uppercase()));
            is_kept(&format!("{heading}\n{key}.x = \"{SECRET}\"\n"));
        }
        for line in [format!("\"{SECRET}\" = 1"), format!("\"{SECRET}\".x = 1"), format!("Tr0ub4dor = {NUMBER}")] {
            let (told, is_refused) = is_kept(&format!("{heading}\n{line}\n"));
            assert!(is_refused && told.contains("test.toml:2: unknown key"), "{told}");
        }
        is_kept(&format!("{heading}\n[\"{SECRET}\"]\n"));
        is_kept(&format!("{heading}\n[[\"{SECRET}\"]]\n"));
    }
}

#[test]
fn a_value_in_the_environment() {
    for name in Environment::VARIABLES {
        let (told, is_refused) = told("", &[(name, SECRET.to_owned())]);
        // This variable takes a bare name as a directory.
        let is_taken = name == "PACKETBOAT_STATE_DIRECTORY";
        assert!(is_taken || is_refused && told.starts_with(&format!("environment variable {name}: ")), "{told}");
        assert!(!told.contains("Tr0ub"), "{told}");
    }
}

/// Each message has the cure instead: line, key, and the right form.
#[test]
fn likely_mistakes_are_reported_with_a_fix() {
    let device = format!("[[device]]\nlogin = \"scanner3\"\npasswords = '{SECRET}'\n");
    let list = "a list stands in brackets, as [\"...\"]";
    for (text, expected) in [
        (device.clone(), format!("test.toml:3: passwords: {list}")),
        (
            device.replace('\'', "").replace(SECRET, &format!("[{NUMBER}]")),
            "test.toml:3: passwords: a text stands in quotes".to_owned(),
        ),
        (
            format!("[identity.o]\nclient_secret_file = \"{SECRET}\"\n"),
            "test.toml:2: identity.o.client_secret_file: is no path of a file that is there: write the whole path"
                .to_owned(),
        ),
        (format!("[admin]\ntoken_file = \"{SECRET}\"\n"), "test.toml:2: admin.token_file: is no path".to_owned()),
        (
            format!("[admin]\ntechnician_token_file = \"{SECRET}\"\n"),
            "test.toml:2: admin.technician_token_file: is no path".to_owned(),
        ),
        (format!("[limits]\nline = \"{SECRET}\"\n"), "test.toml:2: line: it is a number, without quotes".to_owned()),
        (format!("[log]\npseudonyms = \"{SECRET}\"\n"), "test.toml:2: pseudonyms: it is true or false".to_owned()),
        (format!("[account]\na = \"{SECRET}\"\n"), "test.toml:2: write a section with a name".to_owned()),
        (
            format!("[account.a]\npasword_file = \"{SECRET}\"\n"),
            "test.toml:2: unknown key `pasword_file`; did you mean `password_file`?".to_owned(),
        ),
    ] {
        let (told, _) = is_kept(&text);
        assert!(told.contains(&expected), "{text}\n{told}");
    }
}
