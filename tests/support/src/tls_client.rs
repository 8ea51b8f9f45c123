//! This TLS client, written by hand for versions 1.0 to 1.2 with AES-CBC, does what no library lets a client do.
//!
//! It has static RSA with `TLS_RSA_WITH_AES_128_CBC_SHA`, and P-256 with `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256`, the
//! only CBC suite of the profile `modern`.

use std::net::SocketAddr;

use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::symm::{Cipher, Crypter, Mode};
use openssl::x509::X509;

use crate::prf::{expand, hmac};
use crate::record::{
    ALERT, CHANGE_CIPHER_SPEC, Cursor, DATA, Ending, HANDSHAKE, Hello, Records, ServerHello, TLS1_0, TLS1_2, message,
    record,
};

/// The code of TLS_RSA_WITH_AES_128_CBC_SHA.
pub const RSA_SHA: u16 = 0x002f;
/// The code of TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256.
pub const ECDHE_SHA256: u16 = 0xc027;

pub struct Client {
    pub wire: Records,
    pub server: ServerHello,
    pub hello: Hello,
    /// The public key of the server's certificate.
    pub rsa: Rsa<Public>,
    version: u16,
    suite: u16,
    /// The server's ephemeral key, if it has one.
    point: Vec<u8>,
    transcript: Vec<u8>,
    master: Vec<u8>,
    /// Our Finished, as renegotiation repeats it (RFC 5746 §3.2).
    pub verify_data: Vec<u8>,
    write: Option<Half>,
    read: Option<Half>,
}

/// One direction's keys and state.
struct Half {
    mac_key: Vec<u8>,
    key: Vec<u8>,
    /// The last block on the wire, which is the next IV in TLS 1.0.
    chain: Vec<u8>,
    sequence: u64,
}

impl Client {
    /// Begins a handshake, up to ServerHelloDone.
    pub fn begin(address: SocketAddr, version: u16, suite: u16) -> Self {
        Self::with(address, Hello::new(version, &[suite]))
    }

    pub fn with(address: SocketAddr, hello: Hello) -> Self {
        let hello = hello.with(10, &[0, 2, 0, 23]);
        let mut wire = Records::to(address);
        wire.send(&hello.record());
        let mut transcript = hello.message();
        let mut take = |wire: &mut Records| {
            let message = wire.message().unwrap();
            transcript.extend(&message);
            message
        };
        let server = ServerHello::parse(&take(&mut wire));
        let (version, suite) = (server.version, server.suite);
        assert_eq!((version, suite), (hello.version, hello.suites[0]));
        let certificate = take(&mut wire);
        assert_eq!(certificate[0], 11);
        let leaf = Cursor(Cursor(&certificate[4..]).vector(3)).vector(3);
        let rsa = X509::from_der(leaf).unwrap().public_key().unwrap().rsa().unwrap();
        let point = if suite == ECDHE_SHA256 {
            let exchange = take(&mut wire);
            // The curve is a named one, P-256 (RFC 8422 §5.4).
            assert_eq!((exchange[0], &exchange[4..7]), (12, &[3, 0, 23][..]));
            Cursor(&exchange[7..]).vector(1).to_vec()
        } else {
            Vec::new()
        };
        assert_eq!(take(&mut wire), [14, 0, 0, 0]);
        Self {
            wire,
            server,
            hello,
            rsa,
            version,
            suite,
            point,
            transcript,
            master: Vec::new(),
            verify_data: Vec::new(),
            write: None,
            read: None,
        }
    }

    /// Does the whole handshake; also returns the types of the messages in the server's last flight.
    pub fn connect(address: SocketAddr, version: u16, suite: u16) -> Self {
        let mut client = Self::begin(address, version, suite);
        let flight = client.finish();
        assert_eq!(flight, [20], "only Finished comes at the end");
        client
    }

    /// Finishes the handshake; returns the types of the messages in the server's last flight.
    pub fn finish(&mut self) -> Vec<u8> {
        let (exchange, premaster) = self.key_exchange();
        let exchange = message(16, &exchange);
        self.transcript.extend(&exchange);
        self.wire.record(HANDSHAKE, self.version, &exchange);
        self.derive(&premaster);
        self.wire.record(CHANGE_CIPHER_SPEC, self.version, &[1]);
        self.verify_data = self.prf(&self.master, b"client finished", &self.hash(&self.transcript), 12);
        let finished = message(20, &self.verify_data);
        self.transcript.extend(&finished);
        self.send(HANDSHAKE, &finished);
        let mut flight = Vec::new();
        let expected = self.prf(&self.master, b"server finished", &self.hash(&self.transcript), 12);
        loop {
            let record = self.wire.next_record().unwrap();
            if record.kind == CHANGE_CIPHER_SPEC {
                break;
            }
            // Only NewSessionTicket could precede it (RFC 5077 §3.3).
            assert_eq!(record.kind, HANDSHAKE, "{record:?}");
            flight.push(record.body[0]);
        }
        let (kind, finished) = self.receive().unwrap();
        assert_eq!((kind, &finished[4..]), (HANDSHAKE, expected.as_slice()));
        flight.push(finished[0]);
        flight
    }

    /// The body of an honest ClientKeyExchange, and the premaster secret.
    fn key_exchange(&self) -> (Vec<u8>, Vec<u8>) {
        if self.suite == RSA_SHA {
            let mut premaster = [7; 48];
            premaster[..2].copy_from_slice(&self.hello.version.to_be_bytes());
            let mut sealed = vec![0; self.rsa.size() as usize];
            self.rsa.public_encrypt(&premaster, &mut sealed, Padding::PKCS1).unwrap();
            return ([&(sealed.len() as u16).to_be_bytes()[..], &sealed].concat(), premaster.to_vec());
        }
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let mut context = openssl::bn::BigNumContext::new().unwrap();
        let ours = EcKey::generate(&group).unwrap();
        let point = ours.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
        let theirs = EcPoint::from_bytes(&group, &self.point, &mut context).unwrap();
        let theirs = PKey::from_ec_key(EcKey::from_public_key(&group, &theirs).unwrap()).unwrap();
        let ours = PKey::from_ec_key(ours).unwrap();
        let mut deriver = Deriver::new(&ours).unwrap();
        deriver.set_peer(&theirs).unwrap();
        ([&[point.len() as u8][..], &point].concat(), deriver.derive_to_vec().unwrap())
    }

    fn derive(&mut self, premaster: &[u8]) {
        let (ours, theirs) = (self.hello.random.to_vec(), self.server.random.clone());
        self.master = self.prf(premaster, b"master secret", &[ours.as_slice(), &theirs].concat(), 48);
        let mac = self.digest().size();
        let block = self.prf(&self.master, b"key expansion", &[theirs, ours].concat(), 2 * (mac + 16 + 16));
        let mut block = Cursor(&block);
        let (mac_keys, keys) = ([block.take(mac), block.take(mac)], [block.take(16), block.take(16)]);
        let chains = [block.take(16), block.take(16)];
        let half = |of: usize| Half {
            mac_key: mac_keys[of].to_vec(),
            key: keys[of].to_vec(),
            chain: chains[of].to_vec(),
            sequence: 0,
        };
        (self.write, self.read) = (Some(half(0)), Some(half(1)));
    }

    /// The digest of the suite's MAC.
    fn digest(&self) -> MessageDigest {
        if self.suite == RSA_SHA { MessageDigest::sha1() } else { MessageDigest::sha256() }
    }

    /// The PRF of RFC 5246 §5, or of RFC 2246 §5 below TLS 1.2.
    fn prf(&self, secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
        let seed = [label, seed].concat();
        if self.version == TLS1_2 {
            return expand(MessageDigest::sha256(), secret, &seed, length);
        }
        let half = secret.len().div_ceil(2);
        let md5 = expand(MessageDigest::md5(), &secret[..half], &seed, length);
        let sha1 = expand(MessageDigest::sha1(), &secret[secret.len() - half..], &seed, length);
        md5.iter().zip(sha1).map(|(one, other)| one ^ other).collect()
    }

    fn hash(&self, octets: &[u8]) -> Vec<u8> {
        let hash = |digest| openssl::hash::hash(digest, octets).unwrap().to_vec();
        if self.version == TLS1_2 {
            return hash(MessageDigest::sha256());
        }
        [hash(MessageDigest::md5()), hash(MessageDigest::sha1())].concat()
    }

    /// Protects a record correctly, and sends it.
    pub fn send(&mut self, kind: u8, body: &[u8]) {
        let record = self.sealed(kind, body);
        self.wire.send(&record);
    }

    /// A correctly protected record.
    pub fn sealed(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let mac = self.mac(kind, body);
        let padding = 15 - (body.len() + mac.len()) % 16;
        let padded = [body, &mac, &vec![padding as u8; padding + 1]].concat();
        self.sealed_blocks(kind, &padded)
    }

    /// The MAC of the next record.
    pub fn mac(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let (version, digest) = (self.version, self.digest());
        let half = self.write.as_mut().unwrap();
        half.sequence += 1;
        mac(digest, &half.mac_key, half.sequence - 1, kind, version, body)
    }

    /// Encrypts whole blocks with any content, and sends them.
    pub fn send_blocks(&mut self, kind: u8, blocks: &[u8]) {
        let record = self.sealed_blocks(kind, blocks);
        self.wire.send(&record);
    }

    fn sealed_blocks(&mut self, kind: u8, blocks: &[u8]) -> Vec<u8> {
        let version = self.version;
        let half = self.write.as_mut().unwrap();
        let mut head = Vec::new();
        if version > TLS1_0 {
            let mut iv = vec![0; 16];
            openssl::rand::rand_bytes(&mut iv).unwrap();
            head.clone_from(&iv);
            half.chain = iv;
        }
        let sealed = cbc(Mode::Encrypt, &half.key, &half.chain, blocks);
        half.chain = sealed[sealed.len() - 16..].to_vec();
        record(kind, version, &[head, sealed].concat())
    }

    /// The next record, opened and verified.
    pub fn receive(&mut self) -> Result<(u8, Vec<u8>), Ending> {
        let record = self.wire.next_record()?;
        let (version, digest) = (self.version, self.digest());
        let half = self.read.as_mut().unwrap();
        let (iv, sealed) = if version > TLS1_0 {
            (record.body[..16].to_vec(), &record.body[16..])
        } else {
            (half.chain.clone(), &record.body[..])
        };
        half.chain = sealed[sealed.len() - 16..].to_vec();
        let opened = cbc(Mode::Decrypt, &half.key, &iv, sealed);
        let end = opened.len() - 1 - usize::from(opened[opened.len() - 1]);
        let (body, theirs) = opened[..end].split_at(end - digest.size());
        let ours = mac(digest, &half.mac_key, half.sequence, record.kind, version, body);
        assert_eq!(theirs, ours);
        half.sequence += 1;
        Ok((record.kind, body.to_vec()))
    }

    /// Reads all records up to the end: each record's type and content.
    pub fn receive_all(&mut self) -> (Vec<(u8, Vec<u8>)>, Ending) {
        let mut records = Vec::new();
        loop {
            match self.receive() {
                Ok(record) => records.push(record),
                Err(no) => return (records, no),
            }
        }
    }

    /// A line of the mail protocol.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let (kind, body) = self.receive().unwrap();
            assert_eq!(kind, DATA, "{body:?}");
            line.extend(body);
        }
        String::from_utf8(line).unwrap()
    }

    /// Checks that the session still answers commands.
    pub fn is_served(&mut self) {
        self.send(DATA, b"n NOOP\r\n");
        let line = self.line();
        assert!(line.starts_with("n OK"), "{line}");
    }

    /// Reads the fatal alert that ends the connection, and checks that nothing else comes.
    pub fn fatal_alert(&mut self) -> u8 {
        let (records, no) = self.receive_all();
        let [(ALERT, alert)] = records.as_slice() else { panic!("{records:?} {no:?}") };
        assert_eq!(alert[0], 2, "{alert:?}");
        alert[1]
    }
}

#[allow(clippy::too_many_arguments, reason = "the fields that RFC 5246 §6.2.3.1 lists")]
fn mac(digest: MessageDigest, key: &[u8], sequence: u64, kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    hmac(digest, key, &[&sequence.to_be_bytes()[..], &[kind], &version.to_be_bytes(), &length, body].concat())
}

fn cbc(mode: Mode, key: &[u8], iv: &[u8], blocks: &[u8]) -> Vec<u8> {
    let mut crypter = Crypter::new(Cipher::aes_128_cbc(), mode, key, Some(iv)).unwrap();
    crypter.pad(false);
    let mut output = vec![0; blocks.len() + 16];
    let count = crypter.update(blocks, &mut output).unwrap();
    output.truncate(count);
    output
}
