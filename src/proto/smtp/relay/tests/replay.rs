//! These tests prove that a message whose server is lost before its content goes to another one, once.

use super::*;

const RCPT: &str = "RCPT TO:<a@b.example>\r\n";

/// A command before whose answer the server is lost: what the device says, and what the server had answered before.
const BEFORE: [(&str, &[&str]); 3] =
    [("MAIL", &[]), ("RCPT", &[MAIL_OF_DEVICE]), ("DATA", &[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"])];

impl Play {
    /// The device has said these commands, and the server has taken them.
    fn had(&mut self, commands: &[&str]) {
        for command in commands {
            self.ask(command, "250 2.1.0 taken");
        }
        self.got();
    }

    fn begin(&mut self, verb: &str) {
        match verb {
            "MAIL" => self.device(&format!("{MAIL_OF_DEVICE}\r\n")),
            "RCPT" => self.device(RCPT),
            _ => self.device("DATA\r\n"),
        }
        self.got();
    }

    /// Another server takes the envelope so far, and gets the command.
    fn replays(&mut self, verb: &str) {
        let envelope: &[&str] = match verb {
            "MAIL" => &[],
            "RCPT" => &[MAIL],
            _ => &[MAIL, RCPT],
        };
        for line in envelope {
            assert_eq!(self.got(), *line);
            self.server("250 again\r\n");
        }
        let command = match verb {
            "MAIL" => MAIL,
            "RCPT" => RCPT,
            _ => "DATA\r\n",
        };
        assert_eq!((self.got().as_str(), self.hears().as_str()), (command, ""));
    }
}

#[test]
fn a_server_that_is_lost_before_the_content_is_replaced() {
    for (verb, before) in BEFORE {
        // A part of the reply has come, or all of a 421.
        for partial in ["", "2", "250-x\r\n", "250-x\r\n25"] {
            at_every_cut(|play| {
                play.had(before);
                play.begin(verb);
                if verb != "DATA" || partial.is_empty() {
                    play.server(partial);
                }
                assert!(play.lose() && play.is_wanting, "{verb} {partial}");
                play.reconnect();
                play.replays(verb);
                play.server(if verb == "DATA" { "354 go\r\n" } else { "250 2.0.0 taken\r\n" });
                assert!(play.hears().starts_with(['2', '3']), "{verb}");
                assert!(play.notices.is_empty());
            });
        }
    }
}

#[test]
fn a_server_that_says_421_before_the_content_is_replaced() {
    for (verb, before) in BEFORE {
        at_every_cut(|play| {
            play.had(before);
            play.begin(verb);
            play.server("421 4.3.2 Service not active\r\n");
            assert!(play.is_wanting && play.hears().is_empty(), "{verb}");
            play.reconnect();
            play.replays(verb);
        });
    }
}

/// The server is lost between two commands of a message: the next one asks for another.
#[test]
fn a_server_that_is_lost_between_two_commands_of_a_message_is_replaced() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        assert!(play.lose() && !play.is_wanting);
        play.device("NOOP\r\n");
        assert_eq!(play.hears(), "250 2.0.0 OK\r\n");
        play.device("DATA\r\n");
        play.reconnect();
        play.replays("DATA");
        play.server("354 go\r\n");
        assert_eq!(play.hears(), "354 go\r\n");
    });
}

#[test]
fn recipients_that_were_refused_are_not_replayed() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE]);
        play.device("RCPT TO:<nobody@b.example>\r\n");
        play.server("550 5.1.1 unknown\r\n");
        assert_eq!(play.hears(), "550 5.1.1 unknown\r\n");
        play.ask("RCPT TO:<a@b.example>", "250 2.1.5 taken");
        play.device("DATA\r\n");
        play.got();
        play.lose();
        play.reconnect();
        play.replays("DATA");
    });
}

#[test]
fn another_answer_in_the_replay_is_a_temporary_failure() {
    for refusal in ["550 5.1.1 unknown", "451 4.3.2 busy", "421 4.3.2 closing", "550-a\r\n550 b"] {
        for taken in 0..2 {
            at_every_cut(|play| {
                play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
                play.begin("DATA");
                play.lose();
                play.reconnect();
                (0..taken).for_each(|_| play.server("250 ok\r\n"));
                play.server(&format!("{refusal}\r\n"));
                assert_eq!(play.hears(), LOST, "{refusal}");
                assert_eq!(play.notices, [Kind::MessageDeferred]);
                // The message is over. The next one begins anew.
                assert!(!play.has_server);
                play.device(RCPT);
                assert_eq!(play.hears(), "503 5.5.1 MAIL comes first\r\n");
                play.got();
                play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
                play.reconnect();
                assert!(play.got().ends_with(MAIL));
            });
        }
    }
}

#[test]
fn a_message_gets_one_other_server_and_no_third() {
    for (verb, before) in BEFORE {
        at_every_cut(|play| {
            play.had(before);
            play.begin(verb);
            play.lose();
            play.reconnect();
            play.got();
            // It is lost in the replay, or over the command.
            assert!(play.lose() && !play.is_wanting);
            assert_eq!(play.hears(), LOST, "{verb}");
            // The next message has two again.
            play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
            play.reconnect();
            play.got();
            assert!(play.lose() && play.is_wanting);
        });
    }
}

#[test]
fn a_message_whose_other_server_is_not_reached_is_a_temporary_failure() {
    for (verb, before) in BEFORE {
        at_every_cut(|play| {
            play.had(before);
            play.begin(verb);
            play.lose();
            play.fails(Kind::Connect);
            let answer = play.hears();
            assert!(answer.starts_with("451 4.4."), "{verb}: {answer}");
        });
    }
}

/// Octets behind DATA are a message, and must not be read as commands.
#[test]
fn a_device_that_sends_ahead_of_a_lost_server_is_closed() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        play.begin("DATA");
        play.device("RSET\r\nMAIL FROM:<evil@b.example>\r\n");
        play.lose();
        play.fails(Kind::Connect);
        assert_eq!((play.error, play.hears().as_str()), (Some(Kind::SentAhead), ""));
    });
}

/// Behind the 354 there is no other server: half a message may be at the first.
#[test]
fn content_goes_to_one_server_alone() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        play.ask("DATA", "354 go");
        play.device("Subject: x\r\n");
        assert!(!play.lose());
    });
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        play.ask("DATA", "354 go");
        play.device("Subject: x\r\n\r\n.\r\n");
        play.server("250-half of\r\n");
        assert_eq!(play.hears(), "", "a reply in part tells nothing");
        assert!(!play.lose());
    });
}

/// The device has a message's answer whole, or not at all, and reads each line of it.
#[test]
fn a_reply_of_several_lines_comes_as_one() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        play.ask("DATA", "354 go");
        play.device("Subject: x\r\n\r\n.\r\n");
        play.server("250-one\r\n");
        play.server("250-two\r\n");
        assert_eq!(play.hears(), "");
        play.server("250 three\r\n");
        assert_eq!(play.hears(), "250-one\r\n250-two\r\n250 three\r\n");
        assert_eq!(play.sent, 1);
    });
}

#[test]
fn an_endless_reply_is_cut_to_a_bound() {
    let mut play = Play::new(4096);
    play.device("NOOP\r\n");
    for _ in 0..1000 {
        play.server("250-a line of fifty octets, which says nothing much\r\n");
    }
    play.server("250 end\r\n");
    let heard = play.hears();
    assert!(heard.ends_with("\r\n250 end\r\n") && heard.len() < 5000, "{}", heard.len());
}

/// The message was not taken, and the session goes on: 421 would tell the device that it does not.
#[test]
fn a_421_behind_the_message_is_a_temporary_failure() {
    at_every_cut(|play| {
        play.had(&[MAIL_OF_DEVICE, "RCPT TO:<a@b.example>"]);
        play.ask("DATA", "354 go");
        play.device("Subject: x\r\n\r\n.\r\n");
        play.server("421 4.4.2 Connection dropped\r\n");
        assert_eq!(play.hears(), "451 4.4.2 Connection dropped\r\n");
        assert_eq!((play.notices.as_slice(), play.has_server, play.sent), (&[Kind::MessageDeferred][..], false, 0));
    });
}
