//! Tries of a check, again and again: until it succeeds, its time is up, or waiting cannot change the answer.

use std::process::Output;
use std::time::{Duration, Instant};

use super::error::{CommandError, Exit};
use super::output::print_error;

/// The times of the tries.
pub(super) struct Retry<'a> {
    /// The longest time for all tries.
    pub(super) wait: Duration,
    /// The longest time in which the token endpoint refuses what it may take in some minutes.
    pub(super) while_refused: Duration,
    /// The words about the time of such a refusal, behind "trying again every 30 seconds".
    pub(super) refused_hint: &'a str,
    /// Words about the way out.
    pub(super) hint: &'a str,
}

/// The end of the tries.
pub(super) enum End {
    /// The check has succeeded, with this output.
    Success(Output),
    /// The time is up.
    TimeIsUp,
    /// The token endpoint has refused for too long.
    Refused,
    /// A person has to act first, whatever the time.
    Final,
}

impl Retry<'_> {
    /// Tries until the end. Prints each failure that differs from the one before: `shown` makes its text.
    pub(super) fn run(
        &self,
        mut attempt: impl FnMut() -> Result<Output, CommandError>,
        shown: impl Fn(&Output) -> String,
    ) -> Result<End, CommandError> {
        let (begun, mut refused_since, mut last) = (Instant::now(), None, String::new());
        loop {
            let output = attempt()?;
            if output.status.success() {
                return Ok(End::Success(output));
            }
            let is = |exit: Exit| output.status.code() == Some(exit as i32);
            refused_since = is(Exit::NotYet).then(|| refused_since.unwrap_or_else(Instant::now));
            let refused_for = refused_since.map(|since: Instant| since.elapsed());
            let left = refused_for.map_or(Duration::MAX, |time| self.while_refused.saturating_sub(time));
            let left = left.min(self.wait.saturating_sub(begun.elapsed()));
            let failure = shown(&output);
            if failure != last || left.is_zero() {
                print_error(&failure);
            }
            if is(Exit::Refused) {
                return Ok(End::Final);
            }
            if left.is_zero() {
                return Ok(if refused_for.is_some() { End::Refused } else { End::TimeIsUp });
            }
            if failure != last {
                let refused_hint = if refused_for.is_some() { self.refused_hint } else { "" };
                print_error(format_args!(
                    "trying again every {} seconds{refused_hint}; Ctrl-C stops that{}",
                    PAUSE.as_secs(),
                    self.hint
                ));
                last = failure;
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }
}

/// The time between two tries: Exchange Online takes minutes to let an application in, and more tries would look like an
/// attack to Entra.
const PAUSE: Duration = Duration::from_secs(30);
