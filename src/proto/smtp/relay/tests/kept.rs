//! These tests prove that a message that the server does not take at once is kept as it went up, for the reason that
//! there is, and that the device notices nothing.

use super::*;

const TAKEN: &str = "250 2.6.0 kept here, it will be sent later\r\n";
/// A message as a device sends it, and as it goes up.
const SENT: &str = "From: other@x.example\r\nDate: d\r\nMessage-ID: <i@d>\r\n\r\na\n..b\r\n.\r\n";
const WENT_UP: &str = "From: <scan@contoso.example>\r\nReply-To: <other@x.example>\r\nDate: d\r\nMessage-ID: <i@d>\r\n\r\n\
                       a\r\n..b\r\n.\r\n";

impl Play {
    /// The device says this, and hears a yes to it without a server.
    fn taken_locally(&mut self, command: &str, answer: &str) {
        self.device(&format!("{command}\r\n"));
        assert_eq!(self.hears(), answer, "{command}");
    }

    /// The rest of a message whose commands up to here were taken.
    fn goes_on_locally(&mut self, from: usize) {
        let commands = [
            (MAIL_OF_DEVICE, "250 2.1.0 sender OK\r\n"),
            ("RCPT TO:<a@b.example>", "250 2.1.5 recipient OK\r\n"),
            ("DATA", "354 end with CRLF, dot, CRLF\r\n"),
        ];
        for (command, answer) in commands.iter().skip(from) {
            self.taken_locally(command, answer);
        }
        self.got();
        self.device(SENT);
        assert_eq!(self.hears(), TAKEN);
        assert_eq!((self.got().as_str(), self.content.as_str()), ("", WENT_UP));
        assert_eq!(self.envelope.sender, "scan@contoso.example");
        assert_eq!(self.envelope.recipients, ["a@b.example"]);
        assert_eq!((self.sent, self.error, self.notices.len()), (0, None, 0));
    }

    /// The server has asked for the content.
    fn in_content(&mut self) {
        self.ask(MAIL_OF_DEVICE, "250 ok");
        self.ask("RCPT TO:<a@b.example>", "250 ok");
        self.ask("DATA", "354 go");
        self.got();
    }
}

fn keeping_at_every_cut(play: impl Fn(&mut Play)) {
    for cut in [1, 2, 3, 5, 7, 11, 4096] {
        play(&mut Play::keeping(cut));
    }
}

#[test]
fn a_message_that_the_server_takes_is_not_kept() {
    keeping_at_every_cut(|play| {
        play.in_content();
        play.device(SENT);
        assert_eq!((play.got().as_str(), play.hears().as_str()), (WENT_UP, ""));
        assert_eq!(play.content, WENT_UP);
        assert_eq!(play.envelope.parameters, "BODY=8BITMIME");
        play.server("250 2.6.0 queued\r\n");
        assert_eq!((play.hears().as_str(), play.sent, play.kept.len()), ("250 2.6.0 queued\r\n", 1, 0));
    });
}

#[test]
fn a_temporary_refusal_at_any_step_keeps_the_message() {
    let commands = [MAIL_OF_DEVICE, "RCPT TO:<a@b.example>", "DATA"];
    for step in 0..3 {
        for reply in ["451 4.3.2 busy", "450-greylisted\r\n450 4.2.0 later"] {
            keeping_at_every_cut(|play| {
                for command in commands.iter().take(step) {
                    play.ask(command, "250 ok");
                }
                play.device(&format!("{}\r\n", commands[step]));
                play.server(&format!("{reply}\r\n"));
                assert!(play.hears().starts_with(['2', '3']), "{step}");
                play.goes_on_locally(step + 1);
                assert!(matches!(play.kept.as_slice(), [KeepReason::Refused(said, None)] if said.starts_with("45")));
            });
        }
    }
    keeping_at_every_cut(|play| {
        play.in_content();
        play.device(SENT);
        play.got();
        play.server("451 4.7.500 Server busy\r\n");
        assert_eq!(play.hears(), TAKEN);
        assert!(matches!(play.kept.as_slice(), [KeepReason::Refused(_, Some(_))]), "{:?}", play.kept);
        // The connection is as good as before.
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        assert_eq!(play.got(), MAIL);
    });
}

#[test]
fn a_recipient_too_many_is_the_device_s_to_send_to() {
    keeping_at_every_cut(|play| {
        play.ask(MAIL_OF_DEVICE, "250 ok");
        play.ask("RCPT TO:<a@b.example>", "250 ok");
        play.device("RCPT TO:<c@b.example>\r\n");
        play.server("452 4.5.3 Too many recipients\r\n");
        assert_eq!(play.hears(), "452 4.5.3 Too many recipients\r\n");
        play.ask("DATA", "354 go");
        play.device(SENT);
        assert_eq!(play.envelope.recipients, ["a@b.example"]);
        play.server("250 2.6.0 queued\r\n");
        assert_eq!((play.sent, play.kept.len()), (1, 0));
    });
}

#[test]
fn a_refusal_at_any_step_keeps_nothing() {
    let commands = [MAIL_OF_DEVICE, "RCPT TO:<a@b.example>", "DATA"];
    for step in 0..3 {
        keeping_at_every_cut(|play| {
            for command in commands.iter().take(step) {
                play.ask(command, "250 ok");
            }
            play.device(&format!("{}\r\n", commands[step]));
            play.server("550 5.7.1 no\r\n");
            assert_eq!((play.hears().as_str(), play.kept.len()), ("550 5.7.1 no\r\n", 0));
        });
    }
    keeping_at_every_cut(|play| {
        play.in_content();
        play.device(SENT);
        play.server("554 5.6.0 no\r\n");
        assert_eq!((play.hears().as_str(), play.kept.len()), ("554 5.6.0 no\r\n", 0));
    });
}

/// A server that is lost in the content, at every octet of it.
#[test]
fn a_server_lost_in_the_content_costs_nothing() {
    for at in 0..SENT.len() {
        let mut play = Play::keeping(4096);
        play.in_content();
        play.device(&SENT[..at]);
        assert!(play.lose(), "{at}");
        play.device(&SENT[at..]);
        assert_eq!((play.hears().as_str(), play.content.as_str()), (TAKEN, WENT_UP), "{at}");
        assert_eq!(play.kept, [KeepReason::ServerLost]);
    }
    keeping_at_every_cut(|play| {
        play.in_content();
        play.device(&SENT[..30]);
        play.server("421 4.3.2 closing\r\n");
        play.device(&SENT[30..]);
        assert_eq!((play.hears().as_str(), play.content.as_str()), (TAKEN, WENT_UP));
    });
}

/// The server may have taken it, or not.
#[test]
fn a_server_lost_behind_the_message_keeps_it_as_unknown() {
    for part in ["", "250-queued\r\n", "250 que"] {
        keeping_at_every_cut(|play| {
            play.in_content();
            play.device(SENT);
            play.server(part);
            assert!(play.lose());
            assert_eq!((play.hears().as_str(), play.kept.as_slice()), (TAKEN, &[KeepReason::Unknown][..]));
        });
    }
}

#[test]
fn a_server_that_is_not_reached_keeps_the_message() {
    keeping_at_every_cut(|play| {
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.fails(Kind::Connect);
        assert_eq!(play.hears(), "250 2.1.0 sender OK\r\n");
        play.goes_on_locally(1);
        assert!(matches!(play.kept.as_slice(), [KeepReason::NoServer(_)]));
        // The next message asks for a server again.
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        assert!(play.is_wanting);
    });
    // What a person has to mend is told at once.
    keeping_at_every_cut(|play| {
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.fails(Kind::NotAuthorized);
        assert!(play.hears().starts_with("550 5.7.1 "));
    });
}

/// The second server for the same message is the last one that is tried.
#[test]
fn a_message_that_loses_two_servers_is_kept() {
    keeping_at_every_cut(|play| {
        play.ask(MAIL_OF_DEVICE, "250 ok");
        play.device("RCPT TO:<a@b.example>\r\n");
        play.lose();
        play.got();
        play.reconnect();
        play.lose();
        assert_eq!(play.hears(), "250 2.1.5 recipient OK\r\n");
        play.goes_on_locally(2);
    });
}

/// The rules for senders and recipients hold without a server as well.
#[test]
fn the_rules_hold_without_a_server() {
    keeping_at_every_cut(|play| {
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.fails(Kind::Connect);
        play.hears();
        play.device("RCPT TO:<bad address>\r\n");
        assert!(play.hears().starts_with("5"));
        play.taken_locally("DATA", "503 5.5.1 RCPT comes first\r\n");
    });
}

#[test]
fn a_spool_without_room_changes_nothing() {
    keeping_at_every_cut(|play| {
        play.has_room = false;
        play.in_content();
        play.device("Subject: x\r\n");
        assert!(!play.lose());
    });
    keeping_at_every_cut(|play| {
        play.has_room = false;
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.fails(Kind::Connect);
        play.taken_locally("RCPT TO:<a@b.example>", "250 2.1.0 sender OK\r\n250 2.1.5 recipient OK\r\n");
        play.taken_locally("DATA", LOST);
    });
}

/// The answer comes too late: the device hears that the message is kept, and the session is without its server.
#[test]
fn a_late_answer_does_not_hold_the_device_up() {
    keeping_at_every_cut(|play| {
        play.in_content();
        play.device(SENT);
        play.server("250-not yet\r\n");
        play.leave();
        play.is_kept(true);
        play.run();
        assert_eq!((play.hears().as_str(), play.sent), (TAKEN, 0));
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        assert!(play.is_wanting);
    });
}

/// A message with more recipients than Exchange Online takes would wait in the spool until it is too old.
#[test]
fn a_message_without_a_server_has_five_hundred_recipients() {
    let mut play = Play::keeping(4096);
    play.lose();
    play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
    play.fails(Kind::Connect);
    assert_eq!(play.hears(), "250 2.1.0 sender OK\r\n");
    for number in 0..500 {
        play.taken_locally(&format!("RCPT TO:<r{number}@b.example>"), "250 2.1.5 recipient OK\r\n");
    }
    for _ in 0..2 {
        play.taken_locally("RCPT TO:<more@b.example>", "452 4.5.3 too many recipients\r\n");
    }
    play.taken_locally("DATA", "354 end with CRLF, dot, CRLF\r\n");
    play.device(SENT);
    assert_eq!((play.hears().as_str(), play.envelope.recipients.len()), (TAKEN, 500));
    assert_eq!(play.envelope.recipients.last().unwrap(), "r499@b.example");
}

/// A message without a recipient that was taken is refused, with a server or without, and counts as refused.
#[test]
fn a_message_without_a_recipient_is_a_refused_message() {
    keeping_at_every_cut(|play| {
        play.ask(MAIL_OF_DEVICE, "250 ok");
        play.ask("RCPT TO:<a@b.example>", "550 5.1.1 nobody");
        play.ask("DATA", "554 5.5.1 no valid recipients");
        assert_eq!(play.notices, [Kind::RecipientRefused; 2]);
        play.ask("RSET", "250 ok");
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.fails(Kind::Connect);
        play.hears();
        play.taken_locally("DATA", "503 5.5.1 RCPT comes first\r\n");
        assert_eq!((play.notices.len(), play.error, play.sent), (3, None, 0));
    });
}
