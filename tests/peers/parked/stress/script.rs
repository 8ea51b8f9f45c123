//! Random sessions of devices: commands that stand alone, that come together, and that have literals.

use support::fuzz::random::Random;

pub enum Act {
    /// Commands that are sent together.
    Commands(Vec<String>),
    /// A command with literals, each of which waits until the server asks for it.
    Literals(String, Vec<Vec<u8>>),
    Idle,
}

/// The way in which a session ends.
pub enum Leave {
    /// Behind the last answer.
    LogOut,
    /// In one write with other commands.
    LogOutTogether(Vec<String>),
    BreakOff,
}

pub struct Script {
    pub acts: Vec<Act>,
    pub leave: Leave,
}

impl Script {
    pub fn random(random: &mut Random) -> Self {
        // Commands that leave something in the connection are rare, so that most sessions are parked.
        let commands = if random.chance(12) { [COMMANDS, SPOILERS].concat() } else { COMMANDS.to_vec() };
        let mut acts = vec![];
        if random.chance(80) {
            let select = if random.chance(80) { "SELECT INBOX" } else { "EXAMINE INBOX" };
            acts.push(Act::Commands(vec![select.to_owned()]));
        }
        for _ in 0..random.below(8) {
            acts.push(match random.below(100) {
                0..15 => literals(random),
                15..22 => Act::Idle,
                22..24 => Act::Commands(["SELECT INBOX", "IDLE\r\nDONE", "NOOP"].map(str::to_owned).to_vec()),
                24..40 => {
                    let count = 2 + random.below(4);
                    Act::Commands(together(random, &commands, count))
                }
                _ => Act::Commands(vec![one(random, &commands)]),
            });
        }
        let leave = match random.below(100) {
            0..80 => Leave::LogOut,
            80..88 => {
                let count = 1 + random.below(3);
                Leave::LogOutTogether(together(random, &commands, count))
            }
            _ => Leave::BreakOff,
        };
        Self { acts, leave }
    }
}

fn one(random: &mut Random, commands: &[&str]) -> String {
    commands[random.below(commands.len())].to_owned()
}

/// Commands that are sent together. Dovecot executes others while it writes the message of APPEND, in any order.
fn together(random: &mut Random, commands: &[&str], count: usize) -> Vec<String> {
    let in_order: Vec<&str> = commands.iter().copied().filter(|command| !command.starts_with("APPEND")).collect();
    (0..count).map(|_| one(random, &in_order)).collect()
}

fn literals(random: &mut Random) -> Act {
    let message = |random: &mut Random| {
        let mut message = format!("Subject: n{}\r\n\r\n", random.below(1000)).into_bytes();
        for _ in 0..random.below(6) {
            message.extend(random.pick(&[
                b"x.1 OK done\r\n",
                b"* 9 EXISTS\r\n",
                b"a LOGOUT\r\n",
                b"{3}\r\n",
                b"DONE\r\n",
                b"text ",
            ]));
        }
        message
    };
    let (command, count) = match random.below(10) {
        0..5 => ("APPEND INBOX", 1),
        5 => ("APPEND INBOX (\\Flagged)", 1),
        6 => ("APPEND INBOX", 2),
        7 => ("APPEND nowhere", 1),
        8 => return Act::Literals("UID SEARCH SUBJECT".to_owned(), vec![b"n".to_vec()]),
        _ => return Act::Literals("SELECT".to_owned(), vec![b"INBOX".to_vec()]),
    };
    Act::Literals(command.to_owned(), (0..count).map(|_| message(random)).collect())
}

/// Commands behind which a connection may be parked.
const COMMANDS: &[&str] = &[
    "SELECT INBOX",
    "SELECT INBOX",
    "EXAMINE INBOX",
    "SELECT Box",
    "EXAMINE Box",
    "SELECT nowhere",
    "CLOSE",
    "UNSELECT",
    "NOOP",
    "NOOP",
    "CHECK",
    "FETCH 1:* (UID FLAGS RFC822.SIZE)",
    "FETCH 1:* (UID FLAGS)",
    "FETCH 1 BODY.PEEK[]",
    "FETCH 2 (BODY[] FLAGS)",
    "FETCH * BODY.PEEK[HEADER.FIELDS (SUBJECT)]",
    "UID FETCH 1:5 (FLAGS BODY.PEEK[TEXT])",
    "STORE 1 +FLAGS (\\Deleted)",
    "STORE 1:2 -FLAGS (\\Deleted \\Seen)",
    "STORE * FLAGS.SILENT (\\Flagged)",
    "STORE 2 +FLAGS (\\Seen)",
    "STORE 1 +FLAGS (keyword)",
    "UID STORE 1:* +FLAGS (\\Seen)",
    "EXPUNGE",
    "EXPUNGE",
    "UID EXPUNGE 1:3",
    "COPY 1 Box",
    "COPY 1 INBOX",
    "MOVE 1 Box",
    "UID COPY 2 Box",
    "SEARCH ALL",
    "SEARCH UNSEEN",
    "UID SEARCH SUBJECT {1+}\r\nn",
    "SEARCH RETURN (SAVE) ALL",
    "FETCH $ (UID FLAGS)",
    "SORT (SUBJECT) UTF-8 ALL",
    "STATUS INBOX (MESSAGES UIDNEXT UNSEEN)",
    "STATUS Box (MESSAGES)",
    "LIST \"\" *",
    "LSUB \"\" *",
    "CREATE Box",
    "CREATE Box",
    "DELETE Box",
    "RENAME Box Other",
    "RENAME Other Box",
    "SUBSCRIBE Box",
    "UNSUBSCRIBE Box",
    "CAPABILITY",
    "ID NIL",
    "NAMESPACE",
    "GETQUOTAROOT INBOX",
    "APPEND INBOX {21+}\r\nSubject: at once\r\n\r\nx",
];

/// Commands that leave something in the connection, or that packetboat does not know.
const SPOILERS: &[&str] = &[
    "ENABLE CONDSTORE",
    "ENABLE QRESYNC",
    "SELECT INBOX (CONDSTORE)",
    "FETCH 1 (MODSEQ)",
    "STATUS INBOX (HIGHESTMODSEQ)",
    "SEARCH RETURN (UPDATE) ALL",
    "NOTIFY NONE",
    "LANGUAGE de",
    "X-NOTHING",
    "LOGIN a b",
    "STARTTLS",
    "UNAUTHENTICATE",
    "SETMETADATA INBOX (/private/comment \"x\")",
    "FETCH",
    "UID",
];
