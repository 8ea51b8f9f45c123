//! The lines of a message: which octets pass, which are replaced, and which end the data.
//!
//! | lines, with their ends | go up as |
//! |---|---|
//! | `.`, begun and ended by CRLF | themselves: the end of the data |
//! | `.`, begun or ended by a bare CR or LF | `..` and CRLF: a server that takes bare ones for line ends sees no end |
//! | a bare CR or LF (CR CR LF is a bare CR and CRLF) | CRLF |
//! | a dot with nothing but NULs around it, or before a NUL | two dots: a server may drop NULs, or end a line at one |
//! | other lines that begin with a dot | themselves: the device has doubled it (RFC 5321 §4.5.2) |

/// The position in the lines of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    position: Position,
    has_crlf: bool,
    lf_end_of_data: bool,
    /// The number of octets to read line by line, because a block that begins before them is not plain.
    by_line: usize,
}

/// The position of the next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The next octet begins a line.
    Start(Boundary),
    /// The line has NULs and nothing else so far.
    Nuls,
    /// The next octet does not matter, unless it is part of a line's end.
    Inside,
}

/// The boundary in front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// The server's 354. It counts like CRLF.
    Beginning,
    /// CRLF.
    Crlf,
    /// A bare CR.
    Cr,
    /// A bare LF.
    Lf,
}

/// Octets of the beginning of the input that have one treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The number of the octets.
    pub(super) len: usize,
    pub(super) treatment: Treatment,
    then: Position,
}

/// The treatment of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The octets go up as they are.
    Passes,
    /// This text goes up in their place.
    Replaced(&'static [u8]),
    /// The octets go up as they are, and end the data.
    Ends,
    /// The octets end the data, and this text goes up in their place.
    EndsReplaced(&'static [u8]),
}

impl Body {
    pub(super) fn new(lf_end_of_data: bool) -> Self {
        Self { position: Position::Start(Boundary::Beginning), has_crlf: false, lf_end_of_data, by_line: 0 }
    }

    /// Goes on at the beginning of a line, behind lines that were read elsewhere.
    pub(super) fn begin_line(&mut self, boundary: Boundary, has_crlf: bool) {
        self.position = Position::Start(boundary);
        self.has_crlf = has_crlf;
    }

    /// Returns the piece that `rest` begins with; `None` if its treatment depends on octets that have not come.
    pub(super) fn piece(&self, rest: &[u8]) -> Option<Piece> {
        match (self.position, rest) {
            (_, []) => None,
            (Position::Start(boundary), [b'.', ..]) => self.lone_dot(boundary, rest),
            (Position::Start(_) | Position::Nuls, [0, ..]) => {
                let len = rest.iter().take_while(|octet| **octet == 0).count();
                Some(Piece::passes(len, Position::Nuls))
            }
            (Position::Nuls, [b'.', 0 | b'\r' | b'\n', ..]) => Some(DOT_DOUBLED),
            (Position::Nuls, [b'.']) => None,
            (_, [b'\n', ..]) => line_end(rest),
            _ if self.by_line == 0 => plain(rest).or_else(|| line_end(rest)),
            _ => line_end(rest),
        }
    }

    /// Goes on behind a piece.
    pub(super) fn advance(&mut self, piece: &Piece) {
        self.position = piece.then;
        self.has_crlf |= piece.then == Position::Start(Boundary::Crlf);
        self.by_line = match self.by_line {
            0 if piece.len < BLOCK => BLOCK,
            left => left.saturating_sub(piece.len),
        };
    }

    /// Reads a line that begins with a dot, as far as it tells whether the dot stands alone.
    fn lone_dot(&self, boundary: Boundary, rest: &[u8]) -> Option<Piece> {
        let is_clean = matches!(boundary, Boundary::Beginning | Boundary::Crlf);
        let ends_by_lf = self.lf_end_of_data && !self.has_crlf && boundary != Boundary::Cr;
        Some(match rest {
            [_] | [_, b'\r'] => return None,
            [_, b'\r', b'\n', ..] if is_clean => Piece::new(3, Treatment::Ends, Boundary::Crlf),
            [_, b'\r', b'\n', ..] => Piece::new(3, Treatment::Replaced(LONE_DOT_DOUBLED), Boundary::Crlf),
            [_, b'\r', ..] => Piece::new(2, Treatment::Replaced(LONE_DOT_DOUBLED), Boundary::Cr),
            [_, b'\n', ..] if ends_by_lf => Piece::new(2, Treatment::EndsReplaced(b".\r\n"), Boundary::Lf),
            [_, b'\n', ..] => Piece::new(2, Treatment::Replaced(LONE_DOT_DOUBLED), Boundary::Lf),
            [_, 0, ..] => DOT_DOUBLED,
            _ => Piece::passes(1, Position::Inside),
        })
    }
}

/// Reads whole blocks of lines that pass, up to the last line's end in them.
fn plain(rest: &[u8]) -> Option<Piece> {
    let mut len = 0;
    // A pair of octets reaches into the next block.
    while rest.get(len..=len + BLOCK).is_some_and(is_plain) {
        len += BLOCK;
    }
    let end = memchr::memrchr(b'\n', rest.get(..len)?)?;
    Some(Piece::passes(end + 1, Position::Start(Boundary::Crlf)))
}

/// Returns whether the octets have no bare CR or LF, and no line that begins with a dot or NUL. It looks at pairs of
/// octets without a branch, so that the compiler makes vectors of them.
fn is_plain(octets: &[u8]) -> bool {
    let pairs = octets.iter().zip(octets.get(1..).unwrap_or_default());
    let odd = pairs.fold(0, |odd, (octet, next)| {
        let bare = u8::from(*octet == b'\r') ^ u8::from(*next == b'\n');
        let dot = u8::from(*octet == b'\n') & (u8::from(*next == b'.') | u8::from(*next == 0));
        odd | bare | dot
    });
    odd == 0
}

/// Reads up to the next line end, and past it if it is CRLF.
fn line_end(rest: &[u8]) -> Option<Piece> {
    let Some(at) = memchr::memchr2(b'\r', b'\n', rest) else {
        return Some(Piece::passes(rest.len(), Position::Inside));
    };
    let boundary = match rest.get(at..) {
        Some([b'\r', b'\n', ..]) => return Some(Piece::passes(at + 2, Position::Start(Boundary::Crlf))),
        _ if at > 0 => return Some(Piece::passes(at, Position::Inside)),
        Some([b'\r']) => return None,
        Some([b'\r', ..]) => Boundary::Cr,
        _ => Boundary::Lf,
    };
    Some(Piece::new(1, Treatment::Replaced(b"\r\n"), boundary))
}

impl Piece {
    /// Octets that pass, without a line's end.
    pub(super) fn inside(len: usize) -> Self {
        Self::passes(len, Position::Inside)
    }

    /// Returns whether the data end with the piece.
    pub(super) fn ends(&self) -> bool {
        matches!(self.treatment, Treatment::Ends | Treatment::EndsReplaced(_))
    }

    fn passes(len: usize, then: Position) -> Self {
        Self { len, treatment: Treatment::Passes, then }
    }

    fn new(len: usize, treatment: Treatment, boundary: Boundary) -> Self {
        Self { len, treatment, then: Position::Start(boundary) }
    }
}

/// The number of octets that are looked at together.
const BLOCK: usize = 512;

const LONE_DOT_DOUBLED: &[u8] = b"..\r\n";
const DOT_DOUBLED: Piece = Piece { len: 1, treatment: Treatment::Replaced(b".."), then: Position::Inside };
