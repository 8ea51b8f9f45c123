//! The head of a message: where it ends, which fields it has, and what it lacks (RFC 5322 §2.2, §3.6).
//!
//! The head is read whole, in the buffer in which it came. A head that has all that it needs is forwarded; otherwise it
//! is written anew, with every other field octet for octet. Fields that it lacks stand in front.

use std::io::Write;

use super::body::Boundary;
use super::{Refusal, from};
use crate::proto::smtp::sender::SenderRules;
use crate::submission::SenderPolicy;
use crate::submission::Stamp;
use crate::submission::date;

/// The reader of a head that comes in pieces.
#[derive(Debug)]
pub(super) struct HeadReader {
    /// The length of the lines that belong to the head.
    scanned: usize,
    boundary: Boundary,
    has_crlf: bool,
    has_bare: bool,
}

/// A head at the beginning of the input.
#[derive(Debug)]
pub(super) struct Extent {
    /// The length with the blank line behind the fields, if there is one.
    pub(super) len: usize,
    pub(super) ending: Ending,
    /// A blank line has to be put behind it.
    pub(super) needs_blank: bool,
    /// The boundary in front of the next line.
    pub(super) boundary: Boundary,
    /// The head has a CRLF.
    pub(super) has_crlf: bool,
    /// The head has a bare CR or LF.
    pub(super) has_bare: bool,
}

/// The reasons for which a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A blank line, which belongs to it.
    Blank,
    /// A line that is no field. Servers differ in whether fields behind it count, and so a blank line is put before it.
    NoField,
    /// The bound on heads.
    Bound,
}

impl HeadReader {
    pub(super) fn new() -> Self {
        Self { scanned: 0, boundary: Boundary::Beginning, has_crlf: false, has_bare: false }
    }

    /// Returns the head that `input` begins with; `None` if its end has not come.
    pub(super) fn read(&mut self, input: &[u8]) -> Option<Extent> {
        loop {
            let rest = input.get(self.scanned..)?;
            let window = LONGEST_HEAD - self.scanned;
            let line = match Line::read(rest, window + 1) {
                Some(line) => line,
                None if memchr::memchr2(b'\r', b'\n', rest).is_none_or(|at| at > window) && rest.len() > window => {
                    return Some(self.extent(0, Ending::Bound));
                }
                None => return None,
            };
            if line.len > window {
                return Some(self.extent(0, Ending::Bound));
            }
            let belongs = match line.kind() {
                Kind::Field(_) => true,
                Kind::Mbox => self.scanned == 0,
                // In front of all fields it would continue a field of packetboat's.
                Kind::Continuation => self.scanned > 0,
                Kind::Blank => {
                    self.take(&line);
                    return Some(self.extent(line.len, Ending::Blank));
                }
                Kind::Other => false,
            };
            if !belongs {
                return Some(self.extent(0, Ending::NoField));
            }
            self.take(&line);
            self.scanned += line.len;
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        self.boundary = line.boundary;
        self.has_crlf |= line.boundary == Boundary::Crlf;
        self.has_bare |= line.boundary != Boundary::Crlf;
    }

    fn extent(&self, blank: usize, ending: Ending) -> Extent {
        let ending = if self.scanned == 0 && ending == Ending::Bound { Ending::NoField } else { ending };
        let Self { scanned, boundary, has_crlf, has_bare } = *self;
        Extent { len: scanned + blank, ending, needs_blank: ending == Ending::NoField, boundary, has_crlf, has_bare }
    }
}

/// A line of a head.
struct Line<'a> {
    text: &'a [u8],
    len: usize,
    boundary: Boundary,
}

/// The kinds of lines.
enum Kind<'a> {
    /// The first line of a field with this name.
    Field(&'a [u8]),
    /// Another line of a field, or of what stands in front of it.
    Continuation,
    Blank,
    /// The line that separates messages in a mailbox file (RFC 4155). It is no part of a message.
    Mbox,
    Other,
}

impl<'a> Line<'a> {
    /// Reads the line that `rest` begins with, if its text is shorter than `max`. A bare CR or LF ends a line.
    fn read(rest: &'a [u8], max: usize) -> Option<Self> {
        let window = rest.get(..max).unwrap_or(rest);
        let at = memchr::memchr2(b'\r', b'\n', window)?;
        let (boundary, end) = match rest.get(at..)? {
            [b'\r', b'\n', ..] => (Boundary::Crlf, 2),
            [b'\r'] => return None,
            [b'\r', ..] => (Boundary::Cr, 1),
            _ => (Boundary::Lf, 1),
        };
        Some(Self { text: rest.get(..at)?, len: at + end, boundary })
    }

    /// Returns the text as the server has it, without the dot that the device has put in front (RFC 5321 §4.5.2).
    fn unstuffed(&self) -> &'a [u8] {
        match self.text {
            [b'.', text @ ..] if !text.is_empty() => text,
            text => text,
        }
    }

    fn kind(&self) -> Kind<'a> {
        let text = self.unstuffed();
        let name = memchr::memchr(b':', text).and_then(|colon| text.get(..colon)).map(<[u8]>::trim_ascii_end);
        match (text, name) {
            ([], _) => Kind::Blank,
            ([b' ' | b'\t', ..], _) => Kind::Continuation,
            (_, Some(name)) if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) => Kind::Field(name),
            _ if text.starts_with(b"From ") || text.starts_with(b">From ") => Kind::Mbox,
            _ => Kind::Other,
        }
    }
}

/// A field with all its lines; the name is empty if it is no field.
struct Field<'a> {
    name: &'a [u8],
    lines: Vec<Line<'a>>,
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns the value without its line ends (RFC 5322 §2.2.3).
    fn value(&self) -> Vec<u8> {
        let text: Vec<u8> = self.lines.iter().flat_map(|line| line.unstuffed()).copied().collect();
        text.splitn(2, |octet| *octet == b':').nth(1).unwrap_or_default().to_vec()
    }

    /// Returns whether mail programs would show another sender by this field, beside the one in From.
    fn names_another(&self, rules: &SenderRules) -> bool {
        SENDER_NAMES.iter().any(|name| self.is(name)) && !from::names(rules, &self.value())
    }

    fn write(&self, out: &mut Vec<u8>) {
        for line in &self.lines {
            out.extend_from_slice(line.text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn fields<'a>(input: &'a [u8], extent: &Extent) -> Vec<Field<'a>> {
    let (mut fields, mut at) = (Vec::<Field<'a>>::new(), 0);
    while at < extent.len
        && let Some(line) = input.get(at..).and_then(|rest| Line::read(rest, rest.len()))
    {
        at += line.len;
        match (line.kind(), fields.last_mut()) {
            (Kind::Continuation, Some(field)) => field.lines.push(line),
            (Kind::Field(name), _) => fields.push(Field { name, lines: vec![line] }),
            (Kind::Blank, _) => {}
            _ => fields.push(Field { name: b"", lines: vec![line] }),
        }
    }
    fields
}

/// Writes the head that `input` begins with to `out`, if it has to change. Returns whether it has.
///
/// # Errors
/// The sender policy refuses the message.
pub(super) fn rewrite(
    input: &[u8],
    extent: &Extent,
    rules: &SenderRules,
    stamp: &Stamp,
    out: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    let fields = fields(input, extent);
    let has = |name: &str| fields.iter().any(|field| field.is(name));
    let values: Vec<Vec<u8>> = fields.iter().filter(|field| field.is("From")).map(Field::value).collect();
    let mut new = from::decide(rules, &values, has("Reply-To"))?;
    let is_replaced = new.is_some();
    let is_dropped = |field: &Field<'_>| {
        // Sender would name the one that was replaced (RFC 5322 §3.6.2).
        let is_superfluous = is_replaced && field.is("Sender");
        rules.policy != SenderPolicy::Envelope && (is_superfluous || field.names_another(rules))
    };
    let stays = |field: &Field<'_>| !field.name.is_empty() && !is_dropped(field);
    let is_clean = !extent.has_bare && !extent.needs_blank && fields.iter().all(stays);
    if is_clean && !is_replaced && has("Date") && has("Message-ID") {
        return Ok(false);
    }
    if values.is_empty()
        && let Some(new) = new.take()
    {
        out.extend_from_slice(new.as_bytes());
    }
    supplement(&has, rules, stamp, out);
    for field in &fields {
        if is_replaced && field.is("From") {
            // The new one stands in place of the first.
            out.extend_from_slice(new.take().unwrap_or_default().as_bytes());
        } else if stays(field) {
            field.write(out);
        }
    }
    if extent.needs_blank || extent.ending == Ending::Blank {
        out.extend_from_slice(b"\r\n");
    }
    Ok(true)
}

/// Adds Date and Message-ID where they are missing (RFC 6409 §8.2, §8.3).
fn supplement(has: &dyn Fn(&str) -> bool, rules: &SenderRules, stamp: &Stamp, out: &mut Vec<u8>) {
    if !has("Date") {
        out.extend_from_slice(format!("Date: {}\r\n", date::format(stamp.seconds)).as_bytes());
    }
    if !has("Message-ID") {
        out.extend_from_slice(b"Message-ID: <");
        // A vector takes all that is written to it.
        let _ = stamp.id.iter().try_for_each(|octet| write!(out, "{octet:02x}"));
        out.extend_from_slice(format!("@{}>\r\n", rules.mailbox.domain().unwrap_or("localhost")).as_bytes());
    }
}

/// The fields beside From by which mail programs show a sender: "Sender on behalf of From" (RFC 5322 §3.6.2), and whoever
/// has sent a message again (§3.6.6).
const SENDER_NAMES: [&str; 3] = ["Sender", "Resent-Sender", "Resent-From"];

/// The longest head that is looked at, in octets. A longer one is taken to end at the last line within.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;
