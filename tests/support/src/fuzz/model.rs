//! This model of the relay after login works octet by octet and line by line, and is slow on purpose. It is written
//! from the RFCs and the documented rewrites, and compared with the fast framing on the same traffic.
//!
//! All of the device's octets pass. Where its login was translated, further logins and what belongs to them do not;
//! packetboat answers them. All of the server's octets pass, but for capabilities that do not hold between this
//! device and this server. They are left out of the list (IMAP), or their lines are left out and packetboat's own
//! logins are named (POP3).

use std::collections::{HashSet, VecDeque};

use packetboat::proto::{Offer, Relogin, Side};

use crate::fuzz::pair::{Protocol, readable};

pub enum Model {
    Imap(Imap),
    Pop3(Pop3),
}

/// The octets that a side has received so far, and those that it gets once its line is complete.
#[derive(Default)]
pub struct Passed {
    done: Vec<u8>,
    line: Vec<u8>,
}

impl Passed {
    /// Takes an octet. Returns whether the line is complete.
    fn push(&mut self, octet: u8) -> bool {
        self.line.push(octet);
        octet == b'\n'
    }

    fn pass(&mut self) {
        self.done.append(&mut self.line);
    }
}

impl Model {
    pub fn new(protocol: Protocol, offer: Offer, relogin: Relogin) -> Self {
        let refuses = relogin == Relogin::Refused;
        match protocol {
            Protocol::Imap => Model::Imap(Imap { refuses, ..Imap::default() }),
            Protocol::Pop3 => Model::Pop3(Pop3::new(offer, refuses)),
            Protocol::Smtp => unreachable!("the laws watch SMTP"),
        }
    }

    pub fn hear(&mut self, side: Side, octets: &[u8]) {
        for &octet in octets {
            match (&mut *self, side) {
                (Model::Imap(imap), Side::Downstream) => imap.command(octet),
                (Model::Imap(imap), Side::Upstream) => imap.response(octet),
                (Model::Pop3(pop3), Side::Downstream) => pop3.command(octet),
                (Model::Pop3(pop3), Side::Upstream) => pop3.response(octet),
            }
        }
    }

    /// Notes that the server has closed. Packetboat adds nothing after half a line.
    pub fn closed(&mut self) {
        if let Model::Pop3(pop3) = self {
            pop3.is_closed = true;
        }
    }

    /// Compares each side's received octets with the expected ones. The end of an unfinished line may be held back. The
    /// device's octets are complete, except for unread and refused ones.
    pub fn compare(&self, device: &[u8], server: &[u8], unread: &[u8]) {
        let (passed, sent, held, refuses) = match self {
            Model::Imap(imap) => (&imap.passed, &imap.sent, imap.held(), imap.refuses),
            Model::Pop3(pop3) => (&pop3.passed, &pop3.sent, pop3.command.as_slice(), pop3.refuses),
        };
        let is_refused = match self {
            Model::Imap(imap) => imap.is_refused,
            Model::Pop3(pop3) => pop3.is_refused,
        };
        let shown = |octets: &[u8]| readable(&octets[octets.len().saturating_sub(600)..]);
        let all = [passed.done.as_slice(), &passed.line].concat();
        let is_right = match self {
            Model::Imap(imap) => imap.could_be_heard(&all, device),
            Model::Pop3(_) => all.starts_with(device) && device.len() >= passed.done.len(),
        };
        assert!(is_right, "the device heard\n{}\nnot\n{}\n{}", shown(device), shown(&passed.done), shown(&passed.line));
        if refuses {
            // A line passes once packetboat knows that it will not answer the line itself.
            let all = [sent.as_slice(), held].concat();
            let more = all.strip_prefix(server).map(<[u8]>::len);
            let more = more.unwrap_or_else(|| panic!("the server heard\n{}\nof\n{}", shown(server), shown(&all)));
            assert!(
                more <= held.len() || !unread.is_empty(),
                "the server heard\n{}\nof\n{}",
                shown(server),
                shown(&all)
            );
            assert!(more >= held.len() || !is_refused, "the server heard\n{}", shown(server));
            return;
        }
        let server = [server, unread].concat();
        assert!(*sent == server, "the server heard\n{}\nof\n{}", shown(&server), shown(sent));
    }
}

/// The words of the line, without a last word that may go on.
fn whole_words(line: &[u8]) -> Vec<String> {
    let mut words = words(line);
    if !line.last().is_some_and(is_blank) {
        words.pop();
    }
    words
}

fn is_blank(octet: &u8) -> bool {
    *octet <= b' ' || *octet == 0x7f
}

/// The words of a line as the most lenient server would parse them, in upper case and without a byte order mark.
fn words(line: &[u8]) -> Vec<String> {
    let words = line.split(is_blank).filter(|word| !word.is_empty());
    let trimmed = |word: &[u8]| {
        let start = word.iter().position(u8::is_ascii_alphanumeric).unwrap_or(word.len());
        String::from_utf8_lossy(&word[start..]).to_ascii_uppercase()
    };
    words.map(trimmed).collect()
}

/// The position of the next octet.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    /// The next octet is in a line after a literal.
    Continued,
    Literal(u64),
    /// The next octet comes after COMPRESS, and is no text.
    Compressed,
}

#[derive(Default)]
pub struct Imap {
    /// Whether packetboat answers logins here.
    refuses: bool,
    refusals: Vec<Vec<u8>>,
    behind_login: bool,
    /// The size of the refused literal, which may follow all the same.
    behind_literal: Option<u64>,
    is_refused: bool,
    is_dropped: bool,
    /// The count of the server's octets that had passed at the start of each response. Packetboat's answers may stand
    /// there.
    starts: Vec<usize>,
    sent: Vec<u8>,
    passed: Passed,
    device: Place,
    server: Place,
    command: Vec<u8>,
    /// The tag of the unfinished command.
    tag: Vec<u8>,
    /// Whether the literal was only announced, so that the server may refuse it (RFC 3501 §7.5).
    asks: bool,
    /// The tag of COMPRESS.
    compress: Option<Vec<u8>>,
}

impl Imap {
    fn command(&mut self, octet: u8) {
        if self.refuses && self.device == Place::Start {
            return self.decided(octet);
        }
        if !self.is_dropped {
            self.sent.push(octet);
        }
        self.commanded(octet);
    }

    /// Returns the beginning of a line that is held back until its first words decide.
    fn held(&self) -> &[u8] {
        if self.device == Place::Start { &self.command } else { &[] }
    }

    /// Decides whether the line passes, once its first words are complete.
    fn decided(&mut self, octet: u8) {
        if octet == 0 && self.command.is_empty() {
            return;
        }
        self.command.push(octet);
        if !self.is_refused
            && let Some((tag, text, goes_on)) = self.refusal()
        {
            self.refusals.push([&tag, &b" BAD "[..], text.as_bytes(), b"\r\n"].concat());
            self.behind_login |= goes_on;
            self.behind_literal = None;
            self.is_refused = true;
        }
        if octet != b'\n' {
            return;
        }
        let line = std::mem::take(&mut self.command);
        if std::mem::take(&mut self.is_refused) {
            self.is_dropped = matches!(announced(&line), Some((_, false)));
            if self.is_dropped {
                self.device = Place::Literal(announced(&line).unwrap().0);
            }
            self.refused_literal(&line);
            return;
        }
        (self.behind_login, self.behind_literal) = (false, None);
        self.sent.extend(&line);
        for octet in line {
            self.commanded(octet);
        }
    }

    /// Reads the end of a dropped line. The literal that a login announces may follow unasked.
    fn refused_literal(&mut self, line: &[u8]) {
        self.behind_literal = announced(line).filter(|(_, asks)| *asks && self.behind_login).map(|(size, _)| size);
    }

    /// Returns whether the present line may be the refused literal.
    fn may_be_literal(&self, size: u64) -> bool {
        let line = &self.command[..self.command.len().min(1024)];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(1024);
        line.len() == size || line.get(size).is_some_and(is_blank)
    }

    /// Returns the answer to the present line, once it is known to be refused.
    fn refusal(&self) -> Option<(Vec<u8>, &'static str, bool)> {
        let line = &self.command;
        let words = whole_words(line);
        let octets = line.split(is_blank).find(|word| !word.is_empty());
        let is_tag = |tag: &&[u8]| {
            tag.len() <= 64 && tag.iter().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(octet))
        };
        let tag = octets.filter(is_tag).unwrap_or(b"*").to_vec();
        let untagged = || b"*".to_vec();
        let first = words.first().map_or("", String::as_str);
        let is_whole = line.ends_with(b"\n");
        let verb = line.split(is_blank).filter(|word| !word.is_empty()).nth(1).unwrap_or_default();
        let unknown = if verb.first().is_some_and(u8::is_ascii_alphabetic) { tag.clone() } else { untagged() };
        if let Some(size) = self.behind_literal {
            if !is_whole && line.len() < 1024 {
                return None;
            }
            if self.may_be_literal(size) {
                return Some((unknown, "no command here", true));
            }
        }
        let is_known = |verb: &[u8]| KNOWN.split_whitespace().any(|known| verb.eq_ignore_ascii_case(known.as_bytes()));
        match words.get(1) {
            _ if matches!(first, "LOGIN" | "AUTHENTICATE" | "AUTH") => Some((untagged(), "already logged in", true)),
            Some(verb) if verb.starts_with("LOGIN") || verb.starts_with("AUTH") => {
                Some((tag, "already logged in", true))
            }
            Some(verb) if ["STARTTLS", "COMPRESS", "UNAUTHENTICATE"].contains(&verb.as_str()) => {
                Some((tag, "not possible after login", false))
            }
            Some(_) if self.behind_login && !is_known(verb) => Some((unknown, "no command here", true)),
            Some(_) => None,
            // Packetboat looks at no octets beyond these.
            None if line.len() == 1024 && !is_whole => Some((untagged(), "no command here", self.behind_login)),
            None if !is_whole || words.is_empty() || first == "DONE" => None,
            None if self.behind_login => Some((untagged(), "no command here", true)),
            None => Some((tag, "no command here", false)),
        }
    }

    fn commanded(&mut self, octet: u8) {
        match self.device {
            Place::Compressed => {}
            Place::Literal(left) if left > 0 => {
                self.asks = false;
                self.device = if left == 1 { Place::Continued } else { Place::Literal(left - 1) };
            }
            Place::Start | Place::Continued | Place::Literal(_) => {
                if self.device == Place::Literal(0) {
                    self.asks = false;
                    self.device = Place::Continued;
                }
                self.command.push(octet);
                if octet != b'\n' {
                    return;
                }
                let line = std::mem::take(&mut self.command);
                let was_dropped = std::mem::take(&mut self.is_dropped);
                if was_dropped {
                    self.refused_literal(&line);
                }
                if self.device == Place::Start {
                    let (tag, rest) = first_word(&line[..line.len().min(80)]);
                    self.tag = tag.to_vec();
                    if first_word(rest).0.trim_ascii_end().eq_ignore_ascii_case(b"COMPRESS") {
                        self.compress = Some(tag.to_vec());
                    }
                }
                self.device = match announced(&line) {
                    // Packetboat does not ask for this literal.
                    Some((_, true)) if was_dropped => Place::Start,
                    Some((size, asks)) => {
                        self.asks = asks;
                        self.is_dropped = was_dropped;
                        Place::Literal(size)
                    }
                    None => Place::Start,
                };
            }
        }
    }

    /// Returns whether a device may have received this: `all` the server's octets with packetboat's answers in their
    /// order, each where a response begins. The last line may be unfinished. Where both have sent the same words,
    /// either may have come first.
    fn could_be_heard(&self, all: &[u8], heard: &[u8]) -> bool {
        let now = if self.server == Place::Start { self.passed.done.len() } else { 0 };
        let is_start = |at: usize| at == now || self.starts.binary_search(&at).is_ok();
        // Each way counts octets received, octets passed, and answers.
        let mut ways = vec![(0, 0, 0)];
        let mut tried = HashSet::new();
        while let Some((mut at, mut passed, said)) = ways.pop() {
            loop {
                if is_start(passed) {
                    if !tried.insert((passed, said)) {
                        break;
                    }
                    if let Some(answer) = self.refusals.get(said).filter(|answer| heard[at..].starts_with(answer)) {
                        ways.push((at + answer.len(), passed, said + 1));
                    }
                }
                if at == heard.len() && passed >= self.passed.done.len() {
                    return true;
                }
                if at == heard.len() || all.get(passed) != Some(&heard[at]) {
                    break;
                }
                (at, passed) = (at + 1, passed + 1);
            }
        }
        false
    }

    fn response(&mut self, octet: u8) {
        if self.server == Place::Start && self.passed.line.is_empty() {
            self.starts.push(self.passed.done.len());
        }
        match self.server {
            Place::Compressed => self.passed.done.push(octet),
            Place::Literal(left) if left > 0 => {
                self.passed.done.push(octet);
                self.server = if left == 1 { Place::Continued } else { Place::Literal(left - 1) };
            }
            Place::Literal(_) | Place::Continued => {
                self.server = Place::Continued;
                if self.passed.push(octet) {
                    self.end_data();
                }
            }
            Place::Start => {
                if self.passed.push(octet) {
                    self.line();
                }
            }
        }
    }

    fn end_data(&mut self) {
        self.server = announced(&self.passed.line).map_or(Place::Start, |(size, _)| Place::Literal(size));
        self.passed.pass();
    }

    /// Begins a response, once its first line is complete.
    fn line(&mut self) {
        let line = self.passed.line.clone();
        // Packetboat looks only at the line's beginning.
        let window = &line[..line.len().min(300)];
        let window = window.strip_suffix(b"\n").unwrap_or(window);
        let window = window.strip_suffix(b"\r").unwrap_or(window);
        if line[0] == b'+' {
            self.completed(b"+", false);
            return self.passed.pass();
        }
        let (tag, rest) = first_word(window);
        let (keyword, text) = first_word(rest);
        let keyword = keyword.to_ascii_uppercase();
        let is_numbered = line.starts_with(b"* ") && line.get(2).is_some_and(u8::is_ascii_digit);
        let is_status = matches!(keyword.as_slice(), b"OK" | b"NO" | b"BAD")
            || (tag == b"*" && matches!(keyword.as_slice(), b"BYE" | b"PREAUTH"));
        if is_numbered || (tag == b"*" && !is_status && keyword != b"CAPABILITY") {
            return self.end_data();
        }
        let in_code = is_status && text.len() >= CODE.len() && text[..CODE.len()].eq_ignore_ascii_case(CODE);
        if keyword == b"CAPABILITY" && tag == b"*" {
            self.rewrite(b"* CAPABILITY".len(), false);
        } else if in_code {
            self.rewrite(tag.len() + 1 + keyword.len() + CODE.len(), true);
        } else {
            self.passed.pass();
        }
        self.completed(tag, keyword == b"OK");
    }

    /// Rewrites the list that begins at `at`.
    fn rewrite(&mut self, at: usize, in_code: bool) {
        let line = std::mem::take(&mut self.passed.line);
        let text = line.strip_suffix(b"\n").unwrap();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let end = if in_code { text.iter().skip(at).position(|&octet| octet == b']') } else { Some(text.len() - at) };
        let list = end.filter(|_| text.len() <= 16 * 1024).map(|end| &text[at..at + end]);
        let words = || list.unwrap().split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        if list.is_none() || words().all(stays) {
            self.passed.done.extend(line);
            return;
        }
        let done = &mut self.passed.done;
        done.extend(&text[..at]);
        for word in words().filter(|word| stays(word)) {
            done.push(b' ');
            done.extend(word);
        }
        done.extend(&text[at + list.unwrap().len()..]);
        done.extend(b"\r\n");
    }

    /// Notes that the server has answered a command.
    fn completed(&mut self, tag: &[u8], ok: bool) {
        if self.asks && self.tag == tag && matches!(self.device, Place::Literal(_)) {
            // The server has refused the literal, so a command follows.
            self.asks = false;
            self.device = Place::Start;
        }
        if self.compress.as_deref() == Some(tag) {
            self.compress = None;
            if ok {
                (self.device, self.server) = (Place::Compressed, Place::Compressed);
            }
        }
    }
}

/// Reads the literal that a line announces at its end, and whether its sender waits (RFC 3501 §4.3, RFC 7888 §4).
pub(super) fn announced(line: &[u8]) -> Option<(u64, bool)> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_suffix(b"}")?;
    let asks = !line.ends_with(b"+");
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let digits = line.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
    let (before, number) = line.split_at(line.len() - digits);
    // A number of more than 20 digits is invalid.
    (before.ends_with(b"{") && digits <= 20)
        .then(|| std::str::from_utf8(number).unwrap().parse().ok())
        .flatten()
        .map(|size| (size, asks))
}

pub(super) fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |&octet| octet == b' ');
    (parts.next().unwrap(), parts.next().unwrap_or_default())
}

fn stays(capability: &[u8]) -> bool {
    let capability = String::from_utf8_lossy(capability).to_ascii_uppercase();
    let name = capability.split('=').next().unwrap();
    WITHOUT_VALUE.split_whitespace().any(|one| one == capability)
        || WITH_VALUE.split_whitespace().any(|one| one == name)
}

pub struct Pop3 {
    offer: Offer,
    /// Whether packetboat answers logins and their continuations.
    refuses: bool,
    behind_login: bool,
    is_refused: bool,
    is_closed: bool,
    sent: Vec<u8>,
    passed: Passed,
    command: Vec<u8>,
    /// The answers that the server owes: each is single-line or multi-line, with or without capabilities.
    owed: VecDeque<Answer>,
    /// The server's present answer.
    answer: Answer,
    within: Within,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Line,
    Lines,
    Capabilities,
    /// The answer is packetboat's own.
    Refusal,
}

#[derive(Default)]
enum Within {
    #[default]
    Nothing,
    /// A multi-line answer: all of it so far, with the preceding line end.
    Lines(Vec<u8>),
    Capabilities,
    /// The server's answers no longer match the commands.
    Lost,
}

impl Pop3 {
    fn new(offer: Offer, refuses: bool) -> Self {
        let (passed, within) = (Passed::default(), Within::default());
        let (sent, command, owed, answer) = (Vec::new(), Vec::new(), VecDeque::new(), Answer::Line);
        Self {
            offer,
            refuses,
            behind_login: false,
            is_refused: false,
            is_closed: false,
            sent,
            passed,
            command,
            owed,
            answer,
            within,
        }
    }

    fn command(&mut self, octet: u8) {
        if self.refuses && octet == 0 && self.command.is_empty() {
            return;
        }
        self.command.push(octet);
        if !self.refuses {
            self.sent.push(octet);
        }
        if self.refuses && !self.is_refused && self.refuses_line() {
            self.is_refused = true;
            self.behind_login = true;
            self.owed.push_back(Answer::Refusal);
            self.refuse();
        }
        if octet == b'\n' {
            let line = std::mem::take(&mut self.command);
            if std::mem::take(&mut self.is_refused) {
                return;
            }
            if self.refuses {
                self.behind_login = false;
                self.sent.extend(&line);
            }
            // A search for logins ignores what precedes a keyword; no other reading does.
            let plain: Vec<&[u8]> = line.split(is_blank).filter(|word| !word.is_empty()).collect();
            if matches!(self.within, Within::Lost) {
                return;
            }
            let bare = plain.len() < 2;
            self.owed.push_back(match plain.first().map(|word| word.to_ascii_uppercase()).as_deref() {
                Some(b"CAPA") => Answer::Capabilities,
                Some(b"RETR" | b"TOP") => Answer::Lines,
                Some(b"LIST" | b"UIDL" | b"LANG" | b"AUTH") if bare => Answer::Lines,
                _ => Answer::Line,
            });
        }
    }

    /// Returns whether the present line is refused, as far as is known.
    fn refuses_line(&self) -> bool {
        let words = whole_words(&self.command);
        match words.first().map(String::as_str) {
            // Packetboat looks at no octets beyond these.
            None => self.command.len() == 512 && !self.command.ends_with(b"\n"),
            Some("USER" | "PASS" | "APOP" | "AUTH" | "STLS") => true,
            Some(keyword) => self.behind_login && !POP3_KNOWN.split_whitespace().any(|known| known == keyword),
        }
    }

    /// Sends packetboat's own answers, once all earlier answers are sent.
    fn refuse(&mut self) {
        let has_begun = |line: &[u8]| line.first() == Some(&b'+') && line.len() > 2 || line.len() >= 512;
        while self.owed.front() == Some(&Answer::Refusal) {
            match self.within {
                Within::Nothing if self.is_closed && !self.passed.line.is_empty() => return,
                Within::Nothing if !has_begun(&self.passed.line) => {}
                Within::Lost if self.passed.done.ends_with(b"\n") => {}
                _ => return,
            }
            self.owed.pop_front();
            self.passed.done.extend(b"-ERR already logged in\r\n");
        }
    }

    fn response(&mut self, octet: u8) {
        self.responded(octet);
        if matches!(self.within, Within::Lost) {
            self.owed.retain(|answer| *answer == Answer::Refusal);
        }
        self.refuse();
    }

    fn responded(&mut self, octet: u8) {
        match &mut self.within {
            Within::Lost => self.passed.done.push(octet),
            Within::Lines(all) => {
                all.push(octet);
                self.passed.done.push(octet);
                if all.ends_with(b"\r\n.\r\n") {
                    self.within = Within::Nothing;
                }
            }
            Within::Nothing => {
                let is_whole = self.passed.push(octet);
                let line = self.passed.line.to_ascii_uppercase();
                if !b"+OK".starts_with(&line[..line.len().min(3)]) && !b"-ERR".starts_with(&line[..line.len().min(4)]) {
                    self.within = Within::Lost;
                    return self.passed.pass();
                }
                // A positive reply answers the command that was first in the queue when the reply began.
                if line == b"+OK" || (line[0] == b'-' && is_whole) {
                    self.answer = self.owed.pop_front().unwrap_or(Answer::Line);
                }
                if is_whole {
                    self.within = match self.answer {
                        Answer::Lines if line[0] == b'+' => Within::Lines(b"\r\n".to_vec()),
                        Answer::Capabilities if line[0] == b'+' => Within::Capabilities,
                        _ => Within::Nothing,
                    };
                    self.passed.pass();
                }
            }
            Within::Capabilities => {
                if self.passed.push(octet) {
                    self.capability();
                }
            }
        }
    }

    fn capability(&mut self) {
        let text = self.passed.line.strip_suffix(b"\n").unwrap();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() > 16 * 1024 {
            self.within = Within::Lost;
            return self.passed.pass();
        }
        if text == b"." {
            if self.offer.encrypted {
                let more: &[u8] = if self.offer.xoauth2 { b" XOAUTH2" } else { b"" };
                self.passed.done.extend([b"USER\r\nSASL PLAIN LOGIN", more, b"\r\n"].concat());
            } else {
                self.passed.done.extend(b"USER\r\n");
            }
            self.within = Within::Nothing;
            return self.passed.pass();
        }
        let name = String::from_utf8_lossy(first_word(text).0).to_ascii_uppercase();
        if POP3_NAMES.split_whitespace().any(|one| one == name) {
            self.passed.pass();
        } else {
            self.passed.line.clear();
        }
    }
}

/// The commands of RFC 3501, and of the extensions that mail programs use.
const KNOWN: &str = "NOOP CHECK SELECT EXAMINE LIST LSUB XLIST STATUS FETCH UID STORE SEARCH COPY MOVE APPEND EXPUNGE CLOSE \
    UNSELECT IDLE LOGOUT CAPABILITY ID ENABLE NAMESPACE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE SORT THREAD GETQUOTA \
    GETQUOTAROOT GETACL MYRIGHTS GETMETADATA";
/// The commands of RFC 1939, 2449 and 6856.
const POP3_KNOWN: &str = "STAT LIST RETR DELE NOOP RSET LAST QUIT TOP UIDL CAPA LANG UTF8 XTND";
const CODE: &[u8] = b"[CAPABILITY ";
/// The capabilities that hold between any device and any server, from the registry of RFC 3501 §11. Logins, TLS and
/// extensions that change the syntax are left out.
const WITHOUT_VALUE: &str = "IMAP4 IMAP4REV1 ACL BINARY CATENATE CHILDREN CONDSTORE CREATE-SPECIAL-USE ESEARCH ESORT \
    FILTERS ID IDLE INPROGRESS LANGUAGE LIST-EXTENDED LIST-METADATA LIST-MYRIGHTS LIST-STATUS LITERAL+ LITERAL- METADATA \
    METADATA-SERVER MOVE MULTIAPPEND MULTISEARCH NAMESPACE NOTIFY OBJECTID PARTIAL REPLACE SAVEDATE SEARCHRES SPECIAL-USE \
    UIDPLUS UNSELECT URL-PARTIAL URLAUTH WITHIN";
const WITH_VALUE: &str = "APPENDLIMIT CONTEXT I18NLEVEL IMAPSIEVE PREVIEW QUOTA QUOTASET RIGHTS SEARCH SNIPPET SORT STATUS \
    THREAD";
const POP3_NAMES: &str = "TOP UIDL RESP-CODES AUTH-RESP-CODE LOGIN-DELAY PIPELINING EXPIRE IMPLEMENTATION";
