//! These tests prove that storms inside TLS (renegotiations, alerts, empty records) cost next to nothing, and delay no
//! other device.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::peer::{Peer, client_hello};
use support::device::Device;
use support::imap::Imap;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener};
use support::record::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, TLS1_2};
use support::stacks::{Start, Version, old, openssl};
use support::tls_client::{Client, RSA_SHA};

fn proxy() -> Proxy {
    Proxy::start_at("debug", &(listener("imap", "imap", "implicit", "") + &listener("pop3", "pop3", "implicit", "")))
}

/// The device sends a thousand ClientHellos after the handshake. A warning refuses each, the session goes on, and the
/// proxy pays for no second handshake.
#[test]
fn a_storm_of_renegotiations_is_refused_for_next_to_nothing() {
    let proxy = proxy();
    let mut device = Client::connect(proxy.address("imap"), TLS1_2, RSA_SHA);
    assert_eq!(device.receive().unwrap().0, DATA, "the greeting");
    let before = proxy.process.processor();
    let hello = device.hello.message();
    for _ in 0..STORM {
        device.send(HANDSHAKE, &hello);
        // The reply is no_renegotiation as a warning (RFC 5246 §7.2.2), and never a ServerHello.
        assert_eq!(device.receive().unwrap(), (ALERT, vec![1, 100]));
    }
    let spent = proxy.process.processor() - before;
    device.send(DATA, b"a NOOP\r\n");
    assert_eq!(device.receive().unwrap(), (DATA, b"a OK NOOP completed\r\n".to_vec()));
    // The bound is the cost of whole handshakes.
    let before = proxy.process.processor();
    for _ in 0..SHAKEN {
        let stream = openssl(proxy.address("pop3"), Start::Implicit, |context| {
            old(context, Version::Tls1_2, "AES128-GCM-SHA256");
        });
        Device::over(stream.unwrap()).line();
    }
    let shaken = proxy.process.processor() - before;
    println!("{STORM} refusals cost {spent:?} of CPU time, {SHAKEN} handshakes {shaken:?}");
    assert!(
        spent * 10 <= shaken * (STORM / SHAKEN).max(1) as u32 * 5,
        "{spent:?} for refusals, {shaken:?} for handshakes"
    );
}

/// A device that sends the storm and reads no reply can neither fill the memory nor gain time.
#[test]
fn a_storm_from_a_device_that_does_not_read_is_held_up() {
    let proxy = Proxy::start_at(
        "debug",
        &(listener("imap", "imap", "implicit", "") + "[limits]\nlogin_timeout = \"3s\"\nclose_timeout = \"1s\"\n"),
    );
    let mut device = Client::connect(proxy.address("imap"), TLS1_2, RSA_SHA);
    let before = proxy.process.figure("VmRSS:");
    let hello = device.hello.message();
    device.wire.socket().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0_usize;
    let begun = Instant::now();
    loop {
        let chunk: Vec<u8> = (0..200).flat_map(|_| device.sealed(HANDSHAKE, &hello)).collect();
        if device.wire.try_send(&chunk).is_err() {
            break;
        }
        sent += chunk.len();
        assert!(begun.elapsed() < PATIENCE, "{sent} octets were taken, and no end");
    }
    let grown = proxy.process.figure("VmRSS:").saturating_sub(before);
    let line = proxy.session_line("imap");
    println!("ended behind {} KiB after {} ms, grown by {grown} KiB", sent / 1024, line["milliseconds"]);
    assert!(grown < 4096, "grown by {grown} KiB");
    assert!(["no_command", "device_lost"].contains(&line["reason"].as_str().unwrap()), "{line}");
}

/// OpenSSL's own bounds on warnings and empty records end the connection.
#[test]
fn storms_of_alerts_and_of_empty_records_end_the_connection() {
    let proxy = proxy();
    for (name, content, text) in [
        ("warnings", ALERT, &[1_u8, 90][..]),
        ("empty records", DATA, b""),
        ("ChangeCipherSpec", CHANGE_CIPHER_SPEC, &[1]),
        ("fatal alert", ALERT, &[2, 40]),
        ("unknown content", 99, b"what"),
        ("HelloRequest of a device", HANDSHAKE, &[0, 0, 0, 0]),
        ("Finished without a handshake", HANDSHAKE, &[20, 0, 0, 12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ] {
        let mut device = Client::connect(proxy.address("imap"), TLS1_2, RSA_SHA);
        let from = device.wire.socket().local_addr().unwrap();
        assert_eq!(device.receive().unwrap().0, DATA);
        let mut sent = 0;
        while sent < STORM {
            let record = device.sealed(content, text);
            if device.wire.try_send(&record).is_err() {
                break;
            }
            sent += 1;
        }
        let _ = device.wire.socket().read_to_end(&mut Vec::new());
        let line =
            proxy.log.wait_for(name, |line| line.contains(&format!("\"{from}\"")) && line.contains("session ended"));
        assert!(line.contains("\"device_lost\""), "{name}: {line}");
    }
    Imap::greeted(Device::over(
        openssl(proxy.address("imap"), Start::Implicit, |context| old(context, Version::Tls1_0, "AES128-SHA")).unwrap(),
    ))
    .ok("LOGOUT");
}

/// The storm comes during the handshake, where records are still in clear.
#[test]
fn storms_in_the_middle_of_the_handshake_end_it() {
    let proxy = proxy();
    for (name, record) in [
        ("warnings", &[21_u8, 3, 1, 0, 2, 1, 90][..]),
        ("close_notify", &[21, 3, 1, 0, 2, 1, 0]),
        ("empty handshake records", &[22, 3, 1, 0, 0]),
        ("ChangeCipherSpec", &[20, 3, 1, 0, 1, 1]),
        ("application data", &[23, 3, 1, 0, 1, 1]),
        ("ClientHello again", &client_hello()),
    ] {
        let mut device = Peer::connect("127.3.0.1".parse().unwrap(), proxy.address("imap"));
        let from = device.tcp().unwrap().local_addr().unwrap();
        device.try_send(&client_hello()).unwrap();
        device.hear_for(PATIENCE);
        let _ = device.try_send(&record.repeat(STORM));
        device.hear_to_the_end().unwrap();
        let line =
            proxy.log.wait_for(name, |line| line.contains(&format!("\"{from}\"")) && line.contains("session ended"));
        assert!(line.contains("\"handshake\""), "{name}: {line}");
    }
}

const STORM: usize = 1000;
const SHAKEN: usize = 100;
