//! The quotas of recipients. A recipient counts from the moment in which it goes to the mail server, so that sessions that
//! send at the same time do not exceed a bound together.

use std::fmt;
use std::sync::Arc;

/// A bound on recipients that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// That of the mailbox, in a day.
    Mailbox,
    /// That of the device, in an hour.
    Device,
}

/// The counts behind a quota: the recipients of messages that were sent, and those of messages under way.
pub trait RecipientCounts: Send + Sync {
    /// Returns the bound that is reached, if one is.
    fn reached(&self) -> Option<Bound>;

    /// Reserves one recipient.
    ///
    /// # Errors
    /// The bound that is reached. Nothing is reserved then.
    fn reserve(&self) -> Result<(), Bound>;

    /// Reserves so many recipients, whatever the bound is.
    fn reserve_over(&self, recipients: u32);

    /// Takes back the reservation of so many recipients.
    fn release(&self, recipients: u32);
}

/// The right to send to recipients. The default has no bound.
#[derive(Clone, Default)]
pub struct RecipientQuota(Option<Arc<dyn RecipientCounts>>);

/// The reserved recipients of one message. Dropping it releases them: do that once the message is counted, or is not sent.
#[derive(Default)]
pub struct Reservation {
    quota: RecipientQuota,
    recipients: u32,
}

impl RecipientQuota {
    /// A quota with these counts.
    pub fn new(counts: impl RecipientCounts + 'static) -> Self {
        Self(Some(Arc::new(counts)))
    }

    /// A reservation without recipients, for another message.
    pub fn begin(&self) -> Reservation {
        Reservation { quota: self.clone(), recipients: 0 }
    }

    /// The reservation of a message with so many recipients that a mail server has already. No bound stops it any more.
    pub fn under_way(&self, recipients: u32) -> Reservation {
        self.reserve_over(recipients);
        Reservation { quota: self.clone(), recipients }
    }

    /// The reservation of a message with so many recipients.
    ///
    /// # Errors
    /// They are too many. Nothing is reserved then.
    pub fn for_message(&self, recipients: usize) -> Result<Reservation, Bound> {
        let mut reservation = self.begin();
        (0..recipients).try_for_each(|_| reservation.add())?;
        Ok(reservation)
    }
}

impl RecipientCounts for RecipientQuota {
    fn reached(&self) -> Option<Bound> {
        self.0.as_ref().and_then(|counts| counts.reached())
    }

    fn reserve(&self) -> Result<(), Bound> {
        self.0.as_ref().map_or(Ok(()), |counts| counts.reserve())
    }

    fn reserve_over(&self, recipients: u32) {
        self.0.iter().for_each(|counts| counts.reserve_over(recipients));
    }

    fn release(&self, recipients: u32) {
        self.0.iter().for_each(|counts| counts.release(recipients));
    }
}

impl Reservation {
    /// Reserves one more recipient.
    ///
    /// # Errors
    /// The bound that is reached. Nothing is reserved then.
    pub fn add(&mut self) -> Result<(), Bound> {
        self.quota.reserve()?;
        self.recipients += 1;
        Ok(())
    }

    /// Releases one recipient, which was refused.
    pub fn remove(&mut self) {
        if self.recipients > 0 {
            self.recipients -= 1;
            self.quota.release(1);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.recipients > 0 {
            self.quota.release(self.recipients);
        }
    }
}

impl fmt::Debug for RecipientQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientQuota")
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.recipients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Three(Arc<AtomicU32>);

    impl RecipientCounts for Three {
        fn reached(&self) -> Option<Bound> {
            (self.0.load(Ordering::Relaxed) >= 3).then_some(Bound::Device)
        }

        fn reserve(&self) -> Result<(), Bound> {
            self.reached().map_or(Ok(()), Err)?;
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn reserve_over(&self, recipients: u32) {
            self.0.fetch_add(recipients, Ordering::Relaxed);
        }

        fn release(&self, recipients: u32) {
            self.0.fetch_sub(recipients, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reservation_releases_each_recipient_once() {
        let count = Arc::new(AtomicU32::new(0));
        let quota = RecipientQuota::new(Three(Arc::clone(&count)));
        let (mut one, mut other) = (quota.begin(), quota.begin());
        assert_eq!((one.add(), other.add(), one.add()), (Ok(()), Ok(()), Ok(())));
        assert_eq!((other.add(), quota.reached()), (Err(Bound::Device), Some(Bound::Device)));
        one.remove();
        assert_eq!((count.load(Ordering::Relaxed), quota.reached()), (2, None));
        drop(one);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        other.remove();
        other.remove();
        drop(other);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_is_reserved_as_a_whole() {
        let count = Arc::new(AtomicU32::new(0));
        let quota = RecipientQuota::new(Three(Arc::clone(&count)));
        let two = quota.for_message(2).unwrap();
        assert_eq!(quota.for_message(2).unwrap_err(), Bound::Device);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        let more = quota.under_way(5);
        assert_eq!(count.load(Ordering::Relaxed), 7);
        drop((two, more));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_default_has_no_bound() {
        let mut reservation = RecipientQuota::default().begin();
        for _ in 0..10 {
            assert_eq!(reservation.add(), Ok(()));
        }
        reservation.remove();
    }
}
