//! These tests prove the admin interface: metrics for Prometheus, health, the inventory, and access to all of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use support::dovecot::{Dovecot, PASSWORD};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::imap::status;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, upstreams};
use support::stacks::{Stack, Start, Version, old, openssl};

/// Sends a request with these headers; returns the status and the whole answer.
fn ask(proxy: &Proxy, path: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Waits until a metric has a value; `line` is the metric's name and labels, a space, and the value.
fn until(proxy: &Proxy, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = proxy.get("/metrics");
        if metrics.lines().any(|one| one == line) {
            return;
        }
        assert!(Instant::now() < deadline, "{line}\n{metrics}");
    }
}

fn device_at(status: &Value, verdict: &str) -> Value {
    let devices = status["devices"].as_array().unwrap();
    let found = devices.iter().find(|one| one["verdict"]["text"].as_str().unwrap().contains(verdict));
    found.unwrap_or_else(|| panic!("{verdict}: {devices:#?}")).clone()
}

/// The test plays a typical day: metrics count every event, promtool accepts them, and the inventory names each device.
#[test]
fn events_reach_metrics_and_inventory() {
    let exchange = Exchange::new();
    let accounts =
        exchange::account("scans", SCAN, "").replace("[[device]]", "[[device]]\ndescription = \"Third floor\"");
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &accounts));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    // A wrong password, a device that can use newer TLS, and one whose suite is refused.
    assert!(status(&exchange::imap(&proxy).command("LOGIN nobody guess")).starts_with("NO [AUTHENTICATIONFAILED]"));
    let better = openssl(proxy.address("imap"), Start::Implicit, |_| {}).unwrap();
    drop(better);
    openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Tls1_0, "RC4-SHA")).unwrap_err();
    for line in [
        "packetboat_handshakes_total{listener=\"imap\",version=\"tls1.0\"} 2",
        "packetboat_handshakes_total{listener=\"imap\",version=\"tls1.3\"} 1",
        "packetboat_handshake_failures_total{listener=\"pop3\",reason=\"handshake\"} 1",
        "packetboat_logins_total{listener=\"imap\"} 1",
        "packetboat_logins_total{listener=\"pop3\"} 1",
        "packetboat_login_failures_total{listener=\"imap\",reason=\"wrong_password\"} 1",
        "packetboat_sessions_total{listener=\"imap\",reason=\"logged_out\"} 1",
        "packetboat_connections_accepted_total{listener=\"imap\"} 3",
        "packetboat_connections_open{listener=\"imap\"} 0",
        "packetboat_access_token_trouble{account=\"scans\",reason=\"token_refused\"} 0",
        "packetboat_devices{verdict=\"refused\"} 1",
        "packetboat_config_reload_success 1",
        "packetboat_spool_messages 0",
        "packetboat_spool_kept_total 0",
        "packetboat_spool_not_kept_total 0",
    ] {
        until(&proxy, line);
    }
    let metrics = proxy.get("/metrics");
    for line in [
        "packetboat_transferred_bytes_total{direction=\"download\",listener=\"imap\"} ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let expiry = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}\n{metrics}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expiry("packetboat_access_token_expiry_timestamp_seconds{account=\"scans\"}") > now);
    let years =
        (expiry("packetboat_certificate_expiry_timestamp_seconds{certificate=\"default\"}") - now) / 31_557_600.0;
    assert!((10.0..11.2).contains(&years), "{years}");
    let mut promtool = Command::new("promtool");
    let mut promtool = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));

    let seen = proxy.status();
    let old = device_at(&seen, "needs packetboat: TLS 1.0 only");
    assert_eq!(old["tls"], "TLS 1.0");
    assert!(old["fingerprint"].as_str().unwrap().starts_with("t10i"), "{old}");
    assert_eq!((&old["source"], &old["entry"]), (&"127.0.0.1".into(), &"implicit".into()));
    let refused = device_at(&seen, "refused: offers RC4 only");
    assert!(refused["failure"].as_str().unwrap().contains("set profile = \"ancient\" on this listener"), "{refused}");
    assert_eq!(refused["attention"], true);
    device_at(&seen, "could talk to Exchange Online directly: offers TLS 1.3 with ECDHE");
    let printer = seen["devices"].as_array().unwrap().iter().find(|one| one["logins"][0] == LOGIN).unwrap();
    assert_eq!((&printer["name"], &printer["mailbox"]), (&"Third floor".into(), &SCAN.into()));
    assert_eq!(seen["devices"][0]["attention"], true, "what needs attention comes first");
    let account = &seen["accounts"][0];
    assert_eq!(
        (&account["name"], &account["state"], &account["grant"]),
        (&"scans".into(), &"ok".into(), &"client-credentials".into())
    );
    assert_eq!(seen["ready"], true);
    assert_eq!(seen["listeners"].as_array().unwrap().len(), 2);
    assert!(seen["history"]["sessions"].as_array().unwrap().iter().map(|one| one.as_u64().unwrap()).sum::<u64>() >= 4);
    let csv = proxy.get("/inventory.csv");
    assert!(
        csv.starts_with("source,name,") && csv.lines().count() == seen["devices"].as_array().unwrap().len() + 1,
        "{csv}"
    );

    // The command prints the same on a terminal, and from the kept file once the proxy has ended.
    let list = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.arg("devices").arg("--config").arg(proxy.configuration()).args(arguments);
        command.env("PACKETBOAT_ADMIN_LISTEN", proxy.admin().to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (table, complaint) = list(&[]);
    assert!(
        table.contains("VERDICT") && table.contains("needs packetboat: TLS 1.0 only") && complaint.is_empty(),
        "{table}{complaint}"
    );
    assert_eq!(list(&["--csv"]).0.lines().count(), csv.lines().count());
    proxy.process.signal("TERM");
    proxy.log.wait_for("end", |line| line.contains("\"stopped\""));
    let (kept, complaint) = list(&[]);
    assert!(
        kept.contains("needs packetboat: TLS 1.0 only") && complaint.contains("showing the last saved inventory"),
        "{kept}{complaint}"
    );
    let again = exchange.proxy(&exchange.configured(BY_SECRET, &accounts));
    let devices = again.status()["devices"].as_array().unwrap().len();
    assert_eq!(devices, seen["devices"].as_array().unwrap().len(), "the inventory survives a restart");
}

/// Without a token the page answers only this computer. It refuses a foreign site whose name was pointed at this
/// address (DNS rebinding).
#[test]
fn access_to_the_page() {
    let observe = "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";
    let proxy = Proxy::start(observe);
    let port = proxy.admin().port();
    assert_eq!(ask(&proxy, "/status.json", &[&format!("Host: localhost:{port}")]).0, 200);
    assert_eq!(ask(&proxy, "/status.json", &[&format!("Host: rebound.example:{port}")]).0, 403);
    assert_eq!(ask(&proxy, "/metrics", &[]).0, 403);
    let (code, page) = ask(&proxy, "/", &["Host: localhost"]);
    let page = page.to_lowercase();
    assert_eq!(code, 200);
    for words in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(page.contains(words), "{page}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
    assert_eq!(ask(&proxy, "/nothing", &["Host: localhost"]).0, 404);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-of-enough-length\n").unwrap();
    exchange::mode(&file, 0o600);
    let proxy = Proxy::start(&format!("[admin]\nlisten = [\"0.0.0.0:0\"]\ntoken_file = {file:?}\n{observe}"));
    for (headers, code) in [
        (&["Host: localhost"][..], 401),
        (&["Host: localhost", "Authorization: Bearer a-token-of-enough-lengtH"], 401),
        (&["Host: localhost", "Authorization: Basic a-token-of-enough-length"], 401),
        (&["Host: printer.example", "Authorization: Bearer a-token-of-enough-length"], 200),
    ] {
        assert_eq!(ask(&proxy, "/metrics", headers).0, code, "{headers:?}");
    }
    for open in ["/live", "/ready", "/"] {
        assert_eq!(ask(&proxy, open, &["Host: x"]).0, 200, "{open}");
    }
    // A reload takes a new token, like any other change.
    std::fs::write(&file, "\u{feff}another-token-of-some-length\r\n").unwrap();
    assert_eq!(proxy.reload().0, 0);
    assert_eq!(ask(&proxy, "/metrics", &["Host: x", "Authorization: Bearer a-token-of-enough-length"]).0, 401);
    assert_eq!(ask(&proxy, "/metrics", &["Host: x", "Authorization: Bearer another-token-of-some-length"]).0, 200);
    assert!(!proxy.log.all().contains("token-of"));
}

/// `/live` and `/ready` differ: without a token and a server, the proxy lives but cannot serve anybody.
#[test]
fn health() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start(&(upstreams(&dovecot) + &listener("imap", "imap", "implicit", "upstream = \"implicit\"")));
    let health = |proxy: &Proxy, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(["health", "--config"]).arg(proxy.configuration()).args(arguments);
        let output = command.env("PACKETBOAT_ADMIN_LISTEN", proxy.admin().to_string()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    assert_eq!(health(&proxy, &[]), (0, "alive\n".to_owned()));
    assert_eq!(health(&proxy, &["--ready"]), (0, "ready\n".to_owned()));
    proxy.process.signal("STOP");
    assert_eq!(health(&proxy, &[]).0, 69);
    proxy.process.signal("CONT");
    assert_eq!(health(&proxy, &[]).0, 0);
    let nowhere = "[upstream.x]\nhost = \"127.0.0.1\"\nimap_port = 1\npop3_port = 1\n";
    let proxy = Proxy::start(&(nowhere.to_owned() + &listener("imap", "imap", "implicit", "")));
    assert_eq!(health(&proxy, &[]).0, 0);
    let (code, said) = health(&proxy, &["--ready"]);
    assert!(code == 69 && said.contains("no mail server can be reached"), "{said}");
}

/// An observing listener lets no device in, records each one, and refuses logins as a temporary failure.
#[test]
fn a_listener_that_observes() {
    let proxy = Proxy::start(
        "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\nprofile = \"ancient\"\n\
         [[listener]]\nname = \"pop3\"\nprotocol = \"pop3\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\nprofile = \"ancient\"\n",
    );
    let mut device = proxy.imap("imap");
    assert!(
        status(&device.command("LOGIN scanner3 secret-of-the-device")).starts_with("NO [UNAVAILABLE] only inventory")
    );
    device.ok("LOGOUT");
    let mut device = support::pop3::Pop3::over(
        Stack::Openssl { version: Version::Ssl3, ciphers: "DES-CBC3-SHA" }
            .connect(proxy.address("pop3"), Start::StartTls("pop3")),
    );
    device.ok("USER fax");
    assert!(device.command(&format!("PASS {PASSWORD}")).starts_with("-ERR [SYS/TEMP]"));
    device.ok("QUIT");
    // A device that keeps trying is disconnected, and does not fill the log.
    let mut insistent = proxy.imap("imap");
    insistent.device.send("a LOGIN scanner3 x\r\n".repeat(1000));
    while insistent.device.try_line().is_some() {}
    proxy.log.wait_for("end", |line| line.contains("the device goes on trying to log in"));
    assert!(proxy.log.all().matches("login seen").count() < 10);
    let seen = proxy.status();
    let old = device_at(&seen, "needs packetboat: TLS 1.0 only");
    assert_eq!((&old["logins"][0], &old["failures"]), (&"scanner3".into(), &0.into()));
    let ancient = device_at(&seen, "needs packetboat: SSLv3 only");
    assert_eq!((&ancient["entry"], &ancient["cipher"]), (&"starttls".into(), &"DES-CBC3-SHA".into()));
    assert_eq!(seen["listeners"][0]["mode"], "observe");
    let log = proxy.log.all();
    assert!(
        log.contains("login seen: not let in: listener imap only observes; remove observe = true from it"),
        "{log}"
    );
    assert!(!log.contains("secret-of-the-device") && !log.contains(PASSWORD), "{log}");
}

/// Sources, logins and mailboxes appear under stable pseudonyms, and nowhere by name.
#[test]
fn pseudonyms() {
    let exchange = Exchange::new();
    let file = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&file);
    drop(proxy);
    let text = format!("{file}\n")
        .replace("[upstream.exchange]", "pseudonyms = true\n[admin]\nlisten = [\"127.0.0.1:0\"]\n[upstream.exchange]");
    let proxy = exchange.proxy(&text);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    exchange::imap(&proxy).command("LOGIN intruder guess");
    exchange::imap(&proxy).command(&format!("LOGIN {LOGIN} guess"));
    proxy.log.wait_for("wrong password", |line| line.contains("the password is not one of device"));
    let line: Value = proxy.session_line("pop3");
    let name = line["login"].as_str().unwrap().to_owned();
    assert!(name.starts_with("p-") && line["source"].as_str().unwrap().starts_with("p-"), "{line}");
    let log = proxy.log.wait_for("failure", |line| line.contains("login failed"));
    assert!(log.contains("\"login\":\"p-"), "{log}");
    let all = proxy.log.all();
    assert!(all.matches(&name).count() >= 2, "{all}");
    for word in [LOGIN, SCAN, "intruder", "\"source\":\"127.0.0.1"] {
        assert!(!all.contains(word), "{word}: {all}");
    }
}

/// A login that repeats words of the log line hides only itself, so alerts and fail2ban still find those words.
#[test]
fn pseudonyms_leave_the_words_of_the_line() {
    let exchange = Exchange::new();
    let text = format!(
        "{}\n[limits]\nfailure_delay = \"1ms\"\nlongest_failure_delay = \"1ms\"\n",
        exchange.configuration(BY_SECRET)
    )
    .replace("[upstream.exchange]", "pseudonyms = true\n[admin]\nlisten = [\"127.0.0.1:0\"]\n[upstream.exchange]");
    let proxy = exchange.proxy(&text);
    let logins = [
        "wrong_password",
        "login failed: user name or password is wrong",
        "login failed",
        "imap",
        "pop3",
        "warn",
        "reason",
        "listener",
        "login",
        "source",
        "mailbox",
        "message",
        "level",
        "commands",
        "127.0.0.1",
        "is",
        "p-",
    ];
    for (number, login) in logins.iter().enumerate() {
        exchange::imap(&proxy).command(&format!("LOGIN \"{login}\" guess"));
        proxy.logs(number + 1, "\"reason\":\"wrong_password\"");
    }
    let log = proxy.log.all();
    let lines = log.lines().filter(|line| line.contains("\"reason\":\"wrong_password\""));
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["message"].as_str().unwrap().starts_with("login failed: user name or password is wrong"),
            "{line}"
        );
        assert_eq!((line["listener"].as_str(), line["level"].as_str()), (Some("imap"), Some("WARN")), "{line}");
        assert!(["login", "source"].iter().all(|name| line[*name].as_str().unwrap().starts_with("p-")), "{line}");
    }
}

/// The page and the metrics warn before a sign-in or a secret ends, and say what to do.
#[test]
fn expiries_are_announced() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(exchange::BY_PERSON);
    exchange.sign_in(&configuration);
    let proxy = exchange.proxy(&configuration);
    exchange.until("token", |counts| counts.tokens_issued > 1);
    let deadline = Instant::now() + PATIENCE;
    let line = "packetboat_refresh_token_expiry_timestamp_seconds{account=\"scans\"} ";
    let until: f64 = loop {
        let metrics = proxy.get("/metrics");
        if let Some(found) = metrics.lines().find_map(|one| one.strip_prefix(line)) {
            break found.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{metrics}");
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((until - now - 90.0 * 86_400.0).abs() < 120.0, "{until}");
    let expiries = proxy.status()["expiries"].clone();
    assert_eq!(
        (&expiries[0]["kind"], &expiries[0]["advice"]),
        (&"refresh token".into(), &"packetboat login scans".into())
    );
    drop(proxy);
    let ending = exchange.configuration(&format!("{BY_SECRET}\nclient_secret_expires = \"2026-12-01\""));
    let proxy = exchange.proxy(&ending);
    let metrics = proxy.get("/metrics");
    assert!(
        metrics.contains("packetboat_client_secret_expiry_timestamp_seconds{identity=\"office\"} 1796083200"),
        "{metrics}"
    );
    let first = proxy.status()["expiries"][0].clone();
    assert_eq!(first["kind"], "client secret");
    assert!(first["advice"].as_str().unwrap().contains("app registration"), "{first}");
}

/// The page shows the reason for an account without a token beside the account, and says what to do.
#[test]
fn accounts_say_what_to_do_next() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(exchange::BY_PERSON));
    proxy.log.wait_for("trouble", |line| line.contains("has not signed in yet"));
    let account = proxy.status()["accounts"][0].clone();
    assert_eq!(account["state"], "trouble");
    assert!(account["advice"].as_str().unwrap().contains("has not signed in yet: packetboat login scans"), "{account}");
    assert!(
        proxy.get("/metrics").contains("packetboat_access_token_trouble{account=\"scans\",reason=\"token_refused\"} 1")
    );
}
