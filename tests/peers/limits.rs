//! These tests prove the limits by source against the binary: IPv6 networks, bursts of wrong passwords, devices behind
//! one address.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::certificates::Certificates;
use support::connection::Socket;
use support::device::{Device, tcp, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD};
use support::imap::{Imap, status};
use support::network;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, translating_listener, upstream};
use support::server;
use support::translated::device;

const OBSERVED: &str = "observe = true\nallowed_networks = [\"127.0.0.0/8\", \"2001:db8::/32\", \"::1/128\"]\n";

/// Gives this thread and its children a network in which this host owns all of 2001:db8::/32.
fn own_network() {
    network::alone();
    network::over_here("-6 route add local 2001:db8::/32 dev lo");
    std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
}

/// Whether a device gets a greeting, and is neither refused nor closed.
fn is_greeted(device: &mut Device) -> bool {
    device.try_line().is_some_and(|line| line.starts_with(b"* OK "))
}

/// A host with one IPv6 network has 2^64 addresses, and counts as one source.
#[test]
fn a_network_of_ipv6_is_one_source() {
    own_network();
    let [port] = support::free_ports();
    let proxy = Proxy::start(&format!(
        "[limits]\nconnections_per_source = 5\n\
         [[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"[::]:{port}\"]\nentry = \"starttls\"\n{OBSERVED}"
    ));
    let to = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), proxy.address("imap").port()));
    let from = |network: u16, host: u16| {
        Device::over(tcp_from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, host, 7, 7, host), to))
    };
    let (mut greeted, begun) = (Vec::new(), Instant::now());
    for host in 1..=500 {
        let mut device = from(7, host);
        if is_greeted(&mut device) {
            greeted.push(device);
        }
    }
    assert_eq!(greeted.len(), 5);
    assert!(is_greeted(&mut from(8, 1)), "another network");
    let line = proxy.log.wait_for("refusal", |line| line.contains("too_many_from_source"));
    assert!(line.contains("limits.connections_per_source = 5, for an IPv6 /64 network"), "{line}");
    // The rate allows a minute's worth at once, and then five lines a second (log.lines_per_minute_of_source = 300).
    let lines = proxy.log.count(|line| line.contains("\"refused: "));
    let most = 301 + (begun.elapsed().as_secs_f64() * 5.0).ceil() as usize;
    assert!(lines <= most, "{lines} lines about one source, of {most}");
}

/// The limit is the same where a balancer names the sources.
#[test]
fn a_network_of_ipv6_is_one_source_behind_a_balancer() {
    let more = format!("proxy_protocol = [\"127.0.0.1/32\"]\n{OBSERVED}");
    let limits = "[limits]\nconnections_per_source = 3\n";
    let proxy = Proxy::start(&(limits.to_owned() + &translating_listener("imap", "imap", "starttls", &more)));
    let greeted: Vec<Device> = (1..=20)
        .filter_map(|host| {
            let mut stream = tcp(proxy.address("imap"));
            stream.write_all(format!("PROXY TCP6 2001:db8::{host:x} 2001:db8:1::1 4711 143\r\n").as_bytes()).unwrap();
            let mut device = Device::over(stream);
            is_greeted(&mut device).then_some(device)
        })
        .collect();
    assert_eq!(greeted.len(), 3);
}

/// The number of wrong tries of one login that may have begun. At first there are as many as passwords are verified at
/// a time; then delays of 1 s and 2 s follow.
fn begun_within(elapsed: Duration) -> usize {
    let since = [0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0];
    since.iter().filter(|since| **since <= elapsed.as_secs_f64()).count()
}

/// Sends these logins at the same moment, each on a connection of its own; returns the answers.
fn at_once(proxy: &Proxy, logins: &[String]) -> Vec<String> {
    let mut devices: Vec<Imap> = logins.iter().map(|_| exchange::imap(proxy)).collect();
    for (device, login) in devices.iter_mut().zip(logins) {
        device.device.send(format!("t {login}\r\n"));
    }
    devices.iter_mut().map(|device| status(&device.answer("t"))).collect()
}

#[test]
fn a_burst_of_wrong_passwords_is_held_to_the_rate() {
    let exchange = Exchange::new();
    let limits = "[limits]\nfailure_delay = \"500ms\"\nlongest_failure_delay = \"2s\"\n";
    let proxy = exchange.proxy(&(limits.to_owned() + &exchange.configuration(BY_SECRET)));
    let guesses: Vec<String> = (0..30).map(|number| format!("LOGIN {LOGIN} guess{number}")).collect();
    let begun = Instant::now();
    let answers = at_once(&proxy, &guesses);
    let told = |code: &str| answers.iter().filter(|answer| answer.starts_with(&format!("NO [{code}]"))).count();
    let lines = |text: &str| proxy.log.count(|line| line.contains("login failed") && line.contains(text));
    proxy.logs(30, "login failed");
    let (looked_at, not) = (lines("the password is not one of device"), lines("too many wrong passwords of late"));
    assert_eq!(looked_at + not, 30);
    assert!((1..=begun_within(begun.elapsed())).contains(&looked_at), "{looked_at} in {:?}", begun.elapsed());
    // A password that was not verified is never called wrong.
    assert_eq!((told("AUTHENTICATIONFAILED"), told("UNAVAILABLE")), (looked_at, not), "{answers:?}");
    let mut pop3: Vec<_> = (0..12).map(|_| exchange::pop3(&proxy)).collect();
    pop3.iter_mut().for_each(|one| one.device.send("USER nobody\r\nPASS guess\r\n"));
    let answers: Vec<String> = pop3.iter_mut().map(|one| [one.device.line(), one.device.line()][1].clone()).collect();
    let of = |code: &str| answers.iter().filter(|answer| answer.starts_with(&format!("-ERR [{code}]"))).count();
    assert!(of("SYS/TEMP") > 0 && of("AUTH") + of("SYS/TEMP") == 12, "{answers:?}");
    let (looked_at, not) = (looked_at + of("AUTH"), not + of("SYS/TEMP"));
    let metrics = proxy.get("/metrics");
    for (reason, count) in [("wrong_password", looked_at), ("not_verified", not)] {
        let of = |listener: &str| {
            let name = format!("packetboat_login_failures_total{{listener=\"{listener}\",reason=\"{reason}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0, |count| count.parse().unwrap())
        };
        assert_eq!(of("imap") + of("pop3"), count, "{reason}");
    }
    // The device itself, which no source remembers, logs in once a delay is over.
    assert!(exchange::imap_login(&proxy).starts_with("OK"));
}

/// A constant guesser of a login, elsewhere, does not lock out the device that has the password.
#[test]
fn a_guesser_does_not_keep_the_device_out() {
    let exchange = Exchange::new();
    let limits = "[limits]\nfailure_delay = \"1s\"\nlongest_failure_delay = \"2s\"\n";
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
    let clear = translating_listener("clear", "imap", "starttls", clear);
    let proxy = exchange.proxy(&(limits.to_owned() + &exchange.configuration(BY_SECRET) + &clear));
    let address = proxy.address("clear");
    let from = move |last: u8| Imap::greeted(Device::over(tcp_from(Ipv4Addr::new(127, 0, 0, last), address)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut guesser = from(2);
                while !stop.load(Ordering::Relaxed) {
                    guesser.command(&format!("LOGIN {LOGIN} guess"));
                }
            });
        }
        proxy.logs(6, "login failed");
        let answer = status(&from(3).command(&format!("LOGIN {LOGIN} {PASSWORD}")));
        stop.store(true, Ordering::Relaxed);
        assert!(answer.starts_with("OK"), "{answer}");
    });
}

/// Twelve devices behind one address (a NAT, a balancer) start when the power returns.
#[test]
fn devices_behind_one_address_are_in_at_once() {
    let exchange = Exchange::new();
    let others: String = (0..12).map(|number| device(&format!("mfp{number}"), "scans", PASSWORD, "")).collect();
    let limits = "[limits]\nsessions_per_mailbox = 16\n";
    let proxy = exchange.proxy(&(limits.to_owned() + &exchange.configuration(BY_SECRET) + &others));
    let logins: Vec<String> = (0..12).map(|number| format!("LOGIN mfp{number} {PASSWORD}")).collect();
    let answers = at_once(&proxy, &logins);
    assert!(answers.iter().all(|answer| answer.starts_with("OK")), "{answers:?}");
}

/// A device that sends Latin-1 or Windows-1252 logs in with the same name and password.
#[test]
fn passwords_and_logins_in_latin_1() {
    let exchange = Exchange::new();
    let (utf8, latin) = ("M\u{fc}ller7\u{a3}\u{20ac}".as_bytes(), b"M\xfcller7\xa3\x80".as_slice());
    let device = |login: &str, password: &[u8]| {
        let hash = packetboat::device::password::hash(password).unwrap();
        format!("[[device]]\nlogin = \"{login}\"\npasswords = [\"{hash}\"]\naccount = \"scans\"\n")
    };
    let devices = device("f\u{fc}nf", utf8) + &device("typed", utf8) + &device("by-another-program", latin);
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + &devices));
    let names = ["f\u{fc}nf".as_bytes(), b"F\xdcNF", b"typed", b"by-another-program"];
    for (name, password) in names.iter().flat_map(|name| [(name, utf8), (name, latin)]) {
        let plain = openssl::base64::encode_block(&[b"\0", *name, b"\0", password].concat());
        let command = [
            [b"t LOGIN \"".as_slice(), name, b"\" \"", password, b"\"\r\n"].concat(),
            [b"t LOGIN \"".as_slice(), name, format!("\" {{{}+}}\r\n", password.len()).as_bytes(), password, b"\r\n"]
                .concat(),
            format!("t AUTHENTICATE PLAIN {plain}\r\n").into_bytes(),
        ];
        for command in command {
            let mut imap = exchange::imap(&proxy);
            imap.device.send(&command);
            let answer = status(&imap.answer("t"));
            assert!(answer.starts_with("OK"), "{}: {answer}", String::from_utf8_lossy(&command));
        }
        let mut pop3 = exchange::pop3(&proxy);
        pop3.device.send([b"USER ".as_slice(), name, b"\r\nPASS ", password, b"\r\n"].concat());
        assert!(pop3.device.line().starts_with("+OK") && pop3.device.line().starts_with("+OK"));
    }
    let wrong = at_once(&proxy, &["LOGIN typed \"Muller7\"".to_owned()]);
    assert!(wrong[0].starts_with("NO [AUTHENTICATIONFAILED]"), "{wrong:?}");
}

/// The server of a pass-through login gets the device's own octets, because the character set is the server's decision.
#[test]
fn a_password_that_is_passed_through_is_not_read() {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let (sender, heard) = std::sync::mpsc::channel();
    let port = server::tls(&certificates, openssl::ssl::SslVersion::TLS1_3, move |mut stream| {
        stream.write_all(b"* OK ready\r\n").unwrap();
        assert_eq!(server::hear(&mut stream), "P2 LOGIN \"u\" {7}\r\n");
        stream.write_all(b"+ go on\r\n").unwrap();
        let mut password = [0; 7];
        stream.read_exact(&mut password).unwrap();
        sender.send(password).unwrap();
        server::say(stream, "\r\nP2 NO [AUTHENTICATIONFAILED] no\r\n");
    });
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
    let upstream = upstream("x", [port; 2], directory.path(), "");
    let proxy = Proxy::start(&(upstream + &listener("imap", "imap", "starttls", clear)));
    let mut device = Imap::greeted(Device::plain(proxy.address("imap")));
    device.device.send(b"t LOGIN u \"M\xfcller\xa3\"\r\n");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), *b"M\xfcller\xa3");
    assert!(status(&device.answer("t")).starts_with("NO "));
}

/// An authorization identity that is another name of the same device changes nothing; any other is refused (RFC 4616
/// §2).
#[test]
fn authorization_identities_of_the_device_itself() {
    let exchange = Exchange::new();
    let more = "aliases = [\"scan-to-mail@contoso.example\"]\n";
    let other = device("other", "scans", PASSWORD, "");
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + more + &other));
    let plain = |acts_as: &str, login: &str| {
        openssl::base64::encode_block(format!("{acts_as}\0{login}\0{PASSWORD}").as_bytes())
    };
    let (alias, old_form) = ("scan-to-mail@contoso.example", "scan-to-mail@CONTOSO.example\\scan");
    for (acts_as, login, is_own) in [
        ("", LOGIN, true),
        (alias, LOGIN, true),
        (" SCANNER3 ", alias, true),
        (old_form, "scanner3/scan", true),
        ("Scan@contoso.example ", " scanner3", true),
        ("other", LOGIN, false),
        (LOGIN, "other", false),
        ("boss@contoso.example", LOGIN, false),
        ("scanner3/boss", LOGIN, false),
    ] {
        let ir = plain(acts_as, login);
        let one = status(&exchange::imap(&proxy).command(&format!("AUTHENTICATE PLAIN {ir}")));
        let mut imap = exchange::imap(&proxy);
        imap.device.send("t AUTHENTICATE PLAIN\r\n");
        imap.device.line();
        imap.device.send(format!("{ir}\r\n"));
        let two = status(&imap.answer("t"));
        let mut pop3 = exchange::pop3(&proxy);
        let three = pop3.command(&format!("AUTH PLAIN {ir}"));
        let are_in = [one.starts_with("OK"), two.starts_with("OK"), three.starts_with("+OK")];
        assert_eq!(are_in, [is_own; 3], "{login:?} as {acts_as:?}: {one} {two} {three}");
    }
    let names = proxy.status()["devices"].to_string();
    assert!(!names.contains("boss"), "{names}");
}

/// Sends these octets; returns the reply up to the end of the connection. A reset is a failure.
fn heard(mut stream: impl Read + Write, says: &[u8]) -> String {
    stream.write_all(says).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap_or_else(|error| panic!("{error}, behind {heard:?}"));
    heard
}

/// A device over a limit gets the reason where it would have been greeted in clear.
#[test]
fn a_refused_device_is_told_why() {
    let listener = |name: &str, protocol: &str, entry: &str, more: &str| {
        translating_listener(name, protocol, entry, &format!("detect_delay = \"200ms\"\n{OBSERVED}{more}"))
    };
    // Strangers may have four of the six connections.
    let limits = "[limits]\nconnections_per_source = 2\nconnections = 6\n";
    let proxy = Proxy::start(
        &(limits.to_owned()
            + &translating_listener("imap", "imap", "starttls", OBSERVED)
            + &translating_listener("pop3", "pop3", "plaintext", &format!("allow_plaintext = true\n{OBSERVED}"))
            + &translating_listener("implicit", "imap", "implicit", OBSERVED)
            + &listener("auto", "imap", "auto", "")
            + &listener("balanced", "pop3", "auto", "proxy_protocol = [\"127.0.0.1/32\"]\n")),
    );
    let greeted = |name: &str| {
        let mut device = Device::plain(proxy.address(name));
        assert!(is_greeted(&mut device));
        device
    };
    let _both = [greeted("imap"), greeted("auto")];
    let from_source = "too many connections from this source\r\n";
    let (bye, err) = (format!("* BYE {from_source}"), format!("-ERR {from_source}"));
    let hello = b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x01";
    for (name, says, hears) in [
        ("imap", &b""[..], bye.as_str()),
        // Octets sent before the greeting do not turn the end into a reset.
        ("imap", b"a CAPABILITY\r\nb LOGIN scanner3 k7m2xp9at\r\n", &bye),
        ("pop3", b"", &err),
        ("pop3", b"USER scanner3\r\n", &err),
        ("auto", b"", &bye),
        ("auto", b"a CAPABILITY\r\n", &bye),
    ] {
        assert_eq!(heard(tcp(proxy.address(name)), says), hears, "{name}, behind {says:?}");
    }
    // Before TLS the proxy can send no reason.
    assert_eq!(heard(tcp(proxy.address("implicit")), b""), "");
    let mut begins = tcp(proxy.address("auto"));
    begins.write_all(hello).unwrap();
    begins.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(Device::over(begins).has_ended(), "no words in clear where TLS begins");
    // A device behind a balancer gets the reason, too, also when the limit of all connections is reached.
    let announced = |source: &str| {
        heard(tcp(proxy.address("balanced")), format!("PROXY TCP4 {source} 127.0.0.1 4711 110\r\n").as_bytes())
    };
    assert_eq!(announced("127.0.0.1"), err);
    let mut more: Vec<Socket> = (0..2)
        .map(|_| {
            let mut stream = tcp(proxy.address("balanced"));
            stream.write_all(b"PROXY TCP4 127.0.0.9 127.0.0.1 4711 110\r\n").unwrap();
            stream
        })
        .collect();
    more.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 4]).unwrap());
    let stranger = |name: &str| heard(tcp_from(Ipv4Addr::new(127, 0, 0, 7), proxy.address(name)), b"");
    assert_eq!(stranger("imap"), "* BYE too many connections\r\n");
    assert_eq!(stranger("pop3"), "-ERR too many connections\r\n");
    assert_eq!(announced("127.0.0.8"), "-ERR too many connections\r\n");
    // Silent connections fill the remaining places, and exceed the limit by two.
    let _silent = [(); 4].map(|()| tcp(proxy.address("balanced")));
    proxy.log.wait_for("refusal", |line| line.contains("refused: too many connections: limits.connections = 6\""));
    let mut unread = tcp(proxy.address("balanced"));
    unread.write_all(b"PROXY TCP4 127.0.0.8 127.0.0.1 4711 110\r\n").unwrap();
    assert!(Device::over(unread).has_ended(), "its header is not read, and what follows may be TLS");
    // The refusal appears in the log, in metrics and on the page.
    proxy.logs(9, "refused: too many connections from this source: limits.connections_per_source = 2");
    assert!(proxy.get("/metrics").contains("refused_total{listener=\"auto\",reason=\"too_many_from_source\"} 3"));
    let devices = proxy.status()["devices"].clone();
    let own = devices.as_array().unwrap().iter().filter(|device| device["source"] == "127.0.0.1");
    let failures: Vec<String> = own.map(|device| device["failure"].to_string()).collect();
    assert!(failures.iter().any(|failure| failure.contains("limits.connections")), "{devices}");
}

/// A source that is refused again and again, and never closes, holds only a few files, for two seconds.
#[test]
fn a_flood_of_refused_connections_ties_nothing_up() {
    let proxy = Proxy::start(
        &("[limits]\nconnections_per_source = 2\n".to_owned()
            + &translating_listener("auto", "imap", "auto", OBSERVED)
            + &translating_listener("imap", "imap", "starttls", OBSERVED)),
    );
    let mut both = [(); 2].map(|()| Imap::greeted(Device::plain(proxy.address("imap"))));
    let files = proxy.process.open_files();
    let mut crowd: Vec<Socket> = (0..400).map(|number| tcp(proxy.address(["auto", "imap"][number % 2]))).collect();
    proxy.logs(300, "refused: too many connections from this source");
    let most = proxy.process.open_files();
    assert!(most <= files + 64 + 8, "{most} open files, and {files} before");
    both.iter_mut().for_each(|device| drop(device.ok("NOOP")));
    // The proxy closes each of them, whether or not the device does.
    for stream in &mut crowd {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    proxy.until_files(files);
}
