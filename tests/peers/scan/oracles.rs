//! These tests prove that all invalid inputs get the same answer, so that no padding oracle reveals a secret.
//!
//! They compare every octet and the way the connection ends, not time.

use std::net::SocketAddr;

use openssl::rsa::Padding;

use super::profiles;
use support::record::{
    ALERT, CHANGE_CIPHER_SPEC, DATA, Ending, HANDSHAKE, Hello, Record, Records, TLS1_0, TLS1_1, TLS1_2, message,
};
use support::tls_client::{Client, ECDHE_SHA256, RSA_SHA};

/// Listener, version and suite of the CBC cases.
const CBC: &[(&str, u16, u16)] = &[
    ("modern", TLS1_2, ECDHE_SHA256),
    ("legacy", TLS1_0, RSA_SHA),
    ("legacy", TLS1_1, RSA_SHA),
    ("legacy", TLS1_2, RSA_SHA),
    ("legacy", TLS1_2, ECDHE_SHA256),
    ("ancient", TLS1_0, RSA_SHA),
    ("ancient", TLS1_2, RSA_SHA),
];

/// Contents of the RSA ciphertext: the correct one, and the faults that robot-detect uses.
fn premasters(size: usize, version: u16) -> Vec<(&'static str, Vec<u8>)> {
    let secret = [7; 46];
    let version = version.to_be_bytes();
    // The parts are 00 02, padding without zeros, 00, version, secret.
    let right = [&[0, 2][..], &vec![0xab; size - 51], &[0], &version, &secret].concat();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut block = right.clone();
        change(&mut block);
        block
    };
    vec![
        ("block type", changed(&|block| block[..2].copy_from_slice(&[0x41, 0x17]))),
        ("zero too early", changed(&|block| block[5] = 0)),
        ("zero too late", changed(&|block| block[size - 49..size - 1].fill(0x11))),
        ("no zero", changed(&|block| block[2..].fill(0x77))),
        ("another length", changed(&|block| block[size - 60] = 0)),
        ("version", changed(&|block| block[size - 48..size - 46].copy_from_slice(&[2, 2]))),
        ("right", right),
    ]
}

/// Sends a ClientKeyExchange of this block, and, if `whole`, a Finished under unknown keys.
fn exchanged(address: SocketAddr, version: u16, which: &str, whole: bool) -> (Vec<Record>, Ending) {
    let mut client = Client::begin(address, version, RSA_SHA);
    let size = client.rsa.size() as usize;
    let (_, block) = premasters(size, version).into_iter().find(|(name, _)| *name == which).unwrap();
    let mut sealed = vec![0; size];
    client.rsa.public_encrypt(&block, &mut sealed, Padding::NONE).unwrap();
    let exchange = message(16, &[&(size as u16).to_be_bytes()[..], &sealed].concat());
    client.wire.record(HANDSHAKE, version, &exchange);
    if whole {
        client.wire.record(CHANGE_CIPHER_SPEC, version, &[1]);
        client.wire.record(HANDSHAKE, version, &[0x5a; 64]);
    } else {
        client.wire.half_close();
    }
    client.wire.rest()
}

/// ROBOT is Bleichenbacher's oracle.
#[test]
fn rsa_padding_that_is_wrong_is_answered_as_that_which_is_right() {
    let proxy = profiles();
    for profile in ["legacy", "ancient"] {
        for version in [TLS1_0, TLS1_1, TLS1_2] {
            let address = proxy.address(profile);
            for whole in [true, false] {
                let right = exchanged(address, version, "right", whole);
                if whole {
                    let alert = Record { kind: ALERT, version, body: vec![2, BAD_RECORD_MAC] };
                    assert_eq!(right, (vec![alert], Ending::Closed), "{profile} {version:#06x}");
                }
                for (which, _) in premasters(256, version) {
                    let answer = exchanged(address, version, which, whole);
                    assert_eq!(answer, right, "{profile} {version:#06x}, whole: {whole}: {which}");
                }
            }
        }
    }
}

/// Faulty blocks: the name of each fault, and the next record's content, MAC and padding.
fn wrong(which: usize, client: &mut Client) -> Option<(&'static str, Vec<u8>)> {
    let content = b"n NOOP\r\n";
    let mac = client.mac(DATA, content);
    let flipped = |at: usize| {
        let mut mac = mac.clone();
        mac[at] ^= 1;
        mac
    };
    // The padding covers several blocks, so that each of them can have the fault.
    let padding = 15 - (content.len() + mac.len()) % 16 + 32;
    let right = vec![padding as u8; padding + 1];
    let padded = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut padding = right.clone();
        change(&mut padding);
        [content.as_slice(), &mac, &padding].concat()
    };
    let last = right.len() - 1;
    let empty = flipped(0);
    let rest = 15 - empty.len() % 16;
    Some(match which {
        // POODLE against TLS exploits padding that is not checked.
        0 => ("first octet of the padding", padded(&|padding| padding[0] ^= 1)),
        1 => ("an octet in the middle of the padding", padded(&|padding| padding[20] ^= 0x80)),
        2 => ("last octet before the length", padded(&|padding| padding[last - 1] ^= 1)),
        3 => ("a length too small by one", padded(&|padding| padding[last] -= 1)),
        4 => ("a length of more than there is", padded(&|padding| padding[last] = 255)),
        // Zombie POODLE and GOLDENDOODLE exploit a valid padding with a wrong MAC.
        5 => ("first octet of the MAC, padding right", [content.as_slice(), &flipped(0), &right].concat()),
        6 => ("last octet of the MAC, padding right", [content.as_slice(), &flipped(mac.len() - 1), &right].concat()),
        7 => ("MAC and padding", {
            let mut padding = right.clone();
            padding[0] ^= 1;
            [content.as_slice(), &flipped(0), &padding].concat()
        }),
        8 => ("nothing but padding", vec![79; 80]),
        9 => ("nothing but padding, and wrong", [vec![78; 40], vec![79; 40]].concat()),
        // CVE-2019-1559 exploits this record.
        10 => ("no content, and a wrong MAC", [empty.clone(), vec![rest as u8; rest + 1]].concat()),
        11 => ("no content, MAC and padding wrong", {
            let mut blocks = [empty.clone(), vec![rest as u8; rest + 1]].concat();
            let end = blocks.len() - 1;
            blocks[end] ^= 0x40;
            blocks
        }),
        12 => ("the content has changed", [b"n nOOP\r\n".as_slice(), &mac, &right].concat()),
        _ => return None,
    })
}

#[test]
fn padding_and_mac_that_are_wrong_are_answered_alike() {
    let proxy = profiles();
    for &(profile, version, suite) in CBC {
        let mut tried = 0;
        loop {
            let mut client = Client::connect(proxy.address(profile), version, suite);
            assert!(client.line().starts_with("* OK"));
            let Some((which, blocks)) = wrong(tried, &mut client) else { break };
            client.send_blocks(DATA, &blocks);
            let answer = client.receive_all();
            let expected = (vec![(ALERT, vec![2, BAD_RECORD_MAC])], Ending::Closed);
            assert_eq!(answer, expected, "{profile} {version:#06x} {suite:#06x}: {which}");
            tried += 1;
        }
        assert_eq!(tried, 13);
        // All of the above was faulty; up to 255 octets of padding are valid (RFC 5246 §6.2.3.2).
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        let content = b"n NOOP\r\n";
        let mac = client.mac(DATA, content);
        let padding = 15 - (content.len() + mac.len()) % 16 + 16 * 14;
        client.send_blocks(DATA, &[content.as_slice(), &mac, &vec![padding as u8; padding + 1]].concat());
        assert!(client.line().starts_with("n OK"), "{profile} {version:#06x}");
    }
}

/// A record without content and with an invented tag comes in place of Finished. CVE-2026-75803 makes it pass in
/// programs that decrypt in another way than TLS does.
#[test]
fn a_forged_tag_over_nothing_is_not_taken() {
    let proxy = profiles();
    // The ciphers are AES-128-GCM with an explicit nonce (RFC 5288 §3), and ChaCha20-Poly1305 without (RFC 7905 §2).
    for (suite, length) in [(0xc02f, 8 + 16), (0xc030, 8 + 16), (0xcca8, 16)] {
        let mut wire = Records::to(proxy.address("modern"));
        wire.send(&Hello::new(TLS1_2, &[suite]).with(10, &[0, 2, 0, 23]).record());
        while wire.message().unwrap()[0] != 14 {}
        // P-256's base point serves as a key.
        let point = [&[65, 4][..], &P_256_X, &P_256_Y].concat();
        wire.record(HANDSHAKE, TLS1_2, &message(16, &point));
        wire.record(CHANGE_CIPHER_SPEC, TLS1_2, &[1]);
        wire.record(HANDSHAKE, TLS1_2, &vec![0; length]);
        let alert = Record { kind: ALERT, version: TLS1_2, body: vec![2, BAD_RECORD_MAC] };
        assert_eq!(wire.rest(), (vec![alert], Ending::Closed), "{suite:#06x}");
    }
}

const BAD_RECORD_MAC: u8 = 20;
/// The coordinates come from FIPS 186-4 §D.1.2.3.
const P_256_X: [u8; 32] = [
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d,
    0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
];
const P_256_Y: [u8; 32] = [
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33,
    0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];
