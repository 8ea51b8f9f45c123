//! An access token, and what is known of its life.

use std::time::Duration;

use tokio::time::Instant;

use super::json::{self, Claims, TokenResponse};
use crate::crypto::jitter;
use crate::secret::Secret;

/// A token that opens mailboxes for a while.
pub struct AccessToken {
    secret: Secret,
    pub(super) obtained: Instant,
    expires: Instant,
    /// The time to fetch a new token, though this one still works.
    pub(super) stale: Instant,
    /// A token with less life than this opens no new session.
    pub(super) spare: Duration,
    /// The time to fetch a new token at the risk that other instances of the fleet do so as well.
    pub(super) alone: Instant,
}

impl AccessToken {
    /// A token that has just come.
    pub(super) fn new(token_response: TokenResponse) -> Self {
        let obtained = Instant::now();
        let life = life_of(&token_response);
        // An endpoint that hands out what it has cached gives ever shorter halves.
        let stale = obtained + life.mul_f64(jitter(0.45, 0.55)).max(SHORTEST_PAUSE);
        Self {
            secret: token_response.access_token,
            obtained,
            expires: obtained + life,
            stale,
            spare: SPARE.min(life / 4),
            alone: obtained + life.mul_f64(jitter(0.6, 0.85)),
        }
    }

    /// A token that another instance of the fleet may have obtained: it is renewed when half of its whole life is over.
    pub(super) fn taken(secret: Secret, life: Duration, expires: Instant) -> Self {
        let now = Instant::now();
        let at = |part: f64| expires.checked_sub(life.mul_f64(1.0 - part)).unwrap_or(now);
        let (stale, alone) = (at(jitter(0.45, 0.55)), at(jitter(0.6, 0.85)));
        Self { secret, obtained: now, expires, stale, spare: SPARE.min(life / 4), alone }
    }

    /// A token of the copy on this computer's disk. Its end is by the wall clock, which may have been set back since: it
    /// is never young, so that a mail server's refusal brings another one at once.
    pub(super) fn copied(secret: Secret, life: Duration, expires: Instant) -> Self {
        let token = Self::taken(secret, life, expires);
        Self { obtained: token.obtained.checked_sub(YOUNG).unwrap_or(token.obtained), ..token }
    }

    /// Returns whether a refusal of the mail server cannot be the fault of this token, because it has just come.
    pub(super) fn is_young(&self) -> bool {
        self.obtained.elapsed() < YOUNG
    }

    /// Returns the token itself, for the one place that sends it.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the life that is left.
    pub fn left(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    /// Returns the life that is left for a session that begins now. With less than the spare, none begins.
    pub fn left_without_spare(&self) -> Duration {
        self.left().saturating_sub(self.spare)
    }

    /// Returns the claims of the token, if it is a JWT.
    pub fn claims(&self) -> Option<Claims> {
        json::claims(self.secret.expose())
    }
}

/// Returns the life of the access token in a response.
pub(super) fn life_of(token_response: &TokenResponse) -> Duration {
    token_response.expires_in.map_or(UNSAID, Duration::from_secs).clamp(SHORTEST_LIFE, LONGEST_LIFE)
}

/// The age from which on a token may be to blame for a refusal of the mail server.
const YOUNG: Duration = Duration::from_secs(60);
/// A token with less life than this opens no new session, or with less than a quarter of its whole life.
const SPARE: Duration = Duration::from_secs(60);
/// Life of a token whose answer does not say it (RFC 6749 §5.1 only recommends `expires_in`).
const UNSAID: Duration = Duration::from_secs(10 * 60);
/// Shortest time between two requests, whatever the endpoint says.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest life: Microsoft's tokens live for no more than 28 h.
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
