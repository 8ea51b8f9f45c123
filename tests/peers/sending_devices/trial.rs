//! These tests prove that the page reminds people of an account whose mail goes to the mailbox alone.

use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{BY_SECRET, Exchange, LOGIN, SCAN, account};
use support::proxy::translating_listener;

use super::{command, send_well, wait};

#[test]
fn a_trial_is_on_the_page_and_in_check() {
    let exchange = Exchange::new();
    let configuration = |more: &str| {
        exchange.submission_frame()
            + &translating_listener("smtps", "smtp", "implicit", "")
            + &exchange.identity(BY_SECRET)
            + &account("scans", SCAN, more)
    };
    let proxy = exchange.proxy(&configuration("deliver = \"mailbox\""));
    send_well(&proxy, &["boss@fabrikam.example"]);
    assert_eq!(exchange.simulator.submissions()[0].recipients, [SCAN]);
    let words = format!("mail of its 1 device goes to {SCAN} alone");
    let checked = command(&proxy, &["check"]).output;
    assert!(checked.contains(&words), "{checked}");
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    let badge = "document.querySelector('#accounts .trial.badge')?.textContent";
    let shown = browser.wait_for("badge", badge);
    assert_eq!(shown, "Trial: mail of its devices goes to this mailbox alone");
    assert_accessible(&browser, "an account on trial");
    browser.open(&format!("http://{}/device?name={LOGIN}", proxy.admin()));
    let sentence = "document.querySelector('#sentence')?.textContent";
    browser.wait_for("sentence", &format!("{sentence}?.includes('goes to the mailbox alone, whatever recipients')"));
    assert!(!proxy.log.all().contains("has sent outside of"), "nothing went outside");
    // The end of the trial ends the reminders.
    proxy.configure(&configuration(""));
    assert_eq!(proxy.reload().0, 0);
    wait("no trial", || proxy.status()["accounts"][0].clone(), |one| one["trial"] == false);
    assert!(!command(&proxy, &["check"]).output.contains("on trial"));
    browser.wait_for("sentence", &format!("!{sentence}.includes('mailbox alone')"));
}
