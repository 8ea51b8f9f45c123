//! These tests prove that the certificates that packetboat makes end within the range of 32-bit clocks.

use std::fs;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use support::exchange::{BY_SECRET, Exchange, Ran};

const BEYOND: &str = "ends after 2038-01-19";

fn made(state: &Path) -> [X509; 2] {
    ["ca.pem", "default.pem"].map(|name| X509::from_pem(&fs::read(state.join(name)).unwrap()).unwrap())
}

fn is_late(certificate: &X509) -> bool {
    certificate.not_after() > &*Asn1Time::from_unix(i64::from(i32::MAX)).unwrap()
}

fn configuration(exchange: &Exchange, years: &str) -> String {
    format!("{}[certificate.default]\n{years}\n", exchange.configuration(BY_SECRET))
}

fn run(exchange: &Exchange, arguments: &[&str], years: &str) -> Ran {
    exchange.run(arguments, &configuration(exchange, years))
}

#[test]
fn made_certificates_end_while_32_bits_can_say_so() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, ""));
    for one in made(&exchange.state()) {
        assert_eq!(one.not_after().to_string(), "Jan 18 00:00:00 2038 GMT");
        // UTCTime has two digits for the year. Devices older than GeneralizedTime can read it (RFC 5280 section
        // 4.1.2.5).
        let der = one.to_der().unwrap();
        assert!(memchr::memmem::find(&der, b"\x17\x0d000101000000Z\x17\x0d380118000000Z").is_some());
    }
    assert!(!proxy.log.all().contains("2038-01-19"), "{}", proxy.log.all());
    let checked = run(&exchange, &["check"], "");
    assert!(checked.code == 0 && !checked.errors.contains("2038"), "{}", checked.errors);
}

#[test]
fn longer_certificates_draw_a_warning() {
    let exchange = Exchange::new();
    let checked = run(&exchange, &["check"], "years = 20");
    assert!(
        checked.errors.contains("certificate.default.years: with 20 years it will end after 2038"),
        "{}",
        checked.errors
    );
    let proxy = exchange.proxy(&configuration(&exchange, "years = 20"));
    assert!(made(&exchange.state()).iter().all(is_late));
    for what in ["default.pem", "the CA "] {
        let is = |line: &str| line.contains("WARN") && line.contains(what) && line.contains(BEYOND);
        proxy.log.wait_for("warning", is);
    }
}

/// Version 0.1 made CAs of this form, and devices have imported them.
#[test]
fn an_authority_that_is_there_stays() {
    let exchange = Exchange::new();
    assert_eq!(run(&exchange, &["certificate", "show"], "years = 20").code, 0);
    let [authority, _] = made(&exchange.state());
    let checked = run(&exchange, &["check"], "");
    for what in
        [format!("default.pem {BEYOND}"), format!("ca.pem {BEYOND}"), "packetboat certificate renew default".to_owned()]
    {
        assert!(checked.errors.contains(&what), "{what}: {}", checked.errors);
    }
    assert_eq!(run(&exchange, &["certificate", "renew", "default"], "").code, 0);
    let [same, leaf] = made(&exchange.state());
    assert!(same.to_der().unwrap() == authority.to_der().unwrap() && !is_late(&leaf));
    let errors = run(&exchange, &["check"], "").errors;
    assert!(!errors.contains("default.pem ends") && errors.contains(&format!("ca.pem {BEYOND}")), "{errors}");
    assert!(errors.contains("It stays, because devices trust it"), "{errors}");
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let exchange = Exchange::new();
    assert_eq!(run(&exchange, &["certificate", "show"], "years = 1").code, 0);
    assert_eq!(run(&exchange, &["certificate", "renew", "default"], "years = 5").code, 0);
    let [authority, leaf] = made(&exchange.state());
    assert!(leaf.not_after() <= authority.not_after(), "{} {}", leaf.not_after(), authority.not_after());
}
