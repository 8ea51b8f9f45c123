//! The completions that are still to come from the server, where a device may not delete.

use std::collections::VecDeque;

/// The commands that were passed on, as far as their completion counts.
#[derive(Default)]
pub(super) struct Completions {
    /// The tag of the command that was passed on last.
    tag: Vec<u8>,
    /// The number of commands that the server has not completed. The last one is over once it is 0, whatever tags are
    /// used twice.
    open: u64,
    /// The IDLEs whose DONE went before the server had answered: how many completions until each of them is over. The
    /// next continuation request answers the first.
    early_done: VecDeque<u64>,
}

impl Completions {
    /// Notes a command that is passed on.
    pub(super) fn begin(&mut self, tag: &[u8]) {
        self.tag.clear();
        self.tag.extend_from_slice(tag);
        self.open = self.open.saturating_add(1);
    }

    /// Returns whether DONE may go before the server has answered one more IDLE.
    pub(super) fn takes_early_done(&self) -> bool {
        self.early_done.len() < EARLY_DONE
    }

    /// Notes that DONE goes before the server has answered IDLE.
    pub(super) fn done_early(&mut self) {
        self.early_done.push_back(self.open);
    }

    /// Returns whether an IDLE whose DONE went early is not answered.
    pub(super) fn awaits_idle(&self) -> bool {
        !self.early_done.is_empty()
    }

    /// Notes a continuation request. Returns whether it answers an IDLE whose DONE went early.
    pub(super) fn continuation_requested(&mut self) -> bool {
        self.early_done.pop_front().is_some()
    }

    /// Notes that the server has completed a command. Returns whether that was the last.
    pub(super) fn completed(&mut self, tag: &[u8]) -> bool {
        self.open = self.open.saturating_sub(1);
        self.early_done.iter_mut().for_each(|left| *left = left.saturating_sub(1));
        self.early_done.retain(|left| *left > 0);
        self.open == 0 && tag == self.tag
    }
}

/// The number of IDLEs that may be over before the server has answered one of them.
const EARLY_DONE: usize = 64;
