//! This file finds the cause of every log line among the run's disturbances; a line without one is an error of
//! packetboat's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::device::Device;
use crate::disturbances::HANGS;
use crate::run::{Cause, Run, read};
use crate::system::TALKATIVE;
use support::proxy::sum;

/// Counts of lines by level, words, reason and cause.
type Kinds = BTreeMap<(String, String, String, Cause), usize>;

/// Reads the whole log, prints the kinds of lines, and returns the lines without a cause.
pub fn unexplained(run: &Run, log: &str, devices: usize) -> Vec<String> {
    let (mut kinds, mut faults) = (Kinds::new(), Vec::new());
    for line in log.lines() {
        let Ok(parsed) = serde_json::from_str::<Value>(line) else {
            // The line is a panic or a sanitizer's report.
            faults.push(line.to_owned());
            continue;
        };
        let text = |key: &str| parsed[key].as_str().unwrap_or_default().to_owned();
        let message = text("message");
        let words = if message.ends_with(HANGS) { HANGS } else { message.split([':', ';']).next().unwrap_or_default() };
        let (level, reason) = (text("level"), text("reason"));
        let time = humantime::parse_rfc3339(&text("timestamp")).unwrap();
        let of_kind = causes(&level, words, &reason).iter();
        match of_kind.copied().find(|cause| is_true(run, *cause, time, &parsed, devices)) {
            Some(cause) => *kinds.entry((level, words.to_owned(), reason, cause)).or_default() += 1,
            None => faults.push(line.to_owned()),
        }
    }
    for ((level, words, reason, cause), count) in &kinds {
        if level != "INFO" || !reason.is_empty() {
            println!("{count:8}  {level:5} {words} {reason}: {cause:?}");
        }
    }
    let told = |cause| kinds.iter().filter(|(kind, _)| kind.3 == cause).map(|(_, count)| count).sum::<usize>();
    for (cause, count) in [(Cause::WrongPassword, &run.tally.wrong_passwords), (Cause::Flow, &run.tally.forgotten)] {
        if told(cause) > read(count) {
            faults.push(format!("{} lines by {cause:?}, of which there were {}", told(cause), read(count)));
        }
    }
    faults
}

/// Every line that was lost is counted, in the log and in the metrics alike; no session's line is missing otherwise.
pub fn unaccounted(log: &str, metrics: &str) -> Option<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut told, mut sessions) = (0, 0);
    for line in lines {
        let message = line["message"].as_str().unwrap_or_default();
        told += if message.contains(LOST) { line["left_out"].as_u64().unwrap_or_default() } else { 0 };
        sessions += u64::from(message.starts_with("session ended"));
    }
    let (lost, over) =
        (sum(metrics, "packetboat_log_lines_lost_total", ""), sum(metrics, "packetboat_sessions_total", ""));
    println!("{over} sessions, {sessions} lines of them, {lost} lines lost, {told} told as lost");
    let is_right = told == lost && sessions <= over && over <= sessions + lost;
    (!is_right).then(|| format!("{told} lines are told as lost, {lost} are; {sessions} lines of {over} sessions"))
}

/// The possible causes of a line of this kind; empty if the run accounts for none.
fn causes(level: &str, words: &str, reason: &str) -> &'static [Cause] {
    const OF_THE_SERVER: &[Cause] = &[Cause::Server, Cause::Flow];
    let is_info = level == "INFO";
    match (words, reason) {
        ("session ended", "logged_out" | "device_closed") if is_info => &[Cause::Ordinary],
        ("session ended", "device_lost") if is_info => &[Cause::Rudeness],
        ("session ended", "left_after_handshake") => &[Cause::Rudeness],
        ("session ended", "handshake") => &[Cause::Rudeness, Cause::Log],
        // The network may also forget the end of a server that goes away.
        ("session ended", "server_closed") if is_info => OF_THE_SERVER,
        ("session ended", "upstream_lost" | "upstream_timeout") => OF_THE_SERVER,
        ("login failed", "wrong_password") => &[Cause::WrongPassword],
        ("login failed", "upstream_lost" | "upstream_timeout") => OF_THE_SERVER,
        ("login failed", "connect" | "upstream_tls" | "upstream_greeting") => &[Cause::Server],
        // A token expires on its way to the server, while the endpoint issues no other.
        ("login failed", "unavailable") => &[Cause::Server, Cause::Tokens],
        ("login failed", "login_refused" | "upstream_protocol") => &[Cause::Server],
        ("login failed", "token_unavailable") => &[Cause::Tokens, Cause::Files],
        // The server says in a running session that it ends.
        ("mail server is unavailable", "unavailable") => &[Cause::Server],
        ("no access token at the moment", "token_unavailable") => &[Cause::Tokens, Cause::Files],
        ("cannot pre-connect", "") => &[Cause::Server],
        ("certificates rejected", "") | ("certificate.own.key", "") => &[Cause::Certificate, Cause::Files],
        ("configuration rejected", "") => &[Cause::Files],
        (HANGS, "") => &[Cause::Files],
        _ if words.ends_with(LOST) => &[Cause::Log],
        (_, "") if is_info => &[Cause::Ordinary],
        _ => &[],
    }
}

/// Whether the cause was active at that time.
fn is_true(run: &Run, cause: Cause, time: SystemTime, line: &Value, devices: usize) -> bool {
    let source = line["source"].as_str().and_then(|source| source.parse::<SocketAddr>().ok()).map(|source| source.ip());
    let is_one_of = |which: fn(usize) -> bool| {
        let mut numbers = (0..devices).filter(|number| which(*number));
        numbers.any(|number| {
            source.is_some_and(|source| source == Device::source(number)) || line["identity"] == run.login(number)
        })
    };
    match cause {
        Cause::Ordinary => true,
        // The run fills the log from one source, so another source's lines have another cause.
        Cause::Log if source.is_some_and(|source| source != TALKATIVE) => false,
        Cause::Files if source.is_some() || line["identity"].is_string() => {
            is_one_of(Device::has_a_file_that_hangs) && run.disturbances.explains(cause, time, time)
        }
        Cause::Server => run.disturbances.explains(cause, time - of_session(line), time),
        Cause::Tokens | Cause::Certificate | Cause::Log | Cause::Threads | Cause::Files | Cause::Flow => {
            run.disturbances.explains(cause, time, time)
        }
        Cause::WrongPassword | Cause::Rudeness => is_one_of(Device::is_rude),
    }
}

/// The session's length, but at most the time in which a slow device reads on after its server has gone.
fn of_session(line: &Value) -> Duration {
    Duration::from_millis(line["milliseconds"].as_u64().unwrap_or_default()).min(Duration::from_secs(30))
}

const LOST: &str = "log lines are lost";

/// A line without a cause, or outside of its cause's time, is found.
#[test]
fn a_line_without_a_cause_is_found() {
    let run = Run::new(1, std::collections::BTreeMap::new());
    let now = SystemTime::now();
    let line = |words: &str, reason: &str, source: &str| {
        let time = humantime::format_rfc3339_micros(now);
        format!(
            r#"{{"level":"WARN","message":"{words}: x","reason":"{reason}","source":"{source}","timestamp":"{time}"}}"#
        )
    };
    let has_cause = |line: &str| unexplained(&run, line, 20).is_empty();
    assert!(!has_cause("thread 'worker-0' panicked"));
    assert!(!has_cause(&line("session ended", "idle_timeout", "127.1.0.1:5")));
    assert!(!has_cause(&line("left out", "", "")));
    let lost = line("session ended", "upstream_lost", "127.1.0.1:5");
    assert!(!has_cause(&lost), "the server was there all the time");
    drop(run.disturbances.begins(Cause::Server));
    assert!(!has_cause(&lost), "and it was there before that");
    let restart = run.disturbances.begins(Cause::Server);
    let time = |time| humantime::format_rfc3339_micros(time).to_string();
    let later = lost.replace(&time(now), &time(now + Duration::from_secs(60)));
    assert!(has_cause(&later));
    drop(restart);
    assert!(!has_cause(&later), "the server is back for long, and the session had begun after that");
    let after = |seconds: u64, lasted: u64| {
        let later = lost.replace(&time(now), &time(now + Duration::from_secs(seconds)));
        has_cause(&later.replace("\"message\"", &format!("\"milliseconds\":{lasted},\"message\"")))
    };
    assert!(after(16, 18_000), "it ran when the server went away, and its device read slowly");
    assert!(!after(16, 4000), "it began behind that");
    assert!(!after(60, 61_000), "a session does not outlive its server for so long");
    assert!(has_cause(&line("session ended", "handshake", "127.1.0.10:5")));
    assert!(!has_cause(&line("session ended", "handshake", "127.1.0.1:5")), "that device is polite");
    assert!(!has_cause(&line("login failed", "wrong_password", "127.1.0.10:5")), "nobody has typed one");
}

/// A disturbance of the system explains only the lines that it can cause.
#[test]
fn a_disturbance_of_the_system_explains_its_own_lines_alone() {
    let run = Run::new(1, std::collections::BTreeMap::new());
    let time = humantime::format_rfc3339_micros(SystemTime::now() + std::time::Duration::from_secs(1));
    let line = |words: &str, reason: &str, source: &str| {
        format!(
            r#"{{"level":"WARN","message":"{words}","left_out":5,"reason":"{reason}","source":"{source}","timestamp":"{time}"}}"#
        )
    };
    let has_cause = |line: &str| unexplained(&run, line, 20).is_empty();
    let lost = line("5 log lines are lost: nobody read standard error", "", "");
    let hung = line("login failed: x", "token_unavailable", "127.1.0.4:5");
    let broken = line("session ended: x", "upstream_lost", "127.1.0.1:5");
    assert!([&lost, &hung, &broken].iter().all(|line| !has_cause(line)));
    let _disturbances =
        [Cause::Log, Cause::Files, Cause::Flow, Cause::Threads].map(|cause| run.disturbances.begins(cause));
    assert!(has_cause(&lost) && has_cause(&hung));
    assert!(!has_cause(&hung.replace("127.1.0.4", "127.1.0.5")), "the file of that device did not hang");
    assert!(!has_cause(&broken), "no flow was forgotten");
    crate::run::add(&run.tally.forgotten, 1);
    assert!(has_cause(&broken));
    assert!(!has_cause(&format!("{broken}\n{broken}")), "there was one flow");
    assert!(unaccounted(&lost, "packetboat_log_lines_lost_total 5").is_none());
    assert!(unaccounted(&lost, "packetboat_log_lines_lost_total 6").is_some());
    assert!(unaccounted("", "packetboat_sessions_total{reason=\"x\"} 1").is_some(), "its line is missing");
}
