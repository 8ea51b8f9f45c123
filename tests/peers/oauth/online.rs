//! These tests prove that `packetboat check --online` shows an operator each fault before a device meets it.

use std::process::{Command, Stdio};

use packetboat::simulator::Simulator;
use packetboat::simulator::quirks::Fault;
use packetboat::simulator::quirks::smtp::{Afterwards, LoginRefusal, SmtpFault, SmtpMoment};

use support::exchange::*;
use support::process::{Process, program};

const CHECK: &[&str] = &["check", "--online"];
const OF_SCANS: &[&str] = &["check", "--online", "--account", "scans"];
const TOKEN: &str = "identity office: token ";

fn line<'a>(ran: &'a Ran, begin: &str) -> &'a str {
    let found = ran.output.lines().find(|line| line.trim_start().starts_with(begin));
    found.unwrap_or_else(|| panic!("no {begin} in {}{}", ran.output, ran.errors))
}

fn places(simulator: &Simulator) -> [String; 2] {
    [simulator.imap(), simulator.pop3()].map(|address| format!("127.0.0.1 port {}", address.port()))
}

#[test]
fn all_is_well() {
    let exchange = Exchange::new();
    let ran = exchange.run(OF_SCANS, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let token = line(&ran, TOKEN);
    for words in ["ok: for https://outlook.office365.com", "IMAP.AccessAsApp POP.AccessAsApp", "expires in 1h 15m"] {
        assert!(token.contains(words), "{token}");
    }
    for (begin, place) in ["IMAP ", "POP3 "].into_iter().zip(places(&exchange.simulator)) {
        let line = line(&ran, begin);
        assert!(line.contains(&format!("ok: {place}, TLSv1")) && line.ends_with("mailbox opened"), "{line}");
    }
    assert!(!ran.output.contains("eyJ") && !ran.output.contains(SECRET), "{}", ran.output);
    let counts = exchange.until("farewell", |counts| counts.open_sessions() == 0);
    assert_eq!((counts.tokens_issued, counts.imap().accepted, counts.pop3().accepted), (1, 1, 1));
}

#[test]
fn a_person_is_named() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    let ran = exchange.run(CHECK, &configuration);
    assert_eq!(ran.code, 69);
    let of_person = format!("identity office, {SCAN}: token ");
    assert!(
        line(&ran, &of_person).contains("failed: ") && ran.output.contains("packetboat login scans"),
        "{}",
        ran.output
    );
    exchange.sign_in(&configuration);
    let ran = exchange.run(CHECK, &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let token = line(&ran, &of_person);
    assert!(token.contains(&format!("of {SCAN}")) && token.contains("IMAP.AccessAsUser.All"), "{token}");
}

#[test]
fn a_wrong_secret() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    exchange.file("SECRET", "the-id-of-the-secret");
    let ran = exchange.run(CHECK, &configuration);
    let token = line(&ran, TOKEN);
    assert_eq!(ran.code, 69);
    assert!(
        token.contains("AADSTS7000215: the client secret is wrong: put the secret's value into the file"),
        "{token}"
    );
    assert!(!ran.output.contains("the-id-of-the-secret"), "{}", ran.output);
    assert_eq!(exchange.simulator.counts().mail_connections, 0);
}

/// The sender is given and taken back: no message is sent.
#[test]
fn sending_is_tried_without_a_message() {
    let exchange = Exchange::new();
    let configuration = exchange.submission_frame() + &exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let ran = exchange.run(OF_SCANS, &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let place = format!("ok: 127.0.0.1 port {}, TLSv1", exchange.simulator.smtp().port());
    let smtp = line(&ran, "SMTP ");
    assert!(smtp.contains(&place) && smtp.ends_with("logged in, sender accepted"), "{smtp}");
    let commands = exchange.simulator.smtp_commands();
    let verbs: Vec<&str> = commands.iter().filter_map(|one| one.line.split([' ', ':']).next()).collect();
    assert_eq!(verbs, ["", "EHLO", "STARTTLS", "EHLO", "AUTH", "(response)", "MAIL", "RSET", "QUIT"]);
    assert!(commands[6].line.starts_with(&format!("MAIL FROM:<{SCAN}>")), "{}", commands[6].line);
    assert!(exchange.simulator.submissions().is_empty());
}

/// Each refusal of Exchange Online comes with what to do about it.
#[test]
fn a_refusal_to_send_comes_with_the_command() {
    let exchange = Exchange::new();
    let configuration = exchange.submission_frame() + &exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let command = format!("Set-CASMailbox -Identity '{SCAN}' -SmtpClientAuthenticationDisabled $false");
    for (refusal, words, has_command) in [
        (LoginRefusal::DisabledForTenant, "SMTP AUTH is off for the whole organization", true),
        (LoginRefusal::DisabledForMailbox, "SMTP AUTH is off for this mailbox", true),
        (LoginRefusal::SecurityDefaults, "security defaults of the directory block SMTP AUTH", true),
        (LoginRefusal::Criteria, "Conditional Access or an authentication policy refuses this login", false),
    ] {
        exchange.simulator.quirks(|quirks| quirks.smtp.login_refusal = Some(refusal));
        let ran = exchange.run(OF_SCANS, &configuration);
        assert_eq!(ran.code, 69, "{}", ran.output);
        let smtp = line(&ran, "SMTP ");
        assert!(smtp.contains("failed at 127.0.0.1") && smtp.contains(words), "{smtp}");
        assert_eq!(ran.output.contains(&command), has_command, "{}", ran.output);
        assert!(ran.output.contains("not ready: scans"), "{}", ran.output);
    }
    // Trouble behind the login.
    exchange.simulator.quirks(|quirks| {
        quirks.smtp.login_refusal = None;
        quirks.smtp.faults = vec![SmtpFault::reply(SmtpMoment::Mail, "550 5.1.8 Access denied, bad outbound sender")];
    });
    let ran = exchange.run(OF_SCANS, &configuration);
    assert_eq!(ran.code, 69, "{}", ran.output);
    assert!(line(&ran, "SMTP ").contains("blocked for sending spam"), "{}", ran.output);
}

#[test]
fn a_test_message_is_sent_where_it_is_asked_for() {
    let exchange = Exchange::new();
    let configuration = exchange.submission_frame() + &exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let send = |more: &[&str]| exchange.run(&[OF_SCANS, more].concat(), &configuration);
    let ran = send(&["--send", "me@fabrikam.example"]);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let said = line(&ran, "message ");
    let sent = format!("ok: sent a message from {SCAN} to me@fabrikam.example; 127.0.0.1 port ");
    assert!(said.contains(&sent) && said.contains("said \"250 2.0.0 OK"), "{said}");
    let submissions = exchange.simulator.submissions();
    assert!(submissions.len() == 1 && submissions[0].is_delivered, "{submissions:?}");
    assert_eq!(
        (submissions[0].sender.as_str(), &submissions[0].recipients[..]),
        (SCAN, &["me@fabrikam.example".to_owned()][..])
    );
    assert_eq!(submissions[0].defects(), []);
    let text = String::from_utf8(submissions[0].message()).unwrap();
    for field in ["From: packetboat <", "To: <me@fabrikam.example>", "Subject: ", "Date: ", "Message-ID: <"] {
        assert!(text.contains(field), "{field}: {text}");
    }
    // The command that the page prints.
    let page = include_str!("../../../docs/send.md");
    let printed = page.split("```\n").find_map(|block| block.strip_prefix("packetboat ")).unwrap().trim_end();
    let ran = exchange.run(&printed.split(' ').collect::<Vec<_>>(), &configuration);
    assert!(ran.code == 0 && line(&ran, "message ").contains(" to you@contoso.com; "), "{}{}", ran.output, ran.errors);
    // A refusal at the end of the data.
    exchange.simulator.quirks(|quirks| quirks.smtp.sends_as_nobody = true);
    let ran = send(&["--send", "me@fabrikam.example"]);
    assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
    assert!(line(&ran, "message ").contains("Add-RecipientPermission"), "{}", ran.output);
    assert!(ran.output.ends_with("0 of 1 account ready; not ready: scans\n"), "{}", ran.output);
    // Wrong arguments are refused.
    for (arguments, words) in [
        (&["--account", "scans", "--send", "a@b\r\nQUIT"][..], "is no e-mail address"),
        (&["--account", "scans", "--send", "*@b"], "is no e-mail address"),
        (&["--send", "a@b"], "--account"),
    ] {
        let ran = exchange.run(&[CHECK, arguments].concat(), &configuration);
        assert!(ran.code == 64 && ran.errors.contains(words), "{words}: {}", ran.errors);
    }
    let ran = exchange.run(&[OF_SCANS, &["--send", "a@b"]].concat(), &exchange.configuration(BY_SECRET));
    assert!(ran.code == 64 && ran.errors.contains("protocol = \"smtp\""), "{}", ran.errors);
    assert_eq!(exchange.simulator.submissions().len(), 3);
}

/// The result of a test message is told as it is: where a trial has sent it, and that nobody knows.
#[test]
fn a_test_message_is_told_as_it_went() {
    let exchange = Exchange::new();
    let configuration =
        |more: &str| exchange.submission_frame() + &exchange.identity(BY_SECRET) + &account("scans", SCAN, more);
    let send =
        |more: &str| exchange.run(&[OF_SCANS, &["--send", "me@fabrikam.example"]].concat(), &configuration(more));
    let ran = send("deliver = \"mailbox\"");
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let sent = format!("ok: sent a message from {SCAN} to {SCAN} alone, in place of me@fabrikam.example (deliver = ");
    assert!(line(&ran, "message ").contains(&sent), "{}", ran.output);
    assert_eq!(exchange.simulator.submissions()[0].recipients, [SCAN]);
    for then in [Afterwards::Close, Afterwards::Reset] {
        let fault = SmtpFault::silent(SmtpMoment::EndOfData, then).kept().times(1);
        exchange.simulator.quirks(|quirks| quirks.smtp.faults = vec![fault]);
        let ran = send("");
        let said = line(&ran, "message ");
        assert!(
            said.contains("nobody knows whether it was sent") && said.contains("look for the message in"),
            "{said}"
        );
        assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
    }
    assert_eq!(exchange.simulator.submissions().len(), 3);
}

/// The token is valid but opens nothing, which Exchange reports only at the first command.
#[test]
fn no_rights_on_the_mailbox() {
    let exchange = Exchange::with(|tenant| tenant.app_mailboxes.clear());
    let ran = exchange.run(CHECK, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 69);
    assert!(line(&ran, TOKEN).contains("ok"));
    for begin in ["IMAP ", "POP3 "] {
        let line = line(&ran, begin);
        assert!(line.contains("failed at 127.0.0.1 port") && line.contains("FullAccess"), "{line}");
        assert!(line.contains("authenticated but not connected"), "{line}");
    }
}

/// Twelve accounts of one application; the mailbox of one is misspelt.
#[test]
fn accounts_that_are_ready_need_no_line() {
    let exchange = Exchange::new();
    let names: Vec<String> = (1..=12).map(|number| format!("scans{number:02}")).collect();
    let accounts = |mailbox_of_last: &str| -> String {
        let mailbox = |name: &String| if name == "scans12" { mailbox_of_last } else { SCAN };
        names.iter().map(|name| account(name, mailbox(name), "")).collect()
    };
    let tried = |ran: &Ran| -> Vec<String> {
        let begin = ran.output.find("identity office").unwrap_or_else(|| panic!("{}{}", ran.output, ran.errors));
        ran.output[begin..].lines().map(str::to_owned).collect()
    };
    let ran = exchange.run(CHECK, &exchange.configured(BY_SECRET, &accounts(SCAN)));
    let lines = tried(&ran);
    assert!(ran.code == 0 && lines.len() == 2 && lines[0].starts_with(TOKEN), "{lines:#?}");
    assert_eq!(lines[1], "12 of 12 accounts ready");
    assert_eq!(exchange.simulator.counts().tokens_issued, 1);

    let text = exchange.configured(BY_SECRET, &accounts("scans@contoso.exmaple"));
    let ran = exchange.run(CHECK, &text);
    let lines = tried(&ran);
    assert!(ran.code == 69 && lines.len() == 5 && lines[1] == "account scans12, scans@contoso.exmaple", "{lines:#?}");
    for (line, protocol) in lines[2..4].iter().zip(["IMAP", "POP3"]) {
        let advice = "scans@contoso.exmaple: is the address right? If so: ";
        assert!(line.starts_with(&format!("  {protocol}   failed at ")) && line.contains(advice), "{line}");
    }
    assert_eq!(lines[4], "11 of 12 accounts ready; not ready: scans12");

    // Two of the accounts alone, with every step.
    let before = exchange.simulator.counts();
    let ran = exchange.run(&[OF_SCANS, &["--account", "scans02"]].concat(), &text.replace("scans01", "scans"));
    let lines = tried(&ran);
    assert!(ran.code == 0 && lines.len() == 8, "{lines:#?}");
    assert!(
        lines[1] == format!("account scans, {SCAN}") && lines[4] == format!("account scans02, {SCAN}"),
        "{lines:#?}"
    );
    assert_eq!(lines[7], "2 of 2 accounts ready");
    let after = exchange.simulator.counts();
    assert_eq!(
        (after.imap().accepted - before.imap().accepted, after.pop3().accepted - before.pop3().accepted),
        (2, 2)
    );
    let ran = exchange.run(&["check", "--online", "--account", "scan"], &text);
    assert!(
        ran.code == 64 && ran.errors.contains("there is no account \"scan\"; known are scans01, "),
        "{}",
        ran.errors
    );
    assert_eq!(exchange.run(&["check", "--account", "scans01"], &text).code, 64, "without --online it means nothing");
}

/// An identity that gets no token is one failure, however many accounts it has. Other identities are tried.
#[test]
fn an_identity_without_a_token_fails_once() {
    let exchange = Exchange::new();
    let wrong = exchange.file("wrong", "the-id-of-the-secret");
    let other = exchange
        .identity(BY_SECRET)
        .replace("[identity.office]", "[identity.dead]")
        .replace(&format!("{:?}", exchange.file("SECRET", SECRET)), &format!("{wrong:?}"));
    let accounts: String = ["a", "b", "c"].iter().map(|name| account(name, SCAN, "identity = \"dead\"")).collect();
    let text = exchange.configured(BY_SECRET, &(account("scans", SCAN, "identity = \"office\"") + &accounts)) + &other;
    let ran = exchange.run(CHECK, &text);
    assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
    assert_eq!(ran.output.matches("AADSTS7000215").count(), 1, "{}", ran.output);
    assert!(line(&ran, "identity dead: token failed: ").contains("AADSTS7000215"), "{}", ran.output);
    assert!(line(&ran, TOKEN).contains("ok: "), "{}", ran.output);
    assert!(ran.output.ends_with("\n1 of 4 accounts ready; not ready: a, b, c\n"), "{}", ran.output);
    assert_eq!(exchange.simulator.counts().token_refusals, 1);
}

/// Eight accounts are tried at a time, and printed in their order.
#[test]
fn several_accounts_are_tried_at_a_time() {
    let exchange = Exchange::new();
    let accounts: String = (10..30).map(|number| account(&format!("scans{number}"), SCAN, "")).collect();
    let configuration = exchange.configured(BY_SECRET, &accounts);
    exchange.quirk(|quirks| quirks.mail.greeting_delay = std::time::Duration::from_secs(600));
    let mut command = exchange.command(CHECK, &configuration);
    let check = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let counts = exchange.until("logins at a time", |counts| counts.mail_connections >= 8);
    assert_eq!(counts.mail_connections, 8, "and no more");
    drop(check);
    exchange.quirk(|quirks| quirks.mail.greeting_delay = std::time::Duration::ZERO);
    let text = configuration.replacen(SCAN, "nobody@contoso.example", 2);
    let ran = exchange.run(CHECK, &text);
    // The order is that of the accounts, and not that of the answers.
    let failed: Vec<&str> = ran.output.lines().filter(|line| line.starts_with("account ")).collect();
    assert_eq!(failed, ["account scans10, nobody@contoso.example", "account scans11, nobody@contoso.example"]);
    assert!(ran.output.ends_with("18 of 20 accounts ready; not ready: scans10, scans11\n"), "{}", ran.output);
}

/// The check leaves out a protocol that no device of the account can use.
#[test]
fn only_the_protocols_of_the_accounts_devices_are_tried() {
    let exchange = Exchange::new();
    let text = exchange
        .configuration(BY_SECRET)
        .replace("name = \"pop3\"\n", "name = \"pop3\"\nallowed_networks = [\"10.0.0.0/8\"]\n");
    let text = text.replace("login = \"scanner3\"", "login = \"scanner3\"\nnetworks = [\"192.168.1.21\"]");
    let ran = exchange.run(OF_SCANS, &text);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.imap().accepted, counts.pop3().accepted), (1, 0));
    assert!(!ran.output.contains("  POP3"), "{}", ran.output);
}

/// The scope names another resource: the configuration shows it, or, behind the resource's id, only the token does.
#[test]
fn a_token_for_graph() {
    let exchange = Exchange::new();
    let graph = |scope: &str| exchange.configuration(&format!("scopes = [\"{scope}\"]\n{BY_SECRET}"));
    let ran = exchange.run(CHECK, &graph("https://graph.microsoft.com/.default"));
    assert!(ran.code == 78 && ran.errors.contains("leave scopes out"), "{}", ran.errors);
    let ran = exchange.run(CHECK, &graph("https://dod-graph.microsoft.us/.default"));
    assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
    for begin in ["IMAP ", "POP3 "] {
        assert!(line(&ran, begin).contains("failed at"), "{}", ran.output);
    }
}

#[test]
fn a_token_too_long_for_pop3() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.token_length = Some(4097));
    let ran = exchange.run(OF_SCANS, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 69);
    assert!(line(&ran, "IMAP ").contains("ok"), "{}", ran.output);
    assert!(line(&ran, "POP3 ").contains("takes 4096 over POP3: remove group claims"), "{}", ran.output);
}

/// Many identities share one file, so its wrong mode is reported once.
#[test]
fn one_file_with_a_wrong_mode_is_told_once() {
    let exchange = Exchange::new();
    let names: Vec<String> = (0..22).rev().map(|number| format!("office{number:02}")).collect();
    let mut text = exchange.frame();
    for name in &names {
        text += &exchange.identity(BY_SECRET).replace("[identity.office]", &format!("[identity.{name}]"));
        text += &account(name, &format!("{name}@contoso.example"), &format!("identity = \"{name}\""));
    }
    let well = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&well);
    let secret = exchange.file("SECRET", SECRET);
    mode(&secret, 0o644);
    proxy.configure(&text);
    let reload = proxy.reload().1;
    let of_person = text.replace("[identity.office00]", "[identity.office00]\ngrant = \"authorization-code\"");
    let run = |arguments: &[&str], text: &str| exchange.run(arguments, text).errors;
    for (command, said) in [
        ("reload", reload),
        ("check", run(&["check"], &text)),
        (
            "run",
            run(&["run", "--state-directory", exchange.file("x", "").with_file_name("other").to_str().unwrap()], &text),
        ),
        ("check --online", run(CHECK, &text)),
        ("login", run(&["login", "office00"], &of_person)),
    ] {
        let told: Vec<&str> = said.lines().filter(|line| line.contains("SECRET can be read by everybody")).collect();
        assert_eq!(told.len(), 1, "{command}: {said}");
        let places: Vec<usize> =
            names.iter().map(|name| told[0].find(&format!("identity.{name}.")).expect(name)).collect();
        assert!(places.is_sorted(), "{command}: not in the order of lines: {}", told[0]);
    }
}

/// Portals and scripts print values in these forms.
#[test]
fn pasted_values_are_accepted() {
    let exchange = Exchange::new();
    let identity = format!("tenant = \" {TENANT} \"\nclient_id = \"{{{APP}}}\"\n{BY_SECRET}");
    let text = exchange.configured(&identity, &account("scans", &format!("SMTP:{SCAN}"), ""));
    let ran = exchange.run(OF_SCANS, &text);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    assert!(ran.output.contains(&format!("account scans, {SCAN}\n")), "{}", ran.output);
    // An ambiguous value is reported with its line.
    let bare = exchange.configuration(&format!("scopes = [\"https://outlook.office365.com\"]\n{BY_SECRET}"));
    let line = bare.lines().position(|line| line.starts_with("scopes")).unwrap() + 2;
    for command in [&["check"][..], CHECK, &["run"]] {
        let ran = exchange.run(command, &bare);
        assert!(
            ran.code == 78 && ran.errors.contains(&format!(".toml:{line}: identity.office.scopes: ")),
            "{}",
            ran.errors
        );
    }
    let evil = exchange.configuration(&format!("authorization_endpoint = \"http://127.evil.example/\"\n{BY_PERSON}"));
    let ran = exchange.run(&["check"], &evil);
    assert!(
        ran.code == 78 && ran.errors.contains("authorization_endpoint: must begin with https://"),
        "{}",
        ran.errors
    );
}

/// The check has a token while the running proxy waits for the end of its pause: the printed command ends that.
#[test]
fn a_pause_of_the_running_proxy_is_told_with_the_command_that_ends_it() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Error("invalid_client", 7_000_215)));
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    proxy.log.wait_for("trouble", |line| line.contains("AADSTS7000215"));
    exchange.quirk(|quirks| quirks.endpoint.fault = None);
    let check = || {
        let mut command = Command::new(program());
        command.args(CHECK).arg("--config").arg(proxy.configuration()).stdin(Stdio::null());
        Ran::of(command.output().unwrap())
    };
    let ran = check();
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let note = "note: the running packetboat has failed to get a token for scans, and tries again in ";
    let line = ran.errors.lines().find_map(|line| line.strip_prefix(note)).unwrap_or_else(|| panic!("{}", ran.errors));
    let command = line.split_once(": packetboat ").unwrap().1;
    let command = command.strip_suffix(" ends the pause now, and so does a fetch that succeeds").unwrap();
    let reloaded = Command::new(program()).args(command.split(' ')).output().unwrap();
    assert!(reloaded.status.success(), "{command}: {}", String::from_utf8_lossy(&reloaded.stderr));
    proxy.log.wait_for("token", |line| line.contains("access token again"));
    let ran = check();
    assert!(ran.code == 0 && !ran.errors.contains(note), "{}", ran.errors);
}
