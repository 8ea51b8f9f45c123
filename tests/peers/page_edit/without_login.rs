//! These tests prove that the page adds a device that sends without a login, from a private address alone.

use super::*;
use crate::strangers_advice::without_login::Sender;

/// Fills in the form, but for the button.
fn fill(browser: &Browser, address: &str) {
    browser.type_into("#edit-add [name=login]", "ups 1");
    browser.type_into("#edit-add [name=mailbox]", SCAN);
    browser.type_into("#edit-add [name=networks]", address);
    browser.click("#edit-add [name=without_login]");
}

#[test]
fn a_device_without_a_login_is_added() {
    let exchange = Exchange::new();
    let frame = exchange.submission_frame() + &exchange.identity(BY_SECRET) + &exchange::account("scans", SCAN, "");
    let proxy = exchange.proxy(&format!("{}{frame}", edit(&exchange)));
    let browser = Browser::start();
    open(&browser, &proxy, Some(TOKEN));
    // Before the token the page is refused.
    drop(browser.console());
    Sender::in_vain(&proxy, 87);
    let label = "document.querySelector('#edit-add [name=without_login]').closest('label').textContent";
    let label = browser.evaluate(label);
    assert!(label.as_str().unwrap().contains("every computer at its address can send from the mailbox"), "{label}");
    // The form wants an address first, and packetboat a private one.
    fill(&browser, "");
    assert_eq!(browser.evaluate("document.querySelector('#edit-add').checkValidity()"), false);
    browser.type_into("#edit-add [name=networks]", "198.51.100.7");
    browser.click("#edit-add button[type=submit]");
    let problem = browser.wait_for("problem", "document.querySelector('#edit-result .problem')?.textContent");
    assert!(problem.as_str().unwrap().contains("198.51.100.7/32 has public addresses"), "{problem}");
    browser.evaluate("document.querySelector('#edit-add').reset()");
    fill(&browser, "127.0.0.87");
    browser.click("#edit-add button[type=submit]");
    assert_eq!(done(&browser, "ups 1: device added."), "", "no password");
    let said = browser.evaluate("document.querySelector('#edit-result').textContent");
    let said = said.as_str().unwrap();
    assert!(said.contains("needs no password: switch SMTP authentication off in the device"), "{said}");
    assert!(said.contains("packetboat device sheet 'ups 1'"), "{said}");
    assert_accessible(&browser, "a device without a login that was added");
    let file = fs::read_to_string(proxy.configuration()).unwrap();
    let section = "account = \"scans\"\nsend_without_login = true\nnetworks = [\"127.0.0.87/32\"]\n\
                   recipients = [\"*@contoso.example\"]\n";
    assert!(file.contains(section), "{file}");
    Sender::sends(&proxy, 87);
    Sender::in_vain(&proxy, 88);
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("409")), "{console:?}");
}

/// Where the page cannot change the file, the command that it prints does the same.
#[test]
fn the_command_in_its_place_works() {
    let exchange = Exchange::new();
    let frame = exchange.submission_frame() + &exchange.identity(BY_SECRET) + &exchange::account("scans", SCAN, "");
    let proxy =
        Proxy::start_by(read_only(), Some(&exchange.state()), "debug", &format!("{}{frame}", edit(&exchange)), None);
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, BEARER));
    let form = "login=ups1&mailbox=scan%40contoso.example&networks=127.0.0.89&without_login=yes";
    let (code, answer) = post(&proxy, "/edit/add", &[&host, &token], form);
    assert_eq!(code, 409, "{answer}");
    let (_, command) = answer.trim().split_once("as root: ").unwrap();
    let command = command.replacen("packetboat", &program().display().to_string(), 1);
    let mut shell = Command::new("sh");
    let ran = shell.args(["-c", &command]).env("PACKETBOAT_CONFIG", proxy.configuration()).output().unwrap();
    assert!(ran.status.success(), "{command}{}", String::from_utf8_lossy(&ran.stderr));
    Sender::sends(&proxy, 89);
}
