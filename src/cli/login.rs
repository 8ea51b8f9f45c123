//! `packetboat login` lets a person sign in for an account, once; also on a machine without a browser.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::{CommandError, Exit, unavailable};
use super::output::{diagnostics_error, print, print_error};
use crate::config::{Grant, Identity, Proven};
use crate::fleet::{Fleet, check_schema};
use crate::mode::Mode;
use crate::secret::Secret;
use crate::text::excerpt;
use crate::token::{CachedToken, DeviceSignIn, Enrolment, OtherPerson, Pasted, Redirect, Tokens, fleet_password};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Sign in for this account: NAME of an [account.NAME] in the configuration
    account: String,
    /// Listen on this port of 127.0.0.1 for the browser's answer; 0 takes a free port
    #[arg(long, default_value_t = 0)]
    port: u16,
}

pub(super) fn login(proven: &Proven, arguments: &Arguments) -> Result<(), CommandError> {
    let config = &proven.config;
    let Some(account) = config.accounts.get(&arguments.account) else {
        let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
        let why = format_args!("there is no account \"{}\"; known are {}", arguments.account, known.join(", "));
        return Err(Exit::Usage.because(why));
    };
    let Some(identity) = config.identities.get(&account.identity).filter(|identity| identity.grant.needs_login())
    else {
        return Err(Exit::Usage.because(format_args!(
            "account \"{}\" needs nobody to sign in: its identity's grant gets tokens by itself; try packetboat check --online",
            arguments.account
        )));
    };
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let fleet = Fleet::of(config, fleet_password(config).map_err(unavailable)?).map_err(unavailable)?;
        if let Some(fleet) = &fleet {
            // A person shall not sign in for nothing.
            let facts = fleet.records().database().await.map_err(unavailable)?;
            check_schema(facts.schema).map_err(unavailable)?;
        }
        let tokens = Tokens::open(config, Mode::Apply, None, fleet.as_ref()).map_err(|diagnostics| {
            diagnostics_error(proven, &diagnostics)
        })?;
        let Some(slot) = tokens.of(&arguments.account) else { return Err(Exit::Usage.into()) };
        let signed_in = match identity.grant {
            Grant::DeviceCode(_) => by_device_code(slot, identity, &proven.config.limits).await,
            _ => by_browser(slot, arguments.port).await,
        };
        if let Some(other) = signed_in? {
            print_error(format_args!(
                "warning: {} signed in, and {} was to; unless these are two names of one person, sign out in the browser and \
                 run this again",
                excerpt(other.as_bytes()),
                slot.sign_in().0
            ));
        }
        // Proves that the new refresh token works.
        let token = slot.access().await.map_err(|failure| unavailable(format_args!("signed in, but {failure}")))?;
        tokens.settle().await;
        let life = humantime::format_duration(Duration::from_secs(token.left().as_secs() + 1));
        print(format_args!(
            "{} is signed in; access tokens live for {life}. A running packetboat that needs this sign-in takes it within ten seconds.\n",
            slot.sign_in().0
        ))
    })
}

/// Signs in by a browser, which comes back to this computer; or a person pastes the address at which it ended.
async fn by_browser(slot: &Arc<CachedToken>, port: u16) -> Result<Option<String>, CommandError> {
    let redirect = Redirect::listen(port).await.map_err(|error| {
        unavailable(format_args!("cannot listen on 127.0.0.1 port {port}: {error}; choose another one with --port"))
    })?;
    let address = redirect.address();
    let enrolment = Arc::new(Enrolment::begin(slot, &address).map_err(unavailable)?);
    show(&format!(
        "Open this address in a browser, on any computer, and sign in as {}:\n\n{}\n\nA browser on this computer brings the \
         answer by itself. Another one ends at an address that begins with\n{address} and does not open: paste \
         that address here.\n",
        slot.sign_in().0,
        enrolment.url()
    ))?;
    let (sender, mut receiver) = mpsc::channel(1);
    // A thread that nobody waits for, because reading from a terminal cannot be cancelled.
    let (pasting, pasted) = (Arc::clone(&enrolment), sender.clone());
    std::thread::spawn(move || paste(&pasting, &pasted));
    let pages = tokio::spawn(redirect.receive(Arc::clone(&enrolment), sender));
    let waiting = async {
        loop {
            match receiver.recv().await {
                Some(Pasted::Code(code)) => return Ok::<Secret, CommandError>(code),
                Some(Pasted::Refused(why)) => return Err(unavailable(format_args!("the sign-in was refused: {why}"))),
                Some(Pasted::Strange(advice)) => print_error(advice),
                None => return Err(unavailable("nobody can answer")),
            }
        }
    };
    let code = timeout(PATIENCE, waiting).await.map_err(|_| unavailable("nobody signed in within 15 minutes"))?;
    pages.abort();
    enrolment.finish(&code?, OtherPerson::Accept).await.map_err(unavailable)
}

/// Reads pasted addresses from standard input. Where that is closed, the browser may still come.
fn paste(enrolment: &Enrolment, sender: &mpsc::Sender<Pasted>) {
    for line in std::io::stdin().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        if sender.blocking_send(enrolment.read(&line)).is_err() {
            return;
        }
    }
}

async fn by_device_code(
    slot: &Arc<CachedToken>,
    identity: &Identity,
    limits: &crate::config::Limits,
) -> Result<Option<String>, CommandError> {
    let sign_in = DeviceSignIn::begin(slot, &identity.roots, limits).await.map_err(unavailable)?;
    let left = humantime::format_duration(Duration::from_secs(sign_in.left().as_secs() + 1));
    show(&format!(
        "Open {} in a browser, on any computer, type the code {} and sign in as {}.\nThe code is good for {left}; waiting.\n",
        sign_in.uri.as_str(),
        sign_in.user_code.as_str(),
        slot.sign_in().0
    ))?;
    sign_in.finish(OtherPerson::Accept).await.map_err(unavailable)
}

fn show(text: &str) -> Result<(), CommandError> {
    print(text).map_err(|_| unavailable("there is nobody to show the address to"))
}

/// The longest wait for the person; Microsoft's codes live for ten minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
