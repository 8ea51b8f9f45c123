//! The server's responses, as far as they let the commands go on of a device that may not delete.

use super::{Dropped, Literal, NoDelete, Position};
use crate::proto::imap::response_frame::PendingCommands;

impl PendingCommands for NoDelete {
    fn completed(&mut self, tag: &[u8], _: bool) -> bool {
        match tag {
            b"+" => self.continuation_requested(),
            b"*" => {}
            tag => {
                if self.completions.completed(tag) {
                    self.all_completed();
                }
            }
        }
        // COMPRESS does not pass.
        false
    }

    fn is_continued_by_us(&self) -> bool {
        !self.completions.awaits_idle()
            && matches!(self.position, Position::Announced(Literal { synchronising: false, .. }))
    }

    fn stops_responses(&self) -> bool {
        self.turn || !self.refusals.is_empty()
    }
}

impl NoDelete {
    /// Goes on behind a continuation request of the server.
    fn continuation_requested(&mut self) {
        if self.completions.continuation_requested() {
            return;
        }
        self.position = match self.position {
            Position::Announced(Literal { size, .. }) => Position::in_literal(size),
            Position::Idle => {
                self.is_idle = true;
                Position::Start
            }
            _ => return,
        };
        self.turn = true;
    }

    /// Goes on when the server has completed all that it was sent.
    fn all_completed(&mut self) {
        self.is_idle = false;
        self.position = match self.position {
            // The literal is not coming.
            Position::Announced(Literal { synchronising: true, .. }) | Position::Idle => Position::Start,
            // The announced literal arrives nevertheless.
            Position::Announced(Literal { size, .. }) => Position::Dropped(Dropped::literal(size)),
            Position::Literal(_) => Position::OutOfStep,
            // Some servers do not wait for the line end.
            Position::Behind => Position::Start,
            _ => return,
        };
        self.turn = true;
    }
}
