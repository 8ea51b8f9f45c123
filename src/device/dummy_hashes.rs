//! Dummy hashes: a password is compared with them where there is nothing else, so that every try costs the same.
//!
//! A class of cost is memory, passes, lanes and version of Argon2. In each class a try makes as many runs as the device
//! with the most hashes of that class needs: its own, and dummy hashes for the rest.

use super::password::{Cost, Hash};

/// One hash of each class, and the runs of it that a try makes.
pub(super) struct DummyHashes(Vec<(Hash, usize)>);

impl DummyHashes {
    /// Dummy hashes for devices with these hashes.
    pub(super) fn new<'a>(devices: impl Iterator<Item = &'a [Hash]>) -> Self {
        let mut classes: Vec<(Hash, usize)> = Vec::new();
        for hashes in devices {
            for hash in hashes {
                let own = of_class(hashes, hash.cost());
                match classes.iter_mut().find(|(one, _)| one.cost() == hash.cost()) {
                    Some((_, most)) => *most = own.max(*most),
                    None => classes.push((hash.clone(), own)),
                }
            }
        }
        Self(classes)
    }

    /// Returns the hashes that a try runs: these first, then dummy hashes.
    pub(super) fn beside(&self, own: &[Hash]) -> Vec<Hash> {
        let missing = |(hash, most): &(Hash, usize)| {
            let missing = most.saturating_sub(of_class(own, hash.cost()));
            std::iter::repeat_n(hash.clone(), missing)
        };
        own.iter().cloned().chain(self.0.iter().flat_map(missing)).collect()
    }
}

fn of_class(hashes: &[Hash], cost: Option<Cost>) -> usize {
    hashes.iter().filter(|hash| hash.cost() == cost).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(memory: u32, passes: u32, lanes: u32) -> Hash {
        let output = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        Hash::parse(&format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${output}")).unwrap()
    }

    /// A known login causes as many runs of each cost as an unknown one, whatever the device's own hashes cost.
    #[test]
    fn every_try_makes_the_same_runs() {
        let (cheap, dear, wide) = (hash(19_456, 2, 1), hash(131_072, 3, 1), hash(131_072, 3, 2));
        let devices = [
            vec![cheap.clone()],
            vec![dear.clone()],
            vec![cheap.clone(), cheap.clone(), wide.clone()],
            vec![dear.clone(), cheap.clone(), dear],
            Vec::new(),
        ];
        let dummy_hashes = DummyHashes::new(devices.iter().map(Vec::as_slice));
        let costs = |own: &[Hash]| {
            let mut costs: Vec<_> = dummy_hashes.beside(own).iter().map(|hash| hash.cost().unwrap()).collect();
            costs.sort_unstable();
            costs
        };
        // Twice the cheap one, twice the dear one, and once the one of two lanes.
        assert_eq!(costs(&[]).len(), 5);
        for own in &devices {
            assert_eq!(costs(own), costs(&[]), "{own:?}");
        }
    }
}
