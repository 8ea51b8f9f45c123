//! The parameters of MAIL and RCPT: SIZE and BODY are read, those of AUTH and DSN dropped, and others refused.
//!
//! RFC 5321 §4.1.1.11 has a server refuse what it does not know. AUTH= tells the server whom the device believes to
//! send for (RFC 4954 §5), and the parameters of DSN (RFC 3461 §4) would reach further than the listener offers.

use super::Mistake;

/// The kind of octets in a message (RFC 6152 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto) enum Body {
    /// ASCII alone.
    SevenBit,
    /// Any octets, in lines.
    EightBit,
}

/// Reads the parameters of MAIL: SIZE and BODY.
pub(super) fn of_mail(parameters: &[u8]) -> Result<(Option<u64>, Option<Body>), Mistake> {
    let (mut size, mut body) = (None, None);
    for (keyword, value) in each(parameters) {
        match keyword.to_ascii_uppercase().as_slice() {
            b"SIZE" if size.is_none() => size = Some(number(value).ok_or(Mistake::Parameter)?),
            b"BODY" if body.is_none() => body = Some(Body::parse(value).ok_or(Mistake::Parameter)?),
            b"SIZE" | b"BODY" => return Err(Mistake::Parameter),
            b"AUTH" | b"RET" | b"ENVID" => {}
            _ => return Err(Mistake::UnknownParameter),
        }
    }
    Ok((size, body))
}

/// Reads the parameters of RCPT, of which none is kept.
pub(super) fn of_rcpt(parameters: &[u8]) -> Result<(), Mistake> {
    let is_dropped =
        |keyword: &[u8]| [&b"NOTIFY"[..], b"ORCPT"].iter().any(|known| keyword.eq_ignore_ascii_case(known));
    if each(parameters).all(|(keyword, _)| is_dropped(keyword)) { Ok(()) } else { Err(Mistake::UnknownParameter) }
}

/// Splits parameters into keywords and values.
fn each(parameters: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let words = parameters.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map(|word| {
        let (keyword, value) = word.split_at(memchr::memchr(b'=', word).unwrap_or(word.len()));
        (keyword, value.strip_prefix(b"=").unwrap_or_default())
    })
}

/// Reads a number. One that is too large for 64 bits is larger than any message all the same.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

impl Body {
    fn parse(value: &[u8]) -> Option<Self> {
        match value.to_ascii_uppercase().as_slice() {
            b"7BIT" => Some(Body::SevenBit),
            b"8BITMIME" => Some(Body::EightBit),
            _ => None,
        }
    }
}
