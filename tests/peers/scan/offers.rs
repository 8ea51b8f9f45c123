//! These tests prove what the listener negotiates in clear: versions, cipher suites, compression, signals and
//! extensions.

use std::net::SocketAddr;

use openssl::pkey::Id;
use openssl::ssl::SslVersion;

use super::{PROFILES, profiles};
use support::proxy::{Proxy, listener};
use support::record::{
    ALERT, Cursor, Ending, HANDSHAKE, Hello, Records, SSL3, ServerHello, TLS1_0, TLS1_1, TLS1_2, TLS1_3, answer,
    answer_to, record,
};
use support::stacks::{Start, openssl};

/// Suites of `modern` with the RSA certificate of the first start: forward secrecy with AEAD or SHA-2.
const MODERN: &[u16] = &[0xc02f, 0xc030, 0xcca8, 0xc027, 0xc028];
/// AES suites of TLS 1.0.
const AES: &[u16] = &[0xc013, 0xc014, 0x002f, 0x0035, 0x0033, 0x0039];
/// AES suites that TLS 1.2 adds.
const AES_1_2: &[u16] = &[0x009c, 0x009d, 0x003c, 0x003d, 0x009e, 0x009f, 0x0067, 0x006b];
/// Suites with 3DES and RC4.
const OLD: &[u16] = &[0xc012, 0x000a, 0x0016, 0xc011, 0x0005, 0x0004];
const TLS_1_3: &[u16] = &[0x1301, 0x1302, 0x1303];

/// A suite that a listener of any profile takes at this version.
fn usual(version: u16) -> u16 {
    match version {
        TLS1_3 => 0x1301,
        TLS1_2 => 0xc02f,
        _ => 0x002f,
    }
}

/// Versions that a profile takes.
fn versions(profile: &str) -> &'static [u16] {
    match profile {
        "modern" => &[TLS1_2, TLS1_3],
        "legacy" => &[TLS1_0, TLS1_1, TLS1_2, TLS1_3],
        _ => &[SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3],
    }
}

/// The suites that a listener should accept.
fn suites(profile: &str, version: u16) -> Vec<u16> {
    let parts: &[&[u16]] = match (profile, version) {
        (_, TLS1_3) => &[TLS_1_3],
        ("modern", _) => &[MODERN],
        ("legacy", TLS1_2) => &[MODERN, AES, AES_1_2],
        ("legacy", _) => &[AES],
        (_, TLS1_2) => &[MODERN, AES, AES_1_2, OLD],
        (_, _) => &[AES, OLD],
    };
    let mut suites = parts.concat();
    // SSLv3 has no extensions, and so no curves.
    suites.retain(|suite| version != SSL3 || suite >> 8 != 0xc0);
    suites.sort_unstable();
    suites
}

/// The suites that a listener accepts, of all numbers. The client offers all, and takes each chosen one away.
fn taken(address: SocketAddr, version: u16) -> Result<Vec<u16>, Ending> {
    let mut taken = Vec::new();
    // A record of 16 KiB cannot hold more suites. The two signalling values are no suites (RFC 5746 §3.3, RFC 7507 §4).
    for first in (0..=u16::MAX).step_by(4096) {
        let mut offered: Vec<u16> =
            (first..=first + 4095).filter(|number| ![0x00ff, 0x5600].contains(number)).collect();
        loop {
            match answer(address, &Hello::new(version, &offered)) {
                Ok(hello) => {
                    assert_eq!(hello.version, version);
                    offered.retain(|suite| *suite != hello.suite);
                    taken.push(hello.suite);
                }
                Err(Ending::Alert(2, HANDSHAKE_FAILURE)) => break,
                Err(no) => return Err(no),
            }
        }
    }
    taken.sort_unstable();
    Ok(taken)
}

/// The test offers 65,536 numbers. No listener has NULL, anonymous or export suites (FREAK, Logjam) or single DES. Only
/// `ancient` has 3DES (Sweet32) and RC4.
#[test]
fn each_profile_takes_its_versions_and_suites_and_no_others() {
    let proxy = profiles();
    for profile in PROFILES {
        for version in [SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3] {
            let taken = taken(proxy.address(profile), version);
            let expected = if versions(profile).contains(&version) {
                Ok(suites(profile, version))
            } else if version == SSL3 {
                // The listener refuses the whole version.
                Ok(Vec::new())
            } else {
                Err(Ending::Alert(2, PROTOCOL_VERSION))
            };
            assert_eq!(taken, expected, "{profile} {version:#06x}: {taken:04x?}");
        }
    }
}

/// No listener answers an SSLv2 handshake in SSLv2, which DROWN needs.
#[test]
fn nobody_speaks_sslv2() {
    let proxy = profiles();
    for profile in PROFILES {
        // The first hello is SSLv2 itself. The others ask for later versions in its format, with SSLv2's suites alone:
        // RC4, RC2, both for export, 3DES.
        for version in [0x0002, SSL3, TLS1_0, TLS1_2] {
            let suites = [[1, 0, 128], [3, 0, 128], [2, 0, 128], [4, 0, 128], [7, 0, 192]].concat();
            let mut hello = vec![1, (version >> 8) as u8, version as u8, 0, suites.len() as u8, 0, 0, 0, 16];
            hello.extend(suites);
            hello.extend([7; 16]);
            let mut wire = Records::to(proxy.address(profile));
            wire.send(&[&[0x80, hello.len() as u8][..], &hello].concat());
            wire.half_close();
            let (records, _) = wire.rest();
            assert!(records.iter().all(|record| record.kind == ALERT && record.body[0] == 2), "{profile}: {records:?}");
        }
    }
}

/// The format is only an encoding, so the versions in it mean the same as in any ClientHello.
#[test]
fn a_client_hello_in_sslv2_format_is_taken_by_its_version() {
    let proxy = profiles();
    for (version, suite, taken_by) in [
        (TLS1_0, 0x2f, &["legacy", "ancient"][..]),
        (TLS1_1, 0x2f, &["legacy", "ancient"]),
        (TLS1_2, 0x2f, &["legacy", "ancient"]),
        (SSL3, 0x2f, &["ancient"]),
        (TLS1_0, 0x0a, &["ancient"]),
        (0x0002, 0x2f, &[]),
    ] {
        for profile in PROFILES {
            // OpenSSL 0.9.8 and Java 6 send SSLv2's suites beside the others.
            let suites = [[1, 0, 128], [7, 0, 192], [0, 0, suite]].concat();
            let mut hello = vec![1, (version >> 8) as u8, version as u8, 0, suites.len() as u8, 0, 0, 0, 16];
            hello.extend(suites);
            hello.extend([7; 16]);
            let mut wire = Records::to(proxy.address(profile));
            wire.send(&[&[0x80, hello.len() as u8][..], &hello].concat());
            let record = wire.next_record().unwrap();
            if taken_by.contains(&profile) {
                assert_eq!((record.kind, ServerHello::parse(&record.body).version), (HANDSHAKE, version), "{profile}");
            } else {
                assert!(record.kind == ALERT && record.body[0] == 2, "{profile} {version:#06x}: {record:?}");
            }
        }
    }
}

/// CRIME needs compression. TLS 1.3 has none.
#[test]
fn compression_is_never_agreed_on() {
    let proxy = profiles();
    for profile in PROFILES {
        for &version in versions(profile) {
            let mut hello = Hello::new(version, &[usual(version)]);
            // The methods are DEFLATE and LZS (RFC 3749, RFC 3943).
            hello.compressions = vec![1, 64, 0];
            match answer(proxy.address(profile), &hello) {
                Ok(server) => assert_eq!(server.compression, 0),
                // TLS 1.3 demands this alert (RFC 8446 §4.1.2).
                Err(no) => assert_eq!((version, no), (TLS1_3, Ending::Alert(2, ILLEGAL_PARAMETER))),
            }
            hello.compressions = vec![1];
            let refused = answer(proxy.address(profile), &hello).unwrap_err();
            assert!(matches!(refused, Ending::Alert(2, _)), "{profile} {version:#06x}: {refused:?}");
        }
    }
}

/// A post-quantum exchange would keep 6 kB of key in every connection, and no device needs one.
#[test]
fn a_device_that_prefers_a_post_quantum_exchange_gets_x25519() {
    let proxy = profiles();
    for profile in PROFILES {
        let stream = openssl(proxy.address(profile), Start::Implicit, |context| {
            context.set_groups_list("X25519MLKEM768:X25519").unwrap();
        });
        let stream = stream.unwrap();
        assert_eq!(stream.ssl().version_str(), "TLSv1.3");
        assert_eq!(stream.ssl().peer_tmp_key().unwrap().id(), Id::X25519, "{profile}");
    }
}

/// The groups are the curves of TLS 1.0 to 1.2, and those that TLS 1.3 adds.
#[test]
fn every_usual_group_is_taken() {
    let proxy = profiles();
    let groups = ["X25519", "P-256", "X448", "P-384", "P-521"];
    let of_tls_1_3 = ["ffdhe2048", "ffdhe3072"];
    let agreed = |group: &str, version: SslVersion| {
        openssl(proxy.address("legacy"), Start::Implicit, |context| {
            context.set_max_proto_version(Some(version)).unwrap();
            context.set_cipher_list("ECDHE").unwrap();
            context.set_groups_list(group).unwrap();
        })
    };
    for group in groups {
        for version in [SslVersion::TLS1, SslVersion::TLS1_2, SslVersion::TLS1_3] {
            agreed(group, version).unwrap_or_else(|error| panic!("{group}: {error}"));
        }
    }
    for group in of_tls_1_3 {
        agreed(group, SslVersion::TLS1_3).unwrap_or_else(|error| panic!("{group}: {error}"));
    }
    // A curve that must fail shows that the test can fail.
    agreed("secp256k1", SslVersion::TLS1_2).unwrap_err();
}

#[test]
fn secure_renegotiation_is_said_to_be_known() {
    let proxy = profiles();
    for profile in PROFILES {
        for &version in versions(profile).iter().filter(|version| **version < TLS1_3) {
            let suite = usual(version);
            for hello in [Hello::new(version, &[suite]).with(0xff01, &[0]), Hello::new(version, &[suite, 0x00ff])] {
                let server = answer(proxy.address(profile), &hello).unwrap();
                assert_eq!(server.extension(0xff01), Some(&[0][..]), "{profile} {version:#06x}");
            }
            // The first handshake pretends to be a renegotiation (RFC 5746 §3.6).
            let hello = Hello::new(version, &[suite]).with(0xff01, &[&[12][..], &[1; 12]].concat());
            let refused = answer(proxy.address(profile), &hello).unwrap_err();
            assert_eq!(refused, Ending::Alert(2, HANDSHAKE_FAILURE), "{profile} {version:#06x}");
        }
    }
}

/// A client that signals an unnecessary fallback is refused (RFC 7507). That stops POODLE for clients that know the
/// signal.
#[test]
fn fallback_scsv_is_honoured() {
    let proxy = profiles();
    for profile in PROFILES {
        for &version in versions(profile) {
            let answer = answer(proxy.address(profile), &Hello::new(version, &[usual(version), 0x5600]));
            if version == TLS1_3 {
                assert_eq!(answer.unwrap().version, TLS1_3);
            } else {
                assert_eq!(answer.unwrap_err(), Ending::Alert(2, INAPPROPRIATE_FALLBACK), "{profile} {version:#06x}");
            }
        }
    }
    let newest = Proxy::start(&listener("old", "imap", "implicit", "maximum_version = \"tls1.0\""));
    assert_eq!(answer(newest.address("old"), &Hello::new(TLS1_0, &[0x002f, 0x5600])).unwrap().version, TLS1_0);
}

/// A client of TLS 1.3 can detect a forced older version (RFC 8446 §4.1.3).
#[test]
fn an_older_version_bears_the_mark_of_a_downgrade() {
    let proxy = profiles();
    for profile in PROFILES {
        for &version in versions(profile) {
            let server = answer(proxy.address(profile), &Hello::new(version, &[usual(version)])).unwrap();
            let mark = &server.random[24..];
            match version {
                TLS1_3 => assert!(!mark.starts_with(b"DOWNGRD")),
                TLS1_2 => assert_eq!(mark, b"DOWNGRD\x01"),
                _ => assert_eq!(mark, b"DOWNGRD\x00"),
            }
        }
    }
}

/// The listener negotiates neither heartbeat (RFC 6520), next protocols nor early data, and encrypt-then-MAC only if
/// asked.
#[test]
fn no_extension_is_agreed_on_that_is_not_needed() {
    // TLS 1.3 has supported versions and key share. Others have renegotiation, point formats, extended master secret
    // (RFC 7627), and short records for small devices (RFC 6066 §4).
    let harmless = [43, 51, 0xff01, 11, 23, 1];
    let proxy = profiles();
    for profile in PROFILES {
        for &version in versions(profile).iter().filter(|version| **version > SSL3) {
            let hello = Hello::new(version, &[usual(version)])
                .with(0, &[0, 7, 0, 0, 4, b'm', b'a', b'i', b'l'])
                .with(1, &[1])
                .with(5, &[1, 0, 0, 0, 0])
                .with(15, &[1])
                .with(16, &[0, 5, 4, b'i', b'm', b'a', b'p'])
                .with(18, &[])
                .with(22, &[])
                .with(23, &[])
                .with(35, &[])
                .with(13172, &[])
                .with(0xff01, &[0]);
            let server = answer(proxy.address(profile), &hello).unwrap();
            let numbers: Vec<u16> = server.extensions.iter().map(|(number, _)| *number).collect();
            assert!(numbers.iter().all(|number| harmless.contains(number)), "{profile} {version:#06x}: {numbers:?}");
        }
    }
}

/// The size of the ServerKeyExchange's prime, in bits.
fn dhe_bits(address: SocketAddr) -> usize {
    let mut wire = Records::to(address);
    wire.send(&Hello::new(TLS1_0, &[0x0033]).record());
    loop {
        let message = wire.message().unwrap();
        if message[0] == 12 {
            return Cursor(&message[4..]).vector(2).len() * 8;
        }
    }
}

/// Logjam needs 512 bits, which no listener uses. A listener uses 1024 only where the operator has asked for it, and
/// `modern` has no DHE.
#[test]
fn dhe_has_2048_bits_except_in_ancient() {
    let proxy = profiles();
    assert_eq!((dhe_bits(proxy.address("legacy")), dhe_bits(proxy.address("ancient"))), (2048, 1024));
}

/// SLOTH needs weak hashes. TLS 1.2 handshakes use SHA-1 only for clients that know no other, and never in `modern`.
#[test]
fn sha_1_signs_no_handshake_in_modern() {
    let proxy = profiles();
    for (profile, signed) in [("modern", false), ("legacy", true), ("ancient", true)] {
        // The client signs with RSA and SHA-1, which a missing extension implies (RFC 5246 §7.4.1.4.1). MD5 is never
        // accepted.
        let hello = Hello::new(TLS1_2, &[0xc02f]);
        for one in [hello.clone().with(13, &[0, 2, 2, 1]), hello.clone().without(13)] {
            assert_eq!(answer(proxy.address(profile), &one).is_ok(), signed, "{profile}");
        }
        assert!(answer(proxy.address(profile), &hello.with(13, &[0, 2, 1, 1])).is_err(), "{profile}");
    }
}

/// Some stacks, or a middlebox, cut it like this.
#[test]
fn a_client_hello_may_come_in_pieces() {
    let proxy = profiles();
    let message = Hello::new(TLS1_0, &[0x002f, 0x0035]).message();
    for size in [1, 3, 5, 100] {
        let records: Vec<u8> = message.chunks(size).flat_map(|piece| record(HANDSHAKE, TLS1_0, piece)).collect();
        assert_eq!(answer_to(proxy.address("legacy"), &records).unwrap().suite, 0x002f, "{size}");
        let mut wire = Records::to(proxy.address("legacy"));
        for piece in records.chunks(7) {
            wire.send(piece);
        }
        assert_eq!(wire.message().unwrap()[0], 2);
    }
}

const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const PROTOCOL_VERSION: u8 = 70;
const INAPPROPRIATE_FALLBACK: u8 = 86;
