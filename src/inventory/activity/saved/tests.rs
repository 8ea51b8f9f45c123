//! Tests of the file: versions before and after this one read it.

use std::net::IpAddr;

use crate::failure::{Failure, Kind};
use crate::inventory::activity::tests::{activities, sending, source, states};
use crate::inventory::activity::{Activities, SendingState, State, now};

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "the version before needs each of these fields")]
struct Before {
    version: u64,
    saved: u64,
    devices: Vec<RecordBefore>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "the version before needs each of these fields")]
struct RecordBefore {
    login: String,
    known_since: u64,
    last_login: Option<u64>,
    visit: Option<u64>,
    last_seen: Option<u64>,
    last_mail: Option<u64>,
    gaps: Vec<u64>,
    hours: Vec<HourBefore>,
    source: Option<IpAddr>,
    failure: Option<String>,
    reason: Option<String>,
    failed: Option<u64>,
    failing_since: Option<u64>,
    is_silent: bool,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "the version before needs each of these fields")]
struct HourBefore {
    hour: u64,
    sessions: u64,
    messages: u64,
    octets: u64,
}

/// The file as the version before has written it is read, and that version reads the file of this one.
#[test]
fn the_file_is_read_by_the_version_before_and_from_it() {
    let (hour, now) = (now() / 3600, now());
    let before = format!(
        "{{\"version\":1,\"saved\":{now},\"devices\":[{{\"login\":\"copier\",\"known_since\":5,\"last_login\":{now},\
         \"visit\":{now},\"last_seen\":{now},\"last_mail\":{now},\"gaps\":[300,300,300],\"hours\":[{{\"hour\":{hour},\
         \"sessions\":4,\"messages\":2,\"octets\":900}}],\"source\":\"192.0.2.1\",\"failure\":null,\"reason\":null,\
         \"failed\":null,\"failing_since\":null,\"is_silent\":false}}]}}"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = Activities::path(directory.path());
    std::fs::write(&path, before).unwrap();
    let activities = activities(&["copier"]);
    assert!(activities.load(&path).unwrap());
    let report = activities.reports().remove(0);
    assert_eq!((report.state, report.sessions, report.messages, report.octets), (State::Ok, 4, 2, 900));
    assert!(report.reading.is_some() && report.sending.is_none());

    let mut visit = activities.login_succeeded("copier", sending(1), 1).unwrap();
    visit.sent(3, 5000);
    visit.refused(&Failure::new(Kind::MailboxFull, "x"));
    visit.ended(0, 300);
    activities.mailbox_sent("scans@contoso.example", 3);
    let saved = activities.to_save();
    let read: Before = serde_json::from_slice(&saved).unwrap();
    let record = &read.devices[0];
    assert_eq!((record.login.as_str(), record.hours[0].octets), ("copier", 900));
    assert_eq!((record.reason.as_deref(), record.failing_since), (Some("mailbox_full"), None));

    // A restart keeps everything.
    std::fs::write(&path, saved).unwrap();
    let after = self::activities(&["copier"]);
    assert!(after.load(&path).unwrap());
    assert_eq!(after.reports(), activities.reports());
    let sent = after.reports().remove(0).sending.unwrap();
    assert_eq!((sent.state, sent.messages, sent.recipients, sent.octets), (SendingState::Refused, 1, 3, 5000));
    assert_eq!(after.recipients_of("scans@contoso.example"), 3);
}

#[test]
fn an_inventory_of_an_earlier_version_is_used() {
    let activities = activities(&["copier", "fax"]);
    activities.seed("copier@contoso.example", source(1), now() - 60);
    assert_eq!(states(&activities), [("fax".to_owned(), State::Never), ("copier".to_owned(), State::Ok)]);
}
