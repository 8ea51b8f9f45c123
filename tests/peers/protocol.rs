//! These tests prove, against Dovecot, the commands of devices and mail programs beside the plain session.

use support::device::{Device, Program};
use support::dovecot::{Dovecot, PASSWORD, PASSWORD_WITH_SPACES};
use support::imap::{Imap, Part, status};
use support::message;
use support::proxy::{Proxy, listener, upstreams};
use support::stacks::{Start, Version};

fn set_up() -> (Dovecot, Proxy) {
    let dovecot = Dovecot::start();
    let proxy = Proxy::for_dovecot(&dovecot, ["implicit", "starttls"], "");
    (dovecot, proxy)
}

fn base64(text: impl AsRef<[u8]>) -> String {
    openssl::base64::encode_block(text.as_ref())
}

#[test]
fn every_way_to_log_in_over_imap() {
    let (dovecot, proxy) = set_up();
    let user = dovecot.user_with(&[]);
    let plain = base64(format!("\0{user}\0{PASSWORD}"));
    let logins: Vec<(String, Vec<String>)> = vec![
        (format!("login {user} {PASSWORD}"), vec![]),
        (format!("LOGIN \"{user}\" \"{PASSWORD}\""), vec![]),
        (format!("LOGIN {{{}}}", user.len()), vec![format!("{user} {{{}}}", PASSWORD.len()), PASSWORD.to_owned()]),
        (format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n{PASSWORD}", user.len(), PASSWORD.len()), vec![]),
        (format!("AUTHENTICATE PLAIN {plain}"), vec![]),
        ("authenticate plain".to_owned(), vec![plain]),
        ("AUTHENTICATE LOGIN".to_owned(), vec![base64(&user), base64(PASSWORD)]),
        (format!("AUTHENTICATE LOGIN {}", base64(&user)), vec![base64(PASSWORD)]),
        // Another server than this Dovecot takes tokens; here the token is looked up as a password.
        (format!("AUTHENTICATE XOAUTH2 {}", base64(format!("user={user}\x01auth=Bearer {PASSWORD}\x01\x01"))), vec![]),
    ];
    for (command, answers) in logins {
        let mut imap = proxy.imap("imap");
        imap.device.send(format!("t {command}\r\n"));
        for answer in answers {
            let line = imap.device.line();
            assert!(line.starts_with('+'), "{command}: {line}");
            imap.device.send(format!("{answer}\r\n"));
        }
        let answer = imap.answer("t");
        assert!(status(&answer).starts_with("OK [CAPABILITY IMAP4rev1 "), "{command}: {answer:?}");
        imap.ok("SELECT INBOX");
    }
    let mut imap = proxy.imap("imap");
    imap.device.send("t LOGIN umlaut {10}\r\n");
    assert!(imap.device.line().starts_with('+'));
    imap.device.send("p\u{e4}ss\\w\"rd\r\n".as_bytes());
    let answer = imap.answer("t");
    assert!(status(&answer).starts_with("OK"), "{answer:?}");
}

#[test]
fn every_way_to_log_in_over_pop3() {
    let (dovecot, proxy) = set_up();
    let user = dovecot.user_with(&[]);
    let plain = base64(format!("\0{user}\0{PASSWORD}"));
    let token = base64(format!("user={user}\x01auth=Bearer {PASSWORD}\x01\x01"));
    for (command, answers) in [
        (format!("USER {user}"), vec![format!("PASS {PASSWORD}")]),
        (format!("user {user}"), vec![format!("pass {PASSWORD}")]),
        (format!("AUTH PLAIN {plain}"), vec![]),
        ("AUTH PLAIN".to_owned(), vec![plain]),
        ("auth login".to_owned(), vec![base64(&user), base64(PASSWORD)]),
        (format!("AUTH LOGIN {}", base64(&user)), vec![base64(PASSWORD)]),
        (format!("AUTH XOAUTH2 {token}"), vec![]),
        ("AUTH XOAUTH2".to_owned(), vec![token]),
    ] {
        let mut pop3 = proxy.pop3("pop3");
        let mut answer = pop3.command(&command);
        for response in answers {
            assert!(answer.starts_with('+'), "{command}: {answer}");
            answer = pop3.command(&response);
        }
        assert_eq!(answer, "+OK logged in", "{command}");
        pop3.ok("STAT");
        pop3.ok("QUIT");
    }
    dovecot.deliver("spaces", &[]);
    let mut pop3 = proxy.pop3("pop3");
    pop3.login("spaces", PASSWORD_WITH_SPACES);
    pop3.ok("QUIT");
}

#[test]
fn capabilities_after_login_are_the_servers_without_what_is_ours() {
    let (dovecot, proxy) = set_up();
    let user = dovecot.user_with(&[]);
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    let answer = imap.ok("CAPABILITY");
    let Part::Line(list) = &answer[0] else { panic!("{answer:?}") };
    assert!(
        list.starts_with("* CAPABILITY IMAP4rev1 ") && list.contains(" IDLE ") && list.contains(" UIDPLUS "),
        "{list}"
    );
    for gone in ["AUTH=", "SASL-IR", "STARTTLS", "ENABLE", "COMPRESS", "LOGINDISABLED", "UTF8", "QRESYNC"] {
        assert!(!list.contains(gone), "{list}");
    }
    let mut pop3 = proxy.pop3("pop3");
    pop3.login(&user, PASSWORD);
    let list = String::from_utf8(pop3.multi("CAPA")).unwrap();
    assert!(
        list.contains("UIDL\r\n") && list.contains("SASL PLAIN LOGIN XOAUTH2\r\n") && !list.contains("STLS"),
        "{list}"
    );
    pop3.ok("QUIT");
}

#[test]
fn new_mail_is_pushed_into_idle() {
    let (dovecot, proxy) = set_up();
    let user = dovecot.user_with(&[]);
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    imap.ok("SELECT INBOX");
    imap.device.send("i IDLE\r\n");
    assert!(imap.device.line().starts_with("+ "));
    dovecot.deliver(&user, &[&message(1024)]);
    assert_eq!(imap.device.line(), "* 1 EXISTS");
    imap.device.send("DONE\r\n");
    assert!(status(&imap.answer("i")).starts_with("OK"));
}

#[test]
fn large_literals_go_up_as_well() {
    let (dovecot, proxy) = set_up();
    let user = dovecot.user_with(&[]);
    let big = message(25 * 1024 * 1024);
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    imap.device.send(format!("a APPEND INBOX {{{}}}\r\n", big.len()));
    assert!(imap.device.line().starts_with('+'));
    imap.device.send(&big);
    imap.device.send("\r\n");
    assert!(status(&imap.answer("a")).starts_with("OK"));
    // The device also sends commands without waiting, two at a time.
    let small = message(2000);
    imap.device.send(format!("b APPEND INBOX {{{}+}}\r\n", small.len()));
    imap.device.send([small.as_slice(), b"\r\nc NOOP\r\n"].concat());
    assert!(status(&imap.answer("b")).starts_with("OK"));
    assert!(status(&imap.answer("c")).starts_with("OK"));
    imap.ok("SELECT INBOX");
    assert!(imap.fetch(1) == big);
    assert!(imap.fetch(2) == small);
}

/// Dovecot accepts lines of 64 KiB; the proxy passes the line on as it arrives, in pieces of any size.
#[test]
fn command_lines_of_64_kib_pass() {
    let (dovecot, proxy) = set_up();
    let small = message(100);
    let user = dovecot.user_with(&[&small]);
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    imap.ok("SELECT INBOX");
    let set = vec!["1"; 31_000].join(",");
    let command = format!("FETCH {set} FLAGS");
    assert!(command.len() > 60 * 1024);
    let answer = imap.ok(&command);
    assert!(matches!(&answer[0], Part::Line(line) if line.starts_with("* 1 FETCH (FLAGS ")), "{answer:?}");
}

#[test]
fn commands_behind_the_login_are_kept_in_order() {
    let (dovecot, proxy) = set_up();
    let small = message(1024);
    let user = dovecot.user_with(&[&small]);
    let mut imap = proxy.imap("imap");
    imap.device.send(format!("a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\nd LOGOUT\r\n"));
    assert!(status(&imap.answer("a")).starts_with("OK"));
    assert!(status(&imap.answer("b")).starts_with("OK"));
    assert!(imap.answer("c").contains(&Part::Literal(small.clone())));
    assert!(status(&imap.answer("d")).starts_with("OK"));
    let mut pop3 = proxy.pop3("pop3");
    pop3.device.send(format!("USER {user}\r\nPASS {PASSWORD}\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"));
    assert_eq!(pop3.device.line(), "+OK send PASS");
    assert_eq!(pop3.device.line(), "+OK logged in");
    assert!(pop3.device.line().starts_with("+OK"));
    assert!(pop3.lines() == small);
    assert!(pop3.device.line().starts_with("+OK") && pop3.device.line().starts_with("+OK"));
    assert!(pop3.device.has_ended());
    assert_eq!(dovecot.messages_of(&user), 0);
}

#[test]
fn a_device_may_speak_before_it_is_greeted() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start(
        &(upstreams(&dovecot) + &listener("imap", "imap", "auto", "upstream = \"implicit\"\ndetect_delay = \"1h\"")),
    );
    let mut device = Device::plain(proxy.address("imap"));
    device.send("a CAPABILITY\r\n");
    assert!(device.line().starts_with("* OK [CAPABILITY IMAP4rev1 "));
    assert!(device.line().starts_with("* CAPABILITY IMAP4rev1 ") && device.line().starts_with("a OK"));
}

/// All workers share the sessions. The proxy gives out nothing that would open one.
#[test]
fn sessions_are_resumed_whether_a_device_knows_tickets_or_not() {
    let directory = tempfile::tempdir().unwrap();
    for (name, tickets, version, cipher) in [
        ("by-id", "-no_ticket", "-tls1", "TLSv1 AES128-SHA"),
        ("knows-tickets", "-nocommands", "-tls1", "TLSv1 AES128-SHA"),
        ("new", "-nocommands", "-tls1_3", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ] {
        let proxy = Proxy::start(&listener(name, "imap", "implicit", ""));
        let session = directory.path().join(name);
        for (flag, times, outcome) in [("-sess_out", 1, ""), ("-sess_in", 4, " resumed")] {
            for _ in 0..times {
                let mut command = std::process::Command::new("openssl");
                let address = proxy.address(name).to_string();
                command.args(["s_client", "-connect", &address, version, "-quiet", tickets, flag]);
                command.arg(&session).args(["-cipher", "AES128-SHA:@SECLEVEL=0"]);
                let mut imap = Imap::greeted(Device::over(Program::start(&mut command)));
                imap.ok("LOGOUT");
                assert!(imap.device.has_ended());
            }
            let tls = format!("\"{cipher}{outcome}\"");
            let is_it = |line: &str| line.contains("session ended") && line.contains(&tls);
            proxy.log.wait_for(&tls, is_it);
            let ended = || proxy.log.count(|line| line.contains("session ended"));
            while ended() < if times == 1 { 1 } else { 5 } {
                std::thread::yield_now();
            }
            assert_eq!(proxy.log.count(is_it), times);
        }
    }
}

/// Capable devices get the ECDSA certificate, all others the RSA one, each with its own chain.
#[test]
fn an_ecdsa_certificate_stands_beside_the_rsa_one() {
    use std::os::unix::fs::PermissionsExt;
    use support::certificates::Certificates;
    use support::stacks::{old, openssl};
    let directory = tempfile::tempdir().unwrap();
    let mut authorities = Vec::new();
    for (name, certificates) in
        [("rsa", Certificates::for_name("mail.test", 30)), ("ecdsa", Certificates::ecdsa_for_name("mail.test", 30))]
    {
        let folder = directory.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        certificates.write(&folder);
        let chain = [certificates.leaf.to_pem().unwrap(), certificates.authority.to_pem().unwrap()].concat();
        std::fs::write(folder.join("chain.pem"), chain).unwrap();
        std::fs::set_permissions(folder.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        authorities.push(certificates.authority);
    }
    let file = |name: &str| format!("{:?}", directory.path().join(name));
    let proxy = Proxy::start(&format!(
        "[certificate.default]\nchain = {}\nkey = {}\necdsa_chain = {}\necdsa_key = {}\n{}",
        file("rsa/chain.pem"),
        file("rsa/server.key"),
        file("ecdsa/chain.pem"),
        file("ecdsa/server.key"),
        listener("imap", "imap", "implicit", "")
    ));
    for (version, ciphers, authority) in
        [(Version::Tls1_0, "AES128-SHA", 0), (Version::Tls1_2, "ECDHE-ECDSA-AES128-GCM-SHA256:AES128-SHA", 1)]
    {
        let stream = openssl(proxy.address("imap"), Start::Implicit, |context| old(context, version, ciphers)).unwrap();
        let chain: Vec<Vec<u8>> =
            stream.ssl().peer_cert_chain().unwrap().iter().map(|one| one.to_der().unwrap()).collect();
        assert_eq!(chain[1..], [authorities[authority].to_der().unwrap()], "{ciphers}");
    }
}

/// Records after the handshake, as they come over the wire.
#[derive(Debug)]
struct Tap {
    stream: support::connection::Socket,
    wire: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl std::io::Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.wire.lock().unwrap().extend(&buffer[..count]);
        Ok(count)
    }
}

impl std::io::Write for Tap {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.stream.write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lengths of the application data records that greet a device.
fn records_of_a_greeting(proxy: &Proxy, name: &str) -> Vec<usize> {
    let wire = std::sync::Arc::default();
    let context = support::stacks::context(|context| {
        support::stacks::old(context, Version::Tls1_0, "AES128-SHA");
        // An old client does not ask for it, as today's OpenSSL does by default.
        context.clear_options(openssl::ssl::SslOptions::from_bits_retain(1 << 19));
    });
    let tap = Tap { stream: support::device::tcp(proxy.address(name)), wire: std::sync::Arc::clone(&wire) };
    let stream = openssl::ssl::Ssl::new(&context).unwrap().connect(tap).unwrap();
    Imap::greeted(Device::over(stream)).ok("LOGOUT");
    let wire = wire.lock().unwrap();
    let (mut at, mut lengths) = (0, Vec::new());
    while let [kind, _, _, high, low] = wire[at..][..5.min(wire.len() - at)] {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == 23 {
            lengths.push(length);
        }
        at += 5 + length;
    }
    lengths
}

/// By default a greeting is one record, with the MAC inside the blocks of 16. The keys switch either behaviour on.
#[test]
fn empty_fragments_and_encrypt_then_mac_are_as_the_listener_says() {
    let proxy = Proxy::start(
        &(listener("plain", "imap", "implicit", "")
            + &listener("fragments", "imap", "implicit", "empty_fragments = true")
            + &listener("etm", "imap", "implicit", "encrypt_then_mac = true")),
    );
    let plain = records_of_a_greeting(&proxy, "plain");
    assert!(plain.iter().all(|length| length % 16 == 0 && *length > 32), "{plain:?}");
    let fragments = records_of_a_greeting(&proxy, "fragments");
    assert_eq!(fragments.iter().filter(|length| **length == 32).count(), plain.len(), "{fragments:?}");
    let etm = records_of_a_greeting(&proxy, "etm");
    assert!(etm.iter().all(|length| length % 16 == 4), "{etm:?}");
}

#[test]
fn a_device_may_not_renegotiate_or_compress() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use support::process::{Lines, Process};
    let proxy = Proxy::start(&listener("imap", "imap", "implicit", ""));
    let mut device = Process::start(
        Command::new("openssl")
            .args(["s_client", "-connect", &proxy.address("imap").to_string(), "-tls1", "-comp"])
            .args(["-cipher", "AES128-SHA:@SECLEVEL=0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let (said, failed) = (Lines::of(device.0.stdout.take().unwrap()), Lines::of(device.0.stderr.take().unwrap()));
    said.wait_for("greeting", |line| line.contains("packetboat ready"));
    said.wait_for("compression", |line| line == "Compression: NONE");
    said.wait_for("secure renegotiation", |line| line == "Secure Renegotiation IS supported");
    device.0.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    failed.wait_for("refusal", |line| line.contains("no renegotiation"));
}

/// The server has addresses of both families, of which one answers.
#[test]
fn ipv4_and_ipv6_fall_back_on_each_other() {
    use std::io::Write;
    use support::server;
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let both = upstreams(&dovecot).replace("host = \"127.0.0.1\"", "host = \"localhost\"");
    let six = server::plain_at("[::1]:0", |mut stream| {
        let _ = stream.write_all(b"* BYE over IPv6\r\n");
    });
    let proxy = Proxy::start(&format!(
        "{both}[upstream.six]\nhost = \"::1\"\nimap_port = {six}\nsecurity = \"starttls\"\n{}{}",
        listener("imap", "imap", "implicit", "upstream = \"implicit\"").replace("127.0.0.1:0", "[::1]:0"),
        listener("six", "imap", "implicit", "upstream = \"six\""),
    ));
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    imap.ok("LOGOUT");
    let mut imap = proxy.imap("six");
    assert!(status(&imap.command("LOGIN a b")).starts_with("NO [UNAVAILABLE]"));
    proxy.log.wait_for("greeting", |line| line.contains("BYE over IPv6"));
}
