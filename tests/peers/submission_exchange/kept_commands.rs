//! These tests prove that `packetboat spool` shows the messages that are kept, removes them, and has them tried at once.

use std::process::Command;

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::SmtpMoment;
use serde_json::Value;
use support::exchange::*;
use support::process::program;
use support::proxy::Proxy;
use support::strain::until;

use super::kept::{KEPT, fault, in_spool, keeping};
use super::{MESSAGE, Scanner};

/// Runs `packetboat spool` with these arguments.
pub fn spool(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.arg("spool").args(arguments).arg("--config").arg(proxy.configuration());
    Ran::of(command.output().unwrap())
}

/// The output of a command that has to succeed.
pub fn said(proxy: &Proxy, arguments: &[&str]) -> String {
    let ran = spool(proxy, arguments);
    assert!(ran.code == 0 && ran.errors.is_empty(), "{arguments:?}: {} {}", ran.code, ran.errors);
    ran.output
}

/// The messages of `packetboat spool list --json`.
pub fn messages(proxy: &Proxy) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&said(proxy, &["list", "--json"])).unwrap();
    answer["messages"].as_array().unwrap().clone()
}

/// The ids of the messages, as the commands take them.
pub fn ids(proxy: &Proxy) -> Vec<String> {
    messages(proxy).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// A proxy with two messages that the server has refused for the moment.
fn with_two(exchange: &Exchange) -> Proxy {
    let proxy = keeping(exchange, "");
    fault(exchange, SmtpMoment::EndOfData, Some("451 4.3.2 busy"), None);
    let mut scanner = Scanner::log_in(&proxy);
    for _ in 0..2 {
        assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    }
    proxy
}

#[test]
fn the_list_and_one_message_are_shown() {
    let exchange = Exchange::new();
    let proxy = with_two(&exchange);
    let [first, second] = <[String; 2]>::try_from(ids(&proxy)).unwrap();
    let table = said(&proxy, &["list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("2 messages, ") && lines[0].ends_with(" octets"), "{table}");
    assert!(lines[1].starts_with("ID ") && lines[1].ends_with("LAST ANSWER"), "{table}");
    for (line, id) in lines[2..].iter().zip([&first, &second]) {
        assert!(line.starts_with(id.as_str()) && line.contains(" waiting "), "{table}");
        assert!(line.contains(SCAN) && line.ends_with("the mail server said \"451 4.3.2 busy\""), "{table}");
    }
    assert_eq!(lines.len(), 4, "{table}");
    for one in messages(&proxy) {
        assert_eq!((one["state"].as_str(), one["attempts"].as_u64()), (Some("waiting"), Some(1)), "{one}");
        assert_eq!((one["mailbox"].as_str(), one["sender"].as_str()), (Some(SCAN), Some(SCAN)), "{one}");
        assert_eq!((&one["recipients"], &one["may_exist_twice"]), (&serde_json::json!([SCAN]), &Value::Bool(false)));
    }
    let shown = said(&proxy, &["show", &first]);
    for line in [
        format!("id            {first}"),
        "state         waiting".to_owned(),
        format!("recipients    {SCAN}"),
        "attempts      1".to_owned(),
        "last answer   the mail server said \"451 4.3.2 busy\"".to_owned(),
    ] {
        assert!(shown.lines().any(|one| one == line), "{line} is not in\n{shown}");
    }
    let json: Value = serde_json::from_str(&said(&proxy, &["show", &first, "--json"])).unwrap();
    assert_eq!((json["id"].as_str(), &json["reason"]), (Some(first.as_str()), &Value::Null));
    // The table shows no content, and whoever reads it leaves a line.
    let read = "an administrator reads the content of a message in the spool";
    assert_eq!(proxy.log.count(|line| line.contains(read)), 0);
    assert_eq!(said(&proxy, &["show", &first, "--content"]).as_bytes(), MESSAGE);
    let line = proxy.log.wait_for("the line", |line| line.contains(read));
    assert!(line.contains(&first), "{line}");
    assert!(!proxy.get("/status.json").contains("hello"));
}

#[test]
fn a_message_is_removed_and_another_is_tried_at_once() {
    let exchange = Exchange::new();
    let proxy = with_two(&exchange);
    let [first, second] = <[String; 2]>::try_from(ids(&proxy)).unwrap();
    assert_eq!(said(&proxy, &["remove", &first]), format!("{first}: removed, without being sent\n"));
    let line = proxy.log.wait_for("the line", |line| line.contains("removed without being sent"));
    assert!(line.contains(&first) && line.contains(SCAN), "{line}");
    assert_eq!((ids(&proxy), in_spool(&exchange)), (vec![second.clone()], 1));
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    let output = said(&proxy, &["retry", &second]);
    assert_eq!(output, format!("{second}: is tried now; see packetboat spool show {second}\n"));
    until("an empty spool", || in_spool(&exchange) == 0);
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    // The file goes first.
    until("an empty list", || said(&proxy, &["list"]) == "no message is in the spool\n");
    assert_eq!(proxy.metric("packetboat_spool_removed_total", ""), 1);
    assert_eq!(proxy.metric("packetboat_spool_delivered_total", ""), 1);
}

#[test]
fn an_id_that_nobody_has_is_refused() {
    let exchange = Exchange::new();
    let proxy = with_two(&exchange);
    let before = ids(&proxy);
    let commands: [&[&str]; 5] = [&["show"], &["show", "--json"], &["show", "--content"], &["remove"], &["retry"]];
    for command in commands {
        for (id, why) in [
            ("0123456789abcdef", "there is no such message in the spool"),
            ("../../state", "\"../../state\" is not the id of a message"),
            ("17", "id is not the id of a message: packetboat spool list has them"),
        ] {
            let ran = spool(&proxy, &[command, &[id]].concat());
            assert!(
                ran.code == 69 && ran.errors.contains(why) && ran.output.is_empty(),
                "{command:?} {id}: {}",
                ran.errors
            );
        }
    }
    assert_eq!((ids(&proxy), in_spool(&exchange)), (before, 2));
}

#[test]
fn the_commands_say_that_the_spool_is_off_or_that_nothing_runs() {
    let exchange = Exchange::new();
    let mut proxy = super::proxy(&exchange, BY_SECRET);
    let off = "no message is in the spool\nthe spool is off: no listener has spool = \"fallback\"\n";
    assert_eq!(said(&proxy, &["list"]), off);
    let json: Value = serde_json::from_str(&said(&proxy, &["list", "--json"])).unwrap();
    assert_eq!((&json["on"], &json["problem"]), (&Value::Bool(false), &Value::Null));
    let commands: [&[&str]; 6] = [
        &["list"],
        &["list", "--json"],
        &["show", "0123456789abcdef"],
        &["show", "0123456789abcdef", "--content"],
        &["remove", "0123456789abcdef"],
        &["retry", "0123456789abcdef"],
    ];
    for command in &commands[2..] {
        let ran = spool(&proxy, command);
        assert!(ran.code == 69 && ran.errors.contains("there is no such message"), "{command:?}: {}", ran.errors);
    }
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    for command in commands {
        let ran = spool(&proxy, command);
        assert!(ran.code == 69 && ran.errors.contains("packetboat is not running"), "{command:?}: {}", ran.errors);
    }
}

/// A retry says when it is tried, and before it is, whether somebody may get the message twice.
#[test]
fn a_retry_says_when_and_what_may_come_twice() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    let mut scanner = Scanner::log_in(&proxy);
    fault(&exchange, SmtpMoment::EndOfData, None, Some(1));
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    let [id] = <[String; 1]>::try_from(ids(&proxy)).unwrap();
    let note = "nobody knows whether the mail server has this message already: its recipient may get it twice";
    assert!(said(&proxy, &["show", &id]).contains(&format!("\nretry         {note}\n")));
    let output = said(&proxy, &["retry", &id]);
    assert_eq!(output, format!("{id}: {note}\n{id}: is tried now; see packetboat spool show {id}\n"));
    until("an empty spool", || in_spool(&exchange) == 0);

    fault(&exchange, SmtpMoment::EndOfData, Some("451 4.7.500 Server busy."), Some(1));
    assert_eq!(Scanner::log_in(&proxy).submit(&stuffed(MESSAGE)), KEPT);
    let [id] = <[String; 1]>::try_from(ids(&proxy)).unwrap();
    let output = said(&proxy, &["retry", &id]);
    let words = format!("{id}: is tried in ");
    assert!(output.starts_with(&words), "{output}");
    assert!(output.contains(": the mail server throttles this mailbox for another "), "{output}");
    let message = &messages(&proxy)[0];
    assert_eq!((message["state"].as_str(), message["attempts"].as_u64()), (Some("waiting"), Some(1)), "{message}");
}

/// A damaged file shows what is wrong with it, and the command that is printed removes it.
#[test]
fn a_damaged_file_says_what_to_do() {
    let exchange = Exchange::new();
    drop(with_two(&exchange));
    let spool_directory = exchange.state().join("spool");
    let files = std::fs::read_dir(&spool_directory).unwrap().flatten().map(|file| file.path());
    let mut files = files.filter(|path| path.extension().is_some_and(|one| one == "message"));
    std::fs::write(files.next().unwrap(), "no message").unwrap();
    let proxy = keeping(&exchange, "");
    let message = messages(&proxy).into_iter().find(|one| one["state"] == "damaged").unwrap();
    let id = message["id"].as_str().unwrap().to_owned();
    let shown = said(&proxy, &["show", &id]);
    assert!(shown.contains("is damaged, or was sealed with another key") && !shown.contains("451 4.3.2"), "{shown}");
    let printed = shown.split("run packetboat spool remove ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(said(&proxy, &["remove", printed]), format!("{id}: removed, without being sent\n"));
    assert!(!ids(&proxy).contains(&id));
}

/// The messages of one mailbox stop at its share, and the log, the list and the metrics say so.
#[test]
fn a_full_share_is_told() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "max_messages = 8\n");
    fault(&exchange, SmtpMoment::EndOfData, Some("451 4.3.2 busy"), None);
    let mut scanner = Scanner::log_in(&proxy);
    for expected in [KEPT, KEPT, "451 4.3.2 busy", "451 4.3.2 busy"] {
        assert_eq!(scanner.submit(&stuffed(MESSAGE)), expected);
    }
    let line = |line: &str| line.contains("only stream: device ") && line.contains("see spool.device_share");
    proxy.log.wait_for("the line", line);
    assert_eq!(proxy.log.count(line), 1, "said once");
    assert!(said(&proxy, &["list"]).contains("\nfull: device \""));
    assert_eq!(proxy.metric("packetboat_spool_full_shares", ""), 1);
    let shown = proxy.status()["spool"]["full_shares"][0].as_str().unwrap().to_owned();
    assert!(shown.starts_with("device \""), "the page has it: {shown}");
    assert_eq!(proxy.metric("packetboat_spool_not_kept_total", ""), 2);
    let [first, _] = <[String; 2]>::try_from(ids(&proxy)).unwrap();
    said(&proxy, &["remove", &first]);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
}
