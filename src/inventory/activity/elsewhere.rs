//! The recipients that devices and mailboxes have sent to by way of other instances of a fleet, as those have put them into
//! the database. They come with a delay of up to a minute.

use std::collections::BTreeMap;

use super::report::Report;
use super::{Activities, HOUR};

/// Recipients by way of other instances, each number with the time until which it counts, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere(Vec<(u64, u64)>);

impl Elsewhere {
    fn add(&mut self, recipients: u64, until: u64) {
        if recipients > 0 {
            self.0.push((recipients, until));
        }
    }

    /// The number that counts at this time.
    pub(super) fn number(&self, now: u64) -> u64 {
        let counting = self.0.iter().filter(|(_, until)| *until > now);
        counting.fold(0, |sum, (recipients, _)| sum.saturating_add(*recipients))
    }
}

impl Activities {
    /// Takes the reports of all other instances, by the login of their device.
    pub(in crate::inventory) fn take_others<'a>(&self, reports: impl Iterator<Item = &'a Report>) {
        let mut devices: BTreeMap<&str, Elsewhere> = BTreeMap::new();
        let mut mailboxes: BTreeMap<String, Elsewhere> = BTreeMap::new();
        for report in reports {
            let Some(sending) = &report.sending else { continue };
            // A number that is never put again counts for as long as its last message may be a part of it. That of a device
            // has messages as well that are kept there, or that no mail server has answered: their time is none of the report.
            if let Some(last) = sending.last_sent.max(report.sign_of_life()) {
                devices.entry(&report.device).or_default().add(sending.recipients_of_hour, last.saturating_add(HOUR));
            }
            if let Some((mailbox, sent)) = report.mailbox.as_ref().zip(sending.last_sent) {
                let day = sent.saturating_add(24 * HOUR);
                mailboxes.entry(mailbox.to_lowercase()).or_default().add(sending.recipients, day);
            }
        }
        for (section, entry) in &self.snapshot().0 {
            *entry.elsewhere.lock() = devices.remove(section.login.as_str()).unwrap_or_default();
        }
        self.mailboxes.set_elsewhere(mailboxes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::super::tests::{activities, sending};
    use super::*;

    #[test]
    fn a_number_counts_until_its_time_is_over() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.add(3, now() + 10);
        elsewhere.add(4, now() + 20);
        elsewhere.add(0, now() + 30);
        assert_eq!(elsewhere.number(now()), 7);
        assert_eq!(elsewhere.number(now() + 15), 4);
        assert_eq!((elsewhere.number(now() + 25), elsewhere.0.len()), (0, 2));
    }

    /// Recipients of a device and its mailbox by way of two other instances count here, until the reports are gone.
    #[test]
    fn recipients_by_way_of_other_instances_count_here() {
        let [here, east, north] = [(); 3].map(|()| activities(&["copier"]));
        for (instance, recipients) in [(&here, 1), (&east, 2), (&north, 4)] {
            let mut visit = instance.login_succeeded("copier", sending(1), 1).unwrap();
            visit.sent(recipients, 100);
            instance.mailbox_sent("scans@contoso.example", recipients);
        }
        let reports = [east.reports(), north.reports()].concat();
        here.take_others(reports.iter());
        let device = here.device_recipients("copier").unwrap();
        let mailbox = here.mailbox_recipients("scans@contoso.example");
        assert_eq!((device.number(), mailbox.number()), (7, 7));
        assert_eq!(here.recipients_of("SCANS@contoso.example"), 7);
        assert!(device.begin(8) && !device.begin(8));
        assert!(mailbox.begin(8) && !mailbox.begin(8));
        // Its own report has its own recipients alone, so that nobody counts them twice.
        assert_eq!(here.reports()[0].sending.as_ref().unwrap().recipients_of_hour, 1);
        here.take_others(std::iter::empty());
        assert_eq!((device.number(), mailbox.number()), (2, 2), "with those under way");
        // Another instance's last message, and the last sign of life of the device there, was an hour ago.
        let mut old = reports.clone();
        for report in &mut old {
            report.sending.as_mut().unwrap().last_sent = Some(now() - HOUR);
            (report.last_seen, report.last_login) = (Some(now() - HOUR), Some(now() - HOUR));
        }
        here.take_others(old.iter());
        assert_eq!((device.number(), mailbox.number()), (2, 8));
    }

    /// Messages that are kept at another instance, or that no mail server has answered, count as well, also behind one that
    /// was sent long ago.
    #[test]
    fn recipients_that_may_have_been_sent_to_count_here() {
        let [here, east] = [(); 2].map(|()| activities(&["copier"]));
        east.login_succeeded("copier", sending(1), 1).unwrap().may_be_sent(5);
        let mut reports = east.reports();
        here.take_others(reports.iter());
        let device = here.device_recipients("copier").unwrap();
        assert_eq!(device.number(), 5);
        reports[0].sending.as_mut().unwrap().last_sent = Some(now() - 2 * HOUR);
        here.take_others(reports.iter());
        assert_eq!(device.number(), 5);
    }
}
