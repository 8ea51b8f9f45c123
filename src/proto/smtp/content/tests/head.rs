//! Tests of the head of a message: sender policy, and fields that are missing.

use super::*;
use crate::proto::smtp::path::AddressList;
use crate::submission::SenderPolicy;

const DATE: &str = "Date: Sat, 28 Nov 2026 00:35:00 +0000\r\n";
const ID: &str = "Message-ID: <a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5@contoso.example>\r\n";
const OWN: &str = "Date: today\r\nMessage-ID: <1@x>\r\n";
const MAILBOX: &str = "From: <scan@contoso.example>\r\n";

fn policy(policy: SenderPolicy) -> Rules {
    let mailbox = Address::parse(b"scan@contoso.example").unwrap();
    let senders = AddressList::parse(["fax@contoso.example", "*@fabrikam.example"]).unwrap();
    Rules { sender: Some(SenderRules { policy, mailbox, senders }), ..Rules::default() }
}

/// Passes a message at every cut, and returns what goes up, without the end of the data.
fn up(rules: SenderPolicy, message: &str) -> String {
    passed(policy(rules), message.as_bytes()).unwrap()
}

fn passed(rules: Rules, message: &[u8]) -> Result<String, Refusal> {
    let input = [message, b".\r\nQUIT\r\n"].concat();
    let passage = check(&Arc::new(rules), &input);
    assert_eq!((passage.is_complete, &passage.rest[..]), (true, &b"QUIT\r\n"[..]), "{}", message.escape_ascii());
    if let Some(refusal) = passage.refusal {
        assert!(passage.up.is_empty(), "{}", message.escape_ascii());
        return Err(refusal);
    }
    is_one_message(&passage, &input);
    let up = passage.up.strip_suffix(b".\r\n").unwrap();
    Ok(String::from_utf8(up.to_vec()).unwrap())
}

/// Rewrites a message that lacks nothing but its right sender, and returns the new From and Reply-To.
fn rewritten(from: &str) -> String {
    let up = up(SenderPolicy::Rewrite, &format!("{OWN}{from}Subject: x\r\n\r\nbody\r\n"));
    up.strip_prefix(OWN).unwrap().strip_suffix("Subject: x\r\n\r\nbody\r\n").unwrap().to_owned()
}

fn with_name(name: &str, old: &str) -> String {
    format!("From: {name} <scan@contoso.example>\r\nReply-To: <{old}>\r\n")
}

#[test]
fn a_right_message_is_forwarded_octet_for_octet() {
    for from in [
        "scan@contoso.example",
        "<Scan@Contoso.example>",
        "Scanner <scan@contoso.example>",
        "\"Scanner, 2nd \\\"floor\\\"\" <fax@contoso.example>",
        "=?utf-8?Q?B=C3=BCro?=\r\n =?utf-8?Q?_2?=\r\n\t<anyone@fabrikam.example> ",
        "B\u{fc}ro <scan@contoso.example>",
    ] {
        let message = format!(
            "received: x\r\nSender: Pool <fax@contoso.example>\r\nFROM : {from}\r\nmessage-id:<1>\r\nDATE: \r\nX:\r\n \r\n\r\nbody\r\n.\r\n"
        );
        for rules in [SenderPolicy::Rewrite, SenderPolicy::Envelope, SenderPolicy::Pass] {
            let mut content = Content::new(Arc::new(policy(rules)), STAMP);
            let (passage, steps) = pass(&mut content, &[message.as_bytes()]);
            assert_eq!(String::from_utf8(passage.up).unwrap(), message);
            assert_eq!((steps.forwarded, steps.consumed), (message.len(), 0));
        }
        assert_eq!(
            up(SenderPolicy::Rewrite, message.strip_suffix(".\r\n").unwrap()),
            message.strip_suffix(".\r\n").unwrap()
        );
    }
}

#[test]
fn another_sender_is_replaced_and_gets_the_replies() {
    for (from, name) in [
        ("From: Ann <ann@other.example>\r\n", "\"Ann\""),
        ("From: Ann  van\r\n\tDorp <ann@other.example>\r\n", "\"Ann van Dorp\""),
        ("FROM:\"Ann \\\"A\\\" \\\\ B\"<ann@other.example>\r\n", "\"Ann \\\"A\\\" \\\\ B\""),
        ("From: =?utf-8?q?J=C3=BCrg?= <ann@other.example>\r\n", "=?utf-8?q?J=C3=BCrg?=\r\n"),
        (
            "From: =?utf-8?q?a?= B. =?utf-8?b?Yg==?= <ann@other.example>\r\n",
            "=?utf-8?q?a?=\r\n \"B.\"\r\n =?utf-8?b?Yg==?=\r\n",
        ),
        ("From: J\u{fc}rg M. <ann@other.example>\r\n", "=?utf-8?B?SsO8cmcgTS4=?=\r\n"),
        ("From: =?utf-8?q?a?= \u{fc} <ann@other.example>\r\n", "=?utf-8?q?a?=\r\n =?utf-8?B?IMO8?=\r\n"),
        ("From: <ann@other.example>\r\n", ""),
        ("From: ann@other.example\r\n", ""),
        ("From:\r\n ann@other.example\r\n", ""),
        // Addresses in a name, plain, encoded, in full width; an encoded word that cannot be read.
        ("From: \"ceo@other.example\" <ann@other.example>\r\n", ""),
        ("From: ceo@other.example <ann@other.example>\r\n", ""),
        ("From: =?utf-8?q?ceo=40other.example?= <ann@other.example>\r\n", ""),
        ("From: \"=?utf-8?b?Y2VvQG90aGVyLmV4YW1wbGU=?=\" <ann@other.example>\r\n", ""),
        ("From: ceo\u{ff20}other.example <ann@other.example>\r\n", ""),
        ("From: =?utf-7?q?ceo+AEA-other.example?= <ann@other.example>\r\n", ""),
        ("From: =?utf-8?q?a=0D=0ABcc=3Ab?= <ann@other.example>\r\n", ""),
        ("From: =?utf-8?x?a?= <ann@other.example>\r\n", ""),
        ("From: \"\" <ann@other.example>\r\n", ""),
    ] {
        let name = name.strip_suffix("\r\n").unwrap_or(name);
        let expected = match name.lines().count() {
            0 => with_name("", "ann@other.example").replace("  ", " "),
            _ => with_name(name, "ann@other.example"),
        };
        assert_eq!(rewritten(from), expected, "{from}");
    }
}

#[test]
fn long_names_are_encoded_in_short_words_or_dropped() {
    let new = rewritten(&format!("From: {} <ann@other.example>\r\n", "\u{fc}".repeat(100)));
    assert!(new.lines().all(|line| line.len() <= 76 + "From: ".len()), "{new}");
    assert_eq!(new.matches("=?utf-8?B?").count(), 6);
    assert_eq!(
        rewritten(&format!("From: {} <a@b.example>\r\n", "a".repeat(300))),
        with_name("", "a@b.example").replace("  ", " ")
    );
}

#[test]
fn latin_1_is_encoded() {
    let message = [OWN.as_bytes(), b"From: J\xfcrg <ann@other.example>\r\n\r\n"].concat();
    let up = passed(policy(SenderPolicy::Rewrite), &message).unwrap();
    assert!(up.contains("From: =?windows-1252?B?SvxyZw==?= <scan@contoso.example>\r\n"), "{up}");
}

#[test]
fn a_sender_that_cannot_be_read_is_replaced_by_the_mailbox() {
    for from in [
        "From:\r\n",
        "From: \r\n \r\n",
        "From: scanner (Scanner) <scan@contoso.example>\r\n",
        "From: scan@contoso.example (Scanner)\r\n",
        "From: a@other.example, b@other.example\r\n",
        "From: Dorp, Ann <ann@other.example>\r\n",
        "From: Group: a@other.example;\r\n",
        "From: <@a.example:ann@other.example>\r\n",
        "From: Ann <ann@other.example\r\n",
        "From: Ann ann@other.example>\r\n",
        "From: \"Ann <ann@other.example>\r\n",
        "From: <ann@other.example> x\r\n",
        "From: <>\r\n",
        "From: a b\r\n",
        "From: J\u{fc}rg@other.example\r\n",
        "From: Ann\x01 <ann@other.example>\r\n",
        "From: Ann\0 <ann@other.example>\r\n",
        "From: scan@contoso.example\r\nFrom: scan@contoso.example\r\n",
        "From: scan@contoso.example\r\nfrom : ann@other.example\r\n",
        "From: a@other.example\r\n.From: scan@contoso.example\r\n",
    ] {
        assert_eq!(rewritten(from), MAILBOX, "{from}");
    }
    // A local part alone is no address to reply to.
    assert_eq!(rewritten("From: scanner\r\n"), MAILBOX);
}

#[test]
fn reply_to_stays_and_sender_goes() {
    let message =
        format!("{OWN}Sender: a@b.example\r\nReply-To: me@x.example\r\nFrom: Ann <ann@other.example>\r\n\r\n");
    let expected = format!("{OWN}Reply-To: me@x.example\r\nFrom: \"Ann\" <scan@contoso.example>\r\n\r\n");
    assert_eq!(up(SenderPolicy::Rewrite, &message), expected);
    // A field that the server unstuffs counts as what it becomes there (RFC 5321 §4.5.2).
    let stuffed = format!("{OWN}.Sender: a@b.example\r\n.From: ann@other.example\r\n\r\n");
    let expected = format!("{OWN}From: <scan@contoso.example>\r\nReply-To: <ann@other.example>\r\n\r\n");
    assert_eq!(up(SenderPolicy::Rewrite, &stuffed), expected);
}

#[test]
fn other_policies_leave_the_field_or_refuse_the_message() {
    let message = |from: &str| format!("{OWN}{from}Sender: a@b.example\r\n\r\nbody\r\n");
    let without_sender = |from: &str| Ok(format!("{OWN}{from}\r\nbody\r\n"));
    let result = |rules, from: &str| passed(policy(rules), message(from).as_bytes());
    let refused = |address: &str| Err(Refusal::Sender(Address::parse(address.as_bytes()).unwrap()));
    let plain = Ok(format!("{OWN}{MAILBOX}\r\nbody\r\n"));
    let (other, two) = ("From: Ann <ann@other.example>\r\n", "From: a@b.example\r\nFrom: scan@contoso.example\r\n");
    let (own, allowed, bad) =
        ("From: scan@contoso.example\r\n", "From: x <a@fabrikam.example>\r\n", "From: x\r\n y\r\n");
    for from in [other, two, own, allowed, bad] {
        assert_eq!(result(SenderPolicy::Envelope, from), Ok(message(from)));
    }
    for from in [own, allowed] {
        assert_eq!(result(SenderPolicy::Pass, from), without_sender(from));
    }
    assert_eq!(result(SenderPolicy::Pass, other), refused("ann@other.example"));
    assert_eq!(result(SenderPolicy::Pass, two), plain);
    assert_eq!(result(SenderPolicy::Pass, bad), plain);
    assert_eq!(result(SenderPolicy::Reject, own), without_sender(own));
    assert_eq!(result(SenderPolicy::Reject, allowed), refused("a@fabrikam.example"));
    for from in [two, bad] {
        assert_eq!(result(SenderPolicy::Reject, from), Err(Refusal::UnreadableSender));
    }
    let without = result(SenderPolicy::Envelope, "");
    assert_eq!(without, Ok(format!("{MAILBOX}{OWN}Sender: a@b.example\r\n\r\nbody\r\n")), "Sender stays");
    assert!(Refusal::HeadTooLong.reply().starts_with("552 5.3.4 "));
    for refusal in [Refusal::Sender(Address::parse(b"a@b").unwrap()), Refusal::UnreadableSender] {
        assert!(refusal.reply().starts_with("550 5.7.60 "));
    }
}

/// Outlook shows "Sender on behalf of From", and other mail programs who has sent a message again.
#[test]
fn no_other_field_names_a_foreign_sender() {
    for name in ["Sender", "sender ", "Resent-From", "RESENT-SENDER"] {
        let message = |value: &str| format!("{OWN}From: scan@contoso.example\r\n{name}: {value}\r\n\r\nbody\r\n");
        let without = format!("{OWN}From: scan@contoso.example\r\n\r\nbody\r\n");
        for value in ["ceo@contoso.example", "CEO\r\n <ceo@contoso.example>", "a@b.example, scan@contoso.example", "x"]
        {
            for rules in [SenderPolicy::Rewrite, SenderPolicy::Pass, SenderPolicy::Reject] {
                assert_eq!(up(rules, &message(value)), without, "{name}: {value}");
            }
            assert_eq!(up(SenderPolicy::Envelope, &message(value)), message(value), "{name}: {value}");
        }
        let (own, allowed) = (message("Scan <SCAN@contoso.example>"), message("fax@contoso.example"));
        assert_eq!(up(SenderPolicy::Reject, &own), own);
        assert_eq!(up(SenderPolicy::Reject, &allowed), without);
        assert_eq!((up(SenderPolicy::Rewrite, &allowed), up(SenderPolicy::Pass, &allowed)), (allowed.clone(), allowed));
    }
}

#[test]
fn what_is_missing_is_put_in_front() {
    let subject = "Subject: x\r\n\r\nbody\r\n";
    for rules in [SenderPolicy::Rewrite, SenderPolicy::Pass, SenderPolicy::Reject, SenderPolicy::Envelope] {
        assert_eq!(up(rules, subject), format!("{MAILBOX}{DATE}{ID}{subject}"));
        assert_eq!(up(rules, &format!("Date: x\r\n{subject}")), format!("{MAILBOX}{ID}Date: x\r\n{subject}"));
    }
    // No field at all, fields alone, nothing at all.
    assert_eq!(up(SenderPolicy::Rewrite, "\r\nbody\r\n"), format!("{MAILBOX}{DATE}{ID}\r\nbody\r\n"));
    assert_eq!(up(SenderPolicy::Rewrite, "Subject: x\r\n"), format!("{MAILBOX}{DATE}{ID}Subject: x\r\n"));
    assert_eq!(up(SenderPolicy::Rewrite, ""), format!("{MAILBOX}{DATE}{ID}\r\n"));
    let alone = format!("{OWN}From: scan@contoso.example\r\n");
    assert_eq!(up(SenderPolicy::Rewrite, &alone), alone);
}

/// A line that is no field ends the head, for every server: a field behind it is text, and no line of the device
/// continues a field of packetboat's.
#[test]
fn a_line_that_is_no_field_ends_the_head() {
    let front = format!("{MAILBOX}{DATE}{ID}");
    for (message, expected) in [
        ("Dear all,\r\nFrom: a@b.example\r\n\r\n", "\r\nDear all,\r\nFrom: a@b.example\r\n\r\n"),
        (" continued\r\nFrom: a@b.example\r\n", "\r\n continued\r\nFrom: a@b.example\r\n"),
        ("\tx@evil.example\r\n", "\r\n\tx@evil.example\r\n"),
        (". x@evil.example\r\n", "\r\n. x@evil.example\r\n"),
        ("Subject: x\r\nFr\0om: a@b.example\r\n", "Subject: x\r\n\r\nFr\0om: a@b.example\r\n"),
        ("Subject: x\r\nFr om: a@b.example\r\n", "Subject: x\r\n\r\nFr om: a@b.example\r\n"),
        ("Subject: x\r\n: a@b.example\r\n", "Subject: x\r\n\r\n: a@b.example\r\n"),
        ("Subject: x\r\n..\r\nFrom: a@b.example\r\n", "Subject: x\r\n\r\n..\r\nFrom: a@b.example\r\n"),
        ("Subject: x\r\n.\nFrom: a@b.example\r\n", "Subject: x\r\n\r\n..\r\nFrom: a@b.example\r\n"),
        ("From a@b Sat Nov 28\r\n x\r\nSubject: x\r\n\r\n", "Subject: x\r\n\r\n"),
        (">From a@b Sat Nov 28\r\n\r\n", "\r\n"),
        ("Subject: x\r\nFrom a@b Sat Nov 28\r\n\r\n", "Subject: x\r\n\r\nFrom a@b Sat Nov 28\r\n\r\n"),
    ] {
        assert_eq!(up(SenderPolicy::Rewrite, message), format!("{front}{expected}"), "{message:?}");
    }
}

#[test]
fn a_head_with_bare_line_ends_is_repaired_and_read() {
    let message = "Subject: x\r\nFrom: Ann\r\n <ann@other.example>\r\nDate: x\r\n\r\nbody\r\n";
    let expected =
        format!("{ID}Subject: x\r\n{}Date: x\r\n\r\nbody\r\n\r\n", with_name("\"Ann\"", "ann@other.example"));
    for end in ["\n", "\r"] {
        // The last CRLF makes the end of the data count.
        let message = message.replace("\r\n", end) + "\r\n";
        assert_eq!(up(SenderPolicy::Rewrite, &message), expected, "{end:?}");
    }
    let rewrite = |message: &str| up(SenderPolicy::Rewrite, message);
    // CR CR LF is two line ends, and so a blank line ends the head behind the first field.
    assert_eq!(
        rewrite("Subject: x\r\r\nFrom: a@b.example\r\n"),
        format!("{MAILBOX}{DATE}{ID}Subject: x\r\n\r\nFrom: a@b.example\r\n")
    );
    // A field that a bare CR begins is a field when it goes up.
    let up = rewrite("Subject: x\rFrom: a@b.example\r\n\r\n");
    assert_eq!(up, format!("{DATE}{ID}Subject: x\r\nFrom: <scan@contoso.example>\r\nReply-To: <a@b.example>\r\n\r\n"));
    // The line end in front of the body counts there.
    assert_eq!(rewrite("Subject: x\r\n\n.\r\n"), format!("{MAILBOX}{DATE}{ID}Subject: x\r\n\r\n..\r\n"));
    let quirk = Arc::new(Rules { lf_end_of_data: true, ..policy(SenderPolicy::Rewrite) });
    assert!(check(&quirk, b"Subject: x\n\ntext\n.\n").is_complete);
    assert!(!check(&quirk, b"Subject: x\r\n\ntext\n.\n").is_complete);
    for message in [&b"Subject: x\nFrom: a@b.example\r\n\r\nbody\r\n"[..], b"Subject: x\0\r\n\r\nbody\r\n"] {
        let refuse = Rules { bare_line_ends: BareLineEnds::Refuse, ..policy(SenderPolicy::Rewrite) };
        assert_eq!(passed(refuse, message), Err(Refusal::BareLineEnd));
    }
}

/// A field behind the bound on heads would be one that the policy has not seen: the message is refused, at the same octet
/// however it comes. The policy "envelope" looks at no field.
#[test]
fn no_sender_hides_behind_the_bound_on_heads() {
    let long = format!("X: {}\r\n", "a".repeat(997)).repeat(65);
    let end = "\r\nbody\r\n.\r\n";
    for behind in [0, 31, 380, 381, 382, 383, 384, 2000, 70_000] {
        let head = format!("{long}X: {}\r\nFrom: a@b.example\r\n", "a".repeat(behind));
        // The last octet of the blank line stands within the bound, or behind it.
        let is_seen = head.len() + "\r\n".len() <= header::LONGEST_HEAD;
        assert_eq!(is_seen, behind < 381, "the cases lie around the bound");
        let message = head + end;
        for rules in [SenderPolicy::Rewrite, SenderPolicy::Pass, SenderPolicy::Reject, SenderPolicy::Envelope] {
            let rules = Arc::new(policy(rules));
            let whole = passage(&rules, &[message.as_bytes()]);
            let text = String::from_utf8_lossy(&whole.up);
            let policy = rules.sender.as_ref().unwrap().policy;
            assert!(whole.is_complete, "{policy:?}, {behind}");
            match policy {
                SenderPolicy::Rewrite if is_seen => assert!(text.contains("Reply-To: <a@b.example>"), "{behind}"),
                SenderPolicy::Envelope => assert!(whole.refusal.is_none() && text.ends_with(&message), "{behind}"),
                _ if is_seen => assert!(matches!(whole.refusal, Some(Refusal::Sender(_))), "{policy:?}, {behind}"),
                _ => assert_eq!((whole.refusal.as_ref(), &*text), (Some(&Refusal::HeadTooLong), ""), "{behind}"),
            }
            for size in [97, 1000, 16 * 1024] {
                let pieces: Vec<&[u8]> = message.as_bytes().chunks(size).collect();
                assert!(passage(&rules, &pieces) == whole, "{behind}, {size}");
            }
        }
    }
    let one = format!(" {}\r\n.\r\n", "a".repeat(70_000));
    let up = passage(&Arc::new(policy(SenderPolicy::Rewrite)), &[one.as_bytes()]).up;
    assert!(up.starts_with(format!("{MAILBOX}{DATE}{ID}\r\n aaa").as_bytes()));
}

/// Whatever stands in the old field, the new ones are no more than From and Reply-To.
#[test]
fn nothing_in_the_old_field_becomes_another_field() {
    let mut random = Random(7);
    let words: [&[u8]; 20] = [
        b"Ann",
        b"\"",
        b"\\",
        b"<",
        b">",
        b"@",
        b"a@b.example",
        b"<a@b.example>",
        b" ",
        b"\r\n ",
        b"\r\n\t",
        b"=?utf-8?q?a?=",
        b"=?",
        b"?=",
        b"\xfc",
        "\u{fc}".as_bytes(),
        b"\0",
        b"(",
        b",",
        b"=?utf-8?b?DQpYOiB5?=",
    ];
    for _ in 0..3000 {
        let value: Vec<u8> = (0..random.below(9)).flat_map(|_| words[random.below(20)].to_vec()).collect();
        let message = [OWN.as_bytes(), b"From: ", &value, b"\r\nSubject: x\r\n\r\n.\r\n"].concat();
        let up = passage(&Arc::new(policy(SenderPolicy::Rewrite)), &[&message]).up;
        let text = String::from_utf8_lossy(&up).into_owned();
        let names = text
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split(':').next().unwrap());
        let names: Vec<&str> = names.filter(|name| *name != "Reply-To").collect();
        assert_eq!(names, ["Date", "Message-ID", "From", "Subject", "", ".", ""], "{text}");
        assert!(text.is_ascii() && text.contains("<scan@contoso.example>\r\n"), "{text}");
    }
}
