//! These tests prove that the promised time-outs also end a peer that never stops sending, and that others are served
//! meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::peer::{Peer, accept};
use crate::setup;
use support::certificates::Certificates;
use support::device::{Device, tcp};
use support::imap::{Imap, status};
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, upstream};
use support::strain::until;

/// Writes these octets again and again, and reads all replies, until the other side ends the connection. `written`
/// counts the octets.
fn flood(stream: &TcpStream, words: &[u8], written: &Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let (mut writer, mut reader) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    let chunk = words.repeat((64 * 1024 / words.len()).max(1));
    let written = Arc::clone(written);
    thread::spawn(move || {
        let reading = thread::spawn(move || {
            let mut sink = vec![0; 1 << 20];
            while matches!(reader.read(&mut sink), Ok(1..)) {}
            // The reader shuts the connection down, so that the writer stops, too.
            let _ = reader.shutdown(Shutdown::Both);
        });
        while writer.write_all(&chunk).is_ok() {
            written.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        reading.join().unwrap();
    })
}

/// Listeners in clear, named by their protocol, in front of this upstream.
fn in_clear(limits: &str, upstream: &str) -> Proxy {
    let entry = |protocol| {
        listener(protocol, protocol, "plaintext", "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]")
    };
    Proxy::start(&format!("[limits]\n{limits}\n{upstream}{}{}", entry("imap"), entry("pop3")))
}

/// The test runs more flooding devices than worker threads. None of them ever makes the proxy wait.
#[test]
fn devices_that_talk_without_end_are_out_of_time_like_others() {
    let proxy = in_clear("login_timeout = \"3s\"", "[upstream.x]\nhost = \"127.0.0.1\"\n");
    let written = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let floods: Vec<_> = [("imap", "a NOOP\r\n"), ("pop3", "NOOP\r\n")]
        .repeat(4)
        .iter()
        .map(|(name, words)| flood(&tcp(proxy.address(name)), words.as_bytes(), &written))
        .collect();
    // Other devices are served meanwhile.
    let mut served = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let mut device = Imap::greeted(Device::plain(proxy.address("imap")));
        device.ok("LOGOUT");
        served += 1;
    }
    for one in floods {
        one.join().unwrap();
    }
    let took = begun.elapsed();
    println!(
        "8 floods of {} KiB ended after {took:.1?}; {served} others were served",
        written.load(Ordering::Relaxed) / 1024
    );
    assert!(took < PATIENCE / 2, "they had their way for {took:?}");
    let ended = |line: &str| line.contains("session ended") && line.contains("\"login_timeout\"");
    until("8 lines", || proxy.log.count(ended) >= 8);
}

/// The server sends meaningless lines where the proxy waits for the answer to STARTTLS.
#[test]
fn a_server_that_talks_without_end_is_out_of_time_like_others() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let upstream = format!("[upstream.x]\nhost = \"127.0.0.1\"\nimap_port = {port}\nsecurity = \"starttls\"\n");
    let proxy = in_clear("upstream_login_timeout = \"1s\"", &upstream);
    let mut device = Imap::greeted(Device::plain(proxy.address("imap")));
    device.device.send("a LOGIN u p\r\n");
    let stream = accept(&server).unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let flood = flood(&stream, b"* OK still here\r\n", &written);
    assert!(status(&device.answer("a")).starts_with("NO [UNAVAILABLE]"));
    flood.join().unwrap();
    println!("a flood of {} KiB ended after {:.1?}", written.load(Ordering::Relaxed) / 1024, begun.elapsed());
    assert!(begun.elapsed() < PATIENCE / 2);
    proxy.log.wait_for("reason", |line| line.contains("login failed") && line.contains("\"upstream_timeout\""));
}

/// SIGTERM comes in the middle of a relay that never pauses.
#[test]
fn the_end_comes_in_the_middle_of_a_flood() {
    let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut proxy = in_clear("drain_timeout = \"1s\"", &upstream("x", [port; 2], directory.path(), ""));
    let context = setup::server(&certificates);
    let mut stream = tcp(proxy.address("imap"));
    let playing = thread::spawn(move || {
        let mut peer = Peer::over(accept(&server).unwrap());
        peer.shake_as_server(&context).unwrap();
        peer.send("* OK ready\r\n");
        peer.line_with("P2 LOGIN").unwrap();
        peer.send("P2 OK in\r\n");
        let chunk = b"* 1 FETCH (FLAGS (\\Seen))\r\n".repeat(600);
        while peer.try_send(&chunk).is_ok() {
            peer.said.clear();
        }
    });
    stream.write_all(b"a LOGIN u p\r\n").unwrap();
    let mut sink = vec![0; 1 << 20];
    let mut heard = 0;
    while heard < 1 << 20 {
        heard += stream.read(&mut sink).unwrap();
    }
    proxy.process.signal("TERM");
    while let Ok(count @ 1..) = stream.read(&mut sink) {
        heard += count;
    }
    assert!(proxy.process.wait().success());
    assert_eq!(proxy.session_line("imap")["reason"], "drained");
    println!("drained behind {} KiB", heard / 1024);
    playing.join().unwrap();
}
