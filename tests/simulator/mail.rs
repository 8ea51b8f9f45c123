//! These tests prove that the simulator serves logins and mail by IMAP and POP3, and fails as configured.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use packetboat::simulator::MailboxCounts;
use packetboat::simulator::quirks::{Greeting, Moment};

use super::scene::*;

const MESSAGE: &[u8] = b"From: a@b\r\nSubject: scan\r\n\r\n.hidden\r\nhello\r\n";

#[test]
fn imap_from_login_to_logout() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    scene.simulator.deliver(SCAN, b"Subject: two\r\n\r\n".to_vec());
    let mut imap = scene.imap();
    assert!(imap.ask("CAPABILITY")[0].contains(" AUTH=PLAIN AUTH=XOAUTH2 SASL-IR "));
    assert_eq!(imap.ask("LOGIN {4}\r\nscan x").last().unwrap(), "a NO LOGIN failed.");
    assert_eq!(imap.ask("AUTHENTICATE PLAIN AAAA"), ["a NO AUTHENTICATE failed."]);
    imap.send("a AUTHENTICATE XOAUTH2");
    assert_eq!(imap.line(), "+");
    imap.send(&xoauth2(SCAN, &scene.app_token()));
    assert_eq!(imap.line(), "a OK AUTHENTICATE completed.");
    assert!(imap.ask("CAPABILITY")[0].contains(" BACKENDAUTHENTICATE "));
    assert_eq!(imap.ask("LIST \"\" *")[0], r#"* LIST (\HasNoChildren) "/" INBOX"#);
    let status = imap.ask("STATUS inbox (MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)");
    assert_eq!(status[0], "* STATUS INBOX (MESSAGES 2 UNSEEN 2 UIDNEXT 3 UIDVALIDITY 14 RECENT 0)");
    let selected = imap.ask("SELECT INBOX");
    assert!(selected.contains(&"* 2 EXISTS".to_owned()), "{selected:?}");
    imap.send("a UID FETCH 1:* (FLAGS RFC822.SIZE BODY[])");
    assert_eq!(imap.line(), format!("* 1 FETCH (UID 1 FLAGS (\\Seen) RFC822.SIZE {0} BODY[] {{{0}}}", MESSAGE.len()));
    assert_eq!(imap.octets(MESSAGE.len()), MESSAGE);
    assert_eq!(imap.line(), ")");
    imap.line();
    imap.octets(16);
    assert_eq!([imap.line(), imap.line()], [")", "a OK FETCH completed."]);
    assert_eq!(imap.ask("SEARCH UNSEEN")[0], "* SEARCH");
    assert_eq!(imap.ask("UID SEARCH ALL")[0], "* SEARCH 1 2");
    assert_eq!(imap.ask("STORE 1 +FLAGS (\\Deleted)")[0], "* 1 FETCH (FLAGS (\\Seen \\Deleted))");
    assert_eq!(imap.ask("EXPUNGE"), ["* 1 EXPUNGE", "a OK EXPUNGE completed."]);
    imap.send("a APPEND INBOX (\\Seen) {3+}\r\nabc");
    assert_eq!([imap.line(), imap.line()], ["* 2 EXISTS", "a OK [APPENDUID 14 3] APPEND completed."]);
    assert!(imap.ask("LOGOUT")[0].starts_with("* BYE "));
    assert_eq!(imap.rest().unwrap(), "");
    assert_eq!(scene.simulator.messages(SCAN), 2);
    let counts = scene.runtime.block_on(scene.simulator.until(|counts| counts.open_sessions() == 0));
    assert_eq!((counts.imap().accepted, counts.imap().refused, counts.fetched, counts.deleted), (1, 2, 2, 1));
    let login = format!("IMAP: login by XOAUTH2 as {SCAN}, TLSv1.3 TLS_AES_");
    let events = scene.simulator.events();
    assert!(events.iter().any(|event| event.starts_with(&login) && event.ends_with(APP)), "{events:?}");
}

#[test]
fn idle_hears_of_new_mail() {
    let scene = Scene::new();
    let mut imap = scene.imap_session();
    imap.ask("EXAMINE INBOX");
    imap.send("a IDLE");
    assert_eq!(imap.line(), "+ IDLE accepted, awaiting DONE command.");
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    assert_eq!(imap.line(), "* 1 EXISTS");
    imap.send("DONE");
    assert_eq!(imap.line(), "a OK IDLE completed.");
}

/// UNSELECT ends the selection without EXPUNGE, and so keeps what is marked as deleted (RFC 3691 §2).
#[test]
fn unselect_keeps_what_close_removes() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    let mut imap = scene.imap_session();
    assert!(imap.ask("CAPABILITY")[0].contains(" UNSELECT "));
    assert_eq!(imap.ask("UNSELECT"), ["a BAD Command received in Invalid state."], "nothing is selected");
    for (command, left) in [("UNSELECT", 1), ("CLOSE", 0)] {
        imap.ask("SELECT INBOX");
        imap.ask(r"STORE 1 +FLAGS.SILENT (\Deleted)");
        assert_eq!(imap.ask(command), [format!("a OK {command} completed.")]);
        assert_eq!(scene.simulator.messages(SCAN), left, "{command}");
        assert_eq!(imap.ask("FETCH 1 FLAGS"), ["a BAD Command received in Invalid state."], "{command}");
    }
    scene.quirk(|quirks| quirks.mail.unselect = false);
    imap.ask("SELECT INBOX");
    assert_eq!(imap.ask("UNSELECT"), ["a BAD Command Error. 12"]);
    assert_eq!(imap.ask("FETCH 1:* FLAGS"), ["a OK FETCH completed."], "the folder stays selected");
    for mut imap in [scene.imap(), scene.imap_session()] {
        let capabilities = imap.ask("CAPABILITY").remove(0);
        assert!(capabilities.contains(" ID CHILDREN ") || capabilities.contains(" ID CLIENTACCESSRULES "));
    }
}

#[test]
fn logins_sessions_and_commands_are_counted_by_mailbox() {
    let scene = Scene::new();
    let token = scene.user_answer()["access_token"].as_str().unwrap().to_owned();
    let mut first = scene.imap();
    assert!(first.authenticate("Scan@Contoso.Example", &token).starts_with("a OK"));
    let _second = scene.imap_session();
    let _other = scene.pop3_session();
    assert_eq!(scene.imap().authenticate(SCAN, "bad"), "a NO AUTHENTICATE failed.");
    assert_eq!(scene.imap().authenticate("nobody@contoso.example", &token), "a NO AUTHENTICATE failed.");
    assert!(scene.imap().authenticate(SHARED, &token).starts_with("a OK"));
    for command in ["SELECT INBOX", "NOOP", "NOOP", "UNSELECT", "X-OTHER", "LOGOUT"] {
        first.ask(command);
    }
    let counts = scene.until("two sessions", |counts| counts.sessions_of(SCAN) == 2 && counts.sessions_of(SHARED) == 0);
    let scan = counts.mailbox(SCAN);
    assert_eq!((scan.imap().accepted, scan.imap().refused, scan.logins.pop3.accepted), (2, 1, 1));
    assert_eq!(scan.most_sessions, 3);
    let commands = ["SELECT", "NOOP", "UNSELECT", "LOGOUT", "IDLE"].map(|name| scan.command(name));
    assert_eq!(commands, [1, 2, 1, 1, 0]);
    assert_eq!(scan.commands.len(), 4);
    let shared = counts.mailbox(SHARED);
    assert_eq!((shared.imap().accepted, shared.most_sessions, shared.commands.len()), (1, 1, 0));
    assert_eq!((counts.imap().accepted, counts.imap().refused), (3, 2));
    assert_eq!(counts.mailbox(OTHER), MailboxCounts::default());
    assert_eq!(counts.mailboxes.len(), 2, "a name that is no mailbox counts under none: {:?}", counts.mailboxes);
}

#[test]
fn mailboxes_can_be_odd() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, Vec::new());
    scene.quirk(|quirks| {
        quirks.mail.exists_before_idle = true;
        quirks.mail.bare_codes = true;
        quirks.mail.odd_folder = true;
        quirks.mail.size_excess = 17;
    });
    let mut imap = scene.imap_session();
    assert!(imap.ask("LIST \"\" %")[1].ends_with("Sent\u{7}Items"));
    assert!(imap.ask("EXAMINE INBOX").contains(&"* [UIDNEXT 2] The next unique identifier value".to_owned()));
    assert_eq!(imap.ask("FETCH 1 (RFC822.SIZE RFC822)")[..2], ["* 1 FETCH (RFC822.SIZE 17 RFC822 {0}", ")"]);
    assert_eq!(imap.ask("STORE 1 FLAGS (\\Deleted)"), ["a NO STORE failed: the folder is read-only."]);
    imap.send("a IDLE");
    assert_eq!([imap.line(), imap.line()], ["* 1 EXISTS", "+ IDLE accepted, awaiting DONE command."]);
    assert_eq!(scene.pop3_session().say("STAT"), "+OK 1 17");
}

#[test]
fn pop3_from_login_to_quit() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, MESSAGE.to_vec());
    let mut pop3 = scene.pop3();
    assert_eq!(pop3.say("USER scan"), "+OK");
    assert_eq!(pop3.say("PASS word"), "-ERR Logon failure: unknown user name or bad password.");
    let bad = "-ERR Authentication failure: unknown user name or bad password.";
    assert_eq!(pop3.auth(SCAN, "no.such.token"), bad);
    assert_eq!(pop3.auth(SCAN, &scene.app_token()), "+OK User successfully authenticated.");
    assert_eq!(pop3.say("STAT"), format!("+OK 1 {}", MESSAGE.len()));
    assert_eq!([pop3.say("UIDL"), pop3.line(), pop3.line()], ["+OK", "1 00000001", "."]);
    pop3.send("RETR 1");
    let lines: Vec<String> = (0..7).map(|_| pop3.line()).collect();
    assert_eq!(lines, ["+OK", "From: a@b", "Subject: scan", "", "..hidden", "hello", "."]);
    pop3.send("TOP 1 1");
    assert_eq!((0..6).map(|_| pop3.line()).collect::<Vec<_>>()[4..], ["..hidden", "."]);
    assert_eq!(pop3.say("DELE 1"), "+OK");
    assert_eq!(pop3.say("STAT"), "+OK 0 0");
    drop(pop3);
    scene.runtime.block_on(scene.simulator.until(|counts| counts.open_sessions() == 0));
    assert_eq!(scene.simulator.messages(SCAN), 1, "without QUIT nothing is deleted");
    let mut pop3 = scene.pop3_session();
    assert_eq!([pop3.say("DELE 1"), pop3.say("RSET"), pop3.say("DELE 1")], ["+OK", "+OK", "+OK"]);
    assert!(pop3.say("QUIT").starts_with("+OK"));
    assert_eq!(scene.simulator.messages(SCAN), 0);
}

#[test]
fn permissions_decide_access() {
    let scene = Scene::new();
    let answer = scene.user_answer();
    let token = answer["access_token"].as_str().unwrap();
    assert!(scene.imap().authenticate(SHARED, token).starts_with("a OK"));
    assert_eq!(scene.imap().authenticate("nobody@contoso.example", token), "a NO AUTHENTICATE failed.");
    let mut imap = scene.imap();
    assert!(imap.authenticate(OTHER, token).starts_with("a OK"));
    assert_eq!(imap.ask("STATUS INBOX (MESSAGES)"), ["a BAD User is authenticated but not connected."]);
    assert_eq!(imap.rest().unwrap(), "* BYE Connection closed. 14\r\n");
    let mut pop3 = scene.pop3();
    assert!(pop3.auth(OTHER, &scene.app_token()).starts_with("+OK"));
    assert!(pop3.say("STAT").starts_with("-ERR "));
    assert_eq!(pop3.rest().unwrap(), "");
    let graph = [("grant_type", "client_credentials"), ("client_secret", SECRET)];
    let graph = scene.token(&[graph.as_slice(), &[("scope", "https://graph.microsoft.com/.default")]].concat()).1;
    let refused = scene.imap().authenticate(SCAN, graph["access_token"].as_str().unwrap());
    assert_eq!(refused, "a NO AUTHENTICATE failed.");
    let counts = scene.simulator.counts();
    assert_eq!((counts.imap().accepted, counts.imap().not_connected, counts.imap().refused), (1, 1, 2));
    scene.simulator.expire_access_tokens();
    assert_eq!(scene.imap().authenticate(SCAN, token), "a NO AUTHENTICATE failed.");
}

#[test]
fn greetings_and_capabilities() {
    let scene = Scene::new();
    scene.quirk(|quirks| {
        quirks.mail.greeting = Greeting::TcpProxy;
        quirks.mail.greeting_delay = Duration::from_millis(10);
        quirks.mail.login_disabled = true;
        quirks.mail.rev2 = true;
        quirks.mail.continuation_space = true;
    });
    let mut imap = Mail::connect(&scene, scene.simulator.imap());
    assert!(imap.line().contains("(tcpproxy/"));
    let capabilities = imap.ask("CAPABILITY").remove(0);
    assert!(capabilities.contains(" LOGINDISABLED ") && !capabilities.contains("AUTH=PLAIN"));
    imap.send("a AUTHENTICATE XOAUTH2");
    assert_eq!(imap.line(), "+ ");
    imap.send(&xoauth2(SCAN, &scene.app_token()));
    imap.line();
    assert!(imap.ask("CAPABILITY")[0].contains(" ENABLE IMAP4rev2 "));
    assert_eq!(imap.ask("ENABLE IMAP4rev2")[0], "* ENABLED IMAP4rev2");
    imap.ask("SELECT INBOX");
    assert!(imap.ask("SEARCH ALL")[0].starts_with("* ESEARCH "));
    scene.quirk(|quirks| quirks.mail.greeting = Greeting::Bye);
    let mut imap = Mail::connect(&scene, scene.simulator.imap());
    assert!(imap.rest().unwrap().starts_with("* BYE "));
    let mut pop3 = Mail::connect(&scene, scene.simulator.pop3());
    assert!(pop3.rest().unwrap().starts_with("-ERR "));
}

#[test]
fn pop3_takes_no_one_line_auth_and_no_long_token() {
    let scene = Scene::new();
    let error = "-ERR Protocol error. Connection is closed. 10";
    let mut pop3 = scene.pop3();
    assert_eq!(pop3.say(&format!("AUTH XOAUTH2 {}", xoauth2(SCAN, "x"))), error);
    assert_eq!(pop3.rest().unwrap(), "");
    scene.quirk(|quirks| quirks.endpoint.token_length = Some(4097));
    let token = scene.app_token();
    let mut pop3 = scene.pop3();
    assert_eq!(pop3.auth(SCAN, &token), error);
    assert_eq!(pop3.rest().unwrap(), "");
    assert!(scene.imap().authenticate(SCAN, &token).starts_with("a OK"), "IMAP takes it");
    scene.quirk(|quirks| quirks.mail.pop3_token_limit = None);
    assert!(scene.pop3().auth(SCAN, &token).starts_with("+OK"));
}

#[test]
fn refusals_in_many_words() {
    let scene = Scene::new();
    scene.quirk(|quirks| quirks.mail.json_challenge = true);
    let mut imap = scene.imap();
    imap.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(SCAN, "bad")));
    let challenge = STANDARD.decode(imap.line().strip_prefix("+ ").unwrap()).unwrap();
    assert!(challenge.starts_with(b"{\"status\":\"400\""));
    imap.send("");
    assert_eq!(imap.line(), "a NO AUTHENTICATE failed.");
    scene.quirk(|quirks| quirks.mail.json_challenge = false);
    scene.quirk(|quirks| quirks.mail.long_diagnostics = true);
    let refused = scene.imap().authenticate(SCAN, "bad");
    assert!(refused.starts_with("a NO AUTHENTICATE failed. Error=\"AuthFailed:LogonDenied-"), "{refused}");
    scene.quirk(|quirks| quirks.mail.long_diagnostics = false);
    scene.quirk(|quirks| quirks.mail.refuse_logins = true);
    assert_eq!(scene.imap().authenticate(SCAN, &scene.app_token()), "a NO AUTHENTICATE failed.");
}

#[test]
fn sessions_end() {
    let scene = Scene::new();
    let expired = "* BYE Session invalidated - AccessTokenExpired\r\n";
    let (mut imap, mut pop3) = (scene.imap_session(), scene.pop3_session());
    scene.quirk(|quirks| quirks.mail.session_life = Some(Duration::ZERO));
    assert_eq!(imap.rest().unwrap(), expired);
    assert_eq!(pop3.rest().unwrap(), "");
    scene.quirk(|quirks| quirks.mail.session_life = None);
    let mut imap = scene.imap_session();
    scene.quirk(|quirks| quirks.mail.close_13 = Some(Duration::ZERO));
    assert_eq!(imap.rest().unwrap(), "* BYE Connection is closed. 13\r\n");
    scene.quirk(|quirks| quirks.mail.close_13 = None);
    scene.quirk(|quirks| quirks.endpoint.token_life = Some(Duration::from_secs(1)));
    assert_eq!(scene.imap_session().rest().unwrap(), expired, "the token's own end");
    let mut imap = scene.imap();
    scene.quirk(|quirks| quirks.mail.login_timeout = Duration::ZERO);
    assert_eq!(imap.rest().unwrap(), "* BYE Connection is closed. 13\r\n");
}

#[test]
fn a_token_expires_in_the_middle_of_a_message() {
    let scene = Scene::new();
    scene.simulator.deliver(SCAN, vec![b'x'; 1000]);
    let mut imap = scene.imap_session();
    imap.ask("SELECT INBOX");
    scene.quirk(|quirks| quirks.mail.cut_literal = true);
    imap.send("a FETCH 1 BODY.PEEK[]");
    assert_eq!(imap.line(), "* 1 FETCH (BODY[] {1000}");
    let half = "x".repeat(500);
    assert_eq!(imap.rest().unwrap(), format!("{half}* BYE Session invalidated - AccessTokenExpired\r\n"));
    let mut pop3 = scene.pop3_session();
    scene.quirk(|quirks| quirks.mail.cut_literal = true);
    pop3.send("RETR 1");
    assert_eq!(pop3.rest().unwrap().len(), 5 + 501);
}

#[test]
fn throttled_unavailable_crowded() {
    let scene = Scene::new();
    let token = scene.app_token();
    scene.quirk(|quirks| quirks.mail.throttle = Some((Moment::Login, 299_961)));
    let throttled = "a BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds";
    assert_eq!(scene.imap().authenticate(SCAN, &token), throttled);
    scene.quirk(|quirks| quirks.mail.throttle = Some((Moment::Command, 299_961)));
    assert_eq!(scene.imap_session().ask("SELECT INBOX"), [throttled]);
    scene.quirk(|quirks| quirks.mail.throttle = None);
    scene.quirk(|quirks| quirks.mail.unavailable = Some(Moment::Login));
    assert_eq!(scene.imap().authenticate(SCAN, &token), "a NO Server Unavailable. 15");
    assert_eq!(scene.pop3().auth(SCAN, &token), "-ERR Server Unavailable. 15");
    scene.quirk(|quirks| quirks.mail.unavailable = None);
    scene.quirk(|quirks| quirks.mail.max_sessions = Some(1));
    scene.runtime.block_on(scene.simulator.until(|counts| counts.open_sessions() == 0));
    let _first = scene.imap_session();
    let mut second = scene.imap();
    second.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(SCAN, &token)));
    assert!(second.rest().is_err(), "reset without a word");
    scene.quirk(|quirks| quirks.mail.not_connected = true);
    scene.quirk(|quirks| quirks.mail.max_sessions = None);
    assert_eq!(scene.imap_session().ask("SELECT INBOX"), ["a BAD User is authenticated but not connected."]);
}

#[test]
fn a_large_message_comes_whole() {
    let scene = Scene::new();
    let line = b"0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n";
    let large: Vec<u8> = line.iter().copied().cycle().take(25 * 1024 * 1024 / line.len() * line.len()).collect();
    scene.simulator.deliver(SCAN, large.clone());
    let mut imap = scene.imap_session();
    imap.ask("SELECT INBOX");
    imap.send("a FETCH 1 (BODY.PEEK[])");
    assert_eq!(imap.line(), format!("* 1 FETCH (BODY[] {{{}}}", large.len()));
    assert!(imap.octets(large.len()) == large);
    assert_eq!([imap.line(), imap.line()], [")", "a OK FETCH completed."]);
    let mut pop3 = scene.pop3_session();
    assert_eq!(pop3.say("RETR 1"), "+OK");
    assert!(pop3.octets(large.len()) == large);
    assert_eq!(pop3.line(), ".");
}
