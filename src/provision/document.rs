//! A document is the configuration as it is edited: an edit changes its own lines, and all others keep their octets.

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::Error;
use super::comments::{self, comment_apart};
use super::error::Kind;

/// The configuration file's text, ready for edits.
pub struct Document {
    toml: DocumentMut,
    has_byte_order_mark: bool,
    has_crlf: bool,
}

/// A device to add.
pub struct NewDevice {
    /// The user name that the device sends.
    pub login: String,
    /// Other user names of the device.
    pub aliases: Vec<String>,
    /// The hash of the device's password; none for a device that sends without a login.
    pub password: Option<String>,
    /// The account whose mailbox it opens.
    pub account: String,
    /// The networks that it comes from; none leaves that to its listener.
    pub networks: Vec<String>,
    /// The recipients that it may send to; none leaves that to its account.
    pub recipients: Vec<String>,
    /// A description for people.
    pub description: Option<String>,
}

/// An account to add.
pub struct NewAccount {
    /// The name in `[account.NAME]`.
    pub name: String,
    /// The mailbox's address.
    pub mailbox: String,
    /// The identity, where the file has several.
    pub identity: Option<String>,
    /// The upstream, where it is not the default.
    pub upstream: Option<String>,
}

impl Document {
    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// The text is no TOML, or is written in a way that an edit would not keep.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (body, has_byte_order_mark) = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(body) => (body, true),
            None => (text, false),
        };
        let has_crlf = body.contains("\r\n") && body.matches('\n').count() == body.matches("\r\n").count();
        let body = if has_crlf { body.replace("\r\n", "\n") } else { body.to_owned() };
        let toml: DocumentMut = body.parse().map_err(Error::Syntax)?;
        let one = Self { toml, has_byte_order_mark, has_crlf };
        match first_difference(&one.text(), text) {
            Some(line) => Err(Error::Form { line }),
            None => Ok(one),
        }
    }

    /// The text with all edits.
    pub fn text(&self) -> String {
        let body = self.toml.to_string();
        let body = if self.has_crlf { body.replace('\n', "\r\n") } else { body };
        if self.has_byte_order_mark { format!("{BYTE_ORDER_MARK}{body}") } else { body }
    }

    /// Adds a device behind the last one.
    ///
    /// # Errors
    /// A device has this login already, or the devices are written as one value.
    pub fn add_device(&mut self, device: &NewDevice) -> Result<(), Error> {
        if self.logins()?.contains(&device.login.to_lowercase()) {
            return Err(Error::Exists { kind: Kind::Device, name: device.login.clone() });
        }
        let mut table = Table::new();
        table.insert("login", text_item(&device.login));
        if !device.aliases.is_empty() {
            table.insert("aliases", list_item(&device.aliases));
        }
        if let Some(description) = &device.description {
            table.insert("description", text_item(description));
        }
        table.insert("account", text_item(&device.account));
        match &device.password {
            Some(password) => table.insert("passwords", list_item(std::slice::from_ref(password))),
            None => table.insert("send_without_login", Item::Value(Value::from(true))),
        };
        for (key, list) in [("networks", &device.networks), ("recipients", &device.recipients)] {
            if !list.is_empty() {
                table.insert(key, list_item(list));
            }
        }
        table.decor_mut().set_prefix("\n");
        let devices = self.toml.entry(DEVICE).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let devices = devices.as_array_of_tables_mut().ok_or(INLINE_DEVICES)?;
        devices.push(table);
        Ok(())
    }

    /// Removes a device, with the comment directly above its heading.
    ///
    /// # Errors
    /// No device has this login.
    pub fn remove_device(&mut self, login: &str) -> Result<(), Error> {
        let index = self.device_index(login)?;
        let devices = self.toml.get_mut(DEVICE).and_then(Item::as_array_of_tables_mut).ok_or(INLINE_DEVICES)?;
        let removed = devices.get(index).map(|table| (table.position(), comment_apart(table)));
        devices.remove(index);
        if devices.is_empty() {
            self.toml.remove(DEVICE);
        }
        if let Some((position, comment)) = removed {
            comments::keep(&mut self.toml, position, &comment);
        }
        Ok(())
    }

    /// Gives a device these password hashes in place of its present ones.
    ///
    /// # Errors
    /// No device has this login.
    pub fn set_passwords(&mut self, login: &str, hashes: &[String]) -> Result<(), Error> {
        let index = self.device_index(login)?;
        let devices = self.toml.get_mut(DEVICE).and_then(Item::as_array_of_tables_mut).ok_or(INLINE_DEVICES)?;
        if let Some(table) = devices.get_mut(index) {
            set(table, "passwords", list(hashes));
        }
        Ok(())
    }

    /// The password hashes of a device.
    ///
    /// # Errors
    /// No device has this login.
    pub fn passwords(&self, login: &str) -> Result<Vec<String>, Error> {
        let index = self.device_index(login)?;
        let table = self.devices()?.and_then(|devices| devices.get(index));
        let hashes = table.and_then(|table| table.get("passwords")).and_then(Item::as_array);
        Ok(hashes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Adds an account behind the last one. Devices that name none, because there was only one, keep the one they had.
    ///
    /// # Errors
    /// An account has this name already.
    pub fn add_account(&mut self, account: &NewAccount) -> Result<(), Error> {
        let known = self.names(Kind::Account);
        if known.contains(&account.name) {
            return Err(Error::Exists { kind: Kind::Account, name: account.name.clone() });
        }
        if let [only] = known.as_slice() {
            self.name_account_of_devices(only)?;
        }
        let mut table = Table::new();
        table.insert("mailbox", text_item(&account.mailbox));
        for (key, value) in [("identity", &account.identity), ("upstream", &account.upstream)] {
            if let Some(value) = value {
                table.insert(key, text_item(value));
            }
        }
        table.decor_mut().set_prefix("\n");
        let mut sections = Table::new();
        sections.set_implicit(true);
        let sections = self.toml.entry(ACCOUNT).or_insert(Item::Table(sections));
        let sections = sections.as_table_mut().ok_or(INLINE_ACCOUNTS)?;
        table.set_position(last_position(sections));
        sections.insert(&account.name, Item::Table(table));
        Ok(())
    }

    /// A key of the first account, which is probably meant for others too; none where that has no such key.
    pub fn key_of_first_account(&self, key: &str) -> Option<String> {
        let sections = self.toml.get(ACCOUNT).and_then(Item::as_table)?;
        let (_, first) = sections.iter().next()?;
        first.as_table()?.get(key)?.as_str().map(str::to_owned)
    }

    /// Removes an account that no device uses, with the comment directly above its heading.
    ///
    /// # Errors
    /// There is no such account, or a device still opens its mailbox.
    pub fn remove_account(&mut self, name: &str) -> Result<(), Error> {
        let known = self.names(Kind::Account);
        if !known.iter().any(|one| one == name) {
            return Err(Error::Missing { kind: Kind::Account, name: name.to_owned(), known });
        }
        let is_only = known.len() == 1;
        let uses =
            |table: &&Table| table.get(ACCOUNT).and_then(Item::as_str).map_or(is_only, |account| account == name);
        let devices: Vec<String> = self.devices()?.into_iter().flatten().filter(uses).filter_map(login_of).collect();
        if !devices.is_empty() {
            return Err(Error::InUse { account: name.to_owned(), devices });
        }
        let sections = self.toml.get_mut(ACCOUNT).and_then(Item::as_table_mut).ok_or(INLINE_ACCOUNTS)?;
        let removed = sections.remove(name);
        if let Some(table) = removed.as_ref().and_then(Item::as_table) {
            comments::keep(&mut self.toml, table.position(), &comment_apart(table));
        }
        Ok(())
    }

    /// Sets a key of an identity.
    ///
    /// # Errors
    /// There is no such identity.
    pub fn set_identity(&mut self, name: &str, key: &str, value: &str) -> Result<(), Error> {
        let known = self.names(Kind::Identity);
        let sections = self.toml.get_mut(IDENTITY).and_then(Item::as_table_mut);
        match sections.and_then(|sections| sections.get_mut(name)).and_then(Item::as_table_mut) {
            Some(table) => {
                set(table, key, Value::from(value));
                Ok(())
            }
            None => Err(Error::Missing { kind: Kind::Identity, name: name.to_owned(), known }),
        }
    }

    /// The text of the sections and keys other than these, each with the comment directly above it.
    pub fn text_without(&self, keys: &[&str]) -> String {
        let mut rest = self.toml.clone();
        keys.iter().for_each(|key| drop(rest.remove(key)));
        rest.set_trailing("");
        comments::keep_own(&mut rest);
        rest.to_string()
    }

    /// Returns whether a listener lets devices in: it does not only observe.
    pub fn serves_devices(&self) -> bool {
        let listeners = self.toml.get("listener").and_then(Item::as_array_of_tables);
        let observes = |table: &Table| table.get("observe").and_then(Item::as_bool) == Some(true);
        listeners.into_iter().flatten().any(|table| !observes(table))
    }

    /// Returns whether every line ends as on Windows, with CR and LF.
    pub fn has_crlf(&self) -> bool {
        self.has_crlf
    }

    /// Returns whether the file has any of these sections.
    pub fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.toml.contains_key(key))
    }

    /// The names of the accounts or identities, in the file's order.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let key = match kind {
            Kind::Device => return self.logins().unwrap_or_default(),
            Kind::Account => ACCOUNT,
            Kind::Identity => IDENTITY,
        };
        let sections = self.toml.get(key).and_then(Item::as_table);
        sections.into_iter().flat_map(Table::iter).map(|(name, _)| name.to_owned()).collect()
    }

    /// The logins of all devices, in lower case.
    fn logins(&self) -> Result<Vec<String>, Error> {
        Ok(self.devices()?.into_iter().flatten().filter_map(login_of).collect())
    }

    fn devices(&self) -> Result<Option<&ArrayOfTables>, Error> {
        match self.toml.get(DEVICE) {
            None => Ok(None),
            Some(item) => item.as_array_of_tables().map(Some).ok_or(INLINE_DEVICES),
        }
    }

    fn device_index(&self, login: &str) -> Result<usize, Error> {
        let wanted = login.to_lowercase();
        let mut devices = self.devices()?.into_iter().flatten();
        let found = devices.position(|table| login_of(table).as_ref() == Some(&wanted) || has_alias(table, &wanted));
        let known = || self.logins().unwrap_or_default();
        found.ok_or_else(|| Error::Missing { kind: Kind::Device, name: login.to_owned(), known: known() })
    }

    fn name_account_of_devices(&mut self, account: &str) -> Result<(), Error> {
        let Some(devices) = self.toml.get_mut(DEVICE) else { return Ok(()) };
        for table in devices.as_array_of_tables_mut().ok_or(INLINE_DEVICES)?.iter_mut() {
            if !table.contains_key(ACCOUNT) {
                table.insert(ACCOUNT, text_item(account));
            }
        }
        Ok(())
    }
}

fn login_of(table: &Table) -> Option<String> {
    table.get("login").and_then(Item::as_str).map(str::to_lowercase)
}

fn has_alias(table: &Table, wanted: &str) -> bool {
    let aliases = table.get("aliases").and_then(Item::as_array);
    aliases.into_iter().flatten().filter_map(Value::as_str).any(|alias| alias.to_lowercase() == wanted)
}

fn last_position(sections: &Table) -> Option<isize> {
    sections.iter().filter_map(|(_, item)| item.as_table()?.position()).max()
}

/// Sets a key and keeps the comments beside it.
fn set(table: &mut Table, key: &str, mut new: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            table.insert(key, Item::Value(new));
        }
    }
}

fn text_item(text: &str) -> Item {
    Item::Value(Value::from(text))
}

fn list_item(texts: &[String]) -> Item {
    Item::Value(list(texts))
}

fn list(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(String::as_str).collect::<Array>())
}

/// The first line that differs between two texts, counted from 1.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    if one == other || one.strip_suffix('\n') == Some(other) || one.strip_suffix("\r\n") == Some(other) {
        return None;
    }
    let alike = one.split('\n').zip(other.split('\n')).take_while(|(one, other)| one == other).count();
    Some(alike + 1)
}

const DEVICE: &str = "device";
const ACCOUNT: &str = "account";
const IDENTITY: &str = "identity";
const INLINE_DEVICES: Error = Error::Inline { key: DEVICE, heading: "[[device]]" };
const INLINE_ACCOUNTS: Error = Error::Inline { key: ACCOUNT, heading: "[account.NAME]" };
const BYTE_ORDER_MARK: &str = "\u{feff}";
