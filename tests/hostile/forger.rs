//! A device that has shaken hands, and from there on makes its records itself: whatever a TLS library would not send.
//!
//! TLS 1.2 with AES-128-GCM (RFC 5246 §6.3, RFC 5288 §3); the keys come from the linked-in OpenSSL's master secret.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use openssl::hash::MessageDigest;
use openssl::ssl::SslRef;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};

use support::connection::TlsStream;
use support::prf::expand;
use support::stacks::{Start, Version, old, openssl};

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

pub struct Forger {
    tcp: TcpStream,
    own: Half,
    peers: Half,
    /// Client random and all, as a renegotiation would begin.
    pub hello: Vec<u8>,
    _stream: TlsStream,
}

/// One direction's key, and the number of its next record.
struct Half {
    key: Vec<u8>,
    salt: Vec<u8>,
    number: u64,
}

impl Forger {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = openssl(address, Start::Implicit, |context| old(context, Version::Tls1_2, "AES128-GCM-SHA256"));
        let stream = stream.unwrap();
        let block = key_block(stream.ssl());
        // Finished was the first record of either side.
        let half = |key: usize, salt: usize| Half {
            key: block[key..key + 16].to_vec(),
            salt: block[salt..salt + 4].to_vec(),
            number: 1,
        };
        Self {
            tcp: stream.get_ref().try_clone().unwrap(),
            own: half(0, 32),
            peers: half(16, 36),
            hello: client_hello(),
            _stream: stream,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// A record as it goes over the wire.
    pub fn record(&mut self, content: u8, text: &[u8]) -> Vec<u8> {
        let explicit = self.own.number.to_be_bytes();
        let mut tag = [0; 16];
        let aad = self.own.aad(content, text.len());
        let nonce = [self.own.salt.as_slice(), &explicit].concat();
        let sealed = encrypt_aead(Cipher::aes_128_gcm(), &self.own.key, Some(&nonce), &aad, text, &mut tag).unwrap();
        self.own.number += 1;
        let length = u16::try_from(8 + sealed.len() + 16).unwrap().to_be_bytes();
        [&[content, 3, 3, length[0], length[1]][..], &explicit, &sealed, &tag].concat()
    }

    pub fn send(&mut self, content: u8, text: &[u8]) -> io::Result<()> {
        let record = self.record(content, text);
        self.tcp.write_all(&record)
    }

    /// The next record of the other side, opened.
    pub fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.tcp.read_exact(&mut head)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        self.tcp.read_exact(&mut body)?;
        let (explicit, rest) = body.split_at(8);
        let (sealed, tag) = rest.split_at(rest.len() - 16);
        let aad = self.peers.aad(head[0], sealed.len());
        let nonce = [self.peers.salt.as_slice(), explicit].concat();
        let text = decrypt_aead(Cipher::aes_128_gcm(), &self.peers.key, Some(&nonce), &aad, sealed, tag).unwrap();
        self.peers.number += 1;
        Ok((head[0], text))
    }
}

impl Half {
    fn aad(&self, content: u8, length: usize) -> Vec<u8> {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        [&self.number.to_be_bytes()[..], &[content, 3, 3], &length].concat()
    }
}

/// RFC 5246 §6.3: two keys of 16 octets, two salts of 4.
fn key_block(ssl: &SslRef) -> Vec<u8> {
    let mut master = [0; 48];
    let mut seed = b"key expansion".to_vec();
    assert_eq!(ssl.session().unwrap().master_key(&mut master), master.len());
    let mut random = [0; 32];
    ssl.server_random(&mut random);
    seed.extend(random);
    ssl.client_random(&mut random);
    seed.extend(random);
    expand(MessageDigest::sha256(), &master, &seed, 40)
}

/// A handshake message, without a record around it: TLS 1.2, AES128-GCM-SHA256 and AES128-SHA.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.extend([0, 0, 4, 0, 0x9c, 0, 0x2f, 1, 0]);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]][..], &body].concat()
}
