//! Units of something that all sources share: so many in all, so many for one source, and a part kept for known sources.

use std::collections::HashMap;

use crate::source::Source;

/// The units that are taken, and how many there may be.
#[derive(Default)]
pub(super) struct Shares {
    /// In all.
    pub(super) most: usize,
    pub(super) per_source: usize,
    taken: usize,
    of_strangers: usize,
    by_source: HashMap<Source, usize>,
}

/// Why there is no unit for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// Sources that have not logged in have all that they may have together.
    Strangers,
    /// This source has all that one may have.
    Source,
}

impl Shares {
    pub(super) fn new(most: usize, per_source: usize) -> Self {
        Self { most, per_source, ..Self::default() }
    }

    /// Units that are kept for known sources: a quarter, and at least one where there are two.
    pub(super) fn kept(&self) -> usize {
        self.most.div_ceil(4).min(self.most.saturating_sub(1))
    }

    /// Takes one for somebody whose source is told later, by [`Self::name`].
    pub(super) fn take(&mut self) -> Result<(), Full> {
        if self.taken >= self.most {
            return Err(Full::All);
        }
        self.taken += 1;
        Ok(())
    }

    /// A unit that is taken is this source's.
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

    /// A stranger's unit is one of a known source from now on.
    pub(super) fn became_known(&mut self) {
        self.of_strangers = self.of_strangers.saturating_sub(1);
    }

    /// Gives a unit back, with what it was named.
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
    fn a_quarter_is_kept_and_somebody_new_can_always_come() {
        let kept = |most| Shares::new(most, 1).kept();
        assert_eq!([0, 1, 2, 3, 4, 5, 8, 2000].map(kept), [0, 0, 1, 1, 1, 2, 2, 500]);
    }
}
