//! These tests prove that a login under way ends well while a file hangs, or while the system gives no new thread.
//!
//! The file is that of the application's secret. Each way to log in meets a device that waits, closes or resets.

use std::os::unix::fs::chown;
use std::thread;
use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use crate::peer::Peer;
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, SECRET, account};
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::strain::{Hanging, allow_threads, as_another_user, directory_of, until};

/// The ways in which a device logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Login,
    Authenticate,
    Pass,
    Auth,
}

/// The device's behaviour once its login is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Waits,
    Closes,
    Resets,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    form: Form,
    then: Then,
}

fn cells() -> Vec<Cell> {
    let forms = [Form::Login, Form::Authenticate, Form::Pass, Form::Auth];
    let all = forms.map(|form| [Then::Waits, Then::Closes, Then::Resets].map(|then| Cell { form, then }));
    all.into_iter().flatten().collect()
}

impl Cell {
    /// Runs the cell from the first octet to the last. `answer` is the reply to the login, after IMAP's tag; `reason`
    /// is the reason in the log when the device has waited.
    fn run(self, proxy: &Proxy, login: &str, number: u8, answer: [&str; 2], reason: &str) -> Result<(), String> {
        let source = std::net::Ipv4Addr::new(127, 5, 0, number);
        let is_imap = matches!(self.form, Form::Login | Form::Authenticate);
        let mut peer = Peer::connect(source, proxy.address(if is_imap { "imap" } else { "pop3" }));
        peer.shake_as_device()?;
        peer.line()?;
        let plain = BASE64.encode(format!("\0{login}\0{PASSWORD}"));
        match self.form {
            Form::Login => peer.send(&format!("x LOGIN {login} {PASSWORD}\r\n")),
            Form::Authenticate => peer.send(&format!("x AUTHENTICATE PLAIN {plain}\r\n")),
            Form::Pass => {
                peer.send(&format!("USER {login}\r\n"));
                peer.line_with("+OK")?;
                peer.send(&format!("PASS {PASSWORD}\r\n"));
            }
            Form::Auth => peer.send(&format!("AUTH PLAIN {plain}\r\n")),
        }
        match self.then {
            Then::Waits => {
                let answered = peer.line()?;
                if !answered.trim_start_matches("x ").starts_with(answer[usize::from(!is_imap)]) {
                    return Err(format!("answered {answered:?}"));
                }
                peer.send(if is_imap { "y LOGOUT\r\n" } else { "QUIT\r\n" });
                peer.hear_to_the_end()?;
            }
            Then::Closes => {
                peer.close_half();
                peer.hear_to_the_end()?;
            }
            Then::Resets => peer.reset(),
        }
        let reasons: &[&str] = match self.then {
            Then::Waits => &[reason],
            // The proxy gives up a login that does not end within close_timeout.
            Then::Closes => &["device_closed", "logged_out", "device_lost"],
            Then::Resets => &["device_lost"],
        };
        told(proxy, &source.to_string(), reasons)
    }
}

/// Waits for the one session line of this address, and checks its reason.
fn told(proxy: &Proxy, source: &str, reasons: &[&str]) -> Result<(), String> {
    let source = format!("\"source\":\"{source}:");
    let of_session = |line: &str| line.contains("session ended") && line.contains(&source);
    let line: Value = serde_json::from_str(&proxy.log.wait_for("session line", of_session)).unwrap();
    let is_right = reasons.iter().any(|reason| line["reason"] == *reason) && proxy.log.count(of_session) == 1;
    if is_right { Ok(()) } else { Err(format!("the log has {line} in place of {reasons:?}")) }
}

/// Runs all cells at once, and checks that the proxy keeps nothing of them.
fn run(proxy: &Proxy, login: &str, answer: [&str; 2], reason: &str) {
    let files = proxy.process.open_files();
    let failures: Vec<String> = thread::scope(|scope| {
        let all: Vec<_> = cells()
            .into_iter()
            .zip(1..)
            .map(|(cell, number)| (cell, scope.spawn(move || cell.run(proxy, login, number, answer, reason))))
            .collect();
        let ended =
            all.into_iter().map(|(cell, one)| (cell, one.join().unwrap_or_else(|_| Err("panicked".to_owned()))));
        ended.filter_map(|(cell, ended)| ended.err().map(|why| format!("{cell:?}: {why}"))).collect()
    });
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    until("end of all connections", || {
        let metrics = proxy.get("/metrics");
        let mut open = metrics.lines().filter(|line| line.starts_with("packetboat_connections_open"));
        open.all(|line| line.ends_with(" 0"))
    });
    until("files as before", || proxy.process.open_files() <= files);
    assert_eq!(proxy.log.count(|line| line.contains("internal error") || line.contains("panicked")), 0);
}

#[test]
fn a_login_under_way_while_its_file_hangs() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    // Tokens expire within seconds, and the next one needs the file.
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 12);
    let identity = exchange.identity(&format!("client_secret_file = {:?}", hanging.file("SECRET", SECRET)));
    let proxy = exchange.proxy(&(exchange.frame() + &identity + &account("scans", SCAN, "")));
    assert!(login_is_taken(&proxy));
    hanging.hang();
    until("refusal", || !login_is_taken(&proxy));
    let begun = Instant::now();
    run(&proxy, LOGIN, ["NO [UNAVAILABLE]", "-ERR [SYS/TEMP]"], "logged_out");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    hanging.go_on();
    until("login", || login_is_taken(&proxy));
}

#[test]
fn a_login_under_way_while_no_thread_can_be_made() {
    let exchange = Exchange::new();
    directory_of(USER, &exchange.state());
    chown(exchange.file("SECRET", SECRET), Some(USER), Some(USER)).unwrap();
    // The proxy hashes each password anew.
    let text = "[limits]\npassword_memory = \"1s\"\n".to_owned() + &exchange.configuration(BY_SECRET);
    let proxy = Proxy::start_by(as_another_user(USER, THREADS), Some(&exchange.state()), "debug", &text, None);
    // The admin address is read before threads become scarce.
    proxy.admin();
    allow_threads(&proxy.process, USER, 1..=THREADS);
    run(&proxy, LOGIN, ["OK", "+OK"], "logged_out");
    allow_threads(&proxy.process, USER, THREADS..=THREADS);
    assert!(login_is_taken(&proxy));
}

/// Whether a good device can log in.
fn login_is_taken(proxy: &Proxy) -> bool {
    support::exchange::imap_login(proxy).starts_with("OK")
}

const USER: u32 = 54_323;
const THREADS: usize = 500;
