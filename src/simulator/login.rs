//! A login by XOAUTH2 is the same for every protocol: a token, a mailbox, and whether the one opens the other.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::counts::{Counts, LoginCounts};
use super::quirks::{Excess, LoginRate};
use super::tenant::Principal;
use super::view::View;
use super::world::World;
use crate::protocol::Protocol;
use crate::transport::Facts;

/// The result of a login.
pub(super) enum LoginResult {
    Accepted(OpenSession),
    Refused {
        /// The user name as the client sent it, for long diagnostics.
        user: String,
    },
    /// The mailbox has its maximum of sessions, or of logins within a time.
    Excessive(Excess),
}

/// A session that is logged in; it is counted until it is dropped.
pub(super) struct OpenSession {
    /// The mailbox; none where the token is valid and may not open it.
    pub(super) folders: Option<Folders>,
    /// The time at which the token expires.
    pub(super) token_ends: Instant,
    world: Arc<World>,
    /// The mailbox's address in lower case.
    pub(super) name: String,
}

/// The folders of a mailbox in one session.
#[derive(Clone)]
pub(super) struct Folders {
    pub(super) inbox: View,
    pub(super) sent: Option<View>,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.world.count(|counts| {
            if let Some(open) = counts.sessions.get_mut(&self.name) {
                *open = open.saturating_sub(1);
            }
        });
    }
}

/// Logs in by the XOAUTH2 response without its base64: `user=` U `^A auth=Bearer ` T `^A^A`.
pub(super) fn log_in(world: &Arc<World>, protocol: Protocol, facts: Option<Facts>, response: &[u8]) -> LoginResult {
    let refused = |user: &str, why: &str| {
        // The tenant bounds the number of mailboxes that are counted, and not the clients.
        let mailbox = world.mailbox(user).map(|_| user);
        world.count(|counts| counts.count_login(protocol, mailbox, |logins| logins.refused += 1));
        world.log_event(format!("{}: login by XOAUTH2 as {user} refused: {why}", protocol.name()));
        LoginResult::Refused { user: user.to_owned() }
    };
    let Some((user, token)) = split(response) else { return refused("nobody", "not XOAUTH2") };
    let shown = crate::text::excerpt(user.as_bytes());
    if world.quirk(|quirks| quirks.mail.refuse_logins) {
        return refused(&shown, "an outage, as asked for");
    }
    let Some(access) = world.tokens().access(token) else { return refused(&shown, "token unknown or expired") };
    if !access.scope.allows(protocol) {
        return refused(&shown, "the token is for something else");
    }
    let Some(mailbox) = world.mailbox(user) else { return refused(&shown, "no such mailbox") };
    let name = user.to_lowercase();
    let excess = excess(world, &name);
    if let Some((excess, what)) = excess {
        world.count(|counts| counts.count_login(protocol, Some(user), |logins| logins.excessive += 1));
        world.log_event(format!("{}: {excess:?}, because {shown} has too many {what}", protocol.name()));
        if excess != Excess::NotConnected {
            return LoginResult::Excessive(excess);
        }
    }
    world.count(|counts| count_session(counts, &name));
    let mut session = OpenSession { folders: None, token_ends: access.ends, world: Arc::clone(world), name };
    let whose = match &access.principal {
        Principal::App => format!("app {}", world.tenant.client_id),
        Principal::User(user) => user.clone(),
    };
    let is_connected = excess.is_none() && !world.quirk(|quirks| quirks.mail.not_connected);
    let is_open = world.may_open(&access.principal, user) && is_connected;
    let but = if is_open { "" } else { ", which may not open the mailbox" };
    let name = protocol.name();
    let (version, cipher) = facts.map_or(("no TLS", ""), |facts| (facts.version, facts.cipher));
    world.log_event(format!("{name}: login by XOAUTH2 as {shown}, {version} {cipher}, token of {whose}{but}"));
    let count = |logins: &mut LoginCounts| if is_open { logins.accepted += 1 } else { logins.not_connected += 1 };
    world.count(|counts| counts.count_login(protocol, Some(user), count));
    session.folders = is_open
        .then(|| Folders { sent: mailbox.sent().map(|sent| View::new(world, sent)), inbox: View::new(world, mailbox) });
    LoginResult::Accepted(session)
}

/// Counts and logs a refused login.
pub(super) fn refuse(world: &World, protocol: Protocol, what: &str) {
    world.count(|counts| counts.logins.of_mut(protocol).refused += 1);
    world.log_event(format!("{}: {what}", protocol.name()));
}

/// The answer to a login that is one too many, and the reason; `None` for a login that is not.
fn excess(world: &World, mailbox: &str) -> Option<(Excess, &'static str)> {
    let (most, excess, rate) =
        world.quirk(|quirks| (quirks.mail.max_sessions, quirks.mail.excess, quirks.mail.login_rate));
    let open = world.counts.borrow().sessions_of(mailbox);
    if most.is_some_and(|most| open >= most) {
        return Some((excess, "sessions"));
    }
    let rate = rate.filter(|rate| !world.logins(mailbox, |logins| is_within(rate, logins)))?;
    Some((rate.excess, "logins"))
}

/// Notes a login, and returns whether the rate allows it.
fn is_within(rate: &LoginRate, logins: &mut VecDeque<Instant>) -> bool {
    while logins.front().is_some_and(|login| login.elapsed() >= rate.within) {
        logins.pop_front();
    }
    if logins.len() >= rate.logins {
        return false;
    }
    logins.push_back(Instant::now());
    true
}

fn count_session(counts: &mut Counts, mailbox: &str) {
    let open = counts.sessions.entry(mailbox.to_owned()).or_default();
    *open += 1;
    let open = *open;
    counts.most_sessions = counts.most_sessions.max(open);
    let one = counts.mailboxes.entry(mailbox.to_owned()).or_default();
    one.most_sessions = one.most_sessions.max(open);
}

/// The user and the token of an XOAUTH2 response without its base64.
pub(super) fn split(response: &[u8]) -> Option<(&str, &str)> {
    let fields = std::str::from_utf8(response).ok()?.strip_suffix("\x01\x01")?;
    let (user, token) = fields.split_once('\x01')?;
    let token = token.strip_prefix("auth=Bearer ").filter(|token| !token.contains('\x01'))?;
    Some((user.strip_prefix("user=")?, token))
}

/// The length of a response's token in characters, for POP3's limit.
pub(super) fn token_length(response: &[u8]) -> usize {
    split(response).map_or(0, |(_, token)| token.len())
}
