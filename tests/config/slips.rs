//! Slips of the hand in the form of the file are told in words, and the correction that stands there works.

use super::{parse, problems};

const LISTENER: &str = "[[listener]]\nprotocol = \"imap\"\nobserve = true\n";

/// The wrong text, the line and the words of the message, and the text with the advice applied.
#[test]
fn a_slip_is_told_with_its_correction() {
    for (wrong, expected, right) in [
        (
            "[device]\nlogin = \"a\"\n",
            "test.toml:1: write [[device]], in double brackets, above every device",
            "[[device]]\nlogin = \"a\"\n",
        ),
        (
            "[device]\nlogin = \"a\"\n[device] # second floor\nlogin = \"b\"\n",
            "test.toml:3: write [[device]], in double brackets, above every device",
            "[[device]]\nlogin = \"a\"\n[[device]] # second floor\nlogin = \"b\"\n",
        ),
        (
            "[listener]\nprotocol = \"imap\"\nobserve = true\nlisten = [\"127.0.0.1:1143\"]\n",
            "test.toml:1: write [[listener]], in double brackets, above every listener",
            "[[listener]]\nprotocol = \"imap\"\nobserve = true\nlisten = [\"127.0.0.1:1143\"]\n",
        ),
        (
            &format!("{LISTENER}port = 1143\n"),
            "test.toml:4: unknown key `port`; address and port stand in one key: listen = [\"0.0.0.0:1143\"]",
            &format!("{LISTENER}listen = [\"0.0.0.0:1143\"]\n"),
        ),
        (
            "[upstream.exchange]\nimap_port =\n",
            "test.toml:2: `imap_port` has no value: write one behind the =, or put # in front of the line",
            "[upstream.exchange]\n# imap_port =\n",
        ),
        (
            "[upstream.exchange]\nhost = # later\n",
            "test.toml:2: `host` has no value",
            "[upstream.exchange]\nhost = \"mail.example\" # later\n",
        ),
        (
            "[log]\nlevel = \u{201c}info\u{201d}\n",
            "test.toml:2: has typographic quotation marks: replace them by the plain ones, as \"...\"",
            "[log]\nlevel = \"info\"\n",
        ),
        (
            "[log]\nlevel = \u{201e}info\u{201c}\n",
            "test.toml:2: has typographic quotation marks",
            "[log]\nlevel = \"info\"\n",
        ),
        ("[log]\nlevel = info\n", "test.toml:2: `level`: a text stands in quotes", "[log]\nlevel = \"info\"\n"),
    ] {
        let told = problems(wrong);
        assert!(told.len() == 1 && told[0].contains(expected), "{wrong}: {told:?}");
        parse_form(right);
    }
}

#[test]
fn a_name_with_a_space_is_told_how_names_are_made() {
    let rest = "tenant = \"contoso.example\"\nclient_id = \"6731de76-14a6-49ae-97bc-6eba6914391e\"\n\
                client_secret_file = \"/s\"\n[account.x]\nmailbox = \"x@y.example\"\n";
    for name in ["second floor", "B\u{fc}ro", "scans@y"] {
        let told = problems(&format!("[identity.{name}]\n{rest}"));
        assert!(told[0].contains("test.toml:1: a name is made of letters, digits, - and _"), "{told:?}");
        let name = told[0].rsplit_once("[identity.").and_then(|(_, rest)| rest.split(']').next()).unwrap();
        assert!(parse(&format!("[identity.{name}]\n{rest}")).identities.contains_key(name));
    }
}

/// The keys of the documented file whose default is a number, each with the heading of its section.
fn numbers() -> Vec<(String, String)> {
    let (mut heading, mut keys) = (String::new(), Vec::new());
    for line in super::DOCUMENTED.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') && line.ends_with(']') {
            heading = line.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(_, value)| value.parse::<i64>().is_ok()) {
            keys.push((heading.clone(), key.to_owned()));
        }
    }
    assert!(keys.len() > 20, "{keys:?}");
    keys
}

/// A number in quotes, one with a unit, one that is too large and one that is not whole are four mistakes, and the message
/// says which.
#[test]
fn a_number_that_is_none_is_told_why() {
    let mut ranges = 0;
    for (heading, key) in numbers() {
        let is_size = ["max_message_size", "max_size", "line", "sasl_line", "literal"].contains(&key.as_str());
        let quotes = if is_size {
            "it is a number, without quotes and without a unit: a size is in octets"
        } else {
            "it is a number, without quotes"
        };
        let unit = if is_size {
            "it is a number, without quotes and without a unit: a size is in octets"
        } else {
            "a number has no unit"
        };
        for (value, words) in [
            ("\"300\"", quotes),
            ("\"150M\"", quotes),
            ("300M", unit),
            ("300 KiB", unit),
            ("2GB", unit),
            ("9223372036854775808", "the number is too large for this key"),
            ("99999999999999999999999999", "the number is too large for this key"),
            ("999999999999999999999999999999999999999999999999", "the number is too large for this key"),
            ("1.5", "it is a whole number, without a decimal point"),
            ("9223372036854775807", "is not between "),
        ] {
            let told = problems(&format!("{heading}\n{key} = {value}\n"));
            // The form is right here, and so the section's other keys are looked for first.
            if words == "is not between " && told.iter().any(|one| one.contains("is missing")) {
                continue;
            }
            ranges += usize::from(words == "is not between ");
            let of_key = told
                .iter()
                .find(|one| one.contains(&key))
                .unwrap_or_else(|| panic!("{heading} {key} = {value}: {told:?}"));
            assert!(of_key.contains(words), "{heading} {key} = {value}: {told:?}");
        }
    }
    assert!(ranges > 15, "{ranges}");
}

/// A duration beyond every number is too long, and not written wrongly.
#[test]
fn a_duration_that_is_too_long_is_told_so() {
    for value in ["99999999999999999999999s", "9999999999999999999d", "25h"] {
        let told = problems(&format!("[limits]\nlogin_timeout = \"{value}\"\n"));
        assert!(told[0].contains("must be more than nothing and no more than a day"), "{value}: {told:?}");
    }
}

/// A value is never repeated: it may be a password in the wrong place.
#[test]
fn no_value_is_repeated() {
    for text in ["[admin]\nhunter2 =\n", "hunter2 = hunter3\n", "[log]\nlevel = \u{201c}hunter2\u{201d}\n"] {
        let told = problems(text).join("\n");
        assert!(!told.contains("hunter"), "{told}");
    }
}

/// The form is right; what the file lacks otherwise is another matter.
fn parse_form(text: &str) {
    let Err(told) = packetboat::config::Config::parse(text, std::path::Path::new("test.toml")) else { return };
    let of_form = ["double brackets", "one key", "has no value", "typographic", "in quotes", "expected"];
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert!(!told.iter().any(|one| of_form.iter().any(|words| one.contains(words))), "{text}: {told:?}");
}
