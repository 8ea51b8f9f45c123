//! Rules of a reload, compared with those that an open session began with: a session must not go on with more than the
//! new rules allow.

use super::{BareLineEnds, Delivery, SubmissionRules};

impl SubmissionRules {
    /// Returns whether these rules allow all that the earlier ones have allowed. Wider rules do.
    pub fn allow_all_of(&self, earlier: &Self) -> bool {
        let lists = covers_all(&self.senders, &earlier.senders) && covers_recipients(self, earlier);
        // Trials, refusals and a strict end of the data are new bounds; their end is none.
        let delivery = self.deliver == earlier.deliver || self.deliver == Delivery::Recipients;
        let line_ends = self.bare_line_ends == earlier.bare_line_ends || self.bare_line_ends == BareLineEnds::Repair;
        let end_of_data = self.lf_end_of_data || !earlier.lf_end_of_data;
        self.sender == earlier.sender && lists && delivery && line_ends && end_of_data
    }
}

/// An empty list of recipients allows all.
fn covers_recipients(present: &SubmissionRules, earlier: &SubmissionRules) -> bool {
    let (present, earlier) = (&present.recipients, &earlier.recipients);
    present.is_empty() || (!earlier.is_empty() && covers_all(present, earlier))
}

/// Returns whether each entry stands in the list as well. An address may stand there by its domain alone; a session then
/// ends without need, and the device comes again.
fn covers_all(list: &[String], entries: &[String]) -> bool {
    entries.iter().all(|entry| list.iter().any(|one| one.eq_ignore_ascii_case(entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::SenderPolicy;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn narrower_rules_do_not_allow_all_of_the_earlier_ones() {
        let usual = SubmissionRules::default();
        let rules = |change: fn(&mut SubmissionRules)| {
            let mut rules = SubmissionRules::default();
            change(&mut rules);
            rules
        };
        let one = rules(|rules| rules.recipients = list(&["*@contoso.example"]));
        let two = rules(|rules| rules.recipients = list(&["a@fabrikam.example", "*@Contoso.example"]));
        let sender = rules(|rules| rules.senders = list(&["*@contoso.example"]));
        let trial = rules(|rules| rules.deliver = Delivery::Mailbox);
        let strict = rules(|rules| rules.bare_line_ends = BareLineEnds::Refuse);
        let odd = rules(|rules| rules.lf_end_of_data = true);
        let narrower =
            [(&one, &usual), (&one, &two), (&usual, &sender), (&trial, &usual), (&strict, &usual), (&usual, &odd)];
        for (present, earlier) in narrower {
            assert!(!present.allow_all_of(earlier), "{present:?} after {earlier:?}");
            assert!(earlier.allow_all_of(present), "{earlier:?} after {present:?}");
            assert!(present.allow_all_of(present), "{present:?}");
        }
        for (_, sender) in SenderPolicy::ALL.into_iter().filter(|(_, sender)| *sender != usual.sender) {
            let other = SubmissionRules { sender, ..usual.clone() };
            assert!(!other.allow_all_of(&usual) && !usual.allow_all_of(&other), "{sender:?}");
        }
    }
}
