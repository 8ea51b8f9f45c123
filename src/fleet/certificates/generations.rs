//! The highest generation of each certificate that this instance has had in common with its fleet. An instance never goes
//! back to an earlier one, whatever the database holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::state::{self, Access};

/// The highest generation of each name.
pub(super) struct Generations(BTreeMap<String, i64>);

impl Generations {
    /// Reads the file in the state directory; empty where there is none.
    pub(super) fn read(state_directory: &Path) -> Result<Self, state::Error> {
        let octets = match state::read_own(&path(state_directory)) {
            Ok(octets) => octets.to_vec(),
            Err(error) if error.is_missing() => Vec::new(),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&octets).into_owned();
        let line = |line: &str| {
            let (generation, name) = line.split_once(' ')?;
            Some((name.to_owned(), generation.parse().ok()?))
        };
        Ok(Self(text.lines().filter_map(line).collect()))
    }

    /// The highest generation; none where this instance has never had one in common with the fleet.
    pub(super) fn of(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// Notes a generation, where it is higher.
    pub(super) fn note(state_directory: &Path, name: &str, generation: i64) -> Result<(), state::Error> {
        let mut all = Self::read(state_directory)?;
        if all.of(name).is_some_and(|highest| highest >= generation) {
            return Ok(());
        }
        all.0.insert(name.to_owned(), generation);
        let text: String = all.0.iter().map(|(name, generation)| format!("{generation} {name}\n")).collect();
        state::write(&path(state_directory), text.as_bytes(), Access::Private)
    }
}

fn path(state_directory: &Path) -> PathBuf {
    state_directory.join(FILE)
}

const FILE: &str = "certificates.fleet";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_generation_stays() {
        let directory = tempfile::tempdir().unwrap();
        for (name, generation) in [("ca", 2), ("certificate a b", 7), ("ca", 1)] {
            Generations::note(directory.path(), name, generation).unwrap();
        }
        let all = Generations::read(directory.path()).unwrap();
        assert_eq!([all.of("ca"), all.of("certificate a b"), all.of("other")], [Some(2), Some(7), None]);
    }
}
