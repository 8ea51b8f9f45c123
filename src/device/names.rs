//! The names of devices: logins, aliases and every form in which one is written.

use std::collections::HashMap;

use super::charset;

/// Index from a name to its device.
#[derive(Default)]
pub(super) struct Names {
    by_login: HashMap<String, usize>,
    /// The names of each device, in lower case.
    mailboxes: Vec<String>,
}

impl Names {
    /// Adds a device with its logins, in lower case, and its mailbox; devices are numbered in this order.
    pub(super) fn add(&mut self, logins: &[String], mailbox: &str) {
        let index = self.mailboxes.len();
        self.by_login.extend(logins.iter().map(|login| (login.clone(), index)));
        self.mailboxes.push(mailbox.to_lowercase());
    }

    /// The device of a login as [`written`] gives it: by login or alias; also by the old form `user@domain\shared`,
    /// where that mailbox is the device's.
    pub(super) fn find(&self, login: &str) -> Option<usize> {
        let known = |login: &str| self.by_login.get(login).copied();
        if let Some(found) = known(login).or_else(|| known(login.trim())) {
            return Some(found);
        }
        let (user, shared) = login.trim().rsplit_once(['\\', '/'])?;
        // A Windows domain may stand before the user.
        let found = known(user).or_else(|| known(user.rsplit_once('\\')?.1))?;
        let mailbox = self.mailboxes.get(found)?;
        let is_its_own = shared == mailbox || mailbox.split_once('@').is_some_and(|(local, _)| local == shared);
        is_its_own.then_some(found)
    }

    /// The one device that opens this mailbox; none where several do. The login is as [`written`] gives it.
    pub(super) fn only_of_mailbox(&self, login: &str) -> Option<usize> {
        let login = login.trim();
        let mut of_it = self.mailboxes.iter().enumerate().filter(|(_, mailbox)| *mailbox == login);
        let (first, _) = of_it.next()?;
        of_it.next().is_none().then_some(first)
    }

    /// Returns whether a device has other names beside its first one.
    pub(super) fn has_aliases(&self, device: usize) -> bool {
        self.by_login.values().filter(|index| **index == device).count() > 1
    }

    /// Whether a device may say that it acts as this: by any of its own names, or by its mailbox.
    pub(super) fn belongs_to(&self, name: &str, device: usize) -> bool {
        self.find(name) == Some(device) || self.mailboxes.get(device).is_some_and(|mailbox| mailbox == name.trim())
    }
}

/// A name as it is looked for: in lower case, from whichever character set. Blanks around it are looked at by
/// [`Names::find`].
pub(super) fn written(name: &[u8]) -> String {
    charset::text(name).to_lowercase()
}

/// The name in `domain\user\shared`, `user/shared`, `user`.
pub(super) fn normal(login: &str) -> &str {
    let login = login.trim();
    let user = login.rsplit_once(['\\', '/']).map_or(login, |(user, _)| user);
    user.rsplit_once('\\').map_or(user, |(_, user)| user)
}

/// The one form that stands for all spellings of a login, in a line of printable text.
pub fn normal_form(login: &[u8]) -> String {
    let written = written(login);
    normal(&written).chars().filter(|one| !one.is_control()).take(LONGEST).collect()
}

/// Logins have 64 octets in front of the @ and 255 behind it (RFC 5321 §4.5.3.1).
const LONGEST: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.add(&["scanner3".to_owned(), "scan@contoso.example".to_owned()], "Shared@contoso.example");
        names.add(&["other".to_owned(), "f\u{fc}nf".to_owned()], "Shared@contoso.example");
        names
    }

    #[test]
    fn logins_in_all_their_forms() {
        let find = |login: &[u8]| names().find(&written(login));
        for login in [
            "scanner3",
            "SCANNER3",
            " scanner3",
            "Scanner3\t ",
            "scan@Contoso.example",
            "scan@contoso.example\\shared",
            " scan@contoso.example/shared@contoso.example ",
            "CONTOSO\\scanner3\\shared",
        ] {
            assert_eq!(find(login.as_bytes()), Some(0), "{login}");
        }
        for login in ["scan", "scan@contoso.example\\other", "\\scanner3", "scanner3\\", "", " ", "scanner 3"] {
            assert_eq!(find(login.as_bytes()), None, "{login}");
        }
        for login in ["F\u{dc}nf".as_bytes(), b"f\xfcnf", b"F\xdcNF"] {
            assert_eq!(find(login), Some(1), "{login:?}");
        }
    }

    #[test]
    fn a_mailbox_of_one_device_names_it() {
        let mut names = names();
        names.add(&["printer".to_owned()], "Print1@contoso.example");
        let only = |login: &[u8]| names.only_of_mailbox(&written(login));
        assert_eq!(only(b" print1@CONTOSO.example"), Some(2));
        assert_eq!((only(b"shared@contoso.example"), only(b"print1"), only(b"")), (None, None, None));
        assert_eq!([0, 2].map(|device| names.has_aliases(device)), [true, false]);
    }

    /// Any name of its own; never another one, be it of the same mailbox.
    #[test]
    fn names_that_belong_to_a_device() {
        for own in ["scanner3", " SCANNER3 ", "scan@Contoso.example", "scanner3/shared", "shared@CONTOSO.example "] {
            assert!(names().belongs_to(&written(own.as_bytes()), 0), "{own}");
        }
        for other in ["other", "other/shared", "shared", "scan", "boss@contoso.example", "scanner3/boss", ""] {
            assert!(!names().belongs_to(&written(other.as_bytes()), 0), "{other}");
        }
    }
}
