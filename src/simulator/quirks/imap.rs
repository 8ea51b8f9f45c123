//! Quirks of IMAP sessions are faults in answer to a chosen command, tokens whose end is told late, and views of a folder
//! that stay as they were.

use super::smtp::Afterwards;

/// Quirks of IMAP sessions. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Imap {
    /// Faults at commands of a session that is logged in, the first that fits before the others.
    pub faults: Vec<ImapFault>,
    /// A session shows no message that came after its login, and no later UIDNEXT. NOOP is answered with OK all the
    /// same. Users have reported such views of Exchange Online, for half an hour a day.
    pub stale_views: bool,
}

/// A fault at a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapFault {
    /// The command's name in upper case; `None` for every command.
    pub command: Option<&'static str>,
    /// The number of such commands before the fault, of all sessions together.
    pub passes: u32,
    /// Whether the command is executed and answered before the fault.
    pub is_served: bool,
    /// Lines, without the last line end; `TAG` stands for the command's tag.
    pub reply: Option<String>,
    /// The fate of the connection behind the lines.
    pub then: Afterwards,
    /// How many times; `None` for always.
    pub times: Option<u32>,
}

impl ImapFault {
    /// The token has expired: this command gets a BYE in place of its answer, and the connection is closed.
    pub fn expired(command: &'static str) -> Self {
        Self::reply(command, EXPIRED).then(Afterwards::Close)
    }

    /// The command gets these lines in place of its answer; the session continues.
    pub fn reply(command: &'static str, reply: &str) -> Self {
        let reply = Some(reply.to_owned());
        let command = Some(command);
        Self { command, passes: 0, is_served: false, reply, then: Afterwards::Continue, times: Some(1) }
    }

    /// The command gets no answer.
    pub fn silent(command: &'static str, then: Afterwards) -> Self {
        Self { reply: None, ..Self::reply(command, "") }.then(then)
    }

    /// The same at every command.
    #[must_use]
    pub fn at_any_command(self) -> Self {
        Self { command: None, ..self }
    }

    /// The same behind the command's own answer.
    #[must_use]
    pub fn behind_the_answer(self) -> Self {
        Self { is_served: true, ..self }
    }

    /// The same after so many such commands.
    #[must_use]
    pub fn after(self, passes: u32) -> Self {
        Self { passes, ..self }
    }

    /// The same, and the connection ends in this way behind it.
    #[must_use]
    pub fn then(self, then: Afterwards) -> Self {
        Self { then, ..self }
    }

    /// The same, and so many times.
    #[must_use]
    pub fn times(self, times: Option<u32>) -> Self {
        Self { times, ..self }
    }
}

/// The line by which Exchange Online ends a session whose token has expired.
pub const EXPIRED: &str = "* BYE Session invalidated - AccessTokenExpired";
