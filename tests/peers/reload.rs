//! These tests prove that a reload under load takes the new configuration without losing a device, or refuses it and
//! changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use support::certificates::Certificates;
use support::dovecot::{Dovecot, PASSWORD};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::free_ports;
use support::imap::Imap;
use support::message;
use support::proxy::{Proxy, listener, upstreams};
use support::strain::until;

/// The serial number of the certificate that a device is shown.
fn shown(proxy: &Proxy) -> String {
    let certificate = proxy.tls("imap").ssl().peer_certificate().unwrap();
    certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
}

/// Two hundred sessions live through twenty reloads and a new certificate, and notice nothing.
#[test]
fn two_hundred_sessions_go_on_through_twenty_reloads() {
    let dovecot = Dovecot::start();
    let mail = message(20_000);
    let users: Vec<String> = (0..40).map(|_| dovecot.user_with(&[&mail])).collect();
    let own = tempfile::tempdir().unwrap();
    let certificate = |days| Certificates::for_name("localhost", days).write(own.path());
    certificate(30);
    let [second_port] = free_ports();
    let configuration = |number: u32| {
        let shown = format!("{:?}", own.path());
        let shown = shown.trim_matches('"');
        let mut text = upstreams(&dovecot)
            + &format!(
                "[certificate.own]\nchain = \"{shown}/server.pem\"\nkey = \"{shown}/server.key\"\n\
                 [limits]\nconnections_per_source = {}\nidle_timeout = \"{}m\"\n",
                300 + number,
                35 + number
            )
            + &listener("imap", "imap", "implicit", "certificate = \"own\"\nupstream = \"implicit\"");
        if number % 2 == 1 {
            text += &format!(
                "[[listener]]\nname = \"second\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:{second_port}\"]\n\
                 logins = \"pass-through\"\nupstream = \"starttls\"\nentry = \"implicit\"\n"
            );
        }
        text
    };
    let proxy = Proxy::start(&configuration(0));
    let second: SocketAddr = ([127, 0, 0, 1], second_port).into();
    let mut sessions: Vec<Imap> = Vec::new();
    for number in 0..200 {
        let mut session = proxy.imap("imap");
        session.login(&users[number % users.len()], PASSWORD);
        session.ok("SELECT INBOX");
        sessions.push(session);
    }
    let first_shown = shown(&proxy);
    // Some sessions are in the middle of a message that they have not read.
    for session in sessions.iter_mut().take(20) {
        session.device.send("late FETCH 1 BODY.PEEK[]\r\n");
    }
    for number in 1..=20 {
        if number == 10 {
            certificate(60);
        }
        proxy.configure(&configuration(number));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.starts_with("configuration reloaded; open sessions are unaffected\n"), "{said}");
        if number % 2 == 1 {
            assert!(TcpStream::connect(second).is_ok(), "the new listener is there");
        } else {
            // The task that accepts there closes the port, a moment after the reload.
            until("end of the listener", || TcpStream::connect(second).is_err());
        }
        for session in sessions.iter_mut().skip(20 + number as usize).step_by(7) {
            session.ok("NOOP");
        }
        let mut newcomer = proxy.imap("imap");
        newcomer.login(&users[0], PASSWORD);
        newcomer.ok("LOGOUT");
    }
    for (number, mut session) in sessions.into_iter().enumerate() {
        if number < 20 {
            let parts = session.answer("late");
            assert!(parts.iter().any(|part| *part == support::imap::Part::Literal(mail.clone())));
        }
        assert!(session.fetch(1) == mail, "session {number}");
        session.ok("LOGOUT");
        assert!(session.device.has_ended());
    }
    assert_ne!(shown(&proxy), first_shown);
    let log = proxy.log.all();
    assert_eq!(log.matches("configuration reloaded; open sessions are unaffected").count(), 20);
    assert!(!log.contains("\"reason\":\"drained\"") && !log.contains("\"level\":\"ERROR\""), "{log}");
}

/// A changed certificate is noticed without a reload; half of a change is left alone.
#[test]
fn a_changed_certificate_is_taken_by_itself() {
    let own = tempfile::tempdir().unwrap();
    Certificates::for_name("localhost", 30).write(own.path());
    let proxy = Proxy::start(&format!(
        "[certificate.own]\nchain = {:?}\nkey = {:?}\n[upstream.x]\nhost = \"127.0.0.1\"\n{}",
        own.path().join("server.pem"),
        own.path().join("server.key"),
        listener("imap", "imap", "implicit", "certificate = \"own\"")
    ));
    let before = shown(&proxy);
    let new = Certificates::for_name("localhost", 60);
    // The chain changes first, and does not fit the present key.
    fs::write(own.path().join("server.pem"), new.leaf.to_pem().unwrap()).unwrap();
    proxy
        .log
        .wait_for("refusal", |line| line.contains("certificates rejected; still running with the previous version"));
    assert!(proxy.log.all().contains("certificate.own.key: "), "{}", proxy.log.all());
    assert_eq!(shown(&proxy), before);
    new.write(own.path());
    proxy.log.wait_for("change", |line| line.contains("certificates reloaded"));
    assert_ne!(shown(&proxy), before);
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_runs_on() {
    let exchange = Exchange::new();
    let good = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&good);
    let mut session = exchange::imap(&proxy);
    session.login(LOGIN, exchange::PASSWORD);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let on_taken = format!("{good}[[listener]]\nprotocol = \"pop3\"\nlisten = [\"{taken}\"]\n");
    for (text, code, words) in [
        (good.replace("[[device]]", "[[device]]\npasword = 1"), 78, "unknown key `pasword`; did you mean `password"),
        (good.clone() + "[listener]\n", 78, "packetboat.toml:"),
        (good.replace("SECRET", "MISSING"), 69, "identity.office.client_secret_file: cannot read"),
        (on_taken, 69, "cannot listen on 127.0.0.1:"),
        (format!("store_key = \"/x\"\n{good}"), 69, "store_key: cannot change while packetboat runs: restart it"),
    ] {
        // The key has to stand before the sections.
        let text = match text.strip_prefix("store_key") {
            Some(rest) => {
                let (line, rest) = rest.split_once('\n').unwrap();
                proxy.configure(rest);
                let file = fs::read_to_string(proxy.configuration()).unwrap();
                fs::write(proxy.configuration(), format!("store_key{line}\n{file}")).unwrap();
                None
            }
            None => Some(text),
        };
        if let Some(text) = text {
            proxy.configure(&text);
        }
        let (exit, said) = proxy.reload();
        assert_eq!(exit, code, "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(proxy.get("/metrics").contains("\npacketboat_config_reload_success 0\n"));
        session.ok("NOOP");
        drop(exchange::imap(&proxy));
    }
    proxy.process.signal("HUP");
    proxy
        .log
        .wait_for("refusal", |line| line.contains("configuration rejected; still running with the previous version"));
    assert!(proxy.get("/metrics").contains("\npacketboat_config_reload_success 0\n"));
    assert!(proxy.status()["config"]["problem"].as_str().unwrap().contains("cannot change while packetboat runs"));
    proxy.configure(&good);
    assert_eq!(proxy.reload().0, 0);
    // An answer of the page may be a second old.
    until("no problem", || proxy.status()["config"]["problem"].is_null());
    session.ok("LOGOUT");
}

/// The documents list the same keys.
#[test]
fn keys_that_need_a_restart_are_refused_and_documented() {
    const AT_THE_TOP: [&str; 3] = ["state_directory", "store_key", "confine"];
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let well = fs::read_to_string(proxy.configuration()).unwrap();
    let file = exchange.file("other", [7; 32]);
    for (key, value) in
        AT_THE_TOP.iter().zip([format!("{:?}", file.with_extension("d")), format!("{file:?}"), "false".into()])
    {
        let others = well.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        fs::write(proxy.configuration(), format!("{key} = {value}\n{others}\n")).unwrap();
        // The test sends a signal, because packetboat reload looks for its result in the state directory that the file
        // names.
        proxy.process.signal("HUP");
        proxy.logs(1, &format!(" {key}: cannot change while packetboat runs: restart it"));
    }
    let edit = format!("[admin]\nedit = true\ntoken_file = {file:?}\n");
    fs::write(proxy.configuration(), well.replace("[admin]\n", &edit)).unwrap();
    proxy.process.signal("HUP");
    proxy.logs(1, " admin.edit: cannot change while packetboat runs: restart it");
    let other = file.with_extension("spool");
    fs::write(proxy.configuration(), format!("{well}\n[spool]\ndirectory = {other:?}\n")).unwrap();
    proxy.process.signal("HUP");
    proxy.logs(1, " spool.directory: cannot change while packetboat runs: restart it");
    let fleet = "[fleet]\ndatabase = \"postgresql://packetboat@localhost/packetboat\"\n";
    fs::write(proxy.configuration(), format!("store_key = {file:?}\n{well}\n{fleet}")).unwrap();
    proxy.process.signal("HUP");
    proxy.logs(1, " fleet: cannot change while packetboat runs: restart it");
    let reference = include_str!("../../docs/reference.md").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(reference.contains(
        "`state_directory`, `store_key`, `spool.directory`, `[fleet]`, `confine` and `admin.edit` need a restart"
    ));
    let operations = include_str!("../../docs/operations.md");
    assert!(operations.contains(
        "| `state_directory`, `store_key`, `spool.directory`, `[fleet]`, `confine`, `admin.edit` | packetboat refuses a reload that changes one of them"
    ));
}

/// Unchanged parts are not fetched anew: the token and the password stay valid, and the mailbox's sessions keep their
/// count.
#[test]
fn tokens_passwords_and_counts_survive() {
    let exchange = Exchange::new();
    let limit = |most: u32| {
        format!(
            "{}[limits]\nsessions_per_mailbox = {most}\nmailbox_queue = \"200ms\"\n",
            exchange.configuration(BY_SECRET)
        )
    };
    let proxy = exchange.proxy(&limit(2));
    let mut one = exchange::imap(&proxy);
    one.login(LOGIN, exchange::PASSWORD);
    let issued = exchange.simulator.counts().tokens_issued;
    let more = limit(2) + &exchange::account("fax", SCAN, "");
    proxy.configure(&more.replace(
        "[[device]]\nlogin = \"scanner3\"",
        "[[device]]\ndescription = \"Third floor\"\nlogin = \"scanner3\"",
    ));
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    let mut two = exchange::imap(&proxy);
    two.login(LOGIN, exchange::PASSWORD);
    assert_eq!(exchange.simulator.counts().tokens_issued, issued);
    assert!(exchange::imap_login(&proxy).starts_with("NO [INUSE] "), "the third one");
    // The limit rises, then falls.
    proxy.configure(&limit(3));
    assert_eq!(proxy.reload().0, 0);
    let mut three = exchange::imap(&proxy);
    three.login(LOGIN, exchange::PASSWORD);
    proxy.configure(&limit(1));
    assert_eq!(proxy.reload().0, 0);
    for mut session in [one, two] {
        session.ok("LOGOUT");
        assert!(session.device.has_ended());
    }
    assert!(exchange::imap_login(&proxy).starts_with("NO [INUSE] "), "while the third one is there");
    three.ok("LOGOUT");
    drop(three);
    proxy.log.wait_for("end", |line| line.contains("session ended") && line.contains("logged_out"));
    let mut last = exchange::imap(&proxy);
    last.login(LOGIN, exchange::PASSWORD);
    assert_eq!(exchange.simulator.counts().tokens_issued, issued, "through all of it one token has been enough");
    // A removed device cannot log in, and its session has ended.
    let other = exchange.configured(BY_SECRET, &exchange::account("fax", SCAN, ""));
    proxy.configure(&other);
    assert_eq!(proxy.reload().0, 0);
    assert!(last.device.line().starts_with("* BYE "));
    assert!(exchange::imap_login(&proxy).starts_with("NO [AUTHENTICATIONFAILED] "));
}

/// A withdrawn password opens nothing any more, even on an earlier connection.
#[test]
fn an_earlier_connection_logs_in_by_the_new_configuration() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let (mut one, mut two) = (exchange::imap(&proxy), exchange::imap(&proxy));
    proxy.configure(&exchange.configured(BY_SECRET, &exchange::account("fax", SCAN, "")));
    assert_eq!(proxy.reload().0, 0);
    let refused = one.command(&format!("LOGIN {LOGIN} {}", exchange::PASSWORD));
    assert!(support::imap::status(&refused).starts_with("NO [AUTHENTICATIONFAILED]"));
    two.login("fax", exchange::PASSWORD);
    two.ok("LOGOUT");
}

/// A file with a mistake stops neither the health check nor a new certificate of the running proxy.
#[test]
fn a_mistake_in_the_file_leaves_health_and_certificates_alone() {
    let exchange = Exchange::new();
    let good = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&good);
    let run = |arguments: &[&str], file: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(arguments).arg("--config").arg(file);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let before = shown(&proxy);
    let elsewhere = tempfile::tempdir().unwrap();
    let own = elsewhere.path().join("packetboat.toml");
    fs::copy(proxy.configuration(), &own).unwrap();
    proxy.configure(&(good + "nonsense"));
    assert_eq!(run(&["health"], &proxy.configuration()), (0, "alive\n".to_owned()));
    assert!(run(&["certificate", "renew"], &own).0 == 0);
    assert_eq!(proxy.reload().0, 78);
    proxy.log.wait_for("change", |line| line.contains("certificates reloaded"));
    assert_ne!(shown(&proxy), before);
    // The failed reload is still on record.
    assert!(proxy.get("/metrics").contains("\npacketboat_config_reload_success 0\n"));
    assert!(!proxy.status()["config"]["problem"].is_null());
}

/// Two reloads run at once. Each `packetboat reload` reports a reload that began after its own signal, and never an
/// earlier one with an older file. The lock on made certificates holds the first one up.
#[test]
fn a_reload_reports_its_own_result() {
    let exchange = Exchange::new();
    let good = exchange.configuration(BY_SECRET);
    let bad = good.replace("/SECRET", "/MISSING");
    let proxy = exchange.proxy(&good);
    let lock = fs::File::open(proxy.state_directory().join("certificates.lock")).unwrap();
    let waiter = format!(":{} 0 EOF", lock.metadata().unwrap().ino());
    let is_waiting = |line: &str| line.contains("->") && line.contains(&waiter);
    for (first, second, code) in [(&bad, &good, 0), (&good, &bad, 69)] {
        let new = format!("name = \"imap\"\ncertificate = \"new{code}\"");
        lock.lock().unwrap();
        proxy.configure(&(first.replace("name = \"imap\"", &new) + &format!("[certificate.new{code}]\n")));
        proxy.process.signal("HUP");
        until("the first reload waits", || fs::read_to_string("/proc/locks").unwrap().lines().any(is_waiting));
        proxy.configure(second);
        let mut reload = proxy.reload_command();
        let reload = reload.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stat = format!("/proc/{}/stat", reload.id());
        until("the second one waits", || fs::read_to_string(&stat).unwrap().contains("(packetboat) S "));
        lock.unlock().unwrap();
        let said = exchange::Ran::of(reload.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{}{}", said.output, said.errors);
    }
}

/// A thousand reloads cost neither memory nor files.
#[test]
fn a_thousand_reloads_leave_nothing_behind() {
    let exchange = Exchange::new();
    let configuration = |number: u32| {
        exchange.configuration(BY_SECRET).replace("name = \"pop3\"", &format!("name = \"pop3-{}\"", number % 50))
    };
    let proxy = exchange.proxy(&configuration(0));
    let used = || (proxy.process.figure("VmRSS:"), proxy.process.open_files());
    let outcome = proxy.state_directory().join("reload");
    let mut reload = |number: u32| {
        proxy.configure(&configuration(number));
        proxy.process.signal("HUP");
        let taken = format!("begun {number}\nended {number}\ntaken\n");
        until(&taken, || fs::read_to_string(&outcome).is_ok_and(|text| text == taken));
    };
    let count: u32 = std::env::var("RELOADS").map_or(1000, |count| count.parse().unwrap());
    (1..=count / 5).for_each(&mut reload);
    let (kib, files) = used();
    (count / 5 + 1..=count).for_each(&mut reload);
    let (kib_after, files_after) = used();
    println!("{count} reloads: {kib} KiB after a fifth of them, {kib_after} KiB at the end; {files_after} files");
    assert!(kib_after < kib + 4096, "{kib} KiB became {kib_after}");
    assert!(files_after <= files + 4, "{files} files became {files_after}");
    let metrics = proxy.get("/metrics");
    assert_eq!(metrics.matches("packetboat_connections_open{").count(), 2, "{metrics}");
}
