//! These tests prove that malicious records are refused: records out of turn, too long, or without end.

use super::profiles;
use support::record::{
    ALERT, CHANGE_CIPHER_SPEC, DATA, Ending, HANDSHAKE, HEARTBEAT, Hello, Record, Records, TLS1_0, TLS1_1, TLS1_2,
    record,
};
use support::tls_client::{Client, ECDHE_SHA256, RSA_SHA};

/// A listener, a version and a suite for each case.
const EACH: &[(&str, u16, u16)] = &[
    ("modern", TLS1_2, ECDHE_SHA256),
    ("legacy", TLS1_0, RSA_SHA),
    ("legacy", TLS1_1, RSA_SHA),
    ("ancient", TLS1_0, RSA_SHA),
    ("ancient", TLS1_2, RSA_SHA),
];

fn alert(version: u16, description: u8) -> (Vec<Record>, Ending) {
    (vec![Record { kind: ALERT, version, body: vec![2, description] }], Ending::Closed)
}

/// Heartbleed asks, in the middle of the handshake, for 16 KiB that it has not sent.
#[test]
fn a_heartbeat_is_an_offence() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let hello = Hello::new(version, &[suite]).with(15, &[1]);
        let mut client = Client::with(proxy.address(profile), hello);
        assert_eq!(client.server.extension(15), None);
        client.wire.record(HEARTBEAT, version, &[1, 0x40, 0]);
        assert_eq!(client.wire.rest(), alert(version, UNEXPECTED_MESSAGE), "{profile} {version:#06x}");
        // The second request comes after the handshake.
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        client.send(HEARTBEAT, &[1, 0x40, 0]);
        assert_eq!(client.fatal_alert(), UNEXPECTED_MESSAGE, "{profile} {version:#06x}");
    }
}

/// An early ChangeCipherSpec made OpenSSL derive keys from no secret (CVE-2014-0224).
#[test]
fn change_cipher_spec_before_its_turn_is_an_offence() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let mut client = Client::begin(proxy.address(profile), version, suite);
        client.wire.record(CHANGE_CIPHER_SPEC, version, &[1]);
        client.wire.record(CHANGE_CIPHER_SPEC, version, &[1]);
        let (records, _) = client.wire.rest();
        assert_eq!(records, alert(version, UNEXPECTED_MESSAGE).0, "{profile} {version:#06x}");
        // The record comes twice in its turn, and after the handshake.
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        client.send(CHANGE_CIPHER_SPEC, &[1]);
        assert_eq!(client.fatal_alert(), UNEXPECTED_MESSAGE, "{profile} {version:#06x}");
    }
}

/// A record may have 2^14 + 2048 octets, and 2^14 before there are keys (RFC 5246 §6.2.3). The header alone shows a
/// longer one.
#[test]
fn a_record_that_is_too_long_is_refused_before_it_is_read() {
    let proxy = profiles();
    let head = |kind: u8, version: u16, length: u16| {
        let (version, length) = (version.to_be_bytes(), length.to_be_bytes());
        [kind, version[0], version[1], length[0], length[1]]
    };
    for &(profile, version, suite) in EACH {
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        client.wire.send(&head(DATA, version, 16_384 + 2048 + 1));
        assert_eq!(client.fatal_alert(), RECORD_OVERFLOW, "{profile} {version:#06x}");
        // The long record comes first of all, and in the middle of the handshake.
        for length in [16_384 + 2048 + 1, u16::MAX] {
            let mut wire = Records::to(proxy.address(profile));
            wire.send(&head(HANDSHAKE, TLS1_0, length));
            let (records, no) = wire.rest();
            let expected = Record { kind: ALERT, version: records[0].version, body: vec![2, RECORD_OVERFLOW] };
            assert_eq!((records, no), (vec![expected], Ending::Closed), "{profile} {length}");
            let mut client = Client::begin(proxy.address(profile), version, suite);
            client.wire.send(&head(HANDSHAKE, version, length));
            assert_eq!(client.wire.rest(), alert(version, RECORD_OVERFLOW), "{profile} {version:#06x} {length}");
        }
    }
}

/// Checks that the connection has ended. An alert may come before, unless a reset has discarded it with unread octets.
fn is_ended(what: &str, alerts: &[(u8, Vec<u8>)], no: &Ending) {
    assert!(alerts.is_empty() || alerts == [(ALERT, vec![2, UNEXPECTED_MESSAGE])], "{what}: {alerts:?}");
    assert!(!alerts.is_empty() || *no == Ending::Reset, "{what}: it was closed without a word");
}

fn is_ended_in_clear(what: &str, wire: &mut Records) {
    let (records, no) = wire.rest();
    let alerts: Vec<_> = records.into_iter().map(|record| (record.kind, record.body)).collect();
    is_ended(what, &alerts, &no);
}

#[test]
fn warnings_without_end_are_an_offence() {
    let proxy = profiles();
    // The warning is user_canceled (RFC 5246 §7.2.2).
    let warning = [1, 90];
    for &(profile, version, suite) in EACH {
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        client.send(ALERT, &warning);
        client.is_served();
        (0..100).for_each(|_| client.send(ALERT, &warning));
        let (records, no) = client.receive_all();
        is_ended(profile, &records, &no);
        let mut client = Client::begin(proxy.address(profile), version, suite);
        (0..100).for_each(|_| client.wire.record(ALERT, version, &warning));
        is_ended_in_clear(profile, &mut client.wire);
    }
}

/// Old stacks send an empty record before each full one (the answer to BEAST of before 2011), and they are served.
#[test]
fn empty_records_without_end_are_an_offence() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        for _ in 0..100 {
            client.send(DATA, &[]);
            client.is_served();
        }
        (0..100).for_each(|_| client.send(DATA, &[]));
        let (records, no) = client.receive_all();
        is_ended(profile, &records, &no);
        let mut client = Client::begin(proxy.address(profile), version, suite);
        (0..100).for_each(|_| client.wire.record(HANDSHAKE, version, &[]));
        is_ended_in_clear(profile, &mut client.wire);
    }
}

/// The handshake messages are out of turn, unfinished, or announced with 16 MiB.
#[test]
fn handshake_messages_out_of_turn_are_an_offence() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let begin = || Client::begin(proxy.address(profile), version, suite);
        for (what, octets) in [
            ("a Finished in clear", [&[20, 0, 0, 12][..], &[1; 12]].concat()),
            ("a second ClientHello", Hello::new(version, &[suite]).message()),
            ("a certificate that was not asked for", vec![11, 0, 0, 3, 0, 0, 0]),
            ("a ServerHello", vec![2, 0, 0, 2, 3, 3]),
            ("16 MiB of key exchange", vec![16, 0xff, 0xff, 0xff, 0]),
            ("no such message", vec![77, 0, 0, 0]),
        ] {
            let mut client = begin();
            client.wire.record(HANDSHAKE, version, &octets);
            let (records, _) = client.wire.rest();
            let [Record { kind: ALERT, body, .. }] = records.as_slice() else {
                panic!("{profile} {version:#06x}: {what}: {records:?}")
            };
            assert!(body[0] == 2, "{profile} {version:#06x}: {what}: {body:?}");
        }
        let mut client = begin();
        client.wire.record(DATA, version, b"a LOGIN x y\r\n");
        assert_eq!(client.wire.rest(), alert(version, UNEXPECTED_MESSAGE), "{profile} {version:#06x}");
    }
}

/// Octets before the end of the handshake never reach the mail protocol.
#[test]
fn data_in_front_of_a_client_hello_is_not_heard() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let mut wire = Records::to(proxy.address(profile));
        wire.send(&[record(DATA, version, b"a NOOP\r\n"), Hello::new(version, &[suite]).record()].concat());
        wire.half_close();
        let (records, _) = wire.rest();
        assert!(records.iter().all(|record| record.kind == ALERT), "{profile}: {records:?}");
    }
}

const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
