//! These tests prove that strangers from many addresses, who fill every limit, do not affect a device that has logged
//! in before.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::certificates::Certificates;
use support::connection::{Socket, TlsStream};
use support::device::{Device, tcp, tcp_from};
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD};
use support::guessers::stranger;
use support::imap::Imap;
use support::proxy::{Proxy, listener, translating_listener, upstream};
use support::server;
use support::strain::until;

const CLEAR: &str = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";

/// Starts a proxy with these limits and a listener named `clear`.
fn proxy(exchange: &Exchange, limits: &str, more: &str) -> Proxy {
    let clear = translating_listener("clear", "imap", "starttls", CLEAR);
    exchange.proxy(&format!("[limits]\n{limits}\n{}{clear}{more}", exchange.configuration(BY_SECRET)))
}

/// Logs in over this connection, and out.
fn visit(stream: Socket) {
    let mut device = Imap::greeted(Device::over(stream));
    device.login(LOGIN, PASSWORD);
    device.ok("LOGOUT");
}

/// The first line from the proxy that contains this text.
fn heard(mut stream: impl Read + Write + Send + 'static, says: &str) -> String {
    stream.write_all(says.as_bytes()).unwrap();
    let mut device = Device::over(stream);
    device.try_line().map_or_else(String::new, |line| String::from_utf8(line).unwrap())
}

/// Wrong passwords give a connection at most twice the time to log in, whether they come one after the other or at
/// once.
#[test]
fn wrong_passwords_keep_no_connection_open() {
    let exchange = Exchange::new();
    let limits = "login_timeout = \"2s\"\nfailure_delay = \"100ms\"\nlongest_failure_delay = \"500ms\"";
    let proxy = proxy(&exchange, limits, "");
    let to = proxy.address("clear");
    let begun = Instant::now();
    let is_over = |number: usize, at_once: bool| {
        let mut stream = tcp_from(stranger(number / 4), to);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        if at_once {
            let logins = format!("a LOGIN guess{number} wrong\r\n").repeat(2000);
            let _ = stream.write_all(logins.as_bytes());
        }
        let mut answer = [0; 1024];
        while begun.elapsed() < LONGEST {
            if !at_once && stream.write_all(format!("a LOGIN guess{number} wrong\r\n").as_bytes()).is_err() {
                return true;
            }
            match stream.read(&mut answer) {
                Ok(0) => return true,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
                Ok(_) | Err(_) => {}
            }
        }
        false
    };
    let left = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..40).map(|number| scope.spawn(move || is_over(number, number % 4 == 0))).collect();
        guessers.into_iter().map(|guesser| guesser.join().unwrap()).filter(|is_over| !is_over).count()
    });
    assert_eq!(left, 0, "of 40 are open after {LONGEST:?}");
    let line = proxy.log.wait_for("end", |line| line.contains("session ended") && line.contains("login_timeout"));
    assert!(line.contains("limits.login_timeout = 2s"), "{line}");
}

/// The bound: twice the time to log in, the last login, and a slow machine.
const LONGEST: Duration = Duration::from_secs(15);

/// The last quarter of the connections is for sources with an earlier login, direct or through a balancer. A logged-in
/// session is not a stranger's.
#[test]
fn strangers_leave_connections_to_sources_that_have_logged_in() {
    let exchange = Exchange::new();
    let balanced = format!("{CLEAR}proxy_protocol = [\"127.0.0.1/32\"]\n");
    let balanced = translating_listener("balanced", "imap", "starttls", &balanced);
    let proxy = proxy(&exchange, "connections = 20", &balanced);
    let (clear, known) = (proxy.address("clear"), Ipv4Addr::new(127, 0, 0, 9));
    let announced = |source: &str| {
        let mut stream = tcp(proxy.address("balanced"));
        stream.write_all(format!("PROXY TCP4 {source} 127.0.0.1 4711 143\r\n").as_bytes()).unwrap();
        stream
    };
    visit(tcp_from(known, clear));
    visit(announced("10.0.0.1"));
    // A session from a new source takes no place from the strangers once it has logged in.
    let mut session = Imap::greeted(Device::over(tcp_from(Ipv4Addr::new(127, 0, 0, 8), clear)));
    session.login(LOGIN, PASSWORD);
    let crowd: Vec<(String, Socket)> = (0..40)
        .map(|number| {
            let stream = tcp_from(stranger(number), clear);
            (heard(stream.try_clone().unwrap(), ""), stream)
        })
        .collect();
    let greeted = crowd.iter().filter(|(line, _)| line.starts_with("* OK ")).count();
    assert_eq!(greeted, 15, "three quarters of 20");
    assert!(crowd[39].0.starts_with("* BYE too many connections"), "{}", crowd[39].0);
    let line = proxy.log.wait_for("refusal", |line| line.contains("too_many_connections"));
    assert!(line.contains("limits.connections = 20, of which 5 are kept for sources that have logged in"), "{line}");
    assert!(heard(announced("10.0.0.2"), "").starts_with("* BYE "), "a stranger behind a balancer");
    for _ in 0..3 {
        visit(tcp_from(known, clear));
        visit(announced("10.0.0.1"));
    }
    session.ok("NOOP");
    drop(crowd);
}

/// A proxy with this section of limits, whose listener `imap` is in clear, in front of a mail server by this function.
fn passing(limits: &str, serve: impl Fn(TlsStream) + Clone + Send + 'static) -> Proxy {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let port = server::threads(&certificates, serve);
    let upstream = upstream("x", [port; 2], directory.path(), "");
    Proxy::start(&format!("{limits}{upstream}{}", listener("imap", "imap", "starttls", CLEAR)))
}

/// Few connections to a mail server are for devices without a login. Strangers get some of them; a device with an
/// earlier login still logs in.
#[test]
fn strangers_have_a_few_connections_to_the_mail_server() {
    let logins = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&logins);
    let proxy = passing("", move |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        let mut is_guessed = false;
        server::answer_by(&mut stream, |command| {
            is_guessed = command.contains("LOGIN") && !command.contains(PASSWORD);
            (!is_guessed).then_some("OK done")
        });
        if is_guessed {
            // The server takes its time over a wrong password.
            logins.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0]);
        }
    });
    let (to, known) = (proxy.address("imap"), Ipv4Addr::new(127, 0, 0, 9));
    visit(tcp_from(known, to));
    let crowd: Vec<Socket> = (0..120)
        .map(|number| {
            let mut stream = tcp_from(stranger(number), to);
            stream.write_all(format!("a LOGIN guess{number} wrong\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    until("the server has seen 64 logins", || seen.load(Ordering::Relaxed) >= 64);
    visit(tcp_from(known, to));
    // The others are refused in time, as a temporary failure.
    proxy.logs(56, "login failed: password was not verified: 64 logins that were never let in from their source");
    assert_eq!(seen.load(Ordering::Relaxed), 64);
    visit(tcp_from(known, to));
    drop(crowd);
}

/// On pass-through listeners the server gets no more guesses than packetboat itself would verify. A device with an
/// earlier login notices nothing.
#[test]
fn guesses_that_are_passed_through_are_held_to_the_rate() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let proxy = passing("[limits]\nlongest_failure_delay = \"2s\"\n", move |stream| {
        server::judge(stream, PASSWORD, || _ = count.fetch_add(1, Ordering::Relaxed));
    });
    let (to, known) = (proxy.address("imap"), Ipv4Addr::new(127, 0, 0, 9));
    let stop = AtomicBool::new(false);
    visit(tcp_from(known, to));
    let longest = std::thread::scope(|scope| {
        // One source tries many logins on four connections, and sixteen sources try the device's.
        for number in 0..20 {
            let stop = &stop;
            scope.spawn(move || {
                let (source, is_one) = (if number < 4 { 0 } else { number }, number < 4);
                let mut guesser = Imap::greeted(Device::over(tcp_from(stranger(source), to)));
                for guess in 0.. {
                    let login = if is_one { format!("guess{number}-{guess}") } else { LOGIN.to_owned() };
                    let answer = guesser.command(&format!("LOGIN {login} wrong"));
                    if stop.load(Ordering::Relaxed) {
                        return answer;
                    }
                }
                unreachable!()
            });
        }
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(5) {
            let came = Instant::now();
            visit(tcp_from(known, to));
            longest = longest.max(came.elapsed());
        }
        let seen = refused.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        // Delays of 0.5 s, 1 s, 2 s and so on follow the first guess of each source; four may begin at once.
        assert!((20..=20 + 2 * 5).contains(&seen), "the server has seen {seen} wrong passwords within 5 s");
        longest
    });
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
