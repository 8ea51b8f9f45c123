//! A list of addresses that a configuration allows: `user@domain`, or `*@domain` for a whole domain.

use std::fmt;

use super::address::Address;

/// Addresses that are allowed. An empty list allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::proto) struct AddressList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    One(Address),
    /// Every address of a domain, and none of its subdomains.
    Domain(String),
}

/// An entry that is neither an address with a domain nor `*@domain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) struct BadEntry(pub(in crate::proto) String);

impl AddressList {
    /// Reads a list.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub(in crate::proto) fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, BadEntry> {
        entries.into_iter().map(|entry| Entry::parse(entry).ok_or_else(|| BadEntry(entry.to_owned()))).collect()
    }

    /// Returns whether the list allows this address. An address whose local part may lead to another domain has to be
    /// in the list itself: `*@domain` does not allow it.
    pub(in crate::proto) fn allows(&self, address: &Address) -> bool {
        self.0.iter().any(|entry| match entry {
            Entry::One(one) => one.is(address),
            Entry::Domain(domain) => {
                address.has_plain_local_part() && address.domain().is_some_and(|of| of.eq_ignore_ascii_case(domain))
            }
        })
    }
}

impl FromIterator<Entry> for AddressList {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let address = Address::parse(entry.as_bytes())?;
        let domain = address.domain()?;
        Some(if entry.starts_with("*@") { Entry::Domain(domain.to_owned()) } else { Entry::One(address) })
    }
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither an address nor *@domain", self.0)
    }
}

impl std::error::Error for BadEntry {}

#[cfg(test)]
mod tests {
    use super::super::Recipient;
    use super::*;

    fn list(entries: &[&str]) -> AddressList {
        AddressList::parse(entries.iter().copied()).unwrap()
    }

    fn allows(list: &AddressList, path: &str) -> bool {
        Recipient::parse(format!("TO:{path}").as_bytes()).is_ok_and(|recipient| list.allows(&recipient.address))
    }

    #[test]
    fn entries_are_addresses_or_domains() {
        let list = list(&["Scan@Contoso.example", "*@fabrikam.example"]);
        for path in
            ["<scan@contoso.example>", "SCAN@CONTOSO.EXAMPLE", "<a.b+c@Fabrikam.example>", "<o'neill@fabrikam.example>"]
        {
            assert!(allows(&list, path), "{path}");
        }
        for path in ["<scan2@contoso.example>", "<a@mail.fabrikam.example>", "<a@notfabrikam.example>", "<scan>"] {
            assert!(!allows(&list, path), "{path}");
        }
        assert!(!allows(&AddressList::default(), "<scan@contoso.example>"));
        for entry in
            ["", "scan", "*", "*@", "@contoso.example", "a b@c.example", "<a@b.example>", "a@b.example,c@d.example"]
        {
            assert_eq!(AddressList::parse([entry]), Err(BadEntry(entry.into())), "{entry}");
        }
        // A star elsewhere is an octet like others: it stands for nothing.
        assert!(!allows(&AddressList::parse(["a*@b.example"]).unwrap(), "<ab@b.example>"));
    }

    /// The tricks by which relays are tested for being open: none widens a match with `*@here.example`.
    #[test]
    fn tricks_of_addresses_do_not_widen_a_match() {
        let list = list(&["*@here.example", "one@here.example"]);
        for path in [
            "<user@other.example>",
            "<user%other.example@here.example>",
            "<user%other.example>",
            "<user%other.example@[192.0.2.1]>",
            "<other.example!user@here.example>",
            "<other.example!user>",
            "<here.example!other.example!user>",
            "<user@other.example@here.example>",
            "<\"user@other.example\"@here.example>",
            "<\"user%other.example\"@here.example>",
            "<\"other.example!user\"@here.example>",
            "<\"user@other.example\">",
            "<\"user\"@here.example>",
            "<\"one\"@here.example>",
            "<\"\"@here.example>",
            "<@here.example:user@other.example>",
            "<@here.example,@other.example:user@other.example>",
            "<@here.example:other.example!user@here.example>",
            "<@here.example:user%other.example@here.example>",
            "<user@other.example:here.example>",
            "<user@other.example,one@here.example>",
            "<one@here.example,user@other.example>",
            "<one@here.example>,<user@other.example>",
            "<one@here.example> <user@other.example>",
            "<user@here.example@other.example>",
            "<user@[here.example]>",
            "<user@other.example?here.example>",
            "<user@other.example#here.example>",
            "<user/o=x@here.example>",
            "<|program@here.example>",
            "<:include:/etc/passwd@here.example>",
            "<user@here.example.>",
            "<user@.here.example>",
            "<user@here.example.other.example>",
            "<user@h\u{435}re.example>",
            "<us\u{ff20}other.example@here.example>",
            "<user\\@other.example@here.example>",
            "<user@other.example\0@here.example>",
            "<user@other.example\r\n@here.example>",
            "user@other.example @here.example",
            "<user @other.example@here.example>",
            "<user@other.example(@here.example)>",
        ] {
            assert!(!allows(&list, path), "{path:?}");
        }
        for path in ["<user@here.example>", "<@other.example:user@here.example>"] {
            assert!(allows(&list, path), "{path}: the route is dropped");
        }
    }
}
