//! The status of a token, for the page, the metrics and `packetboat health`.

use std::time::Duration;

use tokio::time::Instant;

use super::CachedToken;
use crate::config::Account;
use crate::failure::Failure;
use crate::lifecycle::unix_time;
use crate::token::keeping::{Keeper, StoreKind};

/// The status of an account's token. Times are in seconds since 1970.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    /// The account's name.
    pub account: String,
    /// The account's mailbox.
    pub mailbox: String,
    /// The identity that opens it.
    pub identity: String,
    /// The grant as the configuration writes it.
    pub grant: &'static str,
    /// The person who signs in, where the grant knows a sign-in.
    pub user: Option<String>,
    /// The account that the person signs in for, where the grant knows a sign-in by browser or code.
    pub login: Option<String>,
    /// The end of the present token, where there is one.
    pub until: Option<u64>,
    /// The last failure to fetch a token, with what to do.
    pub trouble: Option<Failure>,
    /// The time for which no token is fetched after failures, where there is one.
    pub paused: Option<Duration>,
    /// The reason why the newest refresh token is in memory alone, where it is.
    pub unkept: Option<String>,
    /// The store of the sign-in, where the grant knows one.
    pub store: Option<StoreKind>,
    /// The trouble of the fleet's database with this sign-in, where it has some.
    pub store_trouble: Option<String>,
    /// The end of the sign-in if nobody uses it.
    pub sign_in_until: Option<u64>,
}

impl TokenStatus {
    /// Returns whether there is a token, and the last fetch succeeded.
    pub fn is_well(&self) -> bool {
        self.until.is_some() && self.trouble.is_none()
    }
}

impl CachedToken {
    /// Returns the status for one of the accounts that are opened with this token.
    pub(in crate::token) fn status(&self, name: &str, account: &Account) -> TokenStatus {
        let state = self.state();
        let until = state.token.as_ref().map(|token| token.left()).filter(|left| !left.is_zero());
        let trouble = state.trouble.as_ref().map(|trouble| trouble.failure.clone());
        let paused = state.trouble.as_ref().map(|trouble| trouble.until.saturating_duration_since(Instant::now()));
        drop(state);
        let keeper = self.keeper();
        let renewed = keeper.and_then(Keeper::renewed);
        let renewed = renewed.map(|renewed| Instant::now().saturating_duration_since(renewed));
        let now = unix_time();
        TokenStatus {
            account: name.to_owned(),
            mailbox: account.mailbox.clone(),
            identity: self.spec.owner.identity.clone(),
            grant: self.spec.identity.grant.name(),
            user: self.spec.identity.grant.is_of_a_person().then(|| self.spec.owner.user.clone()),
            login: self.login_name().map(str::to_owned),
            until: until.map(|left| now + left.as_secs()),
            trouble,
            paused: paused.filter(|left| !left.is_zero()),
            unkept: keeper.and_then(Keeper::unkept),
            store: keeper.map(Keeper::kind),
            store_trouble: keeper.and_then(Keeper::trouble),
            sign_in_until: renewed.map(|age| (now + UNUSED.as_secs()).saturating_sub(age.as_secs())),
        }
    }
}

/// A refresh token of Microsoft's ends when it is not used for so long.
const UNUSED: Duration = Duration::from_secs(90 * 24 * 60 * 60);
