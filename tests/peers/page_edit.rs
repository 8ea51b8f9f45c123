//! These tests prove that the page changes devices in the configuration, only where it may, and whole or not at all.

mod without_login;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::page::{DRAWN, pictures};
use super::page_actions::{post as post_alone, text};
use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::imap::status;
use support::process::program;
use support::proxy::Proxy;

const TOKEN: &str = "a-token-of-enough-length";
const BEARER: &str = "Authorization: Bearer a-token-of-enough-length";

/// The section that lets the page change the configuration: it needs a token.
fn edit(exchange: &Exchange) -> String {
    let file = exchange.file("admin-token", TOKEN);
    format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\nedit = true\n# Kept where it is.\n")
}

/// The status, as the holder of a token gets it.
fn status_with(proxy: &Proxy, bearer: &str) -> Value {
    let url = format!("http://{}/status.json", proxy.admin());
    let status = Command::new("curl").args(["-s", "--noproxy", "*", "-H", bearer, &url]).output().unwrap();
    serde_json::from_slice(&status.stdout).unwrap()
}

fn form_token(proxy: &Proxy, bearer: &str) -> String {
    format!("X-Form-Token: {}", status_with(proxy, bearer)["form_token"].as_str().unwrap())
}

fn post(proxy: &Proxy, path: &str, headers: &[&str], form: &str) -> (u16, String) {
    post_alone(proxy, path, &[headers, &[BEARER]].concat(), form)
}

/// Opens the page, and enters a token where it asks for one.
fn open(browser: &Browser, proxy: &Proxy, token: Option<&str>) {
    browser.open(&format!("http://{}/", proxy.admin()));
    if let Some(token) = token {
        unlock(browser, token);
    }
    browser.wait_for("page", "document.querySelector('#ready')?.textContent === 'Ready'");
}

fn unlock(browser: &Browser, token: &str) {
    browser.wait_for("question", "document.querySelector('#token')?.offsetParent != null");
    browser.type_into("#token", &format!("{token}\u{e007}"));
}

fn login(proxy: &Proxy, login: &str, password: &str) -> String {
    status(&exchange::imap(proxy).command(&format!("LOGIN {login} {password}")))
}

fn done(browser: &Browser, words: &str) -> String {
    let expected = serde_json::Value::from(words);
    browser.wait_for("result", &format!("document.querySelector('#edit-result .outcome')?.textContent === {expected}"));
    let password = browser.evaluate("document.querySelector('#edit-result .code')?.textContent ?? ''");
    password.as_str().unwrap().to_owned()
}

fn choose(browser: &Browser, device: &str) {
    browser.wait_for(
        "option",
        &format!("[...document.querySelector('#edit-login').options].some(one => one.value === '{device}')"),
    );
    browser.evaluate(&format!("document.querySelector('#edit-login').value = '{device}'"));
}

/// A device is added, gets a new password and is removed, with the proxy running; its password is shown once.
#[test]
fn devices_are_changed_on_the_page() {
    let exchange = Exchange::new();
    let configuration = format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET));
    let proxy = exchange.proxy(&configuration);
    proxy.log.wait_for("edit", |line| line.contains("who has the admin token can change devices in "));
    let browser = Browser::start();
    open(&browser, &proxy, Some(TOKEN));
    browser.type_into("#edit-add [name=login]", "fax2");
    browser.type_into("#edit-add [name=mailbox]", SCAN);
    browser.type_into("#edit-add [name=networks]", "127.0.0.1");
    browser.type_into("#edit-add [name=description]", "Fax, \"second\" floor\u{e007}");
    let first = done(&browser, "fax2: device added.");
    assert_eq!(first.len(), 15, "{first}");
    assert!(login(&proxy, "fax2", &first).starts_with("OK "));
    let file = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(file.contains("# Kept where it is.\n") && file.contains("networks = [\"127.0.0.1/32\"]"), "{file}");
    for (name, width, dark) in [("edit-light", 1280, false), ("edit-dark", 1280, true), ("edit-phone", 390, false)] {
        browser.resize(width, 844);
        browser.dark(dark);
        browser
            .wait_for("width", &format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth"));
        browser.evaluate("document.querySelector('#edit').scrollIntoView()");
        browser.evaluate(DRAWN);
        browser.screenshot(pictures().join(format!("{name}.png")));
    }
    browser.resize(1280, 900);
    assert_accessible(&browser, "a device that was added");

    choose(&browser, "fax2");
    browser.click("#edit-device button[type=submit]");
    let second = done(&browser, "fax2: device has a new password.");
    assert!(second != first && login(&proxy, "fax2", &second).starts_with("OK "));
    assert!(login(&proxy, "fax2", &first).starts_with("NO "));
    let shown =
        [status_with(&proxy, BEARER).to_string(), proxy.log.all(), fs::read_to_string(proxy.configuration()).unwrap()];
    assert!(shown.iter().all(|text| !text.contains(&first) && !text.contains(&second)));
    browser.click("#edit-hide");
    browser.wait_for("no password", "document.querySelector('#edit-result').textContent === ''");

    // One press removes nothing.
    choose(&browser, "fax2");
    browser.click("#edit-remove");
    assert_eq!(text(&browser, "#edit-remove"), "Press again to remove fax2");
    assert!(login(&proxy, "fax2", &second).starts_with("OK "));
    browser.wait_for(
        "the first question's end",
        "document.querySelector('#edit-remove').textContent === 'Remove the device'",
    );
    browser.click("#edit-remove");
    browser.click("#edit-remove");
    done(&browser, "fax2: device removed.");
    assert!(login(&proxy, "fax2", &second).starts_with("NO "));
    assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), proxy_text(&proxy, &configuration));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("401")), "{console:?}");
}

/// The file as it was at the start.
fn proxy_text(proxy: &Proxy, configuration: &str) -> String {
    let now = fs::read_to_string(proxy.configuration()).unwrap();
    let head = now.find("[admin]").map_or("", |at| &now[..at]);
    format!("{head}{configuration}")
}

/// A wrong entry is refused with the reason, and nothing changes.
#[test]
fn mistakes_change_nothing() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET)));
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, BEARER));
    let before = fs::read_to_string(proxy.configuration()).unwrap();
    for (path, form, why) in [
        ("/edit/add", "login=fax2&mailbox=nobody", "\"nobody\" is no mail address"),
        ("/edit/add", "login=fax2&mailbox=a%40b.example&networks=here", "\"here\" is neither an address"),
        ("/edit/add", "login=scanner3&mailbox=scan%40contoso.example", "there is a device \"scanner3\" already"),
        ("/edit/password", "login=fax2", "there is no device \"fax2\"; the configuration has scanner3"),
        ("/edit/remove", "login=scanner3", "it is the only device"),
        ("/edit/remove", "login=", "login is missing"),
    ] {
        let (code, answer) = post(&proxy, path, &[&host, &token], form);
        assert!((code == 409 || code == 400) && answer.contains(why), "{form}: {answer}");
        assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), before, "{form}");
    }
    // A change that the running proxy rejects leaves the file as it was.
    let edited = format!("confine = false\n{before}");
    fs::write(proxy.configuration(), &edited).unwrap();
    let (code, answer) = post(&proxy, "/edit/password", &[&host, &token], "login=scanner3");
    assert!(code == 409 && answer.contains("rejects the new configuration, and the old one is back"), "{answer}");
    assert!(answer.contains("confine: cannot change while packetboat runs"), "{answer}");
    assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), edited);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
}

/// A new password that nobody waits for is not set, and the log says so.
#[test]
fn a_page_that_has_left_changes_nothing() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET)));
    let before = fs::read_to_string(proxy.configuration()).unwrap();
    let lock = File::create(proxy.configuration().with_extension("toml.lock")).unwrap();
    lock.lock().unwrap();
    let form = "login=scanner3";
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    write!(stream, "{}", change(&proxy, "/edit/password", form)).unwrap();
    // The request is there: the answer to one that came later is.
    assert_eq!(post(&proxy, "/edit/nothing", &[&form_token(&proxy, BEARER)], form).0, 405);
    drop(stream);
    // The page's event loop has seen the end, too.
    assert_eq!(post(&proxy, "/edit/nothing", &[&form_token(&proxy, BEARER)], form).0, 405);
    drop(lock);
    proxy.logs(1, "the page has changed nothing: the page that asked for it has left before the file was changed");
    assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), before);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
}

/// The page asks again and again by one connection, which ends after a minute; a change at its end has its answer.
#[test]
fn a_change_at_the_end_of_a_connection_has_its_answer() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET)));
    let token = change(&proxy, "/edit/password", "login=scanner3");
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(57) {
        write!(stream, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
        thread::sleep(Duration::from_secs(2));
    }
    let lock = File::create(proxy.configuration().with_extension("toml.lock")).unwrap();
    lock.lock().unwrap();
    write!(stream, "{token}").unwrap();
    // Another command has the file until the connection is older than a minute.
    thread::sleep(Duration::from_secs(62).saturating_sub(began.elapsed()));
    drop(lock);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close") && answer.contains("\"password\":"), "{answer:?}");
}

/// The request by which the page asks for a change.
fn change(proxy: &Proxy, path: &str, form: &str) -> String {
    let (token, length) = (form_token(proxy, BEARER), form.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n{token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
    )
}

/// Without `admin.edit`, without the page's form token, or from another site nothing changes.
#[test]
fn only_the_page_changes_anything_and_only_where_it_may() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let browser = Browser::start();
    open(&browser, &proxy, None);
    assert_eq!(browser.evaluate("document.querySelector('#edit').hidden"), true, "off by default");
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, BEARER));
    let (code, answer) = post(&proxy, "/edit/password", &[&host, &token], "login=scanner3");
    assert!(code == 403 && answer.contains("set admin.edit = true, and restart"), "{answer}");
    // A reload does not switch it on: the process is confined without it.
    proxy.configure(&format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET)));
    let (code, said) = proxy.reload();
    assert!(code != 0 && said.contains("admin.edit: cannot change while packetboat runs: restart it"), "{said}");
    drop(proxy);

    let proxy = exchange.proxy(&format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET)));
    let before = fs::read_to_string(proxy.configuration()).unwrap();
    let (host, own, token) =
        (format!("Host: {}", proxy.admin()), format!("Origin: http://{}", proxy.admin()), form_token(&proxy, BEARER));
    for path in ["/edit/add", "/edit/password", "/edit/remove"] {
        for headers in [
            [host.as_str(), &own, "X-Form-Token: wrong"],
            [&host, "Origin: http://evil.example", &token],
            [&host, "Sec-Fetch-Site: cross-site", &token],
        ] {
            let form = "login=scanner3&mailbox=scan%40contoso.example";
            let (code, answer) = post(&proxy, path, &headers, form);
            assert_eq!(code, 403, "{path} {headers:?}: {answer}");
        }
        assert_eq!(post_alone(&proxy, path, &[&host, &own, &token], "login=scanner3").0, 401, "{path}");
    }
    assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), before);
}

/// The technicians' token starts nothing, changes nothing, and shows nothing of what administrators start.
#[test]
fn technicians_start_and_change_nothing() {
    let exchange = Exchange::new();
    let [all, some] = ["all", "some"].map(|name| exchange.file(name, format!("a-token-of-enough-length-{name}\n")));
    let admin = format!(
        "[admin]\nlisten = [\"127.0.0.1:0\"]\nedit = true\ntoken_file = {all:?}\ntechnician_token_file = {some:?}\n"
    );
    let proxy = exchange.proxy(&format!("{admin}{}", exchange.configuration(BY_SECRET)));
    let before = fs::read_to_string(proxy.configuration()).unwrap();
    let bearer = |name: &str| format!("Authorization: Bearer a-token-of-enough-length-{name}");
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, &bearer("all")));
    let form = "account=scans&login=scanner3&mailbox=scan%40contoso.example";
    let paths =
        ["/try", "/sign-in", "/sign-in/answer", "/sign-in/cancel", "/edit/add", "/edit/password", "/edit/remove"];
    for path in paths {
        let (code, answer) = post_alone(&proxy, path, &[&host, &token, &bearer("some")], form);
        assert!(code == 403 && answer.contains("the technicians' token"), "{path}: {answer}");
        let (code, answer) = post_alone(&proxy, path, &[&host, &token], form);
        assert_eq!(code, 401, "{path}: {answer}");
    }
    let url = format!("http://{}/actions.json", proxy.admin());
    let actions = Command::new("curl").args(["-s", "--noproxy", "*", "-H", &bearer("some"), &url]).output().unwrap();
    assert!(String::from_utf8_lossy(&actions.stdout).contains("the technicians' token"));
    assert_eq!(fs::read_to_string(proxy.configuration()).unwrap(), before);
    let browser = Browser::start();
    open(&browser, &proxy, Some("a-token-of-enough-length-some"));
    browser.wait_for("devices", "document.querySelectorAll('#configured tbody tr').length === 1");
    let shown = "['#edit', '#sign-ins', '#accounts'].filter(one => document.querySelector(one).offsetParent).length";
    assert_eq!(browser.evaluate(shown), 0);
    let (code, _) = post_alone(&proxy, "/edit/password", &[&host, &token, &bearer("all")], "login=scanner3");
    assert_eq!(code, 200, "an administrator may");
    // Where the technicians' token ends, an administrator goes on in the same tab.
    fs::write(&some, "a-token-of-enough-length-more\n").unwrap();
    assert_eq!(proxy.reload().0, 0);
    unlock(&browser, "a-token-of-enough-length-all");
    choose(&browser, LOGIN);
    browser.click("#edit-device button[type=submit]");
    assert_eq!(done(&browser, "scanner3: device has a new password.").len(), 15);
    browser.click("#accounts button[data-try=scans]");
    browser.wait_for("outcome", "document.querySelector('#accounts .attempt .outcome')");
}

/// The arrangement of docs/operations.md: a directory that the service may write in one that it may not, and a link to the
/// file there.
#[test]
fn a_directory_of_its_own_is_enough() {
    let exchange = Exchange::new();
    let configuration = format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET));
    let mut command = Command::new("unshare");
    let script = "d=$(dirname \"$3\"); mkdir \"$d/page\" && mv \"$3\" \"$d/page/\" && \
                  ln -s page/packetboat.toml \"$3\" && mount --bind \"$d\" \"$d\" && cd \"$d\" && \
                  mount --bind page page && mount -o remount,bind,ro \"$d\" && exec \"$0\" \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(program());
    let proxy = Proxy::start_by(command, Some(&exchange.state()), "debug", &configuration, None);
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, BEARER));
    let form = "login=fax2&mailbox=scan%40contoso.example";
    let (code, answer) = post(&proxy, "/edit/add", &[&host, &token], form);
    assert_eq!(code, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert!(login(&proxy, "fax2", answer["password"].as_str().unwrap()).starts_with("OK "));
    assert!(fs::symlink_metadata(proxy.configuration()).unwrap().is_symlink(), "the link stays");
}

/// packetboat with a view of the file system in which the configuration's directory is read-only.
fn read_only() -> Command {
    let mut command = Command::new("unshare");
    let script =
        "d=$(dirname \"$3\"); mount --bind \"$d\" \"$d\" && mount -o remount,bind,ro \"$d\" && exec \"$0\" \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(program());
    command
}

/// Where the service cannot write the file, the page says so and has the command, which works; `check` warns.
#[test]
fn a_file_that_cannot_be_written_is_told_with_the_command() {
    let exchange = Exchange::new();
    let configuration = format!("{}{}", edit(&exchange), exchange.configuration(BY_SECRET));
    let proxy = Proxy::start_by(read_only(), Some(&exchange.state()), "debug", &configuration, None);
    proxy.log.wait_for("warning", |line| line.contains("admin.edit = true cannot work: "));
    let browser = Browser::start();
    open(&browser, &proxy, Some(TOKEN));
    browser.wait_for("notice", "document.querySelector('#edit-problem').textContent.includes('cannot be written')");
    browser.type_into("#edit-add [name=login]", "fax2");
    browser.type_into("#edit-add [name=mailbox]", &format!("{SCAN}\u{e007}"));
    let problem = "document.querySelector('#edit-result .problem')?.textContent";
    let said = browser.wait_for("command", problem);
    let (_, command) = said.as_str().unwrap().split_once("as root: ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(command, format!("packetboat device add fax2 --mailbox {SCAN}"));
    let (host, token) = (format!("Host: {}", proxy.admin()), form_token(&proxy, BEARER));
    let (code, _) = post(&proxy, "/edit/remove", &[&host, &token], "login=scanner3");
    assert_eq!(code, 409);
    let checked = read_only().args(["check", "--config"]).arg(proxy.configuration()).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.contains("warning: admin.edit = true cannot work: "), "{said}");
    // Outside of the service's own view of the file system the command works.
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    let ran = Command::new(program()).args(arguments).arg("--config").arg(proxy.configuration()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let password = said.split_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("password")).nth(1);
    let password = password.unwrap_or_else(|| panic!("{said}"));
    assert!(login(&proxy, "fax2", password).starts_with("OK "), "{said}");
    assert_eq!(status_with(&proxy, BEARER)["edit"]["on"], json!(true));
}
