//! These tests prove that no address opens the relay: not without a login, not to a domain that the account leaves out,
//! and not as a second command at the server.

use support::exchange::*;

use crate::address_tricks::{ALLOWED, PASSED, REFUSED};
use crate::submission_exchange::{Scanner, proxy_with};

/// Paths with a line end in them, which are two commands or a broken one.
const BROKEN: &[&[u8]] = &[
    b"<in@contoso.example\rRCPT TO:<out@fabrikam.example>>",
    b"<in@contoso.example>\rRCPT TO:<out@fabrikam.example>",
    b"<in@contoso.example\r>",
    b"<\"in\rRCPT TO:<out@fabrikam.example>\"@contoso.example>",
];

/// Addresses of RFC 5321 §4.1.2 and §4.5.1, which the server hears as they are.
const VALID: &[&str] = &[
    "<out@fabrikam.example>",
    "<Out.Of-Office+tag=1@fabrikam.example>",
    "<!#$%&'*+-/=?^_`{|}~@fabrikam.example>",
    "<\"john.doe\"@fabrikam.example>",
    "<\"a..b.\"@fabrikam.example>",
    "<out@[192.0.2.1]>",
    "<out@[IPv6:2001:db8::1]>",
    "<out@xn--bcher-kva.example>",
    "<out@1.fabrikam.example>",
    "<out@host>",
    "<postmaster>",
    "<Postmaster@fabrikam.example>",
];

/// The lines that have reached the server with this verb.
fn at_server(exchange: &Exchange, verb: &str) -> Vec<String> {
    let commands = exchange.simulator.smtp_commands().into_iter().map(|command| command.line);
    commands.filter(|line| line.get(..verb.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(verb))).collect()
}

fn tries<'a>() -> impl Iterator<Item = &'a [u8]> {
    REFUSED.iter().chain(BROKEN).chain(PASSED.iter().map(|(path, _)| path)).copied()
}

/// Without a login nothing is dialled, whatever the address.
#[test]
fn a_stranger_reaches_nobody() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "");
    let mut stranger = Scanner::greeted(&proxy);
    let mut asked = 0;
    for path in tries() {
        for verb in ["MAIL FROM:", "RCPT TO:", "DATA"] {
            if asked == 8 {
                // packetboat ends a session after a few commands that are out of place.
                (stranger, asked) = (Scanner::greeted(&proxy), 0);
            }
            let path = if verb == "DATA" { b"" } else { path };
            stranger.0.send([verb.as_bytes(), path, b"\r\n"].concat());
            let answer = stranger.reply();
            let what = format!("{verb}{}: {answer}", path.escape_ascii());
            assert!(answer.starts_with("530 5.7.0 ") || answer.starts_with("50"), "{what}");
            asked += 1;
        }
    }
    assert_eq!(exchange.simulator.smtp_commands().len(), 0);
}

#[test]
fn a_device_reaches_its_own_domain_alone() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, &format!("recipients = [\"{ALLOWED}\"]\n"));
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    let long = format!("<{}@contoso.example>", "a".repeat(1000));
    for trick in REFUSED.iter().chain(BROKEN).chain([&long.as_bytes()]) {
        scanner.0.send([b"RCPT TO:", *trick, b"\r\n"].concat());
        let answer = scanner.reply();
        assert!(answer.starts_with('5'), "{}: {answer}", trick.escape_ascii());
        assert_eq!(at_server(&exchange, "RCPT").len(), 0, "{}", trick.escape_ascii());
    }
    // A bare LF ends a command, which then is judged by itself.
    scanner.0.send(format!("RCPT TO:<{SCAN}\n@other.example>\r\nRCPT TO:<user@other.example>\r\n"));
    for code in ["501", "500", "550"] {
        let answer = scanner.reply();
        assert!(answer.starts_with(code), "{code}: {answer}");
    }
    assert_eq!(at_server(&exchange, "RCPT").len(), 0);
    let mut expected = Vec::new();
    for (path, address) in PASSED {
        scanner.0.send([b"RCPT TO:", *path, b"\r\n"].concat());
        let answer = scanner.reply();
        expected.push(format!("RCPT TO:{address}"));
        assert_eq!(at_server(&exchange, "RCPT"), expected, "{}: {answer}", path.escape_ascii());
    }
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send("Subject: x\r\n\r\n.\r\n");
    assert!(scanner.reply().starts_with("250 "));
    let submissions = exchange.simulator.submissions();
    let outside = |one: &String| !one.to_ascii_lowercase().ends_with("@contoso.example");
    assert!(submissions.len() == 1 && !submissions[0].recipients.iter().any(outside), "{submissions:?}");
}

/// Where an account may mail the world, each address is refused or passes as one command with one address.
#[test]
fn no_address_becomes_a_command_of_its_own() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "");
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    let mut passed = 0;
    for trick in tries() {
        scanner.0.send([b"RCPT TO:", trick, b"\r\n"].concat());
        let answer = scanner.reply();
        let lines = at_server(&exchange, "RCPT");
        let what = format!("{}: {answer} {:?}", trick.escape_ascii(), lines.last());
        let new = lines.len() - passed;
        assert!(new == 1 || (new == 0 && answer.starts_with('5')), "{what}");
        passed = lines.len();
        if new == 1 {
            let path = lines.last().unwrap().strip_prefix("RCPT TO:<").unwrap();
            let address = path.split_once('>').map(|(address, rest)| (address, rest.is_empty()));
            let (address, is_all) = address.unwrap_or_else(|| panic!("{what}"));
            assert!(is_all && !address.contains(['<', ' ', ',']), "{what}");
        }
    }
    assert!(passed > 10, "{passed}");
    assert_eq!(at_server(&exchange, "MAIL").len(), 1);
    assert_eq!(exchange.simulator.counts().submissions.unknown_commands, 0);
}

#[test]
fn valid_addresses_pass_as_they_are() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "");
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    let long = format!("<{}@{}.example>", "l".repeat(64), ["d".repeat(60).as_str(); 2].join("."));
    for (number, path) in VALID.iter().copied().chain([long.as_str()]).enumerate() {
        let answer = scanner.ask(&format!("RCPT TO:{path}"));
        let lines = at_server(&exchange, "RCPT");
        assert_eq!(lines.get(number), Some(&format!("RCPT TO:{path}")), "{answer}");
    }
}
