//! Strangers, from many addresses, fill what can be filled: a device that has logged in before is served all the same.

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

/// A proxy with these limits and a listener named `clear`.
fn proxy(exchange: &Exchange, limits: &str, more: &str) -> Proxy {
    let clear = translating_listener("clear", "imap", "starttls", CLEAR);
    exchange.proxy(&format!("[limits]\n{limits}\n{}{clear}{more}", exchange.configuration(BY_SECRET)))
}

/// Goes in, by this connection, and out.
fn visit(stream: Socket) {
    let mut device = Imap::greeted(Device::over(stream));
    device.login(LOGIN, PASSWORD);
    device.ok("LOGOUT");
}

/// The first line that a device hears which says this.
fn heard(mut stream: impl Read + Write + Send + 'static, says: &str) -> String {
    stream.write_all(says.as_bytes()).unwrap();
    let mut device = Device::over(stream);
    device.try_line().map_or_else(String::new, |line| String::from_utf8(line).unwrap())
}

/// A wrong password gives nobody more than twice the time to log in, however many there are: one after the other, or all sent
/// at once.
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

/// Twice the time to log in, the last login, and a slow machine.
const LONGEST: Duration = Duration::from_secs(15);

/// The last quarter of the connections is for sources that a device has logged in from: by themselves, or by the word of a
/// balancer. A session that is logged in is no stranger's.
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
    // One is logged in from where nobody else was: it takes nothing of what strangers have.
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

/// A mail server has few connections for those who have not logged in. Strangers, from however many addresses, have some of
/// them; a device that it has let in before goes on to log in.
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
            // It takes its time over a wrong one.
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
    // The others are told in time, and that it is for the moment.
    proxy.logs(56, "login failed: password was not verified: 64 logins that were never let in from their source");
    assert_eq!(seen.load(Ordering::Relaxed), 64);
    visit(tcp_from(known, to));
    drop(crowd);
}

/// Where logins are passed through, the server sees no more guesses than packetboat itself would look at; a device that
/// it has let in does not notice.
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
        // Four connections of one source that tries many logins, and sixteen sources that try the device's.
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
        // 0.5 s, 1 s, 2 s and on, behind a first one of each source, and what four begin at once.
        assert!((20..=20 + 2 * 5).contains(&seen), "the server has seen {seen} wrong passwords within 5 s");
        longest
    });
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
