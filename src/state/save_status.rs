//! The state of repeated saves: a failure is logged once, and so is its end.

use parking_lot::Mutex;

use super::Error;

/// The outcome of the last save of a file that is saved again and again.
#[derive(Default)]
pub struct SaveStatus(Mutex<Option<String>>);

/// A change of the outcome that is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub enum SaveChange {
    /// Saving fails, for the first time or for another reason than before.
    Fails(String),
    /// Saving works again.
    Recovered,
}

impl SaveStatus {
    /// Takes in the outcome of a save. Returns the change that it means, if any.
    pub fn record(&self, saved: Result<(), Error>) -> Option<SaveChange> {
        let mut problem = self.0.lock();
        match (saved.err().map(|error| error.to_string()), problem.as_ref()) {
            (Some(message), before) if before != Some(&message) => {
                *problem = Some(message.clone());
                Some(SaveChange::Fails(message))
            }
            (None, Some(_)) => {
                *problem = None;
                Some(SaveChange::Recovered)
            }
            (Some(_) | None, _) => None,
        }
    }

    /// The reason why the last save failed, if it did.
    pub fn problem(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::NotDone;

    #[test]
    fn a_failure_and_its_end_are_changes_and_repetitions_are_not() {
        let status = SaveStatus::default();
        let fail = |why: NotDone| status.record(Err(why.into()));
        assert_eq!(status.record(Ok(())), None);
        assert!(matches!(fail(NotDone::Late), Some(SaveChange::Fails(_))));
        assert_eq!(fail(NotDone::Late), None);
        assert!(matches!(fail(NotDone::Full), Some(SaveChange::Fails(_))));
        assert!(status.problem().is_some());
        assert_eq!(status.record(Ok(())), Some(SaveChange::Recovered));
        assert_eq!((status.record(Ok(())), status.problem()), (None, None));
    }
}
