//! These tests prove that a device with `delete = false` can lose no mail, whatever commands it sends.

use support::dovecot::Dovecot;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN};
use support::imap::{Imap, Part, status};
use support::issuer::Issuer;
use support::message;
use support::pop3::Pop3;
use support::translated::{DEVICE_PASSWORD, account, device, proxy};

/// Sends every command that could lose mail; afterwards the mail is complete, and the session goes on.
fn tries_to_delete_by_imap(imap: &mut Imap, mail: &[u8]) {
    imap.ok("SELECT INBOX");
    assert!(imap.fetch(1) == mail);
    imap.ok("STORE 1 +FLAGS (\\Seen)");
    for command in [
        "STORE 1 +FLAGS (\\Deleted)",
        "store 1 flags (\\Seen \\dElEtEd)",
        "UID STORE 1:* +FLAGS.SILENT (\\Deleted)",
        "EXPUNGE",
        "UID EXPUNGE 1:*",
        "MOVE 1 Trash",
        "UID MOVE 1 Trash",
        "COPY 1 Trash",
        "UID COPY 1 Trash",
        "DELETE INBOX",
        "RENAME INBOX elsewhere",
        "COMPRESS DEFLATE",
        "XPURGE",
    ] {
        let answer = status(&imap.command(command));
        assert!(answer.starts_with("NO [NOPERM] "), "{command}: {answer}");
    }
    // The commands come in the middle of a message, and one looks like a literal without being one.
    imap.device.send("x1 FETCH 1 BODY.PEEK[]\r\nx2 EXPUNGE\r\nx3 DELETE {5+}\r\nINBOX\r\nx4 NOOP\r\n");
    let parts = imap.answer("x4");
    assert!(parts.contains(&Part::Literal(mail.to_vec())), "{parts:?}");
    for tag in ["x2 NO ", "x3 NO ", "x1 OK "] {
        assert!(parts.iter().any(|part| matches!(part, Part::Line(line) if line.starts_with(tag))), "{tag}: {parts:?}");
    }
    imap.ok("CLOSE");
    imap.ok("SELECT INBOX");
    let flags = imap.ok("FETCH 1 FLAGS");
    assert!(!format!("{flags:?}").contains("Deleted"), "{flags:?}");
}

fn tries_to_delete_by_pop3(pop3: &mut Pop3, mail: &[u8]) {
    assert!(pop3.multi("RETR 1") == mail);
    for command in ["DELE 1", "dele 1", " DELE 1", "DELE\t1"] {
        pop3.ok(command);
    }
    // The commands come pipelined, and the answers stay in order.
    pop3.device.send("RETR 1\r\nDELE 1\r\nSTAT\r\n");
    assert!(pop3.device.line().starts_with("+OK"));
    assert!(pop3.lines() == mail);
    assert!(pop3.device.line().starts_with("+OK"));
    assert!(pop3.device.line().starts_with("+OK 1 "), "nothing is marked");
    assert!(pop3.command("XTND DELE 1").starts_with("-ERR"));
}

#[test]
fn nothing_is_lost_at_exchange() {
    let exchange = Exchange::new();
    let trial = exchange::account("scans", SCAN, "").replace("[[device]]", "[[device]]\ndelete = false");
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &trial));
    let mail = message(50_000);
    assert!(exchange.simulator.deliver(SCAN, mail.clone()));
    let mut pop3 = exchange::pop3(&proxy);
    pop3.login(LOGIN, PASSWORD);
    tries_to_delete_by_pop3(&mut pop3, &mail);
    pop3.ok("QUIT");
    assert!(pop3.device.has_ended());
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    // Without the setting, the device can delete.
    proxy.configure(&exchange.configuration(BY_SECRET));
    assert_eq!(proxy.reload().0, 0);
    exchange::pop3(&proxy).session(LOGIN, PASSWORD, &[&mail]);
    assert_eq!(exchange.simulator.messages(SCAN), 0);
}

#[test]
fn nothing_is_lost_at_dovecot() {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let mail = message(50_000);
    let mailbox = dovecot.user_with(&[&mail]);
    let fax = device("fax", "fax", DEVICE_PASSWORD, "delete = false") + &account("fax", &mailbox, "implicit", &issuer);
    let proxy = proxy(&dovecot, &fax);
    let mut imap = proxy.imap("imap");
    imap.login("fax", DEVICE_PASSWORD);
    tries_to_delete_by_imap(&mut imap, &mail);
    // Only DONE ends IDLE.
    imap.device.send("i IDLE\r\n");
    assert!(imap.device.line().starts_with("+ "));
    imap.device.send("DONE\r\n");
    assert!(status(&imap.answer("i")).starts_with("OK"));
    imap.ok("LOGOUT");
    assert!(imap.device.has_ended());
    let mut pop3 = proxy.pop3("pop3");
    pop3.login("fax", DEVICE_PASSWORD);
    tries_to_delete_by_pop3(&mut pop3, &mail);
    pop3.ok("QUIT");
    assert!(pop3.device.has_ended());
    assert_eq!(dovecot.messages_of(&mailbox), 1);
}
