//! These tests prove that an operator gets weak settings, such as a PIN, only by asking for them explicitly.

use std::io::Write;
use std::process::{Command, Stdio};

use support::exchange::{self, BY_SECRET, Exchange, LOGIN, Ran, SCAN};
use support::imap::status;

fn password(arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.arg("password").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not take its arguments ends without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::of(child.wait_with_output().unwrap())
}

/// `[account.scans]` with a device of this hash, and additional lines.
fn device(hash: &str, more: &str) -> String {
    let account = exchange::account("scans", SCAN, "");
    let before = account.split("\npasswords = ").next().unwrap().to_owned();
    before + &format!("\npasswords = [\"{hash}\"]\n{more}\n")
}

#[test]
fn a_short_password_needs_a_flag_and_networks() {
    let refused = password(&["--stdin"], "4711\n");
    assert!(refused.code == 64 && refused.errors.contains("--allow-short"), "{}", refused.errors);
    assert_eq!(password(&["--allow-short"], "4711\n").code, 64, "it is for a password that there is");
    let made = password(&["--stdin", "--allow-short"], "4711\n");
    assert!(made.code == 0 && made.errors.contains("warning: ") && made.errors.contains("networks"), "{}", made.errors);
    let hash = made.output.trim();
    assert_eq!(made.output.lines().count(), 1, "{}", made.output);
    // A long password needs no exception.
    let long = password(&["--stdin", "--allow-short"], "k7m2xp9at\n");
    assert!(long.errors.is_empty() && !long.output.contains("data="), "{}{}", long.output, long.errors);

    let exchange = Exchange::new();
    for networks in ["", "networks = [\"0.0.0.0/0\"]"] {
        let text = exchange.configured(BY_SECRET, &device(hash, networks));
        let line = text.lines().position(|line| line == "[[device]]").unwrap() + 2;
        for command in ["check", "run"] {
            let ran = exchange.run(&[command], &text);
            assert_eq!(ran.code, 78, "{command} {networks}");
            assert!(
                ran.errors.contains(&format!(":{line}: device.{LOGIN}.networks: is missing or open")),
                "{}",
                ran.errors
            );
        }
    }
    let networks = "networks = [\"127.0.0.1/32\"]";
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &device(hash, networks)));
    let login = |password: &str| status(&exchange::imap(&proxy).command(&format!("LOGIN {LOGIN} {password}")));
    assert!(login("4711").starts_with("OK "), "{}", proxy.log.all());
    assert!(login("4712").starts_with("NO "));
    // Without its mark the hash matches no password, so that the networks cannot be bypassed.
    proxy.configure(&exchange.configured(BY_SECRET, &device(&hash.replace(",data=c2hvcnQ", ""), "")));
    assert_eq!(proxy.reload().0, 0);
    assert!(login("4711").starts_with("NO "));
    proxy.configure(&exchange.configured(BY_SECRET, &device(hash, "")));
    let (code, said) = proxy.reload();
    assert!(code == 69 && said.contains("is missing or open to the world"), "{said}");
}

/// Old devices send such characters in their own encoding, or not at all.
#[test]
fn characters_beyond_ascii_draw_a_warning() {
    let umlaut = password(&["--stdin"], "M\u{fc}llerstra\u{df}e\n");
    assert!(
        umlaut.code == 0 && umlaut.errors.contains("warning: ") && umlaut.errors.contains("Latin-1"),
        "{}",
        umlaut.errors
    );
    assert_eq!(umlaut.output.lines().count(), 1);
    assert_eq!(password(&["--stdin"], "k7m2xp9at\n").errors, "");
    let exchange = Exchange::new();
    let account = exchange::account("scans", SCAN, "");
    for named in ["login = \"b\u{fc}ro\"", "login = \"scanner3\"\naliases = [\"b\u{fc}ro\"]"] {
        let text = exchange.configured(BY_SECRET, &account.replace(&format!("login = \"{LOGIN}\""), named));
        let line = text.lines().position(|line| line.contains("b\u{fc}ro")).unwrap() + 2;
        let ran = exchange.run(&["check"], &text);
        let warning = format!(":{line}: device.login: has characters beyond ASCII");
        assert!(ran.code == 0 && ran.errors.contains(&warning), "{}", ran.errors);
    }
    assert!(!exchange.run(&["check"], &exchange.configured(BY_SECRET, &account)).errors.contains("beyond ASCII"));
}

/// Warm connections would have to wait in the middle of a greeting in clear.
#[test]
fn warm_connections_with_starttls_are_refused_by_every_command() {
    let exchange = Exchange::new();
    let well = exchange.configuration(BY_SECRET);
    let warm =
        well.replace("[upstream.exchange]\n", "[upstream.exchange]\nwarm_connections = 2\nsecurity = \"starttls\"\n");
    let expected = "upstream.exchange.warm_connections: needs security = \"implicit\"";
    for command in ["check", "run"] {
        let ran = exchange.run(&[command], &warm);
        assert!(ran.code == 78 && ran.errors.contains(expected), "{}", ran.errors);
    }
    let proxy = exchange.proxy(&well);
    proxy.configure(&warm);
    let (code, said) = proxy.reload();
    assert!(code != 0 && said.contains(expected), "{said}");
}
