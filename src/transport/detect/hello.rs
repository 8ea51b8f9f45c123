//! The ClientHello, as a pure parser: in SSLv3 records (RFC 6101 §5.2, RFC 5246 §7.4.1.2) or in SSLv2 format
//! (RFC 5246 appendix E.2), which old stacks send although they mean TLS 1.0.

mod fingerprint;

use crate::config::Version;
use crate::config::suite;

/// The offer of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Whether the ClientHello came in SSLv2 format.
    pub sslv2_format: bool,
    /// The newest version offered, as a number (`client_version`, or the best of `supported_versions`).
    pub version: u16,
    /// The cipher suites, in the device's order, without signals.
    pub suites: Vec<u16>,
    /// The name the device believes to talk to.
    pub server_name: Option<String>,
    /// The numbers of its extensions, in order.
    pub extensions: Vec<u16>,
    /// The client's elliptic curves and groups (RFC 8422 §5.1.1), where it names some.
    pub groups: Vec<u16>,
    /// The client's signature algorithms (RFC 8446 §4.2.3), in order.
    pub signatures: Vec<u16>,
    /// The first protocol of its ALPN extension (RFC 7301), where it has one.
    pub alpn: Vec<u8>,
    /// The numbers among its suites that are signals, but for grease.
    pub signals: Vec<u16>,
    /// Whether the client has fallen back from a newer version (RFC 7507).
    pub fallback: bool,
}

/// The kind of message that a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A ClientHello.
    Complete(Box<ClientHello>),
    /// Octets that may become one.
    Incomplete,
    /// The octets are not TLS.
    NotTls,
    /// TLS, but nothing we understand.
    Malformed,
}

impl ClientHello {
    /// Reads a ClientHello from the first octets of a connection.
    pub fn parse(input: &[u8]) -> Parsed {
        match *input {
            [] => Parsed::Incomplete,
            [HANDSHAKE, ..] => match handshake(input) {
                Ok(Some(hello)) => Parsed::Complete(Box::new(hello)),
                Ok(None) => Parsed::Incomplete,
                Err(Malformed) => Parsed::Malformed,
            },
            [high, ..] if high & 0x80 != 0 => match *input {
                [_, _, CLIENT_HELLO, ..] => match sslv2(input) {
                    Ok(Some(hello)) => Parsed::Complete(Box::new(hello)),
                    Ok(None) => Parsed::Incomplete,
                    Err(Malformed) => Parsed::Malformed,
                },
                [_, _, _, ..] => Parsed::NotTls,
                _ => Parsed::Incomplete,
            },
            _ => Parsed::NotTls,
        }
    }

    /// The offer in plain words: version, suites, name.
    pub fn describe(&self) -> String {
        let version = Version::by_number(self.version)
            .map_or_else(|| format!("version {:#06x}", self.version), |version| version.to_string());
        let suites: Vec<String> = self.suites.iter().take(SHOWN).map(|&number| suite_name(number)).collect();
        let shown = suites.join(" ");
        let more = self.suites.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let name = self.server_name.as_ref().map_or_else(|| "no SNI".to_owned(), |name| format!("SNI {name}"));
        let format = if self.sslv2_format { ", ClientHello in SSLv2 format" } else { "" };
        format!("up to {version} with {shown}{more}, {name}{format}")
    }
}

/// OpenSSL's name of a suite, or its number.
pub fn suite_name(number: u16) -> String {
    suite::by_number(number).map_or_else(|| format!("{number:#06x}"), |suite| suite.name.to_owned())
}

struct Malformed;

/// Records of handshake messages; a ClientHello may be cut over several.
fn handshake(input: &[u8]) -> Result<Option<ClientHello>, Malformed> {
    let mut message = Vec::new();
    let mut rest = input;
    loop {
        let Some(([content, major, _, high, low], behind)) = rest.split_first_chunk() else { return Ok(None) };
        if *content != HANDSHAKE || *major != 3 {
            return Err(Malformed);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // A message that exceeds the limit is not waited for.
        if length == 0 || message.len() + length > LONGEST {
            return Err(Malformed);
        }
        let Some((fragment, behind)) = behind.split_at_checked(length) else {
            // Enough to tell that it is none, before the record is whole.
            let begun = message.first().or(behind.first());
            return if begun.is_some_and(|&kind| kind != CLIENT_HELLO) { Err(Malformed) } else { Ok(None) };
        };
        message.extend_from_slice(fragment);
        rest = behind;
        let mut reader = Reader(&message);
        if reader.u8()? != CLIENT_HELLO {
            return Err(Malformed);
        }
        let Some(([high, middle, low], behind)) = reader.0.split_first_chunk() else { continue };
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        if length > LONGEST {
            return Err(Malformed);
        }
        if let Some(body) = behind.get(..length) {
            return client_hello(Reader(body)).map(Some);
        }
    }
}

fn client_hello(mut body: Reader<'_>) -> Result<ClientHello, Malformed> {
    let mut hello = ClientHello { version: body.u16()?, ..ClientHello::default() };
    body.take(32)?;
    let session_id = body.u8()?;
    body.take(usize::from(session_id))?;
    let suites = body.u16()?;
    hello.suites_of(body.take(usize::from(suites))?.chunks_exact(2).map(|pair| pair.iter().fold(0, shift)));
    let compression = body.u8()?;
    body.take(usize::from(compression))?;
    if body.0.is_empty() {
        return Ok(hello);
    }
    let extensions = body.u16()?;
    let mut extensions = Reader(body.take(usize::from(extensions))?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let content = Reader(extensions.take(usize::from(length))?);
        hello.extensions.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = server_name(content),
            SUPPORTED_GROUPS => hello.groups = numbers(content),
            SIGNATURE_ALGORITHMS => hello.signatures = numbers(content),
            ALPN => hello.alpn = first_protocol(content).unwrap_or_default(),
            SUPPORTED_VERSIONS => {
                let best =
                    content.0.get(1..).unwrap_or_default().chunks_exact(2).map(|pair| pair.iter().fold(0, shift));
                hello.version =
                    best.filter(|version| Version::by_number(*version).is_some()).max().unwrap_or(hello.version);
            }
            _ => {}
        }
    }
    Ok(hello)
}

/// RFC 6066 §3; shown in a log, so only what a name may hold.
fn server_name(mut content: Reader<'_>) -> Option<String> {
    content.u16().ok()?;
    content.u8().ok()?;
    let length = content.u16().ok()?;
    let name = content.take(usize::from(length)).ok()?;
    let sane = !name.is_empty()
        && name.len() <= 255
        && name.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b':'));
    sane.then(|| String::from_utf8_lossy(name).into_owned())
}

/// A two-octet length, then the message without record or handshake header; suites have three octets each, and those
/// that begin with zero are SSLv3's.
fn sslv2(input: &[u8]) -> Result<Option<ClientHello>, Malformed> {
    let Some(([high, low], behind)) = input.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high & 0x7f, *low]));
    let Some(message) = behind.get(..length) else { return Ok(None) };
    let mut message = Reader(message);
    message.u8()?;
    let mut hello = ClientHello { sslv2_format: true, version: message.u16()?, ..ClientHello::default() };
    let (suites, session_id, challenge) = (message.u16()?, message.u16()?, message.u16()?);
    let suites = message.take(usize::from(suites))?;
    message.take(usize::from(session_id) + usize::from(challenge))?;
    hello.suites_of(
        suites.chunks_exact(3).filter(|suite| suite.first() == Some(&0)).map(|suite| suite.iter().fold(0, shift)),
    );
    Ok(Some(hello))
}

impl ClientHello {
    fn suites_of(&mut self, numbers: impl Iterator<Item = u16>) {
        for number in numbers {
            self.fallback |= number == FALLBACK_SCSV;
            if !suite::is_signal(number) {
                self.suites.push(number);
            } else if !is_grease(number) {
                self.signals.push(number);
            }
        }
    }
}

/// A list of numbers behind its length in octets.
fn numbers(mut content: Reader<'_>) -> Vec<u16> {
    let list = content.u16().and_then(|length| content.take(usize::from(length)));
    list.unwrap_or_default().chunks_exact(2).map(|pair| pair.iter().fold(0, shift)).collect()
}

fn first_protocol(mut content: Reader<'_>) -> Result<Vec<u8>, Malformed> {
    content.u16()?;
    let length = content.u8()?;
    content.take(usize::from(length)).map(<[u8]>::to_vec)
}

/// RFC 8701.
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

fn shift(number: u16, octet: &u8) -> u16 {
    number << 8 | u16::from(*octet)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.take(2)?.iter().fold(0, shift))
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const FALLBACK_SCSV: u16 = 0x5600;
/// The longest ClientHello that OpenSSL accepts (SSL3_RT_MAX_PLAIN_LENGTH).
const LONGEST: usize = 16 * 1024;
/// The longest ClientHello on the wire, with the headers of its records. A ClientHello in very many records exceeds it,
/// because each octet that arrives has all of them read again.
pub(super) const LONGEST_SENT: usize = 20 * 1024;
/// Suites named in a log line.
const SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// TLS 1.0, 3DES and the renegotiation signal, no extensions.
    fn record() -> Vec<u8> {
        let mut hello = vec![1, 0, 0, 43, 3, 1];
        hello.extend([7; 32]);
        hello.extend([0, 0, 4, 0, 0x0a, 0, 0xff, 1, 0]);
        let mut record = vec![22, 3, 1, 0, hello.len() as u8];
        record.extend(hello);
        record
    }

    /// The same ClientHello in SSLv2 format, with an SSLv2 suite before the others.
    fn sslv2_format() -> Vec<u8> {
        let mut hello = vec![1, 3, 1, 0, 6, 0, 0, 0, 16, 7, 0, 0xc0, 0, 0, 0x0a];
        hello.extend([7; 16]);
        let mut record = vec![0x80, hello.len() as u8];
        record.extend(hello);
        record
    }

    fn complete(input: &[u8]) -> ClientHello {
        match ClientHello::parse(input) {
            Parsed::Complete(hello) => *hello,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_formats_at_every_cut() {
        for (input, sslv2_format) in [(record(), false), (sslv2_format(), true)] {
            for cut in 0..input.len() {
                assert_eq!(ClientHello::parse(&input[..cut]), Parsed::Incomplete, "{cut}");
            }
            let hello = complete(&input);
            assert_eq!((hello.version, hello.suites, hello.sslv2_format), (0x0301, vec![0x0a], sslv2_format));
        }
    }

    #[test]
    fn a_hello_cut_over_records() {
        let whole = record();
        let mut cut = vec![22, 3, 1, 0, 10];
        cut.extend(&whole[5..15]);
        cut.extend([22, 3, 1, 0, (whole.len() - 15) as u8]);
        cut.extend(&whole[15..]);
        assert_eq!(complete(&cut), complete(&whole));
    }

    #[test]
    fn octets_that_are_not_tls() {
        assert_eq!(ClientHello::parse(b"a1 CAPABILITY\r\n"), Parsed::NotTls);
        assert_eq!(ClientHello::parse(b"GET / HTTP/1.1\r\n"), Parsed::NotTls);
        assert_eq!(ClientHello::parse(&[22, 3, 1, 0, 5, 2, 0, 0, 1, 0]), Parsed::Malformed);
        assert_eq!(ClientHello::parse(&[22, 9, 1, 0, 5]), Parsed::Malformed);
        // Longer than a record may be.
        assert_eq!(ClientHello::parse(&[22, 3, 1, 0x40, 1]), Parsed::Malformed);
        assert_eq!(ClientHello::parse(&[22, 3, 1, 0x40, 0]), Parsed::Incomplete);
    }

    #[test]
    fn plain_words() {
        assert_eq!(complete(&record()).describe(), "up to TLS 1.0 with DES-CBC3-SHA, no SNI");
        assert!(complete(&sslv2_format()).describe().ends_with("ClientHello in SSLv2 format"));
    }
}
