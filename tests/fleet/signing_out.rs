//! A person signs out of a fleet whose computers have more than the fleet knows: sign-ins from before it, and another key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use packetboat::state::{self, Access};
use support::exchange::{Ran, imap_login};

use crate::several::{Several, end, until_served};
use crate::until_now;

/// A configuration with another store_key.
fn with_other_key(several: &Several, configuration: &str) -> String {
    let file = several.state("other.key");
    state::write(&file, &[8; 32], Access::Private).unwrap();
    let key = configuration.lines().next().unwrap();
    configuration.replace(key, &format!("store_key = {file:?}"))
}

fn copy(state: &Path) -> PathBuf {
    let mut files = fs::read_dir(state.join("fleet")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "copy")).unwrap()
}

/// Two computers have a sign-in from before the fleet. It goes from a running instance with the sign-out, and no import
/// brings it back by mistake.
#[test]
fn a_sign_in_from_before_the_fleet_does_not_come_back() {
    let several = Several::lenient(12);
    several.exchange.sign_in(&several.alone());
    let token = several.exchange.tokens().remove(0);
    let earlier = fs::read(&token).unwrap();
    let directory = several.state("one").join("tokens");
    fs::create_dir_all(&directory).unwrap();
    for path in [&several.state("one"), &directory] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let of_one = directory.join(token.file_name().unwrap());
    state::write(&of_one, &earlier, Access::Private).unwrap();
    several.sign_in();
    let one = several.instance("one");
    until_served(&one);
    assert!(of_one.exists(), "it stays as long as the person is signed in");
    let run = |arguments: &[&str]| -> Ran { several.exchange.run(arguments, &several.configuration("login")) };
    let ran = run(&["logout", "scans"]);
    assert!(ran.code == 0 && ran.output.contains("is signed out"), "{} {}", ran.output, ran.errors);
    assert!(!token.exists());
    until_now("the sign-in of the other computer goes", || !of_one.exists());
    one.log.wait_for("line about the file", |line| line.contains(&of_one.display().to_string()));
    // A backup, or a computer that was off, has it still.
    state::write(&token, &earlier, Access::Private).unwrap();
    let generation = several.generation();
    let ran = run(&["fleet", "import"]);
    assert!(ran.code == 0 && ran.output.contains("has signed out of the fleet"), "{} {}", ran.output, ran.errors);
    assert_eq!(several.generation(), generation);
    let ran = run(&["fleet", "import", "--replace"]);
    assert!(ran.output.contains("the fleet has this sign-in now"), "{} {}", ran.output, ran.errors);
    until_served(&one);
}

/// Somebody has changed the configuration of a running instance, or a command has another key: it says so, and moves
/// nothing of the instance.
#[test]
fn a_command_with_another_key_leaves_the_copy_alone() {
    let several = Several::strict(3600);
    several.sign_in();
    let one = several.instance("one");
    until_served(&one);
    let state = several.state("one");
    let (path, generation) = (copy(&state), several.generation());
    let before = fs::read(&path).unwrap();
    let other = with_other_key(&several, &several.configuration("one"));
    let directory = state.to_str().unwrap();
    for arguments in [&["logout", "scans"][..], &["fleet", "import"]] {
        let ran = several.exchange.run(&[arguments, &["--state-directory", directory]].concat(), &other);
        assert_ne!(ran.code, 0, "{arguments:?}: {}", ran.output);
        assert!(ran.errors.contains("another store_key"), "{arguments:?}: {}", ran.errors);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!((copy(&state), several.generation()), (path, generation));
    end(one);
}

/// A computer without a copy has another key: the sign-out says that the others do not understand it.
#[test]
fn a_sign_out_with_another_key_says_so() {
    let several = Several::strict(3600);
    several.sign_in();
    let other = with_other_key(&several, &several.configuration("stranger"));
    let state = several.state("stranger");
    let ran = several.exchange.run(&["logout", "scans", "--state-directory", state.to_str().unwrap()], &other);
    assert!(ran.code == 0 && ran.errors.contains("another store_key"), "{} {}", ran.output, ran.errors);
}

/// Two instances have an access token for an hour. A minute after the person has signed out, no device gets in at either;
/// once the person has signed in again, both serve.
#[test]
fn no_instance_serves_for_long_behind_the_end_of_a_sign_in() {
    let several = Several::lenient(3600);
    several.sign_in();
    let instances = ["one", "two"].map(|name| several.instance(name));
    instances.iter().for_each(until_served);
    let fetches = several.refreshes();
    let ran = several.exchange.run(&["logout", "scans"], &several.configuration("login"));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let signed_out = Instant::now();
    for instance in &instances {
        until_now("a device is refused", || !imap_login(instance).starts_with("OK"));
        instance.logs(1, "has signed out of the fleet");
    }
    assert!(signed_out.elapsed() < Duration::from_secs(60), "{:?}", signed_out.elapsed());
    assert_eq!(several.refreshes(), fetches, "somebody has asked the token endpoint");
    several.sign_in();
    instances.iter().for_each(until_served);
}

/// The person signs out while an instance waits for the answer to its renewal. The access token of that answer lives for an
/// hour, and lets no device in a minute later.
#[test]
fn a_sign_out_within_a_renewal_ends_its_token() {
    let several = Several::lenient(24);
    several.sign_in();
    let instance = several.instance("one");
    until_served(&instance);
    several.exchange.quirk(|quirks| {
        quirks.endpoint.delay = Duration::from_secs(8);
        quirks.endpoint.expires_in = 3600;
    });
    several.until_leased();
    let ran = several.exchange.run(&["logout", "scans"], &several.configuration("login"));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let fetches = several.refreshes();
    until_now("the answer of the endpoint", || several.refreshes() > fetches);
    until_now("a device is refused", || !imap_login(&instance).starts_with("OK"));
    instance.logs(1, "has signed out of the fleet");
}
