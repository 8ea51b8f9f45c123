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
