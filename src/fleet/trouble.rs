//! Trouble of a fleet that goes on while its database answers. Page, health checks, metrics and log have it for as long as
//! it lasts.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Two servers of the database take changes.
    SplitBrain,
    /// Another instance that runs has the same name.
    SameName,
    /// The tables do not fit this version of packetboat.
    Tables,
}

impl Trouble {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::SplitBrain, Self::SameName, Self::Tables];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SplitBrain => "split_brain",
            Self::SameName => "same_name",
            Self::Tables => "tables",
        }
    }

    /// The words of the log once it is over.
    pub(super) const fn over(self) -> &'static str {
        match self {
            Self::SplitBrain => "one server of the fleet's database takes changes again, and no other",
            Self::SameName => "no other instance of the fleet has the name of this one any more",
            Self::Tables => "the fleet's tables fit this packetboat again",
        }
    }
}

/// The trouble that goes on, with its reason and its cure.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<Trouble, String>>);

impl Troubles {
    /// Notes the reason and the cure of trouble, or that there is none of this kind. Returns what was known before.
    pub(super) fn note(&self, trouble: Trouble, why: Option<String>) -> Option<String> {
        let mut all = self.0.lock();
        match why {
            Some(why) => all.insert(trouble, why),
            None => all.remove(&trouble),
        }
    }

    /// Returns whether there is trouble of this kind.
    pub fn has(&self, trouble: Trouble) -> bool {
        self.0.lock().contains_key(&trouble)
    }

    /// The reason and the cure of each.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().values().cloned().collect()
    }
}
