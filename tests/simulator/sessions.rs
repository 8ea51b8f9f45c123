//! These tests prove that the simulator's sessions end, are bounded and grow stale as Exchange Online's do, for the
//! tests of parked connections.

use std::time::{Duration, Instant};

use packetboat::simulator::quirks::imap::{EXPIRED, ImapFault};
use packetboat::simulator::quirks::smtp::Afterwards;
use packetboat::simulator::quirks::{Excess, Expiry, LoginRate};

use super::scene::*;

const MESSAGE: &[u8] = b"Subject: scan\r\n\r\nhello\r\n";
const THROTTLED: &str = "a BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds";
const NOT_CONNECTED: &str = "a BAD User is authenticated but not connected.";

#[test]
fn a_login_takes_its_time() {
    let scene = Scene::new();
    let token = scene.app_token();
    let delay = Duration::from_millis(300);
    scene.quirk(|quirks| quirks.mail.login_delay = delay);
    for command in [format!("AUTHENTICATE XOAUTH2 {}", xoauth2(SCAN, &token)), "LOGIN scan word".to_owned()] {
        let mut imap = scene.imap();
        let begun = Instant::now();
        imap.ask(&command);
        assert!(begun.elapsed() >= delay, "{command}");
    }
    let begun = Instant::now();
    assert!(scene.pop3().auth(SCAN, &token).starts_with("+OK"));
    assert!(begun.elapsed() >= delay);
}

#[test]
fn silent_sessions_are_closed() {
    let scene = Scene::new();
    let closed = "* BYE Connection is closed. 13\r\n";
    scene.quirk(|quirks| quirks.mail.idle_timeout = Duration::from_millis(400));
    let (mut imap, mut idling, mut pop3) = (scene.imap_session(), scene.imap_session(), scene.pop3_session());
    idling.ask("SELECT INBOX");
    idling.send("a IDLE");
    assert_eq!(idling.line(), "+ IDLE accepted, awaiting DONE command.");
    assert_eq!(imap.rest().unwrap(), closed);
    assert_eq!(idling.rest().unwrap(), closed, "IDLE is no input either");
    assert_eq!(pop3.rest().unwrap(), "-ERR Connection is closed. 13\r\n");
    let mut imap = scene.imap_session();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(800) {
        assert_eq!(imap.ask("NOOP"), ["a OK NOOP completed."], "input keeps the session open");
    }
    let mut stranger = scene.imap();
    scene.quirk(|quirks| quirks.mail.idle_timeout = Duration::ZERO);
    assert_eq!(imap.rest().unwrap(), closed);
    assert_eq!(stranger.ask("NOOP"), ["a OK NOOP completed."], "before the login another limit applies");
    scene.quirk(|quirks| quirks.mail.login_timeout = Duration::ZERO);
    assert_eq!(stranger.rest().unwrap(), closed);
}

#[test]
fn an_expired_token_is_told_at_the_next_command() {
    let scene = Scene::new();
    let expired = format!("{EXPIRED}\r\n");
    scene.quirk(|quirks| {
        quirks.mail.expiry = Expiry::InAnswer;
        quirks.mail.session_life = Some(Duration::ZERO);
    });
    for command in ["NOOP", "UNSELECT", "SELECT INBOX", "LOGOUT", "X-OTHER"] {
        let mut imap = scene.imap_session();
        imap.send(&format!("a {command}"));
        assert_eq!(imap.rest().unwrap(), expired, "{command}");
    }
    let mut imap = scene.imap_session();
    let mut pop3 = scene.pop3_session();
    scene.quirk(|quirks| quirks.mail.session_life = None);
    assert_eq!(imap.ask("SELECT INBOX").pop().unwrap(), "a OK [READ-WRITE] SELECT completed.", "nothing came before");
    imap.send("a IDLE");
    assert_eq!(imap.line(), "+ IDLE accepted, awaiting DONE command.");
    scene.quirk(|quirks| quirks.mail.session_life = Some(Duration::ZERO));
    imap.send("DONE");
    assert_eq!(imap.rest().unwrap(), expired);
    pop3.send("STAT");
    assert_eq!(pop3.rest().unwrap(), "");
}

#[test]
fn a_session_ends_at_a_chosen_command() {
    let scene = Scene::new();
    let expired = format!("{EXPIRED}\r\n");
    scene.quirk(|quirks| quirks.imap.faults = vec![ImapFault::expired("UNSELECT")]);
    let mut imap = scene.imap_session();
    assert_eq!(imap.ask("NOOP"), ["a OK NOOP completed."]);
    imap.ask("SELECT INBOX");
    imap.send("a UNSELECT");
    assert_eq!(imap.rest().unwrap(), expired);
    assert_eq!(scene.simulator.counts().mailbox(SCAN).command("UNSELECT"), 1);
    let mut imap = scene.imap_session();
    imap.ask("SELECT INBOX");
    assert_eq!(imap.ask("UNSELECT"), ["a OK UNSELECT completed."], "once, and no more");

    scene.quirk(|quirks| {
        let behind = ImapFault::expired("NOOP").after(2).behind_the_answer();
        quirks.imap.faults = vec![behind, ImapFault::reply("SELECT", "* OK later\r\nTAG NO Server Unavailable. 15")];
    });
    assert_eq!(imap.ask("SELECT INBOX"), ["* OK later", "a NO Server Unavailable. 15"]);
    assert_eq!(imap.ask("SELECT INBOX").last().unwrap(), "a OK [READ-WRITE] SELECT completed.");
    for _ in 0..2 {
        assert_eq!(imap.ask("NOOP"), ["a OK NOOP completed."]);
    }
    imap.send("a NOOP");
    assert_eq!(imap.rest().unwrap(), format!("a OK NOOP completed.\r\n{expired}"));

    let reset = ImapFault::silent("", Afterwards::Reset).at_any_command().after(1).times(None);
    scene.quirk(|quirks| quirks.imap.faults = vec![reset]);
    let mut imap = scene.imap_session();
    assert!(imap.ask("CAPABILITY")[0].starts_with("* CAPABILITY "));
    imap.send("a CAPABILITY");
    assert!(imap.rest().is_err(), "reset without a word");

    scene.quirk(|quirks| quirks.imap.faults = vec![ImapFault::silent("AUTHENTICATE", Afterwards::Close)]);
    let mut imap = scene.imap();
    imap.send("a AUTHENTICATE XOAUTH2 AAAA");
    assert_eq!(imap.rest().unwrap(), "", "a login can end so too");

    scene.quirk(|quirks| quirks.imap.faults = vec![ImapFault::silent("NOOP", Afterwards::Hang)]);
    let mut imap = scene.imap_session();
    imap.send("a NOOP\r\nb CAPABILITY");
    scene.until("command", |counts| counts.mailbox(SCAN).command("NOOP") == 5);
    scene.quirk(|quirks| quirks.mail.close_13 = Some(Duration::ZERO));
    assert_eq!(imap.rest().unwrap(), "* BYE Connection is closed. 13\r\n", "and nothing before");
}

#[test]
fn logins_have_a_rate() {
    let scene = Scene::new();
    let token = scene.user_answer()["access_token"].as_str().unwrap().to_owned();
    let rate = |excess| LoginRate { logins: 2, within: Duration::from_secs(3600), excess };
    scene.quirk(|quirks| quirks.mail.login_rate = Some(rate(Excess::Throttled(299_961))));
    assert_eq!(scene.imap().authenticate(SCAN, "bad"), "a NO AUTHENTICATE failed.", "which does not count");
    for _ in 0..2 {
        assert_eq!(scene.imap().authenticate(SCAN, &token), "a OK AUTHENTICATE completed.");
    }
    assert_eq!(scene.imap().authenticate(SCAN, &token), THROTTLED);
    assert_eq!(scene.imap().authenticate(SHARED, &token), "a OK AUTHENTICATE completed.", "each mailbox has its own");
    let backoff = "-ERR Request is throttled. Suggested Backoff Time: 299961 milliseconds";
    assert_eq!(scene.pop3().auth(SCAN, &token), backoff, "the protocols count together");
    scene.quirk(|quirks| quirks.mail.login_rate = Some(rate(Excess::Unavailable)));
    assert_eq!(scene.imap().authenticate(SCAN, &token), "a NO Server Unavailable. 15");
    scene.quirk(|quirks| quirks.mail.login_rate = Some(rate(Excess::NotConnected)));
    let mut imap = scene.imap();
    assert_eq!(imap.authenticate(SCAN, &token), "a OK AUTHENTICATE completed.");
    assert_eq!(imap.ask("SELECT INBOX"), [NOT_CONNECTED]);
    let scan = scene.simulator.counts().mailbox(SCAN);
    assert_eq!((scan.imap().accepted, scan.imap().excessive, scan.imap().not_connected), (2, 3, 1));
    scene.quirk(|quirks| quirks.mail.login_rate = Some(LoginRate { within: Duration::ZERO, ..rate(Excess::Reset) }));
    assert_eq!(scene.imap().authenticate(SCAN, &token), "a OK AUTHENTICATE completed.", "their time is over");
}

#[test]
fn a_mailbox_has_a_number_of_sessions() {
    let scene = Scene::new();
    let token = scene.user_answer()["access_token"].as_str().unwrap().to_owned();
    scene.quirk(|quirks| quirks.mail.max_sessions = Some(2));
    let mut open = [scene.imap_session(), scene.imap_session()];
    let mut third = scene.imap();
    third.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(SCAN, &token)));
    assert!(third.rest().is_err(), "reset without a word");
    scene.quirk(|quirks| quirks.mail.excess = Excess::Unavailable);
    assert_eq!(scene.imap().authenticate(SCAN, &token), "a NO Server Unavailable. 15");
    scene.quirk(|quirks| quirks.mail.excess = Excess::NotConnected);
    let mut third = scene.imap();
    assert_eq!(third.authenticate(SCAN, &token), "a OK AUTHENTICATE completed.");
    assert_eq!(third.ask("STATUS INBOX (MESSAGES)"), [NOT_CONNECTED]);
    assert_eq!(scene.imap().authenticate(SHARED, &token), "a OK AUTHENTICATE completed.", "each mailbox has its own");
    open[0].ask("LOGOUT");
    scene.until("free session", |counts| counts.sessions_of(SCAN) == 1);
    assert!(scene.imap_session().ask("SELECT INBOX").last().unwrap().contains(" OK "));
}

/// NOOP is answered with OK, and yet new mail does not show on a connection that is older than it.
#[test]
fn a_view_stays_as_it_was_at_the_login() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    scene.quirk(|quirks| quirks.imap.stale_views = true);
    let mut stale = scene.imap_session();
    stale.ask("SELECT INBOX");
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    assert_eq!(stale.ask("NOOP"), ["a OK NOOP completed."]);
    assert_eq!(stale.ask("UNSELECT"), ["a OK UNSELECT completed."]);
    let next = |lines: &[String]| lines.iter().find(|line| line.contains("[UIDNEXT ")).cloned().unwrap();
    let selected = stale.ask("SELECT INBOX");
    assert!(selected.contains(&"* 1 EXISTS".to_owned()) && next(&selected).contains("[UIDNEXT 2]"), "{selected:?}");
    assert_eq!(stale.ask("STATUS INBOX (MESSAGES UIDNEXT)")[0], "* STATUS INBOX (MESSAGES 1 UIDNEXT 2)");
    assert_eq!(stale.ask("UID SEARCH ALL")[0], "* SEARCH 1");
    let mut fresh = scene.imap_session();
    let selected = fresh.ask("SELECT INBOX");
    assert!(selected.contains(&"* 2 EXISTS".to_owned()) && next(&selected).contains("[UIDNEXT 3]"), "{selected:?}");
    assert_eq!(stale.ask(r"STORE 1 +FLAGS.SILENT (\Deleted)"), ["a OK STORE completed."]);
    assert_eq!(stale.ask("EXPUNGE"), ["* 1 EXPUNGE", "a OK EXPUNGE completed."], "own changes show");
    scene.quirk(|quirks| quirks.imap.stale_views = false);
    assert_eq!(stale.ask("NOOP"), ["* 1 EXISTS", "a OK NOOP completed."], "and at last the mail is there");
}
