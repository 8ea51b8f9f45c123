//! These tests prove that the token store refuses files that others can read, prints the command that repairs them, and
//! loses nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use support::exchange::*;
use support::process::copy_program;

/// Every secret file is readable for its owner alone.
#[test]
fn files_are_made_for_us_alone() {
    let exchange = Exchange::new();
    exchange.sign_in(&exchange.configuration(BY_PERSON));
    let state = exchange.state();
    let [token] = exchange.tokens().try_into().unwrap();
    let modes = [&state, &state.join("tokens"), &state.join("store.key"), &token]
        .map(|path| fs::metadata(path).unwrap().mode() & 0o777);
    assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
}

#[test]
fn files_open_to_others_are_refused_with_a_fix() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let state = exchange.state();
    for (path, wrong, right) in [("store.key", 0o604, 0o600), ("store.key", 0o640, 0o600), ("tokens", 0o755, 0o700)] {
        let path = state.join(path);
        mode(&path, wrong);
        let before = exchange.requests();
        let advice = format!("chmod {right:o} {}", path.display());
        for arguments in [["run"].as_slice(), &["login", "scans"], &["check", "--online"]] {
            let ran = exchange.run(arguments, &configuration);
            assert_eq!(ran.code, 69, "{arguments:?} {wrong:o}");
            assert!(ran.errors.contains(&advice), "{arguments:?}: {}", ran.errors);
        }
        assert_eq!(exchange.requests(), before);
        mode(&path, right);
    }
    assert!(imap_login(&exchange.proxy(&configuration)).starts_with("OK"), "the sign-in is still there");
}

/// A token file that others can read stops only the accounts that need it, not the whole proxy.
#[test]
fn a_token_that_others_may_read() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let [token] = exchange.tokens().try_into().unwrap();
    mode(&token, 0o644);
    let before = exchange.requests();
    let proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"));
    proxy.log.wait_for("advice", |line| line.contains(&format!("chmod 600 {}", token.display())));
    assert_eq!(exchange.requests(), before);
    mode(&token, 0o600);
    // A changed mode is not a new sign-in; a restart reads the file again.
    drop(proxy);
    assert!(imap_login(&exchange.proxy(&configuration)).starts_with("OK"));
}

/// The proxy uses no file of another owner; root's proxy continues as the owner of the state directory. The test needs
/// root, because only root can give a file away.
#[test]
fn files_of_another_owner_are_not_used() {
    const NOBODY: u32 = 65_534;
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let state = exchange.state();
    let [token] = exchange.tokens().try_into().unwrap();
    let (tokens, key) = (state.join("tokens"), state.join("store.key"));
    let locks = [tokens.join("lock"), token.with_extension("lock")];
    if fs::metadata(&key).unwrap().uid() != 0 {
        return;
    }
    let give = |path: &Path, user: u32| chown(path, Some(user), Some(user)).unwrap();
    for path in [&state, &tokens, &key, &token, &locks[0], &locks[1]] {
        give(path, NOBODY);
    }
    // The build directory may be closed to other users.
    let program = state.with_file_name("packetboat");
    copy_program(&program);
    mode(state.parent().unwrap(), 0o755);
    mode(exchange.simulator.authority().parent().unwrap(), 0o755);
    let check = |user: u32| {
        let mut command = exchange.command(&["check", "--online"], &configuration);
        let file = command.get_args().last().unwrap().to_owned();
        command = Command::new(&program);
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
        command.args(["check", "--online", "--config"]).arg(file).uid(user).gid(user);
        Ran::of(command.output().unwrap())
    };
    for user in [NOBODY, 0, NOBODY] {
        let ran = check(user);
        assert_eq!(ran.code, 0, "user {user}: {}{}", ran.output, ran.errors);
    }
    for path in [&key, &tokens, &token, &locks[0], &locks[1]] {
        give(path, 0);
        let (before, ran) = (exchange.requests(), check(NOBODY));
        let advice = format!("chown {NOBODY} {}", path.display());
        assert!(ran.code == 69 && (ran.output.clone() + &ran.errors).contains(&advice), "{}{}", ran.output, ran.errors);
        assert_eq!(exchange.requests(), before);
        give(path, NOBODY);
    }
    assert_eq!(check(NOBODY).code, 0);
}

#[test]
fn another_key_opens_nothing_and_the_old_one_opens_it_again() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let key = exchange.state().join("store.key");
    let old = fs::read(&key).unwrap();
    fs::write(&key, [7; 32]).unwrap();
    let ran = exchange.run(&["check", "--online"], &configuration);
    assert!(ran.code == 69 && ran.output.contains("put the old key back"), "{}{}", ran.output, ran.errors);
    fs::write(&key, b"short").unwrap();
    let ran = exchange.run(&["run"], &configuration);
    assert!(ran.code == 69 && ran.errors.contains("needs 32"), "{}", ran.errors);
    fs::write(&key, old).unwrap();
    assert_eq!(exchange.run(&["check", "--online"], &configuration).code, 0);
}

/// Tokens on disk are sealed, and the log has no token.
#[test]
fn tokens_are_nowhere_in_clear() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let proxy = support::proxy::Proxy::start_with(Some(&exchange.state()), "trace", &configuration);
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let refresh = exchange.simulator.counts().last_refresh_token.unwrap();
    assert!(refresh.len() > 20);
    let mut files = 0;
    each_file(&exchange.state(), &mut |path, content| {
        files += 1;
        for secret in [refresh.as_bytes(), b"eyJhbGci", b"eyJ0eXAi", b"refresh_token", PASSWORD.as_bytes()] {
            assert!(!content.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    });
    assert!(files >= 3, "{files}");
    let log = proxy.log.all();
    assert!(log.contains("new access token"));
    for secret in [refresh.as_str(), "eyJ", PASSWORD, "Bearer"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

fn each_file(directory: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, look);
        } else if path.is_file() {
            look(&path, &fs::read(&path).unwrap());
        }
    }
}
