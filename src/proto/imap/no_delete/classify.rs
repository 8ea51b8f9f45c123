//! The classes of commands where nothing may be deleted. Known commands pass, in the form in which every server
//! understands the same by them.

use crate::proto::imap::literal::Literal;
use crate::proto::imap::tag::{self, UNTAGGED};
use crate::proto::line::word;

/// The class of the first line of a command, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class<'a> {
    /// The line has no command.
    Empty,
    /// The end of IDLE (RFC 2177 §3).
    Done,
    Pass {
        tag: &'a [u8],
        logout: bool,
    },
    Idle {
        tag: &'a [u8],
    },
    /// CLOSE, which would remove what anybody has marked (RFC 3501 §6.4.2).
    Close {
        tag: &'a [u8],
    },
    Refuse {
        tag: &'a [u8],
    },
}

impl<'a> Class<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        if line.is_empty() {
            return Class::Empty;
        }
        if line.trim_ascii_end().eq_ignore_ascii_case(b"DONE") {
            return Class::Done;
        }
        let tag = tag::strict_of(line);
        let (Ok(_), true) = (announced_literal(line), tag != UNTAGGED) else {
            return Class::Refuse { tag };
        };
        let (verb, arguments) = word(word(line).1);
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        let passes = if is(b"IDLE") && arguments.is_empty() {
            return Class::Idle { tag };
        } else if is(b"CLOSE") && arguments.is_empty() {
            return Class::Close { tag };
        } else if is(b"STORE") {
            marks_nothing(arguments)
        } else if is(b"UID") {
            let (verb, arguments) = word(arguments);
            if verb.eq_ignore_ascii_case(b"STORE") { marks_nothing(arguments) } else { is_one_of(UID, verb) }
        } else {
            is_one_of(PASSING, verb)
        };
        if passes { Class::Pass { tag, logout: is(b"LOGOUT") } } else { Class::Refuse { tag } }
    }
}

/// Reads the literal that a line of a command announces.
///
/// # Errors
/// Some server may read the line otherwise. It may take a lone CR, a NUL or a tab for an end or a space, find a
/// literal where this function finds none, or find one of another size.
pub(super) fn announced_literal(line: &[u8]) -> Result<Option<Literal>, ()> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(());
    }
    let Some(brace) = memchr::memchr(b'{', line) else {
        return if line.trim_ascii_end().ends_with(b"}") { Err(()) } else { Ok(None) };
    };
    let announcement = line.get(brace..).unwrap_or_default();
    let literal = Literal::at_end_of(announcement).filter(|literal| literal.size <= LITERAL).ok_or(())?;
    let plain = format!("{{{}{}}}", literal.size, if literal.synchronising { "" } else { "+" });
    if plain.as_bytes() == announcement { Ok(Some(literal)) } else { Err(()) }
}

/// Returns whether the arguments of STORE are flags without `\Deleted` (RFC 3501 §6.4.6, RFC 7162 §3.1.3). Anything
/// else that can be stored, like the labels of Gmail, may move a message to the bin.
fn marks_nothing(arguments: &[u8]) -> bool {
    let (set, mut rest) = word(arguments);
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if set.is_empty() || !set.iter().all(|octet| octet.is_ascii_digit() || b":,*$".contains(octet)) {
        return false;
    }
    let (modifier, behind) = word(rest);
    if modifier.eq_ignore_ascii_case(b"(UNCHANGEDSINCE") {
        let (number, behind) = word(behind);
        if !number.strip_suffix(b")").is_some_and(is_number) {
            return false;
        }
        rest = behind;
    }
    let (item, flags) = word(rest);
    let item = item.strip_prefix(b"+").or_else(|| item.strip_prefix(b"-")).unwrap_or(item);
    let flags = flags.trim_ascii_end();
    let flags = match flags.strip_prefix(b"(") {
        Some(list) => list.strip_suffix(b")"),
        None => Some(flags),
    };
    is_one_of(&[b"FLAGS", b"FLAGS.SILENT"], item)
        && flags.is_some_and(|flags| flags.split(|octet| *octet == b' ').all(is_harmless))
}

fn is_harmless(flag: &[u8]) -> bool {
    match flag.strip_prefix(b"\\") {
        Some(system) => is_one_of(&[b"SEEN", b"ANSWERED", b"FLAGGED", b"DRAFT", b"RECENT"], system),
        None => {
            flag.iter().all(|octet| octet.is_ascii_alphanumeric() || b"$_-.:/&#".contains(octet))
                && !flag.to_ascii_lowercase().windows(b"deleted".len()).any(|part| part == b"deleted")
        }
    }
}

fn is_one_of(names: &[&[u8]], word: &[u8]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// Commands that delete nothing. COPY is none of them: some servers move what is copied into their bin. SELECT and
/// LOGOUT leave marked messages as they are (RFC 3501 §6.1.3, §6.3.1).
const PASSING: &[&[u8]] = &[
    b"CAPABILITY",
    b"NOOP",
    b"LOGOUT",
    b"ID",
    b"ENABLE",
    b"SELECT",
    b"EXAMINE",
    b"CREATE",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"LIST",
    b"LSUB",
    b"XLIST",
    b"STATUS",
    b"NAMESPACE",
    b"APPEND",
    b"CHECK",
    b"UNSELECT",
    b"SEARCH",
    b"SORT",
    b"THREAD",
    b"FETCH",
    b"GETQUOTA",
    b"GETQUOTAROOT",
    b"GETACL",
    b"MYRIGHTS",
    b"GETMETADATA",
];

/// Commands behind UID that delete nothing.
const UID: &[&[u8]] = &[b"SEARCH", b"FETCH", b"SORT", b"THREAD"];

/// The largest literal, in octets. No server's counter overflows below it.
const LITERAL: u64 = 999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(line: &str) -> bool {
        matches!(Class::of(line.as_bytes()), Class::Pass { .. })
    }

    #[test]
    fn store_without_deleted_passes() {
        for arguments in [
            "1 FLAGS \\Seen",
            "1:* +FLAGS (\\Seen \\Flagged)",
            "1,3:5 -flags.silent ()",
            "1 +FLAGS ($Forwarded NonJunk \\answered)",
            "1 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Seen)",
            "$ FLAGS (\\Draft) ",
        ] {
            assert!(passes(&format!("a STORE {arguments}")), "{arguments}");
            assert!(passes(&format!("a uid store {arguments}")), "{arguments}");
        }
    }

    #[test]
    fn store_in_any_other_form_does_not() {
        for arguments in [
            "1 +FLAGS (\\Deleted)",
            "1 +FLAGS \\dElEtEd",
            "1 +FLAGS.SILENT (\\Seen \\DELETED)",
            "1 FLAGS (\\Seen) (\\Deleted)",
            "1 +FLAGS (\\Seen",
            "1 +FLAGS (\"\\\\D\\eleted\")",
            "1 +FLAGS ($Deleted)",
            "1 +FLAGS {8}",
            "1 +FLAGS (\\Seen {8+}",
            "1 +X-GM-LABELS (\\Trash)",
            "1  +FLAGS (\\Seen)",
            "1 ++FLAGS (\\Seen)",
            "1 (UNCHANGEDSINCE x) FLAGS (\\Seen)",
            "1 (UNCHANGEDSINCE 1) X (\\Seen)",
            "1 +FLAGS (\\*)",
            "(1) FLAGS (\\Seen)",
            "",
        ] {
            assert!(!passes(&format!("a STORE {arguments}")), "{arguments}");
            assert!(!passes(&format!("a UID STORE {arguments}")), "{arguments}");
        }
    }

    #[test]
    fn ambiguous_commands_do_not_pass() {
        for line in [
            " a NOOP",
            "a  NOOP",
            "a\tNOOP",
            "a NOOP\t",
            "a NOOP\0",
            "\0a NOOP",
            "a NOOP\rb EXPUNGE",
            "* NOOP",
            "+ NOOP",
            "a(b NOOP",
            "a",
            "NOOP",
            "a UID",
            "a UID  FETCH 1 ALL",
            "a UID EXPUNGE 1",
            "a SELECT {05}",
            "a SELECT {5} ",
            "a SELECT {5-}",
            "a SELECT {+5}",
            "a SELECT 5}",
            "a SELECT {5} {5}",
            "a SELECT {1000000000}",
            "a SELECT {99999999999999999999999}",
        ] {
            assert!(!passes(line), "{line:?}");
        }
        assert!(!passes(&format!("{} NOOP", "t".repeat(tag::LONGEST + 1))));
        assert!(passes(&format!("{} NOOP", "t".repeat(tag::LONGEST))));
        assert!(passes("A.1-~!#$&',/:;<=>?@[]^_`| noop"));
        assert!(passes("a sElEcT \"Entw\u{fc}rfe\""));
    }

    #[test]
    fn all_that_deletes_is_unknown() {
        for verb in
            ["EXPUNGE", "MOVE", "DELETE", "RENAME", "COMPRESS", "REPLACE", "SETACL", "UNAUTHENTICATE", "CLOSE x"]
        {
            assert_eq!(Class::of(format!("a {verb}").as_bytes()), Class::Refuse { tag: b"a" }, "{verb}");
        }
        assert_eq!(Class::of(b"a close"), Class::Close { tag: b"a" });
        assert_eq!(Class::of(b"a IDLE"), Class::Idle { tag: b"a" });
        assert_eq!(Class::of(b"a IDLE {5}"), Class::Refuse { tag: b"a" });
    }

    #[test]
    fn literals() {
        let literal = |size, synchronising| Ok(Some(Literal { size, synchronising }));
        assert_eq!(announced_literal(b"a APPEND x (\\Seen) {310}"), literal(310, true));
        assert_eq!(announced_literal(b" {0+}"), literal(0, false));
        assert_eq!(announced_literal(b"a APPEND x ~{3}"), literal(3, true));
        assert_eq!(announced_literal(b""), Ok(None));
    }
}
