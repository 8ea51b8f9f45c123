//! These tests prove parked connections against Dovecot, by its own log and the files of its mailboxes.

use support::dovecot::Dovecot;
use support::issuer::Issuer;
use support::proxy::{translating_listener, upstream};
use support::translated::{self, DEVICE_PASSWORD};

use super::*;

struct Scene {
    dovecot: Dovecot,
    proxy: Proxy,
    mailbox: String,
    _issuer: Issuer,
}

impl Scene {
    fn new(messages: &[&[u8]]) -> Self {
        let issuer = Issuer::start();
        let dovecot = Dovecot::start_with_tokens_of(&issuer);
        let mailbox = dovecot.user_with(messages);
        let roots = dovecot.roots();
        let servers = upstream("implicit", [dovecot.imaps, dovecot.pop3s], roots.parent().unwrap(), "park = \"5m\"");
        let device = translated::account("scans", &mailbox, "implicit", &issuer)
            + &translated::device(LOGIN, "scans", DEVICE_PASSWORD, "");
        let proxy = Proxy::start(&(servers + &translating_listener("imap", "imap", "implicit", "") + &device));
        Self { dovecot, proxy, mailbox, _issuer: issuer }
    }

    fn polls(&self) -> Imap {
        let mut device = imap(&self.proxy);
        device.login(LOGIN, DEVICE_PASSWORD);
        device.ok("SELECT INBOX");
        device
    }

    /// The number of logins in Dovecot's log.
    fn logins(&self) -> usize {
        self.dovecot.log().lines().filter(|line| line.contains("imap-login") && line.contains("Login: user=<")).count()
    }
}

/// The first take is compared with a dialled connection; the nine polls behind it need no login.
#[test]
fn ten_polls_are_one_login_in_dovecots_log() {
    let scene = Scene::new(&[]);
    scene.polls().ok("LOGOUT");
    until_parked(&scene.proxy, 1);
    let before = scene.logins();
    assert_eq!(before, 1);
    for poll in 1..=10 {
        let message = support::message(500 + poll);
        scene.dovecot.post(&scene.mailbox, &format!("1800000{poll:03}.M1P1.test"), &message);
        let mut device = scene.polls();
        assert!(device.fetch(poll) == message, "poll {poll}");
        device.ok("LOGOUT");
        until_parked(&scene.proxy, poll as u64 + 1);
    }
    assert_eq!(scene.logins() - before, 1, "{}", scene.dovecot.log());
    until(&scene.proxy, "packetboat_parked_taken_total", "", 9);
    until(&scene.proxy, "packetboat_parked_stale_total", "", 0);
}

/// The changes of a device are there right behind its LOGOUT, and the flag \\Deleted alone removes nothing.
#[test]
fn flags_and_messages_are_as_the_device_left_them() {
    let messages: Vec<Vec<u8>> = (0..3).map(|number| support::message(600 + number)).collect();
    let scene = Scene::new(&messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for count in [1, 2] {
        scene.polls().ok("LOGOUT");
        until_parked(&scene.proxy, count);
    }
    let mut device = scene.polls();
    device.ok("STORE 1 +FLAGS (\\Seen)");
    device.ok("STORE 2 +FLAGS (\\Deleted)");
    device.ok("STORE 3 +FLAGS (\\Flagged)");
    device.ok("LOGOUT");
    until_parked(&scene.proxy, 3);
    assert_eq!(scene.dovecot.messages_of(&scene.mailbox), 3, "UNSELECT expunges nothing");
    let mut device = scene.polls();
    for (number, flag) in [(1, "\\Seen"), (2, "\\Deleted"), (3, "\\Flagged")] {
        let flags = format!("{:?}", device.ok(&format!("FETCH {number} FLAGS")));
        assert!(flags.contains(&flag.escape_default().to_string()) || flags.contains(flag), "{number}: {flags}");
    }
    for (number, message) in messages.iter().enumerate() {
        assert!(device.fetch(number + 1) == *message, "message {number}");
    }
    device.ok("EXPUNGE");
    device.ok("LOGOUT");
    until_parked(&scene.proxy, 4);
    assert_eq!(scene.dovecot.messages_of(&scene.mailbox), 2, "the device's own EXPUNGE does");
    let mut device = scene.polls();
    assert!(device.fetch(2) == messages[2]);
    until(&scene.proxy, "packetboat_parked_taken_total", "", 3);
}
