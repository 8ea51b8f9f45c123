//! A device that repeats an error is held back, before Exchange Online throttles its whole mailbox.

use super::Connection;
use super::network::Network;
use crate::failure::RepeatedError;

impl<N: Network> Connection<'_, '_, N> {
    /// Counts an error of the device. The log says once what to do.
    pub(super) fn refused(&mut self, error: RepeatedError) {
        let (Some(mailbox), Some(device)) = (&self.record.mailbox, self.record.device()) else { return };
        let hold = self.service.limits.submission.hold_back;
        if mailbox.refused(device, error, hold) {
            self.record.held_back(error, hold);
        }
    }

    /// Forgets the errors of a device whose message was taken.
    pub(super) fn accepted(&self) {
        if let (Some(mailbox), Some(device)) = (&self.record.mailbox, self.record.device()) {
            mailbox.accepted(device);
        }
    }
}
