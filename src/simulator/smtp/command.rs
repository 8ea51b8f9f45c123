//! Commands of SMTP are read from lines (RFC 5321 §4.1.1).

use crate::simulator::quirks::smtp::CommandEnds;

/// The path of MAIL or RCPT, and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) address: String,
    pub(super) parameters: Vec<String>,
}

impl Path {
    /// Reads what follows `FROM:` or `TO:`: an address with or without angle brackets, as Exchange takes both.
    pub(super) fn parse(argument: &str, keyword: &str) -> Option<Self> {
        let (name, rest) = argument.split_at_checked(keyword.len())?;
        let rest = rest.trim();
        let (address, parameters) = match rest.strip_prefix('<') {
            Some(rest) => rest.split_once('>')?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let is_well_formed = name.eq_ignore_ascii_case(keyword)
            && !address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '<')
            && (address.is_empty() || address.split('@').count() == 2)
            && (parameters.is_empty() || parameters.starts_with(' ') || !rest.starts_with('<'));
        let parameters = parameters.split_whitespace().map(str::to_owned).collect();
        is_well_formed.then(|| Self { address: address.to_owned(), parameters })
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| {
            let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The first parameter whose name is not among these.
    pub(super) fn unknown(&self, known: &[&str]) -> Option<&str> {
        let name = |parameter: &&String| parameter.split('=').next().unwrap_or_default().to_ascii_uppercase();
        self.parameters.iter().find(|parameter| !known.contains(&name(parameter).as_str())).map(String::as_str)
    }
}

/// The length of the first command line, and of its end.
pub(super) fn line_end(octets: &[u8], ends: CommandEnds) -> Option<(usize, usize)> {
    let strict = memchr::memmem::find(octets, b"\r\n").map(|at| (at, 2));
    let first = match ends {
        CommandEnds::Strict => return strict,
        CommandEnds::BareLf => memchr::memchr(b'\n', octets),
        CommandEnds::BareCr => memchr::memchr2(b'\n', b'\r', octets),
    }?;
    // A CR waits for the next octet, which may be LF.
    let is_pending = first + 1 == octets.len() && octets.get(first) == Some(&b'\r');
    match strict {
        Some((at, length)) if at <= first => Some((at, length)),
        _ => (!is_pending).then_some((first, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path = |argument| Path::parse(argument, "FROM:").map(|path| (path.address, path.parameters));
        let expected = |address: &str, parameters: &[&str]| {
            Some((address.to_owned(), parameters.iter().map(|one| (*one).to_owned()).collect()))
        };
        assert_eq!(path("FROM:<a@b> SIZE=1 body=8BITMIME"), expected("a@b", &["SIZE=1", "body=8BITMIME"]));
        assert_eq!(path("from: a@b SIZE=1"), expected("a@b", &["SIZE=1"]));
        assert_eq!(path("FROM:<>"), expected("", &[]));
        for bad in ["", "FROM", "TO:<a@b>", "FROM:<a@b", "FROM:<a b@c>", "FROM:<a@b@c>", "FROM:<a>", "FROM:<a@b>X=1"] {
            assert_eq!(path(bad), None, "{bad}");
        }
        let path = Path::parse("TO:<a@b> NOTIFY=NEVER size=12", "TO:").unwrap();
        assert_eq!((path.parameter("SIZE"), path.unknown(&["SIZE"])), (Some("12"), Some("NOTIFY=NEVER")));
    }

    #[test]
    fn line_ends() {
        let strict = |octets: &[u8]| line_end(octets, CommandEnds::Strict);
        assert_eq!((strict(b"a\nb\r\n"), strict(b"a\rb\n")), (Some((3, 2)), None));
        let bare_lf = |octets: &[u8]| line_end(octets, CommandEnds::BareLf);
        assert_eq!((bare_lf(b"a\r\nb\n"), bare_lf(b"a\rb\n")), (Some((1, 2)), Some((3, 1))));
        let bare_cr = |octets: &[u8]| line_end(octets, CommandEnds::BareCr);
        assert_eq!((bare_cr(b"a\rb\n"), bare_cr(b"a\r"), bare_cr(b"a\r\n")), (Some((1, 1)), None, Some((1, 2))));
    }
}
