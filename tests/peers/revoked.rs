//! These tests prove that a reload withdraws permissions at once from devices without a login, and from sessions after
//! their present response.
//!
//! All other sessions go on untouched.

use std::fs;
use std::io::{Read, Write};
use std::time::Instant;

use openssl::ssl::Ssl;
use packetboat::simulator::User;

use support::device::Device;
use support::dovecot::{self, Dovecot};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account};
use support::imap::{Imap, status};
use support::pop3::Pop3;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, translating_listener, upstreams};
use support::stacks;
use support::{free_ports, message};

const FAX: &str = "fax@contoso.example";
const BYE: &str = "* BYE permission withdrawn by a reload";

fn exchange() -> Exchange {
    Exchange::with(|tenant| {
        tenant.users.push(User::new(FAX, "another"));
        tenant.app_mailboxes.push(FAX.to_owned());
    })
}

/// The configuration of two devices, each with a mailbox, and of a listener in clear beside the usual two.
fn configuration(exchange: &Exchange) -> String {
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\ndetect_delay = \"50ms\"";
    let accounts = account("scans", SCAN, "") + &account("fax", FAX, "");
    fixed(exchange.configured(BY_SECRET, &accounts) + &translating_listener("clear", "imap", "auto", clear))
}

/// The configuration with fixed ports, which outlive a listener's removal and return.
fn fixed(mut text: String) -> String {
    for port in free_ports::<4>() {
        text = text.replacen("\"127.0.0.1:0\"", &format!("\"127.0.0.1:{port}\""), 1);
    }
    text
}

/// The sessions of the two devices: by IMAP, by IMAP in clear, and by POP3.
struct Sessions {
    imap: Imap,
    clear: Imap,
    pop3: Pop3,
}

impl Sessions {
    fn of(proxy: &Proxy) -> Self {
        let mut sessions = Self {
            imap: exchange::imap(proxy),
            clear: Imap::greeted(Device::plain(proxy.address("clear"))),
            pop3: exchange::pop3(proxy),
        };
        sessions.imap.login(LOGIN, PASSWORD);
        sessions.clear.login("fax", PASSWORD);
        sessions.pop3.login("fax", PASSWORD);
        sessions
    }

    /// Checks that each session goes on, or has ended in its protocol's way.
    fn look(mut self, [imap, clear, pop3]: [Fate; 3], what: &str) {
        for (session, fate) in [(&mut self.imap, imap), (&mut self.clear, clear)] {
            match fate {
                On => drop(session.ok("NOOP")),
                End => assert_eq!((session.device.line(), session.device.has_ended()), (BYE.into(), true), "{what}"),
            }
        }
        match pop3 {
            On => drop(self.pop3.ok("STAT")),
            End => assert!(self.pop3.device.has_ended(), "{what}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    On,
    End,
}
use Fate::{End, On};

/// A change, the message of `packetboat reload`, and the fate of the three sessions: IMAP, IMAP in clear, POP3.
type Case = (&'static str, Change, [Fate; 3]);
type Change = fn(&str) -> String;

const IMAP: [Fate; 3] = [End, On, On];
const CLEAR: [Fate; 3] = [On, End, On];
const POP3: [Fate; 3] = [On, On, End];
const DEVICE_FAX: [Fate; 3] = [On, End, End];
const ALL: [Fate; 3] = [End; 3];
const NONE: [Fate; 3] = [On; 3];

/// Changes the text of one section; sections are told apart by their first line.
fn within(text: &str, section: &str, change: impl Fn(&str) -> String) -> String {
    let start = text.find(section).unwrap_or_else(|| panic!("no {section} in {text}"));
    let end = text[start + 1..].find("\n[").map_or(text.len(), |end| start + 1 + end);
    format!("{}{}{}", &text[..start], change(&text[start..end]), &text[end..])
}

fn without(text: &str, section: &str) -> String {
    within(text, section, |_| String::new())
}

fn and(text: &str, section: &str, line: &str) -> String {
    within(text, section, |section| format!("{}\n{line}", section.trim_end()))
}

const FAXES: &str = "[[device]]\nlogin = \"fax\"";
const SCANS: &str = "[[device]]\nlogin = \"scanner3\"";
const OFFICE: &str = "[identity.office]";
const UPSTREAM: &str = "[upstream.exchange]";
const ON_IMAP: &str = "[[listener]]\nname = \"imap\"";
const ON_CLEAR: &str = "[[listener]]\nname = \"clear\"";
const ON_POP3: &str = "[[listener]]\nname = \"pop3\"";

const UNAFFECTED: &str = "configuration reloaded; open sessions are unaffected\n";

const CASES: &[Case] = &[
    ("login removed: 1", |text| without(text, SCANS), IMAP),
    ("login removed: 2", |text| text.replace("login = \"fax\"", "login = \"fax2\""), DEVICE_FAX),
    ("password removed: 1", |text| within(text, SCANS, other_password), IMAP),
    (
        "source no longer in the device's networks: 2",
        |text| and(text, FAXES, "networks = [\"192.0.2.0/24\"]"),
        DEVICE_FAX,
    ),
    ("delete = false set: 1", |text| and(text, SCANS, "delete = false"), IMAP),
    (
        "mailbox removed or changed: 1",
        |text| text.replace(&format!("mailbox = \"{SCAN}\""), &format!("mailbox = \"{FAX}\"")),
        IMAP,
    ),
    (
        "mailbox removed or changed: 1",
        |text| within(text, SCANS, |device| device.replace("account = \"scans\"", "account = \"fax\"")),
        IMAP,
    ),
    ("identity or user changed: 3", |text| text.replace("client_id = \"1111", "client_id = \"2222"), ALL),
    ("identity or user changed: 3", |text| text.replace("tenant = \"contoso", "tenant = \"fabrikam"), ALL),
    (
        "mail server or its certificates changed: 1",
        |text| within(text, UPSTREAM, |upstream| upstream.replace("pop3_port = ", "pop3_port = 1 # ")),
        POP3,
    ),
    ("mail server or its certificates changed: 3", |text| and(text, UPSTREAM, "server_name = \"localhost\""), ALL),
    (
        "source no longer in allowed_networks: 1",
        |text| and(text, ON_IMAP, "allowed_networks = [\"192.0.2.0/24\"]"),
        IMAP,
    ),
    ("listener removed or moved: 1", |text| without(text, ON_IMAP), IMAP),
    ("listener removed or moved: 1", |text| within(text, ON_IMAP, |one| one.replace("127.0.0.1:", "127.0.0.2:")), IMAP),
    (
        "listener's protocol changed: 1",
        |text| within(text, ON_POP3, |one| one.replace("protocol = \"pop3\"", "protocol = \"imap\"")),
        POP3,
    ),
    ("listener's logins changed: 1", |text| and(text, ON_POP3, "observe = true"), POP3),
    ("listener's logins changed: 1", |text| and(text, ON_IMAP, "logins = \"pass-through\""), IMAP),
    ("TLS version or cipher suite no longer taken: 1", |text| and(text, ON_IMAP, "profile = \"modern\""), IMAP),
    ("TLS version or cipher suite no longer taken: 1", |text| and(text, ON_IMAP, "ciphers = [\"AES256-SHA\"]"), IMAP),
    ("no TLS, which the listener now asks for: 1", |text| text.replace("allow_plaintext = true", ""), CLEAR),
    // The following changes withdraw nothing.
    (UNAFFECTED, |text| within(text, OFFICE, |identity| identity.replace("/SECRET\"", "/NEXT\"")), NONE),
    (UNAFFECTED, |text| and(text, UPSTREAM, "warm_connections = 1"), NONE),
    (UNAFFECTED, |text| and(text, SCANS, "aliases = [\"another\"]\ndescription = \"Third floor\""), NONE),
    (
        UNAFFECTED,
        |text| within(text, SCANS, |device| device.replace("passwords = [", &format!("passwords = [{OTHER:?}, "))),
        NONE,
    ),
    (
        UNAFFECTED,
        |text| {
            and(text, ON_IMAP, "allowed_networks = [\"127.0.0.0/8\"]\ncertificate = \"new\"") + "[certificate.new]\n"
        },
        NONE,
    ),
    (UNAFFECTED, |text| and(text, ON_IMAP, "entry = \"starttls\"").replacen("entry = \"implicit\"\n", "", 1), NONE),
    (UNAFFECTED, |text| text.to_owned() + "[limits]\nlogin_timeout = \"1m\"\nsessions_per_mailbox = 1\n", NONE),
    (
        UNAFFECTED,
        |text| text.replace("account = \"fax\"", "account = \"faxes\"").replace("[account.fax]", "[account.faxes]"),
        NONE,
    ),
];

/// The hash of an unknown password.
const OTHER: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU";

fn other_password(device: &str) -> String {
    let lines = device
        .lines()
        .map(|line| if line.starts_with("passwords") { format!("passwords = [{OTHER:?}]") } else { line.into() });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn withdrawn_permissions_end_their_sessions() {
    let exchange = exchange();
    exchange.file("NEXT", exchange::SECRET);
    let before = configuration(&exchange);
    let proxy = exchange.proxy(&before);
    for (words, change, fates) in CASES {
        proxy.configure(&before);
        assert_eq!(proxy.reload().0, 0, "{words}");
        let sessions = Sessions::of(&proxy);
        proxy.configure(&change(&before));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains(words), "{words}: {said}");
        sessions.look(*fates, words);
    }
    let first = "configuration reloaded; 1 session ended (login removed: 1); all other sessions stay open";
    proxy.logs(1, first);
    proxy.log.wait_for("reason", |line| {
        line.contains("session ended: permission withdrawn by a reload: login removed") && line.contains("\"revoked\"")
    });
}

/// The same changes run with `revoked_sessions = "keep"`; a later reload ends the kept sessions.
#[test]
fn revoked_sessions_are_kept_on_request() {
    const KEEP: &str = "[limits]\nrevoked_sessions = \"keep\"\n";
    let exchange = exchange();
    let before = configuration(&exchange);
    let proxy = exchange.proxy(&before);
    let sessions = Sessions::of(&proxy);
    let mut waiting = exchange::imap(&proxy);
    proxy.configure(&(without(&before, SCANS) + KEEP));
    let (_, said) = proxy.reload();
    assert!(said.contains("1 session kept by limits.revoked_sessions (login removed: 1)"), "{said}");
    assert!(status(&waiting.command(&format!("LOGIN {LOGIN} {PASSWORD}"))).starts_with("NO [AUTHENTICATIONFAILED]"));
    // A connection without a login does not stay.
    proxy.configure(&(without(&before, ON_IMAP) + KEEP));
    let (_, said) = proxy.reload();
    assert!(
        said.contains("1 connection without a login ended, 1 session kept") && said.contains("removed or moved: 1"),
        "{said}"
    );
    assert_eq!(waiting.device.line(), BYE);
    proxy.configure(&without(&before, ON_IMAP));
    assert!(proxy.reload().1.contains("1 session ended"), "{}", proxy.log.all());
    sessions.look(IMAP, "kept until now");
}

/// A reload withdraws a CA that has left the file of roots; an additional CA withdraws nothing.
#[test]
fn roots_whose_file_changes() {
    let exchange = exchange();
    let authority = fs::read(exchange.simulator.authority()).unwrap();
    let other = support::certificates::Certificates::for_name("localhost", 30).authority.to_pem().unwrap();
    let roots = exchange.file("roots.pem", &authority);
    let text = configuration(&exchange);
    let text = within(&text, UPSTREAM, |upstream| {
        upstream.replace(&format!("{:?}", exchange.simulator.authority()), &format!("{roots:?}"))
    });
    let proxy = exchange.proxy(&text);
    for (content, words, fates) in [
        ([authority.clone(), other.clone()].concat(), UNAFFECTED, NONE),
        (other, "mail server or its certificates changed: 3", ALL),
    ] {
        let sessions = Sessions::of(&proxy);
        fs::write(&roots, content).unwrap();
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains(words), "{said}");
        sessions.look(fates, words);
    }
}

/// The listener moves and the password changes, so an earlier connection ends. On a listener that stays, the new file
/// decides, and the server gets no login.
#[test]
fn a_connection_from_before_a_move_does_not_log_in() {
    let exchange = exchange();
    let before = fixed(configuration(&exchange) + &translating_listener("stays", "imap", "implicit", ""));
    for after in [within(&before, SCANS, other_password), before.replace("login = \"scanner3\"", "login = \"renamed\"")]
    {
        let proxy = exchange.proxy(&before);
        let (mut moved, mut stays) = (exchange::imap(&proxy), proxy.imap("stays"));
        for device in [&mut moved, &mut stays] {
            assert!(status(&device.command(&format!("LOGIN {LOGIN} wrong"))).starts_with("NO "));
        }
        proxy.configure(&within(&after, ON_IMAP, |one| one.replace("127.0.0.1:", "127.0.0.2:")));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains("1 connection without a login ended"), "{said}");
        assert_eq!((moved.device.line(), moved.device.has_ended()), (BYE.into(), true));
        assert!(status(&stays.command(&format!("LOGIN {LOGIN} {PASSWORD}"))).starts_with("NO [AUTHENTICATIONFAILED]"));
    }
    assert_eq!(exchange.simulator.counts().imap().accepted, 0);
}

/// Each connection has its greeting, and loses its network, its TLS version, its protocol or its listener.
#[test]
fn a_connection_without_a_login_ends_with_its_settings() {
    let exchange = exchange();
    let before = configuration(&exchange);
    let proxy = exchange.proxy(&before);
    let cases: [(Change, &str); 6] = [
        (|text| and(text, ON_IMAP, "allowed_networks = [\"192.0.2.0/24\"]"), "imap"),
        (|text| and(text, ON_IMAP, "profile = \"modern\""), "imap"),
        (|text| within(text, ON_IMAP, |one| one.replace("\"imap\"\nlisten", "\"pop3\"\nlisten")), "imap"),
        (|text| text.replace("allow_plaintext = true", ""), "clear"),
        (|text| within(text, ON_CLEAR, |one| one.replace("127.0.0.0/8", "192.0.2.0/24")), "clear"),
        (|text| without(text, ON_CLEAR), "clear"),
    ];
    for (number, (change, listener)) in cases.into_iter().enumerate() {
        proxy.configure(&before);
        assert_eq!(proxy.reload().0, 0);
        let (mut imap, mut clear) = (exchange::imap(&proxy), Imap::greeted(Device::plain(proxy.address("clear"))));
        proxy.configure(&change(&before));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains("1 connection without a login ended"), "{number}: {said}");
        let (gone, other) = if listener == "imap" { (&mut imap, &mut clear) } else { (&mut clear, &mut imap) };
        assert_eq!((gone.device.line(), gone.device.has_ended()), (BYE.into(), true), "{number}");
        other.login("fax", PASSWORD);
        other.ok("LOGOUT");
    }
}

/// The reload comes while the login waits, behind a wrong password or for the mail server.
#[test]
fn a_login_under_way_is_judged_by_the_present_file() {
    let exchange = exchange();
    let before = configuration(&exchange) + "[limits]\nfailure_delay = \"3s\"\n";
    let proxy = exchange.proxy(&before);
    let mut device = exchange::imap(&proxy);
    assert!(status(&device.command(&format!("LOGIN {LOGIN} wrong"))).starts_with("NO "));
    device.say(&format!("LOGIN {LOGIN} {PASSWORD}"));
    proxy.configure(&within(&before, SCANS, other_password));
    assert_eq!(proxy.reload().0, 0);
    assert!(device.device.line().starts_with("s NO [UNAVAILABLE] "));
    assert_eq!(device.device.line(), BYE);
    assert_eq!(exchange.simulator.counts().imap().accepted, 0);
    drop(proxy);
    // The mail server takes its time, and then accepts.
    let proxy = exchange.proxy(&configuration(&exchange));
    exchange.quirk(|quirks| quirks.mail.login_delay = std::time::Duration::from_secs(5));
    let mut device = exchange::imap(&proxy);
    device.say(&format!("LOGIN {LOGIN} {PASSWORD}"));
    exchange.until_connected_to(exchange.simulator.imap().port());
    proxy.configure(&without(&configuration(&exchange), SCANS));
    let (_, said) = proxy.reload();
    assert!(said.contains("1 connection without a login ended"), "{said}");
    let first = device.device.line();
    assert!(first == BYE || first.starts_with("s NO "), "{first}");
}

/// A message on its way reaches its end. If the device does not read it, the session ends within `close_timeout`.
#[test]
fn no_session_ends_in_the_middle_of_a_message() {
    let exchange = exchange();
    let mail = message(8_000_000);
    assert!(exchange.simulator.deliver(SCAN, mail.clone()) && exchange.simulator.deliver(FAX, mail.clone()));
    let before = configuration(&exchange) + "[limits]\nclose_timeout = \"20s\"\n";
    let proxy = exchange.proxy(&before);
    let Sessions { mut imap, mut clear, mut pop3 } = Sessions::of(&proxy);
    imap.ok("SELECT INBOX");
    clear.ok("SELECT INBOX");
    imap.device.send("a FETCH 1 BODY.PEEK[]\r\n");
    clear.device.send("a FETCH 1 BODY.PEEK[]\r\n");
    pop3.ok("DELE 1");
    pop3.device.send("RSET\r\nRETR 1\r\n");
    // All three sessions are in the middle of it.
    assert!(imap.device.line().starts_with("* 1 FETCH") && clear.device.line().starts_with("* 1 FETCH"));
    assert!(pop3.device.line().starts_with("+OK") && pop3.device.line().starts_with("+OK"));
    proxy.configure(&(without(&without(&before, SCANS), FAXES) + &account("new", SCAN, "")));
    let begun = Instant::now();
    let (_, said) = proxy.reload();
    assert!(said.contains("3 sessions ended (login removed: 3)"), "{said}");
    assert!(imap.device.octets(mail.len()) == mail && pop3.lines() == mail);
    let mut lines = Vec::new();
    while let Some(line) = imap.device.try_line() {
        lines.push(String::from_utf8(line).unwrap());
    }
    assert!(lines.first().is_some_and(|line| line == ")") && lines.last().is_some_and(|line| line == BYE), "{lines:?}");
    assert!(pop3.device.has_ended());
    // The third session reads nothing.
    while !proxy.get("/metrics").contains("packetboat_connections_open{listener=\"clear\"} 0\n") {
        assert!(begun.elapsed() < PATIENCE, "a session that nobody reads goes on");
    }
    assert!(begun.elapsed().as_secs() >= 19, "{:?}", begun.elapsed());
    drop(clear);
    assert_eq!((exchange.simulator.messages(FAX), exchange.simulator.messages(SCAN)), (1, 1));
}

/// The device is in IDLE, in the middle of its own message, or of a line; one device may delete and one may not.
#[test]
fn a_session_that_waits_for_the_device_ends_at_once() {
    let exchange = exchange();
    let before = configuration(&exchange);
    let proxy = exchange.proxy(&before);
    for (ways, change) in [
        (["x IDLE\r\n", "+ "], "" as &str),
        (["x APPEND INBOX {100}\r\n", "+ "], "half of it"),
        (["x NOOP\r\n", "x OK"], "x FETCH 1 (FLA"),
        (["x IDLE\r\n", "+ "], "DO"),
    ] {
        for guarded in ["", "delete = false\n"] {
            let text = before.clone().replace("login = \"fax\"", &format!("login = \"fax\"\n{guarded}"));
            proxy.configure(&text);
            assert_eq!(proxy.reload().0, 0);
            let Sessions { mut clear, pop3: _pop3, .. } = Sessions::of(&proxy);
            clear.ok("SELECT INBOX");
            clear.device.send(ways[0]);
            assert!(clear.device.line().starts_with(ways[1]));
            clear.device.send(change);
            proxy.configure(&without(&text, FAXES));
            let (code, said) = proxy.reload();
            assert!(code == 0 && said.contains("2 sessions ended (login removed: 2)"), "{said}");
            let begun = Instant::now();
            assert_eq!((clear.device.line(), clear.device.has_ended()), (BYE.into(), true), "{ways:?}");
            // The session ends without the time that a response would have.
            assert!(begun.elapsed().as_secs() < 8, "{ways:?}: {:?}", begun.elapsed());
        }
    }
}

/// TLS begins after the reload, on an earlier connection, with a version that is no longer allowed.
#[test]
fn starttls_on_a_connection_from_before() {
    let exchange = exchange();
    let before = configuration(&exchange).replace("allow_plaintext = true", "");
    let proxy = exchange.proxy(&before);
    let mut stream = support::device::tcp(proxy.address("clear"));
    let mut greeting = [0; 512];
    let length = stream.read(&mut greeting).unwrap();
    assert!(greeting[..length].starts_with(b"* OK "));
    proxy.configure(&and(&before, ON_CLEAR, "profile = \"modern\""));
    let (code, said) = proxy.reload();
    assert!(code == 0 && said == UNAFFECTED, "{said}");
    stream.write_all(b"a STARTTLS\r\n").unwrap();
    let length = stream.read(&mut greeting).unwrap();
    assert!(greeting[..length].starts_with(b"a OK "));
    let context = stacks::context(|context| stacks::old(context, stacks::Version::Tls1_0, "AES128-SHA"));
    let mut device = Imap::over(Device::over(Ssl::new(&context).unwrap().connect(stream).unwrap()));
    device.device.send(format!("a LOGIN fax {PASSWORD}\r\n"));
    assert_eq!(device.device.line(), BYE);
    assert_eq!(exchange.simulator.counts().imap().accepted, 0);
}

/// Pass-through sessions depend only on their listener, its networks and its mail server.
#[test]
fn a_session_that_is_passed_through() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let before = fixed(upstreams(&dovecot) + &listener("imap", "imap", "auto", "upstream = \"implicit\""));
    let proxy = Proxy::start(&before);
    for (from, to, words) in [
        ("listen = [\"127.0.0.1:", "listen = [\"127.0.0.2:", "listener removed or moved: 1"),
        ("upstream = \"implicit\"", "upstream = \"starttls\"", "mail server or its certificates changed: 1"),
        ("entry = \"auto\"", "entry = \"auto\"\nallowed_networks = [\"192.0.2.0/24\"]", "allowed_networks: 1"),
        ("[[listener]]", "[certificate.new]\n[[listener]]\ncertificate = \"new\"", UNAFFECTED),
    ] {
        proxy.configure(&before);
        assert_eq!(proxy.reload().0, 0);
        let mut session = proxy.imap("imap");
        session.login(&user, dovecot::PASSWORD);
        proxy.configure(&before.replace(from, to));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains(words), "{words}: {said}");
        match said.starts_with("configuration reloaded; open sessions are unaffected") {
            true => drop(session.ok("NOOP")),
            false => assert_eq!(session.device.line(), BYE),
        }
    }
}
