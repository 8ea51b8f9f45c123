//! These tests prove that a device notices nothing of a server that is away between two messages.

use super::*;

impl Play {
    /// A whole message.
    fn message(&mut self) {
        self.ask(MAIL_OF_DEVICE, "250 2.1.0 sender OK");
        self.ask("RCPT TO:<a@b.example>", "250 2.1.5 recipient OK");
        self.ask("DATA", "354 go");
        self.device("Subject: x\r\nDate: x\r\nMessage-ID: <x@y>\r\nFrom: scan@contoso.example\r\n\r\n.\r\n");
        assert!(self.got().ends_with("\r\n.\r\n"));
        self.server("250 2.6.0 queued\r\n");
        assert_eq!(self.hears(), "250 2.6.0 queued\r\n");
    }
}

#[test]
fn a_server_that_closes_between_messages_is_dialled_for_the_next_one() {
    at_every_cut(|play| {
        play.message();
        assert!(play.lose() && !play.is_wanting);
        assert_eq!(play.hears(), "");
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.reconnect();
        assert_eq!((play.got().as_str(), play.hears().as_str()), (MAIL, ""));
        play.server("250 2.1.0 sender OK\r\n");
        assert_eq!(play.hears(), "250 2.1.0 sender OK\r\n");
        play.ask("RCPT TO:<a@b.example>", "250 2.1.5 recipient OK");
        play.ask("RSET", "250 2.0.0 reset");
        play.message();
        assert_eq!((play.sent, play.notices.len()), (2, 0));
    });
}

/// RFC 5321 §3.8: a server may say 421 at any time.
#[test]
fn a_server_that_says_421_between_messages_is_left_in_silence() {
    at_every_cut(|play| {
        play.server("421 4.4.1 Connection timed out.\r\n");
        assert!(!play.has_server && !play.is_wanting && play.error.is_none());
        assert_eq!(play.hears(), "");
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.reconnect();
        assert_eq!(play.got(), MAIL);
    });
}

#[test]
fn commands_that_need_no_server_are_answered_without_one() {
    at_every_cut(|play| {
        play.lose();
        for (command, answer) in [
            ("NOOP", "250 2.0.0 OK\r\n"),
            ("RSET", "250 2.0.0 OK\r\n"),
            ("HELO x", "250 packetboat\r\n"),
            ("RCPT TO:<a@b.example>", "503 5.5.1 MAIL comes first\r\n"),
            ("MAIL FROM:<a@b.example> SIZE=999999999", "552 5.3.4 the message is too big\r\n"),
        ] {
            play.device(&format!("{command}\r\n"));
            assert_eq!(play.hears(), answer, "{command}");
        }
        play.device("EHLO x\r\n");
        assert!(play.hears().ends_with("250 ENHANCEDSTATUSCODES\r\n"));
        assert!(!play.is_wanting);
        play.device("QUIT\r\n");
        assert_eq!(play.hears(), "221 2.0.0 closing connection\r\n");
        assert!(play.is_closed && play.session.activity().has_logged_out);
    });
}

/// The replies to commands that change nothing do not need the server that was lost over them.
#[test]
fn a_server_that_is_lost_over_a_command_without_a_message_costs_nothing() {
    for (command, answer) in
        [("NOOP", "250 2.0.0 OK\r\n"), ("RSET", "250 2.0.0 OK\r\n"), ("HELO x", "250 packetboat\r\n")]
    {
        for partial in ["", "250-x\r\n", "250-x\r\n25"] {
            at_every_cut(|play| {
                play.device(&format!("{command}\r\n"));
                play.server(partial);
                assert!(play.lose());
                assert_eq!(play.hears(), answer);
            });
        }
    }
}

#[test]
fn a_device_hears_why_there_is_no_server_and_stays() {
    for (kind, answer) in [
        (Kind::Connect, "451 4.4.1 "),
        (Kind::TooManySessions, "451 4.3.2 "),
        (Kind::NotAuthorized, "550 5.7.1 "),
        (Kind::ContactAdmin, "550 5.7.0 "),
    ] {
        at_every_cut(|play| {
            play.lose();
            play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
            play.fails(kind);
            assert!(play.hears().starts_with(answer), "{kind:?}");
            // It may try again at once.
            play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
            play.reconnect();
            assert_eq!(play.got(), MAIL);
        });
    }
}

#[test]
fn a_refused_login_leaves_the_session() {
    at_every_cut(|play| {
        play.lose();
        play.device(&format!("{MAIL_OF_DEVICE}\r\n"));
        play.connect(true);
        play.server("220 ready\r\n");
        play.server("421 4.3.2 Service not active\r\n");
        assert!(play.hears().starts_with("451 4.4.1 ") && play.error.is_none());
        play.device("NOOP\r\n");
        assert_eq!(play.hears(), "250 2.0.0 OK\r\n");
    });
}

/// A device's own password is not kept, and so the server cannot be had again.
#[test]
fn a_login_that_is_passed_through_ends_with_its_server() {
    let mut play = Play::with(4096, false);
    assert!(!play.lose());
    let mut play = Play::with(4096, false);
    play.server("421 4.4.1 Connection timed out.\r\n");
    assert_eq!(play.hears(), "421 4.4.1 Connection timed out.\r\n");
}

#[test]
fn the_reply_to_quit_is_the_last_one() {
    at_every_cut(|play| {
        play.ask("QUIT", "221 bye");
        assert!(!play.lose());
    });
}
