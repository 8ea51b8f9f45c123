//! Shares of a limit: a number in all, a number for one source, and a part that is reserved for known sources.

use std::collections::HashMap;

use crate::source::Source;

/// The units that are taken, and the limits on them.
#[derive(Default)]
pub(super) struct Shares {
    /// The limit in all.
    pub(super) most: usize,
    pub(super) per_source: usize,
    taken: usize,
    of_strangers: usize,
    by_source: HashMap<Source, usize>,
}

/// The reasons why a source gets no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All units are taken.
    All,
    /// Strangers together have all units that they may have.
    Strangers,
    /// This source has all units that one source may have.
    Source,
}

impl Shares {
    pub(super) fn new(most: usize, per_source: usize) -> Self {
        Self { most, per_source, ..Self::default() }
    }

    /// The number of units that are reserved for known sources: a quarter, and at least one of two.
    pub(super) fn kept(&self) -> usize {
        self.most.div_ceil(4).min(self.most.saturating_sub(1))
    }

    /// Takes a unit. [`Self::name`] assigns it to a source later.
    pub(super) fn take(&mut self) -> Result<(), Full> {
        if self.taken >= self.most {
            return Err(Full::All);
        }
        self.taken += 1;
        Ok(())
    }

    /// Assigns a taken unit to this source.
    pub(super) fn name(&mut self, source: Source, is_stranger: bool) -> Result<(), Full> {
        let of_source = self.by_source.get(&source).copied().unwrap_or_default();
        if of_source >= self.per_source {
            return Err(Full::Source);
        }
        if is_stranger && self.of_strangers >= self.most.saturating_sub(self.kept()) {
            return Err(Full::Strangers);
        }
        self.of_strangers += usize::from(is_stranger);
        self.by_source.insert(source, of_source + 1);
        Ok(())
    }

    /// Counts a stranger's unit as one of a known source from now on.
    pub(super) fn became_known(&mut self) {
        self.of_strangers = self.of_strangers.saturating_sub(1);
    }

    /// Gives a unit back, with the source that it was assigned to.
    pub(super) fn give_back(&mut self, source: Option<Source>, is_stranger: bool) {
        self.taken = self.taken.saturating_sub(1);
        let Some(source) = source else { return };
        self.of_strangers = self.of_strangers.saturating_sub(usize::from(is_stranger));
        if let Some(of_source) = self.by_source.get_mut(&source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn sources(&self) -> usize {
        self.by_source.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_and_a_new_source_can_always_connect() {
        let kept = |most| Shares::new(most, 1).kept();
        assert_eq!([0, 1, 2, 3, 4, 5, 8, 2000].map(kept), [0, 0, 1, 1, 1, 2, 2, 500]);
    }
}
