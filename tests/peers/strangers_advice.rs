//! These tests prove the advice of the page on a refused stranger: a person pastes what stands there, and the device gets
//! in; and that a person can forget a stranger.

pub mod without_login;

use std::net::SocketAddr;
use std::process::Command;

use openssl::ssl::{Ssl, SslContextBuilder};

use support::browser::Browser;
use support::connection::TlsStream;
use support::device::{Device, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN};
use support::imap::{Imap, status};
use support::process::program;
use support::proxy::Proxy;
use support::stacks::{Version, context, old};

fn tls_from(host: u8, address: SocketAddr, configure: impl FnOnce(&mut SslContextBuilder)) -> Option<TlsStream> {
    Ssl::new(&context(configure)).unwrap().connect(tcp_from([127, 0, 0, host], address)).ok()
}

fn legacy(context: &mut SslContextBuilder) {
    old(context, Version::Tls1_0, "AES128-SHA");
}

fn rc4(context: &mut SslContextBuilder) {
    old(context, Version::Tls1_0, "RC4-SHA");
}

/// The texts to paste in the row of a device that was seen.
fn pasted(browser: &Browser, source: &str) -> Vec<String> {
    let row = format!("#devices tbody tr[data-source='{source}']");
    browser.wait_for("advice", &format!("!!document.querySelector(\"{row} .admission\")"));
    browser.click(&format!("{row} .admission summary"));
    let texts =
        browser.evaluate(&format!("[...document.querySelectorAll(\"{row} .paste\")].map(one => one.textContent)"));
    serde_json::from_value(texts).unwrap()
}

fn open(proxy: &Proxy) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    browser
}

/// Runs a command that was pasted, in a shell, with the program of this build and the configuration of this proxy.
fn run(command: &str, proxy: &Proxy) -> String {
    let line = command.replacen("packetboat", &program().display().to_string(), 1);
    let output =
        Command::new("sh").args(["-c", &line]).env("PACKETBOAT_CONFIG", proxy.configuration()).output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A stranger with an unknown name: one command makes the device, and prints its password.
#[test]
fn the_command_lets_an_unknown_device_in() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET).replace("[[device]]", "[[device]]\naliases = [\"Copier\"]");
    let proxy = exchange.proxy(&configuration);
    let login = "scanner's $(id) \"3\"";
    let imap = || Imap::greeted(Device::over(tls_from(71, proxy.address("imap"), legacy).unwrap()));
    let answer = imap().command(&format!("AUTHENTICATE PLAIN {}", plain(login, "guess")));
    assert!(status(&answer).starts_with("NO"), "{answer:?}");
    // A name that the inventory cannot repeat gets no command.
    let stream = tls_from(70, proxy.address("imap"), legacy).unwrap();
    Imap::greeted(Device::over(stream)).command(&format!("AUTHENTICATE PLAIN {}", plain("Röntgen", "guess")));
    // Nor does a name that is another device's alias: the command would be refused.
    let stream = tls_from(69, proxy.address("imap"), legacy).unwrap();
    Imap::greeted(Device::over(stream)).command("LOGIN Copier guess");
    let browser = open(&proxy);
    let commands = pasted(&browser, "127.0.0.71");
    browser.wait_for("the alias", "!!document.querySelector(\"#devices tbody tr[data-source='127.0.0.69']\")");
    assert_eq!(browser.evaluate("document.querySelectorAll('.admission').length"), 1);
    assert_eq!(commands.len(), 1, "{commands:?}");
    let printed = run(&commands[0], &proxy);
    let password = printed.lines().find_map(|line| line.trim().strip_prefix("password")).unwrap().trim().to_owned();
    let answer = imap().command(&format!("AUTHENTICATE PLAIN {}", plain(login, &password)));
    assert!(status(&answer).starts_with("OK"), "{answer:?}\n{}", proxy.log.all());
    // Its row needs nobody any more.
    browser.wait_for("no advice", "!document.querySelector('.admission')");
    browser.wait_for("the other", "!!document.querySelector(\"#devices tbody tr[data-source='127.0.0.70']\")");
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// A stranger from a network that is not allowed: the line has the present networks, and this address.
#[test]
fn the_line_lets_another_network_in() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let narrow = "allowed_networks = [\"127.0.0.1/32\", \"10.0.0.0/8\"]";
    let configuration = configuration.replace("name = \"imap\"\n", &format!("name = \"imap\"\n{narrow}\n"));
    let proxy = exchange.proxy(&configuration);
    assert!(tls_from(72, proxy.address("imap"), legacy).is_none());
    let browser = open(&proxy);
    let texts = pasted(&browser, "127.0.0.72");
    let expected = "allowed_networks = [\"127.0.0.1/32\", \"10.0.0.0/8\", \"127.0.0.72/32\"]";
    assert_eq!(texts, [expected, "packetboat reload"]);
    proxy.configure(&configuration.replace(narrow, &texts[0]));
    assert_eq!(proxy.reload().0, 0);
    browser.wait_for("no advice", "!document.querySelector('.admission')");
    let stream = tls_from(72, proxy.address("imap"), legacy).unwrap();
    Imap::greeted(Device::over(stream)).login(LOGIN, exchange::PASSWORD);
    exchange::imap(&proxy).login(LOGIN, exchange::PASSWORD);
}

/// The address of a listener that a reload has opened.
fn address_of(proxy: &Proxy, name: &str) -> SocketAddr {
    let status = proxy.status();
    let listener = status["listeners"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    listener["addresses"][0].as_str().unwrap().parse().unwrap()
}

/// A stranger that knows only RC4: the lines open a port for it alone. A person forgets another one.
#[test]
fn the_lines_open_a_port_for_ancient_tls() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&configuration);
    for host in [73, 74, 75] {
        assert!(tls_from(host, proxy.address("imap"), rc4).is_none());
    }
    let browser = open(&proxy);
    let texts = pasted(&browser, "127.0.0.73");
    let lines = "[[listener]]\nname = \"imap-ancient\"\nprotocol = \"imap\"\nentry = \"implicit\"\nprofile = \"ancient\"\n\
                 listen = [\"127.0.0.1:1993\"]\nallowed_networks = [\"127.0.0.73/32\"]";
    assert_eq!(texts, [lines, "packetboat reload"]);
    // The log proposes the same.
    proxy.log.wait_for("log", |line| line.contains(&lines.replace('\n', ", ").replace('"', "\\\"")));
    // The port may be another program's here.
    proxy.configure(&(configuration + &texts[0].replace("127.0.0.1:1993", "127.0.0.1:0") + "\n"));
    assert_eq!(proxy.reload().0, 0);
    // The status may be a second old.
    browser.wait_for("listener", "document.querySelector('#listeners').textContent.includes('imap-ancient')");
    let opened = address_of(&proxy, "imap-ancient");
    let stream = tls_from(73, opened, rc4).unwrap();
    Imap::greeted(Device::over(stream)).login(LOGIN, exchange::PASSWORD);
    assert!(tls_from(74, opened, rc4).is_none(), "for this device alone");
    assert!(tls_from(73, proxy.address("imap"), rc4).is_none(), "the other listener is as strict as before");

    let other = "#devices tbody tr[data-source='127.0.0.75']";
    browser.wait_for("the other", &format!("!!document.querySelector(\"{other} button.forget\")"));
    browser.click(&format!("{other} button.forget"));
    browser.wait_for("forgotten", &format!("!document.querySelector(\"{other}\")"));
    proxy.logs(1, "device forgotten: somebody asked for it on the page");
    assert_eq!(browser.evaluate("document.querySelector('#forget-problem').textContent"), "");
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// A stranger that sends, and knows only RC4: the lines open a port for SMTP, with either kind of encryption. Once the
/// file has that listener, the page names it, with the network that it lacks.
#[test]
fn the_lines_open_a_port_for_a_device_that_sends() {
    let exchange = Exchange::new();
    let configuration =
        exchange.submission_frame() + &exchange.identity(BY_SECRET) + &exchange::account("scans", exchange::SCAN, "");
    let proxy = exchange.proxy(&configuration);
    assert!(tls_from(76, proxy.address("smtp"), rc4).is_none());
    let browser = open(&proxy);
    let texts = pasted(&browser, "127.0.0.76");
    let lines = "[[listener]]\nname = \"smtp-ancient\"\nprotocol = \"smtp\"\nentry = \"auto\"\nprofile = \"ancient\"\n\
                 listen = [\"127.0.0.1:1465\"]\nallowed_networks = [\"127.0.0.76/32\"]";
    assert_eq!(texts, [lines, "packetboat reload"]);
    proxy.log.wait_for("log", |line| line.contains(&lines.replace('\n', ", ").replace('"', "\\\"")));
    // The port may be another program's here.
    let pasted_lines = texts[0].replace("127.0.0.1:1465", "127.0.0.1:0");
    proxy.configure(&(configuration.clone() + &pasted_lines + "\n"));
    assert_eq!(proxy.reload().0, 0);
    browser.wait_for("listener", "document.querySelector('#listeners').textContent.includes('smtp-ancient')");
    let opened = address_of(&proxy, "smtp-ancient");
    let greeting = |host: u8, address| Device::over(tls_from(host, address, rc4).unwrap()).line();
    assert!(greeting(76, opened).starts_with("220 "));
    assert!(tls_from(77, opened, rc4).is_none(), "for this device alone");

    assert!(tls_from(77, proxy.address("smtp"), rc4).is_none());
    let texts = pasted(&browser, "127.0.0.77");
    let line = "allowed_networks = [\"127.0.0.76/32\", \"127.0.0.77/32\"]";
    assert_eq!(texts, [line, "packetboat reload"]);
    let both = pasted_lines.replace("allowed_networks = [\"127.0.0.76/32\"]", line);
    proxy.configure(&(configuration + &both + "\n"));
    assert_eq!(proxy.reload().0, 0);
    assert!(greeting(77, address_of(&proxy, "smtp-ancient")).starts_with("220 "));
    // The page judges by the session that ended last.
    proxy.log.wait_for("end of the admitted session", |line| {
        line.contains("session ended") && line.contains("\"smtp-ancient\"") && line.contains("\"127.0.0.77:")
    });
    // There is nothing more to write: the device is to be set to that listener.
    assert!(tls_from(77, proxy.address("smtp"), rc4).is_none());
    let words =
        "document.querySelector(\"#devices tbody tr[data-source='127.0.0.77'] .admission .words\")?.textContent";
    browser.wait_for("the listener", &format!("{words}?.includes('set the device to listener smtp-ancient')"));
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// The initial response of PLAIN (RFC 4616).
fn plain(login: &str, password: &str) -> String {
    openssl::base64::encode_block(format!("\0{login}\0{password}").as_bytes())
}
