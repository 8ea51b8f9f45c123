//! These tests prove that the simulator takes submissions as Exchange does, keeps them, and fails as configured.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, Denial, LoginRefusal, SmtpFault, SmtpMoment};
use packetboat::simulator::{Defect, RepeatedError};

use super::scene::*;

const DATA: &[u8] = b"From: Scanner <scan@contoso.example>\r\nSubject: scan\r\n\r\n..hidden\r\nhello\r\n.\r\n";
const MESSAGE: &[u8] = b"From: Scanner <scan@contoso.example>\r\nSubject: scan\r\n\r\n.hidden\r\nhello\r\n";

#[test]
fn from_greeting_to_quit() {
    let scene = Scene::new();
    let mut smtp = scene.smtp();
    let clear = smtp.smtp("EHLO proxy.example");
    let extensions = "250-SIZE 157286400\n250-PIPELINING\n250-DSN\n250-ENHANCEDSTATUSCODES\n250-STARTTLS\n\
                      250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n250 SMTPUTF8";
    assert_eq!(clear.split_once('\n').unwrap().1, extensions, "no AUTH in clear");
    assert_eq!(smtp.smtp("AUTH XOAUTH2"), "504 5.7.4 Unrecognized authentication type");
    assert_eq!(smtp.smtp("MAIL FROM:<a@b>"), "530 5.7.57 Client not authenticated to send mail.");
    assert_eq!(smtp.smtp("STARTTLS"), "220 2.0.0 SMTP server ready");
    smtp.begin_tls(&scene);
    assert_eq!(smtp.smtp("MAIL FROM:<a@b>"), "503 5.5.2 Send hello first", "STARTTLS forgets the hello");
    let secure = smtp.smtp("EHLO proxy.example");
    assert_eq!(secure.split_once('\n').unwrap().1, extensions.replace("STARTTLS", "AUTH LOGIN XOAUTH2"));
    assert_eq!(smtp.xoauth2(SCAN, &scene.app_token()), "235 2.7.0 Authentication successful");
    assert_eq!(smtp.smtp("DATA"), "503 5.5.2 Need mail command");
    let accepted = smtp.submit(SCAN, &[OTHER, "out@fabrikam.example"], DATA);
    assert!(accepted.starts_with("250 2.0.0 OK <"), "{accepted}");
    assert_eq!(smtp.smtp("NOOP"), "250 2.0.0 OK");
    assert_eq!(smtp.smtp("MAIL FROM:<x@y.example> SIZE=12 BODY=8BITMIME"), "250 2.1.0 Sender OK", "judged later");
    assert_eq!(smtp.smtp("RSET"), "250 2.0.0 Resetting");
    assert_eq!(smtp.smtp("QUIT"), "221 2.0.0 Service closing transmission channel");
    assert_eq!(smtp.rest().unwrap(), "");

    let submissions = scene.simulator.submissions();
    let [one] = submissions.as_slice() else { panic!("{submissions:?}") };
    assert_eq!((one.connection, one.mailbox.as_str(), one.hello.as_str()), (1, SCAN, "proxy.example"));
    assert_eq!((one.principal.clone(), one.sender.as_str()), (format!("app {APP}"), SCAN));
    assert_eq!(one.recipients, [OTHER, "out@fabrikam.example"]);
    assert_eq!(one.data.as_slice(), &DATA[..DATA.len() - 3]);
    assert_eq!((one.message().as_slice(), one.length), (MESSAGE, DATA.len() - 3));
    assert_eq!((one.reply.as_str(), one.is_delivered, one.defects()), (accepted.as_str(), true, Vec::new()));
    let commands: Vec<String> = scene.simulator.smtp_commands().into_iter().map(|command| command.line).collect();
    let said = "|EHLO proxy.example|AUTH XOAUTH2|MAIL FROM:<a@b>|STARTTLS|MAIL FROM:<a@b>|EHLO proxy.example|AUTH XOAUTH2|\
                (response)|DATA|MAIL FROM:<scan@contoso.example>|RCPT TO:<other@contoso.example>|\
                RCPT TO:<out@fabrikam.example>|DATA|(message)|NOOP|MAIL FROM:<x@y.example> SIZE=12 BODY=8BITMIME|RSET|QUIT";
    assert_eq!(commands.join("|"), said);
}

#[test]
fn a_message_is_read_back_by_imap_and_pop3() {
    let scene = Scene::new();
    scene.smtp_session().submit(SCAN, &[SCAN], DATA);
    let mut imap = scene.imap_session();
    assert_eq!(imap.ask("LIST \"\" *")[1], r#"* LIST (\HasNoChildren) "/" "Sent Items""#);
    assert_eq!(imap.ask("STATUS \"Sent Items\" (MESSAGES UNSEEN)")[0], "* STATUS \"Sent Items\" (MESSAGES 1 UNSEEN 0)");
    for folder in ["INBOX", "\"Sent Items\""] {
        assert!(imap.ask(&format!("SELECT {folder}")).contains(&"* 1 EXISTS".to_owned()), "{folder}");
        imap.send("a FETCH 1 BODY.PEEK[]");
        assert_eq!(imap.line(), format!("* 1 FETCH (BODY[] {{{}}}", MESSAGE.len()));
        assert_eq!(imap.octets(MESSAGE.len()), MESSAGE);
        assert_eq!([imap.line(), imap.line()], [")", "a OK FETCH completed."]);
    }
    let mut pop3 = scene.pop3_session();
    assert_eq!(pop3.say("STAT"), format!("+OK 1 {}", MESSAGE.len()), "POP3 knows the inbox alone");
    assert_eq!(scene.simulator.contents(SCAN), [MESSAGE]);
    assert_eq!(scene.simulator.sent_items(SCAN), [MESSAGE]);
}

#[test]
fn permissions_decide_logins() {
    let scene = Scene::new();
    let unsuccessful = "535 5.7.3 Authentication unsuccessful [FR4P281CA0012.DEUP281.PROD.OUTLOOK.COM ";
    let refused = |answer: String| assert!(answer.starts_with(unsuccessful), "{answer}");
    let (person, app) = (scene.send_token(), scene.app_token());
    refused(scene.smtp_tls().xoauth2(SHARED, &person));
    refused(scene.smtp_tls().xoauth2(OTHER, &app));
    refused(scene.smtp_tls().xoauth2(SCAN, "no.such.token"));
    refused(scene.smtp_tls().xoauth2("nobody@contoso.example", &app));
    let reader = scene.user_answer()["access_token"].as_str().unwrap().to_owned();
    refused(scene.smtp_tls().xoauth2(SCAN, &reader));
    assert_eq!(scene.imap().authenticate(SCAN, &person), "a NO AUTHENTICATE failed.", "SMTP.Send reads nothing");
    let mut smtp = scene.smtp_tls();
    let one_line = format!("AUTH XOAUTH2 {}", xoauth2(SCAN, &person));
    assert_eq!(smtp.smtp(&one_line), "235 2.7.0 Authentication successful");
    assert_eq!(smtp.smtp(&one_line), "503 5.5.2 Auth command only allowed once");
    let mut smtp = scene.smtp_tls();
    assert_eq!(smtp.smtp("AUTH XOAUTH2"), "334 ");
    refused(smtp.smtp("*"));
    assert_eq!(smtp.smtp("AUTH XOAUTH2"), "334 ");
    refused(smtp.smtp("not base64"));
    assert_eq!(smtp.smtp("AUTH NTLM"), "504 5.7.4 Unrecognized authentication type");
    assert_eq!(scene.simulator.counts().smtp().accepted, 1);
    let commands = format!("{:?}{:?}", scene.simulator.smtp_commands(), scene.simulator.events());
    assert!(!commands.contains(&xoauth2(SCAN, &person)) && !commands.contains(&person), "{commands}");
}

#[test]
fn passwords_open_a_mailbox_only_where_they_may() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_tls();
    assert_eq!(smtp.smtp("AUTH LOGIN"), "334 VXNlcm5hbWU6");
    assert_eq!(smtp.smtp(&base64(SCAN)), "334 UGFzc3dvcmQ6");
    let disabled = "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [";
    let answer = smtp.smtp(&base64(SCAN_PASSWORD));
    assert!(answer.starts_with(disabled), "{answer}");
    scene.quirk(|quirks| {
        quirks.smtp.passwords = true;
        quirks.smtp.plain = true;
    });
    let accepted = "235 2.7.0 Authentication successful";
    let mut smtp = scene.smtp_tls_with("250-AUTH LOGIN PLAIN XOAUTH2");
    assert_eq!(smtp.smtp(&format!("AUTH LOGIN {}", base64(SCAN))), "334 UGFzc3dvcmQ6");
    assert_eq!(smtp.smtp(&base64(SCAN_PASSWORD)), accepted);
    let mut smtp = scene.smtp_tls_with("250-AUTH LOGIN PLAIN XOAUTH2");
    let plain = base64(&format!("\0{SCAN}\0{SCAN_PASSWORD}"));
    let wrong = base64(&format!("\0{SCAN}\0{SCAN_PASSWORD}x"));
    assert!(smtp.smtp(&format!("AUTH PLAIN {wrong}")).starts_with("535 5.7.3 "));
    assert_eq!(smtp.smtp("AUTH PLAIN"), "334 ");
    assert_eq!(smtp.smtp(&plain), accepted);
    assert_eq!(smtp.submit(SCAN, &[SCAN], DATA)[..10], *"250 2.0.0 ");
}

#[test]
fn a_sender_is_judged_at_the_end_of_the_data() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    let from = |address: &str| format!("From: {address}\r\n\r\nx\r\n.\r\n").into_bytes();
    let denied = "550 5.7.60 SMTP; Client does not have permissions to send as this sender";
    assert_eq!(smtp.submit(OTHER, &[SCAN], &from(SCAN)), denied, "the envelope");
    assert_eq!(smtp.submit(SCAN, &[SCAN], &from(OTHER)), denied, "the header");
    assert_eq!(smtp.submit("", &[SCAN], &from(SCAN)), denied, "no sender");
    assert!(smtp.submit(SCAN, &[SCAN], b"Subject: x\r\n\r\n.\r\n").starts_with("550 5.7.512 "));
    scene.quirk(|quirks| quirks.smtp.denial = Denial::SendAsDenied);
    let answer = smtp.submit(OTHER, &[SCAN], &from(SCAN));
    assert!(
        answer.starts_with(&format!("554 5.2.252 SendAsDenied; {SCAN} not allowed to send as {OTHER};")),
        "{answer}"
    );
    scene.quirk(|quirks| quirks.smtp.denial = Denial::StoreDriver);
    assert!(smtp.submit(OTHER, &[SCAN], &from(SCAN)).starts_with("554 5.2.0 STOREDRV."));
    scene.simulator.grant_send_as(SCAN, OTHER);
    assert!(smtp.submit(OTHER, &[SCAN], &from(OTHER)).starts_with("250 "));
    let counts = scene.simulator.counts().submissions;
    assert_eq!((counts.delivered, counts.refused), (1, 6));
    let last = scene.simulator.submissions().pop().unwrap();
    assert_eq!(last.defects(), [Defect::ForeignSender(OTHER.to_owned()), Defect::ForeignFrom(OTHER.to_owned())]);
    assert_eq!(scene.simulator.messages(SCAN), 1);
}

#[test]
fn errors_again_and_again_throttle_the_mailbox() {
    let scene = Scene::new();
    scene.quirk(|quirks| quirks.smtp.errors_before_throttle = Some(2));
    let mut smtp = scene.smtp_session();
    for _ in 0..2 {
        assert!(smtp.submit(OTHER, &[SCAN], DATA).starts_with("550 5.7.60 "));
    }
    let throttled = "550 5.2.252 Sender throttled due to continuous send as denied errors.";
    assert_eq!(smtp.submit(SCAN, &[SCAN], DATA), throttled, "good mail too");
    scene.simulator.throttle_submission(SCAN, None);
    assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with("250 "));
    for (error, code) in [
        (RepeatedError::MailboxFull, "550 5.2.251 "),
        (RepeatedError::InvalidLicense, "550 5.2.253 "),
        (RepeatedError::TooManyRecipients, "550 5.2.254 "),
        (RepeatedError::InvalidRecipients, "550 5.2.255 "),
    ] {
        scene.simulator.throttle_submission(SCAN, Some(error));
        assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with(code), "{error:?}");
    }
}

#[test]
fn limits_of_a_mailbox() {
    let scene = Scene::new();
    scene.quirk(|quirks| {
        quirks.smtp.recipients_per_message = 2;
        quirks.smtp.recipients_per_day = 3;
        quirks.smtp.size = 1000;
    });
    let sessions = [(); 3].map(|()| scene.smtp_session());
    let mut fourth = scene.smtp_tls();
    let answer = fourth.xoauth2(SCAN, &scene.app_token());
    assert!(answer.starts_with("432 4.3.2 Concurrent connections limit exceeded."), "{answer}");
    let mut smtp = sessions.into_iter().next().unwrap();
    scene.runtime.block_on(scene.simulator.until(|counts| counts.submissions.sessions[SCAN] == 1));
    assert_eq!(scene.simulator.counts().submissions.most_sessions, 3);
    assert_eq!(
        smtp.smtp(&format!("MAIL FROM:<{SCAN}> SIZE=1001")),
        "552 5.3.4 Message size exceeds fixed maximum message size"
    );
    assert_eq!(smtp.smtp(&format!("MAIL FROM:<{SCAN}>")), "250 2.1.0 Sender OK");
    for _ in 0..2 {
        assert_eq!(smtp.smtp("RCPT TO:<a@b.example>"), "250 2.1.5 Recipient OK");
    }
    assert_eq!(smtp.smtp("RCPT TO:<a@b.example>"), "452 4.5.3 Too many recipients");
    assert_eq!(smtp.smtp("RCPT TO:<>"), "501 5.1.3 Invalid address");
    assert!(smtp.smtp("DATA").starts_with("354 "));
    smtp.send_octets(DATA);
    assert!(smtp.reply().starts_with("250 "));
    let large = [&DATA[..DATA.len() - 3], &[b'x'; 1000], b"\r\n.\r\n"].concat();
    assert!(smtp.submit(SCAN, &[SCAN], &large).starts_with("552 5.3.4 "));
    let quota = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException";
    assert_eq!(smtp.submit(SCAN, &[SCAN, OTHER], DATA), quota);
    assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with("250 "), "the third recipient of the day");
    scene.quirk(|quirks| quirks.smtp.mailbox_full = true);
    assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with("554 5.2.2 mailbox full; "));
}

#[test]
fn exchange_takes_its_time() {
    let scene = Scene::new();
    scene.quirk(|quirks| {
        quirks.smtp.refusal_delay = Duration::from_millis(300);
        quirks.smtp.unknown_delay = Duration::from_millis(300);
        quirks.smtp.final_delay = Duration::from_millis(300);
    });
    let mut smtp = scene.smtp_tls();
    let slow = |what: &mut dyn FnMut() -> String| {
        let begun = Instant::now();
        let answer = what();
        assert!(begun.elapsed() >= Duration::from_millis(300), "{answer}");
        answer
    };
    assert!(slow(&mut || smtp.xoauth2(SCAN, "bad")).starts_with("535 5.7.3 "));
    assert_eq!(slow(&mut || smtp.smtp("XCLIENT a b")), "500 5.3.3 Unrecognized command 'XCLIENT'");
    assert_eq!(scene.simulator.counts().submissions.unknown_commands, 1);
    assert!(smtp.xoauth2(SCAN, &scene.app_token()).starts_with("235 "));
    assert!(slow(&mut || smtp.submit(SCAN, &[SCAN], DATA)).starts_with("250 "));
}

#[test]
fn logins_are_refused_for_each_reason() {
    let scene = Scene::new();
    let token = scene.app_token();
    for (refusal, line) in [
        (LoginRefusal::Unsuccessful, "535 5.7.3 Authentication unsuccessful ["),
        (
            LoginRefusal::DisabledForTenant,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit ",
        ),
        (
            LoginRefusal::DisabledForMailbox,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit ",
        ),
        (
            LoginRefusal::SecurityDefaults,
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
        ),
        (
            LoginRefusal::Criteria,
            "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.",
        ),
        (LoginRefusal::BasicDisabled, "535 5.7.139 Authentication unsuccessful, basic authentication is disabled."),
        (LoginRefusal::BasicGone, "550 5.7.30 Basic authentication is not supported for Client Submission."),
    ] {
        scene.quirk(|quirks| quirks.smtp.login_refusal = Some(refusal));
        let answer = scene.smtp_tls().xoauth2(SCAN, &token);
        assert!(answer.starts_with(line), "{refusal:?}: {answer}");
    }
    scene.quirk(|quirks| {
        quirks.smtp.json_challenge = true;
        quirks.smtp.challenge_space = false;
    });
    let mut smtp = scene.smtp_tls();
    assert_eq!(smtp.smtp("AUTH XOAUTH2"), "334");
    assert!(smtp.smtp(&xoauth2(SCAN, "bad")).starts_with("334 eyJ"), "JSON in base64");
    assert!(smtp.smtp("").starts_with("550 5.7.30 "));
}

#[test]
fn faults_at_every_moment() {
    use SmtpMoment as M;
    let scene = Scene::new();
    let down = "421 4.3.2 Service not active";
    let before = [M::Greeting, M::Hello, M::StartTls, M::Login, M::Mail, M::Recipient, M::Data, M::EndOfData];
    let behind = [M::Reset, M::Noop, M::Quit];
    let all = before.into_iter().chain(behind);
    for (moment, sent) in all.zip([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]) {
        let fault = SmtpFault::reply(moment, down).then(Afterwards::Close).times(1);
        scene.quirk(|quirks| quirks.smtp.faults.push(fault));
        let mut smtp = Mail::clear(scene.simulator.smtp());
        let (mail, recipient) = (format!("MAIL FROM:<{SCAN}>"), format!("RCPT TO:<{SCAN}>"));
        let steps =
            ["greeting", "EHLO x", "STARTTLS", "AUTH", &mail, &recipient, "DATA", "data", "RSET", "NOOP", "QUIT"];
        let last = steps.iter().map(|step| play(&scene, &mut smtp, step)).find(|answer| answer.starts_with('4'));
        assert_eq!(last.as_deref(), Some(down), "{moment:?}");
        assert_eq!(smtp.rest().unwrap(), "", "{moment:?}");
        assert_eq!(scene.simulator.messages(SCAN), sent, "{moment:?}");
    }
}

/// Plays one step of a session; returns the response.
fn play(scene: &Scene, smtp: &mut Mail, step: &str) -> String {
    match step {
        "greeting" => smtp.reply(),
        "AUTH" => smtp.xoauth2(SCAN, &scene.app_token()),
        "data" => {
            smtp.send_octets(DATA);
            smtp.reply()
        }
        "STARTTLS" => {
            let answer = smtp.smtp(step);
            if answer.starts_with("220") {
                smtp.begin_tls(scene);
                smtp.smtp("EHLO x");
            }
            answer
        }
        step => smtp.smtp(step),
    }
}

#[test]
fn the_connection_ends_behind_the_dot() {
    let scene = Scene::new();
    let lost = SmtpFault::silent(SmtpMoment::EndOfData, Afterwards::Close).times(1);
    let fault = lost.clone();
    scene.quirk(|quirks| quirks.smtp.faults.push(fault));
    assert_eq!(scene.smtp_session().submit(SCAN, &[SCAN], DATA), "");
    assert_eq!(scene.simulator.messages(SCAN), 0, "lost");
    scene.quirk(|quirks| quirks.smtp.faults.push(lost.kept().then(Afterwards::Reset)));
    let mut smtp = scene.smtp_session();
    for line in [format!("MAIL FROM:<{SCAN}>"), format!("RCPT TO:<{SCAN}>"), "DATA".to_owned()] {
        smtp.smtp(&line);
    }
    smtp.send_octets(DATA);
    assert!(smtp.rest().is_err(), "reset");
    assert_eq!(scene.simulator.messages(SCAN), 1, "kept");
    let passing =
        SmtpFault::reply(SmtpMoment::EndOfData, "451 4.7.0 Temporary server error. Please try again later. PRX4");
    scene.quirk(|quirks| quirks.smtp.faults.push(passing.times(1)));
    let mut smtp = scene.smtp_session();
    assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with("451 4.7.0 "));
    assert!(smtp.submit(SCAN, &[SCAN], DATA).starts_with("250 "));
    assert_eq!(
        scene.simulator.submissions().iter().map(|one| one.is_delivered).collect::<Vec<_>>(),
        [false, true, false, true]
    );
}

#[test]
fn half_a_message_is_none() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    for line in [format!("MAIL FROM:<{SCAN}>"), format!("RCPT TO:<{SCAN}>"), "DATA".to_owned()] {
        smtp.smtp(&line);
    }
    smtp.send_octets(&DATA[..DATA.len() - 2]);
    drop(smtp);
    scene.runtime.block_on(scene.simulator.until(|counts| counts.submissions.cut == 1));
    assert_eq!((scene.simulator.submissions().len(), scene.simulator.messages(SCAN)), (0, 0));
}

#[test]
fn sessions_end() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    scene.quirk(|quirks| quirks.smtp.session_life = Duration::ZERO);
    let rest = smtp.rest().unwrap();
    assert!(rest.starts_with("421 4.4.1 Connection timed out. Total session duration: "), "{rest}");
}

#[test]
fn starttls_under_attack() {
    let scene = Scene::new();
    let mut smtp = scene.smtp();
    smtp.smtp("EHLO x");
    smtp.send_octets(b"STARTTLS\r\nMAIL FROM:<evil@contoso.example>\r\n");
    assert_eq!(smtp.reply(), "220 2.0.0 SMTP server ready");
    smtp.begin_tls(&scene);
    assert!(smtp.smtp("EHLO x").starts_with("250-"), "nothing of the clear text is obeyed");
    assert_eq!(scene.simulator.counts().submissions.injected, 34);
    assert_eq!(smtp.smtp("STARTTLS"), "503 5.5.2 STARTTLS is not available");
    scene.quirk(|quirks| quirks.smtp.starttls_injection = Some("250 evil\r\n".to_owned()));
    let mut smtp = scene.smtp();
    assert_eq!(smtp.smtp("STARTTLS now"), "501 5.5.4 Invalid arguments");
    smtp.send("STARTTLS");
    assert_eq!([smtp.reply(), smtp.reply()], ["220 2.0.0 SMTP server ready", "250 evil"]);
    scene.quirk(|quirks| quirks.smtp.starttls = false);
    let mut smtp = scene.smtp();
    assert!(!smtp.smtp("EHLO x").contains("STARTTLS"));
    assert_eq!(smtp.smtp("STARTTLS"), "503 5.5.2 STARTTLS is not available");
}

#[test]
fn extensions_and_greetings_vary() {
    let scene = Scene::new();
    let greeting = |scene: &Scene| Mail::clear(scene.simulator.smtp()).reply();
    assert!(greeting(&scene).ends_with(" +0000 [08DDD30471EE4ED5]"), "{}", greeting(&scene));
    scene.quirk(|quirks| {
        quirks.smtp.greeting_number = false;
        quirks.smtp.left_out = vec!["8bitmime".to_owned(), "SIZE".to_owned()];
        quirks.smtp.more_extensions = vec!["AUTH=LOGIN".to_owned()];
    });
    assert!(greeting(&scene).ends_with(" +0000"));
    let mut smtp = scene.smtp_tls();
    let extensions = smtp.smtp("EHLO x");
    assert!(!extensions.contains("8BITMIME") && !extensions.contains("SIZE") && extensions.ends_with("250 AUTH=LOGIN"));
    assert!(smtp.smtp("HELO x").starts_with("250 FR4P"));
    assert!(smtp.xoauth2(SCAN, &scene.app_token()).starts_with("235"));
    for parameter in ["BODY=8BITMIME", "SIZE=1", "X=1"] {
        assert_eq!(smtp.smtp(&format!("MAIL FROM:<{SCAN}> {parameter}")), "501 5.5.4 Invalid arguments");
    }
    assert_eq!(smtp.smtp(&format!("MAIL FROM:<{SCAN}> RET=HDRS")), "250 2.1.0 Sender OK");
}

#[test]
fn commands_may_come_ahead() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    let all = format!("MAIL FROM:<{SCAN}>\r\nRCPT TO:<{SCAN}>\r\nDATA\r\n");
    smtp.send_octets(&[all.as_bytes(), DATA, b"QUIT\r\n"].concat());
    let codes: Vec<String> = (0..5).map(|_| smtp.reply()[..3].to_owned()).collect();
    assert_eq!(codes, ["250", "250", "354", "250", "221"]);
    assert_eq!(scene.simulator.contents(SCAN), [MESSAGE]);
}

#[test]
fn a_large_message_arrives_whole() {
    let scene = Scene::new();
    scene.quirk(|quirks| quirks.smtp.max_send_size = 64 * 1024 * 1024);
    let line = b"0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n";
    let head = b"From: scan@contoso.example\r\n\r\n";
    let large: Vec<u8> =
        head.iter().chain(line.iter().cycle().take(35 * 1024 * 1024 / line.len() * line.len())).copied().collect();
    let mut smtp = scene.smtp_session();
    assert!(smtp.submit(SCAN, &["out@fabrikam.example"], &stuffed(&large)).starts_with("250 "));
    let one = scene.simulator.submissions().remove(0);
    assert!(one.length == large.len() && *one.data == large && one.defects().is_empty());
    scene.quirk(|quirks| quirks.smtp.kept_octets = 1000);
    assert!(!smtp.submit(SCAN, &["out@fabrikam.example"], &stuffed(&large)).is_empty());
    let two = scene.simulator.submissions().remove(1);
    assert_eq!((two.length, two.data.len()), (large.len(), 0), "only the length");
}

#[test]
fn curl_and_python_submit() {
    let scene = Scene::new();
    let file = scene.file("message", MESSAGE);
    let url = format!("smtp://127.0.0.1:{}/proxy.example", scene.simulator.smtp().port());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--ssl-reqd", "--cacert"]).arg(scene.simulator.authority());
    curl.args(["--mail-from", SCAN, "--mail-rcpt", SCAN, "--user", SCAN, "--oauth2-bearer", &scene.app_token()]);
    let output = curl.args(["--login-options", "AUTH=XOAUTH2", "--upload-file"]).arg(&file).arg(&url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scene.simulator.contents(SCAN), [MESSAGE]);

    scene.quirk(|quirks| quirks.smtp.passwords = true);
    let script = "import smtplib, ssl, sys\n\
                  port, ca, user, word, file, kind = sys.argv[1:]\n\
                  context = ssl.create_default_context(cafile=ca)\n\
                  if kind == 'implicit':\n    smtp = smtplib.SMTP_SSL('127.0.0.1', int(port), context=context)\n\
                  else:\n    smtp = smtplib.SMTP('127.0.0.1', int(port))\n    smtp.starttls(context=context)\n\
                  if kind == 'token':\n    smtp.ehlo()\n    smtp.auth('XOAUTH2', lambda _=None: word)\n\
                  else:\n    smtp.login(user, word)\n\
                  smtp.sendmail(user, [user], open(file, 'rb').read())\nsmtp.quit()\n";
    let blob = format!("user={SCAN}\x01auth=Bearer {}\x01\x01", scene.app_token());
    for (port, word, kind) in [
        (scene.simulator.smtp().port(), blob.as_str(), "token"),
        (scene.simulator.smtp().port(), SCAN_PASSWORD, "starttls"),
        (scene.simulator.smtps().port(), SCAN_PASSWORD, "implicit"),
    ] {
        let before = scene.simulator.messages(SCAN);
        let mut python = Command::new("python3");
        python.args(["-c", script, &port.to_string()]).arg(scene.simulator.authority()).args([SCAN, word]);
        let output = python.arg(&file).arg(kind).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(scene.simulator.contents(SCAN)[before..], [MESSAGE], "{kind}");
    }
    assert!(scene.simulator.submissions().iter().all(|one| one.defects().is_empty()));
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}
