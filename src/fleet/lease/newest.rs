//! The newest state of a sign-in that can be found without the token endpoint: in the database, among the answers of
//! fenced holders, and on the local disk. Nothing is changed.

use super::LeasedSignIn;
use crate::fleet::error::Error;
use crate::fleet::records::{Candidate, SignIn};
use crate::secret::Secret;

/// The newest state of a sign-in.
pub struct Newest {
    /// The record with the refresh token, empty where the person has signed out; none where it was sealed with another
    /// key.
    pub record: Option<Secret>,
    /// The store that has it.
    pub provenance: Provenance,
    /// The last renewal of this state.
    pub renewal: LastRenewal,
}

/// The store that a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The row of the sign-in in the database.
    Database,
    /// The answer of a fenced holder, which is in the database.
    Candidate,
    /// The disk of this computer. The database has an earlier state, or none.
    Disk,
}

/// The last renewal of a sign-in, as far as this computer can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRenewal {
    /// Its result is known.
    Known,
    /// An instance is at work on it.
    UnderWay,
    /// An instance has set out to spend the refresh token, and nobody has told the result: that instance may have a newer
    /// one on its disk.
    Unknown,
}

impl LeasedSignIn {
    /// Finds the newest state of the sign-in; none where nobody has signed in. A state with a higher number than the
    /// database's is newer, whatever lease it came from: it was got for that one's refresh token, or for a later one's.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest(&self) -> Result<Option<Newest>, Error> {
        let row = self.records.sign_in(&self.key).await?;
        let candidates = self.records.candidates(&self.key).await?;
        let in_database = row.map(|row| self.newest_in_database(&row, &candidates));
        let known =
            self.known().filter(|known| in_database.as_ref().is_none_or(|(number, _)| *number < known.generation));
        Ok(match known {
            Some(known) => {
                Some(Newest { record: Some(known.record), provenance: Provenance::Disk, renewal: LastRenewal::Known })
            }
            None => in_database.map(|(_, newest)| newest),
        })
    }

    /// The newest state that the database has, with the number of its refresh token.
    fn newest_in_database(&self, row: &SignIn, candidates: &[Candidate]) -> (i64, Newest) {
        let fitting = candidates.iter().filter(|candidate| candidate.from_generation >= row.generation);
        let opened = fitting.filter_map(|candidate| Some((candidate, self.open_candidate(candidate)?)));
        if let Some((candidate, record)) = opened.max_by_key(|(one, _)| (one.from_generation, one.id)) {
            let (provenance, renewal) = (Provenance::Candidate, LastRenewal::Known);
            let number = candidate.from_generation.saturating_add(1);
            return (number, Newest { record: Some(record), provenance, renewal });
        }
        let renewal = match (&row.lease, row.spending == Some(row.generation)) {
            (Some(_), _) => LastRenewal::UnderWay,
            (None, true) => LastRenewal::Unknown,
            (None, false) => LastRenewal::Known,
        };
        let record = self.open_record(row.generation, &row.sealed);
        (row.generation, Newest { record, provenance: Provenance::Database, renewal })
    }
}
