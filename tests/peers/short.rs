//! These tests prove that a device goes on after a server that announces more than it sends, as Exchange does for some
//! messages.

use crate::planted::Wires;
use support::device::Device;
use support::translated::DEVICE_PASSWORD;

fn imap(wires: &Wires, login: &str) -> Device {
    let mut device = wires.connect("imap");
    device.send(format!("a LOGIN {login} {DEVICE_PASSWORD}\r\nb FETCH 9 BODY[]\r\n"));
    while device.line() != "b OK done" {}
    device
}

/// MailKit#361 and go-imap#312 describe such a server.
#[test]
fn a_device_goes_on_behind_a_literal_that_is_too_short() {
    let wires = Wires::new();
    for login in ["deleting", "guarded"] {
        let mut device = imap(&wires, login);
        for number in 0..3 {
            device.send(format!("c{number} NOOP\r\n"));
            assert_eq!(device.line(), format!("c{number} OK done"), "{login}");
            device.send(format!("d{number} IDLE\r\n"));
            assert_eq!(device.line(), "+ idling", "{login}");
            device.send("DONE\r\n");
            assert_eq!(device.line(), format!("d{number} OK done"), "{login}");
        }
    }
}

/// An answer of the proxy, or a synchronizing literal, cannot be sent in the middle of a response.
#[test]
fn an_answer_that_has_to_wait_ends_the_session_with_a_reason() {
    let wires = Wires::with("upstream_login_timeout = \"3s\"\n");
    let mut lines = 0;
    for (login, words) in [
        ("guarded", "c EXPUNGE\r\n"),
        ("guarded", "c APPEND INBOX {5}\r\n"),
        ("guarded", "c APPEND INBOX {5+}\r\nhello\r\n"),
        ("guarded", "c IDLE\r\nd NOOP\r\n"),
        ("guarded", "c LOGIN u p\r\n"),
        ("deleting", "c LOGIN u p\r\n"),
    ] {
        let mut device = imap(&wires, login);
        device.send(words);
        let mut heard = Vec::new();
        while let Some(line) = device.try_line() {
            heard.push(String::from_utf8_lossy(&line).into_owned());
        }
        assert!(heard.last().is_some_and(|line| line.starts_with("* BYE ")), "{login}: {words}: {heard:?}");
        lines += 1;
        wires.proxy.logs(lines, "it has announced more than it sends");
    }
    for login in ["deleting", "guarded"] {
        let mut device = wires.connect("pop3");
        device.send(format!("USER {login}\r\nPASS {DEVICE_PASSWORD}\r\nRETR 9\r\nPASS again\r\n"));
        while device.try_line().is_some() {}
        lines += 1;
        wires.proxy.logs(lines, "it has announced more than it sends");
    }
}
