//! These tests prove that `packetboat check --online` shows an operator each fault before a device meets it.

use packetboat::simulator::Simulator;

use support::exchange::*;

const CHECK: &[&str] = &["check", "--online"];

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
    let ran = exchange.run(CHECK, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let token = line(&ran, "token");
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
    assert!(
        line(&ran, "token").contains("failed: ") && ran.output.contains("packetboat login scans"),
        "{}",
        ran.output
    );
    exchange.sign_in(&configuration);
    let ran = exchange.run(CHECK, &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let token = line(&ran, "token");
    assert!(token.contains(&format!("of {SCAN}")) && token.contains("IMAP.AccessAsUser.All"), "{token}");
}

#[test]
fn a_wrong_secret() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    exchange.file("SECRET", "the-id-of-the-secret");
    let ran = exchange.run(CHECK, &configuration);
    let token = line(&ran, "token");
    assert_eq!(ran.code, 69);
    assert!(
        token.contains("AADSTS7000215: the client secret is wrong: put the secret's value into the file"),
        "{token}"
    );
    assert!(!ran.output.contains("the-id-of-the-secret"), "{}", ran.output);
    assert_eq!(exchange.simulator.counts().mail_connections, 0);
}

/// The token is valid but opens nothing, which Exchange reports only at the first command.
#[test]
fn no_rights_on_the_mailbox() {
    let exchange = Exchange::with(|tenant| tenant.app_mailboxes.clear());
    let ran = exchange.run(CHECK, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 69);
    assert!(line(&ran, "token").contains("ok"));
    for begin in ["IMAP ", "POP3 "] {
        let line = line(&ran, begin);
        assert!(line.contains("failed at 127.0.0.1 port") && line.contains("FullAccess"), "{line}");
        assert!(line.contains("authenticated but not connected"), "{line}");
    }
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
    let ran = exchange.run(CHECK, &exchange.configuration(BY_SECRET));
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
    let ran = exchange.run(CHECK, &text);
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
