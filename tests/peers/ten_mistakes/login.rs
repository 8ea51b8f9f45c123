//! Mistakes that end in "login failed" on the device's display.

use packetboat::simulator::quirks::Fault;
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account};

use super::{Told, refused, run, start, technician_is_told, until, works};

/// The device's address is in none of these.
const ELSEWHERE: &str = "networks = [\"192.168.1.21/32\"]\n";

#[test]
fn wrong_password() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let reply = refused(&proxy, LOGIN, "k7m2xp9a");
    assert!(reply.starts_with("NO [AUTHENTICATIONFAILED] "), "{reply}");
    let told = Told::after(&proxy, "login failed");
    told.log_page_and_devices_say("user name or password is wrong: the password is not one of device \"scanner3\"");
    told.answer_is("failing", "0 of 1 devices get their mail; logins of scanner3 fail");
    told.page_says("/configured", "the password is not one of device \"scanner3\"");
    told.rest_is_well();
    technician_is_told("wrong password", &["type both again", "wrong password, no such login"]);
}

#[test]
fn old_mail_address_as_user_name() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    refused(&proxy, "nobody@contoso.example", PASSWORD);
    let told = Told::after(&proxy, "login failed");
    told.log_page_and_devices_say("no [[device]] has this login");
    assert!(told.devices.contains("nobody@contoso.example"), "{}", told.devices);
    refused(&proxy, SCAN, PASSWORD);
    let told = Told::after(&proxy, "it is the mailbox of");
    told.log_page_and_devices_say("it is the mailbox of device \"scanner3\": type that name as the user name");
    told.answer_is("never", "0 of 1 devices get their mail; scanner3 has never logged in");
    told.rest_is_well();
    technician_is_told("wrong password", &["use the user name of the sheet, not the mail address"]);
}

#[test]
fn right_password_from_another_address() {
    let exchange = Exchange::new();
    let login = format!("login = \"{LOGIN}\"\n");
    let configuration = exchange.configuration(BY_SECRET).replace(&login, &(login.clone() + ELSEWHERE));
    let proxy = exchange.proxy(&configuration);
    refused(&proxy, LOGIN, PASSWORD);
    let told = Told::after(&proxy, "login failed");
    told.log_page_and_devices_say("the password is right, but 127.0.0.1 is not in the networks of device \"scanner3\"");
    told.answer_is("failing", "0 of 1 devices get their mail; logins of scanner3 fail");
    told.rest_is_well();
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    let both = "networks = [\"192.168.1.21/32\", \"127.0.0.1\"]\n";
    std::fs::write(proxy.configuration(), text.replace(ELSEWHERE, both)).unwrap();
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    works(&proxy);
    technician_is_told("wrong password", &["compare the device's IP address with the sheet", "its address?"]);
}

/// Microsoft's answer is the same for both: the line begins with the question whether the address is right.
#[test]
fn no_permission_or_no_such_mailbox() {
    for mailbox in ["other@contoso.example", "scans3@contoso.example"] {
        let exchange = Exchange::new();
        let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &account("scans", mailbox, "")));
        let reply = refused(&proxy, LOGIN, PASSWORD);
        let told = Told::after(&proxy, "login failed");
        told.log_page_and_devices_say(&format!(
            "mail server does not let this user in: {mailbox}: is the address right? If so: needs IMAP and POP switched \
             on (Set-CASMailbox), and FullAccess"
        ));
        told.answer_is("failing", "0 of 1 devices get their mail; logins of scanner3 fail");
        let online = run(&proxy, &["check", "--online"]);
        assert_ne!(online.code, 0);
        let said = online.output + &online.errors;
        assert!(said.contains(mailbox) && said.contains("FullAccess"), "{said}");
        assert!(reply.starts_with("NO [AUTHORIZATIONFAILED] "), "{reply}");
    }
    technician_is_told("wrong password", &["or the mailbox does not open", "does the mailbox open?"]);
}

#[test]
fn expired_secret() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Error("invalid_client", 7_000_222)));
    let proxy = start(&exchange, "");
    let reply = refused(&proxy, LOGIN, PASSWORD);
    assert!(reply.starts_with("NO [CONTACTADMIN] "), "{reply}");
    let words = "AADSTS7000222: the client secret has expired: make a new one, or better a certificate";
    let told = Told::after(&proxy, "login failed");
    told.log_page_and_devices_say(words);
    told.page_says("/identities", words);
    assert_eq!(told.page["no_token"], true);
    told.answer_is("failing", "0 of 1 devices get their mail; logins of scanner3 fail");
    let [health, ready] = &told.health;
    assert_eq!(health.code, 0, "{}", health.errors);
    assert_eq!(ready.output.trim(), "ready, but no account has a token");
    let online = run(&proxy, &["check", "--online"]);
    assert!(online.code != 0 && (online.output + &online.errors).contains(words));
    technician_is_told("all devices fail", &["nothing helps at the device", "Has the secret expired?"]);
    exchange.quirk(|quirks| quirks.endpoint.fault = None);
    assert_eq!(proxy.reload().0, 0);
    until("the login", || {
        let mut imap = proxy.imap("imap");
        support::imap::status(&imap.command(&format!("LOGIN {LOGIN} {PASSWORD}"))).starts_with("OK")
    });
}
