//! Tests of the record of a session whose connection may be parked.

use super::*;

/// The record of a session of commands, each sent whole, and of completions: `+`, or a tag with its status.
fn of(conversation: &[&str]) -> InStep {
    let mut record = InStep::new(None);
    for &one in conversation {
        match one.strip_prefix("S: ") {
            Some(answer) => {
                let (tag, status) = answer.split_once(' ').unwrap_or((answer, ""));
                record.completed(tag.as_bytes(), status == "OK");
            }
            None => record.sent(format!("{one}\r\n").as_bytes()),
        }
    }
    record
}

/// A mailbox that may be selected is taken for selected: the next device must not meet it.
#[test]
fn pipelined_commands_leave_no_mailbox_selected_unseen() {
    for conversation in [
        &["a SELECT x", "b CLOSE", "c SELECT x", "S: a OK", "S: b OK", "S: c OK"][..],
        &["a CLOSE", "b EXAMINE x", "S: a OK", "S: b OK"],
        &["a UNSELECT", "b SELECT x", "S: a OK", "S: b NO"],
        &["a CLOSE", "b SELECT x", "S: b OK", "S: a OK"],
        &["a UNSELECT", "b SELECT x", "c NOOP", "S: b OK", "S: c OK", "S: a OK"],
    ] {
        let mut record = of(conversation);
        let is_in_step = record.is_in_step();
        assert!(!is_in_step || record.state().may_be_selected, "{conversation:?}");
    }
    let mut closed = of(&["a SELECT x", "b CLOSE", "S: a OK", "S: b OK"]);
    assert!(closed.is_in_step() && !closed.state().may_be_selected);
}

/// A server that does not know such a literal refuses the command, and reads the literal as commands.
#[test]
fn an_unasked_literal_may_be_read_as_commands() {
    for refusal in ["S: a NO", "S: a BAD"] {
        assert!(!of(&["a APPEND x {12+}", "b SELECT y", "", refusal]).is_in_step(), "{refusal}");
    }
    assert!(!of(&["a NOOP {12+}", "b SELECT y", "", "S: a OK"]).is_in_step());
    assert!(of(&["a APPEND x {12+}", "b SELECT y", "", "S: a OK"]).is_in_step());
    assert!(!of(&["a APPEND x {0}", "", "S: a NO"]).is_in_step(), "it has not waited");
    assert!(of(&["a APPEND x {0}", "S: + ", "", "S: a NO"]).is_in_step());
}

/// Some servers end a line there.
#[test]
fn another_line_end_in_a_line_is_not_understood() {
    for line in ["a FETCH 1 FLAGS\rb SELECT x", "a STATUS x (UIDNEXT)\0"] {
        assert!(!of(&[line, "S: a OK"]).is_in_step(), "{line:?}");
    }
}

/// Returns whether a mailbox may be selected behind these commands (`> `) and completions (`< `).
fn may_be_selected(conversation: &[&str]) -> bool {
    let mut in_step = InStep::new(None);
    for line in conversation {
        match line.split_once(' ').unwrap() {
            (">", command) => in_step.sent(format!("{command}\r\n").as_bytes()),
            (_, completion) => {
                let (tag, condition) = completion.split_once(' ').unwrap();
                in_step.completed(tag.as_bytes(), condition == "OK");
            }
        }
    }
    assert!(in_step.is_in_step(), "{conversation:?}");
    in_step.state().may_be_selected
}

#[test]
fn a_mailbox_is_selected_until_nothing_can_be() {
    for (is_selected, conversation) in [
        (false, &["> a NOOP", "< a OK"][..]),
        (true, &["> a SELECT x", "< a OK"]),
        (true, &["> a EXAMINE x", "< a NO"]),
        (false, &["> a SELECT x", "< a OK", "> b CLOSE", "< b OK"]),
        (true, &["> a SELECT x", "< a OK", "> b UNSELECT", "< b NO"]),
        (true, &["> a CLOSE", "> b SELECT x", "< a OK", "< b OK"]),
        (true, &["> a CLOSE", "> b SELECT x", "< b OK", "< a OK"]),
        (true, &["> a SELECT x", "> b CLOSE", "< b OK", "< a OK"]),
        (false, &["> a SELECT x", "> b CLOSE", "< a OK", "< b OK"]),
        (false, &["> a CLOSE", "> b SELECT x", "> c CLOSE", "< a OK", "< b OK", "< c OK"]),
    ] {
        assert_eq!(may_be_selected(conversation), is_selected, "{conversation:?}");
    }
}

/// INBOX is there in every mailbox: a connection that does not open it has none.
#[test]
fn a_connection_without_its_inbox_is_not_parked() {
    for command in ["SELECT INBOX", "EXAMINE \"inbox\"", "STATUS Inbox (MESSAGES)"] {
        for refusal in ["NO", "BAD"] {
            let conversation = [format!("a {command}"), format!("S: a {refusal}")];
            assert!(!of(&conversation.each_ref().map(String::as_str)).is_in_step(), "{conversation:?}");
        }
        assert!(of(&[format!("a {command}").as_str(), "S: a OK"]).is_in_step(), "{command}");
    }
    assert!(of(&["a SELECT INBOX/2025", "S: a NO", "b FETCH 1 FLAGS", "S: b BAD"]).is_in_step());
}

/// A line without end is forgotten with the record, so that a device cannot make packetboat keep it.
#[test]
fn an_endless_line_is_not_kept() {
    let mut record = InStep::new(None);
    for _ in 0..3 {
        record.sent(&[b'x'; LONGEST_LINE]);
    }
    assert!(!record.is_in_step() && record.line.capacity() == 0);
}
