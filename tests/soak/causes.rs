//! Every line of the log has a cause: what the run has done, and when. One that has none is an error of packetboat's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::Value;

use crate::device::Device;
use crate::world::{Cause, World, read};

/// How many lines there were, by level, words, reason and cause.
type Kinds = BTreeMap<(String, String, String, Cause), usize>;

/// Looks at the whole log. What it prints are its kinds; what it returns has no cause.
pub fn unexplained(world: &World, log: &str, devices: usize) -> Vec<String> {
    let (mut kinds, mut faults) = (Kinds::new(), Vec::new());
    for line in log.lines() {
        let Ok(parsed) = serde_json::from_str::<Value>(line) else {
            // A panic, or a sanitizer's words.
            faults.push(line.to_owned());
            continue;
        };
        let text = |key: &str| parsed[key].as_str().unwrap_or_default().to_owned();
        let words = text("message").split([':', ';']).next().unwrap_or_default().to_owned();
        let (level, reason) = (text("level"), text("reason"));
        let cause = cause(&level, &words, &reason);
        let time = humantime::parse_rfc3339(&text("timestamp")).unwrap();
        match cause {
            Some(cause) if is_true(world, cause, time, &text("source"), devices) => {
                *kinds.entry((level, words, reason, cause)).or_default() += 1;
            }
            _ => faults.push(line.to_owned()),
        }
    }
    for ((level, words, reason, cause), count) in &kinds {
        if level != "INFO" || !reason.is_empty() {
            println!("{count:8}  {level:5} {words} {reason}: {cause:?}");
        }
    }
    let wrong: usize = kinds.iter().filter(|(kind, _)| kind.3 == Cause::WrongPassword).map(|(_, count)| count).sum();
    if wrong > read(&world.tally.wrong_passwords) {
        faults.push(format!("{wrong} wrong passwords in the log"));
    }
    faults
}

/// What a line of this kind comes from; none where nothing of this run accounts for it.
fn cause(level: &str, words: &str, reason: &str) -> Option<Cause> {
    let is_info = level == "INFO";
    Some(match (words, reason) {
        ("session ended", "logged_out" | "device_closed") if is_info => Cause::Ordinary,
        ("session ended", "device_lost") if is_info => Cause::Rudeness,
        ("session ended", "handshake") => Cause::Rudeness,
        ("session ended", "server_closed") if is_info => Cause::Server,
        ("session ended", "upstream_lost" | "upstream_timeout") => Cause::Server,
        ("login failed", "wrong_password") => Cause::WrongPassword,
        ("login failed", "connect" | "upstream_lost" | "upstream_tls" | "upstream_greeting") => Cause::Server,
        ("login failed", "unavailable" | "upstream_timeout" | "login_refused" | "upstream_protocol") => Cause::Server,
        ("login failed", "token_unavailable") => Cause::Tokens,
        // Said by the server in a running session that it ends.
        ("mail server is unavailable", "unavailable") => Cause::Server,
        ("no access token at the moment", "token_unavailable") => Cause::Tokens,
        ("no connection can be kept ready, logins make their own", "") => Cause::Server,
        ("certificates that have changed refused", "") | ("certificate.own.key", "") => Cause::Certificate,
        (_, "") if is_info => Cause::Ordinary,
        _ => return None,
    })
}

/// Whether that was so at that time.
fn is_true(world: &World, cause: Cause, time: SystemTime, source: &str, devices: usize) -> bool {
    let source = source.parse::<SocketAddr>().map(|source| source.ip()).ok();
    let rude = || (0..devices).filter(|number| Device::is_rude(*number)).map(Device::source);
    match cause {
        Cause::Ordinary => true,
        Cause::Server | Cause::Tokens | Cause::Certificate => world.weather.explains(cause, time, time),
        Cause::WrongPassword | Cause::Rudeness => source.is_some_and(|source| rude().any(|one| one == source)),
    }
}

/// What nobody has caused, or nobody has caused just then, is found.
#[test]
fn a_line_without_a_cause_is_found() {
    let world = World::new(1, std::collections::BTreeMap::new());
    let now = SystemTime::now();
    let line = |words: &str, reason: &str, source: &str| {
        let time = humantime::format_rfc3339_micros(now);
        format!(
            r#"{{"level":"WARN","message":"{words}: x","reason":"{reason}","source":"{source}","timestamp":"{time}"}}"#
        )
    };
    let has_cause = |line: &str| unexplained(&world, line, 20).is_empty();
    assert!(!has_cause("thread 'worker-0' panicked"));
    assert!(!has_cause(&line("session ended", "idle_timeout", "127.1.0.1:5")));
    assert!(!has_cause(&line("left out", "", "")));
    let lost = line("session ended", "upstream_lost", "127.1.0.1:5");
    assert!(!has_cause(&lost), "the server was there all the time");
    drop(world.weather.begins(Cause::Server));
    assert!(!has_cause(&lost), "and it was there before that");
    let restart = world.weather.begins(Cause::Server);
    let time = |time| humantime::format_rfc3339_micros(time).to_string();
    let later = lost.replace(&time(now), &time(now + std::time::Duration::from_secs(60)));
    assert!(has_cause(&later));
    drop(restart);
    assert!(has_cause(&line("session ended", "handshake", "127.1.0.10:5")));
    assert!(!has_cause(&line("session ended", "handshake", "127.1.0.1:5")), "that device is polite");
    assert!(!has_cause(&line("login failed", "wrong_password", "127.1.0.10:5")), "nobody has typed one");
}
