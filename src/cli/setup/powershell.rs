//! PowerShell text out of a configuration: strings that nothing breaks out of, and the lines for a mailbox.

use std::fmt::Write as _;

use super::{offers, reads};
use crate::config::{Account, Config};
use crate::crypto::sha256;
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

/// The user of Exchange that opens a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// The application, whose service principal has its object id in `$object`.
    Application,
    /// A person, by address.
    Person(String),
}

impl User {
    /// The user, as PowerShell takes it.
    fn expression(&self) -> String {
        match self {
            User::Application => "$object".to_owned(),
            User::Person(address) => quote(address),
        }
    }

    /// Returns whether a person opens the own mailbox, which needs no rights.
    fn owns(&self, account: &Account) -> bool {
        matches!(self, User::Person(address) if address.eq_ignore_ascii_case(&account.mailbox))
    }
}

/// The commands that give a user a mailbox: rights, and the protocols of the listeners. A person who opens the own
/// mailbox needs no rights.
pub(super) fn mailbox_lines(config: &Config, account: &Account, user: &User) -> Vec<String> {
    let (mailbox, sends) = (quote(&account.mailbox), offers(config, Protocol::Smtp));
    let trustee = user.expression();
    let mut lines = Vec::new();
    if reads(config) && !user.owns(account) {
        lines.push(format!(
            "Add-MailboxPermission -Identity {mailbox} -User {trustee} -AccessRights FullAccess -AutoMapping $false"
        ));
    }
    if sends && !user.owns(account) {
        lines.extend(sending_lines(account, user));
    }
    let switch = |protocol: Protocol| {
        let (switch, value) = protocol.mailbox_switch();
        format!(" -{switch} ${value}")
    };
    // A person's token logs in with the person's own mailbox, whatever mailbox it sends from.
    let of_person = match user {
        User::Person(person) if sends && !user.owns(account) => Some(person),
        User::Person(_) | User::Application => None,
    };
    let is_here =
        |protocol: &Protocol| offers(config, *protocol) && (*protocol != Protocol::Smtp || of_person.is_none());
    let switches: String = Protocol::ALL.into_iter().filter(is_here).map(switch).collect();
    if !switches.is_empty() || !sends {
        lines.push(format!("Set-CASMailbox -Identity {mailbox}{switches}"));
    }
    lines.extend(of_person.map(|person| {
        let switch = switch(Protocol::Smtp);
        format!("Set-CASMailbox -Identity {}{switch}", quote(person))
    }));
    lines
}

/// The commands that let a user send from a mailbox: a role of RBAC for Applications, or SendAs for a person.
fn sending_lines(account: &Account, user: &User) -> Vec<String> {
    let (mailbox, trustee) = (quote(&account.mailbox), user.expression());
    if let User::Person(_) = user {
        return vec![format!(
            "Add-RecipientPermission -Identity {mailbox} -Trustee {trustee} -AccessRights SendAs -Confirm:$false"
        )];
    }
    let scope = quote(&scope(&account.mailbox));
    let filter = quote(&format!("PrimarySmtpAddress -eq '{}'", account.mailbox.replace('\'', "''")));
    vec![
        format!(
            "if (-not (Get-ManagementScope | Where-Object Name -eq {scope})) {{ New-ManagementScope -Name {scope} \
             -RecipientRestrictionFilter {filter} }}"
        ),
        format!(
            "if (-not (Get-ManagementRoleAssignment -RoleAssignee {trustee} | Where-Object CustomResourceScope -eq \
             {scope})) {{ New-ManagementRoleAssignment -App {trustee} -Role {SENDING_ROLE} -CustomResourceScope {scope} }}"
        ),
    ]
}

/// The name of the management scope that has this mailbox alone. Exchange takes 64 characters: the end of a longer name
/// gives way to a hash of the address, which no other mailbox has.
pub(super) fn scope(mailbox: &str) -> String {
    let name = format!("packetboat {mailbox}");
    if !has_long_scope(mailbox) {
        return name;
    }
    let hash: String = sha256(mailbox.to_lowercase().as_bytes()).iter().take(8).map(|o| format!("{o:02x}")).collect();
    let mut length = LONGEST_SCOPE - hash.len() - 1;
    let fits = |character: &char| {
        let rest = length.checked_sub(character.len_utf16());
        length = rest.unwrap_or(0);
        rest.is_some()
    };
    let beginning: String = name.chars().take_while(fits).collect();
    format!("{beginning} {hash}")
}

/// Returns whether the scope of a mailbox has another name than "packetboat" and the address.
pub(super) fn has_long_scope(mailbox: &str) -> bool {
    "packetboat ".len() + mailbox.encode_utf16().count() > LONGEST_SCOPE
}

/// The commands that take a user's rights away.
pub(super) fn removal_lines(config: &Config, account: &Account, user: &User) -> Vec<String> {
    let (mailbox, trustee) = (quote(&account.mailbox), user.expression());
    let mut lines = Vec::new();
    if user.owns(account) {
        return lines;
    }
    if reads(config) {
        lines.push(format!(
            "Remove-MailboxPermission -Identity {mailbox} -User {trustee} -AccessRights FullAccess -Confirm:$false"
        ));
    }
    if !offers(config, Protocol::Smtp) {
        return lines;
    }
    let scope = quote(&scope(&account.mailbox));
    lines.extend(match user {
        User::Person(_) => vec![format!(
            "Remove-RecipientPermission -Identity {mailbox} -Trustee {trustee} -AccessRights SendAs -Confirm:$false"
        )],
        User::Application => vec![
            format!(
                "Get-ManagementRoleAssignment -RoleAssignee {trustee} | Where-Object CustomResourceScope -eq {scope} | \
                 ForEach-Object {{ Remove-ManagementRoleAssignment -Identity $_.Identity -Confirm:$false }}"
            ),
            format!("Remove-ManagementScope -Identity {scope} -Confirm:$false"),
        ],
    });
    lines
}

/// The longest name of a management scope, in characters as .NET counts them.
const LONGEST_SCOPE: usize = 64;
/// The role of RBAC for Applications that sends.
const SENDING_ROLE: &str = "'Application SMTP.SendAsApp'";

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

    #[test]
    fn long_names_of_scopes_are_shortened_without_clash() {
        let address = |length: usize, end: char| {
            let mailbox = format!("{}@contoso.example", "m".repeat(length - 17));
            format!("{}{end}", &mailbox[..mailbox.len()])
        };
        let (fits, long, other) = (address(53, 'a'), address(54, 'a'), address(54, 'b'));
        assert_eq!(scope(&fits), format!("packetboat {fits}"));
        assert_eq!(scope(&fits).len(), LONGEST_SCOPE);
        let shortened = [&long, &other].map(|mailbox| scope(mailbox));
        assert!(shortened.iter().all(|name| name.len() == LONGEST_SCOPE && name.starts_with("packetboat mmmm")));
        assert_ne!(shortened[0], shortened[1]);
        assert_eq!(scope(&long.to_uppercase())[48..], shortened[0][48..], "an address is the same in capitals");
        let wide = format!("{}@contoso.example", "\u{1f600}".repeat(40));
        assert!(scope(&wide).encode_utf16().count() <= LONGEST_SCOPE);
    }
}
