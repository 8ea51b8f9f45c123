//! Tests of the activity of configured devices: states, and what survives a reload and a restart.

use super::*;
use crate::failure::Kind;
use crate::protocol::Protocol;
use std::path::Path;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

pub(super) fn config(logins: &[&str]) -> Config {
    let mut text = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n\
                    [account.a]\nmailbox = \"scans@contoso.example\"\n"
        .to_owned();
    for login in logins {
        text += &format!(
            "[[device]]\nlogin = \"{login}\"\naliases = [\"{login}@contoso.example\"]\npasswords = [\"{HASH}\"]\n\
             account = \"a\"\n"
        );
    }
    Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config
}

pub(in crate::inventory) fn activities(logins: &[&str]) -> Activities {
    let activities = Activities::default();
    activities.configure(&config(logins));
    activities
}

pub(super) fn source(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A device reads by IMAP from this address.
pub(super) fn reading(last: u8) -> VisitAt {
    VisitAt { protocol: Protocol::Imap, source: source(last) }
}

/// A device sends from this address.
pub(super) fn sending(last: u8) -> VisitAt {
    VisitAt { protocol: Protocol::Smtp, source: source(last) }
}

pub(super) fn states(activities: &Activities) -> Vec<(String, State)> {
    activities.reports().into_iter().map(|report| (report.device, report.state)).collect()
}

#[test]
fn each_configured_device_has_a_state_and_problems_come_first() {
    let activities = activities(&["copier", "fax", "printer"]);
    let visit = activities.login_succeeded("Copier@contoso.example ", reading(1), 1).unwrap();
    activities.login_failed("printer", reading(2), &Failure::new(Kind::WrongPassword, "x"), Proof::Claimed);
    assert!(activities.login_succeeded("stranger", reading(3), 1).is_none());
    let expected = [("printer", State::Failing), ("fax", State::Never), ("copier", State::Ok)];
    assert_eq!(states(&activities), expected.map(|(name, state)| (name.to_owned(), state)));
    visit.ended(2, 5000);
    let reports = activities.reports();
    let copier = &reports[2];
    assert_eq!((copier.open, copier.sessions, copier.messages, copier.octets), (0, 1, 2, 5000));
    assert!(copier.last_login.is_some() && copier.last_mail.is_some() && copier.mailbox.is_some());
    assert_eq!(reports[0].failure.as_deref(), Some("user name or password is wrong: x"));
    drop(activities.login_succeeded("printer", reading(2), 1).unwrap());
    assert_eq!(activities.reports()[1].state, State::Ok, "a login ends the failure");
}

/// A stranger who guesses with a device's name does not make a device that works look ill.
#[test]
fn attempts_from_another_address_change_no_state() {
    let activities = activities(&["copier"]);
    drop(activities.login_succeeded("copier", reading(1), 1));
    let wrong = Failure::new(Kind::WrongPassword, "");
    activities.login_failed("copier", reading(9), &wrong, Proof::Claimed);
    assert_eq!(activities.reports()[0].state, State::Ok);
    activities.login_failed("copier", reading(1), &wrong, Proof::Claimed);
    assert_eq!(activities.reports()[0].state, State::Failing);
    drop(activities.login_succeeded("copier", reading(1), 1));
    activities.login_failed("copier", reading(9), &Failure::new(Kind::Connect, ""), Proof::Verified);
    assert_eq!(activities.reports()[0].state, State::Failing);
}

#[test]
fn records_survive_a_reload_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = Activities::path(directory.path());
    let one = activities(&["copier", "fax"]);
    assert!(!one.load(&path).unwrap());
    one.login_succeeded("copier", reading(1), 1).unwrap().ended(1, 100);
    one.configure(&config(&["copier", "new"]));
    assert_eq!(states(&one), [("new".to_owned(), State::Never), ("copier".to_owned(), State::Ok)]);
    assert!(one.has_changed());
    std::fs::write(&path, one.to_save()).unwrap();
    assert!(!one.has_changed());
    let other = activities(&["copier", "new", "fax"]);
    assert!(other.load(&path).unwrap());
    assert!(other.has_changed(), "a device is new");
    let same = activities(&["copier", "new"]);
    assert!(same.load(&path).unwrap() && !same.has_changed());
    same.configure(&config(&["copier", "new"]));
    assert!(!same.has_changed());
    let copier = other.reports().pop().unwrap();
    assert_eq!(copier, one.reports().pop().unwrap());
    std::fs::write(&path, "{").unwrap();
    assert!(other.load(&path).unwrap_err().to_string().contains("device-activity.json"));
    std::fs::write(&path, "{\"version\":2,\"saved\":0,\"devices\":[]}").unwrap();
    assert!(matches!(other.load(&path), Err(RecordsError::Later(_))));
}

/// The log tells once that a device is silent, and once that it is back.
#[test]
fn silence_is_a_change_once() {
    let activities = activities(&["copier"]);
    activities.seed("copier", source(1), 1000);
    // This process has run for longer than a device without a known interval may be silent.
    let activities = Activities { started: 2000, ..activities };
    let changes = activities.changes();
    assert!(matches!(changes.as_slice(), [change] if change.is_silent && change.report.state == State::Silent));
    assert!(activities.changes().is_empty());
    let visit = activities.login_succeeded("copier", reading(1), 1);
    assert!(matches!(activities.changes().as_slice(), [change] if !change.is_silent));
    drop(visit);
    assert!(activities.changes().is_empty());
}
