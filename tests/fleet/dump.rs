//! Somebody reads the database of a fleet, or writes to it: without the key of the store no token and no key opens.

use std::collections::BTreeSet;
use std::fs;

use packetboat::crypto::Vault;
use packetboat::fleet::{KeptRecords, SealedKind, SignIn, SignInKey, SignInRecords, kept_label};
use packetboat::state::{self, Access};
use serde_json::Value;
use support::exchange::{PASSWORD, SCAN, imap_login};
use support::proxy::Proxy;

use crate::records;
use crate::several::{Several, end, until_served};

/// The octets of the key that all instances of [`Several`] have.
const STORE_KEY: [u8; 32] = [7; 32];
const OTHER_KEY: [u8; 32] = [8; 32];

/// Everything that a fleet has ever sent to its database, and a dump of it, has neither token, password nor key in it.
/// Sealed values open with the key of the store, and with no other.
#[test]
fn a_dump_of_the_database_opens_nothing() {
    let several = Several::strict(10);
    several.sql(&format!("alter database {} set log_statement = 'all'", several.database.name));
    several.sign_in();
    let instances = ["one", "two"].map(|name| several.instance(name));
    instances.iter().for_each(until_served);

    let (key, store, other) = (sign_in_key(&several), vault(&STORE_KEY), vault(&OTHER_KEY));
    let mut secrets = vec![PASSWORD.as_bytes().to_vec(), STORE_KEY.to_vec()];
    let (mut generations, mut sent) = (BTreeSet::new(), Vec::new());
    crate::until_now("three refresh tokens with their access tokens", || {
        let row = sign_in(&several, &key);
        if let Some(access) = &row.access
            && generations.insert(row.generation)
        {
            for (kind, sealed) in [(SealedKind::SignIn, &row.sealed), (SealedKind::Access, &access.sealed)] {
                let label = key.label(kind, row.generation);
                assert!(other.open(&label, sealed).is_none(), "{kind:?} opens with another key");
                sent.push(hexadecimal(sealed));
                secrets.push(secret_of(kind, &store.open(&label, sealed).expect("it opens with the store's key")));
            }
        }
        generations.len() >= 3
    });
    let tokens = secrets.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(tokens, 2 + 2 * generations.len(), "each renewal has brought other tokens");

    for (name, file) in [("ca", "ca.key"), ("certificate default", "default.key")] {
        let kept = run(records(&several.database.section("reader")).kept(name)).unwrap().expect(name);
        assert!(store.open(&kept_label(name, kept.generation), &kept.sealed).is_some(), "{name}");
        assert!(other.open(&kept_label(name, kept.generation), &kept.sealed).is_none(), "{name}");
        let pem = fs::read(several.state("one").join(file)).unwrap();
        let der = openssl::rsa::Rsa::private_key_from_pem(&pem).map(|rsa| rsa.private_key_to_der().unwrap());
        let der = der
            .unwrap_or_else(|_| openssl::pkey::PKey::private_key_from_pem(&pem).unwrap().private_key_to_der().unwrap());
        // The first octets of a key say what it is, and are the same in all of them.
        secrets.push(der[64..].to_vec());
    }

    let seen = several.server.log() + &several.server.dump(&several.database.name);
    for known in sent.iter().map(String::as_str).chain([SCAN, "packetboat.sign_in"]) {
        assert!(seen.contains(known), "{known} is not there: the statements are not in the log");
    }
    for secret in &secrets {
        assert!(secret.len() >= 9, "{secret:?}");
        for piece in secret.chunks(16).filter(|piece| piece.len() >= 9) {
            for form in forms(piece) {
                assert!(!seen.contains(&form), "{form} of a secret is in the database");
            }
        }
    }
}

/// An instance with another key of the store gets nothing out of the database: it serves nobody, and asks no endpoint.
#[test]
fn an_instance_with_another_key_gets_no_token() {
    let several = Several::strict(3600);
    several.sign_in();
    let instance = several.instance("one");
    until_served(&instance);
    end(instance);
    let refreshes = several.refreshes();
    let file = several.state("other.key");
    state::write(&file, &OTHER_KEY, Access::Private).unwrap();
    let configuration = several.configuration("two");
    let key = configuration.lines().next().unwrap();
    let configuration = configuration.replace(key, &format!("store_key = {file:?}"));
    let stranger = Proxy::start_with(Some(&several.state("two")), "debug", &configuration);
    stranger.log.wait_for("line about the key", |line| line.contains(SEALED_OTHERWISE));
    assert!(!imap_login(&stranger).starts_with("OK"));
    assert_eq!(several.refreshes(), refreshes);
    until_served(&several.instance("three"));
}

/// Somebody who may write to the database puts back an earlier row, and deletes it later on. The instances put their own
/// there again: no refresh token is sent a second time, and nobody has to sign in.
#[test]
fn an_earlier_row_and_a_deleted_one_are_put_right() {
    let several = Several::strict(10);
    several.sign_in();
    let instances = ["one", "two"].map(|name| several.instance(name));
    instances.iter().for_each(until_served);
    several.sql("create table public.before as select * from packetboat.sign_in");
    // All instances know the newest refresh token: one that knows an earlier one would put that there.
    until_all_know(&instances, 3);
    until_just_renewed(&several, &instances);
    let newest = generation(&several);
    several.sql(
        "begin; delete from packetboat.sign_in; insert into packetboat.sign_in select * from public.before; \
         update packetboat.sign_in set lease_until = '-infinity'; commit",
    );
    crate::until_now("a refresh token behind the newest", || generation(&several) > newest);
    until_just_renewed(&several, &instances);
    let newest = generation(&several);
    several.sql("delete from packetboat.sign_in");
    crate::until_now("a row with a refresh token behind the newest", || {
        several.row("count(*)") == "1" && generation(&several) > newest
    });
    for instance in &instances {
        until_served(instance);
        assert_eq!(instance.log.count(|line| line.contains("packetboat login")), 0, "{}", instance.log.all());
    }
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
}

/// Somebody who may write to the database exchanges the sealed values of two persons. They open for neither, so that no
/// mailbox is opened with another person's token.
#[test]
fn a_sealed_value_opens_for_its_own_sign_in_alone() {
    let several = Several::strict(3600).with_persons(1);
    several.sign_in();
    several.sign_in_to("p0");
    let exchange = "update packetboat.sign_in one set (generation, sealed, access_sealed, access_until) = \
                    (select generation, sealed, access_sealed, access_until from packetboat.sign_in other \
                    where other.person <> one.person)";
    several.sql(exchange);
    let refreshes = several.refreshes();
    let instance = several.instance("one");
    let lines = || instance.log.count(|line| line.contains(SEALED_OTHERWISE));
    crate::until_now("a line about each person", || lines() >= 2);
    assert!(!imap_login(&instance).starts_with("OK"));
    assert_eq!(several.refreshes(), refreshes);
    several.sql(exchange);
    until_served(&instance);
    end(instance);

    // Numbers that nobody counts up any more: to sign in again puts them right.
    let most = i64::MAX;
    several.sql(&format!(
        "update packetboat.sign_in set generation = {most}; insert into packetboat.candidate \
         (identity, person, issuer, from_generation, sealed) \
         select identity, person, issuer, {most}, sealed from packetboat.sign_in"
    ));
    several.sign_in();
    until_served(&several.instance("two"));
}

fn sign_in_key(several: &Several) -> SignInKey {
    let row = several.row("identity, person, issuer");
    let [identity, person, issuer] = row.split('|').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    SignInKey { identity, person, issuer }
}

fn sign_in(several: &Several, key: &SignInKey) -> SignIn {
    run(records(&several.database.section("reader")).sign_in(key)).unwrap().unwrap()
}

fn run<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(answer)
}

fn vault(key: &[u8]) -> Vault {
    Vault::new(key).unwrap()
}

/// The token in a record: the refresh token of its JSON, or what follows the eight octets of the life.
fn secret_of(kind: SealedKind, opened: &[u8]) -> Vec<u8> {
    match kind {
        SealedKind::SignIn => {
            let record: Value = serde_json::from_slice(opened).unwrap();
            record["refresh_token"].as_str().unwrap().as_bytes().to_vec()
        }
        SealedKind::Access => opened[8..].to_vec(),
    }
}

/// The forms in which octets would be in a dump or in a statement: text, and hexadecimal digits.
fn forms(octets: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(octets).ok().filter(|text| text.chars().all(|one| one.is_ascii_graphic()));
    let base64 = openssl::base64::encode_block(octets).trim_end_matches('=').to_owned();
    [Some(hexadecimal(octets)), text.map(str::to_owned), Some(base64)].into_iter().flatten().collect()
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Waits until each instance has had so many access tokens, one for each refresh token.
fn until_all_know(instances: &[Proxy], tokens: usize) {
    crate::until_now("the newest access token at each instance", || {
        instances.iter().all(|one| one.log.count(|line| line.contains("new access token")) >= tokens)
    });
}

/// Waits for a moment behind a renewal that all instances know of: the next one is due in two seconds or more.
fn until_just_renewed(several: &Several, instances: &[Proxy]) {
    crate::until_now("a renewal that all know", || {
        instances.iter().for_each(|instance| several.until_newest_token(instance));
        several.row("access_until > clock_timestamp() + interval '7.5 seconds'") == "t"
    });
}

fn generation(several: &Several) -> i64 {
    several.row("coalesce(max(generation), 0)").parse().unwrap()
}

const SEALED_OTHERWISE: &str = "the sign-in in the fleet's database was sealed with another key";
