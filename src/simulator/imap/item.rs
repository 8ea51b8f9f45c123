//! Items of FETCH are parsed from requests and written in responses (RFC 3501 §6.4.5, §7.4.2).

use std::borrow::Cow;
use std::time::SystemTime;

use crate::simulator::mailbox::Message;

/// One item to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Flags,
    Uid,
    Size,
    InternalDate,
    Envelope,
    BodyStructure,
    Section(Section),
}

/// A section of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The section's name in the response, as `BODY[HEADER]`.
    name: String,
    part: Part,
    /// The first octet and the number of octets.
    range: Option<(usize, usize)>,
    /// True if fetching the section sets `\Seen`.
    pub(super) marks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Header,
    Text,
    Fields { names: Vec<String>, are_left_out: bool },
}

impl Item {
    /// The items that a word stands for; `None` for an unknown word.
    pub(super) fn parse(word: &str) -> Option<Vec<Self>> {
        let upper = word.to_ascii_uppercase();
        let section =
            |name: &str, part, marks| Item::Section(Section { name: name.to_owned(), part, range: None, marks });
        Some(match upper.as_str() {
            "FLAGS" => vec![Item::Flags],
            "UID" => vec![Item::Uid],
            "RFC822.SIZE" => vec![Item::Size],
            "INTERNALDATE" => vec![Item::InternalDate],
            "ENVELOPE" => vec![Item::Envelope],
            "BODY" | "BODYSTRUCTURE" => vec![Item::BodyStructure],
            "FAST" => vec![Item::Flags, Item::InternalDate, Item::Size],
            "ALL" => vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope],
            "FULL" => vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, Item::BodyStructure],
            "RFC822" => vec![section("RFC822", Part::Whole, true)],
            "RFC822.HEADER" => vec![section("RFC822.HEADER", Part::Header, false)],
            "RFC822.TEXT" => vec![section("RFC822.TEXT", Part::Text, true)],
            _ => vec![Item::Section(Section::parse(&upper)?)],
        })
    }

    /// The item's text in the response, without the octets of a section.
    pub(super) fn text(&self, message: &Message, size_excess: usize) -> String {
        match self {
            Item::Flags => format!("FLAGS ({})", message.flags.join(" ")),
            Item::Uid => format!("UID {}", message.uid),
            Item::Size => format!("RFC822.SIZE {}", message.octets.len() + size_excess),
            Item::InternalDate => format!("INTERNALDATE \"{}\"", internal_date(message.arrived)),
            Item::Envelope => {
                let field = |name| field(message, name).map_or("NIL".to_owned(), |value| format!("\"{value}\""));
                let (date, subject, id) = (field("date"), field("subject"), field("message-id"));
                format!("ENVELOPE ({date} {subject} NIL NIL NIL NIL NIL NIL NIL {id})")
            }
            Item::BodyStructure => {
                let text = message.header_and_body().1;
                let lines = memchr::memchr_iter(b'\n', text).count();
                format!("BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" {} {lines})", text.len())
            }
            Item::Section(section) => format!("{} {{{}}}\r\n", section.shown(), section.octets(message).len()),
        }
    }
}

impl Section {
    /// Parses `BODY[...]` or `BODY.PEEK[...]`, perhaps with `<first.count>`.
    fn parse(word: &str) -> Option<Self> {
        let (kind, rest) = word.split_once('[')?;
        let (inner, range) = rest.split_once(']')?;
        let marks = match kind {
            "BODY" => true,
            "BODY.PEEK" => false,
            _ => return None,
        };
        let part = match inner {
            "" => Part::Whole,
            "HEADER" | "MIME" => Part::Header,
            "TEXT" | "1" => Part::Text,
            _ => {
                let (kind, names) = inner.split_once(' ')?;
                let names = names.trim_matches(['(', ')']).split_whitespace();
                let names = names.map(|name| name.trim_matches('"').to_owned()).collect();
                match kind {
                    "HEADER.FIELDS" => Part::Fields { names, are_left_out: false },
                    "HEADER.FIELDS.NOT" => Part::Fields { names, are_left_out: true },
                    _ => return None,
                }
            }
        };
        let range = match range {
            "" => None,
            range => {
                let (first, count) = range.strip_prefix('<')?.strip_suffix('>')?.split_once('.')?;
                Some((first.parse().ok()?, count.parse().ok()?))
            }
        };
        Some(Self { name: format!("BODY[{inner}]"), part, range, marks })
    }

    fn shown(&self) -> String {
        match self.range {
            None => self.name.clone(),
            Some((first, _)) => format!("{}<{first}>", self.name),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.part == Part::Whole && self.range.is_none()
    }

    pub(super) fn octets<'a>(&self, message: &'a Message) -> Cow<'a, [u8]> {
        let (header, text) = message.header_and_body();
        let octets = match &self.part {
            Part::Whole => Cow::Borrowed(message.octets.as_slice()),
            Part::Header => Cow::Borrowed(header),
            Part::Text => Cow::Borrowed(text),
            Part::Fields { names, are_left_out } => Cow::Owned(fields(header, names, *are_left_out)),
        };
        match self.range {
            None => octets,
            Some((first, count)) => octets.iter().skip(first).take(count).copied().collect(),
        }
    }
}

/// The header fields of these names, or all others, with the empty line behind them.
fn fields(header: &[u8], names: &[String], are_left_out: bool) -> Vec<u8> {
    let mut chosen = Vec::new();
    let mut is_in = false;
    for line in header.split_inclusive(|&octet| octet == b'\n') {
        // A folded line goes with the one above.
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|&octet| octet == b':').next().unwrap_or_default();
            is_in = line.len() > 2
                && names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name)) != are_left_out;
        }
        if is_in {
            chosen.extend_from_slice(line);
        }
    }
    chosen.extend_from_slice(b"\r\n");
    chosen
}

fn field(message: &Message, name: &str) -> Option<String> {
    let lines = fields(message.header_and_body().0, &[name.to_owned()], false);
    let text = String::from_utf8_lossy(&lines).into_owned();
    let value = text.lines().next()?.split_once(':')?.1.trim().replace(['"', '\\'], "");
    Some(value)
}

/// A time as INTERNALDATE, as `21-Nov-2026 10:00:00 +0000`.
fn internal_date(time: SystemTime) -> String {
    // The form is `Sat, 21 Nov 2026 10:00:00 GMT`.
    let http = httpdate::fmt_http_date(time);
    let mut words = http.split(' ').skip(1);
    let mut next = || words.next().unwrap_or_default();
    format!("{}-{}-{} {} +0000", next(), next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn message() -> Message {
        let octets = b"From: a\r\nSubject: x\r\n y\r\nTo: b\r\n\r\nhello\r\n".to_vec();
        let arrived = httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").unwrap();
        Message { uid: 7, octets: Arc::new(octets), arrived, flags: vec!["\\Seen".to_owned()] }
    }

    fn octets(word: &str) -> String {
        match &Item::parse(word).unwrap()[0] {
            Item::Section(section) => String::from_utf8(section.octets(&message()).into_owned()).unwrap(),
            other => other.text(&message(), 0),
        }
    }

    #[test]
    fn sections() {
        assert_eq!(octets("BODY.PEEK[TEXT]"), "hello\r\n");
        assert_eq!(octets("body[header.fields (subject)]"), "Subject: x\r\n y\r\n\r\n");
        assert_eq!(octets("BODY[HEADER.FIELDS.NOT (SUBJECT FROM)]"), "To: b\r\n\r\n");
        assert_eq!(octets("BODY[]<0.4>"), "From");
        assert_eq!(octets("INTERNALDATE"), "INTERNALDATE \"21-Nov-2026 10:00:00 +0000\"");
        assert_eq!(octets("FLAGS"), "FLAGS (\\Seen)");
        assert_eq!(Item::parse("NONSENSE"), None);
    }
}
