//! The preamble of a command before login: octets that are no command, such as a ClientHello or a byte order mark.

use super::Step;
use crate::failure::{Failure, Kind};

/// Returns the step for octets in front of a command; `None` if a command begins. `is_first` is true before the first
/// command of a connection, in clear or over TLS.
///
/// # Errors
/// A ClientHello comes where commands are sent in clear.
pub(super) fn before_command(input: &[u8], is_first: bool, encrypted: bool) -> Result<Option<Step>, Failure> {
    match input {
        // C firmware sends the NUL of its strings behind each line.
        [0, ..] => Ok(Some(Step::Consume(nuls(input)))),
        // Telnet (RFC 854, RFC 855): WILL, WON'T, DO, DON'T with an option, and commands without.
        [IAC, 0xfb..=0xfe, _, ..] => Ok(Some(Step::Consume(3))),
        [IAC, 0xf1..=0xf9, ..] => Ok(Some(Step::Consume(2))),
        [IAC] | [IAC, 0xfb..=0xfe] => Ok(Some(Step::Read)),
        // A .NET StreamWriter with Encoding.UTF8 begins with a byte order mark.
        [0xef, 0xbb, 0xbf, ..] if is_first => Ok(Some(Step::Consume(3))),
        [0xef] | [0xef, 0xbb] if is_first => Ok(Some(Step::Read)),
        _ if encrypted => Ok(None),
        _ => match is_client_hello(input) {
            Some(true) => Err(Failure::new(
                Kind::Handshake,
                "the device begins with TLS after it was greeted in clear: set entry = \"implicit\" on this listener \
                 if all its devices use TLS from the start; otherwise entry = \"auto\", with a longer detect_delay where \
                 it is set",
            )),
            Some(false) => Ok(None),
            None => Ok(Some(Step::Read)),
        },
    }
}

/// Counts the NULs that these octets begin with.
pub(super) fn nuls(input: &[u8]) -> usize {
    input.iter().take_while(|octet| **octet == 0).count()
}

/// Returns whether these octets begin a ClientHello, once enough of them are there. It is a handshake record (RFC
/// 8446 §5.1) or has the format of SSLv2 (RFC 5246 appendix E.2); no command begins like either.
pub fn is_client_hello(input: &[u8]) -> Option<bool> {
    match *input {
        [HANDSHAKE, ..] => Some(true),
        [high, _, message, ..] if high & 0x80 != 0 => Some(message == CLIENT_HELLO),
        [high, ..] if high & 0x80 != 0 => None,
        [] => None,
        _ => Some(false),
    }
}

const IAC: u8 = 0xff;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_hello_is_one() {
        for input in [&[22][..], &[22, 3, 1], &[0x80, 46, 1, 3, 1], &[0x81, 10, 1, 0, 2]] {
            assert_eq!(is_client_hello(input), Some(true), "{input:?}");
            assert!(before_command(input, true, false).is_err(), "{input:?}");
            assert!(matches!(before_command(input, true, true), Ok(None)), "{input:?}");
        }
        for input in [&b"a NOOP"[..], b"\xfcser", b"\xe4\xf6\xfc", b"\xef\xbb\xbfa", b"\x80\x03\x00", b"\x15\x03\x01"] {
            assert_eq!(is_client_hello(input), Some(false), "{input:?}");
            assert!(matches!(before_command(input, false, false), Ok(None)), "{input:?}");
        }
        assert_eq!(is_client_hello(b"\x80."), None);
    }

    #[test]
    fn octets_in_front_of_commands() {
        for (input, is_first, octets) in [
            (&b"\xef\xbb\xbfa"[..], true, 3),
            (b"\0\0\0USER", false, 3),
            (b"\xff\xfb\x01\xff\xfd\x03", true, 3),
            (b"\xff\xf4\xff\xfd\x06", false, 2),
        ] {
            for encrypted in [false, true] {
                let step = before_command(input, is_first, encrypted);
                assert!(matches!(step, Ok(Some(Step::Consume(count))) if count == octets), "{input:?}: {step:?}");
            }
        }
        for input in [&b"\xef"[..], b"\xef\xbb", b"\xff", b"\xff\xfb"] {
            assert!(matches!(before_command(input, true, true), Ok(Some(Step::Read))), "{input:?}");
        }
    }
}
