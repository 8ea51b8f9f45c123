//! Does everybody get mail? The state of each configured device on the page, in commands, metrics and the log, over
//! restarts.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use openssl::ssl::Ssl;
use openssl::x509::X509;
use serde_json::{Value, json};

use support::device::{Device, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD, Ran, SCAN};
use support::imap::{Imap, status};
use support::process::{PATIENCE, program};
use support::proxy::Proxy;
use support::stacks::{Version, context, old};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Two accounts beside the usual one: a fax and a copier, whose mailboxes the tenant does not have.
fn office(exchange: &Exchange) -> String {
    let more = exchange::account("fax", "fax@contoso.example", "")
        + &exchange::account("copier", "copier@contoso.example", "");
    let scans = exchange::account("scans", SCAN, "").replace("[[device]]", "[[device]]\ndescription = \"Third floor\"");
    exchange.configured(BY_SECRET, &(scans + &more))
}

/// The report on a device, once it satisfies the condition.
fn until(proxy: &Proxy, device: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = proxy.status();
        let all = status["configured"].as_array().unwrap();
        let one = all.iter().find(|one| one["device"] == device).unwrap_or_else(|| panic!("no {device}: {status:#}"));
        if condition(one) {
            return one.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {one:#}");
    }
}

fn command(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration());
    Ran::of(command.env("PACKETBOAT_ADMIN_LISTEN", proxy.admin().to_string()).output().unwrap())
}

/// Ends a proxy as its operator does, so that it keeps what it knows.
fn end(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
}

#[test]
fn each_configured_device_has_a_state() {
    let exchange = Exchange::new();
    let configuration = office(&exchange);
    let proxy = exchange.proxy(&configuration);
    let states = |proxy: &Proxy| -> Vec<(String, String)> {
        let status = proxy.status();
        let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        status["configured"].as_array().unwrap().iter().map(|one| (word(one, "device"), word(one, "state"))).collect()
    };
    let expected = |states: &[(&str, &str)]| -> Vec<(String, String)> {
        states.iter().map(|(device, state)| ((*device).to_owned(), (*state).to_owned())).collect()
    };
    assert_eq!(states(&proxy), expected(&[("copier", "never"), ("fax", "never"), (LOGIN, "never")]));

    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let scanner = until(&proxy, LOGIN, "two sessions with mail", |one| one["messages"] == 2 && one["open"] == 0);
    assert_eq!((&scanner["state"], &scanner["sessions"], &scanner["mailbox"]), (&"ok".into(), &2.into(), &SCAN.into()));
    assert!(scanner["octets"].as_u64().unwrap() > 4000, "{scanner}");
    assert!(
        scanner["last_mail"].as_u64().unwrap() + 60 > now() && scanner["description"] == "Third floor",
        "{scanner}"
    );
    // A session in which nothing is fetched is no mail.
    let mut device = exchange::imap(&proxy);
    device.login(LOGIN, PASSWORD);
    device.ok("SELECT INBOX");
    until(&proxy, LOGIN, "open session", |one| one["open"] == 1);
    device.ok("LOGOUT");
    until(&proxy, LOGIN, "third session", |one| one["open"] == 0 && one["sessions"] == 3 && one["messages"] == 2);

    // The password is wrong, and behind the right one there is no mailbox.
    exchange::imap(&proxy).command("LOGIN fax guess");
    let refused = status(&exchange::imap(&proxy).command(&format!("LOGIN copier {PASSWORD}")));
    assert!(refused.starts_with("NO"), "{refused}");
    let fax = until(&proxy, "fax", "failure", |one| one["state"] == "failing");
    assert!(fax["failure"].as_str().unwrap().contains("the password is not one of device"), "{fax}");
    until(&proxy, "copier", "failure", |one| one["state"] == "failing");
    assert_eq!(states(&proxy), expected(&[("copier", "failing"), ("fax", "failing"), (LOGIN, "ok")]), "problems first");

    let metrics = proxy.get("/metrics");
    for line in [
        "packetboat_device_trouble{device=\"fax\",reason=\"failing\"} 1",
        "packetboat_device_trouble{device=\"fax\",reason=\"never\"} 0",
        "packetboat_device_last_login_timestamp_seconds{device=\"fax\"} 0",
        "packetboat_device_trouble{device=\"scanner3\",reason=\"silent\"} 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }

    // The same on a terminal, first of all.
    let table = command(&proxy, &["devices"]).output;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "1 of 3 devices get their mail; logins of copier and fax fail");
    assert!(lines[2].contains("DEVICE") && lines[3].starts_with("!  copier"), "{table}");
    assert!(table.contains("3 logins, 2 messages") && table.contains("VERDICT"), "{table}");
    let csv = command(&proxy, &["devices", "--csv"]).output;
    let head = "source,name,logins,mailbox,protocol,listener,entry,tls,cipher,fingerprint,offers,sessions,failures,failure,\
                failed,first_seen,last_seen,verdict,device,state,since,last_login,last_mail,sessions_24h,messages_24h,octets_24h,\
                sending,last_sent,sent_24h,recipients_24h,sent_octets_24h,refused_24h,instance";
    assert_eq!(csv.lines().next().unwrap(), head);
    let json: Value = serde_json::from_str(&command(&proxy, &["devices", "--json"]).output).unwrap();
    assert_eq!(json["configured"].as_array().unwrap().len(), 3);
    assert!(json["devices"][0]["verdict"]["text"].is_string(), "{json}");

    // A restart forgets none of it, and neither does the command without the proxy.
    let before = until(&proxy, LOGIN, "the last state", |_| true);
    let configuration_file = proxy.configuration();
    let text = fs::read_to_string(&configuration_file).unwrap();
    end(proxy);
    fs::create_dir_all(configuration_file.parent().unwrap()).unwrap();
    fs::write(&configuration_file, text).unwrap();
    let mut offline = Command::new(program());
    let offline = Ran::of(offline.args(["devices", "--config"]).arg(&configuration_file).output().unwrap());
    assert!(
        offline.output.starts_with("1 of 3 devices get their mail; logins of copier and fax fail\n"),
        "{offline:?}",
        offline = offline.errors
    );
    let proxy = exchange.proxy(&configuration);
    let again = until(&proxy, LOGIN, "the same", |one| one["state"] == "ok");
    for key in ["last_login", "last_mail", "sessions", "messages", "octets"] {
        assert!(again[key].is_u64() && again[key] == before[key], "{key}: {again} {before}");
    }
    // A device that leaves the configuration is forgotten, and the others are not.
    proxy.configure(&exchange.configured(BY_SECRET, &exchange::account("scans", SCAN, "")));
    assert_eq!(proxy.reload().0, 0);
    assert_eq!(states(&proxy), expected(&[(LOGIN, "ok")]));

    // A state directory of a version that had no such file: the inventory knows the last login.
    let state = proxy.state_directory();
    end(proxy);
    fs::remove_file(state.join("device-activity.json")).unwrap();
    let proxy = exchange.proxy(&configuration);
    assert_eq!(states(&proxy), expected(&[("copier", "never"), ("fax", "never"), (LOGIN, "ok")]));

    // A damaged file costs the records alone, and says so.
    end(proxy);
    fs::write(state.join("device-activity.json"), "{").unwrap();
    let proxy = exchange.proxy(&configuration);
    assert!(
        proxy.log.all().contains("device-activity.unreadable, and new records of devices begin"),
        "{}",
        proxy.log.all()
    );
    assert_eq!(proxy.status()["configured"].as_array().unwrap().len(), 3);
}

/// A record of a device that used to come every five minutes, last seen so many seconds ago.
fn record(login: &str, ago: u64, is_silent: bool) -> Value {
    let seen = now() - ago;
    json!({
        "login": login, "known_since": seen - 9000, "last_login": seen, "visit": seen, "last_seen": seen,
        "last_mail": seen, "gaps": [300, 300, 300, 300], "hours": [], "source": "127.0.0.1", "failure": null,
        "failed": null, "failing_since": null, "is_silent": is_silent,
    })
}

fn keep(exchange: &Exchange, records: &[Value]) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(exchange.state()).unwrap();
    let path = exchange.state().join("device-activity.json");
    fs::write(&path, json!({ "version": 1, "saved": now(), "devices": records }).to_string()).unwrap();
    exchange::mode(&path, 0o600);
}

/// Silence is told once: as state, as metric, in the log; and so is its end.
#[test]
fn a_silent_device_is_an_alarm_once() {
    let exchange = Exchange::new();
    let configuration = office(&exchange) + "[inventory]\nsilent_after = \"1s\"\n";
    // Learned intervals of nought, as no device has them: silence begins a second after the start.
    let mut soon = record(LOGIN, 60, false);
    soon["gaps"] = json!([0, 0, 0]);
    keep(&exchange, &[soon, record("fax", 3 * 3600, true), record("copier", 3 * 3600, false)]);
    let proxy = exchange.proxy(&configuration);
    let fax = until(&proxy, "fax", "still silent", |_| true);
    assert_eq!((&fax["state"], &fax["usual_interval"]), (&"silent".into(), &300.into()));
    // It was not silent when packetboat stopped, and could not be heard since.
    assert_eq!(until(&proxy, "copier", "not silent", |_| true)["state"], "ok");
    until(&proxy, LOGIN, "silent", |one| one["state"] == "silent");
    let line = proxy.log.wait_for("silence", |line| line.contains("device is silent"));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["login"], &line["level"]), (&LOGIN.into(), &"WARN".into()), "{line}");
    let silent = |device: &str, value: u32| {
        let line = format!("packetboat_device_trouble{{device=\"{device}\",reason=\"silent\"}} {value}");
        let metrics = proxy.get("/metrics");
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    };
    silent(LOGIN, 1);
    silent("fax", 1);
    silent("copier", 0);
    let answer = command(&proxy, &["devices"]).output;
    assert!(answer.starts_with("1 of 3 devices get their mail; fax and scanner3 are silent\n"), "{answer}");

    let mut device = exchange::imap(&proxy);
    device.login(LOGIN, PASSWORD);
    until(&proxy, LOGIN, "back", |one| one["state"] == "ok");
    proxy.log.wait_for("return", |line| line.contains("device is back"));
    assert_eq!(proxy.log.count(|line| line.contains("device is silent")), 1, "{}", proxy.log.all());
}

/// A proxy that serves devices, and gets mail for none, is told apart everywhere; the error comes once for all accounts.
#[test]
fn ready_without_a_token_is_not_simply_ready() {
    let exchange = Exchange::new();
    let configuration = office(&exchange);
    let proxy = exchange.proxy(&configuration);
    exchange.until("token", |counts| counts.tokens_issued > 0);
    assert_eq!(
        (command(&proxy, &["health", "--ready"]).output, proxy.status()["no_token"].clone()),
        ("ready\n".to_owned(), false.into())
    );
    drop(proxy);
    exchange.file("SECRET", "wrong-but-still-secret");
    let proxy = exchange.proxy(&configuration);
    proxy.log.wait_for("refusal", |line| line.contains("AADSTS7000215"));
    let deadline = Instant::now() + PATIENCE;
    while proxy.status()["no_token"] != true {
        assert!(Instant::now() < deadline, "{}", proxy.status());
    }
    let status = proxy.status();
    assert_eq!(status["ready"], true);
    let ran = command(&proxy, &["health", "--ready"]);
    assert_eq!((ran.code, ran.output.as_str()), (0, "ready, but no account has a token\n"));
    let identities = status["identities"].as_array().unwrap();
    assert_eq!(identities.len(), 1, "{identities:?}");
    let office = &identities[0];
    assert_eq!(
        (&office["name"], &office["state"], &office["with_token"]),
        (&"office".into(), &"trouble".into(), &0.into())
    );
    assert_eq!(office["errors"].as_array().unwrap().len(), 1, "{office}");
    assert_eq!(office["errors"][0]["accounts"], json!(["copier", "fax", "scans"]));
    // The devices with the right password are failing, each with that reason.
    assert!(exchange::imap_login(&proxy).starts_with("NO"));
    let scanner = until(&proxy, LOGIN, "failing", |one| one["state"] == "failing");
    assert!(scanner["failure"].as_str().unwrap().contains("no access token"), "{scanner}");
}

/// A device that was refused, and has logged in since with other TLS, needs nobody's attention any more.
#[test]
fn a_login_ends_the_attention_of_its_address() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&office(&exchange));
    let from = |host: u8, address: SocketAddr, ciphers: &'static str| {
        let context = context(|context| old(context, Version::Tls1_0, ciphers));
        Ssl::new(&context).unwrap().connect(tcp_from([127, 0, 0, host], address)).ok()
    };
    let imap = proxy.address("imap");
    for host in [31, 32] {
        assert!(from(host, imap, "RC4-SHA").is_none());
    }
    let waiting = || -> Vec<IpAddr> {
        let status = proxy.status();
        let devices = status["devices"].as_array().unwrap().iter().filter(|one| one["attention"] == true);
        devices.map(|one| one["source"].as_str().unwrap().parse().unwrap()).collect()
    };
    let both: Vec<IpAddr> = [[127, 0, 0, 31], [127, 0, 0, 32]].map(IpAddr::from).to_vec();
    let deadline = Instant::now() + PATIENCE;
    while waiting().len() < 2 {
        assert!(Instant::now() < deadline, "{}", proxy.status());
    }
    let mut found = waiting();
    found.sort_unstable();
    assert_eq!(found, both);
    // The next second: in the same one nobody knows which came first.
    let refused = now();
    while now() == refused {
        std::thread::yield_now();
    }
    let mut device = Imap::greeted(Device::over(from(31, imap, "AES128-SHA").unwrap()));
    device.login(LOGIN, PASSWORD);
    assert_eq!(waiting(), both[1..], "the other one still waits");
    assert!(proxy.get("/metrics").contains("packetboat_devices{verdict=\"refused\"} 1"));
    let seen = proxy.status();
    let own = seen["devices"].as_array().unwrap().iter().find(|one| one["known_as"] == LOGIN).unwrap();
    assert_eq!(own["device"], LOGIN);
}

/// A technician without a token gets the CA: it is public, and devices import it.
#[test]
fn the_ca_is_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "a-token-of-enough-length\n").unwrap();
    exchange::mode(&file, 0o600);
    let observe = "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";
    let admin = format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\n");
    let proxy = Proxy::start(&(admin + observe));
    let get = |path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-f", "-H", "Host: printer.example", &format!("http://{}{path}", proxy.admin())])
            .output()
            .unwrap()
            .stdout
    };
    let kept = X509::from_pem(&fs::read(proxy.authority()).unwrap()).unwrap();
    assert!(X509::from_pem(&get("/ca.pem")).unwrap() == kept);
    assert!(X509::from_der(&get("/ca.cer")).unwrap() == kept);
    assert!(get("/status.json").is_empty());
}

/// Listeners say what to look out for, from where they are reached, and for which names their certificate is.
#[test]
fn listeners_say_what_to_look_out_for() {
    let proxy = Proxy::start(
        "[certificate.default]\nnames = [\"mailproxy.example\", \"192.168.1.5\"]\n\
         [[listener]]\nname = \"old\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\nprofile = \"ancient\"\n\
         [[listener]]\nname = \"plain\"\nprotocol = \"pop3\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\nentry = \"plaintext\"\n\
         allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\", \"192.168.1.0/24\"]\n\
         [[listener]]\nname = \"usual\"\nprotocol = \"pop3\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n",
    );
    let status = proxy.status();
    let of =
        |name: &str| status["listeners"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!(of("old")["marks"], json!(["observes", "ancient"]));
    assert_eq!(of("plain")["marks"], json!(["observes", "plaintext"]));
    assert_eq!(of("usual")["marks"], json!(["observes"]));
    assert_eq!(of("plain")["allowed_networks"], json!(["127.0.0.0/8", "192.168.1.0/24"]));
    assert_eq!(
        (&of("plain")["certificate"], &of("old")["certificate"]["names"]),
        (&Value::Null, &json!(["mailproxy.example", "192.168.1.5"]))
    );
    let authority = X509::from_pem(&fs::read(proxy.authority()).unwrap()).unwrap();
    let digest = authority.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    let digest: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    assert_eq!(status["ca"]["sha256"], digest.join(":"));
}
