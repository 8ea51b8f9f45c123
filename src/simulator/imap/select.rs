//! IMAP commands on a mailbox, from LIST to IDLE (RFC 3501 §6.3 and §6.4), know the inbox and the sent messages.

use super::command::{Set, Word};
use super::item::Item;
use super::{Command, ImapService};
use crate::simulator::connection::{End, Input};
use crate::simulator::login::Folders;
use crate::simulator::mailbox::{Message, UID_VALIDITY};
use crate::simulator::view::View;

/// A folder as one session has seen it.
pub(super) struct Selected {
    view: View,
    /// Unique identifiers, in the order of message numbers.
    uids: Vec<u32>,
    is_read_only: bool,
}

impl Selected {
    /// The messages of a set with their numbers; `None` for a malformed set.
    fn chosen(&self, set: &str, is_by_uid: bool) -> Option<Vec<(usize, Message)>> {
        let count = u32::try_from(self.uids.len()).unwrap_or(u32::MAX);
        let last = if is_by_uid { self.uids.last().copied().unwrap_or(0) } else { count };
        let set = Set::parse(set, last)?;
        let contents = self.view.contents();
        let numbered = (1..=count).zip(&self.uids);
        let chosen = numbered.filter(|&(number, &uid)| set.has(if is_by_uid { uid } else { number }));
        Some(chosen.filter_map(|(number, &uid)| Some((number as usize, contents.by_uid(uid)?.clone()))).collect())
    }

    /// Responses for the changes since the last call: EXPUNGE, from the end, and EXISTS.
    fn catch_up(&mut self) -> Vec<String> {
        let contents = self.view.contents();
        let gone = |uid: &u32| contents.by_uid(*uid).is_none();
        let mut lines: Vec<String> = Vec::new();
        for (at, _) in self.uids.iter().enumerate().rev().filter(|(_, uid)| gone(uid)) {
            lines.push(format!("* {} EXPUNGE", at + 1));
        }
        let before = self.uids.len() - lines.len();
        self.uids = contents.messages.iter().map(|message| message.uid).collect();
        if self.uids.len() != before {
            lines.push(format!("* {} EXISTS", self.uids.len()));
        }
        lines
    }
}

impl ImapService<'_> {
    pub(super) async fn execute_on_mailbox(&mut self, folders: Folders, command: Command) -> Result<(), End> {
        let tag = &command.tag;
        match command.name.as_str() {
            "NOOP" | "CHECK" => self.complete(&command, Vec::new()).await,
            "LIST" | "LSUB" => self.list(&folders, &command).await,
            "SELECT" | "EXAMINE" => self.select(folders, &command).await,
            "STATUS" => self.status(folders, &command).await,
            "APPEND" => self.append(&folders, command).await,
            "CREATE" | "DELETE" | "RENAME" | "SUBSCRIBE" | "UNSUBSCRIBE" => {
                self.answer(&[], tag, &format!("NO {} failed.", command.name)).await
            }
            _ => match self.selected.take() {
                Some(selected) => self.execute_selected(selected, command).await,
                None => self.answer(&[], tag, "BAD Command received in Invalid state.").await,
            },
        }
    }

    async fn execute_selected(&mut self, mut selected: Selected, mut command: Command) -> Result<(), End> {
        let is_by_uid = command.name == "UID" && !command.words.is_empty();
        if is_by_uid {
            command.name = command.words.remove(0).text().to_ascii_uppercase();
        }
        match command.name.as_str() {
            "UNSELECT" if !self.world.quirk(|quirks| quirks.mail.unselect) => {
                self.answer(&[], &command.tag, "BAD Command Error. 12").await?;
            }
            "CLOSE" | "UNSELECT" => {
                if command.name == "CLOSE" {
                    self.expunge(&mut selected, |_| true);
                }
                return self.answer(&[], &command.tag, &format!("OK {} completed.", command.name)).await;
            }
            "IDLE" => self.idle(&mut selected, &command).await?,
            "EXPUNGE" => {
                let set = is_by_uid.then(|| selected.chosen(&command.text(0), true).unwrap_or_default());
                let among = |uid| set.as_ref().is_none_or(|set| set.iter().any(|(_, message)| message.uid == uid));
                let lines = self.expunge(&mut selected, among);
                self.selected = Some(selected);
                return self.complete(&command, lines).await;
            }
            "FETCH" => self.fetch(&selected, &command, is_by_uid).await?,
            "STORE" => self.store(&selected, &command, is_by_uid).await?,
            "SEARCH" => self.search(&selected, &command, is_by_uid).await?,
            "COPY" | "MOVE" => {
                let status = format!("NO [TRYCREATE] {} failed: there is no such folder.", command.name);
                self.answer(&[], &command.tag, &status).await?;
            }
            _ => self.answer(&[], &command.tag, "BAD Command Error. 12").await?,
        }
        self.selected = Some(selected);
        Ok(())
    }

    /// Sends the tagged OK, with the responses for changes before it.
    async fn complete(&mut self, command: &Command, mut lines: Vec<String>) -> Result<(), End> {
        lines.extend(self.selected.as_mut().map(Selected::catch_up).unwrap_or_default());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.answer(&lines, &command.tag, &format!("OK {} completed.", command.name)).await
    }

    async fn list(&mut self, folders: &Folders, command: &Command) -> Result<(), End> {
        let line = |attribute: &str, name: &str| format!(r#"* {} (\{attribute}) "/" {name}"#, command.name);
        let pattern = command.text(1).to_ascii_uppercase();
        let mut lines = Vec::new();
        if pattern.is_empty() {
            lines.push(line("Noselect", "\"\""));
        }
        if ["*", "%", "INBOX"].contains(&pattern.as_str()) {
            lines.push(line("HasNoChildren", "INBOX"));
            if self.world.quirk(|quirks| quirks.mail.odd_folder) {
                lines.push(line("HasNoChildren", "Sent\x07Items"));
            }
        }
        // The first message that is sent makes the folder.
        let has_sent = folders.sent.as_ref().is_some_and(|folder| folder.contents().next_uid() > 1);
        if has_sent && ["*", "%", "SENT ITEMS"].contains(&pattern.as_str()) {
            lines.push(line("HasNoChildren", "\"Sent Items\""));
        }
        self.complete(command, lines).await
    }

    async fn select(&mut self, folders: Folders, command: &Command) -> Result<(), End> {
        self.selected = None;
        let Some(view) = folder(folders, &command.text(0)) else {
            let status = format!("NO {} doesn't exist.", command.text(0));
            return self.answer(&[], &command.tag, &status).await;
        };
        let contents = view.contents();
        let is_read_only = command.name == "EXAMINE";
        let unseen = contents.messages.iter().position(|message| !message.has(SEEN));
        let unseen = unseen.map(|at| format!("* OK [UNSEEN {}] Is the first unseen message\r\n", at + 1));
        let lines = format!(
            "* {} EXISTS\r\n* 0 RECENT\r\n* FLAGS ({FLAGS})\r\n* OK [PERMANENTFLAGS ({FLAGS})] Permanent flags\r\n{}\
             * OK [UIDVALIDITY {UID_VALIDITY}] UIDVALIDITY value\r\n* OK [UIDNEXT {}] The next unique identifier value",
            contents.messages.len(),
            unseen.unwrap_or_default(),
            contents.next_uid()
        );
        let is_bare = self.world.quirk(|quirks| quirks.mail.bare_codes);
        let lines = if is_bare { lines.replace("* OK [", "* [") } else { lines };
        let uids = contents.messages.iter().map(|message| message.uid).collect();
        self.selected = Some(Selected { view, uids, is_read_only });
        let code = if is_read_only { "READ-ONLY" } else { "READ-WRITE" };
        self.answer(&[&lines], &command.tag, &format!("OK [{code}] {} completed.", command.name)).await
    }

    async fn status(&mut self, folders: Folders, command: &Command) -> Result<(), End> {
        let Some(view) = folder(folders, &command.text(0)) else {
            return self.answer(&[], &command.tag, "NO STATUS failed: there is no such folder.").await;
        };
        let contents = view.contents();
        let unseen = contents.messages.iter().filter(|message| !message.has(SEEN)).count();
        let value = |name: &str| match name {
            "MESSAGES" => Some(contents.messages.len().to_string()),
            "UNSEEN" => Some(unseen.to_string()),
            "RECENT" => Some("0".to_owned()),
            "UIDNEXT" => Some(contents.next_uid().to_string()),
            "UIDVALIDITY" => Some(UID_VALIDITY.to_string()),
            _ => None,
        };
        let names = command.words.iter().skip(1).map(|word| word.text().to_ascii_uppercase());
        let items: Vec<_> = names.filter_map(|name| Some(format!("{name} {}", value(&name)?))).collect();
        let name = if command.text(0).eq_ignore_ascii_case("INBOX") { "INBOX" } else { "\"Sent Items\"" };
        self.complete(command, vec![format!("* STATUS {name} ({})", items.join(" "))]).await
    }

    async fn append(&mut self, folders: &Folders, mut command: Command) -> Result<(), End> {
        let Some(Word::Text(octets)) = command.words.pop() else {
            return self.answer(&[], &command.tag, "BAD Command Argument Error. 11").await;
        };
        let flags = command.words.iter().map(Word::text).filter(|word| word.starts_with('\\')).collect();
        let uid = folders.inbox.mailbox.deliver(octets, flags);
        let lines = self.selected.as_mut().map(Selected::catch_up).unwrap_or_default();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let status = format!("OK [APPENDUID {UID_VALIDITY} {uid}] APPEND completed.");
        self.answer(&lines, &command.tag, &status).await
    }

    fn expunge(&mut self, selected: &mut Selected, among: impl Fn(u32) -> bool) -> Vec<String> {
        let is_allowed = !selected.is_read_only;
        let removed = selected.view.mailbox.remove(|message| is_allowed && message.has(DELETED) && among(message.uid));
        if removed > 0 {
            self.world.count(|counts| counts.deleted += removed as u64);
            self.world.log_event(format!("IMAP: {removed} messages expunged"));
        }
        selected.catch_up()
    }

    async fn fetch(&mut self, selected: &Selected, command: &Command, is_by_uid: bool) -> Result<(), End> {
        let words = command.words.iter().skip(1).map(Word::text).filter(|word| !word.is_empty());
        let items: Option<Vec<Vec<Item>>> = words.map(|word| Item::parse(&word)).collect();
        let (Some(items), Some(chosen)) = (items, selected.chosen(&command.text(0), is_by_uid)) else {
            return self.answer(&[], &command.tag, "BAD Command Argument Error. 11").await;
        };
        let mut items: Vec<Item> = items.into_iter().flatten().collect();
        if is_by_uid && !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        for (number, message) in chosen {
            self.fetch_one(selected, &items, number, message).await?;
        }
        self.answer(&[], &command.tag, "OK FETCH completed.").await
    }

    async fn fetch_one(
        &mut self,
        selected: &Selected,
        items: &[Item],
        number: usize,
        mut message: Message,
    ) -> Result<(), End> {
        let marks = items.iter().any(|item| matches!(item, Item::Section(section) if section.marks));
        let mut items = items.to_vec();
        if marks && !selected.is_read_only && !message.has(SEEN) {
            message.flags = selected.view.mailbox.flag(message.uid, |flags| flags.push(SEEN.to_owned()));
            if !items.contains(&Item::Flags) {
                items.push(Item::Flags);
            }
        }
        let (size_excess, is_cut) = self.world.quirk(|quirks| (quirks.mail.size_excess, quirks.mail.cut_literal));
        let mut separator = format!("* {number} FETCH (");
        for item in &items {
            self.connection.send(format!("{separator}{}", item.text(&message, size_excess))).await?;
            " ".clone_into(&mut separator);
            let Item::Section(section) = item else { continue };
            let octets = section.octets(&message);
            if is_cut {
                self.world.quirks.send_modify(|quirks| quirks.mail.cut_literal = false);
                self.connection.send(octets.get(..octets.len() / 2).unwrap_or_default()).await?;
                return Err(End::Expired);
            }
            self.connection.send(&octets).await?;
            if section.is_whole() {
                self.world.count(|counts| counts.fetched += 1);
                self.world.log_event(format!("IMAP: message {number} fetched, {} octets", octets.len()));
            }
        }
        self.send(")").await
    }

    async fn store(&mut self, selected: &Selected, command: &Command, is_by_uid: bool) -> Result<(), End> {
        let how = command.text(1).to_ascii_uppercase();
        let (how, is_silent) = how.strip_suffix(".SILENT").map_or((how.as_str(), false), |how| (how, true));
        let given: Vec<String> = command.words.iter().skip(2).map(Word::text).filter(|flag| !flag.is_empty()).collect();
        let chosen = selected.chosen(&command.text(0), is_by_uid);
        let (Some(chosen), true) = (chosen, ["FLAGS", "+FLAGS", "-FLAGS"].contains(&how)) else {
            return self.answer(&[], &command.tag, "BAD Command Argument Error. 11").await;
        };
        if selected.is_read_only {
            return self.answer(&[], &command.tag, "NO STORE failed: the folder is read-only.").await;
        }
        let mut lines = Vec::new();
        let is_given = |flag: &String| given.iter().any(|given| given.eq_ignore_ascii_case(flag));
        for (number, message) in chosen {
            let flags = selected.view.mailbox.flag(message.uid, |flags| {
                if how == "FLAGS" {
                    flags.clear();
                }
                flags.retain(|flag| !is_given(flag));
                if how != "-FLAGS" {
                    flags.extend(given.iter().cloned());
                }
            });
            let uid = if is_by_uid { format!(" UID {}", message.uid) } else { String::new() };
            lines.push(format!("* {number} FETCH (FLAGS ({}){uid})", flags.join(" ")));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|_| !is_silent).collect();
        self.answer(&lines, &command.tag, "OK STORE completed.").await
    }

    /// Executes SEARCH with ALL, flags and sets; any other key matches every message.
    async fn search(&mut self, selected: &Selected, command: &Command, is_by_uid: bool) -> Result<(), End> {
        let keys: Vec<String> = command.words.iter().map(|word| word.text().to_ascii_uppercase()).collect();
        let mut found = selected.chosen("1:*", false).unwrap_or_default();
        let mut keys = keys.iter().peekable();
        while let Some(key) = keys.next() {
            match key.as_str() {
                "UNSEEN" | "NEW" => found.retain(|(_, message)| !message.has(SEEN)),
                "SEEN" => found.retain(|(_, message)| message.has(SEEN)),
                "DELETED" => found.retain(|(_, message)| message.has(DELETED)),
                "UNDELETED" => found.retain(|(_, message)| !message.has(DELETED)),
                "UID" => {
                    let set = keys.next().and_then(|set| selected.chosen(set, true)).unwrap_or_default();
                    found.retain(|(number, _)| set.iter().any(|(other, _)| other == number));
                }
                set if set.starts_with(|c: char| c.is_ascii_digit() || c == '*') => {
                    let set = selected.chosen(set, false).unwrap_or_default();
                    found.retain(|(number, _)| set.iter().any(|(other, _)| other == number));
                }
                _ => {}
            }
        }
        let number = |(number, message): &(usize, Message)| {
            if is_by_uid { message.uid.to_string() } else { number.to_string() }
        };
        let numbers: Vec<String> = found.iter().map(number).collect();
        let line = if self.has_rev2 {
            // Some tenants answer so, against RFC 9051 §7.3.4.
            format!("* ESEARCH (TAG \"{}\") ALL {}", command.tag, numbers.join(" "))
        } else {
            format!("* SEARCH {}", numbers.join(" "))
        };
        self.answer(&[line.trim_end()], &command.tag, "OK SEARCH completed.").await
    }

    /// Executes IDLE: reports new mail until the client sends DONE (RFC 2177).
    async fn idle(&mut self, selected: &mut Selected, command: &Command) -> Result<(), End> {
        if self.world.quirk(|quirks| quirks.mail.exists_before_idle) {
            self.send(format!("* {} EXISTS", selected.uids.len())).await?;
        }
        self.send("+ IDLE accepted, awaiting DONE command.").await?;
        let mut news = selected.view.mailbox.subscribe();
        loop {
            for line in selected.catch_up() {
                self.send(line).await?;
            }
            match self.connection.line_or(news.changed()).await? {
                Input::Line(line) if line.eq_ignore_ascii_case(b"DONE") => break,
                Input::Line(_) => return self.answer(&[], &command.tag, "BAD Command Error. 10").await,
                Input::Other(_) => {}
            }
        }
        self.connection.check_expiry()?;
        self.answer(&[], &command.tag, "OK IDLE completed.").await
    }
}

/// The folder of this name.
fn folder(folders: Folders, name: &str) -> Option<View> {
    match name.to_ascii_uppercase().as_str() {
        "INBOX" => Some(folders.inbox),
        "SENT ITEMS" => folders.sent,
        _ => None,
    }
}

const SEEN: &str = "\\Seen";
const DELETED: &str = "\\Deleted";
const FLAGS: &str = "\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent";
