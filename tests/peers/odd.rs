//! These tests prove that unusual commands of devices work: marks before them, blanks around names, no padding,
//! arguments of maximum length.
//!
//! Devices may also close their half after the last command.

use std::io::{Read, Write};
use std::net::Shutdown;

use openssl::ssl::ShutdownResult;

use crate::planted::Wires;
use support::device::tcp;
use support::stacks::{Start, Version, old, openssl};
use support::translated::DEVICE_PASSWORD;

fn base64(text: impl AsRef<[u8]>) -> String {
    openssl::base64::encode_block(text.as_ref())
}

/// The answer of a listener in clear to these words, up to the end that the device asks for.
fn answers(wires: &Wires, listener: &str, words: &[u8]) -> String {
    let mut device = tcp(wires.proxy.address(listener));
    device.write_all(words).unwrap();
    let mut heard = Vec::new();
    device.read_to_end(&mut heard).unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

/// The user name may have blanks around it, as people type it; the password is not trimmed.
#[test]
fn a_name_means_the_same_in_every_way_to_log_in() {
    let wires = Wires::new();
    for name in ["deleting", " deleting", "deleting  ", "\tDELETING\t", "Deleting"] {
        let plain = |password: &str| base64(format!("\0{name}\0{password}"));
        for (password, is_right) in [(DEVICE_PASSWORD.to_owned(), true), (format!("{DEVICE_PASSWORD} "), false)] {
            let size = password.len();
            for login in [
                format!("LOGIN \"{name}\" \"{password}\"\r\n"),
                format!("LOGIN {{{}+}}\r\n{name} {{{size}+}}\r\n{password}\r\n", name.len()),
                format!("AUTHENTICATE PLAIN {}\r\n", plain(&password)),
                format!("AUTHENTICATE PLAIN\r\n{}\r\n", plain(&password).trim_end_matches('=')),
                format!("AUTHENTICATE LOGIN\r\n{}\r\n{}\r\n", base64(name), base64(&password)),
                format!("AUTHENTICATE LOGIN {}\r\n{}\r\n", base64(name).trim_end_matches('='), base64(&password)),
            ] {
                let heard = answers(&wires, "clear", format!("a {login}b LOGOUT\r\n").as_bytes());
                assert_eq!(heard.contains("\r\na OK"), is_right, "{login}: {heard}");
                assert_eq!(heard.contains("a NO [AUTHENTICATIONFAILED]"), !is_right, "{login}: {heard}");
            }
            for login in [
                format!("USER {name}\r\nPASS {password}\r\n"),
                format!("AUTH PLAIN {}\r\n", plain(&password).trim_end_matches('=')),
                format!("AUTH PLAIN\r\n{}\r\n", plain(&password).trim_end_matches('=')),
                format!("AUTH LOGIN\r\n{}\r\n{}\r\n", base64(name).trim_end_matches('='), base64(&password)),
            ] {
                let heard = answers(&wires, "clear3", format!("{login}QUIT\r\n").as_bytes());
                assert_eq!(heard.contains("+OK logged in"), is_right, "{login}: {heard}");
                assert_eq!(heard.contains("-ERR [AUTH]"), !is_right, "{login}: {heard}");
            }
        }
    }
}

#[test]
fn octets_in_front_of_a_command_are_not_tls() {
    let wires = Wires::new();
    for front in
        ["\u{feff}", "\0\0", "\u{feff}\0"].map(str::as_bytes).into_iter().chain([&b"\xff\xfb\x01\xff\xfd\x03"[..]])
    {
        let login = format!("a LOGIN deleting {DEVICE_PASSWORD}\r\n\0b LOGOUT\r\n\0");
        let heard = answers(&wires, "clear", &[front, login.as_bytes()].concat());
        assert!(heard.contains("\r\na OK"), "{front:?}: {heard}");
        let login = format!("USER deleting\r\n\0PASS {DEVICE_PASSWORD}\r\n\0QUIT\r\n");
        let heard = answers(&wires, "clear3", &[front, login.as_bytes()].concat());
        assert!(heard.contains("+OK logged in"), "{front:?}: {heard}");
    }
    // Other 8-bit octets are reported as such.
    let heard = answers(&wires, "clear", b"\xe4\xf6\xfc\r\na LOGOUT\r\n");
    assert!(heard.contains("* BAD a command begins with a tag") && heard.contains("a OK"), "{heard}");
    let heard = answers(&wires, "clear3", b"\xe4\xf6\xfc\r\nQUIT\r\n");
    assert!(heard.contains("-ERR command unknown"), "{heard}");
    assert_eq!(wires.proxy.log.count(|line| line.contains("begins with TLS")), 0, "{}", wires.proxy.log.all());
    // A ClientHello is recognised in either format.
    for hello in [&b"\x16\x03\x01\x00\x05\x01"[..], b"\x80\x2e\x01\x03\x01\x00"] {
        answers(&wires, "clear", hello);
    }
    wires.proxy.logs(2, "begins with TLS after it was greeted in clear");
}

/// The command has 30 fields of 30 octets with values of 1024 (RFC 2971 §3.3), as quoted strings and as both kinds of
/// literals.
#[test]
fn an_id_as_long_as_it_may_be_is_answered() {
    let wires = Wires::new();
    let value = "v".repeat(1024);
    let pairs = |form: &dyn Fn(String) -> String| {
        (0..30).map(|number| format!("{} {}", form(format!("{number:030}")), form(value.clone()))).collect::<Vec<_>>()
    };
    let quoted = |text: String| format!("\"{text}\"");
    let literal = |text: String| format!("{{{}+}}\r\n{text}", text.len());
    let waiting = |text: String| format!("{{{}}}\r\n{text}", text.len());
    for arguments in [pairs(&quoted), pairs(&literal), pairs(&waiting)] {
        let id = format!("a ID ({})\r\n", arguments.join(" "));
        assert!(id.len() > 31_000);
        let login = format!("b LOGIN deleting {DEVICE_PASSWORD}\r\nc LOGOUT\r\n");
        let heard = answers(&wires, "clear", format!("{id}{login}").as_bytes());
        assert!(heard.contains("* ID NIL\r\na OK ID completed\r\nb OK"), "{heard}");
    }
    let long = "x".repeat(30_000);
    let heard = answers(&wires, "clear", format!("a NOOP {long}\r\nb ENABLE {long}\r\nc LOGOUT\r\n").as_bytes());
    assert!(heard.contains("a OK NOOP completed\r\nb BAD ") && heard.contains("c OK"), "{heard}");
}

/// The device is `printf 'a LOGIN u p\r\n' | nc -q9`, which has sent everything, and reads on.
#[test]
fn a_device_that_closes_its_half_behind_a_command_is_answered() {
    let wires = Wires::new();
    let (login, user) = (format!("deleting {DEVICE_PASSWORD}"), format!("USER deleting\r\nPASS {DEVICE_PASSWORD}\r\n"));
    let plain = base64(format!("\0deleting\0{DEVICE_PASSWORD}"));
    for (listener, words, answer) in [
        ("imap", "a CAPABILITY\r\n".to_owned(), "a OK "),
        ("imap", "a ID NIL\r\n".to_owned(), "a OK "),
        ("imap", "a NONSENSE\r\n".to_owned(), "a BAD "),
        ("imap", format!("a LOGIN {login}\r\n"), "a OK "),
        ("imap", "a LOGIN deleting wrong\r\n".to_owned(), "a NO [AUTHENTICATIONFAILED]"),
        ("imap", format!("a AUTHENTICATE PLAIN {plain}\r\n"), "a OK "),
        ("imap", format!("a AUTHENTICATE PLAIN\r\n{plain}\r\n"), "a OK "),
        ("imap", format!("a LOGIN {login}\r\nb SELECT INBOX\r\n"), "b OK "),
        ("through", "a LOGIN u p\r\n".to_owned(), "a OK "),
        ("pop3", "CAPA\r\n".to_owned(), "\r\n.\r\n"),
        ("pop3", "NONSENSE\r\n".to_owned(), "-ERR command unknown"),
        ("pop3", user.clone(), "+OK logged in"),
        ("pop3", "USER deleting\r\nPASS wrong\r\n".to_owned(), "-ERR [AUTH]"),
        ("pop3", format!("AUTH PLAIN {plain}\r\n"), "+OK logged in"),
        ("pop3", format!("{user}STAT\r\n"), "+OK logged in\r\n+OK"),
        ("through3", "USER u\r\nPASS p\r\n".to_owned(), "+OK logged in"),
    ] {
        let heard = over_tls(&wires, listener, &words);
        assert!(heard.contains(answer), "{listener} over TLS: {words}: {heard}");
        let Some(listener) =
            ["imap", "pop3"].iter().position(|name| *name == listener).map(|at| ["clear", "clear3"][at])
        else {
            continue;
        };
        let mut device = tcp(wires.proxy.address(listener));
        device.write_all(words.as_bytes()).unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        let heard = read_to_end(device);
        assert!(heard.contains(answer), "{listener}: {words}: {heard}");
    }
}

/// Sends these words, then close_notify and FIN.
fn over_tls(wires: &Wires, listener: &str, words: &str) -> String {
    let address = wires.proxy.address(listener);
    let mut device = openssl(address, Start::Implicit, |context| old(context, Version::Tls1_0, "AES128-SHA")).unwrap();
    device.write_all(words.as_bytes()).unwrap();
    assert_eq!(device.shutdown().unwrap(), ShutdownResult::Sent);
    device.get_ref().shutdown(Shutdown::Write).unwrap();
    read_to_end(device)
}

fn read_to_end(mut device: impl Read) -> String {
    let mut heard = Vec::new();
    let _ = device.read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}
