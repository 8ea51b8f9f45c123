//! PowerShell text out of a configuration: strings that nothing breaks out of, and the lines for a mailbox.

use std::fmt::Write as _;

use super::offers;
use crate::config::{Account, Config};
use crate::protocol::Protocol;

/// An expression of PowerShell for a text, in printable ASCII whatever the text is.
///
/// In single quotation marks PowerShell reads everything literally but quotation marks, of which it knows five: `'` and
/// U+2018 to U+201B. Windows PowerShell reads a file without a byte order mark in the computer's code page, and could
/// find a quotation mark in any character that is not ASCII. Therefore such characters are written as numbers.
pub(in crate::cli) fn quote(text: &str) -> String {
    let mut expression = String::from("'");
    let mut has_numbers = false;
    let mut is_open = true;
    for unit in text.encode_utf16() {
        let printable = u8::try_from(unit).ok().filter(|octet| matches!(octet, b' '..=b'~')).map(char::from);
        match printable {
            Some(character) => {
                if !is_open {
                    expression.push_str(" + '");
                }
                is_open = true;
                expression.push(character);
                if character == '\'' {
                    expression.push(character);
                }
            }
            None => {
                if is_open {
                    expression.push('\'');
                }
                is_open = false;
                has_numbers = true;
                let _ = write!(expression, " + [char] 0x{unit:04X}");
            }
        }
    }
    if is_open {
        expression.push('\'');
    }
    if has_numbers { format!("({expression})") } else { expression }
}

/// The commands that give a user a mailbox: rights, and the protocols of the listeners. A person who opens the own
/// mailbox needs no rights.
pub(super) fn mailbox_lines(config: &Config, account: &Account, user: Option<&str>) -> Vec<String> {
    let mailbox = quote(&account.mailbox);
    let rights = user.map(|user| {
        format!("Add-MailboxPermission -Identity {mailbox} -User {user} -AccessRights FullAccess -AutoMapping $false")
    });
    let switches: String = Protocol::ALL
        .into_iter()
        .filter(|protocol| offers(config, *protocol))
        .map(|protocol| {
            let (switch, value) = protocol.mailbox_switch();
            format!(" -{switch} ${value}")
        })
        .collect();
    rights.into_iter().chain([format!("Set-CASMailbox -Identity {mailbox}{switches}")]).collect()
}

/// The command that takes a user's rights away.
pub(super) fn removal_line(account: &Account, user: &str) -> String {
    let mailbox = quote(&account.mailbox);
    format!("Remove-MailboxPermission -Identity {mailbox} -User {user} -AccessRights FullAccess -Confirm:$false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_marks_are_doubled_or_numbers() {
        assert_eq!(quote(""), "''");
        assert_eq!(quote("o'neill@contoso.com"), "'o''neill@contoso.com'");
        assert_eq!(quote("$x `n \"y\" $(z) #"), "'$x `n \"y\" $(z) #'");
        assert_eq!(quote("\u{2019}"), "('' + [char] 0x2019)");
        assert_eq!(quote("a\u{2018}\u{201b}b"), "('a' + [char] 0x2018 + [char] 0x201B + 'b')");
        assert_eq!(quote("\r\n'@"), "('' + [char] 0x000D + [char] 0x000A + '''@')");
        assert_eq!(quote("\u{1f600}"), "('' + [char] 0xD83D + [char] 0xDE00)");
    }
}
