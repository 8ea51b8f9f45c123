//! Text that a terminal shows and never obeys: nothing in it moves the cursor, sets the clipboard, hides or turns round
//! other text.
//!
//! Files, peers, endpoints and other programs may put any character into what they say. All printed or logged text
//! has the type [`Printable`] on its last step, and nothing makes one without taking out what a terminal would obey: C0
//! and C1 controls (ECMA-48: CSI, OSC, DCS), DEL, marks of direction, characters of no width.

use std::fmt::{self, Display, Write};

use zeroize::Zeroizing;

use super::is_invisible;

/// Text that may be printed. It is wiped on drop, because a new password is printed, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printable(Zeroizing<String>);

/// The style of a text on a terminal that wants colours (ECMA-48 §8.3.117).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The text looks like all other text.
    Plain,
    /// The text is bold.
    Bold,
    /// The text is fainter.
    Dim,
    /// The text is red.
    Red,
    /// The text is green.
    Green,
}

impl Printable {
    /// One printable line for use within a message: line ends become question marks, too.
    pub fn line(text: impl Display) -> Self {
        let mut line = Self::default();
        let _ = write!(Filter { text: &mut line, keeps_lines: false }, "{text}");
        line
    }

    /// Printable text of several lines, with their line ends and tabs.
    pub fn lines(text: impl Display) -> Self {
        let mut lines = Self::default();
        lines.push(text);
        lines
    }

    /// Adds several lines.
    pub fn push(&mut self, text: impl Display) {
        // Writing to a text fails only where the value's own `Display` does.
        let _ = write!(Filter { text: self, keeps_lines: true }, "{text}");
    }

    /// Adds text in this style. These are the only escapes that a `Printable` ever has.
    pub fn push_styled(&mut self, style: Style, text: impl Display) {
        let code = match style {
            Style::Plain => return self.push(text),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
        };
        self.0.push_str("\x1b[");
        self.0.push_str(code);
        self.0.push('m');
        self.push(text);
        self.0.push_str("\x1b[0m");
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any type with `Display` can be made printable, as several lines. `Printable` itself has no `Display`, so that no
/// format can turn it back into text that needs another check.
impl<T: Display> From<T> for Printable {
    fn from(text: T) -> Self {
        Self::lines(text)
    }
}

/// A filter that takes out what a terminal would obey.
struct Filter<'a> {
    text: &'a mut Printable,
    keeps_lines: bool,
}

impl Write for Filter<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let text = &mut self.text.0;
        // The room is reserved at once, because growth in small steps would leave copies behind.
        text.reserve(part.len());
        if part.bytes().all(|octet| (0x20..0x7f).contains(&octet)) {
            text.push_str(part);
            return Ok(());
        }
        let is_kept = |c: char| !is_invisible(c) || (self.keeps_lines && matches!(c, '\n' | '\t'));
        let mut rest = part.chars().peekable();
        while let Some(c) = rest.next() {
            // A carriage return is part of the line end behind it, as in CSV (RFC 4180), and else overwrites what is
            // there.
            let ends_line = self.keeps_lines && c == '\r' && rest.peek() == Some(&'\n');
            text.push(if is_kept(c) || ends_line { c } else { '?' });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks on terminals: OSC 52 (clipboard), OSC 8 (links), CSI (colours, cursor), DCS, C1 controls in
    /// UTF-8, backspace and carriage return (overwriting), marks of direction.
    const ATTACKS: [&str; 11] = [
        "a\x1b]52;c;ZWNobw==\x07b",
        "a\x1b]8;;https://evil.example\x1b\\b",
        "a\x1b[8mb",
        "a\x1b[2J\x1b[Hb",
        "a\x1bP1;1|x\x1b\\b",
        "a\u{9b}31mb",
        "a\u{9d}52;c;x\u{9c}b",
        "a\x08\x7fb",
        "a\rb",
        "a\u{202e}b\u{2066}c",
        "a\u{200b}\u{feff}\u{ad}\u{2028}\u{61c}\u{e0041}b",
    ];

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        for attack in ATTACKS {
            for shown in [Printable::line(attack), Printable::lines(attack), Printable::from(attack.to_owned())] {
                assert!(shown.as_str().starts_with('a') && shown.as_str().contains('?'), "{shown:?}");
                assert!(!shown.as_str().chars().any(is_invisible), "{shown:?}");
            }
        }
        assert_eq!(Printable::line("a\x1b[1m\r\nb").as_str(), "a?[1m??b");
        assert_eq!(Printable::line("p\u{e4}ss \u{4fe1}").as_str(), "p\u{e4}ss \u{4fe1}");
    }

    #[test]
    fn lines_stay_lines_where_they_are_meant() {
        assert_eq!(Printable::lines("a\tb\r\nc\nd\re").as_str(), "a\tb\r\nc\nd?e");
        assert_eq!(Printable::line("a\nb").as_str(), "a?b");
    }

    #[test]
    fn styles_are_our_own_alone() {
        let mut text = Printable::lines("x ");
        text.push_styled(Style::Bold, "b\x1b[8m");
        text.push_styled(Style::Plain, " c");
        assert_eq!(text.as_str(), "x \x1b[1mb?[8m\x1b[0m c");
    }
}
