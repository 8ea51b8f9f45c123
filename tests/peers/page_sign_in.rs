//! These tests prove that a person can sign in on the page, by both grants, and nobody else for him.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use packetboat::simulator::User;
use serde_json::Value;

use super::page::{DRAWN, pictures};
use super::page_actions::{form_token, post, text};
use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{self, BY_PERSON, Exchange, LOGIN, SCAN};
use support::proxy::Proxy;

const BEGIN: &str = "#sign-ins button[data-do='sign-in']";
const GO: &str = "#sign-ins a.go";
const OUTCOME: &str = "#sign-ins .outcome";
const OTHER: &str = "berta@contoso.example";

/// Opens the page where an account waits for a person.
fn open(browser: &Browser, proxy: &Proxy) {
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("sign-ins", &format!("document.querySelector(\"{BEGIN}\")?.offsetParent"));
}

/// Begins a sign-in on the page; returns the address that it leads to.
fn begin(browser: &Browser) -> String {
    browser.click(BEGIN);
    let href = browser.wait_for("address", &format!("document.querySelector('{GO}')?.href"));
    href.as_str().unwrap().to_owned()
}

fn paste(browser: &Browser, address: &str) {
    browser.type_into("#sign-ins form.paste input", &format!("{address}\u{e007}"));
}

fn outcome(browser: &Browser) -> String {
    browser.wait_for("outcome", &format!("document.querySelector('{OUTCOME}')"));
    text(browser, OUTCOME)
}

fn query<'a>(address: &'a str, name: &str) -> &'a str {
    address.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap()
}

/// Another program of this computer keeps the port of a sign-in busy: it costs packetboat few connections, and the person
/// gets through.
#[test]
fn the_port_of_a_sign_in_takes_few_connections() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_PERSON));
    let browser = Browser::start();
    open(&browser, &proxy);
    let url = begin(&browser);
    let redirect = query(&url, "redirect_uri").replace("%3A", ":").replace("%2F", "/");
    let port: u16 = redirect.rsplit(':').next().unwrap().parse().unwrap();
    let mut held: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for stream in &mut held[16..] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    for stream in &mut held[..16] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let back = exchange.visit(&url);
    let ran = Command::new("curl").args(["-s", "--noproxy", "*", &back]).output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("Signed in."), "{ran:?}");
    assert!(outcome(&browser).starts_with("signed in as "));
}

/// The address at which the browser ended is pasted. The sign-in is used at once, takes no second answer, and leaves
/// nothing secret behind.
#[test]
fn the_last_address_is_pasted() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy);
    assert_eq!(text(&browser, "#sign-ins .badge"), "Trouble");
    assert!(text(&browser, "#notices").contains("1 person should sign in"), "{}", text(&browser, "#notices"));
    let url = begin(&browser);
    let redirect = query(&url, "redirect_uri").replace("%3A", ":").replace("%2F", "/");
    assert!(redirect.starts_with("http://localhost:") && text(&browser, "form.paste label").contains(&redirect));
    let back = exchange.visit(&url);
    for (wrong, advice) in
        [("4711", "paste the whole address"), ("http://localhost:1/?code=stolen&state=another", "of another sign-in")]
    {
        paste(&browser, wrong);
        let said = format!("document.querySelector('#sign-ins .problem')?.textContent.includes('{advice}')");
        browser.wait_for(advice, &said);
    }
    assert_accessible(&browser, "a sign-in that waits for its answer");
    paste(&browser, &back);
    let said = outcome(&browser);
    assert!(said.starts_with(&format!("signed in as {SCAN}; access tokens live for 1h ")), "{said}");
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.authorizations, counts.grant("authorization_code"), counts.grant("refresh_token")), (1, 1, 1));
    browser.wait_for("state", "document.querySelector('#sign-ins .badge').innerText === 'Signed in'");
    let [file] = exchange.tokens().try_into().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // The answer counts once.
    let token = form_token(&proxy);
    let answer = format!("account=scans&address={}", back.replace(':', "%3A").replace('&', "%26").replace('=', "%3D"));
    let (code, said) = post(&proxy, "/sign-in/answer", &["Host: localhost", &token], &answer);
    assert!(code == 409 && said.contains("begin anew"), "{said}");
    assert_eq!(exchange.simulator.counts().grant("authorization_code"), 1);

    let (code, state) = (query(&back, "code"), query(&back, "state"));
    let addresses = browser.evaluate("performance.getEntries().map(one => one.name).join(' ') + location.href");
    let page = browser.evaluate("document.documentElement.outerHTML");
    let kept = [addresses.to_string(), page.to_string(), proxy.log.all(), proxy.get("/actions.json"), proxy.metrics()];
    for text in kept {
        assert!(!text.contains(code) && !text.contains(state) && !text.contains("eyJ"), "{text}");
    }
    // The refusals of wrong addresses are the only complaints.
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("sign-in/answer") && line.contains("400")), "{console:?}");
}

/// A browser on packetboat's computer brings the answer by itself.
#[test]
fn the_browser_comes_back_by_itself() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_PERSON));
    let browser = Browser::start();
    open(&browser, &proxy);
    let url = begin(&browser);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-L", "--max-time", "60", "--noproxy", "*", "--cacert"]).arg(exchange.simulator.authority());
    let page = curl.arg(&url).output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).starts_with("Signed in."), "{page:?}");
    assert!(outcome(&browser).starts_with(&format!("signed in as {SCAN}; ")));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
}

/// The page shows code and address, and waits. By keyboard, in the dark and on a phone.
#[test]
fn a_code_is_typed_elsewhere() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.device_code.interval = 1);
    let proxy = exchange.proxy(&exchange.configuration("grant = \"device-code\""));
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.evaluate(&format!("document.querySelector(\"{BEGIN}\").focus()"));
    browser.press("\u{e007}");
    let address = browser.wait_for("address", &format!("document.querySelector('{GO}')?.href"));
    assert!(address.as_str().unwrap().ends_with("/devicelogin"), "{address}");
    let code = text(&browser, "#sign-ins code.code");
    let events = exchange.simulator.events();
    assert!(events.iter().any(|event| event.ends_with(&format!("its user code is {code}"))), "{code}: {events:#?}");
    for (name, width, height, dark) in
        [("sign-in-light", 1280, 900, false), ("sign-in-dark", 1280, 900, true), ("sign-in-phone", 390, 844, false)]
    {
        browser.resize(width, height);
        browser.dark(dark);
        browser
            .wait_for("width", &format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth"));
        browser.evaluate("document.querySelector('#identities').scrollIntoView()");
        browser.evaluate(DRAWN);
        browser.screenshot(pictures().join(format!("{name}.png")));
    }
    exchange.until("poll", |counts| counts.token_refusals >= 1);
    assert_eq!(exchange.simulator.approve_device_code(), 1);
    assert!(outcome(&browser).starts_with(&format!("signed in as {SCAN}; ")));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// Another person is refused by both names, and the sign-in that is there stays.
#[test]
fn another_person_is_refused() {
    let exchange = Exchange::with(|tenant| tenant.users.push(User::new(OTHER, "another password")));
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let before = std::fs::read(&exchange.tokens()[0]).unwrap();
    let proxy = exchange.proxy(&configuration);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let kept = std::fs::read(&exchange.tokens()[0]).unwrap();
    assert_ne!(before, kept, "the proxy has renewed it");
    let browser = Browser::start();
    open(&browser, &proxy);
    assert_eq!(text(&browser, BEGIN), "Sign in again");
    let url = begin(&browser).replace("scan%40contoso.example", "berta%40contoso.example");
    paste(&browser, &exchange.visit(&url));
    let said = outcome(&browser);
    assert!(said.starts_with(&format!("{OTHER} signed in, and {SCAN} was to: nothing is kept. Sign out ")), "{said}");
    assert_eq!(std::fs::read(&exchange.tokens()[0]).unwrap(), kept);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    // The command that the message names keeps what the person has decided.
    assert!(said.ends_with("run packetboat login scans"), "{said}");
}

/// The provider's refusal is shown; a sign-in that was cancelled takes no answer any more.
#[test]
fn sign_ins_that_come_to_nothing() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_PERSON));
    let browser = Browser::start();
    open(&browser, &proxy);
    let stale = exchange.visit(&begin(&browser));
    browser.click("#sign-ins button[data-do='sign-in/cancel']");
    browser.wait_for("end", &format!("!document.querySelector('{GO}') && document.querySelector(\"{BEGIN}\")"));
    exchange.quirk(|quirks| quirks.endpoint.authorize_error = Some("access_denied".to_owned()));
    let back = exchange.visit(&begin(&browser));
    paste(&browser, &stale);
    let advice = "document.querySelector('#sign-ins .problem')?.textContent.includes('of another sign-in')";
    browser.wait_for("advice", advice);
    paste(&browser, &back);
    let said = outcome(&browser);
    assert!(said.starts_with("the sign-in was refused: access_denied, AADSTS65004"), "{said}");
    assert_eq!((exchange.tokens().len(), exchange.requests()), (0, 0));
}

/// No other site begins, answers or ends a sign-in.
#[test]
fn no_other_site_signs_anybody_in() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_PERSON));
    let host = format!("Host: {}", proxy.admin());
    let own = format!("Origin: http://{}", proxy.admin());
    let token = form_token(&proxy);
    for path in ["/sign-in", "/sign-in/answer", "/sign-in/cancel"] {
        for headers in [
            [host.as_str(), &own, "X-Form-Token: wrong"],
            [&host, "Origin: http://evil.example", &token],
            [&host, "Sec-Fetch-Site: cross-site", &token],
            ["Host: evil.example", "Origin: http://evil.example", &token],
        ] {
            let (code, answer) = post(&proxy, path, &headers, "account=scans");
            assert_eq!(code, 403, "{path} {headers:?}: {answer}");
        }
    }
    let (code, _) = post(&proxy, "/sign-in", &[&host, &own, &token], "account=nobody");
    assert_eq!(code, 404);
    let sign_ins: Value = serde_json::from_str(&proxy.get("/actions.json")).unwrap();
    assert_eq!(sign_ins["sign_ins"], serde_json::json!({}));
}

/// Thirty days before its end a sign-in asks for a person; the page draws that from what packetboat says.
#[test]
fn a_sign_in_asks_thirty_days_before_its_end() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.wait_for("state", "document.querySelector('#sign-ins .badge').innerText === 'Signed in'");
    assert_eq!(browser.evaluate(&format!("document.querySelector(\"{BEGIN}\").matches('.due')")), false);
    assert_eq!(browser.evaluate("document.querySelector('#notices').textContent.includes('should sign in')"), false);
    let sign_in = proxy.status()["sign_ins"][0].clone();
    let (now, until) = (proxy.status()["now"].as_u64().unwrap(), sign_in["until"].as_u64().unwrap());
    assert!((now + 89 * 86400..=now + 90 * 86400).contains(&until), "{sign_in}");
    for (days, is_due) in [(31, false), (29, true), (1, true)] {
        let mut one = sign_in.clone();
        one["until"] = (now + days * 86400).into();
        let draw = format!(
            "import('/sign_in.js').then(({{ showSignIns, isDue }}) => {{ \
             const one = {one}; showSignIns({{ sign_ins: [one], now: {now} }}); \
             return [isDue(one, {now}), document.querySelector(\"{BEGIN}\").matches('.due'), \
             document.querySelector('#sign-ins .badge').innerText]; }})"
        );
        let words = if is_due {
            format!("Signed in, ends in {} day{}", days, if days == 1 { "" } else { "s" })
        } else {
            "Signed in".to_owned()
        };
        let words = words.replace("in 1 day", "in 24 h");
        assert_eq!(browser.evaluate(&draw), serde_json::json!([is_due, is_due, words]), "{days} days");
    }
}
