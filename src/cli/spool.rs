//! `packetboat spool` shows the messages that a mail server has not taken yet, removes them, and has them tried at once.

use std::time::Duration;

use serde_json::Value;

use super::control_client::{Answer, request, request_change};
use super::error::{CommandError, unavailable};
use super::output::{print, print_octets};
use super::{ConfigFile, runtime};
use crate::lifecycle::unix_time;
use crate::text::excerpt;

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// List the messages that wait, with the last answer and the time of the next attempt
    List {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show one message: envelope, attempts, and why it waits
    Show {
        /// The message's id, as packetboat spool list prints it
        id: String,
        /// Print JSON, for programs
        #[arg(long, conflicts_with = "content")]
        json: bool,
        /// Print the message itself; the log notes that
        #[arg(long)]
        content: bool,
    },
    /// Remove a message without sending it; nobody gets a report
    Remove {
        /// The message's id
        id: String,
    },
    /// Have a message tried at once, also one that was given up
    Retry {
        /// The message's id
        id: String,
    },
}

/// Does what the action says, through the running proxy.
pub(super) fn act(file: &ConfigFile, action: &Action) -> Result<(), CommandError> {
    match action {
        Action::List { json } => {
            let answer = get(file, "/spool.json")?;
            if *json { print(format_args!("{answer}\n")) } else { print(table(&answer)) }
        }
        Action::Show { id, content: true, .. } => {
            let path = format!("/spool/content?id={}", checked(id)?);
            let answer = runtime()?.block_on(request(file, &path, PATIENCE, LONGEST))?;
            print_octets(&accepted(answer)?)
        }
        Action::Show { id, json, content: false } => {
            let answer = get(file, &format!("/spool/message?id={}", checked(id)?))?;
            if *json { print(format_args!("{answer}\n")) } else { print(details(&answer)) }
        }
        Action::Remove { id } => {
            change(file, "/spool/remove", id)?;
            print(format_args!("{id}: removed, without being sent\n"))
        }
        Action::Retry { id } => {
            let before = get(file, &format!("/spool/message?id={}", checked(id)?))?;
            if let Some(note) = before.get("before_retry").and_then(Value::as_str) {
                print(format_args!("{id}: {note}\n"))?;
            }
            let answer = change(file, "/spool/retry", id)?;
            print(format_args!("{id}: {}; see packetboat spool show {id}\n", retried(&answer)))
        }
    }
}

fn get(file: &ConfigFile, path: &str) -> Result<Value, CommandError> {
    let answer = runtime()?.block_on(request(file, path, PATIENCE, LONGEST))?;
    let body = accepted(answer)?;
    serde_json::from_slice(&body).map_err(|_| unavailable(STRANGE))
}

fn change(file: &ConfigFile, path: &str, id: &str) -> Result<Value, CommandError> {
    let form = format!("id={}", checked(id)?);
    let body = accepted(runtime()?.block_on(request_change(file, path, form, PATIENCE))?)?;
    serde_json::from_slice(&body).map_err(|_| unavailable(STRANGE))
}

/// The time at which a message is tried, and the reason where that is not now.
fn retried(answer: &Value) -> String {
    let Some(why) = answer.get("why").and_then(Value::as_str) else { return "is tried now".to_owned() };
    match number(answer, "wait") {
        0 => format!("is tried next: {why}"),
        seconds => format!("is tried in {}: {why}", span(seconds)),
    }
}

/// The body of an answer, or the error that it tells of.
fn accepted(answer: Answer) -> Result<Vec<u8>, CommandError> {
    if answer.status == 200 { Ok(answer.body) } else { Err(unavailable(excerpt(answer.body.trim_ascii()))) }
}

/// An id goes into a path, and has digits and letters alone.
fn checked(id: &str) -> Result<&str, CommandError> {
    if !id.is_empty() && id.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return Ok(id);
    }
    Err(unavailable(format_args!("\"{}\" is not the id of a message", excerpt(id.as_bytes()))))
}

/// The messages as a table, below one line that sums them up.
fn table(answer: &Value) -> String {
    let none = Vec::new();
    let messages = answer.get("messages").and_then(Value::as_array).unwrap_or(&none);
    let mut text = match messages.len() {
        0 => "no message is in the spool\n".to_owned(),
        1 => format!("1 message, {} octets\n", number(answer, "octets")),
        many => format!("{many} messages, {} octets\n", number(answer, "octets")),
    };
    if let Some(problem) = answer.get("problem").and_then(Value::as_str) {
        text.push_str(&format!("problem: {problem}\n"));
    } else if answer.get("on").and_then(Value::as_bool) == Some(false) {
        text.push_str("the spool is off: no listener has spool = \"fallback\"\n");
    }
    for share in answer.get("full_shares").and_then(Value::as_array).unwrap_or(&none) {
        text.push_str(&format!("full: {}\n", share.as_str().unwrap_or_default()));
    }
    if messages.is_empty() {
        return text;
    }
    let mut rows = vec![
        ["ID", "STATE", "DEVICE", "MAILBOX", "SIZE", "KEPT FOR", "TRIES", "NEXT", "LAST ANSWER"].map(str::to_owned),
    ];
    rows.extend(messages.iter().map(|one| {
        [
            word(one, "id"),
            word(one, "state"),
            word(one, "device"),
            word(one, "mailbox"),
            number(one, "octets").to_string(),
            span(number(one, "age")),
            number(one, "attempts").to_string(),
            next(one),
            one.get("held").and_then(Value::as_str).map_or_else(|| word(one, "last_answer"), str::to_owned),
        ]
    }));
    let widths: Vec<usize> = (0..COLUMNS - 1)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = widths.get(at).copied().unwrap_or_default();
            format!("{cell:width$}")
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One message, a line for each fact.
fn details(answer: &Value) -> String {
    let mut lines = vec![
        ("id", word(answer, "id")),
        ("state", word(answer, "state")),
        ("device", word(answer, "device")),
        ("account", word(answer, "account")),
        ("mailbox", word(answer, "mailbox")),
        ("sender", word(answer, "sender")),
        ("recipients", words(answer, "recipients")),
        ("size", format!("{} octets", number(answer, "octets"))),
        ("kept for", span(number(answer, "age"))),
        ("connection", word(answer, "connection")),
        ("attempts", number(answer, "attempts").to_string()),
        ("last answer", word(answer, "last_answer")),
        ("next attempt", next(answer)),
    ];
    for (name, key) in [("mailbox waits", "held"), ("given up", "reason"), ("retry", "before_retry")] {
        if let Some(why) = answer.get(key).and_then(Value::as_str) {
            lines.push((name, why.to_owned()));
        }
    }
    if answer.get("may_exist_twice").and_then(Value::as_bool) == Some(true) {
        lines.push(("note", "nobody knows whether the mail server has it already; look into Sent Items".to_owned()));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}

fn word(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

fn words(value: &Value, key: &str) -> String {
    let list = value.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn next(value: &Value) -> String {
    let Some(at) = value.get("next_attempt").and_then(Value::as_u64) else { return "-".to_owned() };
    match at.saturating_sub(unix_time()) {
        0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

/// A time in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

const STRANGE: &str = "the server that answers is not packetboat";
const COLUMNS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer: a message of the largest size that a listener may announce, or a list of all messages.
const LONGEST: usize = 1024 * 1024 * 1024;
