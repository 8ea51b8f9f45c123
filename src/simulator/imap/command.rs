//! An IMAP command is split into words: atoms, strings and parentheses (RFC 3501 §9).

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An atom, or `BODY[...]` with all that is between its brackets.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    Open,
    Close,
}

/// A literal that ends a line: `{n}` or `{n+}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) length: usize,
    /// True if the client waits for a continuation request.
    pub(super) waits: bool,
}

impl Word {
    /// The word as text; parentheses have none.
    pub(super) fn text(&self) -> String {
        match self {
            Word::Atom(text) => text.clone(),
            Word::Text(octets) => String::from_utf8_lossy(octets).into_owned(),
            Word::Open | Word::Close => String::new(),
        }
    }
}

/// Splits a line into words, and the literal at its end; `None` for a malformed line.
pub(super) fn split(line: &[u8]) -> Option<(Vec<Word>, Option<Literal>)> {
    let text = String::from_utf8_lossy(line);
    let mut rest = text.as_ref();
    let mut words = Vec::new();
    loop {
        rest = rest.trim_start_matches(' ');
        let Some(first) = rest.chars().next() else { return Some((words, None)) };
        match first {
            '(' => {
                words.push(Word::Open);
                rest = rest.get(1..)?;
            }
            ')' => {
                words.push(Word::Close);
                rest = rest.get(1..)?;
            }
            '"' => {
                let (string, after) = quoted(rest.get(1..)?)?;
                words.push(Word::Text(string));
                rest = after;
            }
            '{' => return literal(rest).map(|literal| (words, Some(literal))),
            _ => {
                let length = atom_length(rest);
                let (atom, after) = rest.split_at_checked(length)?;
                words.push(Word::Atom(atom.to_owned()));
                rest = after;
            }
        }
    }
}

fn quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut string = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((string.into_bytes(), text.get(at + 1..)?)),
            '\\' => string.push(chars.next()?.1),
            c => string.push(c),
        }
    }
    None
}

fn literal(text: &str) -> Option<Literal> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let number = inner.strip_suffix('+').unwrap_or(inner);
    Some(Literal { length: number.parse().ok()?, waits: number.len() == inner.len() })
}

/// The length of an atom: up to the next space or parenthesis outside brackets.
fn atom_length(text: &str) -> usize {
    let mut is_inside = false;
    for (at, c) in text.char_indices() {
        match c {
            '[' => is_inside = true,
            ']' => is_inside = false,
            ' ' | '(' | ')' if !is_inside => return at,
            _ => {}
        }
    }
    text.len()
}

/// A set of message numbers or unique identifiers (`sequence-set`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<(u32, u32)>);

impl Set {
    /// `last` is what `*` stands for.
    pub(super) fn parse(text: &str, last: u32) -> Option<Self> {
        let number = |text: &str| if text == "*" { Some(last) } else { text.parse().ok().filter(|&number| number > 0) };
        let range = |text: &str| match text.split_once(':') {
            None => number(text).map(|one| (one, one)),
            Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| (from.min(to), from.max(to))),
        };
        text.split(',').map(range).collect::<Option<_>>().map(Self)
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.0.iter().any(|&(from, to)| from <= number && number <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        let (words, literal) =
            split(br#"a1 FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (FROM TO)]<0.9>) "a \"b""#).unwrap();
        assert_eq!(literal, None);
        assert_eq!(words.len(), 8);
        assert_eq!(words[5], Word::Atom("BODY.PEEK[HEADER.FIELDS (FROM TO)]<0.9>".to_owned()));
        assert_eq!(words[7], Word::Text(b"a \"b".to_vec()));
    }

    #[test]
    fn literals_end_a_line() {
        let of = |line: &[u8]| split(line).unwrap().1;
        assert_eq!(of(b"a LOGIN {3}"), Some(Literal { length: 3, waits: true }));
        assert_eq!(of(b"a LOGIN {3+}"), Some(Literal { length: 3, waits: false }));
        assert_eq!(split(b"a LOGIN {x}"), None);
        assert_eq!(split(b"a LOGIN \"open"), None);
    }

    #[test]
    fn sets() {
        let set = Set::parse("2,4:5,*", 9).unwrap();
        assert_eq!((1..=10).filter(|&n| set.has(n)).collect::<Vec<_>>(), [2, 4, 5, 9]);
        assert!(Set::parse("*:1", 3).unwrap().has(2));
        assert_eq!(Set::parse("0", 3), None);
    }
}
