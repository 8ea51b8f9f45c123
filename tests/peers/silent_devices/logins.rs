//! Wrong user names: the log names the device that is meant, where it can tell.

use super::*;

/// The device goes on with the user name of before. The line of the log goes into the file as it is.
#[test]
fn a_device_with_its_mailbox_as_user_name_gets_an_alias() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let answers = |login: &str| {
        let imap = status(&proxy.imap("imap").command(&format!("LOGIN {login} {PASSWORD}")));
        let mut pop3 = proxy.pop3("pop3");
        pop3.ok(&format!("USER {login}"));
        (imap, pop3.command(&format!("PASS {PASSWORD}")))
    };
    let (of_stranger, of_mailbox) = (answers("nobody@contoso.example"), answers(SCAN));
    assert_eq!(of_mailbox, of_stranger, "the answer tells a guesser nothing");
    assert!(of_mailbox.0.starts_with("NO ") && of_mailbox.1.starts_with("-ERR"), "{of_mailbox:?}");
    proxy.logs(2, "no [[device]] has this login; it is the mailbox of device");
    let hint = proxy.log.wait_for("hint", |line| line.contains("it is the mailbox of device"));
    let hint: Value = serde_json::from_str(&hint).unwrap();
    let message = hint["message"].as_str().unwrap();
    assert!(message.contains("device \"scanner3\": type that name as the user name, or write aliases = "), "{message}");
    assert_eq!(proxy.log.count(|line| line.contains("it is the mailbox of")), 2, "{}", proxy.log.all());
    is_shown(&proxy, "it is the mailbox of device");
    logs_in("imap", over_tls(proxy.address("imap")), LOGIN);

    let line = message.split_once("or write ").unwrap().1.split_once(" into its [[device]]").unwrap().0;
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    let login = format!("login = \"{LOGIN}\"\n");
    assert!(text.contains(&login));
    fs::write(proxy.configuration(), text.replace(&login, &format!("{login}{line}\n"))).unwrap();
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    for protocol in PROTOCOLS {
        logs_in(protocol, over_tls(proxy.address(protocol)), SCAN);
    }
}

/// A mailbox that several devices open names none of them.
#[test]
fn a_mailbox_of_several_devices_is_no_hint() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, &account("other", SCAN, ""));
    let answer = status(&proxy.imap("imap").command(&format!("LOGIN {SCAN} {PASSWORD}")));
    assert!(answer.starts_with("NO "), "{answer}");
    let line = proxy.log.wait_for("line", |line| line.contains("login failed"));
    assert!(line.contains("no [[device]] has this login") && !line.contains("mailbox of device"), "{line}");
}

/// An address that the file gives to one device tells which device it is. One of several devices tells nothing, and
/// neither does one of devices that may come from anywhere.
#[test]
fn the_address_of_a_device_names_it_where_its_user_name_is_wrong() {
    let exchange = Exchange::new();
    let login = format!("login = \"{LOGIN}\"\n");
    let text = exchange.configuration(BY_SECRET);
    let bound = text.replace(&login, &format!("{login}networks = [\"127.0.0.1/32\"]\n"));
    let others = account("other", SCAN, "");
    let other = others.replace("login = \"other\"\n", "login = \"other\"\nnetworks = [\"127.0.0.0/8\"]\n");
    assert!(bound != text && other != others);
    let hint = "; 127.0.0.1 is in the networks of device \\\"scanner3\\\" alone: type that name as the user name";
    for (configuration, is_told) in [(bound.clone() + &others, true), (bound + &other, false), (text + &others, false)]
    {
        let proxy = exchange.proxy(&configuration);
        let answer = status(&proxy.imap("imap").command(&format!("LOGIN scanner {PASSWORD}")));
        assert!(answer.starts_with("NO "), "{answer}");
        let line = proxy.log.wait_for("line", |line| line.contains("login failed"));
        assert_eq!(line.contains(hint), is_told, "{line}");
        assert_eq!(run(&proxy, &["devices"]).contains("alone: type that name as the user name"), is_told);
        logs_in("imap", over_tls(proxy.address("imap")), LOGIN);
    }
}
